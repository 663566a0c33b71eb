#pragma once
// From what HAProxy has to what it is to have: runtime commands, and whether a reload is needed besides. Pure.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "balancer/plan.hpp"

namespace croft::balancer {

struct Steps {
  std::vector<std::string> commands;   ///< for the places that both plans have; they do no harm when given twice
  Plan after;                          ///< what HAProxy has once they are carried out
  bool any_leaves = false;             ///< an instance that was in rotation is not any more
  bool all_placed = true;              ///< every instance of a back end that HAProxy has is now in its place: nobody need wait for a reload
};

Steps steps_between(const Plan& has, const Plan& wanted);

/// What a worker has, from its answer to `show servers state`: back ends by name with their places' addresses; the tasks it does not know.
Plan plan_seen(std::string_view servers_state);
/// Open sessions by "backend/address:port", from `show stat -1 4 -1`.
std::map<std::string, unsigned> sessions_seen(std::string_view csv);
/// Numbers of old workers, which only finish what they have, from the master's `show proc`.
std::vector<int> old_workers_seen(std::string_view show_proc);

}  // namespace croft::balancer
