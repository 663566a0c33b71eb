#include "net/http_client.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <map>
#include <mutex>

#include "base/text.hpp"
#include "net/async.hpp"
#include "net/beast_stream.hpp"

namespace croft::net {

using asio::redirect_error;
using asio::use_awaitable;
using error_code = boost::system::error_code;

std::string Origin::str() const {
  if (!unix_path.empty()) return "unix:" + unix_path;
  return fmt::format("{}{}:{}", tls ? "https://" : "", host, port);
}

std::optional<Origin> leader_in(const Response& answer) {
  auto url = Url::parse(fmt::format("http://{}", answer.headers.get("X-Croft-Leader")));
  if (!url || url->host.empty() || url->port == 0) return std::nullopt;
  Origin to;
  to.host = url->host;
  to.port = url->port;
  return to;
}

Result<Url> Url::parse(std::string_view text) {
  Url url;
  auto colon = text.find("://");
  if (colon == std::string_view::npos) return fail(Errc::invalid, "'{}' is not a URL", text);
  url.scheme = lower(text.substr(0, colon));
  auto rest = text.substr(colon + 3);
  auto slash = rest.find_first_of("/?#");
  auto authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) url.target = rest.substr(slash);
  if (auto hash = url.target.find('#'); hash != std::string::npos) url.target.resize(hash);
  if (url.target.empty() || url.target[0] != '/') url.target.insert(0, "/");
  if (auto at = authority.rfind('@'); at != std::string_view::npos) authority.remove_prefix(at + 1);
  auto port_at = authority.rfind(':');
  if (authority.starts_with('[')) {
    auto close = authority.find(']');
    if (close == std::string_view::npos) return fail(Errc::invalid, "'{}' is not a URL", text);
    url.host = authority.substr(1, close - 1);
    port_at = close + 1 < authority.size() && authority[close + 1] == ':' ? close + 1 : std::string_view::npos;
  } else {
    url.host = authority.substr(0, port_at);
  }
  auto port = port_at == std::string_view::npos ? std::optional<std::int64_t>(url.scheme == "https" ? 443 : 80) : to_int(authority.substr(port_at + 1));
  if (url.host.empty() || !port || *port < 1 || *port > 65535) return fail(Errc::invalid, "'{}' is not a URL", text);
  url.port = static_cast<std::uint16_t>(*port);
  return url;
}

