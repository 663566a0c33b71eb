#include "agent/health.hpp"

#include <algorithm>

namespace croft::agent {

constexpr Millis told_after{2000};  // what fails longer than programs mostly need to start is worth knowing

bool ready_on(const ReadinessCheck& check, const ProbeResult& result) {
  return std::find(check.ready_statuses.begin(), check.ready_statuses.end(), result.status) != check.ready_statuses.end();
}

CheckMachine::Action CheckMachine::observe(const ProbeResult& result, Mono now) {
  if (result.ignored) return Action::none;
  auto before = alive_;
  if (result.passed) {
    succeeded_ = true;
    failures_ = 0;
    cause_.clear();
    alive_ = true;
    return before == alive_ ? Action::none : Action::announce;
  }
  // A task that has not passed yet is still starting up: failures inside the grace period count for nothing, and are told to people only.
  if (!succeeded_ && now - started_ < check_.grace) {
    cause_ = result.cause;
    bool news = now - started_ >= told_after && cause_ != told_;
    if (news) told_ = cause_;
    return news ? Action::announce : Action::none;
  }
  // Marathon counts those recorded before this one: with 3, the fourth in a row kills.
  bool kills = check_.failures_max > 0 && failures_ >= check_.failures_max;
  ++failures_;
  cause_ = result.cause;
  alive_ = false;
  if (kills) return Action::kill;
  return before == alive_ ? Action::none : Action::announce;
}

std::optional<bool> combined(const std::vector<std::optional<bool>>& verdicts) {
  bool all_known = true;
  for (auto alive : verdicts) {
    if (alive == false) return false;
    all_known = all_known && alive.has_value();
  }
  return all_known && !verdicts.empty() ? std::optional(true) : std::nullopt;
}

std::optional<bool> combined(const std::vector<CheckMachine>& machines) {
  std::vector<std::optional<bool>> verdicts;
  for (const auto& m : machines) verdicts.push_back(m.alive());
  return combined(verdicts);
}

}  // namespace croft::agent
