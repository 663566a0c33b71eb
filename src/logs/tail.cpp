#include "logs/tail.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace croft::logs {

namespace {
constexpr std::size_t line_max = 64u << 10;
constexpr int rotations_max = 16;
}  // namespace

/// The stream's files that are there, oldest first, with the stream offset of each one's first byte.
std::vector<Tail::Piece> Tail::pieces() const {
  std::vector<Piece> out;
  for (int i = rotations_max; i >= 0; --i) {
    auto name = i == 0 ? stream_ : fmt::format("{}.{}", stream_, i);
    Piece p{sandbox_ / name, 0, 0, {}};
    struct stat st{};
    if (::lstat(p.file.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    p.size = static_cast<std::uint64_t>(st.st_size);
    auto times = read_file(sandbox_ / (name + ".times"), 256u << 20);
    if (times) {
      p.stamps.resize(times->size() / sizeof(Stamp));
      std::memcpy(p.stamps.data(), times->data(), p.stamps.size() * sizeof(Stamp));
    }
    if (!p.stamps.empty()) p.from = p.stamps.front().offset;
    else if (!out.empty()) p.from = out.back().from + out.back().size;
    if (p.size > 0 || i == 0) out.push_back(std::move(p));
  }
  return out;
}

std::vector<Line> Tail::read(std::size_t bytes, bool to_the_end, std::vector<Gap>& gaps) {
  std::vector<Line> lines;
  // Without news the usual look is one stat of the present file.
  struct stat st{};
  auto present = sandbox_ / stream_;
  if (::lstat(present.c_str(), &st) != 0) return lines;
  auto all = pieces();
  std::string data;
  std::uint64_t data_from = offset_;
  std::vector<Stamp> stamps;
  for (const auto& p : all) {
    if (p.from + p.size <= offset_ + data.size() || data.size() >= bytes) continue;
    auto at = offset_ + data.size();
    if (p.from > at) {
      if (!data.empty()) break;
      gaps.push_back({at, p.from});
      offset_ = data_from = at = p.from;
    }
    Fd fd(::open(p.file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid()) break;
    auto want = std::min<std::uint64_t>(p.from + p.size - at, bytes - data.size());
    auto had = data.size();
    data.resize(had + want);
    auto n = ::pread(fd.get(), data.data() + had, want, static_cast<off_t>(at - p.from));
    data.resize(had + (n > 0 ? static_cast<std::size_t>(n) : 0));
    stamps.insert(stamps.end(), p.stamps.begin(), p.stamps.end());
    if (n < static_cast<ssize_t>(want)) break;
  }
  std::size_t start = 0;
  auto stamp_of = [&](std::uint64_t offset) {
    auto next = std::upper_bound(stamps.begin(), stamps.end(), offset, [](std::uint64_t o, const Stamp& s) { return o < s.offset; });
    return next == stamps.begin() ? system_now().wall : Wall(Millis(std::prev(next)->at));
  };
  auto take = [&](std::size_t end, std::size_t skip, bool cut) {
    Line line{data.substr(start, end - start), data_from + end + skip, stamp_of(data_from + start), cut};
    if (line.text.ends_with('\r')) line.text.pop_back();
    lines.push_back(std::move(line));
    start = end + skip;
  };
  while (start < data.size()) {
    auto newline = data.find('\n', start);
    if (newline != std::string::npos && newline - start <= line_max) take(newline, 1, false);
    else if (data.size() - start > line_max) take(start + line_max, 0, true);
    else break;
  }
  if (to_the_end && start < data.size() && data.size() < bytes) take(data.size(), 0, false);
  offset_ = data_from + start;
  return lines;
}

}  // namespace croft::logs
