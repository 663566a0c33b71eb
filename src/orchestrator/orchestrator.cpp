// Intent: what users ask for becomes a checked proposal, then a deployment.

#include "orchestrator/orchestrator.hpp"

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/json.hpp"
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

/// What undoes a deployment: its apps as they were before it. Later changes of other apps stay.
Intent Orchestrator::Impl::rollback_of(const Deployment& d) const {
  Intent intent;
  intent.force = true;
  for (const auto& [id, original] : d.original) {
    if (original || apps.contains(id)) intent.apps[id] = original;
  }
  return intent;
}

/// What is in force at once and needs no deployment: rules, nodes.
std::expected<Proposal, Refusal> Orchestrator::Impl::propose_settings(const Intent& intent, Now now) const {
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
  for (const auto& [node, mode] : intent.nodes)
    if (auto wrong = propose_node(node, mode, proposal.batch)) return std::unexpected(std::move(*wrong));
  body->rules = intent.rules;
  body->nodes = intent.nodes;
  body->origin = intent.origin;
  proposal.body = std::move(body);
  return proposal;
}

/// What each affected app was and shall be: versions, service ports, records for the store.
std::optional<Refusal> Orchestrator::Impl::settle(Deployment& d, Intent& intent, const std::set<AppId>& affected, Proposal& proposal, Proposal::Body& body) const {
  auto taken = service_ports_of_others(intent.apps);
  for (const auto& id : affected) {
    auto old = apps.find(id);
    std::optional<App> original = old == apps.end() ? std::nullopt : std::optional(old->second);
    auto wanted = intent.apps.find(id);
    std::optional<App> target = wanted == intent.apps.end() ? original : std::move(wanted->second);
    if (!target && !original && wanted != intent.apps.end() && !intent.cancel) return refuse(Errc::not_found, fmt::format("App '{}' does not exist", id)).error();
    if (target) {
      target->id = id;
      if (auto none_left = assign_service_ports(*target, taken)) return none_left;
      bool config = !original || intent.restart.contains(id) || !target->same_config(*original);
      bool scaled = !original || target->instances != original->instances;
      target->version = config || scaled ? proposal.version : original->version;
      target->last_config_change = config ? proposal.version : original->last_config_change;
      target->last_scaling = config || scaled ? proposal.version : original->last_scaling;
      if (config || scaled) {
        auto text = encode_app(*target);
        proposal.batch.put[key("apps", id)] = text;
        proposal.batch.put[key("versions", id) + "@" + target->version] = std::move(text);
      }
      if (config) body.reset_backoff.insert(id);
      body.apps[id] = target;
    } else if (original) {
      proposal.batch.remove.push_back(key("apps", id));
      if (auto kept = versions.find(id); kept != versions.end())
        for (const auto& [version, app] : kept->second) proposal.batch.remove.push_back(key("versions", id) + "@" + version);
      body.apps[id] = std::nullopt;
    }
    d.original[id] = std::move(original);
    d.target[id] = std::move(target);
  }
  for (const auto& [id, target] : d.target)
    if (target && !d.original.at(id))
      if (auto wrong = clash(id, d.target)) return wrong;
  return std::nullopt;
}

