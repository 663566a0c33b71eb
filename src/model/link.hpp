#pragma once
// The agent link: what leader and agent say to each other. Down: one long HTTP response of newline-delimited JSON records.
// Up: POSTs of one JSON record each. The records' fields are fixed here, their JSON in link_json.hpp.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "model/task.hpp"

namespace croft::link {

constexpr std::size_t engine_facts_max = 64;
struct AgentInfo {
  std::string hostname;
  std::string ip;               ///< address under which the host's ports are reached
  std::uint16_t port = 5051;    ///< of the agent's HTTP API
  Labels attributes;
  Resources total;              ///< already less the host's reserve
  PortSet ports;
  std::string boot_id, version;
  bool docker = false, native = true;
  bool exec = false;            ///< knows Exec records: croft before 0.2 does not
  std::vector<std::string> engine;  ///< what its Docker Engine says of itself, for croft audit: "live-restore", "userns", "insecure-registry=HOST"
  bool operator==(const AgentInfo&) const = default;
};

/// What the leader wants of a task. It only moves forward: run, drain, kill.
enum class Goal : std::uint8_t { run, drain, kill };

/// A launch that the agent has accepted (it stands in its run folder), started or not.
struct HeldTask {
  TaskSpec spec;
  Goal goal = Goal::run;
  std::optional<Wall> draining_since;
  TaskStatus status;            ///< the newest, acknowledged or not; terminal ones stay until acknowledged
};

struct Registration {
  AgentInfo info;
  AgentId id;                   ///< "" the first time
  std::string cluster_id;       ///< "" the first time
  std::uint64_t epoch_seen = 0, commit_seen = 0;
  std::vector<HeldTask> tasks;
  /// Which life of the agent's process this is, and its how many-eth registration in it: one that was overtaken on its way is old news. "": not told.
  std::string life;
  std::uint64_t number = 0;
  std::uint64_t lives = 0;      ///< lives that this agent has begun, on its disk: what a former one sent may arrive after its death. 0: not told
};

struct WantedTask {
  TaskSpec spec;
  Goal goal = Goal::run;
  std::optional<Wall> draining_since;
};

// --- down ---
struct Welcome { std::uint64_t epoch = 0, commit = 0; std::string cluster_id, subscription; AgentId agent; Millis heartbeat{5000}; };
/// The whole wanted set. Tasks that the agent holds and that do not stand here are quarantined: kept running, never killed.
struct Snapshot { std::uint64_t epoch = 0, n = 0; std::vector<WantedTask> tasks; };
/// Changes since n-1. `forget`: the agent may drop its record of these tasks (terminal and acknowledged).
struct Delta { std::uint64_t epoch = 0, n = 0; std::vector<WantedTask> set; std::vector<TaskId> forget; };
struct Ack { std::uint64_t epoch = 0; TaskId task; std::string uuid; };
struct Heartbeat { std::uint64_t epoch = 0, n = 0, commit = 0; };
/// A secret as it is now: before the first task of the stream that uses it, and at each change from then on. Agents of croft before 0.2 know no such record;
/// it is sent only where a task has secrets.
struct Secret { std::uint64_t epoch = 0; std::string name; SecretValue value; };
/// Run a command inside a task. It happens once or not at all: what it reads and writes goes over requests of its own, by the session's name.
struct Exec { std::uint64_t epoch = 0; std::string session; TaskId task; std::vector<std::string> command; std::string terminal; };
using Down = std::variant<Welcome, Snapshot, Delta, Ack, Heartbeat, Secret, Exec>;

// --- up ---
/// Progress of one task's preparation, shown but not acknowledged ("pulling image: 12 of 40 MB").
struct Progress { TaskId task; std::string text; };
struct Report {
  AgentId agent;
  std::string subscription;     ///< of the stream this belongs to; a stale one is answered 409
  std::uint64_t number = 0;     ///< 1, 2, 3 … in a subscription
  std::uint64_t epoch = 0, applied_n = 0;  ///< newest delta or snapshot that is carried out
  std::vector<TaskStatus> statuses;
  std::vector<Progress> progress;
};

}  // namespace croft::link
