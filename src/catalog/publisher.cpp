#include "catalog/publisher.hpp"

#include <algorithm>
#include <utility>

#include "model/catalog_json.hpp"

namespace croft::catalog {

namespace {

/// Puts an element into a delta's list, replacing an earlier one of the same flush, and takes it off the gone list.
template <class T, class Id>
void note(std::vector<T>& set, std::vector<Id>& gone, T element, Id T::*key) {
  std::erase(gone, element.*key);
  for (auto& e : set)
    if (e.*key == element.*key) {
      e = std::move(element);
      return;
    }
  set.push_back(std::move(element));
}

template <class T, class Id>
void note_gone(std::vector<T>& set, std::vector<Id>& gone, const Id& id, Id T::*key) {
  std::erase_if(set, [&](const T& e) { return e.*key == id; });
  if (std::find(gone.begin(), gone.end(), id) == gone.end()) gone.push_back(id);
}

}  // namespace

Publisher::Publisher(Options options) : options_(options), at_{options.epoch, 0} {}

template <class Map, class T>
static bool differs(const Map& map, const auto& key, const T& value) {
  auto at = map.find(key);
  return at == map.end() || !(at->second == value);
}

void Publisher::set(Service s) {
  if (!differs(content_.services, s.app, s)) return;
  content_.services[s.app] = s;
  note(pending_.services, pending_.services_gone, std::move(s), &Service::app);
  dirty_ = true;
}

void Publisher::remove_service(const AppId& app) {
  if (!content_.services.erase(app)) return;
  note_gone(pending_.services, pending_.services_gone, app, &Service::app);
  dirty_ = true;
}

void Publisher::set(Endpoint e) {
  if (!differs(content_.endpoints, e.task, e)) return;
  content_.endpoints[e.task] = e;
  note(pending_.endpoints, pending_.endpoints_gone, std::move(e), &Endpoint::task);
  dirty_ = true;
}

void Publisher::remove_endpoint(const TaskId& task) {
  if (!content_.endpoints.erase(task)) return;
  note_gone(pending_.endpoints, pending_.endpoints_gone, task, &Endpoint::task);
  for (auto& [id, lease] : leases_) lease.open.erase(task);
  dirty_ = true;
}

void Publisher::set(Rule r) {
  if (!differs(content_.rules, r.app, r)) return;
  content_.rules[r.app] = r;
  note(pending_.rules, pending_.rules_gone, std::move(r), &Rule::app);
  dirty_ = true;
}

void Publisher::remove_rule(const AppId& app) {
  if (!content_.rules.erase(app)) return;
  note_gone(pending_.rules, pending_.rules_gone, app, &Rule::app);
  dirty_ = true;
}

void Publisher::set(Node n) {
  if (!differs(content_.nodes, n.id, n)) return;
  content_.nodes[n.id] = n;
  note(pending_.nodes, pending_.nodes_gone, std::move(n), &Node::id);
  dirty_ = true;
}

void Publisher::remove_node(const AgentId& id) {
  if (!content_.nodes.erase(id)) return;
  note_gone(pending_.nodes, pending_.nodes_gone, id, &Node::id);
  complete_.erase(id);
  dirty_ = true;
}

void Publisher::set_masters(std::vector<Master> masters) {
  if (content_.masters == masters) return;
  content_.masters = masters;
  pending_.masters = std::move(masters);
  dirty_ = true;
}

void Publisher::complete(const AgentId& agent) {
  if (!complete_.insert(agent).second) return;
  pending_.complete.push_back(agent);
  dirty_ = true;
}

Index Publisher::flush() {
  if (!dirty_) return at_;
  dirty_ = false;
  ++at_.n;
  pending_.at = at_;
  auto line = std::make_shared<const std::string>(encode(Record(std::exchange(pending_, {}))));
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
  bool covered = after && after->epoch == at_.epoch && after->n <= at_.n && (after->n == at_.n || (!backlog_.empty() && backlog_.front().at.n <= after->n + 1));
  if (covered) {
    for (const auto& kept : backlog_)
      if (kept.at.n > after->n) out.push_back(kept.line);
    return out;
  }
  if (!snapshot_) snapshot_ = std::make_shared<const std::string>(encode(Record(Snapshot{at_, content_, {complete_.begin(), complete_.end()}})));
  out.push_back(snapshot_);
  return out;
}

void Publisher::confirm(const Confirmation& c, Now now) {
  auto [at, fresh] = leases_.try_emplace(c.balancer.id);
  auto& lease = at->second;
  lease.until = now.mono + options_.lease;
  bool changed = fresh || !(lease.balancer == c.balancer);
  lease.balancer = c.balancer;
  if (c.applied.epoch == at_.epoch) {
    lease.applied = std::max(lease.applied, std::min(c.applied, at_));
    lease.open = c.open;
  } else if (fresh) {
    lease.applied = {at_.epoch, 0};
  }
  if (!changed) return;
  content_.balancers[c.balancer.id] = c.balancer;
  note(pending_.balancers, pending_.balancers_gone, c.balancer, &Balancer::id);
  dirty_ = true;
}

void Publisher::tick(Now now) {
  for (auto at = leases_.begin(); at != leases_.end();) {
    if (at->second.until > now.mono) {
      ++at;
      continue;
    }
    content_.balancers.erase(at->first);
    note_gone(pending_.balancers, pending_.balancers_gone, at->first, &Balancer::id);
    dirty_ = true;
    at = leases_.erase(at);
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

std::optional<std::uint32_t> Publisher::open_requests(const TaskId& task) const {
  std::uint32_t sum = 0;
  for (const auto& [id, lease] : leases_) {
    auto at = lease.open.find(task);
    if (at == lease.open.end()) return std::nullopt;
    sum += at->second;
  }
  return sum;
}

}  // namespace croft::catalog
