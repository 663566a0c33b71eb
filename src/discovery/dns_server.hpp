#pragma once
// UDP and TCP on port 53 or another: answers the farm's zone, forwards the rest.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.hpp"
#include "discovery/zone_holder.hpp"

namespace croft::discovery {

struct Listen {
  std::string address;
  std::uint16_t port = 53;
  bool may_wait = false;         ///< an address that is not there yet (the container bridge): tried again every DnsOptions::bind_again
};

struct DnsOptions {
  std::vector<Listen> listen;
  /// For names outside the domain: "10.0.0.1", "10.0.0.1:5353", "[fd01::2]:53". None: those of /etc/resolv.conf. Our own addresses among
  /// them are left out; where nothing is left, such questions are REFUSED.
  std::vector<std::string> resolvers;
  std::vector<std::string> clients;                   ///< networks whose such questions are passed on, beside the near ones (networks.hpp); others get REFUSED
  bool forward = true;                                ///< false: names outside the domain are REFUSED
  std::chrono::milliseconds bind_again{1000};         ///< for addresses that may wait
  int threads = 1;                                    ///< that answer by UDP, each with a socket of its own on every address
  std::chrono::milliseconds resolver_timeout{2000};   ///< for each resolver
  int forwards_max = 1024;                            ///< under way at once; beyond: SERVFAIL
  std::chrono::milliseconds tcp_idle{10'000};         ///< of a TCP connection; a third of it once half of the connections are taken
  int tcp_connections_max = 512;
  /// Answers by UDP to one network outside the private ranges; beyond, every second one says TC and the others are dropped. 0: no limit.
  std::uint32_t answers_per_second = 2000;
};

/// Shape    start(), set_zone() whenever there is a new one, stop(). Until the first loaded zone the farm's names get SERVFAIL.
/// Threads  UDP on threads of its own, TCP and forwards on the executor; every method from any thread.
class DnsServer {
 public:
  DnsServer(boost::asio::any_io_executor executor, DnsOptions options, Metrics& metrics);
  ~DnsServer();
  /// Errors: invalid (an address or resolver that is none, by name), io ("bind 127.0.0.1:8053: …") for addresses that may not wait.
  Status start();
  void stop();
  void set_zone(std::shared_ptr<const Zone> zone);
  /// Of the i-th address to listen on; 0 while it is not bound. For port 0 in the options: the one that was free.
  [[nodiscard]] std::uint16_t port(std::size_t i = 0) const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::discovery
