#pragma once
// The inside of Cluster: cluster.cpp (link and life cycle), placement.cpp (who gets what). Private to these.

#include <algorithm>
#include <deque>
#include <set>
#include <unordered_map>

#include "cluster/cluster.hpp"

namespace croft::cluster {

struct AgentEntry {
  Agent agent;
  std::set<TaskId> tasks;
  Mono last_contact{}, last_heartbeat{};
  std::map<AppId, std::uint32_t> per_app;   ///< live tasks an app, for spreading
  std::uint16_t next_port = 0;              ///< where the search for a free port begins, so that ports are not reused at once
};

struct TaskEntry {
  Task task;
  Shape shape;                              ///< what it holds on its agent
  std::vector<std::uint16_t> ports;
  bool holds = false;                       ///< resources are charged
  bool confirmed = false;                   ///< the agent has listed or reported it
};

struct Cluster::Impl {
  explicit Impl(Options o) : options(std::move(o)) {}

  // --- accounting (placement.cpp) ---
  void charge(AgentEntry& agent, const Resources& r, const std::vector<std::uint16_t>& ports, const AppId& app);
  void release(AgentEntry& agent, const Resources& r, const std::vector<std::uint16_t>& ports, const AppId& app);
  void hold(TaskEntry& task);
  void let_go(TaskEntry& task);
  std::optional<Refused> refuses(const AgentEntry& agent, const Shape& shape) const;
  std::vector<std::uint16_t> pick_ports(AgentEntry& agent, const Shape& shape) const;
  void reindex(AgentEntry& agent);
  AgentEntry* best_for(const Shape& shape);
  [[nodiscard]] Resources free_of(const AgentEntry& agent) const { return agent.agent.info.total - agent.agent.used; }

  // --- link (cluster.cpp) ---
  AgentEntry& entry(const AgentId& id) { return agents.at(id); }
  void send(AgentEntry& agent, link::Down record);
  void send_delta(AgentEntry& agent, std::vector<link::WantedTask> set, std::vector<TaskId> forget);
  void adopt(AgentEntry& agent, const link::HeldTask& held, Now now);
  void missing_after_registration(AgentEntry& agent, const std::set<TaskId>& listed, Now now);
  void work_in(AgentEntry& agent, const TaskStatus& status, Now now);
  void finish(TaskEntry& task);
  void set_goal(TaskEntry& task, link::Goal goal, Now now);
  void emit(Event::Kind kind, const AgentId& agent, const TaskId& task = {}, std::string text = {});
  void unreachable(AgentEntry& agent, Now now);
  void lose(TaskEntry& task, std::string_view reason, std::string_view message, Now now);

  Options options;
  std::map<AgentId, AgentEntry> agents;
  std::map<TaskId, TaskEntry> tasks;
  std::map<AppId, std::set<TaskId>> by_app;
  std::set<AppId> known_apps;
  std::deque<Task> ended;                   ///< newest first
  std::vector<Message> outbox;
  std::vector<Event> events;
  std::uint64_t subscriptions = 0, agents_made = 0;
  Resources total, used;
  /// Placeable agents by free cpus: the fullest that still fits is found near the front.
  std::set<std::pair<Milli, AgentId>> by_free_cpus;
};

}  // namespace croft::cluster
