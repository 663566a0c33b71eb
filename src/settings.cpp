#include "settings.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>

#include "base/text.hpp"
#include "model/resources.hpp"

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

/// Takes known keys out of a table; what is left over is a mistake. All mistakes are kept, to be mended in one go.
class Keys {
 public:
  Keys(toml::table& table, std::string file, std::string within = {}) : table_(table), file_(std::move(file)), within_(std::move(within)) {}

  template <class T, class Into>
  void take(std::string_view key, Into& into) {
    auto* node = table_.get(key);
    if (!node) return;
    auto value = node->value_exact<T>();
    if constexpr (std::is_same_v<T, double>)
      if (!value) value = node->value<double>();
    if (!value) wrong(*node, "'{}' must be {}", key, kind<T>());
    else if constexpr (std::is_same_v<Into, std::uint16_t>) {
      if (*value < 0 || *value > 65535) wrong(*node, "'{}' must be a port, 0 to 65535", key);
      else into = static_cast<Into>(*value);
    } else if constexpr (!std::is_same_v<T, std::string> && !std::is_same_v<T, bool>) {
      if (*value < 0) wrong(*node, "'{}' must not be negative", key);
      else into = static_cast<Into>(*value);
    } else {
      into = static_cast<Into>(*value);
    }
    table_.erase(key);
  }
  void take(std::string_view key, std::vector<std::string>& into) {
    auto* node = table_.get(key);
    if (!node) return;
    into.clear();
    auto* list = node->as_array();
    if (list)
      for (auto& e : *list) {
        auto text = e.value_exact<std::string>();
        if (text) into.push_back(*text);
        else wrong(e, "'{}' must be a list of texts", key);
      }
    else wrong(*node, "'{}' must be a list of texts", key);
    table_.erase(key);
  }
  void take(std::string_view key, std::optional<std::vector<std::string>>& into) {
    if (table_.contains(key)) take(key, into.emplace());
  }
  /// Texts that are each "*" or a range of ports.
  void take_ports(std::string_view key, std::optional<std::vector<std::string>>& into) {
    if (const auto* list = table_.get_as<toml::array>(key))
      for (const auto& one : *list)
        if (auto text = one.value<std::string>(); text && *text != "*")
          if (auto ports = PortSet::parse(*text); !ports) wrong(one, "'{}{}': {}", within_, key, ports.error().context);
    take(key, into);
  }
  void take(std::string_view key, Labels& into) {
    auto* node = table_.get(key);
    if (!node) return;
    if (auto* table = node->as_table())
      for (auto& [k, v] : *table)
        if (auto text = v.value_exact<std::string>()) into[std::string(k.str())] = *text;
        else wrong(v, "'{}.{}' must be a text", key, k.str());
    else wrong(*node, "'{}' must be a table", key);
    table_.erase(key);
  }
  /// A table of its own, "[tls]"; `read` takes its keys.
  template <class F>
  void table(std::string_view key, F&& read) {
    auto* node = table_.get(key);
    if (!node) return;
    if (auto* inner = node->as_table()) nested(*inner, fmt::format("{}{}.", within_, key), read);
    else wrong(*node, "'{}{}' must be a table", within_, key);
    table_.erase(key);
  }
  /// Tables in a row, "[[policy]]".
  template <class F>
  void tables(std::string_view key, F&& read) {
    auto* node = table_.get(key);
    if (!node) return;
    auto* list = node->as_array();
    if (!list) wrong(*node, "'{}' must be written as [[{}]]", key, key);
    else
      for (auto& one : *list) {
        if (auto* inner = one.as_table()) nested(*inner, fmt::format("{}.", key), read);
        else wrong(one, "'{}' must be written as [[{}]]", key, key);
      }
    table_.erase(key);
  }
  Status done() {
    unknown();
    if (!mistakes_.empty()) return fail(Errc::invalid, "{}", join(mistakes_, "\n"));
    return {};
  }

 private:
  void unknown() {
    for (auto& [k, v] : table_) wrong(v, "'{}{}' is not a setting of croft", within_, k.str());
  }
  template <class F>
  void nested(toml::table& inner, std::string within, F& read) {
    Keys keys(inner, file_, std::move(within));
    read(keys);
    keys.unknown();
    mistakes_.insert(mistakes_.end(), keys.mistakes_.begin(), keys.mistakes_.end());
  }

