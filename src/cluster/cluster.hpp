#pragma once
// The leader's accounting of agents and tasks: one owner of who has what. A pure core on the leader's strand.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "model/link.hpp"
#include "model/task.hpp"

namespace croft::cluster {

struct Agent;

/// What an app's constraints say of agents. Asked once an agent and batch; again only where a placement may have changed the answers.
class Chooser {
 public:
  virtual ~Chooser() = default;
  /// Nothing: not allowed. Else how much it is to be avoided: 0 is the best, 255 the most that counts.
  virtual std::optional<std::uint32_t> rank(const Agent& agent) = 0;
  [[nodiscard]] virtual std::string why_not(const Agent& agent) const = 0;  ///< "has rack a, and rack must be like b"
  /// One more instance has its place on `agent`. True when ranks are to be asked anew.
  virtual bool placed(const Agent& agent) = 0;
};

struct Shape {  // what one instance needs
  AppId app;                              ///< its instances are spread over equally good agents
  Resources resources;
  std::vector<std::uint16_t> host_ports;  ///< one per wanted host port: 0 any free one, else exactly this
  bool docker = false;                    ///< needs an agent with a Docker Engine
  std::vector<AgentId> avoid;             ///< last resort agents: used only when no other fits
  Chooser* chooser = nullptr;             ///< constraints; used by place() only, not owned
};

struct Placement {
  AgentId agent;
  std::string hostname, ip;
  std::vector<std::uint16_t> host_ports;  ///< as many as the shape wants, in its order
};

/// Marathon's funnel of reasons, in this order; an agent is counted at its first failing step.
enum class Refusal : std::uint8_t { role, constraint, reservation, maintenance, cpus, mem, disk, gpus, ports, scarce, runtime };
std::string_view to_string(Refusal r);  ///< "InsufficientCpus" …

struct Refused {
  AgentId agent;
  std::string hostname;
  Refusal reason;
  std::string detail;  ///< "needs 4 cpus, 1.5 are free of 2"
};

struct PlaceResult {
  std::vector<Placement> placed;    ///< reserved: each must be launched or given back
  std::vector<Refused> refused;     ///< why the remaining agents could not take one more; at most 100
  std::uint32_t agents_considered = 0;
  std::array<std::uint32_t, 11> by_reason{};  ///< of all agents that could not take one more, by Refusal
};

struct Agent {
  AgentId id;
  link::AgentInfo info;
  Resources used;
  PortSet free_ports;
  bool connected = false;           ///< has a live stream; others get no new tasks
  bool reachable = true;            ///< false after agent_timeout without a stream
  bool draining = false;            ///< an operator wants it empty: gets no new tasks
  std::string subscription;
  std::uint64_t n = 0, acked_n = 0; ///< deltas sent and carried out
  Wall registered{}, reregistered{};
  std::size_t tasks = 0;
};

struct Task {
  TaskSpec spec;
  AgentId agent;
  link::Goal goal = link::Goal::run;
  std::optional<Wall> draining_since;
  TaskStatus status;                ///< newest known; state unreachable while its agent is
  Wall staged_at{};
  bool quarantined = false;         ///< reported by an agent, unknown to the store: shown, routed, never killed
};

/// What of an ended task is kept: what Mesos's and Marathon's faces, the events and `explain` show of it. Thousands are held for as long as a leader leads,
/// and a spec's environment, command, files and checks can be 100 kB each. Of the environment HOST stays, the host it ran on.
Task as_remembered(const Task& task);

/// Tasks of one app that are wanted still, by how far they are.
struct TaskCounts {
  std::uint32_t staged = 0;                    ///< staging or starting
  std::uint32_t running = 0;
  std::uint32_t healthy = 0, unhealthy = 0;    ///< of the running ones, where there is a verdict
  bool operator==(const TaskCounts&) const = default;
};

/// What happened, for the orchestrator, the catalog and the events; in order.
struct Event {
  enum class Kind : std::uint8_t {
    task_changed,      ///< status, goal or health: look the task up; terminal ones are still there until forgotten
    task_adopted,      ///< first seen, reported by a registering agent
    task_gone,         ///< forgotten: terminal and acknowledged, or its agent removed
    agent_joined, agent_complete /* its registration is worked in */, agent_disconnected, agent_unreachable, agent_removed, agent_changed /* an operator's word about it */,
  };
  Kind kind;
  TaskId task;
  AgentId agent;
  std::string text;                 ///< progress and the like
  bool health_changed = false, state_changed = false, goal_changed = false;
  std::optional<Task> last;         ///< for task_gone: what it was, as_remembered
};

struct Options {
  Millis agent_timeout{10'000};     ///< without a stream: unreachable
  Millis heartbeat{5'000};
  std::string cluster_id;
  std::uint64_t epoch = 0, commit = 0;
  std::uint64_t unacked_max = 1000; ///< deltas that an agent may be behind with; then its stream is cut
  bool look_at_all = false;         ///< placement without the index: the yardstick of its benchmark
};

/// Shape    the leader calls in with what happened and takes out what to send (take_messages) and what changed (take_events).
/// Errors   Result for what a stranger can cause; asserts for what only a bug can.
/// Threads  one strand.
class Cluster {
 public:
  explicit Cluster(Options options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // --- the link ---
  /// Works the registration in and opens a new subscription (the old one is cut). After it, take_messages has Welcome and
  /// Snapshot for this agent. Errors: conflict (wrong cluster id, or the agent has seen a newer epoch or commit).
  Result<AgentId> register_agent(const link::Registration& r, Now now);
  /// Statuses are worked in and answered by Acks in the outbox. conflict: stale subscription; duplicates do no harm.
  Status report(const link::Report& r, Now now);
  /// An agent of an earlier leader's time and where it was. A registration without an id from there is its: it lost its disk.
  void expect(const AgentId& agent, const std::string& hostname, const std::string& ip, std::uint16_t port);
  void stream_closed(const AgentId& agent, const std::string& subscription, Now now);
  void tick(Now now);               ///< time-outs, heartbeats; call at least every second
  struct Message { AgentId agent; std::string subscription; link::Down record; };
  std::vector<Message> take_messages();
  /// Streams that are to be closed, after take_messages: another took their place, the agent fell silent or too far behind, or was removed. It
  /// comes back by registering, and gets a snapshot.
  struct Cut { AgentId agent; std::string subscription, why; };
  std::vector<Cut> take_cuts();
  std::vector<Event> take_events();
  void committed(std::uint64_t n);  ///< newest commit number, told to agents
  /// A command for a task that runs, over its agent's stream. Errors: not_found (no such task), conflict (it does not run), unavailable (its agent is not
  /// connected, or too old to know of such).
  Status exec(link::Exec order);
  [[nodiscard]] Status may_exec(const TaskId& task) const;   ///< whether it would be sent
  /// A secret as it is from now on, told to the agents whose tasks use it; version 0: it is gone.
  void set_secret(const std::string& name, SecretValue value);

  // --- placement and tasks ---
  PlaceResult place(const Shape& shape, std::uint32_t count);
  void give_back(const Shape& shape, const Placement& placement);
  /// Uses a placement. The spec's host ports and env are final.
  void launch(TaskSpec spec, const Shape& shape, const Placement& placement, Now now);
  void drain(const TaskId& task, Now now);
  void kill(const TaskId& task, Now now);    ///< of any live task, unreachable ones included: kept until seen dead
  /// What the store knows. Adopted tasks of other apps are quarantined; changes of the answer are told by app_known().
  void set_known_apps(std::vector<AppId> apps);
  void app_known(const AppId& app, bool known);
  /// Operator's decision that an agent gets no new tasks, or gets them again. Nothing when it is not known.
  void set_draining(const AgentId& agent, bool draining);
  /// Operator's decision to forget an agent: its tasks become gone.
  Status remove_agent(const AgentId& agent, Now now);

  // --- reading ---
  [[nodiscard]] const Task* task(const TaskId& id) const;
  [[nodiscard]] const Agent* agent(const AgentId& id) const;
  [[nodiscard]] std::vector<const Agent*> agents() const;              ///< by id
  [[nodiscard]] std::size_t agent_count() const;
  [[nodiscard]] std::size_t task_count() const;                        ///< live ones, and ended ones until their task_gone is taken
  [[nodiscard]] std::vector<const Task*> tasks() const;                ///< by id
  [[nodiscard]] std::vector<const Task*> tasks_of(const AppId& app) const;  ///< in no particular order
  [[nodiscard]] TaskCounts counts_of(const AppId& app) const;
  /// Their ids; one list, shared with whoever asked before, until a task comes or goes.
  [[nodiscard]] std::shared_ptr<const std::vector<TaskId>> ids_of(const AppId& app) const;
  /// Ended tasks as_remembered, newest first, at most 100 an app and 1,000 in all.
  [[nodiscard]] std::vector<const Task*> ended() const;
  [[nodiscard]] Resources total() const;
  [[nodiscard]] Resources used() const;
  /// Sum of each agent's tasks and reservations equals its `used`, ports disjoint, indices in step: "" or the first thing wrong. For tests and the simulator.
  [[nodiscard]] std::string audit() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace croft::cluster
