// What is stored, and how it comes back.

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "orchestrator/app_json.hpp"
#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

namespace {

constexpr int format_version = 1;
constexpr Millis kill_kept = std::chrono::days(30);

void write_apps(JsonWriter& w, std::string_view key, const std::map<AppId, std::optional<App>>& apps) {
  w.key(key).begin_object();
  for (const auto& [id, app] : apps) {
    w.key(id.str());
    if (app) w.raw(encode_app(*app));
    else w.null();
  }
  w.end_object();
}

Result<std::map<AppId, std::optional<App>>> read_apps(const json::value& from, std::string_view key) {
  std::map<AppId, std::optional<App>> out;
  for (const auto& member : json::members(from, key)) {
    AppId id{std::string_view(member.key())};
    if (member.value().is_null()) {
      out[id] = std::nullopt;
      continue;
    }
    auto app = decode_app(json::print(member.value()));
    if (!app) return fail(std::move(app).error().within(id.str()));
    out[id] = std::move(*app);
  }
  return out;
}

}  // namespace

std::string Orchestrator::Impl::encode(const Deployment& d) {
  JsonWriter w;
  w.begin_object().field("format", format_version).field("id", d.id).field("version", d.version).field("started_ms", d.started.time_since_epoch().count());
  w.key("steps").begin_array();
  for (const auto& step : d.steps) {
    w.begin_array();
    for (const auto& action : step) w.begin_object().field("kind", static_cast<int>(action.kind)).field("app", action.app).end_object();
    w.end_array();
  }
  w.end_array();
  write_apps(w, "original", d.original);
  write_apps(w, "target", d.target);
  w.key("victims").begin_object();
  for (const auto& [app, tasks] : d.victims) {
    w.key(app.str()).begin_array();
    for (const auto& task : tasks) w.value(task);
    w.end_array();
  }
  w.end_object().key("behind").begin_array();
  for (const auto& id : d.behind) w.value(id);
  w.end_array().end_object();
  return std::move(w).take();
}

Result<Deployment> Orchestrator::Impl::decode_deployment(std::string_view text) {
  auto parsed = json::parse(text);
  if (!parsed) return fail(std::move(parsed).error());
  const auto& v = *parsed;
  if (json::integer(v, "format") > format_version) return fail(Errc::invalid, "written by a newer croft (format {})", json::integer(v, "format"));
  Deployment d;
  d.id = DeploymentId(json::text(v, "id"));
  d.version = json::text(v, "version");
  d.started = Wall(Millis(json::integer(v, "started_ms")));
  for (const auto& step : json::list(v, "steps")) {
    auto& out = d.steps.emplace_back();
    if (!step.is_array()) continue;
    for (const auto& action : step.get_array())
      out.push_back({static_cast<ActionKind>(std::clamp<std::int64_t>(json::integer(action, "kind"), 0, 3)), AppId(json::text(action, "app"))});
  }
  auto original = read_apps(v, "original"), target = read_apps(v, "target");
  if (!original) return fail(original.error());
  if (!target) return fail(target.error());
  d.original = std::move(*original);
  d.target = std::move(*target);
  for (const auto& member : json::members(v, "victims"))
    for (auto& task : json::texts(json::members(v, "victims"), member.key())) d.victims[AppId(std::string_view(member.key()))].emplace_back(std::move(task));
  for (auto& id : json::texts(v, "behind")) d.behind.emplace_back(std::move(id));
  return d;
}

std::string Orchestrator::Impl::kill_record(const AgentId& agent, Now now) {
  return json::print(json::object{{"agent", agent.str()}, {"at_ms", now.wall.time_since_epoch().count()}});
}

/// Where the agent is found: one that has lost its disk is known again by that, also to a leader that has never seen it.
void Orchestrator::Impl::enroll(const AgentId& id) {
  const auto* agent = cluster.agent(id);
  if (!agent) return;
  JsonWriter w;
  w.begin_object().field("format", format_version).field("hostname", agent->info.hostname).field("ip", agent->info.ip).field("port", agent->info.port).end_object();
  auto text = std::move(w).take();
  auto& known = registry[id];
  if (known == text) return;
  background.put["agents/" + id.str()] = text;
  known = std::move(text);
}

/// A deployment that had ended, and whose removal did not reach the store before the leader died: a later change of one of its apps was
/// accepted, which its lock would have refused. Carried out again it would undo that change.
void Orchestrator::Impl::drop_stale_deployments() {
  auto awaited_by_another = [&](const DeploymentId& id) {
    return std::any_of(deployments.begin(), deployments.end(), [&](const auto& e) { return std::find(e.second->behind.begin(), e.second->behind.end(), id) != e.second->behind.end(); });
  };
  for (auto at = deployments.begin(); at != deployments.end();) {
    const auto& d = *at->second;
    bool stale = false;
    for (const auto& [app, target] : d.target) {
      auto known = apps.find(app);
      if (target) stale = stale || known == apps.end() || known->second.version > std::max(d.version, target->version);
      else stale = stale || (known != apps.end() && !awaited_by_another(at->first));
    }
    if (!stale) {
      ++at;
      continue;
    }
    background.remove.push_back("deployments/" + at->first.str());
    at = deployments.erase(at);
  }
}

