#pragma once
// One instance of an app as the farm sees it: what an agent is to run (TaskSpec) and what became of it (TaskStatus).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.hpp"
#include "model/ids.hpp"
#include "model/resources.hpp"

namespace croft {

using Labels = std::map<std::string, std::string>;

/// Mesos's task states, with Mesos's meaning; the wire names are "TASK_RUNNING" and so on.
enum class TaskState : std::uint8_t {
  staging, starting, running, killing,                                                     // live
  finished, failed, killed, error, lost, dropped, unreachable, gone, gone_by_operator, unknown,
};
bool is_terminal(TaskState state);  ///< finished, failed, killed, error, lost, dropped, gone, gone_by_operator
std::string_view wire_name(TaskState state);
std::optional<TaskState> task_state_from(std::string_view wire);

enum class Protocol : std::uint8_t { tcp, udp, both };  ///< "tcp", "udp", "udp,tcp"
std::string_view to_string(Protocol p);

/// One declared port of a task, in the manifest's order; health checks and services name ports by their index.
struct PortSpec {
  std::uint16_t host_port = 0;       ///< assigned on the host; 0: none (container network without host port)
  std::uint16_t container_port = 0;  ///< 0: the same as the host port (host network)
  std::uint16_t service_port = 0;    ///< balancer's port for this app; 0: none
  std::uint16_t requested = 0;       ///< what the manifest said (for PORT_<n>); 0: any
  Protocol protocol = Protocol::tcp;
  std::string name;
  Labels labels;
  bool operator==(const PortSpec&) const = default;
};

enum class CheckKind : std::uint8_t { http, https, tcp, command };

struct HealthCheck {
  CheckKind kind = CheckKind::http;
  std::string path = "/";
  std::string command;                     ///< for command: run by /bin/sh -c inside the task
  std::optional<std::uint32_t> port_index; ///< neither this nor port: the first port
  std::optional<std::uint16_t> port;
  Millis grace{300'000}, interval{60'000}, timeout{20'000}, delay{15'000};
  std::uint32_t failures_max = 3;          ///< consecutive; 0: never kill
  bool ignore_1xx = false;
  std::string protocol_name = "HTTP";      ///< the manifest's spelling: HTTP, MESOS_HTTP, …
  bool operator==(const HealthCheck&) const = default;
};

struct ReadinessCheck {
  std::string name = "readinessCheck", protocol = "HTTP", path = "/", port_name = "http-api";
  Millis interval{30'000}, timeout{10'000};
  std::vector<std::uint16_t> ready_statuses{200};
  bool preserve_last_response = false;
  bool operator==(const ReadinessCheck&) const = default;
};

struct Artifact {
  std::string uri, dest_path;
  bool extract = true, executable = false, cache = false;
  std::string checksum = {};                          ///< "sha256:<hex>" or "sha512:<hex>" of the file as it comes; "": none
  bool operator==(const Artifact&) const = default;
};

struct Volume {
  std::string container_path, host_path, mode = "RO";  ///< RO or RW
  bool operator==(const Volume&) const = default;
};

enum class NetworkMode : std::uint8_t { host, bridge, container, none };

struct DockerSpec {
  std::string image;
  NetworkMode network = NetworkMode::bridge;
  std::string network_name;  ///< for container networks
  bool force_pull = false, privileged = false;
  std::vector<std::pair<std::string, std::string>> parameters;  ///< Docker's command-line options, as key and value
  bool operator==(const DockerSpec&) const = default;
};

/// A secret that a task gets. Its value is no part of the spec: it comes over the link by itself and is on no disk of the node.
struct SecretUse {
  std::string secret;                       ///< its path, "/service/db-password"
  std::string env;                          ///< the variable that has it; "": a file has it
  std::string file = {};                    ///< where the task sees the file: absolute in its image, else in its sandbox
  bool operator==(const SecretUse&) const = default;
};
/// A secret as it is now. version 0: there is none of this name.
struct SecretValue {
  std::uint64_t version = 0;                ///< raised by each change
  std::string value;                        ///< any bytes
  bool operator==(const SecretValue&) const = default;
};

/// Everything an agent needs to start one task; fixed for the task's whole life.
struct TaskSpec {
  TaskId id;
  AppId app;
  std::string app_version;  ///< the app's version time stamp
  std::string name;         ///< task_name_of(app)
  std::string role = "*";
  std::optional<std::string> cmd;           ///< run by /bin/sh -c
  std::optional<std::vector<std::string>> args;  ///< without cmd: executed as it is (native: args[0] is the program)
  std::string user;                         ///< "": the agent's default
  Labels env;                               ///< complete: PORT*, HOST, MARATHON_* are already in
  Labels labels;
  Resources resources;
  std::optional<Milli> cpus_limit, mem_limit;  ///< resourceLimits; mem_limit < 0: unlimited
  std::vector<PortSpec> ports;
  std::vector<Artifact> fetch;
  std::vector<Volume> volumes;
  std::optional<DockerSpec> docker;         ///< absent: native runtime
  std::vector<HealthCheck> health_checks;
  std::vector<ReadinessCheck> readiness_checks;
  std::optional<Millis> kill_grace;         ///< TERM to KILL; absent: the agent's default (3 s)
  std::vector<SecretUse> secrets;
  Wall staged_at{};                         ///< when a leader launched it, in whole milliseconds; the next leader hears of it by the agent. 1970: not told
  bool operator==(const TaskSpec&) const = default;
};

/// Where an update comes from, in Mesos's words ("REASON_CONTAINER_LIMITATION_MEMORY").
struct TaskStatus {
  TaskId task;
  std::string uuid;          ///< one update, re-sent under the same uuid until acknowledged; "" needs no acknowledgement
  TaskState state = TaskState::staging;
  std::string message, reason;
  Wall at{};
  std::optional<bool> healthy;  ///< nothing until the first verdict
  bool ready = true;            ///< false while a readiness check has not passed
  std::string last_check_failure;  ///< cause of the newest failed check, "" when it passed
  std::uint32_t check_failures = 0;  ///< consecutive
  std::optional<std::string> container_ip;
  std::optional<int> exit_code, exit_signal;
  std::optional<Wall> started_at;
  bool operator==(const TaskStatus&) const = default;
};

}  // namespace croft
