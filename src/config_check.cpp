#include "config_check.hpp"

#include <arpa/inet.h>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/files.hpp"
#include "base/text.hpp"
#include "discovery/networks.hpp"
#include "settings.hpp"

namespace croft {

namespace {

bool is_address(const std::string& text) {
  in_addr address{};
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1;
}

bool is_host(std::string_view text) {
  if (text.empty() || text.size() > 253 || text.front() == '-' || text.front() == '.' || text.back() == '.') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'; });
}

bool is_host_port(const std::string& text, bool port_needed) {
  auto colon = text.rfind(':');
  if (colon == std::string::npos) return !port_needed && is_host(text);
  auto port = to_int(text.substr(colon + 1));
  return is_host(std::string_view(text).substr(0, colon)) && port && *port > 0 && *port <= 65535;
}

class Checker {
 public:
  Checker(const toml::table& table, std::string file, const Settings& s) : table_(table), file_(std::move(file)), s_(s) {}

  std::vector<std::string> run(const fs::path& zoo_cfg) {
    host();
    ports();
    node();
    others();
    auto members = zookeeper();
    ensemble(members, zoo_cfg);
    return std::move(found_);
  }

 private:
  /// A mistake at a key; one that is missing altogether is told at line 1.
  template <class... A>
  void wrong(std::string_view key, fmt::format_string<A...> text, A&&... a) {
    const auto* node = table_.get(key);
    unsigned line = node ? node->source().begin.line : 1;
    found_.push_back(fmt::format("{}:{}: {}", file_, line, fmt::format(text, std::forward<A>(a)...)));
  }
  [[nodiscard]] bool given(std::string_view key) const { return table_.contains(key); }

  void host() {
    security();
    if (!s_.hostname.empty() && !is_host(s_.hostname)) wrong("hostname", "'hostname' is no name of a host: '{}'", s_.hostname);
    if (!is_address(s_.ip)) wrong("ip", "'ip' must be an IPv4 address: '{}'", s_.ip);
    else if (s_.ip == "0.0.0.0") wrong("ip", "'ip' is where others reach this host, so it cannot be 0.0.0.0; that belongs into 'bind'");
    if (!is_address(s_.bind)) wrong("bind", "'bind' must be an IPv4 address, 0.0.0.0 for all: '{}'", s_.bind);
    else if (s_.bind != "0.0.0.0" && is_address(s_.ip) && s_.ip != "0.0.0.0" && s_.bind != s_.ip)
      wrong(given("bind") ? "bind" : "ip", "other hosts are told {} ('ip') and the ports are opened at {} only ('bind')", s_.ip, s_.bind);
    if (!s_.console_bind.empty() && !is_address(s_.console_bind)) wrong("console_bind", "'console_bind' must be an IPv4 address: '{}'", s_.console_bind);
    if (!s_.bridge.empty() && !is_address(s_.bridge)) wrong("bridge", "'bridge' must be an IPv4 address: '{}'", s_.bridge);
    if (!s_.data.is_absolute()) wrong("data", "'data' must begin with /: '{}'", s_.data.string());
    std::set<std::string> seen;
    for (const auto& m : s_.masters) {
      if (!is_host_port(m, false)) wrong("masters", "'masters' must be \"host:port\": '{}'", m);
      if (!seen.insert(m).second) wrong("masters", "'masters' names '{}' twice", m);
    }
  }

  void security() {
    if (!s_.auth.empty() && s_.auth != "none" && s_.auth != "login") wrong("auth", "'auth' is \"login\", or \"none\" in so many words, not '{}'", s_.auth);
    for (const auto& group : s_.policies) {
      if (!group.path.starts_with('/')) wrong("policy", "'policy.group' is a path that begins with /: '{}'", group.path);
      for (const auto& path : group.host_paths)
        if (!path.starts_with('/')) wrong("policy", "'policy.host_paths' are paths that begin with /: '{}'", path);
    }
    if (!s_.logins()) return;
    if (s_.plain.contains("marathon")) wrong("listen", "'listen.marathon': other hosts prove who they are there, which takes TLS; it cannot be plain");
    if (s_.plain.contains("logs")) wrong("listen", "'listen.logs': other hosts prove who they are there, which takes TLS; it cannot be plain");
    std::error_code ec;
    for (const auto& file : {s_.certificate_file(), s_.key_file(), s_.bundle_file()})
      if (!fs::exists(file, ec)) return wrong("auth", "'auth' is \"login\", and {} is not there: this host has not joined a cluster (croft init, croft join)", file.string());
  }

