#pragma once
// What HAProxy is to do: back ends with places for instances, and the ways that lead to them. Pure: catalog in, plan out.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "balancer/labels.hpp"
#include "model/catalog.hpp"

namespace croft::balancer {

/// One place for an instance in a back end. Places outlive instances, so that instances come and go without a reload.
struct Slot {
  TaskId task;                                  ///< "" when free, or not known (HAProxy knows addresses only)
  std::string ip;
  std::uint16_t port = 0;
  enum class State : std::uint8_t { free, ready, drain, maint } state = State::free;
  bool agrees = true;                           ///< its twin (Backend::last_resort) stands as it does; false only as HAProxy was found
  bool operator==(const Slot&) const = default;
};

/// A back end: one port of an app.
struct Backend {
  std::string name;                             ///< "service_fibonacci_0"
  AppId app;
  std::size_t port_index = 0;
  bool http = false;
  bool tls = false;                             ///< instances speak TLS (they have an HTTPS check)
  std::uint16_t service_port = 0;               ///< of its own front end; 0: none
  std::optional<HealthCheck> check;             ///< HTTP or HTTPS, of this port
  /// Each place has a twin that HAProxy does not check and asks only while every place fails its check: then nothing is left to route around.
  bool last_resort = false;
  PortLabels labels;
  std::vector<Slot> slots;
};

struct Plan {
  std::map<std::string, Backend> backends;      ///< by name
  std::map<AppId, std::string> rules;           ///< app to ACL text; only such as have an HTTP back end
  std::vector<std::string> left_out;            ///< what was asked for and is not done, in words
};

/// Which of an app's things must not be used: HAProxy refused them, or a port is somebody else's.
struct Banned {
  std::string own_ip;                           ///< this host's: where no agent runs, tasks hold no port. "": one may
  std::map<AppId, std::string> rules;           ///< refused as long as the text is this
  std::set<AppId> apps;
  std::set<std::uint16_t> ports;
};

/// Instances keep the places that they have in `before`, known by task, or by address where the task is not known. Where the content is in doubt, the places of
/// `before` stand as they are.
Plan make_plan(const catalog::Content& content, const Plan& before, const Banned& banned, const catalog::Doubt& doubt = {});
std::string backend_name(const AppId& app, std::size_t port_index);
/// Ports of front ends of apps.
std::set<std::uint16_t> service_ports(const Plan& plan);
/// The part of a plan that is one app's.
Plan only(const Plan& plan, const AppId& app, bool with_rule);

}  // namespace croft::balancer
