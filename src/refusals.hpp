#pragma once
// Refusals of people who had logged in, on hosts that do not keep the audit log: told to the masters.

#include <boost/asio/any_io_executor.hpp>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "net/http_client.hpp"

namespace croft {

/// Shape    tell() holds them, bounded, and posts them until a master has taken them.
/// Threads  any.
class RefusalReporter : public std::enable_shared_from_this<RefusalReporter> {
 public:
  RefusalReporter(boost::asio::any_io_executor executor, std::vector<net::Origin> masters, std::string host) : executor_(executor), client_(executor), masters_(std::move(masters)), host_(std::move(host)) {}
  /// More than `each_max` a minute of one person are left out.
  struct Refused {
    std::string who, from, what;
    std::string path;          ///< of the app or group; "": none
    std::string reason;
  };
  void tell(const Refused& refused, Mono now);
  void stop();

 private:
  boost::asio::awaitable<void> post_all(std::shared_ptr<RefusalReporter> self);
  static constexpr std::size_t held_max = 256, each_max = 20;
  boost::asio::any_io_executor executor_;
  net::HttpClient client_;
  std::vector<net::Origin> masters_;
  std::string host_;
  std::mutex mutex_;
  std::deque<std::string> held_;                 // mutex_: bodies
  std::map<std::string, std::size_t> counts_;    // mutex_: of this minute
  Mono minute_{};                                // mutex_
  bool posting_ = false, stopping_ = false;      // mutex_
};

}  // namespace croft
