#pragma once
// The follower's shell: keeps a stream to the leader open, keeps the copy on disk, tells the owner of changes.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "catalog/follower.hpp"
#include "net/http_client.hpp"

namespace croft::catalog {

/// Follows `GET /croft/v1/catalog?after=<epoch>.<n>` of the first master in the list that leads.
///
/// Shape    run() until stop(); `changed` is called on the executor given (use a strand), after each record, with the newest
///          content; it must not block. Called once with all=true for the copy from disk (stale) before the first record.
/// Errors   none: reconnects with jitter (50 ms to 2 s) for ever; stale() tells. After stop() returned, `changed` is not called any more.
/// Threads  start(), stop(), confirm(), stale() from any.
class Subscription {
 public:
  struct Options {
    std::vector<net::Origin> masters;
    std::filesystem::path saved;                     ///< written at most once a second; "" for none
    std::chrono::milliseconds silence_max{3000};     ///< heartbeats come every second
  };
  using Changed = std::function<void(const Follower& follower, const Follower::Change& change)>;
  Subscription(boost::asio::any_io_executor strand, Options options, Changed changed);
  ~Subscription();
  void start();
  boost::asio::awaitable<void> stop();
  [[nodiscard]] bool stale() const;                  ///< no record for silence_max
  /// Since the last record, or since construction when there was none. From any thread, as stale().
  [[nodiscard]] std::chrono::milliseconds silence() const;
  /// Sends a confirmation to the leader (balancers). unavailable when there is none.
  boost::asio::awaitable<Status> confirm(Confirmation c);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::catalog