  void ports() {
    std::map<std::int64_t, std::string_view> taken;
    for (auto [key, port] : {std::pair<std::string_view, std::uint16_t>{"marathon_port", s_.marathon_port}, {"mesos_port", s_.mesos_port}, {"agent_port", s_.agent_port},
                             {"bamboo_port", s_.bamboo_port}, {"discovery_port", s_.discovery_port}, {"logs_port", s_.logs_port}, {"log_input_port", s_.log_input_port},
                             {"console_port", s_.console_port}, {"dns_port", s_.dns_port}}) {
      if (port == 0) wrong(key, "'{}' must be a port, 1 to 65535", key);
      auto [at, fresh] = taken.emplace(port, key);
      if (!fresh) wrong(given(key) ? key : at->second, "'{}' and '{}' are both {}", at->second, key, port);
    }
    auto range = PortSet::parse(s_.ports);
    if (!range) wrong("ports", "'ports': {}", range.error().context);
    else
      for (const auto& [port, key] : taken)
        if (range->contains(static_cast<std::uint16_t>(port))) wrong(given("ports") ? "ports" : key, "'ports' for tasks holds {}, which is '{}'", port, key);
  }

  void node() {
    if (s_.cpus && *s_.cpus <= s_.reserve_cpus) wrong("cpus", "'cpus' leaves nothing for tasks: {} less a reserve of {}", *s_.cpus, s_.reserve_cpus);
    if (s_.mem && *s_.mem <= s_.reserve_mem) wrong("mem", "'mem' leaves nothing for tasks: {} MiB less a reserve of {}", *s_.mem, s_.reserve_mem);
    for (auto [key, text] : {std::pair<std::string_view, const std::string&>{"instance", s_.instance}, {"cgroup", s_.cgroup}})
      if (text.starts_with('/') || text.ends_with('/') || text.find("..") != std::string::npos || text.find(':') != std::string::npos)
        wrong(key, "'{}' is a folder below each cgroup hierarchy, without / at its ends: '{}'", key, text);
    if (s_.instance.empty()) wrong("instance", "'instance' must not be empty");
    if (!s_.docker_config.empty() && !s_.docker_config.starts_with('/')) wrong("docker_config", "'docker_config' is a path that begins with /: '{}'", s_.docker_config);
    if (!s_.docker_socket.starts_with('/')) wrong("docker_socket", "'docker_socket' is a path that begins with /: '{}'", s_.docker_socket);
    for (const auto& path : s_.host_paths())
      if (!path.starts_with('/')) wrong("allow_host_paths", "'allow_host_paths' are paths that begin with /: '{}'", path);
  }

