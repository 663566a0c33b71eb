#pragma once
// Verdicts on a task from probe results. Pure: no clock, no sockets. Source: Marathon's health and readiness checks.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "model/task.hpp"

namespace croft::agent {

struct ProbeResult {
  bool passed = false;
  bool ignored = false;          ///< a 1xx answer where those are ignored
  std::string cause;             ///< "HTTP 503", "connection refused", "no answer in 5 s"
  int status = 0;                ///< of an HTTP answer
};

/// Whether an answer means ready: one of the statuses that the check names, whatever a health check would make of it.
bool ready_on(const ReadinessCheck& check, const ProbeResult& result);

/// State of one check of one task.
///
/// Shape    `observe` each result in order; `action` says what to do.
/// Units    counts are consecutive results.
class CheckMachine {
 public:
  enum class Action : std::uint8_t { none, announce, kill };
  /// `recalled` is the verdict of this agent's former life: until a probe says otherwise it stands, and the grace is over.
  CheckMachine(HealthCheck check, Mono started, std::optional<bool> recalled = {}) : check_(std::move(check)), started_(started), succeeded_(recalled.has_value()), alive_(recalled) {}
  Action observe(const ProbeResult& result, Mono now);
  [[nodiscard]] std::optional<bool> alive() const { return alive_; }
  [[nodiscard]] std::uint32_t failures() const { return failures_; }
  [[nodiscard]] const std::string& cause() const { return cause_; }
  [[nodiscard]] const HealthCheck& check() const { return check_; }

 private:
  HealthCheck check_;
  Mono started_;
  bool succeeded_ = false;
  std::optional<bool> alive_;
  std::uint32_t failures_ = 0;
  std::string cause_, told_;
};

/// All checks together: healthy only when every check has a result and all are alive; unhealthy as soon as one is not.
std::optional<bool> combined(const std::vector<std::optional<bool>>& verdicts);
std::optional<bool> combined(const std::vector<CheckMachine>& machines);

}  // namespace croft::agent
