#pragma once
// The TCP input: one JSON document or any text a line, into the spool.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <map>
#include <vector>

#include "base/metrics.hpp"
#include "logs/ship/input_spool.hpp"
#include "logs/ship/lines.hpp"
#include "net/async.hpp"

namespace croft::logs {

/// Shape    listen, as often as there are addresses, then stop. Each connection is on a strand of its own; a line is in the spool when the next bytes are read.
/// Bounds   1,000 connections, 1 MiB a line (longer ones are cut and tagged), 64 MiB of unfinished lines altogether.
/// Errors   what cannot be kept (the disk is full) is counted, and a gap record says so when there is room again.
class LogInput : public std::enable_shared_from_this<LogInput> {
 public:
  LogInput(boost::asio::any_io_executor pool, std::string host, InputSpool& spool, Metrics& metrics);
  Status listen(const std::string& address, std::uint16_t port);
  [[nodiscard]] std::uint16_t port() const { return port_; }
  void stop();
  /// Bytes that were dropped although they had come: a gap record for the spool.
  void tell_gap(const std::string& source, std::uint64_t from, std::uint64_t to);

 private:
  using Acceptor = std::shared_ptr<boost::asio::ip::tcp::acceptor>;
  bool give_way();
  boost::asio::awaitable<void> accept(Acceptor acceptor);
  boost::asio::awaitable<void> receive(std::shared_ptr<boost::asio::ip::tcp::socket> socket);
  void take(std::string_view line, bool cut);

  boost::asio::any_io_executor pool_;
  std::string host_;
  InputSpool& spool_;
  std::vector<Acceptor> acceptors_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> held_{0};
  std::mutex mutex_;
  std::map<std::shared_ptr<boost::asio::ip::tcp::socket>, std::chrono::steady_clock::time_point> open_;  // mutex_; when each was heard last
  std::chrono::steady_clock::time_point told_{};                   // mutex_
  std::uint64_t lost_ = 0;                                        // mutex_
  Counter &lines_, &refused_, &lost_bytes_;
};

/// What stands in the index where bytes are missing. Its fields: gap.from, gap.to, gap.bytes, and the context's.
std::string gap_document(const std::vector<std::pair<std::string_view, std::string>>& fields, std::string_view why, std::uint64_t from, std::uint64_t to, Wall now);

}  // namespace croft::logs
