#include "logs/ship/tail.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t tail_line_max = 512u << 10;
constexpr int rotations_max = 16;
constexpr int absent_to_end = 2;         // one number alone may be missing, while names move on
constexpr int looks_to_believe = 3;      // a gap seen only while files change names is none
constexpr int looks_without_stamps = 20;

struct Stamp { std::uint64_t offset; std::int64_t at; };
static_assert(sizeof(Stamp) == 16);

std::optional<Stamp> stamp_at(int fd, std::uint64_t index) {
  Stamp s{};
  if (::pread(fd, &s, sizeof s, static_cast<off_t>(index * sizeof s)) != sizeof s) return std::nullopt;
  return s;
}

/// The times of a file's bytes, asked for with offsets that grow: a binary search to begin with, then steps through a window.
class Stamps {
 public:
  explicit Stamps(int fd) : fd_(fd) {
    struct stat st{};
    if (fd >= 0 && ::fstat(fd, &st) == 0) count_ = static_cast<std::uint64_t>(st.st_size) / sizeof(Stamp);
  }

  std::optional<std::int64_t> at(std::uint64_t offset) {
    if (count_ == 0) return std::nullopt;
    if (!placed_) place(offset);
    while (const auto* next = get(index_ + 1)) {
      if (next->offset > offset) break;
      ++index_;
    }
    const auto* here = get(index_);
    return here && here->offset <= offset ? std::optional(here->at) : std::nullopt;
  }

 private:
  void place(std::uint64_t offset) {
    std::uint64_t low = 0, high = count_;  // the last stamp that is not behind the offset
    while (high - low > 1) {
      auto middle = low + (high - low) / 2;
      auto s = stamp_at(fd_, middle);
      (s && s->offset <= offset ? low : high) = middle;
    }
    index_ = low;
    placed_ = true;
  }

  const Stamp* get(std::uint64_t index) {
    if (index >= count_) return nullptr;
    if (index < begin_ || index >= begin_ + filled_) {
      auto n = ::pread(fd_, window_.data(), sizeof window_, static_cast<off_t>(index * sizeof(Stamp)));
      begin_ = index;
      filled_ = n > 0 ? static_cast<std::uint64_t>(n) / sizeof(Stamp) : 0;
      if (filled_ == 0) return nullptr;
    }
    return &window_[index - begin_];
  }

  int fd_;
  std::uint64_t count_ = 0, index_ = 0, begin_ = 0, filled_ = 0;
  bool placed_ = false;
  std::array<Stamp, 256> window_{};
};

std::uint64_t size_of(int fd) {
  struct stat st{};
  return fd >= 0 && ::fstat(fd, &st) == 0 ? static_cast<std::uint64_t>(st.st_size) : 0;
}

}  // namespace

Tail::Tail(std::filesystem::path sandbox, std::string stream, std::filesystem::path spool, std::uint64_t offset)
    : sandbox_(std::move(sandbox)), stream_(std::move(stream)), spool_(std::move(spool)), offset_(offset) {
  if (!spool_.empty()) find_kept();
}

fs::path Tail::kept_name(std::uint64_t from) const { return spool_ / fmt::format("{}@{:016x}", stream_, from); }

void Tail::find_kept() {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(spool_, ec)) {
    auto name = entry.path().filename().string();
    if (!name.starts_with(stream_ + "@") || name.ends_with(".times")) continue;
    Piece p;
    if (open_piece(entry.path(), p) != Opened::yes) continue;
    kept_[p.from] = {p.from, p.from + p.size, p.size + size_of(p.times.get()), p.at};
  }
}

