#pragma once
// Reads what tasks print, adds who said it, and sends it on in bulk, exactly once.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <functional>
#include <memory>
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

struct ShipperOptions {
  std::vector<net::Origin> targets;             ///< the log host, or an Elasticsearch cluster
  std::string host;
  std::filesystem::path state;                  ///< offsets already shipped, written at most once a second
  std::function<boost::asio::awaitable<std::vector<LogSource>>()> sources;
  std::string input_address;                    ///< JSON lines over TCP; "" for none
  std::uint16_t input_port = 5959;
};

/// Shape    start, stop. One bulk in flight; a source's lines go in order.
/// Identity of a line: task, stream and offset behind it in the whole stream; the store takes each once, so that what is sent again
/// after a crash is refused there as known. Its time is the executor's stamp.
class Shipper {
 public:
  Shipper(boost::asio::any_io_executor pool, ShipperOptions options, Metrics& metrics);
  ~Shipper();
  Status start();
  boost::asio::awaitable<void> stop();

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::logs
