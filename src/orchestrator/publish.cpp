// Events in from the cluster; catalog and bus events out.

#include <algorithm>

#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

using Kind = cluster::Event::Kind;

namespace {
constexpr std::size_t told_gone_max = 100'000, kept_kills_max = 10'000;
}

void Orchestrator::Impl::emit(BusEvent::Kind kind, const AppId& app, Now now, std::string text) {
  BusEvent e;
  e.kind = kind;
  e.at = now.wall;
  e.app = app;
  e.text = std::move(text);
  bus.push_back(std::move(e));
}

void Orchestrator::Impl::emit(BusEvent::Kind kind, std::shared_ptr<const Deployment> d, Now now) {
  emit(kind, AppId(), now);
  bus.back().deployment = std::move(d);
}

void Orchestrator::Impl::emit(BusEvent::Kind kind, const cluster::Task& task, Now now, std::string text) {
  emit(kind, task.spec.app, now, std::move(text));
  bus.back().task = std::make_shared<const cluster::Task>(task);
}

void Orchestrator::Impl::publish_service(const AppId& id) {
  auto at = apps.find(id);
  if (at == apps.end()) {
    std::vector<TaskId> routed;
    for (const auto* task : cluster.tasks_of(id))
      if (in_rotation(task->spec.id)) routed.push_back(task->spec.id);
    catalog.remove_service(id);
    for (const auto& task : routed) left_rotation[task] = catalog.pending();
    return;
  }
  const auto& app = at->second;
  catalog::Service s;
  s.app = id;
  s.labels = app.labels;
  s.env = app.env;
  s.health_checks = app.health_checks;
  s.instances = app.instances;
  s.version = app.version;
  bool mapped = !app.networks.empty() && app.networks[0].mode != NetworkMode::host;
  for (const auto& p : app.ports) {
    auto host_port = mapped ? p.host_port.value_or(0) : app.require_ports ? p.port : std::uint16_t(0);
    s.ports.push_back({mapped ? p.service_port : p.port, mapped ? p.container_port : std::uint16_t(0), p.protocol, p.name, p.labels, host_port});
  }
  catalog.set(std::move(s));
}

bool Orchestrator::Impl::published_serving(const TaskId& task) const {
  const auto& content = catalog.content();
  auto at = content.endpoints.find(task);
  if (at == content.endpoints.end()) return false;
  auto service = content.services.find(at->second.app);
  return service != content.services.end() && at->second.serves(!service->second.health_checks.empty());
}

bool Orchestrator::Impl::in_rotation(const TaskId& task) const {
  if (published_serving(task)) return true;
  const auto& content = catalog.content();
  auto at = content.endpoints.find(task);
  if (at == content.endpoints.end() || !at->second.last_resort() || !content.services.contains(at->second.app)) return false;
  return catalog.serving(at->second.app) == 0;
}

void Orchestrator::Impl::publish_task(const cluster::Task& task, Now now) {
  const auto& id = task.spec.id;
  bool before = in_rotation(id), somebody = catalog.serving(task.spec.app) > 0;
  publish_endpoint(task, now);
  // Somebody serves again: those that were asked as a last resort are not any more.
  if (!somebody && catalog.serving(task.spec.app) > 0)
    for (const auto& other : catalog.last_resort(task.spec.app)) left_rotation[other] = catalog.pending();
  if (in_rotation(id)) left_rotation.erase(id);
  else if (before) left_rotation[id] = catalog.pending();
}

void Orchestrator::Impl::publish_endpoint(const cluster::Task& task, Now now) {
  const auto& status = task.status;
  if (is_terminal(status.state) || status.state == TaskState::staging) {
    catalog.remove_endpoint(task.spec.id);
    return;
  }
  if (status.state == TaskState::unreachable) {
    // It may well serve still; the balancers' own checks see it. It leaves the catalog when it no longer counts as an instance.
    auto app = apps.find(task.spec.app);
    auto known = catalog.content().endpoints.find(task.spec.id);
    if (known == catalog.content().endpoints.end()) return;
    if (app == apps.end() || task.goal == link::Goal::kill || !counts(task, app->second, now)) return catalog.remove_endpoint(task.spec.id);
    auto e = known->second;
    e.draining = task.goal != link::Goal::run;
    return catalog.set(std::move(e));
  }
  const auto* agent = cluster.agent(task.agent);
  catalog::Endpoint e;
  e.task = task.spec.id;
  e.app = task.spec.app;
  e.agent = task.agent;
  e.app_version = task.spec.app_version;
  e.host = agent ? agent->info.hostname : "";
  e.ip = agent ? agent->info.ip : "";
  e.container_ip = status.container_ip;
  e.ports = task.spec.ports;
  e.state = status.state == TaskState::killing ? TaskState::running : status.state;
  // One that is not checked is as good as it runs, also when its app is given checks: it stays in rotation until a checked one takes its place.
  e.healthy = task.spec.health_checks.empty() && status.state == TaskState::running ? status.healthy.value_or(true) : status.healthy;
  e.ready = status.ready;
  e.draining = task.goal != link::Goal::run;
  e.started = status.started_at.value_or(task.staged_at);
  catalog.set(std::move(e));
}

