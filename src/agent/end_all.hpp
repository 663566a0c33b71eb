#pragma once
#include <filesystem>
#include <string>

namespace croft::agent {

/// Kills every task of a work folder through its executor, waits until they are gone, and removes the farm's cgroup folders.
/// Blocks for at most some seconds. For farms that go for good; an agent that restarts leaves its tasks alone.
void end_all(const std::filesystem::path& work_dir, const std::string& cgroup_parent);

}  // namespace croft::agent
