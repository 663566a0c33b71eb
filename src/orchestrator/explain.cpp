// Why things are as they are, in sentences; and the views that the faces show.

#include <algorithm>

#include "base/text.hpp"
#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

namespace {

QueueItem item_of(const AppId& app, const std::string& version, const Waiting& w) {
  QueueItem item;
  item.app = app;
  item.version = version;
  item.count = w.count;
  item.since = w.since;
  item.agents_considered = w.considered;
  item.refused = w.refused;
  item.by_reason = w.by_reason;
  return item;
}

std::string hostname_of(const cluster::Cluster& cluster, const AgentId& id) {
  const auto* agent = cluster.agent(id);
  return agent ? agent->info.hostname : id.str();
}

std::string are(std::size_t n) { return fmt::format("{} {}", n, n == 1 ? "is" : "are"); }

/// How many there are. In the middle of an update the new ones and those that they are to take the place of are told apart: a sum of both says nothing.
std::string census(const App& app, const cluster::TaskCounts& all, const std::vector<const cluster::Task*>& tasks) {
  cluster::TaskCounts present;
  std::size_t earlier = 0;
  for (const auto* task : tasks) {
    if (task->goal != link::Goal::run) continue;
    auto state = task->status.state;
    bool runs = state == TaskState::running, starts = state == TaskState::staging || state == TaskState::starting;
    if (task->spec.app_version < app.last_config_change) {
      earlier += runs;
      continue;
    }
    present.running += runs;
    present.staged += starts;
    present.healthy += runs && task->status.healthy == true;
  }
  auto checked = !app.health_checks.empty();
  if (earlier == 0) return fmt::format("{} of {} instances run, {} starting{}.", all.running, app.instances, are(all.staged), checked ? fmt::format(", {} healthy", are(all.healthy)) : "");
  return fmt::format("An update is under way: {} of {} instances of the new version run, {} starting{}; {} of the version before still {}.", present.running, app.instances, are(present.staged),
                     checked ? fmt::format(", {} healthy", are(present.healthy)) : "", earlier, earlier == 1 ? "serves" : "serve");
}

/// What keeps instances from starting.
void tell_waiting(const App& app, const AppView& v, std::vector<std::string>& out) {
  if (!v.queue) return;
  const auto& q = *v.queue;
  if (q.delay_left.count() > 0) {
    out.push_back(fmt::format("{} {} held back for {} s more after {} {} in a row (backoffSeconds {}, backoffFactor {}, maxLaunchDelaySeconds {}).", q.count, q.count == 1 ? "instance is" : "instances are",
                              print_number(to_seconds(q.delay_left)), q.failures, q.failures == 1 ? "failure" : "failures", app.backoff.count(), print_number(app.backoff_factor), app.max_launch_delay.count()));
  } else if (!q.refused.empty()) {
    out.push_back(fmt::format("{} {} for room:", q.count, q.count == 1 ? "instance waits" : "instances wait"));
    auto by_host = q.refused;
    std::ranges::stable_sort(by_host, {}, [](const auto& r) { return r.hostname; });
    for (const auto& r : by_host) out.push_back(fmt::format("{} cannot take one: it {} ({}).", r.hostname, r.detail, cluster::to_string(r.reason)));
  } else if (q.agents_considered == 0) {
    out.push_back("No node has registered, so there is nowhere to run it.");
  }
}

/// A path that is wrong answers with 404, and no grace helps. What is asked for stands before the answer: "GET /health: HTTP 404".
bool was_answered(std::string_view cause) { return cause.find(": HTTP ") != std::string_view::npos; }

void tell_task(const App& app, const cluster::Task& task, std::vector<std::string>& out) {
  const auto& id = task.spec.id;
  const auto& status = task.status;
  if (task.quarantined) out.push_back(fmt::format("Task {} is quarantined: a node reports it, the store does not know its app.", id));
  else if (task.goal == link::Goal::drain) out.push_back(fmt::format("Task {} is draining: out of rotation, its open requests may end.", id));
  else if (status.state == TaskState::unreachable) out.push_back(fmt::format("Task {} is on a node that does not answer.", id));
  else if (status.healthy == false) out.push_back(fmt::format("Task {} is unhealthy: {}", id, status.last_check_failure));
  else if (!status.healthy && !status.last_check_failure.empty() && !app.health_checks.empty())
    out.push_back(fmt::format("Task {} has not passed its check yet: {}. In its first {} s (gracePeriodSeconds) that does not count.", id, status.last_check_failure, app.health_checks[0].grace.count() / 1000));
  if (status.state == TaskState::running && !status.message.empty()) out.push_back(fmt::format("Task {} runs on, but {}. Raise mem, or have it use less.", id, status.message));
}

void tell_tasks(const App& app, const std::vector<const cluster::Task*>& tasks, std::vector<std::string>& out) {
  bool refused = false, answered = false;
  for (const auto* task : tasks) {
    bool failing = task->status.healthy != true;
    refused = refused || (failing && task->status.last_check_failure.find("onnection refused") != std::string::npos);
    answered = answered || (failing && was_answered(task->status.last_check_failure));
    tell_task(app, *task, out);
  }
  if (refused)
    out.push_back(app.container == ContainerType::none ? "Nothing listens on the port that is checked: the command has to listen on $PORT0 (portDefinitions name more)."
                                                       : "Nothing listens on the port that is checked: in the container it is the containerPort of portMappings, with host networking $PORT0.");
  if (answered) out.push_back("It answers what is asked for, but not with a status of 200 to 399: see healthChecks.path.");
}

void tell_last_failure(const App& app, const TaskFailure& f, std::vector<std::string>& out) {
  bool earlier = f.version < app.last_config_change;
  out.push_back(fmt::format("Last failure{}, {} on {}: {} ({}).", earlier ? " (of an earlier version)" : "", to_iso8601(f.at), f.host.empty() ? "a node that was given up" : f.host, f.message, wire_name(f.state)));
  if (earlier) return;  // what would have helped that one is no advice for this one
  if (f.message.starts_with("Command exited with status")) {
    const char* words = f.message.ends_with(" 127") ? "Its command was not found, or one that it calls. Its last words" : f.message.ends_with(" 126") ? "Its command may not be run. Its last words" : "Its last words";
    out.push_back(fmt::format("{}: croft logs {} --query 'task:\"{}\"'", words, app.id, f.task));
  }
  if (f.reason.find("MEMORY") != std::string::npos || f.message.find(" of mem") != std::string::npos) out.push_back(fmt::format("Raise mem: it is {} MiB.", print_number(from_milli(app.resources.mem))));
}

/// The newest task that its check killed, and which field of the manifest to look at. Its time comes back.
std::optional<Wall> tell_killed_by_check(const App& app, const cluster::Cluster& cluster, std::vector<std::string>& out) {
  for (const auto& task : cluster.ended()) {
    if (task->spec.app != app.id || task->status.reason.find("HEALTH") == std::string::npos || task->spec.app_version < app.last_config_change) continue;
    out.push_back(fmt::format("A task was killed by its health check: {}", task->status.message));
    bool answered = was_answered(task->status.message);
    if (answered) out.push_back("It answered, but not with a status of 200 to 399: see healthChecks.path.");
    for (const auto& c : app.health_checks)
      out.push_back(fmt::format("If it needs longer to start{}, raise healthChecks.gracePeriodSeconds: it is {}.", answered ? " before it answers rightly" : "", c.grace.count() / 1000));
    return task->status.at;
  }
  return std::nullopt;
}

}  // namespace

