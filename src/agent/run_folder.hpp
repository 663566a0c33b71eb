#pragma once
// A task's run folder is the truth about it: task.json (what was accepted, and its goal), exec.conf, started, health, exit.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

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

/// What the end of a task's main process means for the farm.
struct RunEnd {
  TaskState state = TaskState::failed;
  std::string reason, message;
};
/// `asked`: the farm had asked for its end; `unhealthy`: since its check failed, in these words, "" otherwise.
RunEnd end_of(const RunExit& exit, const TaskSpec& spec, bool asked, const std::string& unhealthy);
/// What people read of a task that lost processes to its memory limit.
std::string told_of_memory(const TaskSpec& spec);

/// What the checks of a task have said so far, in their order. Without it a restart of the agent would take every healthy task out of rotation.
struct RunVerdict {
  std::vector<std::optional<bool>> alive;
  bool ready = false;
};

Status write_record(const std::filesystem::path& run, const RunRecord& record);
/// Errors   corrupt or not_found, naming the file.
Result<RunRecord> read_record(const std::filesystem::path& run);
/// Whether the launch of this folder was cut off before it was recorded: nothing was started for it, and its agent never said that it had it.
bool never_recorded(const std::filesystem::path& run);
std::optional<RunExit> parse_exit(std::string_view line);
std::optional<RunStart> parse_started(std::string_view line);
/// How many of its processes the kernel killed for want of memory, while it runs on.
std::optional<std::uint32_t> parse_oom(std::string_view line);
/// The launch failed, in these words: on disk before it is told, or the next life of the agent would begin it again.
Status write_failure(const std::filesystem::path& run, std::string why);
std::optional<RunExit> read_exit(const std::filesystem::path& run);
std::optional<RunStart> read_started(const std::filesystem::path& run);
/// Not synced: it is worth nothing after a reboot. A verdict that cannot be read is none.
Status write_verdict(const std::filesystem::path& run, const RunVerdict& verdict);
std::optional<RunVerdict> read_verdict(const std::filesystem::path& run);
/// Start time of a process in clock ticks since boot; 0 when there is none.
std::uint64_t process_start_ticks(int pid);
std::string boot_id();

/// Has the executor of this folder, if there is one, kill its task. False when nobody heard it.
bool tell_kill(const std::filesystem::path& run);

}  // namespace croft::agent
