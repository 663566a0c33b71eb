// Intent: what users ask for becomes a checked proposal, then a deployment.

#include "orchestrator/orchestrator.hpp"

#include <algorithm>
#include <functional>

#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "orchestrator/app_json.hpp"
#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

Orchestrator::Orchestrator(cluster::Cluster& cluster, catalog::Publisher& catalog, Options options)
    : impl_(std::make_unique<Impl>(cluster, catalog, options)) {}
Orchestrator::~Orchestrator() = default;

std::string Orchestrator::Impl::next_version(Now now) const {
  auto version = to_iso8601(now.wall);
  if (version > last_version) return version;
  auto last = from_iso8601(last_version);
  CROFT_ASSERT(last.has_value());
  return to_iso8601(*last + Millis(1));
}

std::string Orchestrator::Impl::new_id() {
  if (options.seed == 0) return random_uuid();
  dice = dice * 6364136223846793005ull + 1442695040888963407ull;
  auto high = dice;
  dice = dice * 6364136223846793005ull + 1442695040888963407ull;
  return fmt::format("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFF, (dice >> 52) & 0xFFF, dice & 0xFFFFFFFFFFFFull);
}

/// Service ports given as 0 get a free number of the range; one that an earlier version of the app had is kept.
void Orchestrator::Impl::assign_service_ports(App& app, const std::map<AppId, std::optional<App>>& edits) const {
  auto port_of = [](PortDefinition& p, bool mapped) -> std::uint16_t& { return mapped ? p.service_port : p.port; };
  auto mapped = [](const App& a) { return !a.networks.empty() && a.networks[0].mode != NetworkMode::host; };
  std::set<std::uint16_t> taken;
  auto collect = [&](const App& a) {
    for (auto p : a.ports) taken.insert(port_of(p, mapped(a)));
  };
  for (const auto& [id, other] : apps)
    if (id != app.id && !edits.contains(id)) collect(other);
  for (const auto& [id, other] : edits)
    if (other && id != app.id) collect(*other);
  collect(app);
  auto old = apps.find(app.id);
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    auto& port = port_of(app.ports[i], mapped(app));
    if (port != 0) continue;
    if (old != apps.end() && i < old->second.ports.size() && mapped(old->second) == mapped(app)) port = port_of(const_cast<PortDefinition&>(old->second.ports[i]), mapped(app));
    for (auto p = options.service_port_min; port == 0 && p < options.service_port_max; ++p)
      if (!taken.contains(p)) port = p;
    taken.insert(port);
  }
}

std::vector<Step> Orchestrator::Impl::plan(const std::map<AppId, std::optional<App>>& from, const std::map<AppId, std::optional<App>>& to,
                                           const std::set<AppId>& restart) const {
  Step stops, starts;
  std::map<AppId, Action> work;
  for (const auto& [id, target] : to) {
    const auto& original = from.at(id);
    if (!target) {
      if (original) stops.push_back({ActionKind::stop, id});
    } else if (!original) {
      starts.push_back({ActionKind::start, id});
      work.emplace(id, Action{ActionKind::scale, id});
    } else if (restart.contains(id) || !target->same_config(*original)) {
      work.emplace(id, Action{target->instances == 0 ? ActionKind::scale : ActionKind::restart, id});
    } else if (target->instances != original->instances) {
      work.emplace(id, Action{ActionKind::scale, id});
    }
  }
  // Level of an app: length of the longest dependency chain that starts at it, among the apps of this change.
  std::map<AppId, int> levels;
  auto depends_on = [](const AppId& dependency, const AppId& app) { return app == dependency || app.str().starts_with(dependency.str() + "/"); };
  std::function<int(const AppId&, int)> level = [&](const AppId& id, int depth) -> int {
    if (auto known = levels.find(id); known != levels.end()) return known->second;
    int deepest = 1;
    if (depth < 100)
      for (const auto& dependency : to.at(id)->dependencies)
        for (const auto& [other, action] : work)
          if (other != id && depends_on(dependency, other)) deepest = std::max(deepest, 1 + level(other, depth + 1));
    return levels[id] = deepest;
  };
  std::map<int, Step> by_level;
  for (const auto& [id, action] : work) by_level[level(id, 0)].push_back(action);
  std::vector<Step> steps;
  if (!stops.empty()) steps.push_back(stops);
  if (!starts.empty()) steps.push_back(starts);
  for (auto& [l, step] : by_level) steps.push_back(std::move(step));
  return steps;
}

/// What undoes a deployment: its apps as they were before it. Later changes of other apps stay.
Intent Orchestrator::Impl::rollback_of(const Deployment& d) const {
  Intent intent;
  intent.force = true;
  for (const auto& [id, original] : d.original) {
    if (original || apps.contains(id)) intent.apps[id] = original;
  }
  return intent;
}

