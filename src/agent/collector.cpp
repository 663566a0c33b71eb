#include "agent/collector.hpp"

#include <sys/statvfs.h>

#include <algorithm>

#include "base/files.hpp"

namespace croft::agent {

namespace {
constexpr int sandbox_depth = 6;  // S/frameworks/F/executors/E/runs/R
}

Collection::Collection(std::vector<EndedSandbox> ended, Millis age_max) : left_(std::move(ended)), age_max_(age_max) {
  std::sort(left_.begin(), left_.end(), [](const auto& a, const auto& b) { return a.age != b.age ? a.age < b.age : a.path > b.path; });
}

std::optional<fs::path> Collection::next(double full) {
  if (left_.empty() || (left_.back().age <= age_max_ && full <= fullness_max)) return std::nullopt;
  auto path = std::move(left_.back().path);
  left_.pop_back();
  return path;
}

std::vector<EndedSandbox> list_sandboxes(const fs::path& slaves) {
  std::vector<EndedSandbox> out;
  std::error_code ec;
  auto now = fs::file_time_type::clock::now();
  for (auto at = fs::recursive_directory_iterator(slaves, fs::directory_options::skip_permission_denied, ec); !ec && at != fs::recursive_directory_iterator(); at.increment(ec)) {
    std::error_code gone;
    if (at.depth() != sandbox_depth || at->is_symlink(gone) || !at->is_directory(gone)) continue;
    at.disable_recursion_pending();
    auto written = at->last_write_time(gone);
    if (!gone) out.push_back({at->path(), std::chrono::duration_cast<Millis>(now - written)});
  }
  return out;
}

std::vector<EndedSandbox> list_kept(const fs::path& cache) {
  std::vector<EndedSandbox> out;
  std::error_code ec;
  auto now = fs::file_time_type::clock::now();
  for (const auto& entry : fs::directory_iterator(cache, ec)) {
    std::error_code gone;
    auto used = entry.last_write_time(gone);
    if (!gone && entry.is_regular_file(gone)) out.push_back({entry.path(), std::chrono::duration_cast<Millis>(now - used)});
  }
  return out;
}

void drop_unfinished(const fs::path& cache) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(cache, ec))
    if (std::error_code gone; entry.path().filename().string().starts_with("new.")) fs::remove_all(entry.path(), gone);
}

void remove_sandbox(const fs::path& sandbox) {
  std::error_code ec;
  fs::remove_all(sandbox, ec);
  auto runs = sandbox.parent_path();
  bool others = false;
  for (const auto& entry : fs::directory_iterator(runs, ec)) others = others || entry.path().filename() != "latest";
  if (others || ec) return;
  fs::remove(runs / "latest", ec);
  fs::remove(runs, ec);                // only what is empty: a task may be coming
  fs::remove(runs.parent_path(), ec);
}

double fullness(const fs::path& path) {
  struct statvfs disk{};
  if (::statvfs(path.c_str(), &disk) != 0) return 0;
  auto used = static_cast<double>(disk.f_blocks - disk.f_bfree), free = static_cast<double>(disk.f_bavail);
  return used + free > 0 ? used / (used + free) : 0;
}

}  // namespace croft::agent