std::vector<QueueItem> Orchestrator::queue(Now now) const {
  std::vector<QueueItem> out;
  for (const auto& [id, w] : impl_->waiting)
    if (auto v = view(id, now); v.queue) out.push_back(*v.queue);
  return out;
}

AppView Orchestrator::view(const AppId& id, Now now, const AppView* before) const {
  const auto& i = *impl_;
  AppView v;
  auto at = i.apps.find(id);
  if (at == i.apps.end()) return v;
  const auto& app = at->second;
  auto same = [&](const App& a) { return a.version == app.version && a.last_scaling == app.last_scaling && a.last_config_change == app.last_config_change; };
  v.app = before && before->app && same(*before->app) ? before->app : std::make_shared<const App>(app);
  v.tasks = i.cluster.ids_of(id);
  v.counts = i.cluster.counts_of(id);
  for (const auto& d : i.order)
    if (i.deployments.at(d)->target.contains(id)) v.deployments.push_back(d);
  if (auto failure = i.failures.find(id); failure != i.failures.end()) v.last_failure = failure->second;
  if (auto w = i.waiting.find(id); w != i.waiting.end() && w->second.count > 0) {
    v.queue = item_of(id, at->second.version, w->second);
    v.queue->delay_left = i.delay_left(at->second, now);
    if (auto b = i.backoffs.find(id); b != i.backoffs.end()) v.queue->failures = b->second.failures;
  }
  if (auto versions = i.versions.find(id); versions != i.versions.end())
    for (auto version = versions->second.rbegin(); version != versions->second.rend(); ++version) v.versions.push_back(version->first);
  return v;
}

