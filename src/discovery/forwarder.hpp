#pragma once
// Other people's names: passed to other resolvers and back.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.hpp"
#include "discovery/dns_address.hpp"

namespace croft::discovery {

/// Asks the resolvers in turn, beginning with the one that answered last, each question from a port and with an id of its own.
///
/// Errors   SERVFAIL when no resolver answers in time, or too many questions are under way.
/// Threads  safe from any; works on the executor given.
class Forwarder : public std::enable_shared_from_this<Forwarder> {
 public:
  struct Options {
    std::vector<SocketAddress> upstreams;
    std::chrono::milliseconds limit{2000};     ///< for each resolver
    int under_way_max = 1024;
  };
  Forwarder(boost::asio::any_io_executor executor, Options options, Metrics& metrics);

  [[nodiscard]] bool any() const { return !options_.upstreams.empty(); }
  /// By UDP. `done` gets the answer under the asker's id, at most `limit` bytes (else with TC). Called on the executor, or at once
  /// when too many are under way.
  void ask(std::string packet, std::size_t limit, std::function<void(std::string)> done);
  /// By TCP, on the caller's executor, which must be a strand.
  boost::asio::awaitable<std::string> ask_tcp(std::string packet);

 private:
  boost::asio::awaitable<void> ask_and_tell(std::string packet, std::size_t limit, std::function<void(std::string)> done);
  boost::asio::awaitable<std::string> ask_in_turn(std::string packet, bool tcp);

  boost::asio::any_io_executor executor_;
  Options options_;
  std::shared_ptr<std::atomic<int>> under_way_ = std::make_shared<std::atomic<int>>(0);   // the metric may outlive us
  std::atomic<std::size_t> preferred_{0};
  std::atomic<std::chrono::steady_clock::time_point> preferred_since_{};
  Counter &forwarded_, &failed_, &refused_;
};

}  // namespace croft::discovery
