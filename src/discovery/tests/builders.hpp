#pragma once
#include "discovery/zone.hpp"

namespace croft::discovery {

inline catalog::Endpoint endpoint(std::string task, std::string app = "/service/fibonacci", std::string agent = "c-S1", std::uint16_t port = 31000) {
  catalog::Endpoint e;
  e.task = TaskId(std::move(task));
  e.app = AppId(std::move(app));
  e.agent = AgentId(std::move(agent));
  e.host = "n1";
  e.ip = "192.168.99.21";
  PortSpec p;
  p.host_port = port;
  p.container_port = 8099;
  e.ports = {p};
  e.healthy = true;
  return e;
}

inline catalog::Content content_of(std::vector<catalog::Endpoint> endpoints) {
  catalog::Content c;
  for (auto& e : endpoints) {
    auto& s = c.services[e.app];
    s.app = e.app;
    s.health_checks = {HealthCheck{}};
    c.endpoints[e.task] = std::move(e);
  }
  return c;
}

inline catalog::Follower::Change everything() {
  catalog::Follower::Change c;
  c.all = c.nodes = c.masters = c.balancers = true;
  return c;
}

inline std::shared_ptr<const Zone> zone_of(const catalog::Content& c, ZoneOptions options = {}) {
  ZoneBuilder b(std::move(options));
  b.apply(c, everything());
  return b.zone();
}

/// "name A 10.0.0.1" lines, sorted, without final dots.
std::vector<std::string> listed(const Zone& zone);
/// Only those of one name.
std::vector<std::string> listed(const Zone& zone, const std::string& name);

/// A question as a client sends it.
struct Ask {
  std::string name;
  std::uint16_t type = 1;
  std::optional<std::uint16_t> edns = std::nullopt;
  std::uint8_t edns_version = 0;
  std::uint16_t id = 0x1234, cls = 1;
  bool recursion = true;
};
std::string packet_of(const Ask& ask);

constexpr std::uint16_t A = 1, NS = 2, SOA = 6, TXT = 16, AAAA = 28, SRV = 33, AXFR = 252, ANY = 255;

/// An answer as ldns reads it.
struct Read {
  bool ok = false;
  int rcode = 0;
  bool qr = false, aa = false, tc = false, rd = false, ra = false, edns = false;
  int edns_size = 0, extended = 0;
  std::uint16_t id = 0;
  std::string question;
  std::vector<std::string> answers, authority, additional;   ///< "name TYPE rdata", in the order of the packet, without OPT
};
Read read_answer(std::string_view packet);

}  // namespace croft::discovery
