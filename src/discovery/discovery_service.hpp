#pragma once
// Follows the catalog, keeps the zone, answers DNS and Mesos-DNS's HTTP API.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "catalog/subscription.hpp"
#include "discovery/dns_server.hpp"
#include "discovery/records.hpp"
#include "net/http.hpp"

namespace croft::discovery {

struct DiscoveryOptions {
  std::vector<net::Origin> masters;
  std::filesystem::path saved;                 ///< catalog copy; "" for none
  /// first_serial 1 is replaced by the time in Unix seconds, and empty server_addresses by those listened on.
  ZoneOptions zone;
  DnsOptions dns;
  /// Where containers ask; "" for no such place. What is on loopback is called by this address there.
  std::string bridge;
  std::string version;
};

/// Shape    start(), stop(). The copy on disk is served at once, marked stale, and on without a leader for ever.
/// Threads  from any; `pool` must outlive stop().
/// Errors   start: invalid (the domain, a resolver or address), io (an address that cannot be bound).
class DiscoveryService {
 public:
  DiscoveryService(boost::asio::any_io_executor pool, DiscoveryOptions options, Metrics& metrics);
  ~DiscoveryService();
  Status start();
  boost::asio::awaitable<void> stop();
  /// GET /v1/version, /v1/config, /v1/hosts/{host}, /v1/services/{service}, /v1/enumerate, /v1/axfr. Read-only; of any zone age.
  void add_routes(net::Router& router);
  /// Of the i-th DNS address to listen on; 0 while it is not bound.
  [[nodiscard]] std::uint16_t dns_port(std::size_t i = 0) const;
  [[nodiscard]] std::shared_ptr<const Zone> zone() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::discovery
