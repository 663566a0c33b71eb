#include "orchestrator/constraints.hpp"

#include <re2/re2.h>

#include <algorithm>
#include <cmath>

#include "base/text.hpp"

namespace croft::orchestrator {

namespace {

constexpr std::string_view names[] = {"UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS"};

std::optional<std::size_t> operator_of(std::string_view name) {
  auto at = std::find_if(std::begin(names), std::end(names), [&](auto n) { return iequals(n, name); });
  return at == std::end(names) ? std::nullopt : std::optional(static_cast<std::size_t>(at - std::begin(names)));
}

/// "hostname" and "@hostname" are the host's name; "@region" and "@zone" are attributes without the sign.
std::optional<std::string> value_of(const cluster::Agent& agent, std::string_view field) {
  if (field == "hostname" || field == "@hostname") return agent.info.hostname;
  auto find = [&](std::string_view name) -> std::optional<std::string> {
    auto at = agent.info.attributes.find(std::string(name));
    return at == agent.info.attributes.end() ? std::nullopt : std::optional(at->second);
  };
  auto value = find(field);
  return value || !field.starts_with('@') ? value : find(field.substr(1));
}

/// Equality as text, or as numbers to three decimals.
bool same_value(const std::string& a, const std::string& b) {
  if (a == b) return true;
  auto x = to_double(a), y = to_double(b);
  return x && y && std::nearbyint(*x * 1000) == std::nearbyint(*y * 1000);
}

re2::RE2::Options quiet() {
  re2::RE2::Options o;
  o.set_log_errors(false);
  return o;
}

}  // namespace

std::string constraint_problem(const std::vector<std::string>& c) {
  if (c.size() < 2 || c.size() > 3) return "Each constraint must have either 2 or 3 fields";
  auto which = operator_of(c[1]);
  if (!which) return "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS";
  auto name = names[*which];
  bool valued = c.size() == 3;
  if (name == "UNIQUE" && valued) return "UNIQUE does not accept a value";
  if (name == "GROUP_BY" && valued && to_int(c[2]).value_or(0) < 1) return "GROUP BY must define an integer value or else no value at all";
  if (name == "MAX_PER" && (!valued || to_int(c[2]).value_or(-1) < 0)) return "MAX_PER requires an integer value";
  if (name == "IS" && !valued) return "IS requires a value";
  if (name == "LIKE" || name == "UNLIKE") {
    if (!valued || c[2].empty()) return "LIKE and UNLIKE require a non-empty, regular expression value";
    if (!re2::RE2(c[2], quiet()).ok()) return fmt::format("'{}' is not a valid regular expression", c[2]);
  }
  return {};
}

bool Constraints::One::changes() const {
  return kind == Kind::unique || kind == Kind::group_by || kind == Kind::max_per || (kind == Kind::cluster && value.empty());
}

Constraints::~Constraints() = default;

Constraints::Constraints(const App& app, const cluster::Cluster& farm) : instances_(app.instances) {
  for (const auto& c : app.constraints) {
    auto which = c.size() < 2 ? std::nullopt : operator_of(c[1]);
    if (!which) continue;
    One one{static_cast<Kind>(*which), c[0], c.size() > 2 ? c[2] : "", 0, nullptr, {}};
    if (auto n = to_int(one.value)) one.number = *n;
    if (one.kind == Kind::like || one.kind == Kind::unlike) one.regex = std::make_unique<re2::RE2>(one.value, quiet());
    changes_ = changes_ || one.changes();
    all_.push_back(std::move(one));
  }
  if (!changes_) return;
  for (const auto* task : farm.tasks_of(app.id)) {
    auto state = task->status.state;
    if (is_terminal(state) || state == TaskState::unreachable || task->spec.app_version < app.last_config_change) continue;
    const auto* agent = farm.agent(task->agent);
    for (auto& one : all_)
      if (auto value = agent ? value_of(*agent, one.field) : std::nullopt) ++one.used[*value];
  }
}

/// n groups, filled alike. Without a number a group that is new may always be begun, and of the begun ones the smallest takes the next.
bool Constraints::group_has_room(const One& one, const std::string& value) const {
  auto at = one.used.find(value);
  auto count = at == one.used.end() ? 0u : at->second;
  if (one.number <= 0) {
    if (count == 0) return true;
    return std::all_of(one.used.begin(), one.used.end(), [&](const auto& g) { return count <= g.second; });
  }
  auto groups = static_cast<std::uint32_t>(one.number);
  if (count == 0 && one.used.size() >= groups) return false;
  auto share = instances_ / groups, rest = instances_ % groups;
  if (count < share) return true;
  if (count > share) return false;
  auto above = static_cast<std::uint32_t>(std::count_if(one.used.begin(), one.used.end(), [&](const auto& g) { return g.second > share; }));
  return above < rest;
}

bool Constraints::allows(const One& one, const std::optional<std::string>& value) const {
  if (!value) return one.kind == Kind::unlike;
  switch (one.kind) {
    case Kind::unique: return !one.used.contains(*value);
    case Kind::cluster: return one.value.empty() ? one.used.empty() || one.used.contains(*value) : *value == one.value;
    case Kind::group_by: return group_has_room(one, *value);
    case Kind::like: return re2::RE2::FullMatch(*value, *one.regex);
    case Kind::unlike: return !re2::RE2::FullMatch(*value, *one.regex);
    case Kind::max_per: {
      auto at = one.used.find(*value);
      return static_cast<std::int64_t>(at == one.used.end() ? 0 : at->second) < one.number;
    }
    case Kind::is: return same_value(*value, one.value);
  }
  return false;
}

std::optional<std::uint32_t> Constraints::rank(const cluster::Agent& agent) {
  auto [fixed, fresh] = fixed_.try_emplace(&agent, true);
  if (fresh)
    for (const auto& one : all_)
      if (!one.changes() && !allows(one, value_of(agent, one.field))) fixed->second = false;
  if (!fixed->second) return std::nullopt;
  std::uint32_t crowd = 0;
  for (const auto& one : all_) {
    if (!one.changes()) continue;
    auto value = value_of(agent, one.field);
    if (!allows(one, value)) return std::nullopt;
    if (one.kind == Kind::group_by)
      if (auto at = one.used.find(*value); at != one.used.end()) crowd = std::max(crowd, at->second);
  }
  return crowd;
}

std::string Constraints::why_not(const cluster::Agent& agent) const {
  for (const auto& one : all_) {
    auto value = value_of(agent, one.field);
    if (allows(one, value)) continue;
    auto name = names[static_cast<std::size_t>(one.kind)];
    auto wanted = fmt::format("{} {}{}{}", one.field, name, one.value.empty() ? "" : " ", one.value);
    if (!value) return fmt::format("has no attribute {}, which the constraint {} asks for", one.field, wanted);
    if (!one.changes()) return fmt::format("has {} {}, and the constraint is {}", one.field, *value, wanted);
    auto at = one.used.find(*value);
    auto n = at == one.used.end() ? 0u : at->second;
    return fmt::format("has {} {} with {} instance{} already, and the constraint is {}", one.field, *value, n, n == 1 ? "" : "s", wanted);
  }
  return "is not allowed by the constraints";
}

bool Constraints::placed(const cluster::Agent& agent) {
  if (!changes_) return false;
  for (auto& one : all_)
    if (auto value = value_of(agent, one.field)) ++one.used[*value];
  return true;
}

std::vector<const cluster::Task*> evened_out(const App& app, const cluster::Cluster& farm, std::vector<const cluster::Task*> order, const std::vector<TaskId>& named) {
  auto by = std::find_if(app.constraints.begin(), app.constraints.end(), [](const auto& c) { return c.size() >= 2 && iequals(c[1], "GROUP_BY"); });
  if (by == app.constraints.end()) return order;
  std::vector<const cluster::Task*> out;
  std::map<std::string, std::vector<const cluster::Task*>> groups;  // each in the order given
  for (const auto* task : order) {
    if (std::find(named.begin(), named.end(), task->spec.id) != named.end()) {
      out.push_back(task);
      continue;
    }
    const auto* agent = farm.agent(task->agent);
    groups[agent ? value_of(*agent, (*by)[0]).value_or("") : ""].push_back(task);
  }
  std::map<const cluster::Task*, std::size_t> position;
  for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = i;
  std::map<std::string, std::size_t> taken;
  while (out.size() < order.size()) {
    const std::string* biggest = nullptr;
    auto left = [&](const std::string& g) { return groups[g].size() - taken[g]; };
    auto next = [&](const std::string& g) { return position[groups[g][taken[g]]]; };
    for (const auto& [name, tasks] : groups) {
      if (left(name) == 0) continue;
      if (!biggest || left(name) > left(*biggest) || (left(name) == left(*biggest) && next(name) < next(*biggest))) biggest = &name;
    }
    out.push_back(groups[*biggest][taken[*biggest]++]);
  }
  return out;
}

}  // namespace croft::orchestrator
