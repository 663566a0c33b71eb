#include "agent/usage.hpp"

#include <unistd.h>

#include <algorithm>

#include "base/files.hpp"
#include "base/text.hpp"

namespace croft::agent {

namespace {

std::uint64_t number_in_file(const std::string& file, std::string_view key = {}) {
  auto text = read_file(file, 65536);
  if (!text) return 0;
  if (key.empty()) return static_cast<std::uint64_t>(to_int(trim(*text)).value_or(0));
  for (const auto& line : split(*text, '\n'))
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ' ') return static_cast<std::uint64_t>(to_int(line.substr(key.size() + 1)).value_or(0));
  return 0;
}

}  // namespace

Usage usage_of(const CgroupHost& host, const std::string& cpu, const std::string& memory, const std::string& pids) {
  Usage u;
  if (host.v2) {
    u.cpus_user = static_cast<double>(number_in_file(cpu + "/cpu.stat", "user_usec")) / 1e6;
    u.cpus_system = static_cast<double>(number_in_file(cpu + "/cpu.stat", "system_usec")) / 1e6;
    u.memory_rss = number_in_file(memory + "/memory.stat", "anon");
    u.memory_total = number_in_file(memory + "/memory.current");
    u.throttled_seconds = static_cast<double>(number_in_file(cpu + "/cpu.stat", "throttled_usec")) / 1e6;
  } else {
    static const auto ticks = static_cast<double>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
    u.cpus_user = static_cast<double>(number_in_file(cpu + "/cpuacct.stat", "user")) / ticks;
    u.cpus_system = static_cast<double>(number_in_file(cpu + "/cpuacct.stat", "system")) / ticks;
    u.memory_rss = number_in_file(memory + "/memory.stat", "total_rss");
    u.memory_total = number_in_file(memory + "/memory.usage_in_bytes");
    u.throttled_seconds = static_cast<double>(number_in_file(cpu + "/cpu.stat", "throttled_time")) / 1e9;
  }
  u.periods = number_in_file(cpu + "/cpu.stat", "nr_periods");
  u.throttled = number_in_file(cpu + "/cpu.stat", "nr_throttled");
  u.processes = number_in_file(pids + "/pids.current");
  return u;
}

Usage usage_of_process(int pid) {
  static const auto host = CgroupHost::find();
  auto text = pid > 0 ? read_file(fmt::format("/proc/{}/cgroup", pid), 65536) : fail(Errc::not_found, "");
  if (!text) return {};
  std::map<std::string, std::string> folders;  // controller to folder; "" is the unified one
  for (const auto& line : split(*text, '\n')) {
    auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    for (const auto& controller : split(std::string_view(line).substr(first + 1, second - first - 1), ',')) folders[std::string(controller)] = line.substr(second + 1);
  }
  auto folder = [&](const std::string& controller) -> std::string {
    if (host.v2) return host.unified + folders[""];
    for (const auto& [name, mount] : host.v1)
      if (name == controller) return mount + folders[controller];
    return {};
  };
  return usage_of(host, folder("cpuacct"), folder("memory"), folder("pids"));
}

}  // namespace croft::agent
