#include "settings.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>

#include "base/text.hpp"

namespace croft {

std::vector<net::Origin> Settings::master_origins() const {
  std::vector<net::Origin> out;
  for (const auto& m : masters) {
    auto colon = m.rfind(':');
    auto port = colon == std::string::npos ? std::nullopt : to_int(m.substr(colon + 1));
    out.push_back({.host = m.substr(0, colon), .port = static_cast<std::uint16_t>(port.value_or(marathon_port)), .unix_path = {}});
  }
  if (out.empty()) out.push_back({.host = "127.0.0.1", .port = marathon_port, .unix_path = {}});
  return out;
}

namespace {

/// Takes known keys out of a table; what is left over is a mistake.
class Keys {
 public:
  Keys(toml::table& table, std::string file) : table_(table), file_(std::move(file)) {}

  template <class T, class Into>
  void take(std::string_view key, Into& into) {
    auto* node = table_.get(key);
    if (!node || failed_) return;
    auto value = node->value_exact<T>();
    if constexpr (std::is_same_v<T, double>)
      if (!value) value = node->value<double>();
    if (!value) failed_ = Error{Errc::invalid, fmt::format("{}:{}: '{}' has the wrong type", file_, node->source().begin.line, key)};
    else if constexpr (std::is_same_v<Into, std::uint16_t>) {
      if (*value < 0 || *value > 65535) failed_ = Error{Errc::invalid, fmt::format("{}:{}: '{}' must be a port, 0 to 65535", file_, node->source().begin.line, key)};
      else into = static_cast<Into>(*value);
    } else {
      into = static_cast<Into>(*value);
    }
    table_.erase(key);
  }
  void take(std::string_view key, std::vector<std::string>& into) {
    auto* node = table_.get(key);
    if (!node || failed_) return;
    into.clear();
    auto* list = node->as_array();
    if (list)
      for (auto& e : *list) {
        auto text = e.value_exact<std::string>();
        if (text) into.push_back(*text);
        else list = nullptr;
        if (!list) break;
      }
    if (!list) failed_ = Error{Errc::invalid, fmt::format("{}:{}: '{}' must be a list of texts", file_, node->source().begin.line, key)};
    table_.erase(key);
  }
  void take(std::string_view key, Labels& into) {
    auto* node = table_.get(key);
    auto* table = node ? node->as_table() : nullptr;
    if (!node || failed_) return;
    if (!table) failed_ = Error{Errc::invalid, fmt::format("{}:{}: '{}' must be a table", file_, node->source().begin.line, key)};
    else
      for (auto& [k, v] : *table) into[std::string(k.str())] = v.value<std::string>().value_or("");
    table_.erase(key);
  }
  Status done() {
    if (failed_) return fail(*failed_);
    for (auto& [k, v] : table_) return fail(Errc::invalid, "{}:{}: '{}' is not a setting of croft", file_, v.source().begin.line, k.str());
    return {};
  }

 private:
  toml::table& table_;
  std::string file_;
  std::optional<Error> failed_;
};

}  // namespace

Status read_settings(const std::filesystem::path& file, Settings& s) {
  auto parsed = toml::parse_file(file.string());
  if (!parsed) return fail(Errc::invalid, "{}:{}: {}", file.string(), parsed.error().source().begin.line, parsed.error().description());
  auto& table = parsed.table();
  Keys k(table, file.string());
  std::string data = s.data.string();
  k.take<std::string>("data", data);
  s.data = data;
  k.take<std::string>("hostname", s.hostname);
  k.take<std::string>("ip", s.ip);
  k.take<std::string>("bind", s.bind);
  k.take("masters", s.masters);
  k.take("resolvers", s.resolvers);
  k.take("elasticsearch", s.elasticsearch);
  k.take("attributes", s.attributes);
  for (auto [key, port] : {std::pair<std::string_view, std::uint16_t*>{"marathon_port", &s.marathon_port}, {"mesos_port", &s.mesos_port}, {"agent_port", &s.agent_port},
                           {"bamboo_port", &s.bamboo_port}, {"discovery_port", &s.discovery_port}, {"logs_port", &s.logs_port}, {"log_input_port", &s.log_input_port},
                           {"console_port", &s.console_port}, {"dns_port", &s.dns_port}})
    k.take<std::int64_t>(key, *port);
  k.take<std::string>("domain", s.domain);
  k.take<std::int64_t>("dns_ttl", s.dns_ttl);
  k.take<std::string>("bridge", s.bridge);
  k.take<std::string>("docker_socket", s.docker_socket);
  k.take<bool>("docker", s.docker);
  k.take<bool>("allow_privileged", s.allow_privileged);
  k.take("allow_host_paths", s.allow_host_paths);
  k.take("allow_docker_parameters", s.allow_docker_parameters);
  k.take<double>("reserve_cpus", s.reserve_cpus);
  k.take<double>("reserve_mem", s.reserve_mem);
  double cpus = 0, mem = 0;
  k.take<double>("cpus", cpus);
  k.take<double>("mem", mem);
  if (cpus > 0) s.cpus = cpus;
  if (mem > 0) s.mem = mem;
  k.take<std::string>("ports", s.ports);
  k.take<std::string>("instance", s.instance);
  k.take<std::int64_t>("drain_ms", s.drain_ms);
  k.take<std::int64_t>("agent_timeout_ms", s.agent_timeout_ms);
  k.take<std::int64_t>("log_retain_days", s.log_retain_days);
  k.take<std::int64_t>("log_retain_bytes", s.log_retain_bytes);
  k.take<std::int64_t>("log_spool_bytes", s.log_spool_bytes);
  k.take<std::string>("auth", s.auth);
  return k.done();
}

std::string find_bridge() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  std::string found;
  for (auto* a = all; a; a = a->ifa_next) {
    if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET) continue;
    std::string_view name = a->ifa_name;
    if (name != "docker0" && !name.starts_with("croft")) continue;
    char text[INET_ADDRSTRLEN];
    if (::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(a->ifa_addr)->sin_addr, text, sizeof text)) found = text;
  }
  ::freeifaddrs(all);
  return found;
}

std::string this_host() {
  char name[256];
  return ::gethostname(name, sizeof name) == 0 ? std::string(name) : "localhost";
}

}  // namespace croft