void Orchestrator::Impl::publish_node(const AgentId& id) {
  const auto* agent = cluster.agent(id);
  if (agent) catalog.set(catalog::Node{id, agent->info.hostname, agent->info.ip, agent->info.port, agent->reachable});
  else catalog.remove_node(id);
}

void Orchestrator::Impl::on_task(const cluster::Event& event, Now now) {
  const auto* task = cluster.task(event.task);
  if (!task) return;
  const auto& app = task->spec.app;
  // A verdict moves a deployment on; what an app has without one does not hang on it.
  bool shown_only = event.kind == Kind::task_changed && !event.state_changed && !event.goal_changed;
  changed.insert(app);
  if (!shown_only || !draining.empty() || deployment_of(app)) dirty.insert(app);
  if (!event.text.empty()) {
    progress[app] = event.text;
    emit(BusEvent::Kind::progress, *task, now, event.text);
    return;
  }
  if (event.kind == Kind::task_adopted) {
    bool stays = !task->quarantined && task->goal == link::Goal::run && !is_terminal(task->status.state) && !kills.contains(event.task) && !to_be_reaped(*task);
    if (auto at = held.find(app); at != held.end() && stays && at->second > 0) --at->second;
    if (kills.contains(event.task) && task->goal == link::Goal::run) stop_task(*task, now, true);  // out of rotation first, as ever
  }
  if (task->goal == link::Goal::drain && !is_terminal(task->status.state) && !drains.contains(event.task)) {
    // Begun by another leader, an earlier one mostly, or one that was not deposed yet where the node could hear it: the balancers have it out of rotation, or
    // hear it from us; one more drain time bounds it.
    auto& d = drains[event.task];
    d.app = app;
    d.since = now.mono;
    d.not_before = now.mono + std::min(options.dns_ttl, options.drain_time);
    await_balancers(d, now);
    publish_task(*task, now);
    d.at = catalog.flush();
  }
  if (task->status.state == TaskState::unreachable) unreachable_since.try_emplace(event.task, now.mono);
  else if (auto since = unreachable_since.find(event.task); since != unreachable_since.end()) {
    auto known = apps.find(app);
    if (known != apps.end() && !known->second.unreachable.disabled && now.mono - since->second >= known->second.unreachable.expunge_after) outlived.insert(event.task);
    unreachable_since.erase(since);
    given_up.erase(event.task);
  }
  publish_task(*task, now);
  // What balancers have of an earlier leader's time may have it in rotation, until they have heard from this one.
  if (event.kind == Kind::task_adopted && task->status.state == TaskState::running && !in_rotation(event.task)) {
    left_rotation[event.task] = catalog.pending();
    adopted_aside.push_back(event.task);
  }
  // Its node was given up by an operator, and its end was told: that it lives is news.
  bool back = event.kind == Kind::task_adopted && told_gone.erase(event.task) > 0;
  if (event.state_changed || back) {
    emit(BusEvent::Kind::status_update, *task, now);
    emit(BusEvent::Kind::instance_changed, *task, now);
    if (task->status.state == TaskState::running) progress.erase(app);
  }
  if (event.health_changed) {
    emit(BusEvent::Kind::health_status_changed, *task, now);
    emit(BusEvent::Kind::instance_health_changed, *task, now);
    if (task->status.healthy == false) emit(BusEvent::Kind::failed_health_check, *task, now, task->status.last_check_failure);
  }
  if (auto at = apps.find(app); at != apps.end() && task->status.state == TaskState::unreachable && !at->second.unreachable.disabled) {
    look_again(app, now.mono + at->second.unreachable.inactive_after + Millis(1));
  }
}

