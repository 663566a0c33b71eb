#pragma once
#include "agent/cgroups.hpp"
#include "agent/runtime.hpp"
#include "model/task_policy.hpp"

namespace croft::net { class BlockingPool; }

namespace croft::agent {

struct NativeOptions {
  std::filesystem::path executor;        ///< the croft-executor program
  std::string cgroup_parent = "croft";   ///< this farm's folder in every controller
  TaskPolicy policy;                     ///< its users
  std::string default_user = "nobody";   ///< for tasks that name none, when croft is root
};

/// Namespaces, an own cgroup, no new privileges, no capabilities, a seccomp filter.
std::unique_ptr<Runtime> make_native_runtime(NativeOptions options, net::BlockingPool& pool);

}  // namespace croft::agent
