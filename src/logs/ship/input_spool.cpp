#include "logs/ship/input_spool.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.hpp"
#include "base/time.hpp"
#include "logs/store/wal.hpp"

namespace croft::logs {

InputSpool::InputSpool(std::filesystem::path dir, std::size_t file_bytes) : dir_(std::move(dir)), file_bytes_(file_bytes), word_(fmt::format("{:016x}", random_u64())) {}

fs::path InputSpool::file_of(const Segment& s) const { return dir_ / fmt::format("{}-{:016x}", s.word, s.from); }

Status InputSpool::open(const std::map<std::string, std::uint64_t>& shipped) {
  std::lock_guard lock(mutex_);
  if (auto ok = make_dirs(dir_, 0750); !ok) return ok;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(dir_, ec)) {
    auto name = entry.path().filename().string();
    struct stat st{};
    if (name.size() != 33 || name[16] != '-' || ::lstat(entry.path().c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    Segment s{name.substr(0, 16), std::strtoull(name.c_str() + 17, nullptr, 16), static_cast<std::uint64_t>(st.st_size), 0, static_cast<std::int64_t>(st.st_mtime) * 1000};
    auto known = shipped.find(source_of(s));
    s.released = std::clamp(known == shipped.end() ? s.from : known->second, s.from, s.from + s.size);
    segments_.push_back(std::move(s));
  }
  // Streams by their age, the files of one in order.
  std::map<std::string, std::int64_t> began;
  for (const auto& s : segments_) began[s.word] = began.contains(s.word) ? std::min(began[s.word], s.at) : s.at;
  std::sort(segments_.begin(), segments_.end(), [&](const Segment& a, const Segment& b) { return std::tuple(began[a.word], a.word, a.from) < std::tuple(began[b.word], b.word, b.from); });
  reading_ = 0;
  read_ = segments_.empty() ? 0 : segments_[0].released;
  return {};
}

void InputSpool::close_active() { active_.reset(); }

Status InputSpool::add(std::string_view index, std::string_view document) {
  auto line = fmt::format("{} {}\n", index, document);
  std::lock_guard lock(mutex_);
  if (active_.valid() && segments_.back().size >= file_bytes_) close_active();
  if (!active_.valid()) {
    Segment s{word_, total_, 0, total_, system_now().wall.time_since_epoch().count()};
    active_ = Fd(::open(file_of(s).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640));
    if (!active_.valid()) return fail(disk_error("create " + file_of(s).string(), errno));
    if (reading_ == segments_.size()) read_ = s.from;
    segments_.push_back(std::move(s));
  }
  auto& s = segments_.back();
  std::string_view rest = line;
  while (!rest.empty()) {
    auto n = ::write(active_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      auto error = disk_error("write " + file_of(s).string(), errno);
      if (::ftruncate(active_.get(), static_cast<off_t>(s.size)) != 0) close_active();
      return fail(std::move(error));
    }
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  s.size += line.size();
  total_ += line.size();
  return {};
}

std::vector<InputLine> InputSpool::read(std::size_t bytes) {
  std::vector<InputLine> out;
  std::lock_guard lock(mutex_);
  while (reading_ < segments_.size() && bytes > 0) {
    auto& s = segments_[reading_];
    bool last = reading_ + 1 == segments_.size();
    std::string data;
    if (read_ < s.from + s.size) {
      Fd fd(::open(file_of(s).c_str(), O_RDONLY | O_CLOEXEC));
      data.resize(std::min<std::uint64_t>(s.from + s.size - read_, std::max<std::size_t>(bytes, 2u << 20)));
      auto n = fd.valid() ? ::pread(fd.get(), data.data(), data.size(), static_cast<off_t>(read_ - s.from)) : -1;
      data.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    }
    auto end = data.rfind('\n');
    if (end == std::string::npos) {
      if (last) return out;  // nothing new
      ++reading_;            // a torn end belongs to nobody
      read_ = segments_[reading_].released;
      continue;
    }
    std::size_t start = 0;
    while (start <= end && bytes > 0) {
      auto newline = data.find('\n', start);
      std::string_view line(data.data() + start, newline - start);
      auto space = line.find(' ');
      read_ += newline + 1 - start;
      if (space != std::string_view::npos && line.ends_with('}')) out.push_back({source_of(s), std::string(line.substr(0, space)), std::string(line.substr(space + 1)), read_});
      bytes -= std::min(bytes, newline + 1 - start);
      start = newline + 1;
    }
  }
  return out;
}

void InputSpool::back() {
  std::lock_guard lock(mutex_);
  reading_ = 0;
  read_ = segments_.empty() ? total_ : segments_[0].released;
}

void InputSpool::release(const std::string& source, std::uint64_t end) {
  std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < segments_.size();) {
    auto& s = segments_[i];
    if (source_of(s) != source || s.from >= end) {
      ++i;
      continue;
    }
    s.released = std::max(s.released, std::min(end, s.from + s.size));
    bool torn = i < reading_ && i + 1 < segments_.size();  // read past: what is left of it is no line
    if (s.released < s.from + s.size && !torn) {
      ++i;
      continue;
    }
    if (i + 1 == segments_.size()) close_active();
    ::unlink(file_of(s).c_str());
    segments_.erase(segments_.begin() + static_cast<std::ptrdiff_t>(i));
    if (reading_ > i) --reading_;
    else if (reading_ == i) read_ = reading_ < segments_.size() ? segments_[reading_].released : total_;
  }
}

bool InputSpool::holds(const std::string& source) const {
  std::lock_guard lock(mutex_);
  return std::any_of(segments_.begin(), segments_.end(), [&](const Segment& s) { return source_of(s) == source; });
}

std::optional<InputSpool::Dropped> InputSpool::drop_oldest() {
  std::lock_guard lock(mutex_);
  if (segments_.empty()) return std::nullopt;
  auto s = segments_.front();
  if (segments_.size() == 1) close_active();
  ::unlink(file_of(s).c_str());
  segments_.erase(segments_.begin());
  if (reading_ > 0) --reading_;
  else read_ = segments_.empty() ? total_ : segments_[0].released;
  return Dropped{source_of(s), s.released, s.from + s.size};
}

std::uint64_t InputSpool::bytes() const {
  std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& s : segments_) sum += s.size;
  return sum;
}

std::uint64_t InputSpool::waiting() const {
  std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& s : segments_) sum += s.from + s.size - s.released;
  return sum;
}

std::optional<std::int64_t> InputSpool::oldest() const {
  std::lock_guard lock(mutex_);
  return segments_.empty() ? std::nullopt : std::optional(segments_.front().at);
}

}  // namespace croft::logs
