#pragma once
// The inside of BalancerService: balancer_service.cpp (HAProxy), bamboo_api.cpp (HTTP). Private to these.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <mutex>

#include "balancer/balancer_service.hpp"
#include "balancer/keeper.hpp"
#include "net/async.hpp"
#include "net/http_client.hpp"

namespace croft::balancer {

namespace asio = boost::asio;

struct BalancerService::Impl : std::enable_shared_from_this<BalancerService::Impl> {
  Impl(asio::any_io_executor pool, BalancerOptions o, Metrics& metrics);

  asio::awaitable<void> apply_loop();
  asio::awaitable<void> confirm_loop();
  /// What the follower had when it was told of the newest change.
  struct Copy { std::shared_ptr<const catalog::Content> content; std::shared_ptr<const catalog::Doubt> doubt; std::optional<catalog::Index> at; };
  asio::awaitable<Keeper::Outcome> apply(Copy copy);
  void tell_left_out();                              ///< blocking pool
  void look_again();                                 ///< the apply loop is to see what HAProxy has
  void watch_worker(int pid);                        ///< its end is noticed at once; strand
  asio::awaitable<net::Response> send_rule(net::Request from, std::string method, AppId app, std::string acl);
  asio::awaitable<void> until_routed(AppId app, std::optional<std::string> acl);
  asio::awaitable<void> until_applied(catalog::Index at);  ///< strand; all of it

  std::shared_ptr<const catalog::Content> content() const {
    std::lock_guard lock(mutex);
    return newest.content;
  }

  BalancerOptions options;
  asio::strand<asio::any_io_executor> strand;
  net::BlockingPool blocking{1};
  net::HttpClient client;
  Haproxy haproxy;                                   // blocking pool, as is the keeper
  Keeper keeper;
  std::set<std::string> told_left_out;               // blocking pool
  mutable std::mutex mutex;
  Copy newest;                                       // mutex
  bool unapplied = false;                            // mutex
  std::shared_ptr<net::Signal> changed = net::Signal::make();
  std::shared_ptr<net::Signal> applied_signal = net::Signal::make();
  std::optional<catalog::Index> applied, routed;     // strand; its instances, all of it (Keeper::Outcome)
  bool drains = false;                               // strand
  int watched = 0;                                   // strand
  std::unique_ptr<asio::posix::stream_descriptor> worker;  // strand: a pidfd
  std::atomic<bool> stopping{false};
  std::atomic<int> loops{0};
  Counter &reloads, &commands, &failures;
  Histogram& apply_seconds;
  catalog::Subscription subscription;                // last
};

}  // namespace croft::balancer