void Orchestrator::Impl::on_gone(const cluster::Event& event, Now now) {
  const auto& task = *event.last;
  catalog.remove_endpoint(event.task);
  drains.erase(event.task);
  unreachable_since.erase(event.task);
  given_up.erase(event.task);
  left_rotation.erase(event.task);
  outlived.erase(event.task);
  if (task.status.state == TaskState::gone_by_operator && told_gone.size() < told_gone_max) told_gone.insert(event.task);
  // Told as ended by an operator's word: nobody has seen it end. What had been told to go goes when it comes back after all, also where nothing else remembers it.
  bool may_be_back = task.status.state == TaskState::gone_by_operator && kills.size() <= kept_kills_max;
  if (may_be_back && task.goal != link::Goal::run && kills.try_emplace(event.task, task.agent).second) background.put["kills/" + event.task.str()] = kill_record(task.agent, now);
  if (!may_be_back && kills.erase(event.task)) background.remove.push_back("kills/" + event.task.str());
  emit(BusEvent::Kind::status_update, task, now);  // its last state: the task itself is no longer to be looked up
  emit(BusEvent::Kind::instance_changed, task, now);
  note_failure(task, now);
  if (task.status.reason.find("HEALTH") != std::string::npos) emit(BusEvent::Kind::unhealthy_kill, task, now, task.status.message);
  touch(task.spec.app);
  touch_waiting();  // room may have come free
}

/// Whether it is a task of an app that was removed while its agent was away; it goes when the agent has told everything.
bool Orchestrator::Impl::to_be_reaped(const cluster::Task& task) const {
  auto removal = removed.find(task.spec.app);
  return removal != removed.end() && removal->second.missing.contains(task.agent) && (!apps.contains(task.spec.app) || task.spec.app_version <= removal->second.until);
}

/// An agent is back, or will never be: what it brought of apps that were removed meanwhile is killed, and the kill is stored.
void Orchestrator::Impl::reap_removed(const AgentId& agent, bool complete, Now now) {
  for (auto at = removed.begin(); at != removed.end();) {
    auto& [app, removal] = *at;
    if (complete)
      for (const auto* task : cluster.tasks_of(app))
        if (task->agent == agent && !is_terminal(task->status.state) && to_be_reaped(*task)) stop_task(*task, now, true);
    removal.missing.erase(agent);
    if (!removal.missing.empty()) {
      ++at;
      continue;
    }
    background.remove.push_back(key("removed", app));
    at = removed.erase(at);
  }
}

/// Every agent is back: what was to be killed and is with none of them ended while nobody led. But those of nodes that are not known: such a node was
/// called down, and may yet come; once it has it is known.
void Orchestrator::Impl::drop_done_kills() {
  std::erase_if(kills, [&](const auto& kill) {
    bool waits = cluster.task(kill.first) || (!kill.second.empty() && !cluster.agent(kill.second));
    if (!waits) background.remove.push_back("kills/" + kill.first.str());
    return !waits;
  });
}

void Orchestrator::on_events(const std::vector<cluster::Event>& events, Now now) {
  auto& i = *impl_;
  for (const auto& event : events) {
    switch (event.kind) {
      case Kind::task_changed:
      case Kind::task_adopted: i.on_task(event, now); break;
      case Kind::task_gone: i.on_gone(event, now); break;
      case Kind::agent_complete:
        i.catalog.complete(event.agent);
        for (const auto& id : std::exchange(i.adopted_aside, {}))
          if (auto left = i.left_rotation.find(id); left != i.left_rotation.end()) left->second = i.catalog.pending();
        i.awaited.erase(event.agent);
        i.reap_removed(event.agent, true, now);
        if (i.awaited.empty()) i.drop_done_kills();
        [[fallthrough]];
      case Kind::agent_joined:
        i.cluster.set_draining(event.agent, i.draining.contains(event.agent));
        i.publish_node(event.agent);
        i.enroll(event.agent);
        i.touch_waiting();
        break;
      case Kind::agent_unreachable:
        std::erase_if(i.lost_agents, [&](const auto& lost) { return lost.second == event.agent; });  // one node that comes and goes is one loss
        i.lost_agents.emplace_back(now.mono, event.agent);
        i.publish_node(event.agent);
        break;
      case Kind::agent_removed:
        i.publish_node(event.agent);
        i.awaited.erase(event.agent);
        i.reap_removed(event.agent, false, now);
        if (i.registry.erase(event.agent)) i.background.remove.push_back("agents/" + event.agent.str());
        break;
      case Kind::agent_disconnected:
      case Kind::agent_changed: break;
    }
  }
}

}  // namespace croft::orchestrator