namespace {

constexpr std::size_t idle_max = 8;
constexpr auto idle_life = std::chrono::seconds(30);
constexpr std::size_t buffer_max = 256u << 10;  // bounds what Beast does not: chunk extensions and trailers

/// One connection on a strand of its own: Beast's time-outs run there, whatever executor the caller is on.
struct Outbound {
  explicit Outbound(asio::any_io_executor executor) : stream(asio::any_io_executor(asio::make_strand(std::move(executor)))) {}
  Stream stream;
  beast::flat_buffer buffer{buffer_max};
  bool reused = false;
  std::chrono::steady_clock::time_point idle_since{};
};
using ConnectionPtr = std::shared_ptr<Outbound>;

/// Connections are kept for those who trust, are and expect the same.
std::string pool_key(const Origin& to) {
  if (!to.tls) return to.str();
  return fmt::format("{} {} {} {} {} {}", to.str(), static_cast<const void*>(to.tls.get()), to.tls->generation(), to.expect.cluster, to.expect.host, to.expect.role ? to_string(*to.expect.role) : "");
}

Error error_of(const error_code& ec, const Origin& to, std::string_view doing, const Outbound& c) {
  // TLS knows more than a code can carry: an untrusted certificate, an alert of the server's that comes only after its handshake.
  if (c.stream.tls && (ec == boost::system::errc::protocol_error || ec == boost::system::errc::permission_denied)) return {c.stream.tls->why().code, fmt::format("{}: {}", to.str(), c.stream.tls->why().context)};
  auto code = ec == beast::error::timeout ? Errc::timeout
              : ec == http::error::body_limit || ec == http::error::header_limit ? Errc::too_large
              : ec.category() == make_error_code(http::error::bad_method).category() && ec != http::error::end_of_stream && ec != http::error::partial_message
                  ? Errc::invalid
                  : Errc::unavailable;
  return {code, fmt::format("{}: {}: {}", to.str(), doing, ec.message())};
}

asio::awaitable<error_code> connect_plain(ConnectionPtr c, Origin to, std::chrono::milliseconds limit) {
  error_code ec;
  c->stream.expires_after(limit);
  if (!to.unix_path.empty()) {
    if (to.unix_path.size() > 107) co_return asio::error::name_too_long;  // the end point would throw
    asio::local::stream_protocol::endpoint local(to.unix_path);
    asio::generic::stream_protocol::endpoint endpoint(local);
    co_await c->stream.async_connect(endpoint, redirect_error(use_awaitable, ec));
    co_return ec;
  }
  std::vector<asio::ip::tcp::endpoint> endpoints;
  auto literal = asio::ip::make_address(to.host, ec);
  if (!ec) {
    endpoints.emplace_back(literal, to.port);
  } else {
    asio::ip::tcp::resolver resolver(c->stream.get_executor());
    asio::steady_timer deadline(c->stream.get_executor(), limit);
    deadline.async_wait([&resolver](error_code cancelled) { if (!cancelled) resolver.cancel(); });
    auto found = co_await resolver.async_resolve(to.host, std::to_string(to.port), redirect_error(use_awaitable, ec));
    deadline.cancel();
    if (ec) co_return ec;
    for (const auto& entry : found) endpoints.push_back(entry.endpoint());
  }
  for (const auto& candidate : endpoints) {
    asio::generic::stream_protocol::endpoint endpoint(candidate);
    error_code closing;
    c->stream.socket().close(closing);
    c->stream.expires_after(limit);
    co_await c->stream.async_connect(endpoint, redirect_error(use_awaitable, ec));
    if (!ec) {
      no_delay(c->stream.socket());
      break;
    }
  }
  co_return ec;
}

/// One deadline for both, the connection and the handshake.
asio::awaitable<error_code> connect(ConnectionPtr c, Origin to, std::chrono::milliseconds limit) {
  auto until = std::chrono::steady_clock::now() + limit;
  auto ec = co_await connect_plain(c, to, limit);
  if (ec || !to.tls) co_return ec;
  c->stream.tls = std::make_unique<TlsLayer>(c->stream.socket(), *to.tls, to.host, to.expect);
  c->stream.expires_after(until - std::chrono::steady_clock::now());
  co_await c->stream.async_handshake(redirect_error(use_awaitable, ec));
  co_return ec;
}

/// Targets and fields come from manifests, too: none may add a line or a second request.
std::optional<Error> malformed(const Origin& to, const Request& what) {
  auto bad_in_target = [](unsigned char c) { return c <= ' ' || c == 0x7f; };
  auto bad_in_name = [](unsigned char c) { return c <= ' ' || c >= 0x7f || c == ':'; };
  if (what.method.empty() || std::any_of(what.method.begin(), what.method.end(), bad_in_name)) return Error{Errc::invalid, fmt::format("{}: '{}' is no method", to.str(), what.method)};
  if (what.target.empty() || std::any_of(what.target.begin(), what.target.end(), bad_in_target)) return Error{Errc::invalid, fmt::format("{}: '{}' cannot be asked for", to.str(), what.target)};
  for (const auto& [name, value] : what.headers.all())
    if (name.empty() || std::any_of(name.begin(), name.end(), bad_in_name) || !one_line(value)) return Error{Errc::invalid, fmt::format("{}: the field '{}' is malformed", to.str(), name)};
  return std::nullopt;
}

template <class Body>
void fill_head(http::request<Body>& out, const Origin& to, const Request& what, bool keep_alive) {
  out.version(11);
  out.method_string(what.method);
  out.target(what.target);
  bool usual_port = to.port == (to.tls ? 443 : 80) || !to.unix_path.empty();
  out.set(http::field::host, usual_port ? (to.host.empty() ? "localhost" : to.host) : fmt::format("{}:{}", to.host, to.port));
  for (const auto& [name, value] : what.headers.all()) {
    if (iequals(name, "Host")) out.set(name, value);
    else out.insert(name, value);
  }
  if (!keep_alive) out.set(http::field::connection, "close");
}

struct Exchanged {
  std::optional<Error> error;
  bool nothing_received = false;
  bool keep = false;
  Response response;
};

/// Sends one request and reads the whole answer, on the connection's strand.
asio::awaitable<Exchanged> exchange(ConnectionPtr c, Origin to, Request what, BodySource body, ClientOptions options) {
  error_code ec;
  Exchanged out;
  if (!c->stream.socket().is_open()) {
    ec = co_await connect(c, to, std::min(options.connect_timeout, options.timeout));
    if (ec) {
      out.error = error_of(ec, to, "connect", *c);
      co_return out;
    }
  }
  c->stream.expires_after(options.timeout);
  if (body) {
    http::request<http::empty_body> request;
    fill_head(request, to, what, options.keep_alive);
    request.chunked(true);
    http::request_serializer<http::empty_body> serializer(request);
    co_await http::async_write_header(c->stream, serializer, redirect_error(use_awaitable, ec));
    while (!ec) {
      auto piece = co_await body();
      if (!piece) {
        out.error = piece.error();
        co_return out;
      }
      c->stream.expires_after(options.timeout);
      if (piece->empty()) {
        auto last = http::make_chunk_last();
        co_await asio::async_write(c->stream, last, redirect_error(use_awaitable, ec));
        break;
      }
      asio::const_buffer bytes(piece->data(), piece->size());
      auto chunk = http::make_chunk(bytes);
      co_await asio::async_write(c->stream, chunk, redirect_error(use_awaitable, ec));
    }
  } else {
    http::request<http::string_body> request;
    fill_head(request, to, what, options.keep_alive);
    request.body() = what.body;
    if (!what.body.empty() || what.method == "POST" || what.method == "PUT" || what.method == "PATCH") request.content_length(what.body.size());
    co_await http::async_write(c->stream, request, redirect_error(use_awaitable, ec));
  }
  // A server that refuses a body answers before it has read it: the answer is looked for also when sending failed.
  auto send_error = ec;
  for (;;) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(options.body_max);
    parser.skip(what.method == "HEAD");
    co_await http::async_read_header(c->stream, c->buffer, parser, redirect_error(use_awaitable, ec));
    if (ec) {
      out.nothing_received = c->buffer.size() == 0 && (ec == http::error::end_of_stream || ec == asio::error::connection_reset || ec == asio::error::broken_pipe);
      // Under TLS 1.3 a server refuses our certificate when we are sending already; then its alert is the reason, not the failed send.
      bool alert = c->stream.tls && ec == boost::system::errc::protocol_error;
      out.error = send_error && !alert ? error_of(send_error, to, "send", *c) : error_of(ec, to, "receive", *c);
      co_return out;
    }
    if (parser.get().result_int() >= 100 && parser.get().result_int() < 200) continue;
    if (!parser.is_done()) {
      make_room(c->buffer, parser);
      co_await http::async_read(c->stream, c->buffer, parser, redirect_error(use_awaitable, ec));
    }
    if (ec) {
      out.error = error_of(ec, to, "receive", *c);
      co_return out;
    }
    auto message = parser.release();
    if (c->buffer.size() == 0 && c->buffer.capacity() > 4096) c->buffer.shrink_to_fit();  // it may be idle for long now
    out.keep = message.keep_alive() && !send_error && options.keep_alive && c->buffer.size() == 0;
    out.response.status = static_cast<int>(message.result_int());
    copy_fields(message, out.response.headers);
    out.response.body = std::move(message.body());
    co_return out;
  }
}

