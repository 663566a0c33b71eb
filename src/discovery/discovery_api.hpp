#pragma once
// Mesos-DNS's HTTP API over a zone. Its shapes stop here.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "discovery/zone.hpp"
#include "net/http.hpp"

namespace croft::discovery {

struct ApiInfo {
  std::string version;
  std::uint16_t dns_port = 53, http_port = 8123;
  std::string listener;
  std::vector<std::string> resolvers, masters;
  int timeout_seconds = 2;
};

/// `stale_seconds`: how long no leader was heard, 0 while one is; said in the header X-Croft-Stale of every answer.
void add_discovery_routes(net::Router& router, ApiInfo info, std::function<std::shared_ptr<const Zone>(const net::Request&)> zone, std::function<double()> stale_seconds);

// The bodies, for tests.
std::string services_json(const Zone& zone, const std::string& asked);
std::string hosts_json(const Zone& zone, const std::string& asked);
std::string enumerate_json(const Zone& zone);
std::string axfr_json(const Zone& zone);
std::string config_json(const Zone& zone, const ApiInfo& info);

}  // namespace croft::discovery
