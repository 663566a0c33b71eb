#pragma once
// Content with good defaults, and a HAProxy that only remembers.

#include <algorithm>
#include <deque>
#include <functional>

#include "balancer/keeper.hpp"
#include "base/text.hpp"

namespace croft::balancer {

inline catalog::Service service(std::string app, std::uint16_t service_port = 10000) {
  catalog::Service s;
  s.app = AppId(std::move(app));
  s.instances = 1;
  catalog::ServicePort p;
  p.service_port = service_port;
  s.ports = {p};
  return s;
}

inline HealthCheck http_check(std::string path = "/health", CheckKind kind = CheckKind::http) {
  HealthCheck c;
  c.kind = kind;
  c.path = std::move(path);
  c.port_index = 0;
  return c;
}

inline catalog::Endpoint endpoint(std::string task, std::string app, std::uint16_t port = 31000, std::string ip = "10.0.0.1") {
  catalog::Endpoint e;
  e.task = TaskId(std::move(task));
  e.app = AppId(std::move(app));
  e.agent = AgentId("c-1-S0");
  e.host = "n1";
  e.ip = std::move(ip);
  PortSpec p;
  p.host_port = port;
  e.ports = {p};
  return e;
}

struct ContentOf : catalog::Content {
  ContentOf& with(catalog::Service s) { return services[s.app] = s, *this; }
  ContentOf& with(catalog::Endpoint e) { return endpoints[e.task] = e, *this; }
  ContentOf& rule(std::string app, std::string acl) { return rules[AppId(app)] = {AppId(app), std::move(acl)}, *this; }
  ContentOf& without(std::string task) { return endpoints.erase(TaskId(task)), *this; }
};

/// One web app behind a rule, with `n` instances.
inline ContentOf web(int n = 1) {
  ContentOf c;
  auto s = service("/web");
  s.health_checks = {http_check()};
  c.with(s).rule("/web", "path_beg -i /web");
  for (int i = 0; i < n; ++i) {
    auto e = endpoint("web." + std::to_string(i), "/web", static_cast<std::uint16_t>(31000 + i));
    e.healthy = true;
    c.with(e);
  }
  return c;
}

/// Behaves as HAProxy does as far as Keeper can see: places from the configuration, commands on them, workers with numbers.
class FakeProxy final : public Proxy {
 public:
  struct Worker { int pid = 0; std::string shape; std::map<std::string, Slot> servers; std::map<std::string, int> open; };

