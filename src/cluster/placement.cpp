// Accounting and placement: best fit over the free capacity, in fixed point.

#include "base/text.hpp"
#include "cluster/impl.hpp"

namespace croft::cluster {

namespace {

constexpr std::size_t refused_max = 100;
constexpr int candidates_max = 24;  // agents with just enough cpus that are looked at closely

std::string short_of(std::string_view what, Milli wanted, Milli free) {
  return fmt::format("needs {} {}, {} are free", print_number(from_milli(wanted)), what, print_number(from_milli(std::max<Milli>(free, 0))));
}

/// How much of an agent stays free, relative to what it has: the fullest kind decides. Smaller is the better fit.
double slack(const Resources& free, const Resources& wanted, const Resources& total) {
  auto part = [](Milli f, Milli w, Milli t) { return t > 0 ? static_cast<double>(f - w) / static_cast<double>(t) : 0.0; };
  return part(free.cpus, wanted.cpus, total.cpus) + part(free.mem, wanted.mem, total.mem);
}

}  // namespace

void Cluster::Impl::reindex(AgentEntry& agent) {
  if (agent.agent.reachable) by_free_cpus.insert({free_of(agent).cpus, agent.agent.id});
}

void Cluster::Impl::charge(AgentEntry& agent, const Resources& r, const std::vector<std::uint16_t>& ports, const AppId& app) {
  by_free_cpus.erase({free_of(agent).cpus, agent.agent.id});
  agent.agent.used += r;
  used += r;
  for (auto port : ports) agent.agent.free_ports.remove(port);
  if (!app.empty()) ++agent.per_app[app];
  reindex(agent);
}

void Cluster::Impl::release(AgentEntry& agent, const Resources& r, const std::vector<std::uint16_t>& ports, const AppId& app) {
  by_free_cpus.erase({free_of(agent).cpus, agent.agent.id});
  agent.agent.used -= r;
  used -= r;
  PortSet mine = agent.agent.info.ports;
  for (auto port : ports)
    if (mine.contains(port)) agent.agent.free_ports.add(port);
  if (auto at = agent.per_app.find(app); at != agent.per_app.end() && --at->second == 0) agent.per_app.erase(at);
  reindex(agent);
}

void Cluster::Impl::hold(TaskEntry& task) {
  if (std::exchange(task.holds, true)) return;
  if (auto agent = agents.find(task.task.agent); agent != agents.end()) {
    charge(agent->second, task.shape.resources, task.ports, task.task.spec.app);
    agent->second.agent.tasks = agent->second.tasks.size();
  }
}

void Cluster::Impl::let_go(TaskEntry& task) {
  if (!std::exchange(task.holds, false)) return;
  if (auto agent = agents.find(task.task.agent); agent != agents.end()) release(agent->second, task.shape.resources, task.ports, task.task.spec.app);
}

/// The first step of Marathon's funnel at which this agent fails for the shape.
std::optional<Refused> Cluster::Impl::refuses(const AgentEntry& entry, const Shape& shape) const {
  const auto& agent = entry.agent;
  auto because = [&](Refusal reason, std::string detail) { return Refused{agent.id, agent.info.hostname, reason, std::move(detail)}; };
  auto free = free_of(entry);
  const auto& want = shape.resources;
  if (want.cpus > free.cpus) return because(Refusal::cpus, short_of("cpus", want.cpus, free.cpus));
  if (want.mem > free.mem) return because(Refusal::mem, short_of("MiB of mem", want.mem, free.mem));
  if (want.disk > free.disk) return because(Refusal::disk, short_of("MiB of disk", want.disk, free.disk));
  if (want.gpus > free.gpus) return because(Refusal::gpus, short_of("gpus", want.gpus, free.gpus));
  std::size_t any = 0;
  for (auto port : shape.host_ports) {
    if (port == 0) ++any;
    else if (!agent.free_ports.contains(port))
      return because(Refusal::ports, agent.info.ports.contains(port) ? fmt::format("port {} is taken", port) : fmt::format("port {} is not offered ({})", port, agent.info.ports.str()));
  }
  if (any > 0 && any > agent.free_ports.size()) return because(Refusal::ports, fmt::format("needs {} ports, {} are free", any, agent.free_ports.size()));
  if (shape.docker && !agent.info.docker) return because(Refusal::runtime, "has no Docker Engine");
  if (!shape.docker && !agent.info.native) return because(Refusal::runtime, "runs no native tasks");
  return std::nullopt;
}

std::vector<std::uint16_t> Cluster::Impl::pick_ports(AgentEntry& entry, const Shape& shape) const {
  std::vector<std::uint16_t> out;
  auto free = entry.agent.free_ports;
  for (auto port : shape.host_ports)
    if (port) free.remove(port);
  for (auto port : shape.host_ports) {
    if (port == 0) {
      const auto& ranges = free.ranges();
      CROFT_ASSERT(!ranges.empty());
      auto at = std::find_if(ranges.begin(), ranges.end(), [&](const PortRange& r) { return r.end >= entry.next_port; });
      if (at == ranges.end()) at = ranges.begin();
      port = std::max(at->begin, entry.next_port <= at->end ? std::max(at->begin, entry.next_port) : at->begin);
      free.remove(port);
      entry.next_port = static_cast<std::uint16_t>(port == 65535 ? 0 : port + 1);
    }
    out.push_back(port);
  }
  return out;
}

/// Agents in order of free cpus, from the first that has enough: the best fit of the next few, with fewer instances of the same
/// app and not to be avoided counting first.
AgentEntry* Cluster::Impl::best_for(const Shape& shape) {
  AgentEntry* best = nullptr;
  std::tuple<bool, std::uint32_t, double> best_rank{};
  int looked = 0;
  for (auto at = by_free_cpus.lower_bound({shape.resources.cpus, AgentId()}); at != by_free_cpus.end(); ++at) {
    auto& entry = agents.at(at->second);
    if (refuses(entry, shape)) continue;
    bool avoid = std::find(shape.avoid.begin(), shape.avoid.end(), entry.agent.id) != shape.avoid.end();
    auto same = entry.per_app.find(shape.app);
    std::tuple rank{avoid, same == entry.per_app.end() ? 0u : same->second, slack(free_of(entry), shape.resources, entry.agent.info.total)};
    if (!best || rank < best_rank) best = &entry, best_rank = rank;
    if (++looked >= candidates_max && !std::get<0>(best_rank)) break;
  }
  return best;
}

PlaceResult Cluster::place(const Shape& shape, std::uint32_t count) {
  auto& i = *impl_;
  PlaceResult result;
  result.agents_considered = static_cast<std::uint32_t>(i.agents.size());
  while (result.placed.size() < count) {
    auto* agent = i.best_for(shape);
    if (!agent) break;
    Placement p{agent->agent.id, agent->agent.info.hostname, agent->agent.info.ip, i.pick_ports(*agent, shape)};
    i.charge(*agent, shape.resources, p.host_ports, shape.app);
    result.placed.push_back(std::move(p));
  }
  if (result.placed.size() == count) return result;
  for (const auto& [id, entry] : i.agents) {
    if (result.refused.size() >= refused_max) break;
    if (!entry.agent.reachable) result.refused.push_back({id, entry.agent.info.hostname, Refusal::maintenance, "does not answer"});
    else if (auto refused = i.refuses(entry, shape)) result.refused.push_back(std::move(*refused));
  }
  return result;
}

void Cluster::give_back(const Shape& shape, const Placement& placement) {
  if (auto at = impl_->agents.find(placement.agent); at != impl_->agents.end()) impl_->release(at->second, shape.resources, placement.host_ports, shape.app);
}

void Cluster::launch(TaskSpec spec, const Shape& shape, const Placement& placement, Now now) {
  auto& i = *impl_;
  auto id = spec.id;
  CROFT_ASSERT(!i.tasks.contains(id));
  auto& entry = i.tasks[id];
  entry.shape = shape;
  entry.ports = placement.host_ports;
  entry.holds = true;  // charged by place()
  entry.task.agent = placement.agent;
  entry.task.staged_at = now.wall;
  entry.task.status.task = id;
  entry.task.status.state = TaskState::staging;
  entry.task.status.at = now.wall;
  i.by_app[spec.app].insert(id);
  entry.task.spec = std::move(spec);
  i.emit(Event::Kind::task_changed, placement.agent, id);
  i.events.back().state_changed = true;
  if (auto agent = i.agents.find(placement.agent); agent != i.agents.end()) {
    agent->second.tasks.insert(id);
    agent->second.agent.tasks = agent->second.tasks.size();
    i.send_delta(agent->second, {{entry.task.spec, link::Goal::run, std::nullopt}}, {});
  }
}

std::string Cluster::audit() const {
  const auto& i = *impl_;
  Resources used, total;
  for (const auto& [id, entry] : i.agents) {
    Resources sum;
    std::set<std::uint16_t> taken;
    for (const auto& task : entry.tasks) {
      auto at = i.tasks.find(task);
      if (at == i.tasks.end()) return fmt::format("agent {} lists task {}, which is not known", id, task);
      if (!at->second.holds) continue;
      sum += at->second.shape.resources;
      for (auto port : at->second.ports) {
        if (!taken.insert(port).second) return fmt::format("agent {}: port {} is promised twice", id, port);
        if (entry.agent.free_ports.contains(port)) return fmt::format("agent {}: port {} is promised and free", id, port);
      }
    }
    if (sum != entry.agent.used) return fmt::format("agent {}: its tasks hold other resources than are charged", id);
    used += sum;
    total += entry.agent.info.total;
    if (i.by_free_cpus.contains({i.free_of(entry).cpus, id}) != entry.agent.reachable) return fmt::format("agent {}: the index by free cpus is out of step", id);
  }
  if (used != i.used) return "the sum of used resources is wrong";
  if (total != i.total) return "the sum of total resources is wrong";
  for (const auto& [id, entry] : i.tasks)
    if (!i.by_app.contains(entry.task.spec.app)) return fmt::format("task {} is missing in its app's set", id);
  return {};
}

}  // namespace croft::cluster