  void others() {
    if (s_.haproxy != "own" && s_.haproxy != "unit") wrong("haproxy", "'haproxy' is \"own\" or \"unit\", not '{}'", s_.haproxy);
    if (!is_host(s_.domain)) wrong("domain", "'domain' is no name: '{}'", s_.domain);
    if (s_.dns_ttl > 604'800) wrong("dns_ttl", "'dns_ttl' is in seconds, at most a week: {}", s_.dns_ttl);
    for (const auto& r : s_.resolvers)
      if (!is_address(r.substr(0, r.rfind(':'))) && !is_address(r)) wrong("resolvers", "'resolvers' must be IPv4 addresses: '{}'", r);
    for (const auto& n : s_.dns_clients)
      if (!discovery::Network::parse(n)) wrong("dns_clients", "'dns_clients' must be networks such as \"203.0.113.0/24\": '{}'", n);
    for (const auto& e : s_.elasticsearch)
      if (!net::Url::parse(e)) wrong("elasticsearch", "'elasticsearch' must be addresses such as \"http://log1:9200\": '{}'", e);
    if (s_.session_timeout_ms < 1000 || s_.session_timeout_ms > 60'000)
      wrong("session_timeout_ms", "'session_timeout_ms' is in milliseconds, 1000 to 60000 (ZooKeeper grants 2 to 20 of its ticks): {}", s_.session_timeout_ms);
    if (!s_.zookeeper_tree.starts_with('/') || s_.zookeeper_tree.ends_with('/')) wrong("zookeeper_tree", "'zookeeper_tree' is a path that begins with / and does not end with it: '{}'", s_.zookeeper_tree);
    if (s_.requests_per_second < 0) wrong("requests_per_second", "'requests_per_second' must not be negative: {}", s_.requests_per_second);
    if (s_.drain_ms > 3'600'000) wrong("drain_ms", "'drain_ms' is in milliseconds, at most an hour: {}", s_.drain_ms);
    if (s_.agent_timeout_ms > 3'600'000) wrong("agent_timeout_ms", "'agent_timeout_ms' is in milliseconds, at most an hour: {}", s_.agent_timeout_ms);
  }

  std::vector<std::string> zookeeper() {
    auto text = table_["zookeeper"].value_or(std::string());
    if (text.empty()) {
      // Nodes have no business with ZooKeeper; a master among several has.
      bool one_of_them = std::any_of(s_.masters.begin(), s_.masters.end(), [&](const std::string& m) {
        auto name = m.substr(0, m.rfind(':'));
        return name == s_.ip || name == (s_.hostname.empty() ? this_host() : s_.hostname);
      });
      if (s_.masters.size() > 1 && one_of_them) wrong("masters", "'masters' names {}, but without 'zookeeper' each master would lead alone", s_.masters.size());
      return {};
    }
    if (!text.starts_with("zk://")) return wrong("zookeeper", "'zookeeper' must begin with zk://"), std::vector<std::string>();
    auto rest = text.substr(5);
    auto slash = rest.find('/');
    if (slash == std::string::npos || slash + 1 == rest.size()) wrong("zookeeper", "'zookeeper' must end in a path, such as /mesos");
    auto hosts = rest.substr(0, slash);
    if (auto at = hosts.rfind('@'); at != std::string::npos) hosts = hosts.substr(at + 1);
    std::vector<std::string> members;
    std::set<std::string> seen;
    for (const auto& member : split(hosts, ',')) {
      if (!is_host_port(member, true)) wrong("zookeeper", "'zookeeper' names its servers as host:port: '{}'", member);
      if (!seen.insert(member).second) wrong("zookeeper", "'zookeeper' names '{}' twice", member);
      members.push_back(member);
    }
    if (members.size() % 2 == 0)
      wrong("zookeeper", "'zookeeper' is an ensemble of {}: an even number survives no more losses than one server less, so take {} or {}", members.size(), members.size() - 1, members.size() + 1);
    return members;
  }

  void ensemble(const std::vector<std::string>& members, const fs::path& zoo_cfg) {
    if (members.empty()) return;
    auto text = read_file(zoo_cfg, 1 << 20);
    if (!text) return;  // no ZooKeeper server on this host
    std::set<std::string> servers;
    for (const auto& line : split(*text, '\n')) {
      auto words = trim(line);
      if (!words.starts_with("server.")) continue;
      auto value = words.substr(std::min(words.size(), words.find('=') + 1));
      servers.insert(std::string(trim(value.substr(0, value.find(':')))));
    }
    if (servers.empty()) servers.insert("itself alone");
    if (servers.size() != members.size())
      wrong("zookeeper", "'zookeeper' names {} servers, and {} makes an ensemble of {} ({})", members.size(), zoo_cfg.string(), servers.size(),
            join(std::vector<std::string>(servers.begin(), servers.end()), ", "));
  }

  const toml::table& table_;
  std::string file_;
  const Settings& s_;
  std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> check_config(const fs::path& file, const fs::path& zoo_cfg) {
  Settings s;
  std::vector<std::string> out;
  if (auto ok = read_settings(file, s); !ok) out = split(ok.error().context, '\n');
  auto parsed = toml::parse_file(file.string());
  if (!parsed) return out;
  auto more = Checker(parsed.table(), file.string(), s).run(zoo_cfg);
  out.insert(out.end(), more.begin(), more.end());
  auto line_of = [skip = file.string().size() + 1](const std::string& told) { return to_int(std::string_view(told).substr(skip, told.find(':', skip) - skip)).value_or(0); };
  std::stable_sort(out.begin(), out.end(), [&](const std::string& a, const std::string& b) { return line_of(a) < line_of(b); });
  return out;
}

}  // namespace croft
