// What readers see: immutable views, published at most every few milliseconds, and the ring of bus events.

#include <algorithm>

#include "orchestrator/leader_impl.hpp"

namespace croft::orchestrator {

namespace {
constexpr std::size_t ended_max = 1000;
}

void LeaderService::Impl::note(const std::vector<cluster::Event>& events) {
  using Kind = cluster::Event::Kind;
  for (const auto& event : events) {
    view_dirty = true;
    bool task_only = event.kind == Kind::task_changed && !event.state_changed;
    if (!event.agent.empty() && !task_only) changed_agents.insert(event.agent);
    if (event.task.empty()) continue;
    changed_tasks.insert(event.task);
    if (event.kind == Kind::task_gone && event.last) {
      ++building.ended_by_state[static_cast<std::size_t>(event.last->status.state)];
      building.ended.insert(building.ended.begin(), std::make_shared<const cluster::Task>(*event.last));
      if (building.ended.size() > ended_max) building.ended.pop_back();
    }
  }
}

void LeaderService::Impl::publish(Now now) {
  for (const auto& app : changed_apps) {
    const auto* before = building.apps.find(app);
    if (term->core.app(app)) building.apps.set(app, std::make_shared<AppView>(term->core.view(app, now, before ? before->get() : nullptr)));
    else building.apps.erase(app);
  }
  changed_apps.clear();
  for (const auto& id : changed_tasks) {
    if (const auto* task = term->cluster.task(id)) building.tasks.set(id, std::make_shared<const cluster::Task>(*task));
    else building.tasks.erase(id);
  }
  changed_tasks.clear();
  for (const auto& id : changed_agents) {
    auto at = std::lower_bound(building.agents.begin(), building.agents.end(), id, [](const auto& a, const AgentId& b) { return a->id < b; });
    bool there = at != building.agents.end() && (*at)->id == id;
    const auto* agent = term->cluster.agent(id);
    if (!agent) {
      if (there) building.agents.erase(at);
    } else if (there) {
      *at = std::make_shared<const cluster::Agent>(*agent);
    } else {
      building.agents.insert(at, std::make_shared<const cluster::Agent>(*agent));
    }
  }
  changed_agents.clear();
  building.deployments.clear();
  for (const auto& [id, deployment] : term->core.deployments()) building.deployments.push_back(deployment);
  building.rules.clear();
  for (const auto& [app, rule] : term->core.rules()) building.rules.push_back(std::make_shared<const catalog::Rule>(rule));
  building.balancers.clear();
  for (const auto& [id, balancer] : term->catalog.content().balancers) building.balancers.push_back(balancer);
  building.group_version = term->core.group_version();
  building.commit = head;
  building.made = now.wall;
  auto made = std::make_shared<const View>(building);
  {
    std::lock_guard guard(view_mutex);
    published.swap(made);
  }
  published_at = now.mono;
  view_dirty = false;
}

void LeaderService::Impl::collect_bus_events() {
  auto fresh = term->core.take_bus_events();
  if (fresh.empty()) return;
  {
    std::lock_guard guard(bus_mutex);
    for (auto& event : fresh) {
      event.sequence = bus_newest + 1;
      bus_newest = event.sequence;
      bus.push(std::move(event));
    }
  }
  bus_signal->notify();
}

std::shared_ptr<const View> LeaderService::view() const {
  std::lock_guard guard(impl_->view_mutex);
  return impl_->published;
}

asio::awaitable<std::shared_ptr<const View>> LeaderService::fresh_view() {
  auto impl = impl_;
  auto work = [impl]() -> std::shared_ptr<const View> {
    if (impl->term && impl->view_dirty) impl->publish(system_now());
    return impl->published;
  };
  co_return co_await impl->on_strand(std::move(work));
}

std::uint64_t LeaderService::newest_event() const { return impl_->bus_newest; }

asio::awaitable<std::optional<std::vector<BusEvent>>> LeaderService::events_after(std::uint64_t sequence, Millis limit) {
  auto impl = impl_;
  auto ticket = impl->bus_signal->ticket();
  if (impl->leads && impl->bus_newest <= sequence) (void)co_await impl->bus_signal->wait(ticket, limit);
  if (!impl->leads) co_return std::nullopt;  // events go on at the next leader
  std::lock_guard guard(impl->bus_mutex);
  co_return impl->bus.after(sequence);  // nothing: too far behind, some are gone
}

}  // namespace croft::orchestrator
