#pragma once
// What a process of croft is told: defaults, croft.toml, the command line, in this order.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "model/task_policy.hpp"
#include "model/task.hpp"
#include "net/http_client.hpp"

namespace croft {

/// Listeners by their names in [listen.NAME].
inline constexpr std::string_view listener_names[] = {"marathon", "mesos", "agent", "bamboo", "discovery", "logs", "console", "log_input"};

struct Settings {
  std::filesystem::path data = "/var/lib/croft";     ///< state of all roles, a folder each
  std::string hostname, ip = "127.0.0.1", bind = "127.0.0.1";
  std::string console_bind;                          ///< of the log host's console, where it differs from `bind`
  std::vector<std::string> masters;                  ///< "host:port" of the masters' Marathon face; default: this host
  std::string zookeeper;                             ///< "zk://[user:password@]h1:2181,h2:2181,h3:2181/mesos"; "": one master, standalone
  std::string zookeeper_tree = "/croft";             ///< where croft's own records are, beside the election's path
  std::int64_t session_timeout_ms = 3000;            ///< of ZooKeeper's session: a master that is silent for so long is replaced
  std::uint16_t marathon_port = 8080, mesos_port = 5050, agent_port = 5051, bamboo_port = 8000, discovery_port = 8123, logs_port = 9200, log_input_port = 5959,
                console_port = 5601, dns_port = 53;
  std::vector<std::uint16_t> balancer_ports{5000}, balancer_optional_ports{80};
  std::string domain = "mesos";
  std::uint32_t dns_ttl = 1;
  std::vector<std::string> resolvers;
  std::vector<std::string> dns_clients;              ///< networks ("203.0.113.0/24") whose questions for other names than the farm's are passed on, beside loopback and private ones
  std::string bridge;                                ///< address of the container bridge; "": none
  std::string docker_socket = "/var/run/docker.sock";
  std::string docker_config;                         ///< a docker configuration (config.json) with the node's logins at registries; "": none
  bool docker = true;
  bool allow_privileged = false;                     ///< what Docker manifests may ask for; see model/task_policy.hpp
  std::optional<std::vector<std::string>> allow_host_paths;  ///< folders of a host that containers may mount; default: /srv, /mnt and /data where nobody logs in, else none
  std::vector<std::string> allow_docker_parameters;
  std::optional<std::vector<std::string>> allow_fetch_paths;  ///< folders of a host that artifacts (fetch, uris) may come from; default: all where nobody logs in, else allow_host_paths
  std::optional<std::vector<std::string>> allow_users;  ///< default: all where nobody logs in, else none
  std::optional<std::vector<std::string>> allow_check_ports;  ///< ports of a node, beside an app's own, that health checks may ask; default: all where nobody logs in, else none
  double reserve_cpus = 0, reserve_mem = 256;
  std::optional<double> cpus, mem;                   ///< of the node, instead of what is found
  std::string ports = "31000-32000";
  Labels attributes;
  std::string instance = "croft";                    ///< the farm's name in containers' labels, and of its cgroup folder
  std::string cgroup;                                ///< the folder in every hierarchy where tasks stand; "": `instance`
  std::string haproxy = "own";                       ///< who starts HAProxy: "own", the balancer, or "unit", a systemd unit
  std::int64_t drain_ms = 10'000, agent_timeout_ms = 10'000;
  int log_retain_days = 30;
  std::uint64_t log_retain_bytes = 0;
  std::uint64_t log_spool_bytes = 2ull << 30;        ///< of a node: what waits for the log host
  std::vector<std::string> elasticsearch;            ///< instead of the embedded store
  std::string auth;                                  ///< "" or "login": TLS, certificates and logins; "none", in so many words: nobody is asked anything
  bool warns_open = false;                           ///< said by every answer: set by `croft serve` where nobody logs in
  std::filesystem::path cluster_folder = "/etc/croft/cluster";  ///< of `croft init` or `croft join`: certificate, key, CA; on masters the cluster's keys
  std::filesystem::path tls_cert, tls_key, tls_ca;   ///< instead of host.pem, host.key and ca.pem there
  std::int64_t renew_within_s = 3600;                       ///< once another CA signs than this host's certificate has
  double requests_per_second = 1000;                 ///< that one login may make of one process, twice as many at once; 0: as many as it likes
  std::set<std::string> plain;                       ///< listeners that speak plain HTTP all the same, by name
  std::vector<std::string> host_names;               ///< further names by which clients reach this host: in its certificate, and taken in Host
  std::vector<TaskPolicy::Group> policies;         ///< what admins of a group may ask of Docker beyond the rest

  [[nodiscard]] bool logins() const { return auth != "none"; }
  [[nodiscard]] std::vector<std::string> host_paths() const { return allow_host_paths.value_or(logins() ? std::vector<std::string>{} : std::vector<std::string>{"/srv", "/mnt", "/data"}); }
  /// One of tls_cert, tls_key, tls_ca, or its default.
  [[nodiscard]] std::filesystem::path certificate_file() const { return tls_cert.empty() ? cluster_folder / "host.pem" : tls_cert; }
  [[nodiscard]] std::filesystem::path key_file() const { return tls_key.empty() ? cluster_folder / "host.key" : tls_key; }
  [[nodiscard]] std::filesystem::path bundle_file() const { return tls_ca.empty() ? cluster_folder / "ca.pem" : tls_ca; }

  [[nodiscard]] std::vector<net::Origin> master_origins() const;
};

/// Errors   invalid: every mistake, a line each, with file, line and key.
Status read_settings(const std::filesystem::path& file, Settings& into);
/// The address of docker0 or the first container bridge; "" when there is none.
std::string find_bridge();
std::string this_host();
/// What a host's certificate names beside the host itself: where clients reach it.
std::vector<std::string> certificate_names(const Settings& settings);

}  // namespace croft