std::expected<Proposal, Refusal> Orchestrator::propose(const Intent& given, Now now) const {
  auto& i = *impl_;
  if (!given.rules.empty() || !given.nodes.empty()) return i.propose_settings(given, now);
  Intent intent = given;
  std::vector<DeploymentId> cancelled;
  if (given.cancel) {
    auto at = i.deployments.find(*given.cancel);
    if (at == i.deployments.end()) return refuse(Errc::not_found, fmt::format("DeploymentPlan {} does not exist", *given.cancel));
    cancelled.push_back(*given.cancel);
    if (!given.force) intent = i.rollback_of(*at->second), intent.cancel = given.cancel;
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
    return refuse(Errc::forbidden, fmt::format("Max number ({}) of running deployments reached", i.options.deployments_max));

  auto deployment = std::make_shared<Deployment>();
  deployment->id = DeploymentId(i.new_id());
  deployment->version = proposal.version;
  deployment->behind = std::move(behind);
  deployment->victims = intent.victims;
  deployment->started = now.wall;
  if (auto wrong = i.settle(*deployment, intent, affected, proposal, *body)) return std::unexpected(std::move(*wrong));
  auto steps = i.plan(deployment->original, deployment->target, intent.restart);
  if (!steps) return std::unexpected(std::move(steps).error());
  deployment->steps = std::move(*steps);
  for (const auto& id : cancelled) proposal.batch.remove.push_back("deployments/" + id.str());
  i.abandon(cancelled, intent, proposal, *body, now);
  bool just_drop = given.cancel && given.force;
  if (!just_drop) {
    proposal.deployment = deployment->id;
    proposal.steps = deployment->steps;
    if (!deployment->steps.empty()) proposal.batch.put["deployments/" + deployment->id.str()] = Impl::encode(*deployment);
    body->deployment = std::move(deployment);
  }
  body->cancelled = std::move(cancelled);
  body->origin = given.origin;
  body->path = given.path;
  body->announce = given.announce;
  proposal.body = std::move(body);
  return proposal;
}

/// A removal that is dropped midway is carried out all the same, unless a rollback brings the very app back. With its deployment gone from the store nothing
/// else remembers its tasks, should their node be away and the next leader hear it first; so their kills go there in the same moment. An app of the same
/// name may have been made meanwhile: its tasks are of later versions.
void Orchestrator::Impl::abandon(const std::vector<DeploymentId>& cancelled, const Intent& intent, Proposal& proposal, Proposal::Body& body, Now now) const {
  for (const auto& id : cancelled) {
    const auto& gone = *deployments.at(id);
    for (const auto& [app, target] : gone.target) {
      auto wanted = intent.apps.find(app);
      bool brought_back = intent.cancel && !apps.contains(app) && wanted != intent.apps.end() && wanted->second;
      if (target || brought_back) continue;
      body.abandoned[app] = gone.version;
      if (!awaited.empty()) proposal.batch.put[key("removed", app)] = json::print(json::object{{"until", gone.version}});
      for (const auto* task : cluster.tasks_of(app)) {
        if (is_terminal(task->status.state) || task->spec.app_version > gone.version || kills.contains(task->spec.id)) continue;
        proposal.batch.put["kills/" + task->spec.id.str()] = kill_record(task->agent, now);
        body.abandoned_kills.push_back(task->spec.id);
      }
    }
  }
}

void Orchestrator::Impl::apply_abandoned(const Proposal::Body& body, Now now) {
  for (const auto& [app, version] : body.abandoned) {
    if (awaited.empty()) background.remove.push_back(key("removed", app));
    remember_removed(app, version);
    for (const auto* task : cluster.tasks_of(app))
      if (!is_terminal(task->status.state) && task->spec.app_version <= version) stop_task(*task, now, true);
  }
  for (const auto& id : body.abandoned_kills)  // ended while this was being stored
    if (!kills.contains(id)) background.remove.push_back("kills/" + id.str());
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
  for (const auto& [node, mode] : body.nodes) i.apply_node(node, mode, now);
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
      i.stopping.erase(id);
      auto& kept = i.versions[id];
      kept[app->version] = *app;
      while (kept.size() > i.options.versions_max) {
        i.background.remove.push_back(Impl::key("versions", id) + "@" + kept.begin()->first);
        kept.erase(kept.begin());
      }
      i.cluster.app_known(id, true);
      if (auto removal = i.removed.find(id); removal != i.removed.end() && removal->second.until.empty()) {
        i.background.remove.push_back(Impl::key("removed", id));
        i.removed.erase(removal);
      }
    } else if (auto old = i.apps.extract(id)) {
      i.stopping[id] = std::move(old.mapped());
      i.versions.erase(id);
    }
    i.publish_service(id);
    i.touch(id);
  }
  i.apply_abandoned(body, now);
  for (const auto& id : body.reset_backoff) i.backoffs.erase(id);
  if (!body.deployment) return;
  auto shared = std::shared_ptr<const Deployment>(body.deployment);
  for (const auto& [id, app] : body.apps) {
    if (!app) continue;
    auto definition = std::make_shared<const App>(*app);
    auto tell = [&](BusEvent::Kind kind) {
      i.emit(kind, id, now, body.path);
      i.bus.back().definition = definition;
      i.bus.back().origin = body.origin;
    };
    if (body.announce) tell(BusEvent::Kind::api_post);
    if (app->last_config_change == proposal.version && !app->health_checks.empty()) tell(BusEvent::Kind::add_health_check);
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

std::optional<App> Orchestrator::version_at(const AppId& id, const std::string& stamp) const {
  auto app = impl_->versions.find(id);
  if (app == impl_->versions.end()) return std::nullopt;
  auto after = app->second.upper_bound(stamp);
  return after == app->second.begin() ? std::nullopt : std::optional(std::prev(after)->second);
}

std::string Orchestrator::group_version() const { return impl_->last_version; }

}  // namespace croft::orchestrator