  std::optional<Info> info() const override {
    if (workers.empty()) return std::nullopt;
    return Info{workers.back().pid, workers.back().shape};
  }
  Status start() override {
    ++starts;
    if (!start_fails.empty()) return fail(Errc::io, "{}", start_fails);
    workers.clear();
    return fork();
  }
  Status reload() override {
    ++reloads;
    if (!reload_fails.empty()) return fail(Errc::io, "{}", reload_fails);
    if (std::any_of(refuses.begin(), refuses.end(), [&](const auto& words) { return disk.find(words) != std::string::npos; })) return fail(Errc::io, "it could not take the new configuration");
    return fork();
  }
  Status run(const std::vector<std::string>& commands) const override {
    if (!run_fails.empty()) return fail(Errc::invalid, "{}", run_fails);
    for (const auto& c : commands) {
      told.push_back(c);
      auto& w = worker(0);
      auto f = split(c, ' ');
      auto at = w.servers.find(f[2]);
      if (at == w.servers.end()) return fail(Errc::invalid, "HAProxy: No such server.");
      auto& s = at->second;
      if (f[3] == "addr") s.ip = f[4], s.port = static_cast<std::uint16_t>(*to_int(f[6]));
      else s.state = f[4] == "ready" ? Slot::State::ready : f[4] == "drain" ? Slot::State::drain : Slot::State::maint;
    }
    return {};
  }
  Result<std::string> ask(const std::string& command, int pid) const override {
    if (workers.empty()) return fail(Errc::unavailable, "HAProxy does not answer");
    const auto& w = worker(pid);
    if (command == "show servers state") {
      std::string out = "1\n# be_id be_name srv_id srv_name\n";
      for (const auto& [name, s] : w.servers) {
        auto slash = name.find('/');
        int admin = s.state == Slot::State::maint ? 1 : s.state == Slot::State::drain ? 8 : 0;
        out += fmt::format("3 {} 1 {} {} 2 {} 1 1 9 15 3 4 6 0 0 0 - {} - 0 0 - - 0\n", name.substr(0, slash), name.substr(slash + 1), s.ip, admin, s.port);
      }
      return out;
    }
    std::string out = "# pxname,svname,qcur,qmax,scur,addr,\n";
    for (const auto& [name, s] : w.servers) {
      auto slash = name.find('/');
      auto open = w.open.find(name);
      out += fmt::format("{},{},0,0,{},{}:{},\n", name.substr(0, slash), name.substr(slash + 1), open == w.open.end() ? 0 : open->second, s.ip, s.port);
    }
    return out;
  }
  Result<std::string> ask_master(const std::string&) const override {
    if (master_away) return fail(Errc::unavailable, "connect: Connection refused");
    std::string out = "#<PID> <type> <reloads> <uptime> <version>\n1 master 1 [failed: 0] 0d 2.6\n# workers\n";
    if (!workers.empty()) out += fmt::format("{} worker 0 0d 2.6\n", workers.back().pid);
    out += "# old workers\n";
    for (std::size_t i = 0; i + 1 < workers.size(); ++i) out += fmt::format("{} worker 1 0d 2.6\n", workers[i].pid);
    return out + "# programs\n\n";
  }
  void end_worker(int pid) const override {
    const auto newest = workers.back().pid;
    std::erase_if(workers, [&](const Worker& w) { return w.pid == pid && pid != newest; });
  }
  Status check(const std::string& config) const override {
    ++checks;
    if (!check_breaks.empty()) return fail(Errc::io, "{}", check_breaks);
    for (const auto& word : refuses)
      if (config.find(word) != std::string::npos) return fail(Errc::invalid, "unknown fetch '{}'", word);
    return {};
  }
  Status write_config(const std::string& text) const override {
    if (!write_fails.empty()) return fail(Errc::io, "{}", write_fails);
    disk = text;
    return {};
  }
  std::string config_on_disk() const override { return disk; }
  bool port_is_free(const std::string&, std::uint16_t port) const override { return !taken.contains(port); }

  /// Addresses in rotation in a worker (0: the newest), sorted.
  std::vector<std::string> serving(const std::string& backend, int pid = 0) const {
    std::vector<std::string> out;
    for (const auto& [name, s] : worker(pid).servers)
      if (name.starts_with(backend + "/s") && s.state == Slot::State::ready) out.push_back(fmt::format("{}:{}", s.ip, s.port));
    std::sort(out.begin(), out.end());
    return out;
  }
  /// Those that are asked when all of these fail their checks.
  std::vector<std::string> last_resort(const std::string& backend) const {
    std::vector<std::string> out;
    for (const auto& [name, s] : worker(0).servers)
      if (name.starts_with(backend + "/l") && s.state == Slot::State::ready) out.push_back(fmt::format("{}:{}", s.ip, s.port));
    std::sort(out.begin(), out.end());
    return out;
  }
  Worker& worker(int pid) const {
    for (auto& w : workers)
      if (w.pid == pid) return w;
    return workers.back();
  }

  mutable std::vector<Worker> workers;
  mutable std::string disk;
  mutable std::vector<std::string> told;
  mutable int checks = 0;
  bool master_away = false;                       // it loads itself anew
  int starts = 0, reloads = 0, next_pid = 100;
  std::string start_fails, reload_fails, run_fails, check_breaks, write_fails;
  std::vector<std::string> refuses;
  std::set<std::uint16_t> taken;

 private:
  Status fork() {
    Worker w;
    w.pid = next_pid++;
    std::string backend;
    for (const auto& line : split(disk, '\n')) {
      auto f = split(trim(line), ' ');
      if (f[0] == "description") w.shape = f[1];
      if (f[0] == "backend") backend = f[1];
      if (f[0] != "server") continue;
      auto colon = f[2].rfind(':');
      w.servers[backend + "/" + f[1]] = {{}, f[2].substr(0, colon), static_cast<std::uint16_t>(*to_int(f[2].substr(colon + 1))), f.back() == "disabled" ? Slot::State::maint : Slot::State::ready};
    }
    workers.push_back(std::move(w));
    return {};
  }
};

}  // namespace croft::balancer
