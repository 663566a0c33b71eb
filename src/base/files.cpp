#include "base/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.hpp"

namespace croft {

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<std::string> read_file(const fs::path& path, std::size_t max) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno("open " + path.string());
  std::string out;
  char block[65536];
  for (;;) {
    auto n = ::read(fd.get(), block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read " + path.string());
    if (n == 0) return out;
    if (out.size() + static_cast<std::size_t>(n) > max) return fail(Errc::too_large, "{}: larger than {} bytes", path.string(), max);
    out.append(block, static_cast<std::size_t>(n));
  }
}

static Status write_all(int fd, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write " + path.string());
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

static Status write_aside(const fs::path& path, std::string_view bytes, unsigned mode, bool synced) {
  auto aside = path;
  aside += fmt::format(".{:x}.new", random_u64());
  Fd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid()) return fail_errno("create " + aside.string());
  auto written = write_all(fd.get(), bytes, aside);
  if (written && synced && ::fsync(fd.get()) != 0) written = fail_errno("fsync " + aside.string());
  if (written && ::rename(aside.c_str(), path.c_str()) != 0) written = fail_errno("rename to " + path.string());
  if (!written) ::unlink(aside.c_str());
  return written;
}

Status write_file_atomic(const fs::path& path, std::string_view bytes, unsigned mode) {
  if (auto written = write_aside(path, bytes, mode, true); !written) return written;
  return sync_dir(path.parent_path().empty() ? "." : path.parent_path());
}

Status replace_file(const fs::path& path, std::string_view bytes, unsigned mode) { return write_aside(path, bytes, mode, false); }

void remove_left_aside(const fs::path& folder, std::chrono::seconds age) {
  std::error_code ec;
  for (fs::directory_iterator entry(folder, ec), end; !ec && entry != end; entry.increment(ec)) {
    auto name = entry->path().filename().string();
    if (!name.ends_with(".new")) continue;
    name.resize(name.size() - 4);
    auto dot = name.rfind('.');
    if (dot == std::string::npos || dot + 1 == name.size() || name.find_first_not_of("0123456789abcdef", dot + 1) != std::string::npos) continue;
    std::error_code gone;  // another one of them, or the writer itself, may be quicker
    auto written = entry->last_write_time(gone);
    if (!gone && entry->is_regular_file(gone) && fs::file_time_type::clock::now() - written >= age) fs::remove(entry->path(), gone);
  }
}

Status make_dirs(const fs::path& path, unsigned mode) {
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == ENOENT && path.has_relative_path()) {  // from the first folder up that is there
    if (auto ok = make_dirs(path.parent_path(), mode); !ok) return ok;
    if (::mkdir(path.c_str(), mode) == 0) return {};
  }
  if (errno != EEXIST) return fail_errno("mkdir " + path.string());
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) return fail_errno("stat " + path.string());
  if (!S_ISDIR(st.st_mode)) return fail(Errc::io, "{}: is not a folder", path.string());
  return {};
}

Status sync_dir(const fs::path& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno("open " + path.string());
  if (::fsync(fd.get()) != 0) return fail_errno("fsync " + path.string());
  return {};
}

}  // namespace croft
