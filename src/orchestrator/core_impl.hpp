#pragma once
// The inside of Orchestrator. orchestrator.cpp: intent; records.cpp: what is stored; driver.cpp: deployments and reconciliation;
// launcher.cpp: new tasks and back-off; drains.cpp: taking tasks out of rotation; nodes.cpp: nodes that are to be empty; publish.cpp: catalog and
// bus; explain.cpp. Private.

#include <map>
#include <set>
#include <utility>

#include "orchestrator/orchestrator.hpp"

namespace croft::orchestrator {

struct Proposal::Body {
  std::map<AppId, std::optional<App>> apps;
  std::map<AppId, std::optional<catalog::Rule>> rules;
  std::map<AgentId, NodeMode> nodes;
  std::shared_ptr<Deployment> deployment;
  std::vector<DeploymentId> cancelled;
  std::map<AppId, std::string> abandoned;  ///< removals among the cancelled ones that nothing undoes: app and version
  std::vector<TaskId> abandoned_kills;     ///< their tasks, whose kill stands in the batch
  std::set<AppId> reset_backoff;
  std::string origin, path;
  bool announce = false;
};

/// Delay before the next launch of one configuration of an app.
struct Backoff {
  std::string config;          ///< App::last_config_change it belongs to
  Millis delay{0};
  Mono until{}, last_failure{};
  std::uint32_t failures = 0;
};

struct Drain {
  AppId app;
  Mono since{}, confirmed_at{}, not_before{};
  std::vector<BalancerId> wait_for;
  catalog::Index at;
  bool confirmed = false;
  bool settling = false;       ///< begun just after a take-over: whom it waits for is fixed once the balancers had time to come back
};

struct Waiting {               ///< an app with instances to launch
  Wall since{};
  std::uint32_t count = 0, considered = 0;
  std::vector<cluster::Refused> refused;
  std::array<std::uint32_t, 11> by_reason{};
};

/// An app's tasks, sorted by what they count for.
struct Tally {
  std::vector<const cluster::Task*> current, old, leaving;  ///< live: to stay; of an earlier configuration or on a draining node; told to go
  bool moves = false;                                        ///< some of the old, or of those that leave, are there for their node
  std::uint32_t serving_current = 0, serving_old = 0;
  [[nodiscard]] std::size_t live() const { return current.size() + old.size() + leaving.size(); }
};

struct Orchestrator::Impl {
  Impl(cluster::Cluster& c, catalog::Publisher& p, Options o) : cluster(c), catalog(p), options(o), dice(o.seed) {}

  // --- intent (orchestrator.cpp) ---
  std::string next_version(Now now) const;
  std::string new_id();
  [[nodiscard]] std::set<std::uint16_t> service_ports_of_others(const std::map<AppId, std::optional<App>>& edits) const;
  std::optional<Refusal> assign_service_ports(App& app, std::set<std::uint16_t>& taken) const;
  [[nodiscard]] std::optional<Refusal> clash(const AppId& id, const std::map<AppId, std::optional<App>>& edits) const;
  std::optional<Refusal> settle(Deployment& d, Intent& intent, const std::set<AppId>& affected, Proposal& proposal, Proposal::Body& body) const;
  std::expected<Proposal, Refusal> propose_settings(const Intent& intent, Now now) const;
  using Apps = std::map<AppId, std::optional<App>>;
  [[nodiscard]] std::optional<std::map<AppId, int>> levels(const Apps& to) const;
  [[nodiscard]] std::expected<std::vector<Step>, Refusal> plan(const Apps& from, const Apps& to, const std::set<AppId>& restart) const;
  [[nodiscard]] Intent rollback_of(const Deployment& d) const;

  // --- records (records.cpp) ---
  static std::string key(std::string_view kind, const AppId& app) { return std::string(kind) + app.str(); }
  static std::string encode(const Deployment& d);
  static Result<Deployment> decode_deployment(std::string_view text);
  void drop_stale_deployments();

  // --- driver (driver.cpp) ---
  void advance(const DeploymentId& id, Now now);
  bool carry_out(const Deployment& d, const Action& action, Now now);
  void finish(const DeploymentId& id, Now now);
  void terminated(const Deployment& d, const AppId& app, Now now);
  void remember_removed(const AppId& app, const std::string& until);
  void abandon(const std::vector<DeploymentId>& cancelled, const Intent& intent, Proposal& proposal, Proposal::Body& body, Now now) const;
  void apply_abandoned(const Proposal::Body& body, Now now);
  Tally tally(const AppId& app) const;
  bool counts(const cluster::Task& task, const App& app, Now now) const;
  bool serving(const cluster::Task& task) const;
  void give_up_the_lost(const AppId& app, Now now);
  void end_brake(Now now);
  void allow_for_silence(Now now);
  bool reconcile(const App& app, bool rolling, const std::vector<TaskId>& victims, Now now);
  [[nodiscard]] static std::uint32_t capacity_of(const App& app);
  void trim(const App& app, Tally& t, Now now);
  void leave_in_place(Tally& t) const;
  bool roll(const App& app, Tally& t, bool restart, Now now);
  [[nodiscard]] bool some_absent(Now now) const;
  bool scale(const App& app, std::vector<const cluster::Task*> running, const std::vector<TaskId>& victims, Now now);
  std::vector<const cluster::Task*> victim_order(const App& app, std::vector<const cluster::Task*> tasks, const std::vector<TaskId>& first) const;
  [[nodiscard]] std::shared_ptr<const Deployment> deployment_of(const AppId& app) const;
  [[nodiscard]] bool brake(Now now) const;
  void touch(const AppId& app) { dirty.insert(app), changed.insert(app); }
  void touch_waiting();

