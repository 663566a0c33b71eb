#pragma once
// Keeps a HAProxy in step with the catalog, and tells the leader how far it is.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <memory>

#include "base/metrics.hpp"
#include "catalog/subscription.hpp"
#include "net/http.hpp"

namespace croft::balancer {

struct BalancerOptions {
  std::vector<net::Origin> masters;
  std::filesystem::path run_dir;              ///< HAProxy's files
  std::filesystem::path saved;                ///< catalog copy
  std::string host, ip;
  std::uint16_t api_port = 8000;
  std::string address;                        ///< front ends bind here; "" for all
  std::vector<std::uint16_t> shared_ports{5000};   ///< must be ours
  std::vector<std::uint16_t> optional_ports{80};   ///< left out where somebody else has them
  bool haproxy_by_unit = false;               ///< systemd starts HAProxy when there is a configuration; we wait for it
};

/// Shape    start() adopts a running HAProxy of ours or starts one once the catalog is known; stop() leaves HAProxy running.
/// Errors   a taken port is told in the log and tried again every second; nothing is started beside an unknown listener.
class BalancerService {
 public:
  BalancerService(boost::asio::any_io_executor pool, BalancerOptions options, Metrics& metrics);
  ~BalancerService();
  Status start();
  boost::asio::awaitable<void> stop();
  /// Bamboo's /api/services, /api/state, /status. Rules are written to the leader.
  void add_routes(net::Router& router);

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

/// Ends the HAProxy of a run folder with all its workers. Blocks some hundred milliseconds.
void shut_down(const std::filesystem::path& run_dir);

}  // namespace croft::balancer
