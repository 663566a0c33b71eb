#include "agent/volume_folders.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/files.hpp"
#include "base/text.hpp"
#include "model/task_policy.hpp"

namespace croft::agent {

namespace {

constexpr mode_t for_all = 0777;  // the image's user is not known

/// Step by step, through folders only.
Status make_folder(const std::filesystem::path& sandbox, const std::string& path) {
  Fd at(::open(sandbox.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  for (const auto& part : std::filesystem::path(path).lexically_normal()) {
    auto step = part.string();
    if (step.empty() || step == ".") continue;
    if (step == "..") return fail(Errc::forbidden, "volume {}: must not leave the sandbox", path);
    bool fresh = at.valid() && ::mkdirat(at.get(), step.c_str(), 0755) == 0;
    if (fresh && ::fchmodat(at.get(), step.c_str(), for_all, 0) != 0) return fail_errno("volume " + path);
    if (at.valid()) at = Fd(::openat(at.get(), step.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!at.valid() && (errno == ELOOP || errno == ENOTDIR)) return fail(Errc::forbidden, "volume {}: '{}' in the sandbox is no folder but a link or a file, and is not followed", path, step);
    if (!at.valid()) return fail_errno("volume " + path);
  }
  return {};
}

}  // namespace

Result<std::vector<Volume>> settle_volumes(std::vector<Volume> volumes, const std::filesystem::path& sandbox, const std::vector<std::string>& permitted) {
  for (auto& v : volumes) {
    if (v.host_path.empty()) continue;
    if (!v.host_path.starts_with('/')) {
      if (auto ok = make_folder(sandbox, v.host_path); !ok) return fail(std::move(ok).error());
      v.host_path = (sandbox / v.host_path).lexically_normal().string();
      continue;
    }
    std::error_code ec;
    auto real = std::filesystem::weakly_canonical(v.host_path, ec);
    DockerSpec none;
    auto led = v;
    led.host_path = real.string();
    if (ec || !path_within(led.host_path, permitted) || !check_policy(none, {led}, {.host_paths = permitted}).empty())
      return fail(Errc::forbidden, "volume {}: leads to {}, which may not be mounted", v.host_path, led.host_path);
    v.host_path = led.host_path;
  }
  return volumes;
}

}  // namespace croft::agent