std::vector<std::string> Orchestrator::explain(const AppId& id, Now now) const {
  const auto& i = *impl_;
  std::vector<std::string> out;
  auto at = i.apps.find(id);
  if (at == i.apps.end()) {
    if (i.stopping.contains(id)) out.push_back(fmt::format("{} was removed; its last tasks are ending.", id));
    else out.push_back(fmt::format("There is no app {}.", id));
    for (const auto* task : i.cluster.tasks_of(id))
      if (task->quarantined) out.push_back(fmt::format("Task {} of it runs all the same, on {}: a node reports it, the store does not know it. Deploy the app again to take it, or end it: croft task kill {}", task->spec.id,
                                                       hostname_of(i.cluster, task->agent), task->spec.id));
    return out;
  }
  const auto& app = at->second;
  auto v = view(id, now);
  auto tasks = i.cluster.tasks_of(id);
  if (v.counts.running >= app.instances && !v.queue && v.counts.unhealthy == 0 && v.deployments.empty())
    out.push_back(app.instances == 0 ? "It is suspended: instances is 0." : fmt::format("It runs as wanted: {} of {} instances.", v.counts.running, app.instances));
  else
    out.push_back(census(app, v.counts, tasks));
  tell_waiting(app, v, out);
  if (auto p = i.progress.find(id); p != i.progress.end()) out.push_back(p->second);
  if (i.held_back(id, now) > 0) out.push_back(fmt::format("{} instances are charged to nodes that have not come back since this leader took over.", i.held_back(id, now)));
  if (i.brake(now)) out.push_back("Too many nodes were lost within a minute: nothing is replaced before they are back, or a minute is over.");
  std::map<AgentId, std::size_t> moving;
  for (const auto* task : tasks)
    if (task->goal == link::Goal::run && !is_terminal(task->status.state) && i.draining.contains(task->agent)) ++moving[task->agent];
  for (const auto& [node, count] : moving) {
    out.push_back(fmt::format("{} is draining: {} of the instances {} there until others serve elsewhere.", hostname_of(i.cluster, node), count, count == 1 ? "stays" : "stay"));
  }
  tell_tasks(app, tasks, out);
  auto failed_at = Wall{};
  if (v.last_failure) {
    failed_at = v.last_failure->at;
    tell_last_failure(app, *v.last_failure, out);
  }
  if (auto killed = tell_killed_by_check(app, i.cluster, out)) failed_at = std::max(failed_at, *killed);
  for (const auto& d : v.deployments) {
    const auto& deployment = *i.deployments.at(d);
    out.push_back(fmt::format("Deployment {} is at step {} of {}{}.{}", d, std::min(deployment.current + 1, deployment.steps.size()), deployment.steps.size(),
                              deployment.behind.empty() ? "" : ", behind the removal of the same id",
                              failed_at >= deployment.started ? fmt::format(" It goes on until it succeeds. To undo it: croft deployment rollback {}", d) : ""));
  }
  return out;
}

/// The promises that must hold at every moment; for tests and the simulator.
std::string Orchestrator::audit(Now) const {
  const auto& i = *impl_;
  if (auto wrong = i.cluster.audit(); !wrong.empty()) return wrong;
  if (i.order.size() != i.deployments.size()) return "deployments and their order differ";
  std::map<AppId, std::size_t> running;
  for (const auto& id : i.order)
    for (const auto& [app, target] : i.deployments.at(id)->target)
      if (++running[app] > 1 && i.deployments.at(id)->behind.empty()) return fmt::format("two deployments work on {}", app);
  for (const auto& [id, app] : i.apps) {
    auto t = i.tally(id);
    // Those that are away may be more than are wanted: they are dealt with when they are back.
    std::erase_if(t.current, [](const cluster::Task* task) { return task->status.state == TaskState::unreachable; });
    auto d = i.deployment_of(id);
    auto over = d ? app.upgrade.maximum_over_capacity : 0.0;
    auto most = std::max<std::size_t>(app.instances, static_cast<std::size_t>(static_cast<double>(app.instances) * (1 + over))) + 1;
    if (t.current.size() > most) return fmt::format("{} has {} tasks of its present configuration, at most {} are allowed", id, t.current.size(), most);
  }
  return {};
}

}  // namespace croft::orchestrator
