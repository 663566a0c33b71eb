#pragma once
// A task's run folder is the truth about it: task.json (what was accepted, and its goal), exec.conf, started, exit.

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "model/link.hpp"

namespace croft::agent {

/// What task.json holds.
struct RunRecord {
  TaskSpec spec;
  link::Goal goal = link::Goal::run;
  std::optional<Wall> draining_since;
  std::string sandbox;
  std::string boot_id;
};

/// How it ended, from the executor's word: "exit code=… signal=… oom=… at=…" or "failed TEXT".
struct RunExit {
  int code = 0, signal = 0;
  bool oom = false;
  Wall at{};
  std::string failure;      ///< why it never started
};

struct RunStart { int pid = 0; std::uint64_t ticks = 0; Wall at{}; };

Status write_record(const std::filesystem::path& run, const RunRecord& record);
/// Errors   corrupt or not_found, naming the file.
Result<RunRecord> read_record(const std::filesystem::path& run);
std::optional<RunExit> parse_exit(std::string_view line);
std::optional<RunStart> parse_started(std::string_view line);
std::optional<RunExit> read_exit(const std::filesystem::path& run);
std::optional<RunStart> read_started(const std::filesystem::path& run);
/// Start time of a process in clock ticks since boot; 0 when there is none.
std::uint64_t process_start_ticks(int pid);
std::string boot_id();

}  // namespace croft::agent
