// Accounting and placement: who has what, who gets the next one, and why nobody can.

#include <algorithm>

#include "base/text.hpp"
#include "cluster/impl.hpp"

namespace croft::cluster {

namespace {

constexpr std::size_t refused_max = 100;
constexpr std::uint32_t avoided = 1u << 24;  // worse than any number of instances
constexpr unsigned rank_shift = 16;           // a rank of the constraints counts more than instances of the same app

std::string short_of(std::string_view what, Milli wanted, Milli free, Milli total) {
  auto number = [](Milli m) { return print_number(from_milli(std::max<Milli>(m, 0))); };
  return fmt::format("needs {} {}, {} {} free of {}", number(wanted), what, number(free), free == 1000 ? "is" : "are", number(total));
}

std::uint8_t traits_of(const link::AgentInfo& info) {
  return static_cast<std::uint8_t>((info.docker ? CapacityIndex::docker : 0) | (info.native ? CapacityIndex::native : 0));
}

CapacityIndex::Want want_of(const Shape& shape) {
  return {shape.resources, static_cast<std::uint32_t>(shape.host_ports.size()), shape.docker ? CapacityIndex::docker : CapacityIndex::native, nullptr};
}

}  // namespace

std::string_view to_string(Refusal r) {
  static constexpr std::string_view names[] = {"UnfulfilledRole", "UnfulfilledConstraint", "NoCorrespondingReservationFound", "AgentMaintenance", "InsufficientCpus",
                                               "InsufficientMemory", "InsufficientDisk", "InsufficientGpus", "InsufficientPorts", "DeclinedScarceResources", "UnfulfilledRuntime"};
  return names[static_cast<std::size_t>(r)];
}

// --- accounting ---

void Cluster::Impl::update_room(AgentEntry& a) {
  a.agent.tasks = a.tasks.size();
  index.set(a.slot, {a.agent.info.total - a.agent.used, a.port_count, traits_of(a.agent.info), a.agent.connected && a.agent.reachable && !a.agent.draining});
}

void Cluster::Impl::count_instance(const AppId& app, CapacityIndex::Slot slot, int by) {
  if (app.empty()) return;
  auto& spread = apps[app].spread;
  auto& n = spread[slot];
  n = static_cast<std::uint32_t>(static_cast<int>(n) + by);
  if (n == 0) spread.erase(slot);
}

void Cluster::Impl::take_port(AgentEntry& a, std::uint16_t port) {
  if (a.agent.free_ports.remove(port)) --a.port_count;
}

void Cluster::Impl::charge(AgentEntry& a, const Resources& r, const AppId& app) {
  a.agent.used += r;
  used += r;
  count_instance(app, a.slot, 1);
  update_room(a);
}

/// After a fail-over two tasks may hold one port: launched here, and reported later by its agent. It is free when the last one lets go.
static bool port_held(const AgentEntry& a, std::uint16_t port) {
  auto has = [port](const std::vector<std::uint16_t>& ports) { return std::find(ports.begin(), ports.end(), port) != ports.end(); };
  return has(a.reserved_ports) || std::any_of(a.tasks.begin(), a.tasks.end(), [&](const TaskEntry* t) { return t->holds && has(t->ports); });
}

void Cluster::Impl::release(AgentEntry& a, const Resources& r, const std::vector<std::uint16_t>& ports, const AppId& app) {
  a.agent.used -= r;
  used -= r;
  for (auto port : ports)
    if (a.agent.info.ports.contains(port) && !a.agent.free_ports.contains(port) && !port_held(a, port)) a.agent.free_ports.add(port), ++a.port_count;
  count_instance(app, a.slot, -1);
  update_room(a);
}

void Cluster::Impl::hold(TaskEntry& t) {
  if (std::exchange(t.holds, true) || !t.home) return;
  for (auto port : t.ports) take_port(*t.home, port);
  charge(*t.home, t.held, t.task.spec.app);
}

void Cluster::Impl::let_go(TaskEntry& t) {
  if (!std::exchange(t.holds, false) || !t.home) return;
  release(*t.home, t.held, t.ports, t.task.spec.app);
}

void Cluster::Impl::take_inventory(AgentEntry& a) {
  a.agent.free_ports = a.agent.info.ports;
  a.port_count = a.agent.free_ports.size();
  for (const auto* t : a.tasks)
    if (t->holds)
      for (auto port : t->ports) take_port(a, port);
  for (auto port : a.reserved_ports) take_port(a, port);
  update_room(a);
}

// --- placement ---

bool Cluster::Impl::has_ports(const AgentEntry& a, const Shape& shape) const {
  return std::all_of(shape.host_ports.begin(), shape.host_ports.end(), [&](std::uint16_t port) { return port == 0 || a.agent.free_ports.contains(port); });
}

/// An exact port that one instance wants twice: no agent can give it.
static std::optional<std::uint16_t> wanted_twice(const Shape& shape) {
  for (auto at = shape.host_ports.begin(); at != shape.host_ports.end(); ++at)
    if (*at != 0 && std::find(std::next(at), shape.host_ports.end(), *at) != shape.host_ports.end()) return *at;
  return std::nullopt;
}

/// The first step of Marathon's funnel at which this agent fails for the shape. Words cost time: only for those that will be shown.
std::optional<Refused> Cluster::Impl::refuses(const AgentEntry& a, const Shape& shape, bool in_words) const {
  const auto& info = a.agent.info;
  auto because = [&](Refusal reason, auto&& words) { return in_words ? Refused{a.agent.id, info.hostname, reason, words()} : Refused{{}, {}, reason, {}}; };
  if (shape.chooser && !shape.chooser->rank(a.agent)) return because(Refusal::constraint, [&] { return shape.chooser->why_not(a.agent); });
  if (!a.agent.reachable) return because(Refusal::maintenance, [] { return std::string("does not answer"); });
  if (!a.agent.connected) return because(Refusal::maintenance, [] { return std::string("is not connected at the moment"); });
  if (a.agent.draining) return because(Refusal::maintenance, [] { return std::string("is draining"); });
  const auto free = info.total - a.agent.used;
  const auto& want = shape.resources;
  if (want.cpus > free.cpus) return because(Refusal::cpus, [&] { return short_of("cpus", want.cpus, free.cpus, info.total.cpus); });
  if (want.mem > free.mem) return because(Refusal::mem, [&] { return short_of("MiB of mem", want.mem, free.mem, info.total.mem); });
  if (want.disk > free.disk) return because(Refusal::disk, [&] { return short_of("MiB of disk", want.disk, free.disk, info.total.disk); });
  if (want.gpus > free.gpus) return because(Refusal::gpus, [&] { return short_of("gpus", want.gpus, free.gpus, info.total.gpus); });
  if (auto twice = wanted_twice(shape)) return because(Refusal::ports, [&] { return fmt::format("needs port {} twice", *twice); });
  for (auto port : shape.host_ports) {
    if (port == 0 || a.agent.free_ports.contains(port)) continue;
    return because(Refusal::ports, [&] {
      return info.ports.contains(port) ? fmt::format("needs port {}, which is taken", port) : fmt::format("needs port {}, which it does not offer ({})", port, info.ports.str());
    });
  }
  if (shape.host_ports.size() > a.port_count)
    return because(Refusal::ports, [&] { return fmt::format("needs {} ports, {} are free of {}", shape.host_ports.size(), a.port_count, info.ports.size()); });
  if (shape.docker && !info.docker) return because(Refusal::runtime, [] { return std::string("has no Docker Engine"); });
  if (!shape.docker && !info.native) return because(Refusal::runtime, [] { return std::string("runs no native tasks"); });
  return std::nullopt;
}

std::vector<std::uint16_t> Cluster::Impl::pick_ports(AgentEntry& a, const Shape& shape) {
  auto out = shape.host_ports;
  for (auto port : out)
    if (port != 0) take_port(a, port);
  for (auto& port : out) {
    if (port != 0) continue;
    const auto& ranges = a.agent.free_ports.ranges();
    CROFT_ASSERT(!ranges.empty());
    auto at = std::lower_bound(ranges.begin(), ranges.end(), a.next_port, [](const PortRange& r, std::uint16_t p) { return r.end < p; });
    port = at == ranges.end() ? ranges.front().begin : std::max(at->begin, a.next_port);
    take_port(a, port);
    a.next_port = static_cast<std::uint16_t>(port == 65535 ? 0 : port + 1);
  }
  return out;
}

void Cluster::Impl::mark_handicaps(const Shape& shape) {
  handicap.resize(index.slots(), 0);
  if (auto app = apps.find(shape.app); app != apps.end())
    for (const auto& [slot, n] : app->second.spread) handicap[slot] = std::min(n, (1u << rank_shift) - 1);
  for (const auto& id : shape.avoid)
    if (auto at = agents.find(id); at != agents.end()) handicap[at->second.slot] |= avoided;
}

void Cluster::Impl::unmark_handicaps(const Shape& shape) {
  if (auto app = apps.find(shape.app); app != apps.end())
    for (const auto& [slot, n] : app->second.spread) handicap[slot] = 0;
  for (const auto& id : shape.avoid)
    if (auto at = agents.find(id); at != agents.end()) handicap[at->second.slot] = 0;
}

void Cluster::Impl::ask_chooser(Chooser& chooser) {
  eligible.assign((index.slots() + 63) / 64, 0);
  ranks.assign(index.slots(), 0);
  for (const auto& [id, a] : agents) {
    auto rank = chooser.rank(a.agent);
    if (!rank) continue;
    eligible[a.slot / 64] |= std::uint64_t{1} << (a.slot % 64);
    ranks[a.slot] = static_cast<std::uint8_t>(std::min<std::uint32_t>(*rank, 255));
  }
}

/// Instances go one by one to the agent with the fewest of the same app, and among these to the one that has the least left over.
PlaceResult Cluster::place(const Shape& shape, std::uint32_t count) {
  auto& i = *impl_;
  PlaceResult result;
  result.agents_considered = static_cast<std::uint32_t>(i.agents.size());
  i.index.refresh();
  i.mark_handicaps(shape);
  auto want = want_of(shape);
  if (shape.chooser) i.ask_chooser(*shape.chooser), want.eligible = i.eligible.data();
  const bool exact_ports = std::any_of(shape.host_ports.begin(), shape.host_ports.end(), [](std::uint16_t p) { return p != 0; });
  const bool impossible = exact_ports && wanted_twice(shape).has_value();
  auto judge = [&](CapacityIndex::Slot slot) -> std::optional<std::uint32_t> {
    if (impossible || (exact_ports && !i.has_ports(*i.by_slot[slot], shape))) return std::nullopt;
    return shape.chooser ? i.handicap[slot] + (static_cast<std::uint32_t>(i.ranks[slot]) << rank_shift) : i.handicap[slot];
  };
  // While one batch is placed agents only get fuller: once the best had a handicap, no later one has a smaller.
  std::uint32_t floor = 0;
  result.placed.reserve(count);
  while (result.placed.size() < count) {
    auto pick = i.options.look_at_all ? i.index.scan(want, judge) : i.index.best(want, floor, judge);
    if (!pick) break;
    floor = pick->handicap;
    auto& agent = *i.by_slot[pick->slot];
    Placement p{agent.agent.id, agent.agent.info.hostname, agent.agent.info.ip, i.pick_ports(agent, shape)};
    agent.reserved += shape.resources;
    agent.reserved_ports.insert(agent.reserved_ports.end(), p.host_ports.begin(), p.host_ports.end());
    i.charge(agent, shape.resources, shape.app);
    ++i.handicap[pick->slot];
    if (shape.chooser && shape.chooser->placed(agent.agent)) {
      i.ask_chooser(*shape.chooser);
      want.eligible = i.eligible.data();
      floor = 0;
    }
    result.placed.push_back(std::move(p));
  }
  i.unmark_handicaps(shape);
  if (shape.app.empty()) std::fill(i.handicap.begin(), i.handicap.end(), 0);
  if (result.placed.size() < count) i.list_refusals(shape, result);
  return result;
}

void Cluster::Impl::list_refusals(const Shape& shape, PlaceResult& result) const {
  for (const auto& [id, entry] : agents) {
    auto refused = refuses(entry, shape, result.refused.size() < refused_max);
    if (!refused) continue;
    ++result.by_reason[static_cast<std::size_t>(refused->reason)];
    if (result.refused.size() < refused_max) result.refused.push_back(std::move(*refused));
  }
}

void Cluster::Impl::unreserve(AgentEntry& a, const Resources& r, const std::vector<std::uint16_t>& ports) {
  a.reserved -= r;
  CROFT_ASSERT(!a.reserved.negative());  // launched or given back twice
  for (auto port : ports) {
    auto at = std::find(a.reserved_ports.begin(), a.reserved_ports.end(), port);
    CROFT_ASSERT(at != a.reserved_ports.end());
    *at = a.reserved_ports.back();
    a.reserved_ports.pop_back();
  }
}

void Cluster::give_back(const Shape& shape, const Placement& placement) {
  auto* agent = impl_->find_agent(placement.agent);
  if (!agent) return;
  impl_->unreserve(*agent, shape.resources, placement.host_ports);
  impl_->release(*agent, shape.resources, placement.host_ports, shape.app);
}

void Cluster::launch(TaskSpec spec, const Shape& shape, const Placement& placement, Now now) {
  auto& i = *impl_;
  CROFT_ASSERT(!i.tasks.contains(spec.id));
  auto* agent = i.find_agent(placement.agent);
  spec.staged_at = std::chrono::floor<Millis>(now.wall);
  auto& entry = i.add_task(agent, std::move(spec));
  entry.held = shape.resources;
  entry.ports = placement.host_ports;
  entry.task.staged_at = entry.task.spec.staged_at;
  entry.task.status.state = TaskState::staging;
  entry.task.status.at = now.wall;
  i.task_changed(entry, true);
  if (!agent) {
    i.end_with(entry, TaskState::lost, "REASON_SLAVE_REMOVED", "its agent was removed before it was launched", now);
    return;
  }
  entry.holds = true;  // charged by place()
  i.unreserve(*agent, shape.resources, placement.host_ports);
  if (shape.app != entry.task.spec.app) i.count_instance(shape.app, agent->slot, -1), i.count_instance(entry.task.spec.app, agent->slot, 1);
  i.update_room(*agent);
  i.tell(entry);
}

}  // namespace croft::cluster
