#include "orchestrator/changes.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/app_json.hpp"

namespace croft::orchestrator {

namespace {

constexpr std::size_t line_max = 300, acl_shown = 200;
constexpr std::size_t compared_max = 1u << 20;  // bytes of definitions that are compared field by field: the leader does nothing else meanwhile

bool is_told(const boost::json::value& v) { return v.is_number() || v.is_bool() || v.is_null(); }

/// Records of our own making: they can be read.
boost::json::object record_of_app(const App& app, std::size_t& compared) {
  auto text = encode_app(app);
  compared += text.size();
  auto parsed = json::parse(text);
  return parsed && parsed->is_object() ? std::move(parsed->get_object()) : boost::json::object();
}

/// A container's parts one by one: what it runs is what is looked for first.
void unfold(boost::json::object& app) {
  auto* container = app.if_contains("container");
  if (!container || !container->is_object()) return;
  auto inner = container->get_object();
  app.erase("container");
  for (auto& [key, value] : inner) {
    if (key != "docker" || !value.is_object()) {
      app[fmt::format("container.{}", std::string_view(key))] = value;
      continue;
    }
    for (auto& [field, of] : value.get_object()) app[fmt::format("docker.{}", std::string_view(field))] = of;
  }
}

std::string changed_fields(const App& before, App after, std::size_t& compared) {
  if (compared >= compared_max) return "changed";
  // A port that is left to the farm stays what it was.
  for (std::size_t i = 0; i < std::min(before.ports.size(), after.ports.size()); ++i)
    if (after.ports[i].port == 0) after.ports[i].port = before.ports[i].port;
  auto old = record_of_app(before, compared), fresh = record_of_app(after, compared);
  unfold(old), unfold(fresh);
  std::vector<std::string> told;
  auto look = [&](std::string_view key, const boost::json::value* was, const boost::json::value* is) {
    if (key == "version" || key == "versionInfo" || (was && is && *was == *is)) return;
    bool values = was && is && is_told(*was) && is_told(*is);
    told.push_back(values ? fmt::format("{} {} -> {}", key, json::print(*was), json::print(*is)) : std::string(key));
  };
  for (const auto& [key, value] : old) look(key, &value, fresh.if_contains(key));
  for (const auto& [key, value] : fresh)
    if (!old.contains(key)) look(key, nullptr, &value);
  return told.empty() ? "nothing" : join(told, ", ");
}

}  // namespace

std::vector<std::string> changes_of(const Intent& intent, const Orchestrator& state) {
  std::vector<std::string> out;
  std::size_t more = 0, compared = 0;
  auto tell = [&](std::string_view of, std::string_view what) {
    if (out.size() >= apps_told) return void(++more);
    auto line = fmt::format("{}: {}", of, what);
    if (line.size() > line_max) line.resize(line_max), line += "…";
    out.push_back(std::move(line));
  };
  for (const auto& [id, app] : intent.apps) {
    const auto* stored = out.size() < apps_told ? state.app(id) : nullptr;
    tell(id.str(), !app ? "removed" : out.size() >= apps_told ? "" : !stored ? "new" : changed_fields(*stored, *app, compared));
  }
  for (const auto& id : intent.restart) tell(id.str(), "restarted");
  for (const auto& [id, tasks] : intent.victims) tell(id.str(), fmt::format("{} tasks killed", tasks.size()));
  for (const auto& [id, rule] : intent.rules) tell(id.str(), rule ? "rule " + rule->acl.substr(0, acl_shown) : "rule removed");
  for (const auto& [id, mode] : intent.nodes) tell(id.str(), mode == NodeMode::draining ? "drained" : mode == NodeMode::down ? "down" : "active");
  if (intent.cancel) tell("deployment " + intent.cancel->str(), intent.force ? "dropped" : "rolled back");
  if (more > 0) out.push_back(fmt::format("and {} more", more));
  return out;
}

}  // namespace croft::orchestrator
