#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace croft::sim {

/// Bugs that can be planted, each in the simulation's own shells; a simulation that does not find them proves nothing.
enum class Bug : std::uint8_t { none, ack_before_commit, launch_not_recorded, agents_not_stored };
std::optional<Bug> bug_named(std::string_view name);

struct RunOptions {
  std::uint64_t seed = 1;
  double minutes = 10;
  Bug bug = Bug::none;
};

struct RunResult {
  std::string failure;              ///< "" when every invariant held
  std::uint64_t steps = 0, trace = 0;  ///< trace: a hash over everything that happened, equal for equal runs
  std::vector<std::string> log;     ///< the last events before the failure
};

RunResult run(const RunOptions& options);

}  // namespace croft::sim
