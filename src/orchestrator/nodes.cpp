// Nodes that an operator wants empty, or gives up.

#include <algorithm>

#include "base/json.hpp"
#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

std::optional<AgentId> Orchestrator::node(const std::string& name, bool dead) const {
  std::optional<AgentId> found;
  for (const auto* agent : impl_->cluster.agents()) {
    if (agent->id.str() == name) return agent->id;
    if (agent->info.hostname == name && (!found || agent->reachable != dead)) found = agent->id;
  }
  if (found) return found;
  // Known from an earlier leader's time, and not heard since.
  for (const auto& [id, record] : impl_->registry) {
    auto known = json::parse(record);
    if (id.str() == name || (known && json::text(*known, "hostname") == name)) found = id;
  }
  return found;
}

std::optional<Refusal> Orchestrator::Impl::propose_node(const AgentId& id, NodeMode mode, coordination::Batch& batch) const {
  const auto* agent = cluster.agent(id);
  if (!agent && !registry.contains(id)) return refuse(Errc::not_found, fmt::format("There is no node {}", id)).error();
  auto key = "nodes/" + id.str();
  if (mode == NodeMode::draining) {
    batch.put[key] = R"({"format":1,"mode":"draining"})";
    return std::nullopt;
  }
  if (draining.contains(id)) batch.remove.push_back(key);
  if (mode == NodeMode::active) return std::nullopt;
  if (agent && agent->connected) return refuse(Errc::conflict, fmt::format("{} answers: drain it, and stop croft on it, before it is called down", agent->info.hostname)).error();
  if (registry.contains(id)) batch.remove.push_back("agents/" + id.str());
  return std::nullopt;
}

void Orchestrator::Impl::touch_apps_on(const AgentId& node) {
  for (const auto* task : cluster.tasks())
    if (task->agent == node) touch(task->spec.app);
}

void Orchestrator::Impl::apply_node(const AgentId& node, NodeMode mode, Now now) {
  if (mode == NodeMode::draining) draining.insert(node);
  else draining.erase(node);
  cluster.set_draining(node, mode == NodeMode::draining);
  touch_apps_on(node);
  touch_waiting();
  if (mode != NodeMode::down) return;
  registry.erase(node);
  // It came back while this was being stored: it is no more gone than any other.
  if (const auto* agent = cluster.agent(node); agent && agent->connected) return enroll(node);
  awaited.erase(node);
  std::erase_if(lost_agents, [&](const auto& lost) { return lost.second == node; });  // known to be gone: no reason to hold others back
  reap_removed(node, false, now);
  if (!cluster.remove_agent(node, now)) catalog.remove_node(node);  // not heard by this leader: followers may have kept what it had
}

}  // namespace croft::orchestrator
