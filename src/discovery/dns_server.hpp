#pragma once
// UDP and TCP on port 53 or another: answers the farm's zone, forwards the rest.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.hpp"
#include "discovery/zone.hpp"

namespace croft::discovery {

struct Listen {
  std::string address;
  std::uint16_t port = 53;
  bool may_wait = false;         ///< an address that is not there yet (the container bridge): tried again every second
};

struct DnsOptions {
  std::vector<Listen> listen;
  std::vector<std::string> resolvers;   ///< "ip" or "ip:port" for names outside the domain; none: REFUSED
  int threads = 1;                      ///< UDP threads an address, each with a socket of its own
};

/// Threads  answers from threads of its own; set_zone from anywhere.
class DnsServer {
 public:
  DnsServer(boost::asio::any_io_executor executor, DnsOptions options, Metrics& metrics);
  ~DnsServer();
  /// Errors: io ("bind 127.0.0.1:8053: …") for the addresses that may not wait.
  Status start();
  void stop();
  void set_zone(std::shared_ptr<const Zone> zone);

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::discovery
