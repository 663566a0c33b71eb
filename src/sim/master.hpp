#pragma once
// A master's process: standby, or leader with the real cores. Mirrors orchestrator's LeaderService without sockets.

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "catalog/publisher.hpp"
#include "cluster/cluster.hpp"
#include "orchestrator/orchestrator.hpp"
#include "sim/network.hpp"
#include "sim/store.hpp"

namespace croft::sim {

struct Farm;

/// What a user asks for, and what became of it.
struct Op {
  std::uint64_t id = 0;
  std::string what;
  std::function<std::optional<orchestrator::Intent>(const orchestrator::Orchestrator&, Now)> make;  ///< a change, or
  std::vector<TaskId> kill;                          ///< tasks to kill, or
  std::string secret;                                ///< one that gets another value,
  bool unless_there = false;                         ///< or a first one
  bool rolls_back = false;                           ///< what was removed may come back with its tasks
  coordination::Batch batch;                         ///< what it came down to, once proposed
  std::uint64_t epoch = 0;
};
using OpPtr = std::shared_ptr<Op>;
enum class Answer : std::uint8_t { done, refused, unavailable };

/// What the judge remembers of a task between two turns.
struct Shadow {
  AppId app;
  link::Goal goal = link::Goal::run;
};

/// Everything of one term; gone when leadership is.
struct Term {
  Term(const coordination::Term& t, std::uint64_t seed);
  struct Stream { PipePtr pipe; std::size_t host = 0; std::uint64_t connection = 0; };
  struct Follow { std::size_t balancer; PipePtr pipe; std::uint64_t connection; std::optional<catalog::Index> at; Millis next_beat{0}; };
  coordination::Term term;
  cluster::Cluster cluster;
  catalog::Publisher catalog;
  orchestrator::Orchestrator core;
  std::map<std::string, Stream> streams;             ///< by subscription
  std::vector<Follow> follows;
  std::uint64_t head = 0;
  bool committing = false, background_queued = false;
  std::deque<Work> waiting;                          ///< for the lock: one commit at a time
  coordination::Batch background;
  std::map<std::string, std::string> secrets;        ///< records
  std::vector<Work> when_stored;                     ///< once all progress until now is stored
  Millis since{0}, ticked{0}, wake{0};                ///< `since`: its silence does not count
  bool waited = false;                               ///< for agents of the leader before
  // For the judge:
  std::map<TaskId, Shadow> shadow;
  std::set<TaskId> adopted;                          ///< in this turn
  std::map<AppId, std::size_t> returned;             ///< adopted ones that an earlier leader had given up
  std::set<AppId> deploying;                         ///< with a deployment under way at the end of the last turn
  std::map<DeploymentId, std::size_t> deployments_open;  ///< told to have begun, and at which step
  std::map<TaskId, TaskState> told;                  ///< newest state on the bus
};

class Master {
 public:
  Master(Farm& farm, NodeId n, std::size_t i) : node(n), index(i), farm_(farm) {}
  void boot();
  void crash();                                      ///< kill -9; the caller boots it again
  void hand_over();                                  ///< in order: stops, ends its session
  void rogue(Millis length);                         ///< its session ends and it does not notice
  [[nodiscard]] bool leads() const { return term != nullptr; }
  /// Whether it believes that it may speak: its lease has not run out.
  [[nodiscard]] bool may_act() const;

  // --- faces; run in this process ---
  void on_register(std::size_t host, std::uint64_t connection, const link::Registration& r);
  void on_report(std::size_t host, std::uint64_t connection, const link::Report& r);
  void on_follow(std::size_t balancer, std::uint64_t connection, std::optional<catalog::Index> after);
  void on_confirm(const catalog::Confirmation& c, int hops);
  void on_op(const OpPtr& op, int hops);
  void turn();
  void allow_for_silence();

  const NodeId node;
  const std::size_t index;
  std::unique_ptr<Term> term;
  SessionId session = 0;
  Millis lease_until{0}, rogue_until{0};
  bool forced = false;                               ///< kept in office by force: what it says does not count as its fault

 private:
  using Done = std::function<void(bool)>;
  void beat_loop();
  struct Beat { Millis sent{0}; SessionId session = 0; bool alive = false; std::optional<StoreSim::First> first; std::uint64_t epoch = 0; };
  void open_session();
  void on_beat(const Beat& b);
  void take_over(std::uint64_t epoch_seen);
  void start_term(StoreSim::Image image);
  void step_down(const char* why);
  void tick_loop(std::uint64_t epoch);
  void count_rare();
  void note_events(const std::vector<cluster::Event>& events);
  void stream_broke(std::uint64_t epoch, const AgentId& agent, const std::string& subscription);
  void route_messages();
  void feed_followers();
  void read_bus();
  void collect_progress();
  void wake_at(Mono when);
  void lock(Work work);
  void unlock();
  void commit(coordination::Batch batch, Done done);
  void read_back(std::uint64_t epoch, const Done& done, const std::shared_ptr<bool>& overtaken);
  void settle(std::uint64_t epoch, StoreSim::Outcome outcome, const Done& done);
  void commit_background();
  void change(const OpPtr& op);
  void change_secret(const OpPtr& op);
  void tell_secret(const std::string& key);
  void kill_tasks(const OpPtr& op);
  void answer(const OpPtr& op, Answer a);
  [[nodiscard]] bool still(std::uint64_t epoch) const { return term && term->term.epoch == epoch; }

  Farm& farm_;
  bool taking_over_ = false, opening_ = false;
  NodeId known_leader_ = 0;
  bool knows_leader_ = false;
};

}  // namespace croft::sim
