#pragma once
// A host: its disk, its tasks, and the agent's process with the real AgentCore and the real check machines.

#include <map>
#include <optional>
#include <set>

#include "agent/agent_core.hpp"
#include "agent/health.hpp"
#include "sim/network.hpp"

namespace croft::sim {

struct Farm;

/// A process of a task, as it is, whoever knows of it.
struct Proc {
  TaskSpec spec;
  Millis since{0}, answers_from{0}, ready_from{0};
  Millis sick_from{0}, sick_until{0};
  bool stubborn = false, ending = false;             ///< ignores TERM; has had it
  std::map<std::string, std::uint64_t> secrets;      ///< versions in its files
  [[nodiscard]] bool answers(Millis now) const { return now >= answers_from && now >= sick_until; }
};

struct RunRecord {
  TaskSpec spec;
  link::Goal goal = link::Goal::run;
  std::optional<Wall> draining_since;
  bool begun = false;                                ///< its executor was made
  std::optional<Wall> started_at;
  std::vector<std::optional<bool>> alive;            ///< what its checks said last, and whether it was ready
  bool ready = false;
};

struct Disk {
  agent::Membership membership;
  std::map<TaskId, RunRecord> runs;
  std::map<TaskId, TaskStatus> exits;
};

class Host {
 public:
  Host(Farm& farm, NodeId n, std::size_t i) : node(n), index(i), farm_(farm) {}
  // --- life ---
  void boot_agent();
  void kill_agent();
  void power_off(bool wipe_disk);                    ///< all tasks are gone, and what was not synced
  // --- the link ---
  void on_refused(std::uint64_t connection, const std::string& why);
  void on_record(const PipePtr& pipe, std::uint64_t connection, const link::Down& record);
  void on_report_answer(std::uint64_t connection, bool good);
  void leave_stream(Millis pause);
  // --- tasks ---
  void end_proc(const TaskId& id, TaskState state, std::string reason, std::string message);
  [[nodiscard]] std::string label() const;

  const NodeId node;
  const std::size_t index;
  Disk page, stable;                                 ///< as the processes see it; as it is after a power cut
  std::map<TaskId, Proc> procs;
  std::optional<agent::AgentCore> core;
  std::uint64_t connection = 0;                      ///< raised at each attempt: what is of an older one is dropped
  PipePtr stream;
  std::size_t master = 0;                            ///< whom it follows, or asks
  std::uint64_t boot = 1;
  // What the judge holds against the disk: the highest that was ever obeyed.
  std::uint64_t epoch_obeyed = 0, commit_obeyed = 0;
  std::string cluster_obeyed;

 private:
  struct Run {
    std::vector<agent::CheckMachine> checks;
    bool started = false, over = false, kill_sent = false, unhealthy = false;
  };
  [[nodiscard]] link::AgentInfo info() const;
  void sync_membership() { stable.membership = page.membership; }
  /// One task's record; what else is not on the disk yet stays so.
  void sync_run(const TaskId& id) {
    if (auto at = page.runs.find(id); at != page.runs.end()) stable.runs[id] = at->second;
    else stable.runs.erase(id), stable.exits.erase(id);
  }
  void recover();
  void connect();
  void carry_out(const agent::Decisions& decisions, std::uint64_t epoch);
  void kick();
  void report_loop();
  void launch(const TaskId& id);
  void fail_launch(const TaskId& id, std::string why);
  void read_secrets(Proc& proc);
  void follow_secrets(const std::vector<std::string>& names);
  void spawn(const TaskId& id);
  void hold(const TaskId& id);
  void on_started(const TaskId& id);
  void tell_running(const TaskId& id);
  void record_verdict(const TaskId& id);
  void watch_health(const TaskId& id, std::size_t check, Millis pause);
  void watch_readiness(const TaskId& id, Millis pause);
  void set_goal(const TaskId& id, link::Goal goal);
  void kill(const TaskId& id);
  void end_with(const TaskId& id, TaskState state, std::string reason, std::string message);

  Farm& farm_;
  std::map<TaskId, Run> runs_;
  std::set<TaskId> begun_once_, waiting_;            ///< waiting_: for their secrets
  Millis booted_{0};
  Millis pause_{20}, heard_{0};
  std::size_t asked_ = 0;                            ///< masters since it had a stream
  bool posting_ = false;
  std::uint64_t report_timer_ = 0, lives_ = 0;
};

}  // namespace croft::sim