static Refusal refuse(Errc code, std::string text) { return {{code, std::move(text)}, {}}; }

std::expected<Proposal, Refusal> Orchestrator::Impl::propose_rules(const Intent& intent, Now now) const {
  auto body = std::make_shared<Proposal::Body>();
  Proposal proposal;
  proposal.version = next_version(now);
  for (const auto& [app, rule] : intent.rules) {
    if (rule) {
      JsonWriter w;
      w.begin_object().field("format", 1).field("app", app).field("acl", rule->acl).end_object();
      proposal.batch.put[key("rules", app)] = std::move(w).take();
    } else {
      proposal.batch.remove.push_back(key("rules", app));
    }
  }
  body->rules = intent.rules;
  body->origin = intent.origin;
  proposal.body = std::move(body);
  return proposal;
}

std::expected<Proposal, Refusal> Orchestrator::propose(const Intent& given, Now now) const {
  auto& i = *impl_;
  if (!given.rules.empty()) return i.propose_rules(given, now);
  Intent intent = given;
  std::vector<DeploymentId> cancelled;
  if (given.cancel) {
    auto at = i.deployments.find(*given.cancel);
    if (at == i.deployments.end()) return std::unexpected(refuse(Errc::not_found, fmt::format("DeploymentPlan {} does not exist", *given.cancel)));
    cancelled.push_back(*given.cancel);
    if (!given.force) intent = i.rollback_of(*at->second);
  }
  auto body = std::make_shared<Proposal::Body>();
  Proposal proposal;
  proposal.version = i.next_version(now);
  std::set<AppId> affected;
  for (const auto& [id, app] : intent.apps) affected.insert(id);
  affected.insert(intent.restart.begin(), intent.restart.end());
  for (const auto& [id, tasks] : intent.victims) affected.insert(id);

  std::vector<DeploymentId> behind, locks;
  for (const auto& id : i.order) {
    const auto& other = *i.deployments.at(id);
    bool overlap = false, waits = true;
    for (const auto& app : affected) {
      auto theirs = other.target.find(app);
      if (theirs == other.target.end()) continue;
      overlap = true;
      waits = waits && !theirs->second && !i.apps.contains(app) && intent.apps.contains(app) && intent.apps.at(app).has_value();
    }
    if (!overlap || std::find(cancelled.begin(), cancelled.end(), id) != cancelled.end()) continue;
    if (waits) behind.push_back(id);
    else if (intent.force) cancelled.push_back(id);
    else locks.push_back(id);
  }
  if (!locks.empty())
    return std::unexpected(Refusal{{Errc::conflict, fmt::format("App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.")}, locks});
  if (i.deployments.size() - std::min(cancelled.size(), i.deployments.size()) >= i.options.deployments_max)
    return std::unexpected(refuse(Errc::forbidden, fmt::format("Max number ({}) of running deployments reached", i.options.deployments_max)));

  auto deployment = std::make_shared<Deployment>();
  deployment->id = DeploymentId(i.new_id());
  deployment->version = proposal.version;
  deployment->behind = std::move(behind);
  deployment->victims = intent.victims;
  deployment->started = now.wall;
  for (const auto& id : affected) {
    auto old = i.apps.find(id);
    std::optional<App> original = old == i.apps.end() ? std::nullopt : std::optional(old->second);
    auto wanted = intent.apps.find(id);
    std::optional<App> target = wanted == intent.apps.end() ? original : wanted->second;
    bool restart = intent.restart.contains(id);
    if (!target && !original && wanted != intent.apps.end() && !given.cancel)
      return std::unexpected(refuse(Errc::not_found, fmt::format("App '{}' does not exist", id)));
    if (target) {
      target->id = id;
      i.assign_service_ports(*target, intent.apps);
      bool config = !original || restart || !target->same_config(*original);
      bool scaled = !original || target->instances != original->instances;
      target->version = config || scaled ? proposal.version : original->version;
      target->last_config_change = config ? proposal.version : original->last_config_change;
      target->last_scaling = config || scaled ? proposal.version : original->last_scaling;
      if (config || scaled) {
        auto text = encode_app(*target);
        proposal.batch.put[Impl::key("apps", id)] = text;
        proposal.batch.put[Impl::key("versions", id) + "@" + target->version] = std::move(text);
      }
      if (config) body->reset_backoff.insert(id);
      body->apps[id] = target;
    } else if (original) {
      proposal.batch.remove.push_back(Impl::key("apps", id));
      for (const auto& [version, app] : i.versions.contains(id) ? i.versions.at(id) : std::map<std::string, App>{})
        proposal.batch.remove.push_back(Impl::key("versions", id) + "@" + version);
      body->apps[id] = std::nullopt;
    }
    deployment->original[id] = std::move(original);
    deployment->target[id] = std::move(target);
  }
  deployment->steps = i.plan(deployment->original, deployment->target, intent.restart);
  for (const auto& id : cancelled) proposal.batch.remove.push_back("deployments/" + id.str());
  bool just_drop = given.cancel && given.force;
  if (!just_drop) {
    proposal.deployment = deployment->id;
    if (!deployment->steps.empty()) proposal.batch.put["deployments/" + deployment->id.str()] = Impl::encode(*deployment);
    body->deployment = std::move(deployment);
  }
  body->cancelled = std::move(cancelled);
  body->origin = given.origin;
  body->path = given.path;
  proposal.body = std::move(body);
  return proposal;
}

