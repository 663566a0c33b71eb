#pragma once
// The catalog as a HAProxy configuration. Pure: same input, same bytes.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/catalog.hpp"

namespace croft::balancer {

struct RenderOptions {
  std::string run_dir;                          ///< sockets and pid file
  std::string address;                          ///< to bind, "" or "*": all
  std::vector<std::uint16_t> shared_ports{5000};  ///< of the front end with rules
  std::set<std::uint16_t> skipped_ports;        ///< service ports that somebody else holds
  std::uint32_t threads = 2;
};

/// One place for an instance in a back end. Places outlive instances, so that instances come and go without a reload.
struct Slot {
  TaskId task;                                  ///< "" when free
  std::string ip;
  std::uint16_t port = 0;
  enum class State : std::uint8_t { free, ready, drain, maint } state = State::free;
  bool operator==(const Slot&) const = default;
};

/// A back end: one port of an app.
struct Backend {
  std::string name;                             ///< "service_fibonacci_0"
  AppId app;
  std::size_t port_index = 0;
  bool http = true;
  std::uint16_t service_port = 0;
  std::optional<HealthCheck> check;
  std::vector<Slot> slots;
};

/// What is to be: back ends by name, rules that are in force. Slots carry over from `before`, tasks keep theirs.
struct Plan {
  std::map<std::string, Backend> backends;
  std::map<AppId, std::string> rules;           ///< app to ACL text
};

Plan make_plan(const catalog::Content& content, const Plan& before, const std::set<AppId>& refused_rules, const RenderOptions& options);
std::string render(const Plan& plan, const RenderOptions& options);
/// The part of a configuration that only a reload changes: everything but the slots' contents.
std::string shape_of(const Plan& plan, const RenderOptions& options);
/// Runtime commands that turn `from` into `to`; both have the same shape.
std::vector<std::string> runtime_commands(const Plan& from, const Plan& to);
/// A configuration with one rule only, for `haproxy -c`.
std::string probe_config(const std::string& acl);
std::string backend_name(const AppId& app, std::size_t port_index);

}  // namespace croft::balancer
