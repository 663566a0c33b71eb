#include "catalog/follower.hpp"

#include <algorithm>
#include <utility>

#include "model/catalog_json.hpp"

namespace croft::catalog {

namespace {

struct Applier {
  Content& content;
  Follower::Change& change;

  void endpoint_gone(const TaskId& id) {
    auto at = content.endpoints.find(id);
    if (at == content.endpoints.end()) return;
    change.apps.push_back(at->second.app);
    change.endpoints.push_back(id);
    content.endpoints.erase(at);
  }
  /// What an agent was thought to run and did not list, once it is complete.
  void only_listed(const AgentId& agent, const std::map<TaskId, Endpoint>& listed) {
    std::vector<TaskId> gone;
    for (const auto& [id, e] : content.endpoints)
      if (e.agent == agent && !listed.contains(id)) gone.push_back(id);
    for (const auto& id : gone) endpoint_gone(id);
  }
  void apply(const Delta& d) {
    for (const auto& s : d.services) content.services[s.app] = s, change.apps.push_back(s.app);
    for (const auto& id : d.services_gone) content.services.erase(id), change.apps.push_back(id);
    for (const auto& e : d.endpoints) content.endpoints[e.task] = e, change.apps.push_back(e.app), change.endpoints.push_back(e.task);
    for (const auto& id : d.endpoints_gone) endpoint_gone(id);
    for (const auto& r : d.rules) content.rules[r.app] = r, change.apps.push_back(r.app);
    for (const auto& id : d.rules_gone) content.rules.erase(id), change.apps.push_back(id);
    for (const auto& n : d.nodes) content.nodes[n.id] = n, change.nodes = true;
    for (const auto& id : d.nodes_gone) content.nodes.erase(id), only_listed(id, {}), change.nodes = true;
    if (d.masters) content.masters = *d.masters, change.masters = true;
    for (const auto& b : d.balancers) content.balancers[b.id] = b, change.balancers = true;
    for (const auto& id : d.balancers_gone) content.balancers.erase(id), change.balancers = true;
  }
};

}  // namespace

Result<Follower::Change> Follower::apply(const Record& record) {
  Change change;
  if (const auto* h = std::get_if<Heartbeat>(&record)) {
    if (!at_ || h->at.epoch != at_->epoch || h->at.n != at_->n) return fail(Errc::conflict, "heartbeat at {}.{}, this copy is elsewhere", h->at.epoch, h->at.n);
    return change;
  }
  if (const auto* d = std::get_if<Delta>(&record)) {
    if (!at_ || d->at.epoch != at_->epoch || d->at.n != at_->n + 1) return fail(Errc::conflict, "delta {}.{} does not follow this copy", d->at.epoch, d->at.n);
    Applier{content_, change}.apply(*d);
    for (const auto& agent : d->complete) {
      // From now on the leader's word on this agent is whole: what it has not listed in this epoch is gone.
      std::vector<TaskId> gone;
      for (const auto& id : kept_)
        if (auto e = content_.endpoints.find(id); e != content_.endpoints.end() && e->second.agent == agent) gone.push_back(id);
      for (const auto& e : d->endpoints) std::erase(gone, e.task);
      for (const auto& id : gone) Applier{content_, change}.endpoint_gone(id);
    }
    for (const auto& e : d->endpoints) kept_.erase(e.task);
    at_ = d->at;
    return change;
  }
  const auto& s = std::get<Snapshot>(record);
  if (s.at.epoch < epoch_seen_) return fail(Errc::conflict, "snapshot of epoch {}, this copy has seen {}", s.at.epoch, epoch_seen_);
  auto old = std::exchange(content_, s.content);
  kept_.clear();
  for (auto& [id, e] : old.endpoints) {
    bool whole = std::find(s.complete.begin(), s.complete.end(), e.agent) != s.complete.end();
    if (whole || content_.endpoints.contains(id)) continue;
    kept_.insert(id);
    content_.endpoints.emplace(id, std::move(e));
  }
  at_ = s.at;
  epoch_seen_ = s.at.epoch;
  change.all = change.nodes = change.masters = change.balancers = true;
  return change;
}

std::string Follower::save() const { return encode(Record(Snapshot{at_.value_or(Index{}), content_, {}})); }

Status Follower::restore(std::string_view saved) {
  auto record = decode_record(saved);
  if (!record) return fail(std::move(record).error());
  auto* snapshot = std::get_if<Snapshot>(&*record);
  if (!snapshot) return fail(Errc::corrupt, "the saved catalog is no snapshot");
  content_ = std::move(snapshot->content);
  epoch_seen_ = snapshot->at.epoch;
  at_.reset();
  return {};
}

}  // namespace croft::catalog
