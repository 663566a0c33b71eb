#include "agent/cgroups.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.hpp"
#include "base/text.hpp"

namespace croft::agent {

namespace {

constexpr std::string_view wanted[] = {"cpu", "cpuacct", "memory", "pids"};

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
      for (const auto& option : split(f[3], ','))
        if (option == "name=systemd") host.named = f[1];
    }
  }
  return host;
}

Status prepare_cgroups(const CgroupHost& host, const std::string& parent) {
  if (host.v2) {
    auto top = fs::path(host.unified);
    if (auto made = make_dirs(top / parent); !made) return made;
    std::vector<fs::path> levels{top};
    for (const auto& part : fs::path(parent)) levels.push_back(levels.back() / part);
    // Controllers are handed down level by level; a host that does not give one runs without that limit.
    for (auto controller : {"+cpu", "+memory", "+pids"})
      for (const auto& folder : levels)
        if (auto* f = ::fopen((folder / "cgroup.subtree_control").c_str(), "w")) {
          ::fputs(controller, f);
          ::fclose(f);
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

std::vector<std::string> executor_cgroups(const CgroupHost& host, const std::string& parent) {
  // In version 2 a folder that hands controllers down may hold no process itself.
  if (host.v2) return {host.unified + "/" + parent + "/executors"};
  std::vector<std::string> out;
  for (const auto& [controller, mount] : host.v1) out.push_back(mount + "/" + parent);
  for (const auto& mount : {host.named, host.unified})
    if (!mount.empty()) out.push_back(mount + "/" + parent);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

CgroupLimits limits_above(const CgroupHost& host, const std::string& parent) {
  CgroupLimits limits;
  auto least = [](std::optional<Milli>& into, Milli value) { into = std::min(into.value_or(value), value); };
  auto numbers = [](const fs::path& file) {
    std::vector<std::optional<std::int64_t>> out;
    if (auto text = read_file(file, 256))
      for (const auto& word : split(trim(*text), ' ')) out.push_back(to_int(word));  // "max" is none
    return out;
  };
  auto memory = [&](const fs::path& file) {
    auto n = numbers(file);
    if (!n.empty() && n[0] && *n[0] < (std::int64_t{1} << 60)) least(limits.mem, *n[0] / 1024 * 1000 / 1024);
  };
  auto cpus = [&](std::optional<std::int64_t> quota, std::optional<std::int64_t> period) {
    if (quota && period && *quota > 0 && *period > 0) least(limits.cpus, *quota * 1000 / *period);
  };
  auto walk = [&](const std::string& mount, auto look) {
    auto folder = fs::path(mount);
    look(folder);
    for (const auto& part : fs::path(parent)) look(folder /= part);
  };
  if (host.v2)
    walk(host.unified, [&](const fs::path& f) {
      memory(f / "memory.max");
      auto n = numbers(f / "cpu.max");
      if (n.size() > 1) cpus(n[0], n[1]);
    });
  for (const auto& [controller, mount] : host.v1) {
    if (controller == "memory") walk(mount, [&](const fs::path& f) { memory(f / "memory.limit_in_bytes"); });
    if (controller == "cpu")
      walk(mount, [&](const fs::path& f) {
        auto quota = numbers(f / "cpu.cfs_quota_us"), period = numbers(f / "cpu.cfs_period_us");
        if (!quota.empty() && !period.empty()) cpus(quota[0], period[0]);
      });
  }
  return limits;
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
