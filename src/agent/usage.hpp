#pragma once
#include "agent/cgroups.hpp"
#include "agent/runtime.hpp"

namespace croft::agent {

/// What the processes of these cgroup folders use. Folders may be empty or the same; what cannot be read is 0.
Usage usage_of(const CgroupHost& host, const std::string& cpu_folder, const std::string& memory_folder, const std::string& pids_folder);
/// The same for the cgroups that a process stands in.
Usage usage_of_process(int pid);

}  // namespace croft::agent
