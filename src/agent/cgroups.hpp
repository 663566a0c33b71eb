#pragma once
// Where a task's limits are written, on cgroup v1, v2 and the mix of both.

#include <optional>
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
  std::string named;                      ///< of systemd's own hierarchy without a controller (v1, hybrid)
  static CgroupHost find();
};

struct CgroupPlan {
  std::vector<std::string> folders;       ///< to make and enter
  std::vector<std::pair<std::string, std::string>> settings;  ///< file and text
  std::string oom_file, memory_folder, cpu_folder;
};

/// `name` is one path segment below the farm's own folder `parent` ("croft-dev", "croft.slice/croft-tasks.service"). mem_limit < 0: none.
CgroupPlan plan_cgroups(const CgroupHost& host, const std::string& parent, const std::string& name, const TaskSpec& spec);
/// Makes the farm's own folders. Errors: io, forbidden.
Status prepare_cgroups(const CgroupHost& host, const std::string& parent);
/// Where the executors themselves stand when `parent` belongs to a unit of its own: outside the tasks' folders, and outside the agent's unit.
std::vector<std::string> executor_cgroups(const CgroupHost& host, const std::string& parent);

/// What the kernel lets `parent` and everything above it have; nothing where there is no limit.
struct CgroupLimits {
  std::optional<Milli> cpus, mem;         ///< mem in MiB
};
CgroupLimits limits_above(const CgroupHost& host, const std::string& parent);
void remove_cgroup_parents(const CgroupHost& host, const std::string& parent);

}  // namespace croft::agent
