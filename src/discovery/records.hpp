#pragma once
// From the catalog to records: which tasks are named, and by which names. Pure. Source: Mesos-DNS's naming; docs in the README.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/catalog.hpp"

namespace croft::discovery {

struct ZoneOptions {
  std::string domain = "mesos";
  std::uint32_t ttl = 1;                           ///< seconds, of every record; a drain without balancers waits this long
  std::vector<std::string> server_addresses;       ///< what ns1.<domain> answers
  std::uint16_t marathon_port = 8080;              ///< of _framework._tcp.marathon.<domain>
  std::uint32_t first_serial = 1;                  ///< SOA serial of the first zone; each later one adds 1
  /// Instead of 127.0.0.0/8, "" for no change: what this host is called by those who are not on it (containers of a farm on loopback).
  std::string loopback_as;
  bool unknown_srv_is_noerror = true;              ///< as Mesos-DNS: some clients take NXDOMAIN for an SRV question as fatal
};

/// What a task's names depend on.
struct NamedTask {
  struct Port {
    std::uint16_t number = 0;          ///< where it is reached: on the host, or in the container where that has an address of its own
    std::uint16_t host_port = 0;
    Protocol protocol = Protocol::tcp;
    std::string name;
    bool operator==(const Port&) const = default;
  };
  TaskId task;
  AppId app;
  AgentId agent;
  std::string ip, agent_ip;            ///< ip: the container's own only on a container network, else the agent's
  std::vector<Port> ports;
  bool operator==(const NamedTask&) const = default;
  static NamedTask of(const catalog::Endpoint& e);
};

enum class Kind : char { a, aaaa, srv };

struct Record {
  std::string owner;                   ///< wire form
  Kind kind{};
  std::string data;                    ///< 4 bytes, 16 bytes, or the target's wire form and the port (so that they sort by target)
  auto operator<=>(const Record&) const = default;
};

/// The records of one instance. None when the app's name has no character that a label may hold.
std::vector<Record> records_of(const NamedTask& task, std::string_view domain);
/// leader, master, masterN, slave, the framework, balancers, the name server; sorted, no duplicates.
std::vector<Record> farm_records(const catalog::Content& content, const ZoneOptions& options);
/// Which instances of an app are named: those that serve; while there is none, those that run and have not failed a check, then
/// draining ones, and when all have failed, all that run.
std::vector<const catalog::Endpoint*> named_of(const std::vector<const catalog::Endpoint*>& endpoints, bool has_checks);

/// A loopback address becomes `loopback_as`; any other, and where that is empty, stays.
std::string seen_from_outside(const std::string& ip, const std::string& loopback_as);
/// "10.0.0.1" or "fd01::2" as bytes; nothing for anything else (a host name, say).
std::optional<std::string> address_bytes(const std::string& text);
std::string address_text(std::string_view bytes);

}  // namespace croft::discovery
