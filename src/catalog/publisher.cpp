#include "catalog/publisher.hpp"

#include <algorithm>
#include <utility>

#include "model/catalog_json.hpp"

namespace croft::catalog {

namespace {

constexpr Millis tick_late{1000};  // ticks come at least twice a second: after a longer pause the leader was away

/// True when the map changed.
template <class Map, class T>
bool put(Map& map, const typename Map::key_type& key, T value) {
  auto [at, fresh] = map.try_emplace(key);
  if (!fresh && at->second == value) return false;
  at->second = std::move(value);
  return true;
}

template <class Map, class Id>
void list_changes(const Map& map, const std::set<Id>& ids, std::vector<typename Map::mapped_type>& set, std::vector<Id>& gone) {
  for (const auto& id : ids) {
    auto at = map.find(id);
    if (at != map.end()) set.push_back(at->second);
    else gone.push_back(id);
  }
}

}  // namespace

Publisher::Publisher(Options options) : options_(options), at_{options.epoch, 0} {}

static auto& opened(auto& dirty) {
  if (!dirty) dirty.emplace();
  return *dirty;
}

void Publisher::set(Service s) {
  auto app = s.app;
  if (put(content_.services, app, std::move(s))) opened(dirty_).services.insert(app);
}

void Publisher::remove_service(const AppId& app) {
  if (content_.services.erase(app)) opened(dirty_).services.insert(app);
}

void Publisher::count(const Endpoint& e, bool comes) {
  auto& tally = tallies_[e.app];
  auto add = [comes](std::size_t& number, bool counts) { comes ? number += counts : number -= counts; };
  add(tally.endpoints, true);
  add(tally.serve_checked, e.serves(true));
  add(tally.serve_unchecked, e.serves(false));
  if (!comes) tally.last_resort.erase(e.task);
  else if (e.last_resort()) tally.last_resort.insert(e.task);
  if (tally.endpoints == 0) tallies_.erase(e.app);
}

std::size_t Publisher::serving(const AppId& app) const {
  auto tally = tallies_.find(app);
  auto service = content_.services.find(app);
  if (tally == tallies_.end() || service == content_.services.end()) return 0;
  return service->second.health_checks.empty() ? tally->second.serve_unchecked : tally->second.serve_checked;
}

const std::set<TaskId>& Publisher::last_resort(const AppId& app) const {
  static const std::set<TaskId> none;
  auto tally = tallies_.find(app);
  return tally == tallies_.end() ? none : tally->second.last_resort;
}

void Publisher::set(Endpoint e) {
  auto [at, fresh] = content_.endpoints.try_emplace(e.task);
  if (!fresh && at->second == e) return;
  if (!fresh) count(at->second, false);
  count(e, true);
  opened(dirty_).endpoints.insert(e.task);
  at->second = std::move(e);
}

void Publisher::remove_endpoint(const TaskId& task) {
  auto at = content_.endpoints.find(task);
  if (at == content_.endpoints.end()) return;
  count(at->second, false);
  content_.endpoints.erase(at);
  for (auto& [id, lease] : leases_) lease.open.erase(task);
  opened(dirty_).endpoints.insert(task);
}

void Publisher::set(Rule r) {
  auto app = r.app;
  if (put(content_.rules, app, std::move(r))) opened(dirty_).rules.insert(app);
}

void Publisher::remove_rule(const AppId& app) {
  if (content_.rules.erase(app)) opened(dirty_).rules.insert(app);
}

void Publisher::set(Node n) {
  auto id = n.id;
  if (put(content_.nodes, id, std::move(n))) opened(dirty_).nodes.insert(id);
}

void Publisher::remove_node(const AgentId& id) {
  // Also an agent that this epoch has not seen may be declared lost: followers keep its endpoints from the epoch before.
  bool known = content_.nodes.erase(id) > 0;
  bool first_word = complete_.insert(id).second;
  if (known || first_word) opened(dirty_).nodes.insert(id);
}

void Publisher::set_masters(std::vector<Master> masters) {
  if (content_.masters == masters) return;
  content_.masters = std::move(masters);
  opened(dirty_).masters = true;
}

void Publisher::complete(const AgentId& agent) {
  if (complete_.insert(agent).second) opened(dirty_).complete.push_back(agent);
}

void Publisher::committed(std::uint64_t commit) {
  if (commit <= options_.root.commit) return;
  options_.root.commit = commit;
  snapshot_.reset();  // a follower that has heard of this commit would not take one from before it
}

void Publisher::all_heard() {
  if (!std::exchange(all_heard_, true)) opened(dirty_).all_heard = true;
}

Delta Publisher::delta_of(const Unflushed& dirty) const {
  Delta d;
  d.at = at_;
  list_changes(content_.services, dirty.services, d.services, d.services_gone);
  list_changes(content_.endpoints, dirty.endpoints, d.endpoints, d.endpoints_gone);
  list_changes(content_.rules, dirty.rules, d.rules, d.rules_gone);
  list_changes(content_.nodes, dirty.nodes, d.nodes, d.nodes_gone);
  list_changes(content_.balancers, dirty.balancers, d.balancers, d.balancers_gone);
  if (dirty.masters) d.masters = content_.masters;
  d.complete = dirty.complete;
  d.all_heard = dirty.all_heard;
  return d;
}

Index Publisher::flush() {
  if (!dirty_) return at_;
  auto dirty = *std::exchange(dirty_, std::nullopt);
  ++at_.n;
  auto line = std::make_shared<const std::string>(encode(Record(delta_of(dirty))));
  backlog_bytes_ += line->size();
  backlog_.push_back({at_, std::move(line)});
  while (backlog_bytes_ > options_.backlog_max && !backlog_.empty()) {
    backlog_bytes_ -= backlog_.front().line->size();
    backlog_.pop_front();
  }
  snapshot_.reset();
  return at_;
}

std::vector<std::shared_ptr<const std::string>> Publisher::since(std::optional<Index> after) const {
  std::vector<std::shared_ptr<const std::string>> out;
  bool ours = after && after->epoch == at_.epoch && after->n <= at_.n;
  if (ours && after->n == at_.n) return out;
  if (ours && !backlog_.empty() && backlog_.front().at.n <= after->n + 1) {
    auto first = after->n + 1 - backlog_.front().at.n;  // indices in the backlog have no gaps
    for (auto i = first; i < backlog_.size(); ++i) out.push_back(backlog_[i].line);
    return out;
  }
  // What is set but not flushed may be in here already; its delta will then say the same once more, which does no harm.
  if (!snapshot_) snapshot_ = std::make_shared<const std::string>(encode(Record(Snapshot{at_, content_, {complete_.begin(), complete_.end()}, all_heard_, options_.root})));
  out.push_back(snapshot_);
  return out;
}

void Publisher::confirm(const Confirmation& c, Now now) {
  auto [at, fresh] = leases_.try_emplace(c.balancer.id);
  auto& lease = at->second;
  lease.heard = now.mono;
  lease.balancer = c.balancer;
  if (fresh) lease.applied = {at_.epoch, 0};
  if (c.applied.epoch == at_.epoch) {
    lease.applied = std::max(lease.applied, std::min(c.applied, at_));  // what we have not said yet nobody can have carried out
    lease.open = c.open;
  }
  if (put(content_.balancers, c.balancer.id, c.balancer)) opened(dirty_).balancers.insert(c.balancer.id);
}

void Publisher::tick(Now now) {
  auto forget = [&](const BalancerId& id) {
    if (content_.balancers.erase(id) > 0) opened(dirty_).balancers.insert(id);
  };
  // A leader that was frozen, or silent for want of a lease of its own, heard nobody: that is not the balancers' silence.
  auto slept = ticked_ == Mono{} ? Millis(0) : std::chrono::floor<Millis>(now.mono - ticked_);
  ticked_ = now.mono;
  if (slept >= tick_late)
    for (auto& [id, lease] : leases_) lease.heard = std::min(lease.heard + slept, now.mono);
  for (auto at = leases_.begin(); at != leases_.end();) {
    auto silence = now.mono - at->second.heard;
    if (silence >= options_.lease) {
      forget(at->first);
      at = leases_.erase(at);
      continue;
    }
    if (silence >= options_.silent && content_.balancers.size() > 1) forget(at->first);
    ++at;
  }
}

std::vector<BalancerId> Publisher::live() const {
  std::vector<BalancerId> out;
  for (const auto& [id, lease] : leases_) out.push_back(id);
  return out;
}

bool Publisher::confirmed(const std::vector<BalancerId>& wait_for, Index at) const {
  return std::all_of(wait_for.begin(), wait_for.end(), [&](const BalancerId& id) {
    auto lease = leases_.find(id);
    return lease == leases_.end() || lease->second.applied >= at;
  });
}

std::uint32_t Publisher::open_requests(const TaskId& task) const {
  std::uint32_t sum = 0;
  for (const auto& [id, lease] : leases_)
    if (auto at = lease.open.find(task); at != lease.open.end()) sum += at->second;
  return sum;
}

}  // namespace croft::catalog
