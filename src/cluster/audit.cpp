// Whether the books are in order: every figure that is kept is computed anew. For tests and the simulator.

#include <algorithm>

#include "cluster/impl.hpp"

namespace croft::cluster {

namespace {

std::string wrong_with(const AgentEntry& a) {
  Resources sum = a.reserved;
  std::set<std::uint16_t> taken;
  auto take = [&](std::uint16_t port) -> std::string {
    if (!taken.insert(port).second) return fmt::format("agent {}: port {} is promised twice", a.agent.id, port);
    if (a.agent.free_ports.contains(port)) return fmt::format("agent {}: port {} is promised and free", a.agent.id, port);
    return {};
  };
  for (std::size_t n = 0; n < a.tasks.size(); ++n) {
    const auto& t = *a.tasks[n];
    if (t.home != &a || t.at_home != n || t.task.agent != a.agent.id) return fmt::format("agent {}: task {} stands in the wrong place", a.agent.id, t.task.spec.id);
    if (t.holds == is_terminal(t.task.status.state)) return fmt::format("task {}: {} and {}", t.task.spec.id, wire_name(t.task.status.state), t.holds ? "holds resources" : "holds nothing");
    if (!t.holds) continue;
    sum += t.held;
    for (auto port : t.ports)
      if (auto wrong = take(port); !wrong.empty()) return wrong;
  }
  for (auto port : a.reserved_ports)
    if (auto wrong = take(port); !wrong.empty()) return wrong;
  if (sum != a.agent.used) return fmt::format("agent {}: its tasks and reservations hold other resources than are charged", a.agent.id);
  if (a.agent.tasks != a.tasks.size()) return fmt::format("agent {}: the number of its tasks is wrong", a.agent.id);
  if (a.port_count != a.agent.free_ports.size()) return fmt::format("agent {}: the number of its free ports is wrong", a.agent.id);
  return {};
}

}  // namespace

std::string Cluster::audit() const {
  const auto& i = *impl_;
  Resources used, total;
  std::map<AppId, std::map<CapacityIndex::Slot, std::uint32_t>> spread;
  for (const auto& [id, a] : i.agents) {
    if (auto wrong = wrong_with(a); !wrong.empty()) return wrong;
    used += a.agent.used;
    total += a.agent.info.total;
    const auto& room = i.index.room(a.slot);
    if (i.by_slot[a.slot] != &a || room.free != a.agent.info.total - a.agent.used || room.ports != a.port_count || room.open != (a.agent.connected && a.agent.reachable && !a.agent.draining))
      return fmt::format("agent {}: the index by free capacity is out of step", id);
    bool reserves = a.reserved != Resources{};
    for (const auto* t : a.tasks)
      if (t->holds && !reserves) ++spread[t->task.spec.app][a.slot];
  }
  if (used != i.used) return "the sum of used resources is wrong";
  if (total != i.total) return "the sum of total resources is wrong";
  for (const auto& [id, t] : i.tasks) {
    auto app = i.apps.find(t.task.spec.app);
    if (t.counted != counted_as(t.task)) return fmt::format("task {} is counted as what it was before", id);
    if (app == i.apps.end() || t.at_app >= app->second.tasks.size() || app->second.tasks[t.at_app] != &t) return fmt::format("task {} is missing in its app's list", id);
  }
  for (const auto& [app, slots] : spread)
    for (const auto& [slot, n] : slots)
      if (auto at = i.apps.at(app).spread.find(slot); at == i.apps.at(app).spread.end() || at->second != n) return fmt::format("the instances of {} are counted wrong", app);
  if (std::any_of(i.handicap.begin(), i.handicap.end(), [](std::uint32_t h) { return h != 0; })) return "marks of a placement were left behind";
  return i.index.audit();
}

}  // namespace croft::cluster
