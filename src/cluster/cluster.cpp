// The leader's end of the agent link, and the life of agents and tasks.

#include "cluster/cluster.hpp"

#include "base/text.hpp"
#include "cluster/impl.hpp"

namespace croft::cluster {

namespace {
constexpr std::size_t ended_max = 1000;
}

std::string_view to_string(Refusal r) {
  static constexpr std::string_view names[] = {"UnfulfilledRole", "UnfulfilledConstraint", "NoCorrespondingReservationFound", "AgentMaintenance", "InsufficientCpus",
                                               "InsufficientMemory", "InsufficientDisk", "InsufficientGpus", "InsufficientPorts", "DeclinedScarceResources", "UnfulfilledRuntime"};
  return names[static_cast<std::size_t>(r)];
}

void Cluster::Impl::emit(Event::Kind kind, const AgentId& agent, const TaskId& task, std::string text) {
  Event event;
  event.kind = kind;
  event.agent = agent;
  event.task = task;
  event.text = std::move(text);
  events.push_back(std::move(event));
}

void Cluster::Impl::send(AgentEntry& agent, link::Down record) {
  if (!agent.agent.connected) return;
  outbox.push_back({agent.agent.id, agent.agent.subscription, std::move(record)});
}

void Cluster::Impl::send_delta(AgentEntry& agent, std::vector<link::WantedTask> set, std::vector<TaskId> forget) {
  if (!agent.agent.connected) return;  // the next registration's snapshot says it
  ++agent.agent.n;
  send(agent, link::Delta{options.epoch, agent.agent.n, std::move(set), std::move(forget)});
}

// --- registration ---

Result<AgentId> Cluster::register_agent(const link::Registration& r, Now now) {
  auto& i = *impl_;
  if (!r.cluster_id.empty() && r.cluster_id != i.options.cluster_id)
    return fail(Errc::conflict, "agent {} belongs to cluster {}, this is {}", r.info.hostname, r.cluster_id, i.options.cluster_id);
  if (r.epoch_seen > i.options.epoch) return fail(Errc::conflict, "agent {} has seen epoch {}, this leader's is {}", r.info.hostname, r.epoch_seen, i.options.epoch);
  if (r.commit_seen > i.options.commit)
    return fail(Errc::conflict, "agent {} has seen commit {}, this leader's store ends at {}: it was lost or rolled back", r.info.hostname, r.commit_seen, i.options.commit);
  // A second agent on one host and port is the same agent with a new disk, never a twin.
  auto id = r.id;
  for (const auto& [known, entry] : i.agents)
    if (id.empty() && !entry.agent.connected && entry.agent.info.hostname == r.info.hostname && entry.agent.info.port == r.info.port) id = known;
  if (id.empty()) {
    do id = AgentId(fmt::format("{}-S{}", i.options.cluster_id, i.agents_made++));
    while (i.agents.contains(id));
  } else if (auto dash = id.str().rfind("-S"); dash != std::string::npos) {
    if (auto number = to_int(id.str().substr(dash + 2))) i.agents_made = std::max(i.agents_made, static_cast<std::uint64_t>(*number) + 1);
  }
  auto [at, fresh] = i.agents.try_emplace(id);
  auto& agent = at->second;
  if (fresh) {
    agent.agent.id = id;
    agent.agent.registered = now.wall;
  } else {
    i.by_free_cpus.erase({i.free_of(agent).cpus, id});
    i.total -= agent.agent.info.total;
  }
  agent.agent.info = r.info;
  i.total += r.info.total;
  agent.agent.free_ports = r.info.ports;
  for (const auto& task : agent.tasks)
    for (auto port : i.tasks.at(task).ports)
      if (i.tasks.at(task).holds) agent.agent.free_ports.remove(port);
  agent.agent.reregistered = now.wall;
  agent.agent.connected = agent.agent.reachable = true;
  agent.agent.subscription = fmt::format("{}-{}-{}", i.options.epoch, ++i.subscriptions, id);
  agent.agent.n = agent.agent.acked_n = 0;
  agent.last_contact = agent.last_heartbeat = now.mono;
  i.reindex(agent);
  if (fresh) i.emit(Event::Kind::agent_joined, id);
  std::set<TaskId> listed;
  for (const auto& held : r.tasks) {
    listed.insert(held.spec.id);
    i.adopt(agent, held, now);
  }
  i.missing_after_registration(agent, listed, now);
  i.send(agent, link::Welcome{i.options.epoch, i.options.commit, i.options.cluster_id, agent.agent.subscription, id, i.options.heartbeat});
  link::Snapshot snapshot{i.options.epoch, ++agent.agent.n, {}};
  for (const auto& task : agent.tasks) {
    const auto& t = i.tasks.at(task).task;
    if (!t.quarantined && !is_terminal(t.status.state)) snapshot.tasks.push_back({t.spec, t.goal, t.draining_since});
  }
  i.send(agent, std::move(snapshot));
  std::vector<TaskId> over;
  for (const auto& held : r.tasks)
    if (is_terminal(held.status.state)) over.push_back(held.spec.id);
  if (!over.empty()) i.send_delta(agent, {}, std::move(over));
  i.emit(Event::Kind::agent_complete, id);
  return id;
}

/// Works one task that an agent holds into the books: known, or adopted.
void Cluster::Impl::adopt(AgentEntry& agent, const link::HeldTask& held, Now now) {
  auto [at, fresh] = tasks.try_emplace(held.spec.id);
  auto& entry = at->second;
  entry.confirmed = true;
  if (!fresh) {
    // The agent's goal may be ahead: it was told by an earlier leader whose word still counts.
    if (held.goal > entry.task.goal) entry.task.goal = held.goal, entry.task.draining_since = held.draining_since;
    auto status = held.status;
    work_in(agent, status, now);
    return;
  }
  entry.task.spec = held.spec;
  entry.task.agent = agent.agent.id;
  entry.task.goal = held.goal;
  entry.task.draining_since = held.draining_since;
  entry.task.status = held.status;
  entry.task.staged_at = held.status.started_at.value_or(now.wall);
  entry.task.quarantined = !known_apps.contains(held.spec.app);
  entry.shape.resources = held.spec.resources;
  for (const auto& port : held.spec.ports)
    if (port.host_port) entry.ports.push_back(port.host_port);
  agent.tasks.insert(held.spec.id);
  by_app[held.spec.app].insert(held.spec.id);
  emit(Event::Kind::task_adopted, agent.agent.id, held.spec.id);
  if (is_terminal(held.status.state)) finish(entry);
  else hold(entry);
}

/// Tasks that the leader has on this agent and the agent did not list: those it never confirmed are launched by the snapshot; those
/// it once had are lost.
void Cluster::Impl::missing_after_registration(AgentEntry& agent, const std::set<TaskId>& listed, Now now) {
  std::vector<TaskId> mine(agent.tasks.begin(), agent.tasks.end());
  for (const auto& id : mine) {
    if (listed.contains(id)) continue;
    auto& entry = tasks.at(id);
    if (is_terminal(entry.task.status.state)) continue;
    if (!entry.confirmed && entry.task.goal == link::Goal::run) continue;
    if (!entry.confirmed) {
      entry.task.status.state = TaskState::killed;
      entry.task.status.message = "killed before the agent had it";
      entry.task.status.at = now.wall;
      emit(Event::Kind::task_changed, agent.agent.id, id);
      events.back().state_changed = true;
      finish(entry);
    } else {
      lose(entry, "REASON_RECONCILIATION", "the agent came back without this task", now);
    }
  }
}

void Cluster::Impl::lose(TaskEntry& entry, std::string_view reason, std::string_view message, Now now) {
  entry.task.status.state = TaskState::lost;
  entry.task.status.reason = reason;
  entry.task.status.message = message;
  entry.task.status.at = now.wall;
  emit(Event::Kind::task_changed, entry.task.agent, entry.task.spec.id);
  events.back().state_changed = true;
  finish(entry);
}

// --- statuses ---

Status Cluster::report(const link::Report& r, Now now) {
  auto& i = *impl_;
  auto at = i.agents.find(r.agent);
  if (at == i.agents.end() || at->second.agent.subscription != r.subscription || !at->second.agent.connected)
    return fail(Errc::conflict, "subscription {} of agent {} is not the present one", r.subscription, r.agent);
  auto& agent = at->second;
  agent.last_contact = now.mono;
  if (r.epoch == i.options.epoch) agent.agent.acked_n = std::max(agent.agent.acked_n, std::min(r.applied_n, agent.agent.n));
  for (const auto& status : r.statuses) {
    i.work_in(agent, status, now);
    if (!status.uuid.empty()) i.send(agent, link::Ack{i.options.epoch, status.task, status.uuid});
  }
  for (const auto& progress : r.progress)
    if (i.tasks.contains(progress.task)) i.emit(Event::Kind::task_changed, r.agent, progress.task, progress.text);
  return {};
}

void Cluster::Impl::work_in(AgentEntry& agent, const TaskStatus& status, Now) {
  auto at = tasks.find(status.task);
  if (at == tasks.end() || at->second.task.agent != agent.agent.id) {
    // Forgotten here, or never known: the acknowledgement lets the agent drop it.
    if (is_terminal(status.state)) send_delta(agent, {}, {status.task});
    return;
  }
  auto& entry = at->second;
  auto& task = entry.task;
  entry.confirmed = true;
  bool was_terminal = is_terminal(task.status.state);
  if (was_terminal && !is_terminal(status.state)) return;  // late news of a task that is over
  if (was_terminal) {
    send_delta(agent, {}, {status.task});
    return;
  }
  bool state_changed = task.status.state != status.state;
  bool health_changed = task.status.healthy != status.healthy || task.status.ready != status.ready;
  auto container_ip = task.status.container_ip;
  auto started = task.status.started_at;
  task.status = status;
  if (!task.status.container_ip) task.status.container_ip = container_ip;
  if (!task.status.started_at) task.status.started_at = started;
  if (status.state == TaskState::running && !task.status.started_at) task.status.started_at = status.at;
  emit(Event::Kind::task_changed, agent.agent.id, status.task);
  events.back().state_changed = state_changed;
  events.back().health_changed = health_changed;
  if (is_terminal(status.state)) {
    finish(entry);
    send_delta(agent, {}, {status.task});
  }
}

/// A task is over: its resources are free, and it goes to the history once the orchestrator has seen the event.
void Cluster::Impl::finish(TaskEntry& entry) {
  let_go(entry);
  auto id = entry.task.spec.id;
  Event gone;
  gone.kind = Event::Kind::task_gone;
  gone.task = id;
  gone.agent = entry.task.agent;
  gone.last = entry.task;
  events.push_back(std::move(gone));
}

std::vector<Event> Cluster::take_events() {
  auto& i = *impl_;
  auto out = std::exchange(i.events, {});
  for (const auto& event : out) {
    if (event.kind != Event::Kind::task_gone) continue;
    auto at = i.tasks.find(event.task);
    if (at == i.tasks.end()) continue;
    i.ended.push_front(at->second.task);
    if (i.ended.size() > ended_max) i.ended.pop_back();
    if (auto agent = i.agents.find(at->second.task.agent); agent != i.agents.end()) {
      agent->second.tasks.erase(event.task);
      agent->second.agent.tasks = agent->second.tasks.size();
    }
    auto app = i.by_app.find(at->second.task.spec.app);
    if (app != i.by_app.end() && app->second.erase(event.task) && app->second.empty()) i.by_app.erase(app);
    i.tasks.erase(at);
  }
  return out;
}

// --- connections and time ---

void Cluster::stream_closed(const AgentId& id, const std::string& subscription, Now now) {
  auto at = impl_->agents.find(id);
  if (at == impl_->agents.end() || at->second.agent.subscription != subscription || !at->second.agent.connected) return;
  at->second.agent.connected = false;
  at->second.last_contact = now.mono;
  impl_->emit(Event::Kind::agent_disconnected, id);
}

void Cluster::Impl::unreachable(AgentEntry& agent, Now now) {
  agent.agent.reachable = false;
  by_free_cpus.erase({free_of(agent).cpus, agent.agent.id});
  emit(Event::Kind::agent_unreachable, agent.agent.id);
  for (const auto& id : agent.tasks) {
    auto& status = tasks.at(id).task.status;
    if (is_terminal(status.state) || status.state == TaskState::unreachable) continue;
    status.state = TaskState::unreachable;
    status.reason = "REASON_SLAVE_REMOVED";
    status.message = "the agent does not answer";
    status.at = now.wall;
    emit(Event::Kind::task_changed, agent.agent.id, id);
    events.back().state_changed = true;
  }
}

void Cluster::tick(Now now) {
  auto& i = *impl_;
  for (auto& [id, agent] : i.agents) {
    if (agent.agent.connected && now.mono - agent.last_heartbeat >= i.options.heartbeat) {
      agent.last_heartbeat = now.mono;
      i.send(agent, link::Heartbeat{i.options.epoch, agent.agent.n, i.options.commit});
    }
    // Agents report at least once a heartbeat, so a stream that merely stands open does not count as life.
    if (agent.agent.reachable && now.mono - agent.last_contact > std::max(i.options.agent_timeout, agent.agent.connected ? 3 * i.options.heartbeat : Millis(0)))
      i.unreachable(agent, now);
  }
}

std::vector<Cluster::Message> Cluster::take_messages() { return std::exchange(impl_->outbox, {}); }
void Cluster::committed(std::uint64_t n) { impl_->options.commit = std::max(impl_->options.commit, n); }

// --- goals ---

void Cluster::Impl::set_goal(TaskEntry& entry, link::Goal goal, Now now) {
  if (entry.task.goal >= goal || is_terminal(entry.task.status.state)) return;
  entry.task.goal = goal;
  if (goal == link::Goal::drain) entry.task.draining_since = now.wall;
  auto agent = agents.find(entry.task.agent);
  emit(Event::Kind::task_changed, entry.task.agent, entry.task.spec.id);
  if (agent != agents.end()) send_delta(agent->second, {{entry.task.spec, goal, entry.task.draining_since}}, {});
}

void Cluster::drain(const TaskId& task, Now now) {
  if (auto at = impl_->tasks.find(task); at != impl_->tasks.end()) impl_->set_goal(at->second, link::Goal::drain, now);
}

void Cluster::kill(const TaskId& task, Now now) {
  if (auto at = impl_->tasks.find(task); at != impl_->tasks.end()) impl_->set_goal(at->second, link::Goal::kill, now);
}

void Cluster::set_known_apps(std::vector<AppId> apps) {
  impl_->known_apps = {apps.begin(), apps.end()};
  for (auto& [id, entry] : impl_->tasks) entry.task.quarantined = !impl_->known_apps.contains(entry.task.spec.app);
}

void Cluster::app_known(const AppId& app, bool known) {
  auto& i = *impl_;
  if (known) i.known_apps.insert(app);
  else i.known_apps.erase(app);
  auto tasks = i.by_app.find(app);
  if (!known || tasks == i.by_app.end()) return;
  for (const auto& id : tasks->second) {
    auto& entry = i.tasks.at(id);
    if (!entry.task.quarantined) continue;
    entry.task.quarantined = false;
    i.emit(Event::Kind::task_adopted, entry.task.agent, id);
    if (auto agent = i.agents.find(entry.task.agent); agent != i.agents.end())
      i.send_delta(agent->second, {{entry.task.spec, entry.task.goal, entry.task.draining_since}}, {});
  }
}

Status Cluster::remove_agent(const AgentId& id, Now now) {
  auto& i = *impl_;
  auto at = i.agents.find(id);
  if (at == i.agents.end()) return fail(Errc::not_found, "agent {} is not known", id);
  std::vector<TaskId> mine(at->second.tasks.begin(), at->second.tasks.end());
  for (const auto& task : mine) {
    auto& entry = i.tasks.at(task);
    if (!is_terminal(entry.task.status.state)) i.lose(entry, "REASON_SLAVE_REMOVED", "the agent was removed by an operator", now);
    entry.task.status.state = TaskState::gone_by_operator;
  }
  i.by_free_cpus.erase({i.free_of(at->second).cpus, id});
  i.total -= at->second.agent.info.total;
  i.agents.erase(at);
  i.emit(Event::Kind::agent_removed, id);
  return {};
}

// --- reading ---

Cluster::Cluster(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Cluster::~Cluster() = default;

const Task* Cluster::task(const TaskId& id) const {
  auto at = impl_->tasks.find(id);
  return at == impl_->tasks.end() ? nullptr : &at->second.task;
}

const Agent* Cluster::agent(const AgentId& id) const {
  auto at = impl_->agents.find(id);
  return at == impl_->agents.end() ? nullptr : &at->second.agent;
}

std::vector<const Agent*> Cluster::agents() const {
  std::vector<const Agent*> out;
  for (const auto& [id, entry] : impl_->agents) out.push_back(&entry.agent);
  return out;
}

std::vector<const Task*> Cluster::tasks() const {
  std::vector<const Task*> out;
  for (const auto& [id, entry] : impl_->tasks) out.push_back(&entry.task);
  return out;
}

std::vector<const Task*> Cluster::tasks_of(const AppId& app) const {
  std::vector<const Task*> out;
  auto at = impl_->by_app.find(app);
  if (at == impl_->by_app.end()) return out;
  for (const auto& id : at->second) out.push_back(&impl_->tasks.at(id).task);
  return out;
}

std::vector<const Task*> Cluster::ended() const {
  std::vector<const Task*> out;
  for (const auto& task : impl_->ended) out.push_back(&task);
  return out;
}

Resources Cluster::total() const { return impl_->total; }
Resources Cluster::used() const { return impl_->used; }

}  // namespace croft::cluster