  template <class T>
  static constexpr const char* kind() {
    if constexpr (std::is_same_v<T, std::string>) return "a text in quotation marks";
    else if constexpr (std::is_same_v<T, bool>) return "true or false";
    else if constexpr (std::is_same_v<T, double>) return "a number";
    else return "a whole number";
  }
  template <class... A>
  void wrong(const toml::node& at, fmt::format_string<A...> text, A&&... a) {
    mistakes_.push_back(fmt::format("{}:{}: {}", file_, at.source().begin.line, fmt::format(text, std::forward<A>(a)...)));
  }

  toml::table& table_;
  std::string file_, within_;
  std::vector<std::string> mistakes_;
};

void read_security(Keys& k, Settings& s) {
  k.take<std::string>("auth", s.auth);
  auto path = [](Keys& from, std::string_view key, std::filesystem::path& into) {
    std::string text = into.string();
    from.take<std::string>(key, text);
    into = text;
  };
  k.table("tls", [&](Keys& tls) {
    path(tls, "cluster", s.cluster_folder);
    path(tls, "cert", s.tls_cert);
    path(tls, "key", s.tls_key);
    path(tls, "ca", s.tls_ca);
    tls.take<std::int64_t>("renew_within_s", s.renew_within_s);
  });
  k.table("listen", [&](Keys& all) {
    for (auto name : listener_names)
      all.table(name, [&](Keys& one) {
        bool plain = false;
        one.take<bool>("plain", plain);
        if (plain) s.plain.emplace(name);
      });
  });
  k.take("host_names", s.host_names);
  k.take<double>("requests_per_second", s.requests_per_second);
  k.tables("policy", [&](Keys& one) {
    TaskPolicy::Group group;
    one.take<std::string>("group", group.path);
    one.take<bool>("privileged", group.privileged);
    one.take("host_paths", group.host_paths);
    one.take("docker_parameters", group.parameters);
    one.take("users", group.users);
    s.policies.push_back(std::move(group));
  });
}

}  // namespace

Status read_settings(const std::filesystem::path& file, Settings& s) {
  if (std::error_code ec; !std::filesystem::exists(file, ec)) return fail(Errc::not_found, "{}: there is no such file; deploy/croft.toml of croft's sources, /etc/croft/croft.toml of its package, explains every setting", file.string());
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
  k.take<std::string>("console_bind", s.console_bind);
  k.take("masters", s.masters);
  k.take<std::string>("zookeeper", s.zookeeper);
  k.take<std::string>("zookeeper_tree", s.zookeeper_tree);
  k.take<std::int64_t>("session_timeout_ms", s.session_timeout_ms);
  k.take("resolvers", s.resolvers);
  k.take("dns_clients", s.dns_clients);
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
  k.take<std::string>("docker_config", s.docker_config);
  k.take<bool>("docker", s.docker);
  k.take<bool>("allow_privileged", s.allow_privileged);
  k.take("allow_host_paths", s.allow_host_paths);
  k.take("allow_docker_parameters", s.allow_docker_parameters);
  k.take("allow_users", s.allow_users);
  k.take("allow_fetch_paths", s.allow_fetch_paths);
  k.take_ports("allow_check_ports", s.allow_check_ports);
  k.take<double>("reserve_cpus", s.reserve_cpus);
  k.take<double>("reserve_mem", s.reserve_mem);
  double cpus = 0, mem = 0;
  k.take<double>("cpus", cpus);
  k.take<double>("mem", mem);
  if (cpus > 0) s.cpus = cpus;
  if (mem > 0) s.mem = mem;
  k.take<std::string>("ports", s.ports);
  k.take<std::string>("instance", s.instance);
  k.take<std::string>("cgroup", s.cgroup);
  k.take<std::string>("haproxy", s.haproxy);
  k.take<std::int64_t>("drain_ms", s.drain_ms);
  k.take<std::int64_t>("agent_timeout_ms", s.agent_timeout_ms);
  k.take<std::int64_t>("log_retain_days", s.log_retain_days);
  k.take<std::int64_t>("log_retain_bytes", s.log_retain_bytes);
  k.take<std::int64_t>("log_spool_bytes", s.log_spool_bytes);
  read_security(k, s);
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

std::vector<std::string> certificate_names(const Settings& s) {
  std::vector<std::string> out{"localhost", "127.0.0.1"};
  auto add = [&](const std::string& name) {
    if (!name.empty() && name != "0.0.0.0" && !name.starts_with('.') && std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  add(s.ip);
  add(lower(s.hostname));
  for (const auto& name : s.host_names) add(lower(name));
  return out;
}

std::string this_host() {
  char name[256];
  return ::gethostname(name, sizeof name) == 0 ? std::string(name) : "localhost";
}

}  // namespace croft
