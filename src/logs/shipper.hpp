#pragma once
// Reads what tasks print and what comes in over TCP, adds who said it, and sends it on in bulk, exactly once.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/metrics.hpp"
#include "net/http_client.hpp"

namespace croft::logs {

/// A task whose streams are to be followed.
struct LogSource {
  std::string task, app, sandbox;
  bool ended = false;
};

/// Sandboxes with lines that the log host does not have yet: not to be collected.
/// Threads  safe from any.
class Unshipped {
 public:
  void set(std::set<std::string> sandboxes) {
    std::lock_guard lock(mutex_);
    sandboxes_ = std::move(sandboxes);
  }
  [[nodiscard]] bool contains(const std::string& sandbox) const {
    std::lock_guard lock(mutex_);
    return sandboxes_.contains(sandbox);
  }

 private:
  mutable std::mutex mutex_;
  std::set<std::string> sandboxes_;
};

struct ShipperOptions {
  std::vector<net::Origin> targets;             ///< the log host, or an Elasticsearch cluster
  std::string host;
  std::filesystem::path state;                  ///< offsets already shipped, written at most once a second
  std::filesystem::path spool;                  ///< what waits for the log host; on the sandboxes' file system
  std::uint64_t spool_bytes = 2ull << 30;       ///< bound of the spool; then the oldest is dropped, and a gap record tells
  std::chrono::milliseconds look_every{150};    ///< for new lines and rotated files
  std::chrono::milliseconds save_every{1000};   ///< of the offsets
  std::chrono::milliseconds pause_max{5000};    ///< between two tries while the log host takes nothing
  std::function<boost::asio::awaitable<std::vector<LogSource>>()> sources;
  std::shared_ptr<Unshipped> unshipped;         ///< kept up to date when given
  std::vector<std::string> input_addresses;     ///< JSON lines over TCP; none: no input
  std::uint16_t input_port = 5959;              ///< 0: any free one
};

/// Shape    start, stop. One bulk in flight; a source's lines go in order.
/// Identity of a line: task, stream and offset behind it in the whole stream; the store takes each once, so that what is sent again
/// after a crash is refused there as known. Its time is the executor's stamp.
/// Away     while the log host takes nothing, rotated files and TCP lines wait in the spool; nothing is slowed.
class Shipper {
 public:
  Shipper(boost::asio::any_io_executor pool, ShipperOptions options, Metrics& metrics);
  ~Shipper();
  Status start();
  boost::asio::awaitable<void> stop();
  [[nodiscard]] std::uint16_t input_port() const;  ///< the one that it listens on

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::logs
