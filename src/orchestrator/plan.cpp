// From what is to what shall be: the steps of a deployment, and what must hold between apps.

#include <algorithm>
#include <functional>

#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

namespace {

bool mapped(const App& a) { return !a.networks.empty() && a.networks[0].mode != NetworkMode::host; }
std::uint16_t& service_port_of(PortDefinition& p, bool with_mappings) { return with_mappings ? p.service_port : p.port; }
std::uint16_t service_port_of(const PortDefinition& p, bool with_mappings) { return with_mappings ? p.service_port : p.port; }

Refusal at_fault(std::string field, std::string text) { return {{Errc::invalid, std::move(text)}, {}, std::move(field)}; }

}  // namespace

std::set<std::uint16_t> Orchestrator::Impl::service_ports_of_others(const Apps& edits) const {
  std::set<std::uint16_t> taken;
  auto collect = [&](const App& a) {
    for (const auto& p : a.ports)
      if (auto port = service_port_of(p, mapped(a))) taken.insert(port);
  };
  for (const auto& [id, app] : apps) {
    auto edit = edits.find(id);
    if (edit == edits.end()) collect(app);
    else if (edit->second) collect(app), collect(*edit->second);  // its own, to be used again: nobody else in this change may have them
  }
  for (const auto& [id, app] : edits)
    if (app && !apps.contains(id)) collect(*app);
  return taken;
}

/// Service ports given as 0 get, in order, the numbers that the app has had and gives no longer by name, then free ones of the range.
std::optional<Refusal> Orchestrator::Impl::assign_service_ports(App& app, std::set<std::uint16_t>& taken) const {
  bool with_mappings = mapped(app);
  std::vector<std::uint16_t> own;
  if (auto old = apps.find(app.id); old != apps.end())
    for (const auto& p : old->second.ports) {
      auto port = service_port_of(p, mapped(old->second));
      bool given = std::any_of(app.ports.begin(), app.ports.end(), [&](const PortDefinition& d) { return service_port_of(d, with_mappings) == port; });
      if (port != 0 && !given) own.push_back(port);
    }
  std::size_t next_own = 0;
  auto candidate = static_cast<std::uint32_t>(options.service_port_min);
  for (auto& definition : app.ports) {
    auto& port = service_port_of(definition, with_mappings);
    if (port != 0) continue;
    if (next_own < own.size()) {
      port = own[next_own++];
      continue;
    }
    while (candidate < options.service_port_max && taken.contains(static_cast<std::uint16_t>(candidate))) ++candidate;
    if (candidate >= options.service_port_max)
      return Refusal{{Errc::invalid, fmt::format("All ports in the range [{}-{}) are already in use", options.service_port_min, options.service_port_max)}, {}};
    port = static_cast<std::uint16_t>(candidate);
    taken.insert(port);
  }
  return std::nullopt;
}

/// An app and a group of the same name: "/a" beside "/a/b".
std::optional<Refusal> Orchestrator::Impl::clash(const AppId& id, const Apps& edits) const {
  auto there = [&](const AppId& other) {
    auto edit = edits.find(other);
    return edit != edits.end() ? edit->second.has_value() : apps.contains(other);
  };
  const auto below = id.str() + "/";
  auto below_in = [&](const auto& map) {
    for (auto at = map.lower_bound(AppId(below)); at != map.end() && at->first.str().starts_with(below); ++at)
      if (there(at->first)) return true;
    return false;
  };
  bool wrong = below_in(apps) || below_in(edits);
  for (auto slash = id.str().rfind('/'); !wrong && slash != std::string::npos && slash > 0; slash = id.str().rfind('/', slash - 1)) wrong = there(AppId(id.str().substr(0, slash)));
  if (!wrong) return std::nullopt;
  return at_fault("/id", "Groups and Applications may not have the same identifier.");
}

/// Of each app of a change: the length of the longest chain of dependencies that starts at it, over all apps as they shall be. Nothing
/// when apps wait for each other in a circle. A dependency that does not exist has no effect.
std::optional<std::map<AppId, int>> Orchestrator::Impl::levels(const Apps& to) const {
  std::map<AppId, const App*> all;
  for (const auto& [id, app] : apps) all.emplace(id, &app);
  for (const auto& [id, app] : to) {
    if (app) all[id] = &*app;
    else all.erase(id);
  }
  constexpr int under_way = -1;
  std::map<AppId, int> found;
  std::function<int(const App&)> level = [&](const App& app) -> int {
    auto [at, fresh] = found.emplace(app.id, under_way);
    if (!fresh) return at->second;
    int deepest = 1;
    auto look = [&](const App& other) {
      auto theirs = level(other);
      deepest = theirs == under_way || deepest == under_way ? under_way : std::max(deepest, theirs + 1);
    };
    for (const auto& dependency : app.dependencies) {
      auto below = dependency.str() == "/" ? "/" : dependency.str() + "/";
      if (auto exact = all.find(dependency); exact != all.end()) look(*exact->second);
      for (auto one = all.lower_bound(AppId(below)); one != all.end() && one->first.str().starts_with(below); ++one) look(*one->second);
    }
    return found[app.id] = deepest;
  };
  std::map<AppId, int> out;
  for (const auto& [id, app] : to) {
    if (!app) continue;
    auto n = level(*app);
    if (n == under_way) return std::nullopt;
    out[id] = n;
  }
  return out;
}

constexpr std::size_t steps_max = 100;

std::expected<std::vector<Step>, Refusal> Orchestrator::Impl::plan(const Apps& from, const Apps& to, const std::set<AppId>& restart) const {
  Step stops, starts;
  std::map<AppId, Action> work;
  for (const auto& [id, target] : to) {
    const auto& original = from.at(id);
    if (!target) {
      if (original) stops.push_back({ActionKind::stop, id});
    } else if (!original) {
      starts.push_back({ActionKind::start, id});
      work.emplace(id, Action{ActionKind::scale, id});
    } else if (restart.contains(id) || !target->same_config(*original)) {
      work.emplace(id, Action{target->instances == 0 ? ActionKind::scale : ActionKind::restart, id});
    } else if (target->instances != original->instances) {
      work.emplace(id, Action{ActionKind::scale, id});
    }
  }
  auto depth = levels(to);
  if (!depth) return std::unexpected(at_fault("/", "Dependency graph has cyclic dependencies."));
  std::map<int, Step> by_level;
  for (const auto& [id, action] : work) by_level[depth->at(id)].push_back(action);
  std::vector<Step> steps;
  if (!stops.empty()) steps.push_back(std::move(stops));
  if (!starts.empty()) steps.push_back(std::move(starts));
  for (auto& [level, step] : by_level) steps.push_back(std::move(step));
  // A deployment is told whole at each of its steps, so its cost grows with the square of them.
  if (steps.size() > steps_max) return std::unexpected(at_fault("/", fmt::format("Dependencies are {} deep; at most {} can be deployed.", steps.size(), steps_max)));
  return steps;
}

}  // namespace croft::orchestrator
