// The leader's end of the agent link: registrations worked in, the wanted set sent down, reports taken in, silence noticed.

#include <algorithm>

#include "base/text.hpp"
#include "cluster/impl.hpp"

namespace croft::cluster {

namespace {
constexpr std::size_t past_boots_max = 8;
constexpr Millis tick_late{1500};  // ticks come at least every second: after a longer pause the leader was away
}

// --- down ---

void Cluster::Impl::send(AgentEntry& a, link::Down record) {
  if (a.agent.connected) outbox.push_back({a.agent.id, a.agent.subscription, std::move(record)});
}

/// While the stream is not open nothing is collected: the next registration's snapshot says it all.
void Cluster::Impl::tell(TaskEntry& t) {
  if (!t.home || !t.home->agent.connected || std::exchange(t.changed, true)) return;
  t.home->changed.push_back(t.task.spec.id);
  if (!std::exchange(t.home->queued, true)) with_news.push_back(t.home->agent.id);
}

void Cluster::Impl::tell_forget(AgentEntry& a, const TaskId& task) {
  if (!a.agent.connected) return;
  a.forget.push_back(task);
  if (!std::exchange(a.queued, true)) with_news.push_back(a.agent.id);
}

void Cluster::Impl::send_secret(AgentEntry& a, const std::string& name) {
  auto at = secrets.find(name);
  send(a, link::Secret{options.epoch, name, at == secrets.end() ? SecretValue() : at->second});
}

/// What the agent was not told in this subscription; ahead of the record that has the task.
void Cluster::Impl::tell_secrets(AgentEntry& a, const TaskSpec& spec) {
  for (const auto& use : spec.secrets)
    if (a.told_secrets.insert(use.secret).second) send_secret(a, use.secret);
}

void Cluster::set_secret(const std::string& name, SecretValue value) {
  auto& i = *impl_;
  if (value.version == 0) i.secrets.erase(name);
  else i.secrets[name] = std::move(value);
  for (auto& [id, a] : i.agents)
    if (a.told_secrets.contains(name)) i.send_secret(a, name);
}

Status Cluster::may_exec(const TaskId& task) const {
  auto* t = impl_->find_task(task);
  if (!t || !t->home) return fail(Errc::not_found, "there is no task {}", task);
  const auto& home = t->home->agent;
  if (t->task.status.state != TaskState::running) return fail(Errc::conflict, "task {} does not run: it is {}", task, wire_name(t->task.status.state));
  if (!home.connected) return fail(Errc::unavailable, "the agent on {} is not connected just now", home.info.hostname);
  if (!home.info.exec) return fail(Errc::unavailable, "the croft on {} ({}) runs no commands inside tasks yet: upgrade it", home.info.hostname, home.info.version);
  return {};
}

Status Cluster::exec(link::Exec order) {
  if (auto ok = may_exec(order.task); !ok) return ok;
  order.epoch = impl_->options.epoch;
  auto& home = *impl_->find_task(order.task)->home;
  impl_->send(home, std::move(order));
  return {};
}

/// One delta with everything that a turn changed for this agent.
void Cluster::Impl::flush(AgentEntry& a) {
  a.queued = false;
  link::Delta delta;
  for (const auto& id : std::exchange(a.changed, {})) {
    auto* t = find_task(id);
    if (!t || t->home != &a) continue;
    t->changed = false;
    if (is_terminal(t->task.status.state)) continue;
    tell_secrets(a, t->task.spec);
    delta.set.push_back({t->task.spec, t->task.goal, t->task.draining_since});
  }
  delta.forget = std::exchange(a.forget, {});
  if (!a.agent.connected || (delta.set.empty() && delta.forget.empty())) return;
  delta.epoch = options.epoch;
  delta.n = ++a.agent.n;
  send(a, std::move(delta));
}

std::vector<Cluster::Message> Cluster::take_messages() {
  auto& i = *impl_;
  for (const auto& id : std::exchange(i.with_news, {}))
    if (auto* a = i.find_agent(id); a && a->queued) i.flush(*a);
  return std::exchange(i.outbox, {});
}

std::vector<Cluster::Cut> Cluster::take_cuts() { return std::exchange(impl_->cuts, {}); }
void Cluster::committed(std::uint64_t n) { impl_->options.commit = std::max(impl_->options.commit, n); }

void Cluster::Impl::cut(AgentEntry& a, std::string why, Now now) {
  if (!a.agent.connected) return;
  cuts.push_back({a.agent.id, a.agent.subscription, std::move(why)});
  a.agent.connected = false;
  a.last_contact = now.mono;  // from here on it has its time to come back
  update_room(a);
  emit(Event::Kind::agent_disconnected, a.agent.id);
}

// --- registration ---

/// Whose registration this is: the id that the agent kept, or the one of the agent that had this address (it lost its disk), or a new one.
Result<AgentId> Cluster::Impl::identify(const link::Registration& r, Now now) {
  if (!r.cluster_id.empty() && r.cluster_id != options.cluster_id)
    return fail(Errc::conflict, "agent {} belongs to cluster {}, this is {}", r.info.hostname, r.cluster_id, options.cluster_id);
  if (r.epoch_seen > options.epoch) return fail(Errc::conflict, "agent {} has seen epoch {}, this leader's is {}", r.info.hostname, r.epoch_seen, options.epoch);
  if (r.commit_seen > options.commit)
    return fail(Errc::conflict, "agent {} has seen commit {}, this leader's store ends at {}: it was lost or rolled back", r.info.hostname, r.commit_seen, options.commit);
  if (!r.id.empty()) {
    const auto* known = find_agent(r.id);
    // A copied disk: two hosts with one id would take turns for ever.
    if (known && known->agent.connected && known->agent.info.hostname != r.info.hostname && known->agent.info.boot_id != r.info.boot_id && now.mono - known->last_contact < options.agent_timeout)
      return fail(Errc::conflict, "agent id {} of {} is in use by {}: was its work directory copied? Remove the copy's membership file", r.id, r.info.hostname, known->agent.info.hostname);
    return r.id;
  }
  if (auto at = endpoints.find({r.info.ip, r.info.port}); !r.info.ip.empty() && at != endpoints.end()) {
    auto earlier = expected.find(at->second);
    if (agents.contains(at->second) || (earlier != expected.end() && earlier->second.hostname == r.info.hostname)) return at->second;
  }
  return AgentId(fmt::format("{}-{}-S{}", options.cluster_id, options.epoch, agents_made++));
}

void Cluster::expect(const AgentId& agent, const std::string& hostname, const std::string& ip, std::uint16_t port) {
  if (ip.empty()) return;
  impl_->expected[agent] = {hostname, ip, port};
  impl_->endpoints[{ip, port}] = agent;
}

AgentEntry& Cluster::Impl::enter(const AgentId& id, const link::AgentInfo& info, Now now) {
  auto [at, fresh] = agents.try_emplace(id);
  auto& a = at->second;
  if (auto earlier = expected.extract(id)) {
    const auto& was = earlier.mapped();
    if (auto old = endpoints.find({was.ip, was.port}); old != endpoints.end() && old->second == id) endpoints.erase(old);
  }
  if (fresh) {
    a.agent.id = id;
    a.agent.registered = now.wall;
    a.slot = index.add(info.total);
    by_slot.resize(index.slots(), nullptr);
    by_slot[a.slot] = &a;
  } else {
    cut(a, "another registration took its place", now);
    if (a.agent.info.boot_id != info.boot_id && !a.agent.info.boot_id.empty()) a.past_boots.push_back(a.agent.info.boot_id);
    std::erase(a.past_boots, info.boot_id);
    if (a.past_boots.size() > past_boots_max) a.past_boots.pop_front();
    total -= a.agent.info.total;
    index.set_total(a.slot, info.total);
    if (auto old = endpoints.find({a.agent.info.ip, a.agent.info.port}); old != endpoints.end() && old->second == id) endpoints.erase(old);
  }
  endpoints[{info.ip, info.port}] = id;
  total += info.total;
  a.agent.info = info;
  a.agent.reregistered = now.wall;
  a.agent.connected = a.agent.reachable = true;
  a.agent.subscription = fmt::format("{}-{}-{}", options.epoch, ++subscriptions, id);
  a.agent.n = a.agent.acked_n = a.last_report = 0;
  a.told_secrets.clear();
  a.last_contact = a.last_heartbeat = now.mono;
  a.changed.clear();
  a.forget.clear();
  for (auto* t : a.tasks) t->changed = false;
  take_inventory(a);
  if (fresh) emit(Event::Kind::agent_joined, id);
  return a;
}

Result<AgentId> Cluster::register_agent(const link::Registration& r, Now now) {
  auto& i = *impl_;
  auto id = i.identify(r, now);
  if (!id) return id;
  // A connection that was given up may deliver late. What it lists is not what the agent holds now: tasks started since would count as lost.
  if (const auto* known = i.find_agent(*id); known && !r.life.empty() && known->life == r.life && r.number <= known->registration)
    return fail(Errc::conflict, "registration {} of agent {} was overtaken by its number {}", r.number, *id, known->registration);
  // Nor is what a former life of it sent, or one before its host was booted again. Once the agent is given up such a one is taken all the same: its disk was put
  // back to an older state, or what overtook it was the old one.
  if (const auto* known = i.find_agent(*id); known && !r.id.empty() && r.lives != 0 && r.lives < known->lives && known->agent.reachable)
    return fail(Errc::conflict, "registration of life {} of agent {} was overtaken by its life {}", r.lives, *id, known->lives);
  if (const auto* known = i.find_agent(*id); known && known->agent.reachable && std::find(known->past_boots.begin(), known->past_boots.end(), r.info.boot_id) != known->past_boots.end())
    return fail(Errc::conflict, "registration of agent {} was sent before its host was booted again", *id);
  auto& agent = i.enter(*id, r.info, now);
  agent.life = r.life;
  agent.registration = r.number;
  agent.lives = r.lives;
  std::set<TaskId> listed;
  for (const auto& held : r.tasks) {
    listed.insert(held.spec.id);
    i.adopt(agent, held, now);
  }
  i.missing_after_registration(agent, listed, now);
  agent.was_unreachable = false;
  i.greet(agent);
  i.emit(Event::Kind::agent_complete, *id);
  return id;
}

void Cluster::Impl::greet(AgentEntry& a) {
  send(a, link::Welcome{options.epoch, options.commit, options.cluster_id, a.agent.subscription, a.agent.id, options.heartbeat});
  link::Snapshot snapshot{options.epoch, ++a.agent.n, {}};
  for (auto* t : a.tasks) {
    t->changed = false;
    if (is_terminal(t->task.status.state) || (t->task.quarantined && t->task.goal != link::Goal::kill)) continue;
    tell_secrets(a, t->task.spec);
    snapshot.tasks.push_back({t->task.spec, t->task.goal, t->task.draining_since});
  }
  a.changed.clear();
  send(a, std::move(snapshot));
}

/// Works one task that an agent holds into the books: known, or adopted.
void Cluster::Impl::adopt(AgentEntry& a, const link::HeldTask& held, Now now) {
  if (auto* known = find_task(held.spec.id)) {
    if (known->home != &a) {
      if (known->home && known->home->agent.connected) return;  // its name is taken: not in this agent's snapshot, so it is kept aside there
      auto holds = known->holds;
      let_go(*known);
      unsettle(*known);
      settle(*known, a);
      if (holds) hold(*known);
    }
    return adopt_known(a, *known, held);
  }
  auto& entry = add_task(&a, held.spec);
  auto& task = entry.task;
  entry.confirmed = true;
  entry.held = held.spec.resources;
  for (const auto& port : held.spec.ports)
    if (port.host_port) entry.ports.push_back(port.host_port);
  task.goal = held.goal;
  task.draining_since = held.draining_since;
  task.status = held.status;
  task.status.task = held.spec.id;
  task.staged_at = held.spec.staged_at != Wall{} ? held.spec.staged_at : held.status.started_at.value_or(now.wall);
  task.quarantined = !known_apps.contains(held.spec.app);
  emit(Event::Kind::task_adopted, a.agent.id, held.spec.id);
  if (is_terminal(held.status.state)) {
    finish(entry);
    tell_forget(a, held.spec.id);
  } else {
    hold(entry);
  }
}

void Cluster::Impl::adopt_known(AgentEntry& a, TaskEntry& entry, const link::HeldTask& held) {
  entry.confirmed = true;
  if (held.goal > entry.task.goal) {  // told by an earlier leader, or on this one's behalf: it stays told
    entry.task.goal = held.goal;
    entry.task.draining_since = held.draining_since;
    task_changed(entry, false).goal_changed = true;
  }
  work_in(a, held.status);
}

/// Tasks that the leader has on this agent and that the agent did not list. A launch that never arrived stays wanted, so that the snapshot brings it; but
/// not when the agent was given up meanwhile, because then others may have taken its place, nor when a task that the agent brought has its port.
void Cluster::Impl::missing_after_registration(AgentEntry& a, const std::set<TaskId>& listed, Now now) {
  auto mine = a.tasks;
  auto taken = [&](const TaskEntry& t) {
    return std::any_of(mine.begin(), mine.end(), [&](const TaskEntry* other) {
      return other != &t && other->holds && other->confirmed && std::find_first_of(t.ports.begin(), t.ports.end(), other->ports.begin(), other->ports.end()) != t.ports.end();
    });
  };
  for (auto* t : mine) {
    if (is_terminal(t->task.status.state) || listed.contains(t->task.spec.id)) continue;
    if (t->confirmed) end_with(*t, TaskState::lost, "REASON_RECONCILIATION", "the agent came back without this task", now);
    else if (t->task.goal != link::Goal::run) end_with(*t, TaskState::killed, "REASON_TASK_KILLED_DURING_LAUNCH", "killed before the agent had it", now);
    else if (a.was_unreachable) end_with(*t, TaskState::lost, "REASON_SLAVE_DISCONNECTED", "the agent was away and never had it", now);
    else if (taken(*t)) end_with(*t, TaskState::lost, "REASON_RECONCILIATION", "the agent came back with a task that has its port", now);
  }
}

// --- up ---

Status Cluster::report(const link::Report& r, Now now) {
  auto& i = *impl_;
  auto* a = i.find_agent(r.agent);
  if (!a || !a->agent.connected || a->agent.subscription != r.subscription)
    return fail(Errc::conflict, "subscription {} of agent {} is not the present one: register anew", r.subscription, r.agent);
  a->last_contact = now.mono;
  if (r.epoch == i.options.epoch) a->agent.acked_n = std::max(a->agent.acked_n, std::min(r.applied_n, a->agent.n));
  // Overtaken on its way by a later report: what it says may be old by now. Unacknowledged, it comes again.
  if (r.number != 0 && r.number <= a->last_report) return {};
  a->last_report = std::max(a->last_report, r.number);
  for (const auto& status : r.statuses) {
    if (!i.find_task(status.task) && !is_terminal(status.state)) {
      // It runs something that is over or was never known here. Its registration lists everything, so that puts it right.
      i.cut(*a, fmt::format("it reports task {}, which is not known", status.task), now);
      return fail(Errc::conflict, "task {} is not known: register anew", status.task);
    }
    i.work_in(*a, status);
    if (!status.uuid.empty()) i.send(*a, link::Ack{i.options.epoch, status.task, status.uuid});
  }
  for (const auto& progress : r.progress)
    if (i.find_task(progress.task)) i.emit(Event::Kind::task_changed, r.agent, progress.task, progress.text);
  return {};
}

/// A task's state only goes forward: staging, starting, running, killing, an end. What an agent says of an unreachable task counts as it is.
void Cluster::Impl::work_in(AgentEntry& a, const TaskStatus& status) {
  auto* t = find_task(status.task);
  if (!t || t->home != &a) {
    if (is_terminal(status.state)) tell_forget(a, status.task);  // forgotten here: the agent may drop it too
    return;
  }
  auto& now = t->task.status;
  t->confirmed = true;
  if (is_terminal(now.state)) {
    if (is_terminal(status.state)) tell_forget(a, status.task);
    return;
  }
  bool was_away = now.state == TaskState::unreachable;
  if (!was_away && !status.uuid.empty() && status.uuid == now.uuid) return;
  auto next = status;
  if (!was_away && !is_terminal(next.state) && next.state < now.state) next.state = now.state;
  if (!next.container_ip) next.container_ip = now.container_ip;
  // An agent that was restarted has no verdict yet: the last one stands until it has, or a restart would take every task of it out of rotation.
  if (!next.healthy && next.state == TaskState::running) next.healthy = now.healthy;
  if (now.started_at && now.ready) next.ready = true;
  if (now.started_at) next.started_at = now.started_at;
  if (next.state == TaskState::running && !next.started_at) next.started_at = next.at;
  bool state = next.state != now.state, health = next.healthy != now.healthy || next.ready != now.ready;
  now = std::move(next);
  task_changed(*t, state, health);
  if (!is_terminal(now.state)) return;
  finish(*t);
  tell_forget(a, status.task);
}

// --- connections and time ---

void Cluster::stream_closed(const AgentId& id, const std::string& subscription, Now now) {
  auto* a = impl_->find_agent(id);
  if (!a || a->agent.subscription != subscription || !a->agent.connected) return;
  a->agent.connected = false;
  a->last_contact = now.mono;
  impl_->update_room(*a);
  impl_->emit(Event::Kind::agent_disconnected, id);
}

void Cluster::Impl::unreachable(AgentEntry& a, Now now) {
  cut(a, "it has not reported for too long", now);
  a.agent.reachable = false;
  a.was_unreachable = true;
  update_room(a);
  emit(Event::Kind::agent_unreachable, a.agent.id);
  for (auto* t : a.tasks) {
    auto& status = t->task.status;
    if (is_terminal(status.state) || status.state == TaskState::unreachable) continue;
    status.state = TaskState::unreachable;
    status.reason = "REASON_SLAVE_REMOVED";
    status.message = "the agent does not answer";
    status.at = now.wall;
    task_changed(*t, true);
  }
}

void Cluster::tick(Now now) {
  auto& i = *impl_;
  // A leader that was frozen, or silent for want of a lease of its own, heard nobody: that is not the agents' silence.
  auto slept = i.ticked == Mono{} ? Millis(0) : std::chrono::floor<Millis>(now.mono - i.ticked);
  i.ticked = now.mono;
  if (slept >= tick_late)
    for (auto& [id, a] : i.agents) a.last_contact = std::min(a.last_contact + slept, now.mono);
  for (auto& [id, a] : i.agents) {
    if (a.agent.connected && a.agent.n - a.agent.acked_n > i.options.unacked_max)
      i.cut(a, fmt::format("it is {} deltas behind", a.agent.n - a.agent.acked_n), now);
    if (a.agent.connected && now.mono - a.last_heartbeat >= i.options.heartbeat) {
      a.last_heartbeat = now.mono;
      i.send(a, link::Heartbeat{i.options.epoch, a.agent.n, i.options.commit});
    }
    // Agents report twice a heartbeat, so a stream that merely stands open is no sign of life.
    auto patience = std::max(i.options.agent_timeout, a.agent.connected ? i.options.heartbeat * 3 / 2 : Millis(0));
    if (a.agent.reachable && now.mono - a.last_contact > patience) i.unreachable(a, now);
  }
}

}  // namespace croft::cluster