Tail::Opened Tail::open_piece(const fs::path& file, Piece& p) const {
  p.data = Fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!p.data.valid()) return Opened::absent;
  p.times = Fd(::open((file.string() + ".times").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat opened{}, named{};
  if (::fstat(p.data.get(), &opened) != 0 || !S_ISREG(opened.st_mode)) return Opened::absent;
  // The two files change their names one after the other: they belong together when the first one still has its name.
  if (::lstat(file.c_str(), &named) != 0 || named.st_ino != opened.st_ino) return Opened::moving;
  p.inode = opened.st_ino;
  p.size = static_cast<std::uint64_t>(opened.st_size);
  auto first = p.times.valid() ? stamp_at(p.times.get(), 0) : std::nullopt;
  if (!first) return p.size == 0 ? Opened::absent : Opened::moving;
  p.stamp = first->offset;
  p.from = p.inode == cut_inode_ && p.stamp == cut_stamp_ ? cut_from_ : p.stamp;
  p.at = first->at;
  return Opened::yes;
}

/// The executor's count goes on behind a file that was cut short under it: what stands there now was written after what we had seen.
/// Its times are still those of before; a younger file that was given a freed inode's number has its own.
void Tail::see_truncation(ino_t inode, std::uint64_t size) {
  if (inode != seen_inode_ || size >= seen_size_) return;
  Fd times(::open((sandbox_ / (stream_ + ".times")).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  auto first = times.valid() ? stamp_at(times.get(), 0) : std::nullopt;
  if (first && first->offset != seen_stamp_) return;
  cut_inode_ = inode;
  cut_stamp_ = seen_stamp_;
  cut_from_ = seen_from_ + seen_size_;
  seen_from_ = cut_from_;
  seen_size_ = size;
  seen_all_ = false;
}

/// The stream's files that hold anything from offset_ on, oldest first. False while a rotation is under way.
bool Tail::open_all(std::vector<Piece>& out, bool present_is_enough) {
  Piece present;
  auto opened = open_piece(sandbox_ / stream_, present);
  if (opened == Opened::moving) {
    // A stream without times (they could not be written): taken as if it began where we stand, in the end.
    if (++unstamped_ < looks_without_stamps || present.size == 0 || present.times.valid()) return false;
    present.from = offset_ > present.size ? offset_ : 0;
    opened = Opened::yes;
  }
  if (opened == Opened::yes && present_is_enough && present.from <= offset_) {
    out.push_back(std::move(present));
    return true;
  }
  for (const auto& [from, kept] : kept_) {
    Piece p;
    if (open_piece(kept_name(from), p) == Opened::yes) out.push_back(std::move(p));
  }
  for (int i = 1, absent = 0; i <= rotations_max && absent < absent_to_end; ++i) {
    Piece p;
    auto o = open_piece(sandbox_ / fmt::format("{}.{}", stream_, i), p);
    if (o == Opened::moving) return false;
    absent = o == Opened::absent ? absent + 1 : 0;
    if (o == Opened::yes) out.push_back(std::move(p));
  }
  if (opened == Opened::yes) out.push_back(std::move(present));
  std::stable_sort(out.begin(), out.end(), [](const Piece& a, const Piece& b) { return a.from < b.from; });
  out.erase(std::unique(out.begin(), out.end(), [](const Piece& a, const Piece& b) { return a.from == b.from && a.size == b.size; }), out.end());
  return true;
}

/// Whether bytes are really gone: only when several looks in a row say so.
bool Tail::believe(const Gap& gap) {
  doubts_ = doubted_.from == gap.from && doubted_.to == gap.to ? doubts_ + 1 : 1;
  doubted_ = gap;
  return doubts_ >= looks_to_believe;
}

std::vector<Line> Tail::read(std::size_t bytes, bool to_the_end, std::vector<Gap>& gaps) {
  struct stat st{};
  if (::lstat((sandbox_ / stream_).c_str(), &st) != 0) {
    st = {};
    if (kept_.empty()) return {};
  }
  if (seen_all_ && st.st_ino == seen_inode_ && static_cast<std::uint64_t>(st.st_size) == seen_size_ && !to_the_end) return {};
  see_truncation(st.st_ino, static_cast<std::uint64_t>(st.st_size));
  std::vector<Piece> pieces;
  if (!open_all(pieces, true)) return {};
  std::string data;
  auto from = offset_;
  bool more = false, torn = false;  // torn: a gap begins where the data ends
  for (const auto& p : pieces) {
    auto at = from + data.size();
    if (p.from + p.size <= at) continue;
    if (data.size() >= bytes) {
      more = true;
      break;
    }
    if (p.from > at) {
      if (!data.empty()) {
        more = torn = true;
        break;
      }
      if (!believe({at, p.from})) return {};
      gaps.push_back({at, p.from});
      offset_ = from = at = p.from;
      after_gap_ = true;
    }
    auto want = std::min<std::uint64_t>(p.from + p.size - at, bytes - data.size());
    auto had = data.size();
    data.resize(had + want);
    auto n = ::pread(p.data.get(), data.data() + had, want, static_cast<off_t>(at - p.from));
    data.resize(had + (n > 0 ? static_cast<std::size_t>(n) : 0));
    more = more || p.from + p.size > at + want;
    if (n < static_cast<ssize_t>(want)) break;
  }
  auto lines = cut_lines(data, from, pieces, to_the_end && !more, more);
  // All that is left before the gap is the beginning of a line whose end is gone.
  if (lines.empty() && torn && believe({from + data.size(), from + data.size()})) {
    lines = cut_lines(data, from, pieces, true, false);
    for (auto& line : lines) line.cut = true;
  }
  // Where a file begins after a gap, its first line may have begun before.
  if (!lines.empty() && std::exchange(after_gap_, false)) lines.front().cut = true;
  if (pieces.empty() && st.st_ino != 0 && st.st_size == 0) {  // nothing was printed yet, and nothing is kept
    seen_all_ = true;
    seen_inode_ = st.st_ino;
    seen_size_ = 0;
  } else if (!pieces.empty()) {
    const auto& last = pieces.back();
    seen_all_ = !more && last.from + last.size == from + data.size();
    seen_inode_ = last.inode;
    seen_from_ = last.from;
    seen_stamp_ = last.stamp;
    seen_size_ = last.size;
  }
  if (!lines.empty()) doubts_ = unstamped_ = 0;
  return lines;
}

std::vector<Line> Tail::cut_lines(const std::string& data, std::uint64_t from, std::vector<Piece>& pieces, bool to_the_end, bool more) {
  std::vector<Line> lines;
  std::size_t start = 0, piece = 0;
  std::optional<Stamps> stamps;
  auto stamp_of = [&](std::uint64_t offset) {
    while (piece < pieces.size() && pieces[piece].from + pieces[piece].size <= offset) ++piece, stamps.reset();
    if (piece == pieces.size()) return system_now().wall;
    if (!stamps) stamps.emplace(pieces[piece].times.get());
    auto at = stamps->at(offset);
    return at ? Wall(Millis(*at)) : system_now().wall;
  };
  auto take = [&](std::size_t end, std::size_t skip, bool cut) {
    Line line{data.substr(start, end - start), from + end + skip, stamp_of(from + start), cut};
    if (line.text.ends_with('\r')) line.text.pop_back();
    lines.push_back(std::move(line));
    start = end + skip;
  };
  while (start < data.size()) {
    auto newline = data.find('\n', start);
    if (newline != std::string::npos && newline - start <= tail_line_max) take(newline, 1, false);
    else if (data.size() - start > tail_line_max) take(start + tail_line_max, 0, true);
    else break;
  }
  if (to_the_end && !more && start < data.size()) take(data.size(), 0, false);
  offset_ = from + start;
  return lines;
}

void Tail::keep(std::uint64_t shipped) {
  if (spool_.empty()) return;
  struct stat st{};
  bool present = ::lstat((sandbox_ / stream_).c_str(), &st) == 0;  // between two names there is none for a moment
  if (present && st.st_ino == kept_inode_) return;
  bool all = true;
  for (int i = 1, absent = 0; i <= rotations_max && absent < absent_to_end; ++i) {
    auto file = sandbox_ / fmt::format("{}.{}", stream_, i);
    Piece p;
    auto opened = open_piece(file, p);
    absent = opened == Opened::absent ? absent + 1 : 0;
    if (opened == Opened::moving) all = false;
    if (opened != Opened::yes || p.from + p.size <= shipped || kept_.contains(p.from)) continue;
    auto before = kept_.size();
    keep_piece(file, p);
    all = all && kept_.size() > before;
  }
  if (all && present) kept_inode_ = st.st_ino;
}

void Tail::keep_piece(const fs::path& file, const Piece& piece) {
  if (!make_dirs(spool_, 0750)) {
    ++errors_;
    return;
  }
  auto name = kept_name(piece.from);
  auto times = name.string() + ".times";
  bool linked = ::link(file.c_str(), name.c_str()) == 0 || errno == EEXIST;
  linked = linked && (::link((file.string() + ".times").c_str(), times.c_str()) == 0 || errno == EEXIST);
  Piece made;
  // A rotation in between would have given us another file's names.
  if (linked && open_piece(name, made) == Opened::yes && made.from == piece.from && made.inode == piece.inode) {
    kept_[piece.from] = {piece.from, made.from + made.size, made.size + size_of(made.times.get()), made.at};
    return;
  }
  ++errors_;
  ::unlink(name.c_str());
  ::unlink(times.c_str());
}

void Tail::release(std::uint64_t shipped) {
  while (!kept_.empty() && kept_.begin()->second.end <= shipped) drop_oldest_kept();
}

std::uint64_t Tail::kept_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [from, kept] : kept_) sum += kept.bytes;
  return sum;
}

std::optional<Tail::Kept> Tail::oldest_kept() const { return kept_.empty() ? std::nullopt : std::optional(kept_.begin()->second); }

void Tail::drop_oldest_kept() {
  if (kept_.empty()) return;
  auto name = kept_name(kept_.begin()->first);
  ::unlink(name.c_str());
  ::unlink((name.string() + ".times").c_str());
  kept_.erase(kept_.begin());
  if (kept_.empty()) ::rmdir(spool_.c_str());
}

}  // namespace croft::logs
