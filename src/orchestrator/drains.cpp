// The drain handshake: out of rotation everywhere first, TERM after.

#include <algorithm>

#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

/// Whether a balancer may send it requests: it serves, or the word that it does not has not been carried out everywhere.
bool Orchestrator::Impl::may_be_routed(const cluster::Task& task, Now now) const {
  if (serving(task) || in_rotation(task.spec.id)) return true;
  auto left = left_rotation.find(task.spec.id);
  return left != left_rotation.end() && (now.mono < balancers_back || !catalog.confirmed(catalog.live(), left->second));
}

/// Takes a task out of service. One that gets requests is drained first; any other is killed at once.
void Orchestrator::Impl::stop_task(const cluster::Task& task, Now now, bool record) {
  auto id = task.spec.id;
  if ((record || task.status.state == TaskState::unreachable) && kills.try_emplace(id, task.agent).second) background.put["kills/" + id.str()] = kill_record(task.agent, now);
  if (task.goal != link::Goal::run) return;
  auto app = task.spec.app;
  bool balanced = rules.contains(app) || std::any_of(task.spec.ports.begin(), task.spec.ports.end(), [](const PortSpec& p) { return p.service_port != 0; });
  bool routed = balanced ? may_be_routed(task, now) : serving(task);
  if (!routed || task.spec.ports.empty()) {  // without a port nobody asks it anything
    cluster.kill(id, now);
    return;
  }
  cluster.drain(id, now);
  if (const auto* fresh = cluster.task(id)) publish_task(*fresh, now);
  Drain d;
  d.app = app;
  d.since = now.mono;
  d.at = catalog.flush();
  d.not_before = balanced ? now.mono : now.mono + std::min(options.dns_ttl, options.drain_time);
  if (balanced) await_balancers(d, now);
  drains[id] = std::move(d);
  emit(BusEvent::Kind::drain_started, task, now);
  touch(app);
}

/// The live balancers count. Just after a take-over nobody has a lease yet, although balancers are there and send requests.
void Orchestrator::Impl::await_balancers(Drain& d, Now now) {
  d.settling = now.mono < balancers_back;
  if (d.settling) d.not_before = std::max(d.not_before, balancers_back);
  else d.wait_for = catalog.live();
}

void Orchestrator::Impl::end_drain(const TaskId& id, DrainEnd why, Now now) {
  static constexpr std::string_view words[] = {"", "no balancer routes to it", "all balancers confirmed and its requests ended", "the drain time is over",
                                               "the leases of the balancers ended"};
  if (const auto* task = cluster.task(id)) emit(BusEvent::Kind::drain_ended, *task, now, std::string(words[static_cast<int>(why)]));
  drains.erase(id);
  cluster.kill(id, now);
}

void Orchestrator::Impl::tick_drains(Now now) {
  std::vector<std::pair<TaskId, DrainEnd>> ended;
  for (auto& [id, d] : drains) {
    const auto* task = cluster.task(id);
    if (!task || is_terminal(task->status.state)) {
      ended.emplace_back(id, DrainEnd::none);
      continue;
    }
    if (now.mono < d.not_before) {
      wake_by(d.not_before);
      continue;
    }
    if (std::exchange(d.settling, false)) d.wait_for = catalog.live();
    if (d.wait_for.empty()) {
      ended.emplace_back(id, DrainEnd::no_balancer);
      continue;
    }
    if (!d.confirmed && catalog.confirmed(d.wait_for, d.at)) d.confirmed = true, d.confirmed_at = now.mono;
    auto deadline = (d.confirmed ? d.confirmed_at : d.since) + options.drain_time;
    auto live = catalog.live();
    bool any_left = std::any_of(d.wait_for.begin(), d.wait_for.end(), [&](const BalancerId& b) { return std::find(live.begin(), live.end(), b) != live.end(); });
    if (d.confirmed && !any_left) ended.emplace_back(id, DrainEnd::lease_ended);
    else if (d.confirmed && catalog.open_requests(id) == 0u) ended.emplace_back(id, DrainEnd::confirmed_idle);
    else if (now.mono >= deadline) ended.emplace_back(id, DrainEnd::drain_time_over);
    else wake_by(deadline);
  }
  for (const auto& [id, why] : ended) {
    if (why == DrainEnd::none) drains.erase(id);
    else end_drain(id, why, now);
  }
}

}  // namespace croft::orchestrator
