#include "agent/cgroups.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.hpp"
#include "base/text.hpp"

namespace croft::agent {

namespace {

constexpr std::string_view wanted[] = {"cpu", "cpuacct", "memory", "pids", "freezer"};

std::string bytes_of(Milli mib) { return std::to_string(mib * 1024 * 1024 / 1000); }

}  // namespace

CgroupHost CgroupHost::find() {
  CgroupHost host;
  auto mounts = read_file("/proc/self/mounts");
  if (!mounts) return host;
  for (const auto& line : split(*mounts, '\n')) {
    auto f = split(line, ' ');
    if (f.size() < 4) continue;
    if (f[2] == "cgroup2" && host.unified.empty()) {
      auto controllers = read_file(fs::path(f[1]) / "cgroup.controllers");
      host.unified = f[1];
      host.v2 = controllers && controllers->find("memory") != std::string::npos;
    } else if (f[2] == "cgroup") {
      for (auto name : wanted)
        for (const auto& option : split(f[3], ','))
          if (option == name) host.v1.emplace_back(std::string(name), f[1]);
    }
  }
  return host;
}

Status prepare_cgroups(const CgroupHost& host, const std::string& parent) {
  if (host.v2) {
    auto top = fs::path(host.unified);
    // Controllers are handed down level by level; a host that does not give one runs without that limit.
    for (auto controller : {"+cpu", "+memory", "+pids"}) {
      std::string text(controller);
      for (const auto& folder : {top, top / parent}) {
        if (auto made = make_dirs(top / parent); !made) return made;
        if (auto* f = ::fopen((folder / "cgroup.subtree_control").c_str(), "w")) {
          ::fputs(text.c_str(), f);
          ::fclose(f);
        }
      }
    }
    return {};
  }
  for (const auto& [controller, mount] : host.v1)
    if (auto made = make_dirs(fs::path(mount) / parent); !made) return made;
  return {};
}

CgroupPlan plan_cgroups(const CgroupHost& host, const std::string& parent, const std::string& name, const TaskSpec& spec) {
  CgroupPlan plan;
  auto shares = std::max<Milli>(2, spec.resources.cpus * 1024 / 1000);
  auto memory = spec.mem_limit ? *spec.mem_limit : spec.resources.mem;
  auto set = [&](const std::string& folder, const char* file, std::string text) { plan.settings.emplace_back(folder + "/" + file, std::move(text)); };
  if (host.v2) {
    auto folder = host.unified + "/" + parent + "/" + name;
    plan.folders.push_back(folder);
    set(folder, "cpu.weight", std::to_string(std::clamp<Milli>(1 + (shares - 2) * 9999 / 262142, 1, 10000)));
    if (spec.cpus_limit && *spec.cpus_limit > 0) set(folder, "cpu.max", fmt::format("{} 100000", *spec.cpus_limit * 100));
    if (memory > 0) set(folder, "memory.max", bytes_of(memory)), set(folder, "memory.swap.max", "0");
    set(folder, "pids.max", "4096");
    plan.oom_file = folder + "/memory.events";
    plan.memory_folder = plan.cpu_folder = folder;
    return plan;
  }
  std::vector<std::string> done;
  for (const auto& [controller, mount] : host.v1) {
    auto folder = mount + "/" + parent + "/" + name;
    if (std::find(done.begin(), done.end(), folder) == done.end()) plan.folders.push_back(folder), done.push_back(folder);
    if (controller == "cpu") {
      set(folder, "cpu.shares", std::to_string(shares));
      if (spec.cpus_limit && *spec.cpus_limit > 0) set(folder, "cpu.cfs_quota_us", std::to_string(*spec.cpus_limit * 100));
    } else if (controller == "cpuacct") {
      plan.cpu_folder = folder;
    } else if (controller == "memory") {
      if (memory > 0) set(folder, "memory.limit_in_bytes", bytes_of(memory)), set(folder, "memory.memsw.limit_in_bytes", bytes_of(memory));
      plan.oom_file = folder + "/memory.oom_control";
      plan.memory_folder = folder;
    } else if (controller == "pids") {
      set(folder, "pids.max", "4096");
    }
  }
  return plan;
}

void remove_cgroup_parents(const CgroupHost& host, const std::string& parent) {
  auto remove = [&](const std::string& mount) {
    auto top = mount + "/" + parent;
    std::error_code ec;
    for (const auto& entry : fs::directory_iterator(top, ec))  // of tasks whose executor could not clean up after itself
      if (entry.is_directory(ec)) ::rmdir(entry.path().c_str());
    ::rmdir(top.c_str());
  };
  if (host.v2) remove(host.unified);
  for (const auto& [controller, mount] : host.v1) remove(mount);
}

}  // namespace croft::agent
