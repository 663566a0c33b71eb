#include "catalog/follower.hpp"

#include <algorithm>
#include <utility>

#include "model/catalog_json.hpp"

namespace croft::catalog {

void Follower::drop_endpoint(const TaskId& id, Change& change) {
  kept_.erase(id);
  recalled_.erase(id);
  auto at = content_.endpoints.find(id);
  if (at == content_.endpoints.end()) return;
  change.apps.push_back(at->second.app);
  change.endpoints.push_back(id);
  content_.endpoints.erase(at);
}

/// The leader's word on this agent is whole now: what is only remembered of it is gone.
void Follower::drop_kept_of(const AgentId& agent, Change& change) {
  whole_.insert(agent);
  std::vector<TaskId> gone;
  for (const auto& id : kept_)
    if (auto at = content_.endpoints.find(id); at == content_.endpoints.end() || at->second.agent == agent) gone.push_back(id);
  for (const auto& id : gone) drop_endpoint(id, change);
}

/// Of agents, too, that this leader has never heard of: an earlier one removed them, and their ports may be others' by now.
void Follower::drop_all_kept(Change& change) {
  for (const auto& id : std::set<TaskId>(kept_)) drop_endpoint(id, change);
}

Doubt Follower::doubt() const {
  Doubt d{recalled_, all_heard_ ? !*all_heard_ : !recalled_.empty(), {}};
  for (const auto& [id, node] : content_.nodes)
    if (whole_.contains(id)) d.heard.insert(node.ip);
  for (const auto& [id, node] : content_.nodes)
    if (!whole_.contains(id)) d.heard.erase(node.ip);
  for (const auto& id : recalled_)
    if (auto at = content_.endpoints.find(id); at != content_.endpoints.end()) d.heard.erase(at->second.ip);
  return d;
}

Result<Follower::Change> Follower::apply(const Record& record) {
  if (const auto* snapshot = std::get_if<Snapshot>(&record)) return take_snapshot(*snapshot);
  if (const auto* delta = std::get_if<Delta>(&record)) return take_delta(*delta);
  const auto& beat = std::get<Heartbeat>(record);
  if (!at_ || beat.at != *at_) return fail(Errc::conflict, "heartbeat at {}.{} does not match this copy", beat.at.epoch, beat.at.n);
  root_.commit = std::max(root_.commit, beat.commit);
  return Change{};
}

Result<Follower::Change> Follower::take_delta(const Delta& d) {
  if (!at_ || d.at.epoch != at_->epoch || d.at.n != at_->n + 1) return fail(Errc::conflict, "delta {}.{} does not follow this copy", d.at.epoch, d.at.n);
  Change change;
  for (const auto& s : d.services) content_.services[s.app] = s, change.apps.push_back(s.app);
  for (const auto& id : d.services_gone) content_.services.erase(id), change.apps.push_back(id);
  for (const auto& e : d.endpoints) {
    auto& mine = content_.endpoints[e.task];
    if (!mine.app.empty() && mine.app != e.app) change.apps.push_back(mine.app);
    mine = e;
    kept_.erase(e.task);
    recalled_.erase(e.task);
    change.apps.push_back(e.app);
    change.endpoints.push_back(e.task);
  }
  for (const auto& id : d.endpoints_gone) drop_endpoint(id, change);
  for (const auto& r : d.rules) content_.rules[r.app] = r, change.apps.push_back(r.app);
  for (const auto& id : d.rules_gone) content_.rules.erase(id), change.apps.push_back(id);
  for (const auto& n : d.nodes) content_.nodes[n.id] = n;
  for (const auto& id : d.nodes_gone) content_.nodes.erase(id), drop_kept_of(id, change);
  change.nodes = !d.nodes.empty() || !d.nodes_gone.empty();
  if (d.masters) content_.masters = *d.masters, change.masters = true;
  for (const auto& b : d.balancers) content_.balancers[b.id] = b;
  for (const auto& id : d.balancers_gone) content_.balancers.erase(id);
  change.balancers = !d.balancers.empty() || !d.balancers_gone.empty();
  for (const auto& agent : d.complete) drop_kept_of(agent, change);
  if (d.all_heard) all_heard_ = true, drop_all_kept(change);
  at_ = d.at;
  return change;
}

Result<Follower::Change> Follower::take_snapshot(const Snapshot& s) {
  // A wrong, lost or rolled-back store must not take services away, as it must not take tasks away on agents.
  if (!s.root.cluster.empty() && !root_.cluster.empty()) {
    if (s.root.cluster != root_.cluster) return fail(Errc::conflict, "the leader is of cluster {}, this copy of {}", s.root.cluster, root_.cluster);
    if (s.root.commit < root_.commit) return fail(Errc::conflict, "the leader's store ends at commit {}, this copy has heard of {}: it was lost or rolled back", s.root.commit, root_.commit);
  }
  if (s.at.epoch < epoch_seen_) return fail(Errc::conflict, "snapshot of epoch {}, this copy has seen {}", s.at.epoch, epoch_seen_);
  bool same_epoch = at_ && at_->epoch == s.at.epoch;
  auto old = std::exchange(content_, s.content);
  auto kept_before = std::exchange(kept_, {});
  whole_ = {s.complete.begin(), s.complete.end()};
  all_heard_ = s.all_heard;
  for (auto& [id, e] : old.endpoints) {
    if (content_.endpoints.contains(id) || whole_.contains(e.agent) || s.all_heard.value_or(false)) continue;
    // Told in this very epoch and no longer there: removed by a delta that was missed.
    if (same_epoch && !kept_before.contains(id)) continue;
    kept_.insert(id);
    content_.endpoints.emplace(id, std::move(e));
  }
  std::erase_if(recalled_, [&](const TaskId& id) { return !kept_.contains(id); });
  at_ = s.at;
  epoch_seen_ = s.at.epoch;
  if (!s.root.cluster.empty()) root_ = s.root;
  Change change;
  change.all = change.nodes = change.masters = change.balancers = true;
  return change;
}

std::string Follower::save() const { return encode(Record(Snapshot{at_.value_or(Index{epoch_seen_, 0}), content_, {}, {}, root_})); }

Status Follower::restore(std::string_view saved) {
  auto record = decode_record(saved);
  if (!record) return fail(std::move(record).error());
  auto* snapshot = std::get_if<Snapshot>(&*record);
  if (!snapshot) return fail(Errc::corrupt, "the saved catalog is no snapshot");
  content_ = std::move(snapshot->content);
  epoch_seen_ = snapshot->at.epoch;
  root_ = snapshot->root;
  kept_.clear();
  recalled_.clear();
  for (const auto& [id, e] : content_.endpoints) recalled_.insert(id);
  whole_.clear();
  all_heard_.reset();
  at_.reset();
  return {};
}

}  // namespace croft::catalog
