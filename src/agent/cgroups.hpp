#pragma once
// Where a task's limits are written, on cgroup v1, v2 and the mix of both.

#include <string>
#include <utility>
#include <vector>

#include "model/task.hpp"

namespace croft::agent {

/// The controllers of this host, found once.
struct CgroupHost {
  bool v2 = false;                        ///< the unified hierarchy has the memory controller
  std::string unified;                    ///< its mount point
  std::vector<std::pair<std::string, std::string>> v1;  ///< controller and its mount point
  static CgroupHost find();
};

struct CgroupPlan {
  std::vector<std::string> folders;       ///< to make and enter
  std::vector<std::pair<std::string, std::string>> settings;  ///< file and text
  std::string oom_file, memory_folder, cpu_folder;
};

/// `name` is one path segment below the farm's own folder `parent` ("croft-dev"). mem_limit < 0: none.
CgroupPlan plan_cgroups(const CgroupHost& host, const std::string& parent, const std::string& name, const TaskSpec& spec);
/// Makes the farm's own folders. Errors: io, forbidden.
Status prepare_cgroups(const CgroupHost& host, const std::string& parent);
void remove_cgroup_parents(const CgroupHost& host, const std::string& parent);

}  // namespace croft::agent
