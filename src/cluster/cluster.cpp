// The life of tasks and agents, and what readers ask for. The link is in link.cpp, placement in placement.cpp.

#include "cluster/cluster.hpp"

#include <algorithm>

#include "cluster/impl.hpp"

namespace croft::cluster {

namespace {
constexpr std::size_t ended_max = 1000, ended_of_app_max = 100;
}

TaskCounts counted_as(const Task& t) {
  if (t.goal != link::Goal::run) return {};  // it may serve still, but it is none of the instances any more
  switch (t.status.state) {
    case TaskState::staging: case TaskState::starting: return {.staged = 1};
    case TaskState::running: return {.running = 1, .healthy = t.status.healthy == true, .unhealthy = t.status.healthy == false};
    default: return {};
  }
}

Task as_remembered(const Task& t) {
  Task out{.spec = {}, .agent = t.agent, .goal = t.goal, .draining_since = t.draining_since, .status = t.status, .staged_at = t.staged_at, .quarantined = t.quarantined};
  auto& s = out.spec;
  s.id = t.spec.id;
  s.app = t.spec.app;
  s.app_version = t.spec.app_version;
  s.name = t.spec.name;
  s.role = t.spec.role;
  s.user = t.spec.user;
  s.labels = t.spec.labels;
  s.resources = t.spec.resources;
  s.ports = t.spec.ports;
  for (auto& port : s.ports) port.labels.clear();
  if (t.spec.docker) s.docker.emplace().image = t.spec.docker->image;
  if (auto host = t.spec.env.find("HOST"); host != t.spec.env.end()) s.env.insert(*host);
  return out;
}

Cluster::Cluster(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Cluster::~Cluster() = default;

// --- events ---

Event& Cluster::Impl::emit(Event::Kind kind, const AgentId& agent, const TaskId& task, std::string text) {
  auto& event = events.emplace_back();
  event.kind = kind;
  event.agent = agent;
  event.task = task;
  event.text = std::move(text);
  if (auto* t = task.empty() ? nullptr : find_task(task)) recount(*t, counted_as(t->task));  // every change of a task is told
  return event;
}

void Cluster::Impl::recount(TaskEntry& t, TaskCounts now) {
  auto was = std::exchange(t.counted, now);
  auto& sum = apps.at(t.task.spec.app).counts;
  for (auto field : {&TaskCounts::staged, &TaskCounts::running, &TaskCounts::healthy, &TaskCounts::unhealthy}) sum.*field += now.*field - was.*field;
}

Event& Cluster::Impl::task_changed(const TaskEntry& t, bool state, bool health) {
  auto& event = emit(Event::Kind::task_changed, t.task.agent, t.task.spec.id);
  event.state_changed = state;
  event.health_changed = health;
  return event;
}

/// With a task_gone the task itself goes: whoever reads the events has its last state in them.
std::vector<Event> Cluster::take_events() {
  auto out = std::exchange(impl_->events, {});
  for (const auto& event : out)
    if (event.kind == Event::Kind::task_gone) impl_->retire(event.task);
  return out;
}

// --- tasks ---

TaskEntry& Cluster::Impl::add_task(AgentEntry* agent, TaskSpec spec) {
  auto& t = tasks[spec.id];
  auto& app = apps[spec.app];
  t.at_app = app.tasks.size();
  app.tasks.push_back(&t);
  app.ids.reset();
  t.task.status.task = spec.id;
  t.task.spec = std::move(spec);
  if (agent) settle(t, *agent);
  return t;
}

void Cluster::Impl::settle(TaskEntry& t, AgentEntry& a) {
  t.home = &a;
  t.task.agent = a.agent.id;
  t.at_home = a.tasks.size();
  a.tasks.push_back(&t);
  a.agent.tasks = a.tasks.size();
}

void Cluster::Impl::unsettle(TaskEntry& t) {
  auto* a = std::exchange(t.home, nullptr);
  if (!a) return;
  a->tasks[t.at_home] = a->tasks.back();
  a->tasks[t.at_home]->at_home = t.at_home;
  a->tasks.pop_back();
  a->agent.tasks = a->tasks.size();
}

void Cluster::Impl::end_with(TaskEntry& t, TaskState state, std::string_view reason, std::string_view message, Now now) {
  auto& status = t.task.status;
  status.state = state;
  status.reason = reason;
  status.message = message;
  status.at = now.wall;
  task_changed(t, true);
  finish(t);
}

/// A task is over: what it had is free at once, it itself stays until its end was read.
void Cluster::Impl::finish(TaskEntry& t) {
  let_go(t);
  auto& event = emit(Event::Kind::task_gone, t.task.agent, t.task.spec.id);
  event.last = as_remembered(t.task);
}

void Cluster::Impl::retire(const TaskId& id) {
  auto at = tasks.find(id);
  if (at == tasks.end()) return;
  auto& t = at->second;
  unsettle(t);
  recount(t, {});
  auto app = apps.find(t.task.spec.app);
  app->second.ids.reset();
  auto& list = app->second.tasks;
  list[t.at_app] = list.back();
  list[t.at_app]->at_app = t.at_app;
  list.pop_back();
  if (list.empty() && app->second.spread.empty()) apps.erase(app);
  auto task = as_remembered(t.task);
  tasks.erase(at);
  remember(std::move(task));
}

void Cluster::Impl::remember(Task task) {
  auto app = task.spec.app;
  auto forget = [&](std::deque<Task>::iterator at) {
    if (auto n = ended_of.find(at->spec.app); --n->second == 0) ended_of.erase(n);
    ended.erase(at);
  };
  ended.push_front(std::move(task));
  if (++ended_of[app] > ended_of_app_max) {
    auto oldest = std::find_if(ended.rbegin(), ended.rend(), [&](const Task& t) { return t.spec.app == app; });
    forget(std::prev(oldest.base()));
  }
  if (ended.size() > ended_max) forget(std::prev(ended.end()));
}

// --- goals ---

void Cluster::Impl::set_goal(TaskEntry& t, link::Goal goal, Now now) {
  if (t.task.goal >= goal || is_terminal(t.task.status.state)) return;
  t.task.goal = goal;
  if (goal == link::Goal::drain) t.task.draining_since = now.wall;
  task_changed(t, false).goal_changed = true;
  tell(t);
}

void Cluster::drain(const TaskId& task, Now now) {
  if (auto* t = impl_->find_task(task)) impl_->set_goal(*t, link::Goal::drain, now);
}

void Cluster::kill(const TaskId& task, Now now) {
  if (auto* t = impl_->find_task(task)) impl_->set_goal(*t, link::Goal::kill, now);
}

void Cluster::set_known_apps(std::vector<AppId> apps) {
  auto& i = *impl_;
  i.known_apps = {std::make_move_iterator(apps.begin()), std::make_move_iterator(apps.end())};
  for (auto& [id, t] : i.tasks) t.task.quarantined = !i.known_apps.contains(t.task.spec.app);
}

void Cluster::app_known(const AppId& id, bool known) {
  auto& i = *impl_;
  if (known) i.known_apps.insert(id);
  else i.known_apps.erase(id);
  auto app = i.apps.find(id);
  if (!known || app == i.apps.end()) return;
  for (auto* t : app->second.tasks) {
    if (!std::exchange(t->task.quarantined, false)) continue;
    i.emit(Event::Kind::task_adopted, t->task.agent, t->task.spec.id);
    i.tell(*t);
  }
}

// --- agents ---

void Cluster::set_draining(const AgentId& id, bool draining) {
  auto* a = impl_->find_agent(id);
  if (!a || a->agent.draining == draining) return;
  a->agent.draining = draining;
  impl_->update_room(*a);
  impl_->emit(Event::Kind::agent_changed, id);
}

Status Cluster::remove_agent(const AgentId& id, Now now) {
  auto& i = *impl_;
  auto at = i.agents.find(id);
  if (at == i.agents.end()) return fail(Errc::not_found, "agent {} is not known", id);
  auto& a = at->second;
  i.cut(a, "it was removed by an operator", now);
  auto mine = a.tasks;
  for (auto* t : mine) {
    if (!is_terminal(t->task.status.state)) i.end_with(*t, TaskState::gone_by_operator, "REASON_SLAVE_REMOVED_BY_OPERATOR", "its agent was removed by an operator", now);
    i.unsettle(*t);
  }
  i.used -= a.agent.used;  // what is left is reserved
  i.total -= a.agent.info.total;
  for (auto& [name, app] : i.apps) app.spread.erase(a.slot);
  i.index.remove(a.slot);
  i.by_slot[a.slot] = nullptr;
  if (auto endpoint = i.endpoints.find({a.agent.info.ip, a.agent.info.port}); endpoint != i.endpoints.end() && endpoint->second == id) i.endpoints.erase(endpoint);
  i.agents.erase(at);
  i.emit(Event::Kind::agent_removed, id);
  return {};
}

// --- reading ---

const Task* Cluster::task(const TaskId& id) const {
  const auto* t = impl_->find_task(id);
  return t ? &t->task : nullptr;
}

const Agent* Cluster::agent(const AgentId& id) const {
  const auto* a = impl_->find_agent(id);
  return a ? &a->agent : nullptr;
}

std::vector<const Agent*> Cluster::agents() const {
  std::vector<const Agent*> out;
  out.reserve(impl_->agents.size());
  for (const auto& [id, a] : impl_->agents) out.push_back(&a.agent);
  return out;
}

std::vector<const Task*> Cluster::tasks() const {
  std::vector<const Task*> out;
  out.reserve(impl_->tasks.size());
  for (const auto& [id, t] : impl_->tasks) out.push_back(&t.task);
  std::sort(out.begin(), out.end(), [](const Task* a, const Task* b) { return a->spec.id < b->spec.id; });
  return out;
}

std::vector<const Task*> Cluster::tasks_of(const AppId& id) const {
  std::vector<const Task*> out;
  auto app = impl_->apps.find(id);
  if (app == impl_->apps.end()) return out;
  out.reserve(app->second.tasks.size());
  for (const auto* t : app->second.tasks) out.push_back(&t->task);
  return out;
}

TaskCounts Cluster::counts_of(const AppId& id) const {
  auto app = impl_->apps.find(id);
  return app == impl_->apps.end() ? TaskCounts{} : app->second.counts;
}

std::shared_ptr<const std::vector<TaskId>> Cluster::ids_of(const AppId& id) const {
  static const auto none = std::make_shared<const std::vector<TaskId>>();
  auto app = impl_->apps.find(id);
  if (app == impl_->apps.end()) return none;
  if (!app->second.ids) {
    std::vector<TaskId> ids;
    ids.reserve(app->second.tasks.size());
    for (const auto* t : app->second.tasks) ids.push_back(t->task.spec.id);
    app->second.ids = std::make_shared<const std::vector<TaskId>>(std::move(ids));
  }
  return app->second.ids;
}

std::vector<const Task*> Cluster::ended() const {
  std::vector<const Task*> out;
  for (const auto& task : impl_->ended) out.push_back(&task);
  return out;
}

std::size_t Cluster::agent_count() const { return impl_->agents.size(); }
std::size_t Cluster::task_count() const { return impl_->tasks.size(); }
Resources Cluster::total() const { return impl_->total; }
Resources Cluster::used() const { return impl_->used; }

}  // namespace croft::cluster
