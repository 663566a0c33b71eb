#pragma once
// Elements with good defaults, so that a test names only what it is about.

#include "catalog/follower.hpp"
#include "catalog/publisher.hpp"
#include "model/catalog_json.hpp"

namespace croft::catalog {

inline Endpoint endpoint(std::string task, std::string app = "/a", std::string agent = "c-S1") {
  Endpoint e;
  e.task = TaskId(std::move(task));
  e.app = AppId(std::move(app));
  e.agent = AgentId(std::move(agent));
  e.app_version = "2015-08-12T10:11:12.345Z";
  e.host = "n1";
  e.ip = "192.168.99.21";
  PortSpec p;
  p.host_port = 31000;
  e.ports = {p};
  return e;
}
inline Service service(std::string app = "/a") {
  Service s;
  s.app = AppId(std::move(app));
  s.instances = 1;
  return s;
}
inline Node node(std::string id, std::string ip = "192.168.99.21") {
  Node n;
  n.id = AgentId(std::move(id));
  n.ip = std::move(ip);
  return n;
}
inline Confirmation confirmation(std::string id, Index applied) {
  Confirmation c;
  c.balancer.id = BalancerId(std::move(id));
  c.applied = applied;
  return c;
}
inline Now at_ms(int ms) { return {Mono(Millis(ms)), Wall(Millis(ms))}; }

inline Publisher publisher(std::uint64_t epoch = 1, std::size_t backlog_max = 1u << 20) {
  Publisher::Options o;
  o.epoch = epoch;
  o.backlog_max = backlog_max;
  return Publisher(o);
}

/// Brings the follower to the publisher's index over the wire format. The first error, if any.
inline Status catch_up(Follower& f, const Publisher& p) {
  for (const auto& line : p.since(f.index())) {
    auto record = decode_record(*line);
    if (!record) return fail(record.error());
    if (auto done = f.apply(*record); !done) return fail(done.error());
  }
  return {};
}

}  // namespace croft::catalog