Status Orchestrator::load(const std::map<std::string, std::string>& stored, Now now) {
  auto& i = *impl_;
  for (const auto& [key, text] : stored) {
    auto slash = key.find('/');
    auto kind = key.substr(0, slash);
    auto name = slash == std::string::npos ? std::string() : key.substr(slash);
    if (kind == "apps" || kind == "versions") {
      auto app = decode_app(text);
      if (!app) return fail(std::move(app).error().within(key));
      i.last_version = std::max(i.last_version, app->version);
      if (kind == "apps") i.apps[app->id] = *app;
      i.versions[app->id][app->version] = *app;
    } else if (kind == "deployments") {
      auto d = Impl::decode_deployment(text);
      if (!d) return fail(std::move(d).error().within(key));
      i.last_version = std::max(i.last_version, d->version);
      auto shared = std::make_shared<const Deployment>(std::move(*d));
      i.deployments[shared->id] = shared;
    } else if (kind == "rules") {
      auto rule = json::parse(text);
      if (!rule) return fail(std::move(rule).error().within(key));
      AppId app(name);
      i.rules[app] = {app, json::text(*rule, "acl")};
      i.catalog.set(i.rules[app]);
    } else if (kind == "kills") {
      auto record = json::parse(text);
      if (!record) return fail(std::move(record).error().within(key));
      // Of a node that was called down and has not come since: it will not.
      auto at = json::integer(*record, "at_ms");
      if (AgentId agent(json::text(*record, "agent")); at > 0 && now.wall - Wall(Millis(at)) > kill_kept && !stored.contains("agents/" + agent.str())) i.background.remove.push_back(key);
      else i.kills.emplace(name.substr(1), agent);
    } else if (kind == "nodes") {
      i.draining.emplace(name.substr(1));
    } else if (kind == "removed") {
      auto record = json::parse(text);
      if (!record) return fail(std::move(record).error().within(key));
      i.removed[AppId(name)].until = json::text(*record, "until");
    } else if (kind == "agents") {
      auto record = json::parse(text);
      if (!record) return fail(std::move(record).error().within(key));
      AgentId agent(name.substr(1));
      i.cluster.expect(agent, json::text(*record, "hostname"), json::text(*record, "ip"), static_cast<std::uint16_t>(json::integer(*record, "port")));
      i.registry.emplace(agent, text);
    }
  }
  i.drop_stale_deployments();
  for (auto at = i.removed.begin(); at != i.removed.end();) {
    for (const auto& [agent, record] : i.registry) at->second.missing.insert(agent);
    if (!at->second.missing.empty() && (!i.apps.contains(at->first) || !at->second.until.empty())) {
      ++at;
      continue;
    }
    i.background.remove.push_back(Impl::key("removed", at->first));
    at = i.removed.erase(at);
  }
  for (const auto& [id, d] : i.deployments) {
    i.order.push_back(id);
    for (const auto& [app, target] : d->target) i.touch(app);
    for (const auto& [app, target] : d->target)
      if (!target && d->original.at(app) && !i.apps.contains(app)) i.stopping[app] = *d->original.at(app);
  }
  std::sort(i.order.begin(), i.order.end(), [&](const auto& a, const auto& b) { return i.deployments.at(a)->version < i.deployments.at(b)->version; });
  std::vector<AppId> known;
  for (const auto* all : {&i.apps, &i.stopping})
    for (const auto& [id, app] : *all) known.push_back(id);
  i.cluster.set_known_apps(known);
  for (const auto& [id, app] : i.apps) {
    i.publish_service(id);
    i.touch(id);
    if (!i.registry.empty()) i.held[id] = app.instances;
  }
  // In the middle of a deployment there may be more: as many as before it, or as its strategy allows on top.
  for (const auto& [id, d] : i.deployments)
    for (const auto& [app, target] : d->target) {
      auto held = i.held.find(app);
      if (held == i.held.end() || !target) continue;
      const auto& original = d->original.at(app);
      held->second = std::max({held->second, original ? original->instances : 0u, Impl::capacity_of(*target) + 1});
    }
  for (const auto& [id, app] : i.stopping) i.touch(id);
  for (const auto& [agent, record] : i.registry) i.awaited.insert(agent);
  i.loaded_version = i.last_version;
  i.holding = !i.registry.empty();
  i.held_until = now.mono + Millis(10'000);
  i.ticked = now.mono;
  i.balancers_back = now.mono + (i.registry.empty() ? 1 : 2) * i.options.balancer_lease;  // of a new farm nobody has to notice that leaders changed
  return {};
}

}  // namespace croft::orchestrator
