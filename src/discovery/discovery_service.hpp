#pragma once
// Follows the catalog, keeps the zone, answers DNS and Mesos-DNS's HTTP API.

#include <boost/asio/any_io_executor.hpp>

#include <filesystem>
#include <memory>

#include "catalog/subscription.hpp"
#include "discovery/dns_server.hpp"
#include "net/http.hpp"

namespace croft::discovery {

struct DiscoveryOptions {
  std::vector<net::Origin> masters;
  std::filesystem::path saved;                 ///< catalog copy; "" for none
  ZoneOptions zone;
  DnsOptions dns;
  std::string version;
};

class DiscoveryService {
 public:
  DiscoveryService(boost::asio::any_io_executor pool, DiscoveryOptions options, Metrics& metrics);
  ~DiscoveryService();
  Status start();
  boost::asio::awaitable<void> stop();
  /// /v1/version, /v1/config, /v1/hosts/{host}, /v1/services/{service}, /v1/enumerate. Read-only.
  void add_routes(net::Router& router);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::discovery