  // --- launcher (launcher.cpp) ---
  void launch(const App& app, std::uint32_t count, Now now);
  TaskSpec make_spec(const App& app, const cluster::Placement& placement);
  void note_failure(const cluster::Task& task, Now now);
  [[nodiscard]] Millis delay_left(const App& app, Now now) const;
  [[nodiscard]] std::uint32_t held_back(const AppId& app, Now now) const;

  // --- nodes (nodes.cpp) ---
  std::optional<Refusal> propose_node(const AgentId& node, NodeMode mode, coordination::Batch& batch) const;
  void apply_node(const AgentId& node, NodeMode mode, Now now);
  void touch_apps_on(const AgentId& node);

  // --- drains (drains.cpp) ---
  void stop_task(const cluster::Task& task, Now now, bool record);
  [[nodiscard]] bool may_be_routed(const cluster::Task& task, Now now) const;
  void await_balancers(Drain& d, Now now);
  void tick_drains(Now now);
  void end_drain(const TaskId& task, DrainEnd why, Now now);

  // --- publish (publish.cpp) ---
  void publish_service(const AppId& app);
  void publish_task(const cluster::Task& task, Now now);
  void publish_endpoint(const cluster::Task& task, Now now);
  [[nodiscard]] bool in_rotation(const TaskId& task) const;
  [[nodiscard]] bool published_serving(const TaskId& task) const;
  void publish_node(const AgentId& agent);
  void enroll(const AgentId& agent);
  void emit(BusEvent::Kind kind, const AppId& app, Now now, std::string text = {});
  void emit(BusEvent::Kind kind, std::shared_ptr<const Deployment> d, Now now);
  void emit(BusEvent::Kind kind, const cluster::Task& task, Now now, std::string text = {});
  void on_task(const cluster::Event& event, Now now);
  [[nodiscard]] static std::string kill_record(const AgentId& agent, Now now);
  void drop_done_kills();
  [[nodiscard]] bool to_be_reaped(const cluster::Task& task) const;
  void reap_removed(const AgentId& agent, bool complete, Now now);
  void on_gone(const cluster::Event& event, Now now);
  void wake_by(Mono at) { wake = std::min(wake, at); }

  cluster::Cluster& cluster;
  catalog::Publisher& catalog;
  Options options;
  mutable std::uint64_t dice;              ///< ids when a seed is set

  std::map<AppId, App> apps;
  std::map<AppId, App> stopping;           ///< removed, until their tasks are gone
  std::map<AppId, std::map<std::string, App>> versions;
  std::map<DeploymentId, std::shared_ptr<const Deployment>> deployments;
  std::vector<DeploymentId> order;         ///< as they came
  std::map<AppId, catalog::Rule> rules;
  /// Asked for by users, until seen done; with each the node of the task ("": written by an earlier build). A node that is called down may live: the
  /// kills of its tasks wait for it.
  std::map<TaskId, AgentId> kills;
  /// An app removed while agents were not back from an earlier leader's time. What these bring of it is killed, also when the app was made anew meanwhile.
  struct Removal {
    std::string until;                     ///< version of the removal: tasks of later ones are the new app's. "": written by an earlier build
    std::set<AgentId> missing;
  };
  std::map<AppId, Removal> removed;
  std::string last_version;                ///< newest time stamp given

  std::map<AppId, Backoff> backoffs;
  std::map<AppId, Waiting> waiting;
  std::map<AppId, TaskFailure> failures;
  std::map<AppId, std::string> progress;   ///< newest preparation text
  std::map<TaskId, Drain> drains;
  std::map<TaskId, Mono> unreachable_since;
  std::set<TaskId> given_up;               ///< of these, those whose place is free for another: they count again when they are back, and not before
  /// Tasks that are out of rotation by our word, and by which index: until every balancer has carried that out one of them may still send requests.
  std::map<TaskId, catalog::Index> left_rotation;
  std::vector<TaskId> adopted_aside;       ///< of these, those of an agent whose registration is being worked in: followers drop what they had with its end
  std::set<TaskId> outlived;               ///< back after their app had given them up: the first to go where there are too many
  std::map<AgentId, std::string> registry; ///< agents in the store, and their records
  std::set<AgentId> draining;              ///< nodes that an operator wants empty; stored
  std::set<AgentId> awaited;               ///< of these, not back since the take-over
  std::map<AppId, std::uint32_t> held;     ///< instances charged to awaited agents
  Mono held_until{};
  Mono ticked{};                           ///< when it decided last
  std::set<TaskId> told_gone;              ///< ended by the word of an operator who gave their node up: they may come back with it
  bool holding = false;                    ///< from the take-over until all are back, or given up
  bool hearing = true;                     ///< until held_until: the store may not name an agent that had joined just before the take-over
  Mono balancers_back{};                   ///< by then every live balancer has noticed the change of leaders and renewed its lease with this one
  std::string loaded_version;              ///< newest time stamp that the take-over found
  std::vector<std::pair<Mono, AgentId>> lost_agents;  ///< within the last minute

  std::set<AppId> dirty, changed;
  std::map<AppId, Mono> timers;            ///< apps to look at again: the earliest of their reasons
  void look_again(const AppId& app, Mono at) {
    if (auto [known, fresh] = timers.emplace(app, at); !fresh) known->second = std::min(known->second, at);
  }
  Mono wake{};
  std::vector<BusEvent> bus;
  coordination::Batch background;
};

}  // namespace croft::orchestrator
