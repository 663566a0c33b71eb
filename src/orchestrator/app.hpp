#pragma once
// An app: what a user asked for, in the canonical (latest) form. Marathon's older spellings are rewritten to it by the codec.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/value.hpp>

#include "model/task.hpp"

namespace croft::orchestrator {

struct UpgradeStrategy {
  double minimum_health_capacity = 1.0, maximum_over_capacity = 1.0;
  bool operator==(const UpgradeStrategy&) const = default;
};

struct UnreachableStrategy {
  bool disabled = false;
  Seconds inactive_after{0}, expunge_after{0};
  bool operator==(const UnreachableStrategy&) const = default;
};

/// A port as declared (portDefinitions or portMappings), before one is assigned.
struct PortDefinition {
  std::uint16_t port = 0;                 ///< host network: the service port (0 assigned by croft); unused with mappings
  std::optional<std::uint16_t> host_port; ///< mappings: absent none published (container network), 0 any
  std::uint16_t container_port = 0, service_port = 0;
  Protocol protocol = Protocol::tcp;
  std::string name;
  Labels labels;
  std::vector<std::string> network_names;
  bool operator==(const PortDefinition&) const = default;
};

struct Network {
  NetworkMode mode = NetworkMode::host;
  std::string name;
  Labels labels;
  bool operator==(const Network&) const = default;
};

enum class ContainerType : std::uint8_t { none, docker, mesos };

struct App {
  AppId id;
  std::optional<std::string> cmd;
  std::optional<std::vector<std::string>> args;
  std::string user, role = "*", executor;
  Labels env, labels;
  std::map<std::string, std::string> secrets;      ///< the manifest's own name for each: its source, as written
  std::map<std::string, std::string> env_secrets;  ///< variable: the manifest's name of its secret
  std::vector<std::pair<std::string, std::string>> secret_files;  ///< containerPath, the manifest's name of its secret
  std::uint32_t instances = 1;
  Resources resources{1000, 128'000, 0, 0};
  std::optional<Milli> cpus_limit, mem_limit;
  std::vector<std::vector<std::string>> constraints;
  std::vector<Artifact> fetch;
  std::vector<Network> networks{{}};
  std::vector<PortDefinition> ports;      ///< portDefinitions (host network) or container.portMappings
  bool require_ports = false;
  ContainerType container = ContainerType::none;
  std::optional<DockerSpec> docker;       ///< when an image is given
  std::vector<Volume> volumes;
  std::vector<HealthCheck> health_checks;
  std::vector<ReadinessCheck> readiness_checks;
  std::vector<AppId> dependencies;
  Seconds backoff{1}, max_launch_delay{300};
  double backoff_factor = 1.15;
  UpgradeStrategy upgrade;
  UnreachableStrategy unreachable;
  bool kill_oldest_first = false;
  std::optional<Seconds> kill_grace;
  std::vector<std::string> accepted_roles;
  boost::json::value kept;                ///< object of known fields that have no effect yet (gpus policy, residency, check …), read back as sent
  std::string version, last_scaling, last_config_change;  ///< ISO time stamps, strictly increasing an app

  bool operator==(const App&) const = default;
  /// Whether going from `other` to this needs new tasks: anything but instances and versions differs.
  [[nodiscard]] bool same_config(const App& other) const;
};

}  // namespace croft::orchestrator
