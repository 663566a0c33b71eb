#pragma once
// The catalog's content: what serves what, where. Derived by the leader, pushed to balancers, DNS servers and consoles.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "model/task.hpp"

namespace croft::catalog {

/// One running (or starting) instance of an app.
struct Endpoint {
  TaskId task;
  AppId app;
  AgentId agent;
  std::string app_version;
  std::string host, ip;                  ///< of the agent
  std::optional<std::string> container_ip;
  std::vector<PortSpec> ports;
  TaskState state = TaskState::running;
  std::optional<bool> healthy;           ///< nothing: no verdict yet
  bool ready = true;
  bool draining = false;
  std::uint32_t weight = 1;
  Wall started{};
  bool operator==(const Endpoint&) const = default;
  /// In rotation when the service has no checks, or the last verdict was good; never while draining or not ready.
  [[nodiscard]] bool serves(bool has_checks) const {
    return state == TaskState::running && ready && !draining && (has_checks ? healthy.value_or(false) : healthy.value_or(true));
  }
  /// Runs and fails its check: asked all the same once nobody of its app serves, because then the cause is mostly a common one. Not one that has no verdict
  /// yet: it has never served.
  [[nodiscard]] bool last_resort() const { return state == TaskState::running && ready && !draining && healthy == false; }
};

struct ServicePort {
  std::uint16_t service_port = 0, container_port = 0;
  Protocol protocol = Protocol::tcp;
  std::string name;
  Labels labels;
  std::uint16_t host_port = 0;           ///< one that its tasks hold on their hosts; 0: any
  bool operator==(const ServicePort&) const = default;
};

/// An app as discovery and balancers see it.
struct Service {
  AppId app;
  std::vector<ServicePort> ports;
  Labels labels, env;                    ///< env: only what Bamboo's state shows
  std::vector<HealthCheck> health_checks;
  std::uint32_t instances = 0;           ///< wanted
  std::string version;
  bool operator==(const Service&) const = default;
};

/// A balancer rule (Bamboo's /api/services): an app and the HAProxy ACL that leads to it.
struct Rule {
  AppId app;
  std::string acl;                       ///< "path_beg -i /service/fibonacci"
  bool operator==(const Rule&) const = default;
};

struct Node {
  AgentId id;
  std::string host, ip;
  std::uint16_t port = 5051;
  bool reachable = true;
  bool operator==(const Node&) const = default;
};

struct Master {
  std::string host, ip;
  std::uint16_t port = 5050;
  bool leader = false;
  bool operator==(const Master&) const = default;
};

/// A live balancer, by its lease.
struct Balancer {
  BalancerId id;
  std::string host, ip;
  bool operator==(const Balancer&) const = default;
};

struct Content {
  std::map<AppId, Service> services;
  std::map<TaskId, Endpoint> endpoints;
  std::map<AppId, Rule> rules;
  std::map<AgentId, Node> nodes;
  std::vector<Master> masters;
  std::map<BalancerId, Balancer> balancers;
  bool operator==(const Content&) const = default;
};

/// (epoch, n): a new epoch always begins with a snapshot.
struct Index {
  std::uint64_t epoch = 0, n = 0;
  auto operator<=>(const Index&) const = default;
};

/// The store that a leader runs on, and its newest commit. No cluster: nobody said.
struct Root {
  std::string cluster;
  std::uint64_t commit = 0;
  bool operator==(const Root&) const = default;
};

// --- the stream's records, one JSON object a line ---
/// `complete`: agents whose endpoints are all in here. For other agents a follower keeps what it had, until the leader has `all_heard`: then it waits for
/// nobody any more. A leader of an older version never says so, and does not say that it has not either.
struct Snapshot { Index at; Content content; std::vector<AgentId> complete; std::optional<bool> all_heard; Root root; };
struct Delta {
  Index at;                              ///< n is the follower's n plus 1
  std::vector<Service> services;  std::vector<AppId> services_gone;
  std::vector<Endpoint> endpoints; std::vector<TaskId> endpoints_gone;
  std::vector<Rule> rules;        std::vector<AppId> rules_gone;
  std::vector<Node> nodes;        std::vector<AgentId> nodes_gone;
  std::optional<std::vector<Master>> masters;
  std::vector<Balancer> balancers; std::vector<BalancerId> balancers_gone;
  std::vector<AgentId> complete;         ///< agents that became complete with this delta
  bool all_heard = false;                ///< with this delta the wait for agents is over
};
struct Heartbeat { Index at; std::uint64_t commit = 0; };
using Record = std::variant<Snapshot, Delta, Heartbeat>;

/// What a follower of a new leader cannot know: what became of the tasks of agents that this leader has not heard yet.
struct Doubt {
  std::set<TaskId> recalled;             ///< in the content as a copy on disk had them, which may be older than what a data plane was told last
  bool some_unheard = false;             ///< there may be such agents
  std::set<std::string> heard;           ///< addresses of hosts of which everything has been told
  /// Whether a task may serve at an address although the content has none there.
  [[nodiscard]] bool may_serve_at(const std::string& ip) const { return some_unheard && !heard.contains(ip); }
};

/// What a balancer says back, at least every second: it is alive and has carried out everything up to `applied`.
struct Confirmation {
  Balancer balancer;
  Index applied;
  std::map<TaskId, std::uint32_t> open;  ///< open requests of draining tasks, where known
};

}  // namespace croft::catalog
