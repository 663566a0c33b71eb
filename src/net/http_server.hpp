#pragma once
#include <boost/asio/any_io_executor.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/metrics.hpp"
#include "net/http.hpp"
#include "net/tls.hpp"

namespace croft::net {

struct ServerOptions {
  std::string name = "http";                    ///< in logs and metrics
  std::size_t body_max = 4u << 20;              ///< bytes; more is 413
  std::size_t unjudged_max = 256u << 20;        ///< bytes of all bodies in this process whose senders' credentials nobody has looked at yet; more is 503
  std::size_t answers_max = 256u << 20;         ///< bytes of large answers in this process that are being written, a quarter of it for one who asks; one more is 503
  std::size_t header_max = 16u << 10;           ///< bytes of request line and fields; more is 431
  std::size_t connections_max = 20'000;         ///< beyond: the longest idle keep-alive connection is closed, else 503
  std::chrono::milliseconds handshake_timeout{5'000};  ///< of TLS, from the connection on
  std::chrono::milliseconds header_timeout{10'000};   ///< from first byte of a request to the end of its header
  std::chrono::milliseconds body_timeout{30'000};
  std::chrono::milliseconds idle_timeout{75'000};     ///< between requests
  std::chrono::milliseconds write_timeout{30'000};    ///< a peer that does not read
  std::vector<std::pair<std::string, std::string>> headers;  ///< of every answer
  bool gzip = true;                             ///< for whole bodies above 1 KiB when accepted
};

/// Serves HTTP/1.1 on one or several addresses with one handler. A handler that throws gives 500 and a log line.
///
/// Shape    listen() any number of times, then serve until stop().
/// Threads  runs on the executor given (usually the I/O pool); each connection is on a strand of its own.
/// Errors   listen: io ("bind 127.0.0.1:5050: Address already in use").
class HttpServer {
 public:
  HttpServer(asio::any_io_executor executor, Handler handler, ServerOptions options = {}, Metrics* metrics = nullptr);
  /// The usual case: routes and their body limits.
  HttpServer(asio::any_io_executor executor, std::shared_ptr<const Router> router, ServerOptions options = {}, Metrics* metrics = nullptr);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Port 0 picks a free one. Returns the port.
  Result<std::uint16_t> listen(const std::string& address, std::uint16_t port);
  /// The same with TLS; who speaks plain HTTP to it is told so in plain HTTP.
  Result<std::uint16_t> listen_tls(const std::string& address, std::uint16_t port, std::shared_ptr<TlsServer> tls);
  Status listen_unix(const std::string& path, unsigned mode = 0600);
  /// No new connections; requests under way get `grace`, streams are closed at once. Returns when all is gone.
  asio::awaitable<void> stop(std::chrono::milliseconds grace = std::chrono::milliseconds(2000));
  [[nodiscard]] std::size_t connections() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::net
