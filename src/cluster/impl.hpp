#pragma once
// The inside of Cluster: link.cpp (the leader's end of the agent link), cluster.cpp (the life of tasks and agents, reading),
// placement.cpp (who gets what), audit.cpp. Private to these.

#include <deque>
#include <map>
#include <set>
#include <unordered_map>

#include "cluster/capacity_index.hpp"
#include "cluster/cluster.hpp"

namespace croft::cluster {

struct TaskEntry;

struct AgentEntry {
  Agent agent;
  CapacityIndex::Slot slot = 0;
  std::vector<TaskEntry*> tasks;
  Mono last_contact{}, last_heartbeat{};
  bool was_unreachable = false;             ///< until the next registration is worked in
  std::uint64_t last_report = 0;            ///< number of the newest report of this subscription
  std::string life;                         ///< of the newest registration, and its number in it
  std::uint64_t registration = 0, lives = 0;
  std::deque<std::string> past_boots;       ///< of its host; what was sent in one of these may still arrive
  // Charged, and not yet launched:
  Resources reserved;
  std::vector<std::uint16_t> reserved_ports;
  std::uint32_t port_count = 0;             ///< size of free_ports
  std::uint16_t next_port = 0;              ///< where the search for a free port begins, so that ports are not reused at once
  // What the next delta says; collected over a turn:
  std::vector<TaskId> changed, forget;
  bool queued = false;                      ///< stands in Impl::with_news
  std::set<std::string> told_secrets;       ///< in this subscription
};

struct TaskEntry {
  Task task;
  AgentEntry* home = nullptr;               ///< nothing once its agent was removed
  std::size_t at_home = 0, at_app = 0;      ///< where it stands in the agent's and the app's list
  Resources held;                           ///< charged on its agent
  std::vector<std::uint16_t> ports;
  bool holds = false;                       ///< resources are charged
  bool confirmed = false;                   ///< the agent has listed or reported it
  bool changed = false;                     ///< stands in its agent's `changed`
  TaskCounts counted;                       ///< what it adds to its app's counts
};

/// What one task adds to its app's counts.
TaskCounts counted_as(const Task& task);

struct AppEntry {
  std::vector<TaskEntry*> tasks;
  std::shared_ptr<const std::vector<TaskId>> ids;  ///< of tasks; null when it is to be made anew
  TaskCounts counts;                                              ///< sum of the tasks' `counted`
  std::unordered_map<CapacityIndex::Slot, std::uint32_t> spread;  ///< instances on each agent, reserved ones too
};

struct Cluster::Impl {
  explicit Impl(Options o) : options(std::move(o)) {}

  // --- accounting (placement.cpp) ---
  void charge(AgentEntry& agent, const Resources& r, const AppId& app);
  void release(AgentEntry& agent, const Resources& r, const std::vector<std::uint16_t>& ports, const AppId& app);
  void count_instance(const AppId& app, CapacityIndex::Slot slot, int by);
  void take_port(AgentEntry& agent, std::uint16_t port);
  void hold(TaskEntry& task);
  void let_go(TaskEntry& task);
  void take_inventory(AgentEntry& agent);   ///< after a registration: free ports and room, from what it has and what is held
  void update_room(AgentEntry& agent);
  void unreserve(AgentEntry& agent, const Resources& r, const std::vector<std::uint16_t>& ports);
  [[nodiscard]] bool has_ports(const AgentEntry& agent, const Shape& shape) const;
  [[nodiscard]] std::vector<std::uint16_t> pick_ports(AgentEntry& agent, const Shape& shape);
  [[nodiscard]] std::optional<Refused> refuses(const AgentEntry& agent, const Shape& shape, bool in_words) const;
  void list_refusals(const Shape& shape, PlaceResult& result) const;
  void ask_chooser(Chooser& chooser);
  void mark_handicaps(const Shape& shape);
  void unmark_handicaps(const Shape& shape);

  // --- link (link.cpp) ---
  Result<AgentId> identify(const link::Registration& r, Now now);
  AgentEntry& enter(const AgentId& id, const link::AgentInfo& info, Now now);
  void adopt(AgentEntry& agent, const link::HeldTask& held, Now now);
  void adopt_known(AgentEntry& agent, TaskEntry& entry, const link::HeldTask& held);
  void missing_after_registration(AgentEntry& agent, const std::set<TaskId>& listed, Now now);
  void greet(AgentEntry& agent);
  void work_in(AgentEntry& agent, const TaskStatus& status);
  void send(AgentEntry& agent, link::Down record);
  void tell(TaskEntry& task);               ///< its goal goes into the next delta
  void tell_forget(AgentEntry& agent, const TaskId& task);
  void tell_secrets(AgentEntry& agent, const TaskSpec& spec);
  void send_secret(AgentEntry& agent, const std::string& name);
  void flush(AgentEntry& agent);
  void cut(AgentEntry& agent, std::string why, Now now);
  void unreachable(AgentEntry& agent, Now now);

  // --- life (cluster.cpp) ---
  TaskEntry& add_task(AgentEntry* agent, TaskSpec spec);
  void settle(TaskEntry& task, AgentEntry& agent);  ///< puts it into the agent's list
  void unsettle(TaskEntry& task);
  void end_with(TaskEntry& task, TaskState state, std::string_view reason, std::string_view message, Now now);
  void finish(TaskEntry& task);
  void retire(const TaskId& task);
  void remember(Task task);
  void recount(TaskEntry& task, TaskCounts now);
  void set_goal(TaskEntry& task, link::Goal goal, Now now);
  Event& emit(Event::Kind kind, const AgentId& agent, const TaskId& task = {}, std::string text = {});
  Event& task_changed(const TaskEntry& task, bool state, bool health = false);

  [[nodiscard]] AgentEntry* find_agent(const AgentId& id) {
    auto at = agents.find(id);
    return at == agents.end() ? nullptr : &at->second;
  }
  [[nodiscard]] TaskEntry* find_task(const TaskId& id) {
    auto at = tasks.find(id);
    return at == tasks.end() ? nullptr : &at->second;
  }

  Options options;
  std::map<AgentId, AgentEntry> agents;
  std::map<std::pair<std::string, std::uint16_t>, AgentId> endpoints;  ///< address and port of an agent's API: its newest id
  struct Expected { std::string hostname, ip; std::uint16_t port = 0; };
  std::map<AgentId, Expected> expected;     ///< agents that an earlier leader knew, until they register
  std::vector<AgentEntry*> by_slot;
  CapacityIndex index;
  std::unordered_map<TaskId, TaskEntry> tasks;
  std::unordered_map<AppId, AppEntry> apps;
  std::set<AppId> known_apps;
  std::map<std::string, SecretValue> secrets;
  std::deque<Task> ended;                   ///< newest first
  std::map<AppId, std::size_t> ended_of;
  std::vector<Message> outbox;
  std::vector<Cut> cuts;
  std::vector<AgentId> with_news;
  std::vector<Event> events;
  std::uint64_t subscriptions = 0, agents_made = 0;
  Mono ticked{};
  Resources total, used;
  std::vector<std::uint64_t> eligible;      ///< by slot, a bit each: what the shape's constraints allow; of the present place() only
  std::vector<std::uint8_t> ranks;          ///< by slot, likewise
  std::vector<std::uint32_t> handicap;      ///< by slot, all 0 outside of place(): instances of the shape's app, and what is to be avoided
};

}  // namespace croft::cluster
