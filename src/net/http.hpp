#pragma once
// HTTP as the rest of croft sees it: plain structs. Beast stays inside http_server.cpp and http_client.cpp.

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "secure/certificate.hpp"

namespace croft::secure {
struct Caller;
}

namespace croft::net {

namespace asio = boost::asio;

/// Header fields in order, names compared without case. A name may stand more than once.
class Headers {
 public:
  [[nodiscard]] std::string_view get(std::string_view name) const;  ///< first value, "" when absent
  [[nodiscard]] bool has(std::string_view name) const;
  void set(std::string_view name, std::string_view value);   ///< replaces
  void add(std::string_view name, std::string_view value);
  void erase(std::string_view name);
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& all() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

/// Query parameters in order, decoded.
class Query {
 public:
  Query() = default;
  explicit Query(std::string_view raw);  ///< "a=1&b=2", without the question mark
  [[nodiscard]] std::optional<std::string> get(std::string_view name) const;  ///< first
  [[nodiscard]] std::vector<std::string> all(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name, bool fallback = false) const;  ///< "true"/"" and "false"
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

struct Request {
  std::string method;                       ///< "GET"
  std::string target;                       ///< as sent: "/v2/apps//a?embed=x"
  std::string path;                         ///< decoded, without the query
  Query query;
  Headers headers;
  std::string body;                         ///< whole, bounded by the server's or the route's limit
  std::string peer;                         ///< address of the other side, without port
  std::string local;                        ///< "host:port" on which it came in
  std::map<std::string, std::string> params;  ///< filled by the Router: "{id}" -> params["id"]
  bool tls = false;                         ///< whether it came in over TLS
  std::shared_ptr<const secure::Certificate> certificate;  ///< which croft host the other side has proved to be; nothing: none
  std::function<bool()> gone;               ///< whether the client has hung up, for work that takes long; asked on the handler's own executor. Nothing: not known
  std::shared_ptr<const secure::Caller> caller;  ///< who asks, found out by the router's guard; nothing: there is none, and all is allowed
};

/// The writing end of a streamed response; used by one coroutine. Each write goes out at once as one chunk.
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;
  /// False when the peer is gone or did not read in time; the stream is then over.
  virtual asio::awaitable<bool> write(std::string chunk) = 0;
  /// How long one write may take before the peer counts as one that does not read; without it the server's write_timeout.
  virtual void write_limit(std::chrono::milliseconds) {}
  /// Whether the peer has closed (seen also while nothing is written).
  [[nodiscard]] virtual bool closed() const = 0;
};

using StreamBody = std::function<asio::awaitable<void>(std::shared_ptr<StreamWriter>)>;

struct Response {
  int status = 200;
  Headers headers;
  std::string body;
  StreamBody stream;  ///< when set: sent chunked, `body` first; runs until it returns or the peer goes
  std::shared_ptr<const secure::Caller> caller;  ///< who asked, as the router's guard found; the server counts by it what its answers take

  static Response json(std::string body, int status = 200);
  static Response text(std::string body, int status = 200);
  static Response html(std::string body, int status = 200);
  static Response redirect(std::string location, int status = 302);
  /// {"message": "..."}
  static Response message(int status, std::string_view message);
};

/// Lets `to` ask in the name of who asked `from`: his credentials and his address.
void pass_credentials(const Request& from, Request& to);

using Handler = std::function<asio::awaitable<Response>(Request)>;

std::string_view reason_phrase(int status);

/// Maps method and path to handlers. Patterns: "/v2/apps", "/v2/apps/{id}" (one segment), "/files/{*rest}" (the rest, at
/// least one character, may hold slashes; with a literal tail: "/v2/apps/{*id}/versions/{ts}" prefers the longest literal
/// match). HEAD falls back to GET, OPTIONS is answered with Allow. Doubled slashes in the path count as one for matching.
/// Set up before serving; immutable and shared between threads afterwards.
class Router {
 public:
  void on(std::string_view method, std::string_view pattern, Handler handler);
  /// Body limit of one pattern in bytes, all methods, above or below the server's default.
  void body_limit(std::string_view pattern, std::size_t bytes);
  /// Requests for which `when` holds are answered by `to`, before any pattern is looked at. `when` is asked on every request: quick, from any thread.
  void divert(std::function<bool(const Request&)> when, Handler to);
  /// Asked when the route is known (its pattern; "" for what nothing answers) and before its handler: an answer instead of the handler's, or nothing. It fills
  /// in the request's caller.
  using Guard = std::function<asio::awaitable<std::optional<Response>>(Request&, std::string_view pattern)>;
  /// `logins`: whoever brings no credentials may send small bodies only.
  void guard(Guard guard, bool logins) { guard_ = std::move(guard), logins_ = logins; }
  [[nodiscard]] bool wants_logins() const { return logins_; }
  /// For what nothing matches; default: 404 {"message":"URI not found: /path"}; 405 with Allow where only the method is wrong.
  void fallback(Handler handler);

  [[nodiscard]] asio::awaitable<Response> handle(Request request) const;
  /// The same without diversions: for a handler that was diverted to and finds that its reason is gone.
  [[nodiscard]] asio::awaitable<Response> handle_here(Request request) const;
  [[nodiscard]] std::size_t limit_for(std::string_view method, std::string_view path, std::size_t otherwise) const;

 private:
  struct Route { std::string pattern; std::vector<std::string> segments; std::map<std::string, Handler> methods; };
  std::vector<Route> routes_;
  std::vector<std::pair<std::string, std::size_t>> limits_;
  Handler fallback_;
  Guard guard_;
  bool logins_ = false;
  std::vector<std::pair<std::function<bool(const Request&)>, Handler>> diversions_;
};

}  // namespace croft::net
