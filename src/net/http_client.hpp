#pragma once
#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "net/http.hpp"
#include "net/tls.hpp"

namespace croft::net {

/// Where to: TCP host and port, or a unix socket (then host is only the Host header).
struct Origin {
  std::string host;
  std::uint16_t port = 80;
  std::string unix_path;
  std::shared_ptr<const TlsClient> tls;   ///< nothing: plain
  secure::Expectation expect;             ///< the croft host that must be there; empty: the certificate must be for `host`
  bool operator==(const Origin&) const = default;
  [[nodiscard]] std::string str() const;  ///< "host:port", "https://host:port" or "unix:/path"
};

struct Response;
/// Where a master that does not lead says that the leader is (X-Croft-Leader).
std::optional<Origin> leader_in(const Response& answer);

struct Url {
  std::string scheme, host;
  std::uint16_t port = 0;
  std::string target = "/";  ///< path and query
  static Result<Url> parse(std::string_view text);
};

struct ClientOptions {
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds timeout{30'000};     ///< of a whole exchange; for streams: until the header came
  std::chrono::milliseconds idle_timeout{0};     ///< of streams: longest silence between bytes; 0: none
  std::size_t body_max = 64u << 20;
  bool keep_alive = true;                        ///< pool idle connections per origin (at most 8 an origin, 30 s)
};

/// Reads a response as it comes. Used by one coroutine. Closing (destroying) it closes the connection.
class StreamReader {
 public:
  virtual ~StreamReader() = default;
  [[nodiscard]] virtual const Response& head() const = 0;  ///< status and headers; body empty
  /// Next bytes, "" at the end of the body. Errors: unavailable (cut), timeout.
  virtual asio::awaitable<Result<std::string>> read_some() = 0;
  /// Next line without its newline (at most `max` bytes: too_large); nothing at the end.
  virtual asio::awaitable<Result<std::optional<std::string>>> read_line(std::size_t max = 64u << 20) = 0;
  /// From any thread: makes a pending or later read end with unavailable.
  virtual void cancel() = 0;
};

/// Gives request bodies piece by piece; "" ends it.
using BodySource = std::function<asio::awaitable<Result<std::string>>()>;

/// HTTP/1.1 client. Errors: unavailable (refused, cut), timeout, too_large, invalid (not HTTP, not TLS), forbidden (the other side is not who
/// it should be, or does not take us). Any status is a success here.
/// Threads  safe from any; works on the executor given.
class HttpClient {
 public:
  explicit HttpClient(asio::any_io_executor executor, ClientOptions options = {});
  ~HttpClient();

  asio::awaitable<Result<Response>> request(Origin to, Request what);
  asio::awaitable<Result<Response>> request(Origin to, Request what, ClientOptions options);
  /// Streams the request body (chunked) and reads the whole answer.
  asio::awaitable<Result<Response>> upload(Origin to, Request what, BodySource body, ClientOptions options);
  asio::awaitable<Result<std::unique_ptr<StreamReader>>> open(Origin to, Request what, ClientOptions options);

  // Conveniences.
  asio::awaitable<Result<Response>> get(Origin to, std::string target);
  asio::awaitable<Result<Response>> post(Origin to, std::string target, std::string body, std::string content_type = "application/json");

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::net
