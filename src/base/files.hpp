#pragma once
// Files as the rest of croft wants them: bounded reads, and writes that are either whole or not there.

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace croft {

namespace fs = std::filesystem;

/// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) { reset(); fd_ = std::exchange(other.fd_, -1); }
    return *this;
  }
  ~Fd() { reset(); }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

/// The whole file, at most `max` bytes (too_large beyond). Errors name the path.
Result<std::string> read_file(const fs::path& path, std::size_t max = 16u << 20);
/// Written aside in the same folder, synced, renamed over `path`, folder synced. Never half there.
Status write_file_atomic(const fs::path& path, std::string_view bytes, unsigned mode = 0644);
/// The same without a sync, for what means nothing after a power cut: never half there for who reads it, gone or empty after one.
Status replace_file(const fs::path& path, std::string_view bytes, unsigned mode = 0644);
Status make_dirs(const fs::path& path, unsigned mode = 0755);
/// Takes away what a writer of the two above left aside in this folder when it was killed: files of that form older than `age`.
void remove_left_aside(const fs::path& folder, std::chrono::seconds age = std::chrono::minutes(1));
Status sync_dir(const fs::path& path);

}  // namespace croft
