#pragma once
// Other programs, run to their end. Children get no descriptor of ours but the three standard ones.

#include <spawn.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace croft {

struct Ran {
  int code = -1;          ///< exit code; 128 and more: ended by a signal
  std::string said;       ///< stdout and stderr together, at most 64 KiB
};

/// Runs a program (looked up in PATH) with `in` as stdin, else an empty one. Blocks for at most `limit`, then kills it.
/// Errors   io (cannot start), timeout.
Result<Ran> run_program(std::vector<std::string> words, std::chrono::milliseconds limit, const std::vector<std::string>* env = nullptr, int in = -1);

/// Who listens on this TCP port, as far as this process may see: " (pid 812, nginx)", or "". For people; may be a second old.
std::string holder_of_port(std::uint16_t port);

/// For posix_spawn: SIGPIPE as programs expect it, which this process may ignore.
const posix_spawnattr_t* usual_signals();
/// File actions for posix_spawn that close everything from a descriptor on.
class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  void open(int fd, const char* path, int flags, unsigned mode = 0600) { posix_spawn_file_actions_addopen(&actions_, fd, path, flags, mode); }
  void dup(int from, int to) { posix_spawn_file_actions_adddup2(&actions_, from, to); }
  /// Call last.
  posix_spawn_file_actions_t* finish(int close_from = 3) {
    posix_spawn_file_actions_addclosefrom_np(&actions_, close_from);
    return &actions_;
  }

 private:
  posix_spawn_file_actions_t actions_;
};

}  // namespace croft