void Orchestrator::apply(const Proposal& proposal, Now now) {
  auto& i = *impl_;
  const auto& body = *proposal.body;
  i.last_version = std::max(i.last_version, proposal.version);
  for (const auto& [app, rule] : body.rules) {
    if (rule) i.rules[app] = *rule, i.catalog.set(*rule);
    else i.rules.erase(app), i.catalog.remove_rule(app);
    i.emit(BusEvent::Kind::rule_changed, app, now, rule ? rule->acl : "");
    i.changed.insert(app);
  }
  for (const auto& id : body.cancelled) {
    auto at = i.deployments.find(id);
    if (at == i.deployments.end()) continue;
    auto gone = at->second;
    i.deployments.erase(at);
    std::erase(i.order, id);
    i.emit(BusEvent::Kind::deployment_failed, gone, now);
    for (const auto& [app, target] : gone->target) i.touch(app);
  }
  for (const auto& [id, app] : body.apps) {
    if (app) {
      i.apps[id] = *app;
      auto& kept = i.versions[id];
      kept[app->version] = *app;
      while (kept.size() > i.options.versions_max) {
        i.background.remove.push_back(Impl::key("versions", id) + "@" + kept.begin()->first);
        kept.erase(kept.begin());
      }
      i.cluster.app_known(id, true);
      if (i.removed.erase(id)) i.background.remove.push_back(Impl::key("removed", id));
    } else if (auto old = i.apps.extract(id)) {
      i.stopping[id] = std::move(old.mapped());
      i.versions.erase(id);
    }
    i.publish_service(id);
    i.touch(id);
  }
  for (const auto& id : body.reset_backoff) i.backoffs.erase(id);
  if (!body.deployment) return;
  auto shared = std::shared_ptr<const Deployment>(body.deployment);
  for (const auto& [id, app] : body.apps)
    if (app) {
      i.emit(BusEvent::Kind::api_post, id, now, body.path);
      i.bus.back().definition = std::make_shared<const App>(*app);
      i.bus.back().origin = body.origin;
    }
  i.emit(BusEvent::Kind::group_change_success, shared, now);
  if (shared->steps.empty()) {
    i.emit(BusEvent::Kind::deployment_success, shared, now);
    return;
  }
  i.deployments[shared->id] = shared;
  i.order.push_back(shared->id);
  i.emit(BusEvent::Kind::deployment_info, shared, now);
  for (const auto& [id, target] : shared->target) i.touch(id);
}

std::vector<TaskId> Orchestrator::kill_tasks(const std::vector<TaskId>& tasks, Now now) {
  auto& i = *impl_;
  std::vector<TaskId> found;
  for (const auto& id : tasks) {
    const auto* task = i.cluster.task(id);
    if (!task || is_terminal(task->status.state)) continue;
    found.push_back(id);
    i.stop_task(*task, now, true);
    i.touch(task->spec.app);
  }
  return found;
}

void Orchestrator::reset_delay(const AppId& app) {
  impl_->backoffs.erase(app);
  impl_->touch(app);
}

coordination::Batch Orchestrator::take_background_batch() { return std::exchange(impl_->background, {}); }
std::vector<BusEvent> Orchestrator::take_bus_events() { return std::exchange(impl_->bus, {}); }
const std::map<AppId, App>& Orchestrator::apps() const { return impl_->apps; }
const std::map<DeploymentId, std::shared_ptr<const Deployment>>& Orchestrator::deployments() const { return impl_->deployments; }
const std::map<AppId, catalog::Rule>& Orchestrator::rules() const { return impl_->rules; }
std::set<AppId> Orchestrator::take_changed_apps() { return std::exchange(impl_->changed, {}); }

const App* Orchestrator::app(const AppId& id) const {
  auto at = impl_->apps.find(id);
  return at == impl_->apps.end() ? nullptr : &at->second;
}

std::optional<App> Orchestrator::version(const AppId& id, const std::string& version) const {
  auto app = impl_->versions.find(id);
  if (app == impl_->versions.end()) return std::nullopt;
  auto at = app->second.find(version);
  return at == app->second.end() ? std::nullopt : std::optional(at->second);
}

std::string Orchestrator::group_version() const { return impl_->last_version; }

}  // namespace croft::orchestrator
