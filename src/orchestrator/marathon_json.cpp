#include "orchestrator/marathon_json.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"

namespace croft::orchestrator {

namespace {

std::string_view action_name(ActionKind kind) {
  static constexpr std::string_view names[] = {"StartApplication", "ScaleApplication", "RestartApplication", "StopApplication"};
  return names[static_cast<std::size_t>(kind)];
}

const cluster::Agent* agent_of(const View& view, const AgentId& id) {
  auto at = std::lower_bound(view.agents.begin(), view.agents.end(), id, [](const auto& a, const AgentId& b) { return a->id < b; });
  return at != view.agents.end() && (*at)->id == id ? at->get() : nullptr;
}

void write_health(JsonWriter& w, const cluster::Task& task) {
  if (task.spec.health_checks.empty() || !task.status.healthy) return;
  w.key("healthCheckResults").begin_array().begin_object();
  w.field("alive", *task.status.healthy).field("consecutiveFailures", task.status.check_failures);
  w.field(*task.status.healthy ? "lastSuccess" : "lastFailure", to_iso8601(task.status.at));
  if (!*task.status.healthy) w.field("lastFailureCause", task.status.last_check_failure);
  w.field("instanceId", task.spec.id).field("taskId", task.spec.id).end_object().end_array();
}

/// Of the instances that a deployment of the app brings, as Marathon has it: without one the list is empty. What the check was answered is not kept.
void write_readiness(JsonWriter& w, const View& view, const AppView& app) {
  w.begin_array();
  for (const auto& id : *app.tasks) {
    const auto* task = view.tasks.find(id);
    if (!task || app.deployments.empty()) continue;
    const auto& t = **task;
    if (t.spec.readiness_checks.empty() || t.status.state != TaskState::running || t.goal != link::Goal::run || t.spec.app_version < app.app->last_config_change) continue;
    w.begin_object().field("name", t.spec.readiness_checks[0].name).field("taskId", id).field("ready", t.status.ready).end_object();
  }
  w.end_array();
}

void write_failure(JsonWriter& w, const TaskFailure& f) {
  w.key("lastTaskFailure").begin_object().field("appId", f.app).field("host", f.host).field("message", f.message).field("state", wire_name(f.state));
  w.field("taskId", f.task).field("timestamp", to_iso8601(f.at)).field("version", f.version).field("slaveId", f.agent).end_object();
}

}  // namespace

void write_step(JsonWriter& w, const Step& step, bool both) {
  w.begin_object().key("actions").begin_array();
  for (const auto& a : step) {
    w.begin_object().field("action", action_name(a.kind));
    if (both) w.field("type", action_name(a.kind));
    w.field("app", a.app).end_object();
  }
  w.end_array().end_object();
}

static void write_task_fields(JsonWriter& w, const cluster::Task& task, const View& view, bool with_service_ports) {
  const auto* agent = agent_of(view, task.agent);
  bool leaving = task.goal != link::Goal::run && task.status.state == TaskState::running;
  w.field("id", task.spec.id).field("appId", task.spec.app).field("host", agent ? agent->info.hostname : "");
  w.key("ports").begin_array();
  for (const auto& p : task.spec.ports)
    if (p.host_port) w.value(p.host_port);
  w.end_array();
  if (with_service_ports) {
    w.key("servicePorts").begin_array();
    for (const auto& p : task.spec.ports) w.value(p.service_port);
    w.end_array();
  }
  w.key("ipAddresses").begin_array();
  auto ip = task.status.container_ip ? *task.status.container_ip : agent ? agent->info.ip : std::string();
  if (!ip.empty()) w.begin_object().field("ipAddress", ip).field("protocol", "IPv4").end_object();
  w.end_array().field("slaveId", task.agent).field("state", wire_name(leaving ? TaskState::killing : task.status.state)).field("stagedAt", to_iso8601(task.staged_at));
  w.key("startedAt");
  if (task.status.started_at) w.value(to_iso8601(*task.status.started_at));
  else w.null();
  w.field("version", task.spec.app_version);
  write_health(w, task);
  w.key("localVolumes").begin_array().end_array().field("role", task.spec.role);
}

void write_task(JsonWriter& w, const cluster::Task& task, const View& view, bool with_service_ports) {
  w.begin_object();
  write_task_fields(w, task, view, with_service_ports);
  w.end_object();
}

void write_app_info(JsonWriter& w, const View& view, const AppView& app, Embed embed) {
  w.begin_object();
  write_app_fields(w, *app.app, true);
  w.field("tasksStaged", app.counts.staged).field("tasksRunning", app.counts.running).field("tasksHealthy", app.counts.healthy).field("tasksUnhealthy", app.counts.unhealthy);
  w.key("deployments").begin_array();
  for (const auto& id : app.deployments) w.begin_object().field("id", id).end_object();
  w.end_array();
  if (embed.readiness) write_readiness(w.key("readinessCheckResults"), view, app);
  if (embed.failure && app.last_failure) write_failure(w, *app.last_failure);
  if (embed.tasks) {
    w.key("tasks").begin_array();
    for (const auto& id : *app.tasks)
      if (const auto* task = view.tasks.find(id); task && !is_terminal((*task)->status.state)) write_task(w, **task, view, true);
    w.end_array();
  }
  if (embed.stats) write_stats(w, view, app);
  w.end_object();
}

void write_deployment(JsonWriter& w, const View& view, const Deployment& d) {
  w.begin_object().field("id", d.id).field("version", d.version).key("affectedApps").begin_array();
  for (const auto& [app, target] : d.target) w.value(app);
  w.end_array().key("affectedPods").begin_array().end_array().key("steps").begin_array();
  for (const auto& step : d.steps) write_step(w, step, false);
  w.end_array().key("currentActions").begin_array();
  if (d.current < d.steps.size())
    for (const auto& a : d.steps[d.current]) {
      w.begin_object().field("action", action_name(a.kind)).field("app", a.app).key("readinessCheckResults");
      const auto* app = view.apps.find(a.app);
      if (app) write_readiness(w, view, **app);
      else w.begin_array().end_array();
      w.end_object();
    }
  w.end_array().field("currentStep", std::min(d.current + 1, d.steps.size())).field("totalSteps", d.steps.size()).end_object();
}

namespace {

/// The funnel: of each step, how many agents came to it and how many it declined.
void write_rejections(JsonWriter& w, std::string_view key, const QueueItem& q) {
  w.key(key).begin_array();
  std::size_t left = q.agents_considered;
  for (std::size_t i = 0; i < q.by_reason.size(); ++i) {
    w.begin_object().field("reason", cluster::to_string(static_cast<cluster::Refusal>(i))).field("declined", q.by_reason[i]).field("processed", left).end_object();
    left -= std::min<std::size_t>(left, q.by_reason[i]);
  }
  w.end_array();
}

void write_offer(JsonWriter& w, const View& view, const cluster::Refused& r) {
  const auto* agent = agent_of(view, r.agent);
  w.begin_object().key("offer").begin_object().field("id", r.agent).field("agentId", r.agent).field("hostname", r.hostname).key("resources").begin_array();
  if (agent) {
    auto free = agent->info.total - agent->used;
    auto scalar = [&](std::string_view name, Milli amount) {
      w.begin_object().field("name", name).field("role", "*").field("scalar", from_milli(std::max<Milli>(amount, 0))).end_object();
    };
    scalar("cpus", free.cpus), scalar("mem", free.mem), scalar("disk", free.disk), scalar("gpus", free.gpus);
    w.begin_object().field("name", "ports").field("role", "*").key("ranges").begin_array();
    for (const auto& range : agent->free_ports.ranges()) w.begin_object().field("begin", range.begin).field("end", range.end).end_object();
    w.end_array().end_object();
  }
  w.end_array().key("attributes").begin_array();
  if (agent)
    for (const auto& [name, value] : agent->info.attributes) w.begin_object().field("name", name).field("text", value).end_object();
  w.end_array().end_object().key("reason").begin_array().value(cluster::to_string(r.reason)).end_array().field("timestamp", to_iso8601(view.made)).end_object();
}

}  // namespace

void write_queue_item(JsonWriter& w, const View& view, const AppView& app, bool unused_offers) {
  const auto& q = *app.queue;
  w.begin_object().field("count", q.count).field("role", app.app->role).key("delay").begin_object();
  w.field("timeLeftSeconds", (q.delay_left.count() + 999) / 1000).field("overdue", q.delay_left.count() == 0).end_object();
  w.field("since", to_iso8601(q.since)).key("processedOffersSummary").begin_object();
  auto refused = std::accumulate(q.by_reason.begin(), q.by_reason.end(), std::size_t{0});
  w.field("processedOffersCount", q.agents_considered).field("unusedOffersCount", refused);
  if (refused > 0) w.field("lastUnusedOfferAt", to_iso8601(view.made));
  write_rejections(w, "rejectSummaryLastOffers", q);
  write_rejections(w, "rejectSummaryLaunchAttempt", q);
  w.end_object();
  if (unused_offers) {
    w.key("lastUnusedOffers").begin_array();
    for (const auto& r : q.refused) write_offer(w, view, r);
    w.end_array();
  }
  w.key("app").begin_object();
  write_app_fields(w, *app.app, true);
  w.end_object().end_object();
}

void write_group(JsonWriter& w, const View& view, const std::string& path, const GroupEmbed& embed) {
  auto prefix = path == "/" ? std::string("/") : path + "/";
  std::set<std::string> groups;
  w.begin_object().field("id", path);
  if (embed.apps) w.key("apps").begin_array();
  view.apps.for_each([&](const AppId& id, const auto& app) {
    if (!id.str().starts_with(prefix)) return;
    auto slash = id.str().find('/', prefix.size());
    if (slash != std::string::npos) groups.insert(id.str().substr(0, slash));
    else if (embed.apps) write_app_info(w, view, *app, embed.app);
  });
  if (embed.apps) w.end_array();
  if (embed.pods) w.key("pods").begin_array().end_array();
  if (embed.groups) {
    w.key("groups").begin_array();
    for (const auto& group : groups) write_group(w, view, group, embed);
    w.end_array();
  }
  w.key("dependencies").begin_array().end_array().field("version", view.group_version).end_object();
}

void write_overview(JsonWriter& w, const View& view, bool hosts) {
  auto resources = [&](std::string_view key, const Resources& r) {
    w.key(key).begin_object().field("cpus", from_milli(r.cpus)).field("mem", from_milli(r.mem)).field("disk", from_milli(r.disk)).end_object();
  };
  w.begin_object().field("cluster", view.cluster_id).field("leader", view.leader).field("version", view.version).field("epoch", view.epoch);
  w.key("hosts").begin_array();
  for (const auto& a : view.agents) {
    if (!hosts) break;
    w.begin_object().field("id", a->id).field("hostname", a->info.hostname).field("ip", a->info.ip).field("port", a->info.port).field("reachable", a->reachable).field("draining", a->draining);
    w.field("tasks", a->tasks).field("docker", a->info.docker);
    if (a->info.docker) {
      w.key("engine").begin_array();
      for (const auto& fact : a->info.engine) w.value(fact);
      w.end_array();
    }
    resources("resources", a->info.total);
    resources("used", a->used);
    w.end_object();
  }
  w.end_array().key("apps").begin_array();
  view.apps.for_each([&](const AppId& id, const auto& app) {
    w.begin_object().field("id", id).field("instances", app->app->instances).field("running", app->counts.running).field("healthy", app->counts.healthy);
    w.field("unhealthy", app->counts.unhealthy).field("staged", app->counts.staged).field("deploying", !app->deployments.empty()).field("waiting", app->queue ? app->queue->count : 0);
    w.key("tasks").begin_array();
    for (const auto& task : *app->tasks)
      if (const auto* t = view.tasks.find(task)) {
        w.begin_object();
        write_task_fields(w, **t, view, true);
        if ((*t)->goal != link::Goal::run) w.field("draining", true);
        w.end_object();
      }
    w.end_array().end_object();
  });
  w.end_array().key("rules").begin_array();
  for (const auto& r : view.rules) w.begin_object().field("app", r->app).field("acl", r->acl).end_object();
  w.end_array().key("balancers").begin_array();
  for (const auto& b : view.balancers) w.begin_object().field("id", b.id).field("host", b.host).end_object();
  w.end_array().key("deployments").begin_array();
  for (const auto& d : view.deployments) write_deployment(w, view, *d);
  w.end_array().end_object();
}

net::Response deployed(const Accepted& accepted, int status) {
  JsonWriter w;
  w.begin_object().field("version", accepted.version).field("deploymentId", accepted.deployment).end_object();
  auto response = net::Response::json(std::move(w).take(), status);
  if (!accepted.deployment.empty()) response.headers.set("Marathon-Deployment-Id", accepted.deployment.str());
  return response;
}

net::Response refused(const Refusal& refusal) {
  int status = 500;
  switch (refusal.error.code) {
    case Errc::invalid: status = 422; break;
    case Errc::not_found: status = 404; break;
    case Errc::conflict: status = 409; break;
    case Errc::forbidden: status = 403; break;
    case Errc::too_large: status = 413; break;
    case Errc::unavailable: case Errc::not_leader: case Errc::timeout: case Errc::unknown_outcome: status = 503; break;
    default: break;
  }
  if (refusal.of_rights) {
    JsonWriter w;
    w.begin_object().field("message", "Not Authorized to perform this action!").field("details", refusal.error.context).end_object();
    return net::Response::json(std::move(w).take(), status);
  }
  if (refusal.locked_by.empty()) {
    if (refusal.error.code == Errc::invalid && refusal.error.context.starts_with('{')) return net::Response::json(refusal.error.context, status);
    if (refusal.field.empty()) return net::Response::message(status, refusal.error.context);
    Problems problems;
    problems.meaning(refusal.field, refusal.error.context);
    return net::Response::json(problems.json(), status);
  }
  JsonWriter w;
  w.begin_object().field("message", refusal.error.context).key("deployments").begin_array();
  for (const auto& id : refusal.locked_by) w.begin_object().field("id", id).end_object();
  w.end_array().end_object();
  return net::Response::json(std::move(w).take(), status);
}

Result<std::function<bool(const Labels&)>> parse_selector(std::string_view text) {
  using Test = std::function<bool(const Labels&)>;
  std::vector<Test> tests;
  auto bad = [&] { return fail(Errc::invalid, "Can not parse label selector '{}'. Reason: expected key, key==value, key!=value, key in (...) or key notin (...)", text); };
  std::vector<std::string> clauses{""};
  int depth = 0;
  for (char c : text) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == ',' && depth == 0) clauses.emplace_back();
    else clauses.back().push_back(c);
  }
  for (const auto& raw : clauses) {
    std::string clause(trim(raw));
    if (clause.empty()) return bad();
    auto equals = clause.find("=="), differs = clause.find("!=");
    auto open = clause.find('(');
    if (equals != std::string::npos || differs != std::string::npos) {
      bool negated = equals == std::string::npos;
      auto at = negated ? differs : equals;
      std::string key(trim(clause.substr(0, at))), value(trim(clause.substr(at + 2)));
      if (key.empty()) return bad();
      tests.push_back([key, value, negated](const Labels& l) { auto f = l.find(key); return f != l.end() && (f->second == value) != negated; });
    } else if (open != std::string::npos) {
      auto head = split(trim(clause.substr(0, open)), ' ');
      if (head.size() != 2 || (head[1] != "in" && head[1] != "notin") || clause.back() != ')') return bad();
      std::set<std::string> values;
      for (const auto& v : split(clause.substr(open + 1, clause.size() - open - 2), ',')) values.emplace(trim(v));
      tests.push_back([key = head[0], values, negated = head[1] == "notin"](const Labels& l) { auto f = l.find(key); return f != l.end() && values.contains(f->second) != negated; });
    } else {
      if (clause.find_first_of(" )=!") != std::string::npos) return bad();
      tests.push_back([clause](const Labels& l) { return l.contains(clause); });
    }
  }
  return Test([tests](const Labels& l) { return std::all_of(tests.begin(), tests.end(), [&](const Test& t) { return t(l); }); });
}

}  // namespace croft::orchestrator
