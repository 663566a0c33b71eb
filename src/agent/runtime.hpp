#pragma once
// How a task is made ready and started. Both runtimes end in a croft-executor that holds the task; the agent talks to that.

#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "model/task.hpp"

namespace croft::agent {

namespace asio = boost::asio;

/// What a runtime gets to start one task.
struct Launch {
  TaskSpec spec;                         ///< env is complete, sandbox paths included
  std::filesystem::path run, sandbox;    ///< both exist
  std::filesystem::path secrets;         ///< the task's folder in memory (secret_files.hpp), in place before prepare(); "": it has none
};

/// Whose a task's files and processes are.
struct Owner { std::uint32_t uid = 0, gid = 0; };

/// What the executor is to run.
struct ExecPlan {
  std::vector<std::string> args;
  Labels env;
  std::string dir;
  bool has_user = false;
  std::uint32_t uid = 0, gid = 0;
  std::uint64_t caps = 0;
  std::vector<std::string> cgroups;
  std::vector<std::pair<std::string, std::string>> cgroup_settings;
  std::string oom_file, seccomp_file;
  std::string secrets;                   ///< the task's folder in memory; "": it has none
  std::string sandboxes;                 ///< the folder of all tasks' sandboxes, of which this one is to see its own only; "": no matter
  Millis grace{3000};
  std::string docker_socket, container;  ///< a container to hold, instead of all but dir and grace
};

struct Usage {
  double cpus_user = 0, cpus_system = 0;    ///< seconds
  std::uint64_t memory_rss = 0, memory_limit = 0, processes = 0;  ///< bytes, bytes, count
  std::uint64_t memory_total = 0;           ///< bytes, the page cache included
  std::uint64_t periods = 0, throttled = 0; ///< of a cpu quota, where there is one
  double throttled_seconds = 0;
};

/// Errors are told to the user as the task's failure.
class Runtime {
 public:
  virtual ~Runtime() = default;
  using Progress = std::function<void(std::string)>;
  /// Whose the sandbox is and with whose rights it is filled; nothing: croft's own, which is not root. Errors: the task may not be his, or he is not known here.
  virtual Result<std::optional<Owner>> owner(const TaskSpec& spec) const = 0;
  /// Where a task with this run folder sees the folder of its secrets.
  [[nodiscard]] virtual std::string secrets_at(const std::filesystem::path& run) const = 0;
  /// Everything up to the start: image, container, limits. `progress` is for people.
  virtual asio::awaitable<Result<ExecPlan>> prepare(Launch launch, Progress progress) = 0;
  /// Runs a command inside the task; its exit code.
  virtual asio::awaitable<Result<int>> run_inside(Launch launch, std::string command, Millis limit) = 0;
  /// A program of this host which runs a command inside the task, with no more than the task has, and ends as it does. `terminal`: "ROWSxCOLUMNS:TYPE"; "": none.
  [[nodiscard]] virtual std::vector<std::string> inside(const Launch& launch, std::vector<std::string> command, const std::string& terminal) const = 0;
  virtual Usage usage(const Launch& launch) = 0;
  /// The container's own address, where it has one.
  virtual asio::awaitable<std::optional<std::string>> address(Launch launch) = 0;
  /// After the end: what is left behind goes.
  virtual asio::awaitable<void> cleanup(Launch launch) = 0;
  /// Whether a task lives on without its executor, so that another may take over.
  [[nodiscard]] virtual bool outlives_executor() const { return false; }
  /// Whether tasks can be started just now.
  virtual asio::awaitable<bool> available() { co_return true; }
  /// What it said of itself when it was available(): AgentInfo::engine.
  [[nodiscard]] virtual std::vector<std::string> facts() const { return {}; }
  /// Ends what is left here of tasks that nobody knows.
  virtual asio::awaitable<void> reap(std::set<TaskId>) { co_return; }
};

/// A user of this host by name. Errors: invalid.
Result<Owner> user_named(const std::string& name);
/// croft-executor's words for Runtime::inside.
std::vector<std::string> way_in(const std::filesystem::path& executor, const std::filesystem::path& run, std::vector<std::string> command, const std::string& terminal);
/// Writes exec.conf. Errors: io.
Status write_exec_conf(const std::filesystem::path& run, const ExecPlan& plan);

}  // namespace croft::agent
