#pragma once
#include <string>
#include <vector>

#include "orchestrator/orchestrator.hpp"

namespace croft::orchestrator {

/// What an intent would change, for the audit log: "/service/web: image, instances 3 -> 5", "/service/old: removed". Of numbers and words that mean no secret the
/// values, of everything else the fields' names. At most `apps_told` apps; how many more there are is said. Pure.
std::vector<std::string> changes_of(const Intent& intent, const Orchestrator& state);
inline constexpr std::size_t apps_told = 20;

}  // namespace croft::orchestrator