/// An idle connection has nothing to say: its end, or an answer nobody asked for, makes it useless.
bool silent(Outbound& c) {
  char byte;
  return ::recv(c.stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

class Reader final : public StreamReader {
 public:
  Reader(ConnectionPtr c, Origin to, ClientOptions options) : c_(std::move(c)), to_(std::move(to)), options_(options) { parser_.body_limit(boost::none); }
  ~Reader() override { close(); }

  [[nodiscard]] const Response& head() const override { return head_; }

  asio::awaitable<Result<std::string>> read_some() override {
    if (!pending_.empty()) co_return std::exchange(pending_, {});
    auto job = next(this);
    co_return co_await asio::co_spawn(c_->stream.get_executor(), std::move(job), use_awaitable);
  }

  asio::awaitable<Result<std::optional<std::string>>> read_line(std::size_t max) override {
    std::size_t searched = 0;
    for (;;) {
      if (auto newline = pending_.find('\n', searched); newline != std::string::npos) {
        if (newline > max) co_return too_long(max);
        std::string line = pending_.substr(0, newline);
        pending_.erase(0, newline + 1);
        if (line.ends_with('\r')) line.pop_back();
        co_return std::optional<std::string>(std::move(line));
      }
      searched = pending_.size();
      if (searched > max) co_return too_long(max);
      auto job = next(this);
      auto more = co_await asio::co_spawn(c_->stream.get_executor(), std::move(job), use_awaitable);
      if (!more) co_return fail(std::move(more).error());
      if (more->empty()) {
        if (pending_.empty()) co_return std::optional<std::string>();
        co_return std::optional<std::string>(std::exchange(pending_, {}));
      }
      pending_ += *more;
    }
  }

  void cancel() override { close(); }

  asio::awaitable<std::optional<Error>> start(Request what) {
    error_code ec = co_await connect(c_, to_, std::min(options_.connect_timeout, options_.timeout));
    if (ec) co_return error_of(ec, to_, "connect", *c_);
    http::request<http::string_body> request;
    fill_head(request, to_, what, false);
    request.body() = what.body;
    if (!what.body.empty() || what.method == "POST") request.content_length(what.body.size());
    c_->stream.expires_after(options_.timeout);
    co_await http::async_write(c_->stream, request, redirect_error(use_awaitable, ec));
    if (!ec) co_await http::async_read_header(c_->stream, c_->buffer, parser_, redirect_error(use_awaitable, ec));
    if (ec) co_return error_of(ec, to_, "receive", *c_);
    make_room(c_->buffer, parser_);
    head_.status = static_cast<int>(parser_.get().result_int());
    copy_fields(parser_.get(), head_.headers);
    co_return std::nullopt;
  }

 private:
  [[nodiscard]] std::unexpected<Error> too_long(std::size_t max) const { return fail(Errc::too_large, "{}: a line longer than {} bytes", to_.str(), max); }
  static asio::awaitable<Result<std::string>> next(Reader* self) {
    if (self->parser_.is_done()) co_return std::string();
    if (self->failed_) co_return fail(*self->failed_);
    std::string block(65536, '\0');
    error_code ec;
    auto& body = self->parser_.get().body();
    body.data = block.data();
    body.size = block.size();
    body.more = true;
    if (self->options_.idle_timeout.count() > 0) self->c_->stream.expires_after(self->options_.idle_timeout);
    else self->c_->stream.expires_never();
    co_await http::async_read_some(self->c_->stream, self->c_->buffer, self->parser_, redirect_error(use_awaitable, ec));
    if (ec == http::error::need_buffer) ec = {};
    auto got = block.size() - body.size;
    if (got == 0 && !ec && !self->parser_.is_done()) co_return co_await next(self);
    // Kept: Asio waits for ever when a socket is read again behind its end.
    if (ec) self->failed_ = error_of(ec, self->to_, "receive", *self->c_);
    if (got == 0 && ec) co_return fail(*self->failed_);
    block.resize(got);
    co_return block;
  }
  void close() {
    asio::post(c_->stream.get_executor(), [c = c_] {
      error_code ec;
      c->stream.socket().shutdown(Socket::shutdown_both, ec);
      c->stream.close();
    });
  }

  ConnectionPtr c_;
  Origin to_;
  ClientOptions options_;
  http::response_parser<http::buffer_body> parser_;
  Response head_;
  std::string pending_;
  std::optional<Error> failed_;
};

}  // namespace

struct HttpClient::Impl : std::enable_shared_from_this<HttpClient::Impl> {
  Impl(asio::any_io_executor e, ClientOptions o) : executor(std::move(e)), options(o) {}

  ConnectionPtr take(const Origin& to, bool fresh) {
    std::lock_guard lock(mutex);
    auto& kept = idle[pool_key(to)];
    auto now = std::chrono::steady_clock::now();
    while (!fresh && !kept.empty()) {
      auto c = kept.back();
      kept.pop_back();
      if (now - c->idle_since > idle_life || !silent(*c)) continue;
      c->reused = true;
      return c;
    }
    return std::make_shared<Outbound>(executor);
  }

  void keep(const Origin& to, ConnectionPtr c) {
    std::lock_guard lock(mutex);
    auto now = std::chrono::steady_clock::now();
    auto [at, is_new] = idle.try_emplace(pool_key(to));
    // Another key may be the same place with another trust: what was kept for the old one is asked for no more.
    if (is_new) std::erase_if(idle, [&](const auto& e) { return e.first != at->first && (e.second.empty() || now - e.second.back()->idle_since > idle_life); });
    auto& kept = at->second;
    c->idle_since = now;
    kept.push_back(std::move(c));
    if (kept.size() > idle_max) kept.pop_front();
    if (idle.size() > 1000) idle.clear();  // many origins, each once: their connections are not worth keeping
  }

  asio::any_io_executor executor;
  ClientOptions options;
  std::mutex mutex;
  std::map<std::string, std::deque<ConnectionPtr>> idle;  // mutex
};

HttpClient::HttpClient(asio::any_io_executor executor, ClientOptions options) : impl_(std::make_shared<Impl>(std::move(executor), options)) {}
HttpClient::~HttpClient() = default;

asio::awaitable<Result<Response>> HttpClient::request(Origin to, Request what) {
  auto options = impl_->options;
  co_return co_await upload(std::move(to), std::move(what), nullptr, options);
}

asio::awaitable<Result<Response>> HttpClient::request(Origin to, Request what, ClientOptions options) {
  co_return co_await upload(std::move(to), std::move(what), nullptr, options);
}

asio::awaitable<Result<Response>> HttpClient::upload(Origin to, Request what, BodySource body, ClientOptions options) {
  auto impl = impl_;
  if (auto bad = malformed(to, what)) co_return fail(std::move(*bad));
  for (bool fresh = !options.keep_alive || body;; fresh = true) {
    auto c = impl->take(to, fresh);
    auto job = exchange(c, to, what, body, options);
    auto out = co_await asio::co_spawn(c->stream.get_executor(), std::move(job), use_awaitable);
    if (!out.error) {
      if (out.keep) impl->keep(to, c);
      co_return std::move(out.response);
    }
    // A kept connection that the server had closed meanwhile has carried nothing: once more on a new one.
    bool again = c->reused && out.nothing_received;
    if (!again) co_return fail(std::move(*out.error));
  }
}

asio::awaitable<Result<std::unique_ptr<StreamReader>>> HttpClient::open(Origin to, Request what, ClientOptions options) {
  if (auto bad = malformed(to, what)) co_return fail(std::move(*bad));
  auto c = std::make_shared<Outbound>(impl_->executor);
  auto reader = std::make_unique<Reader>(c, to, options);
  auto job = reader->start(std::move(what));
  auto error = co_await asio::co_spawn(c->stream.get_executor(), std::move(job), use_awaitable);
  if (error) co_return fail(std::move(*error));
  std::unique_ptr<StreamReader> out = std::move(reader);
  co_return out;
}

asio::awaitable<Result<Response>> HttpClient::get(Origin to, std::string target) {
  Request what;
  what.method = "GET";
  what.target = std::move(target);
  co_return co_await request(std::move(to), std::move(what));
}

asio::awaitable<Result<Response>> HttpClient::post(Origin to, std::string target, std::string body, std::string content_type) {
  Request what;
  what.method = "POST";
  what.target = std::move(target);
  what.body = std::move(body);
  what.headers.set("Content-Type", content_type);
  co_return co_await request(std::move(to), std::move(what));
}

}  // namespace croft::net
