#pragma once
// Finds the other instances of this service and asks them.

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <vector>

namespace fibonacci {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

struct Instance {
  std::string host;
  std::uint16_t port = 0;
  auto operator<=>(const Instance&) const = default;
};

/// Where discovery answers and how this service is called there.
struct DiscoveryOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8123;
  std::string service = "_fibonacci-service._tcp.marathon.mesos.";
};

/// "fibonacci-service", "fibonacci.service" (an app's dotted task name) or a whole SRV name, all to the SRV name.
std::string srv_name(std::string_view configured);

struct Answer {
  int status = 0;
  std::string body;
};
using Outcome = std::expected<Answer, std::string>;

/// Instances from discovery (remembered for a moment) and calls to them over kept connections. One thread.
class Peers {
 public:
  Peers(asio::io_context& io, DiscoveryOptions options) : io_(io), options_(std::move(options)) {}

  /// Asks discovery now, and remembers what it says. Errors in words.
  asio::awaitable<std::expected<std::vector<Instance>, std::string>> look_up();
  [[nodiscard]] bool knows_any() const { return !known_.empty(); }
  /// GET /{n} of one instance; a failed call is repeated once, on another instance where there is one. Writes a log line a call.
  asio::awaitable<Outcome> ask(std::uint32_t n);

 private:
  struct Connection;
  asio::awaitable<Outcome> get(Instance from, std::string target, std::chrono::milliseconds limit);
  asio::awaitable<Outcome> exchange(std::shared_ptr<Connection> connection, Instance from, std::string target);
  asio::awaitable<std::vector<Instance>> instances();

  asio::io_context& io_;
  DiscoveryOptions options_;
  std::vector<Instance> known_;
  std::chrono::steady_clock::time_point known_at_{};
  bool asking_ = false;
  std::size_t turn_ = 0;
  std::map<Instance, std::vector<std::shared_ptr<Connection>>> idle_;
};

/// One JSON object a line on stdout, written whole.
void log_line(const std::string& json);
std::string timestamp();

}  // namespace fibonacci
