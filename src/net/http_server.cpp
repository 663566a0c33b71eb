#include "net/http_server.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <optional>

#include "base/log.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "net/answer_share.hpp"
#include "net/async.hpp"
#include "net/beast_stream.hpp"
#include "net/gzip.hpp"
#include "secure/caller.hpp"

namespace croft::net {

using asio::redirect_error;
using asio::use_awaitable;
using error_code = boost::system::error_code;

namespace {

constexpr std::size_t gzip_from = 1024;
constexpr std::size_t strangers_body_max = 64u << 10;          // of who brings no credentials where a login is wanted: nobody fills memory before he says who he is
constexpr std::size_t buffer_spare = 64u << 10;                // read ahead of what is parsed
constexpr std::size_t drained_max = 256u << 20;               // of a body that was refused, so that the peer can read why
constexpr std::chrono::milliseconds drain_limit{5000};
constexpr std::size_t drained_after_alert = 1u << 20;

/// Bytes of bodies whose senders have shown credentials that nobody has looked at yet: of the whole process.
std::atomic<std::size_t> unjudged_bytes{0};

/// One request's share of them, until it is answered.
class Unjudged {
 public:
  Unjudged() = default;
  Unjudged(const Unjudged&) = delete;
  Unjudged& operator=(const Unjudged&) = delete;
  ~Unjudged() { give_back(); }
  void give_back() { unjudged_bytes -= std::exchange(mine_, 0); }
  /// False when there is no room for so much.
  bool grow_to(std::size_t size, std::size_t most) {
    if (size <= std::max(mine_, strangers_body_max)) return true;
    auto more = size - mine_;
    if (unjudged_bytes.fetch_add(more) + more > most) return unjudged_bytes -= more, false;
    mine_ = size;
    return true;
  }
  bool wanted = false;

 private:
  std::size_t mine_ = 0;
};

struct Connection {
  explicit Connection(Socket socket) : stream(std::move(socket)) {}
  Stream stream;
  beast::flat_buffer buffer;
  std::string peer, local;
  std::shared_ptr<const TlsServer> tls;                       // of the listener; nothing: plain
  std::shared_ptr<const secure::Certificate> certificate;
  std::string refusal;                                        // why every request of this peer is answered 403
  std::atomic<bool> idle{true}, streaming{false}, gone{false};
  std::list<std::weak_ptr<Connection>>::iterator place;       // in Impl::all
};

using Parser = http::request_parser<http::string_body>;

class ChunkWriter final : public StreamWriter {
 public:
  ChunkWriter(std::shared_ptr<Connection> connection, std::chrono::milliseconds limit, bool chunked) : connection_(std::move(connection)), limit_(limit), chunked_(chunked) {}
  asio::awaitable<bool> write(std::string chunk) override {
    if (closed()) co_return false;
    if (chunk.empty()) co_return true;
    error_code ec;
    connection_->stream.expires_after(limit_);
    asio::const_buffer bytes(chunk.data(), chunk.size());
    if (chunked_) {
      auto piece = http::make_chunk(bytes);
      co_await asio::async_write(connection_->stream, piece, redirect_error(use_awaitable, ec));
    } else {
      co_await asio::async_write(connection_->stream, bytes, redirect_error(use_awaitable, ec));
    }
    if (ec) connection_->gone = true;
    co_return !ec;
  }
  [[nodiscard]] bool closed() const override { return connection_->gone; }
  void write_limit(std::chrono::milliseconds limit) override { limit_ = limit; }

 private:
  std::shared_ptr<Connection> connection_;
  std::chrono::milliseconds limit_;
  bool chunked_;
};

/// Waits until something has come and leaves it there; looked at is its first byte. Nothing: the peer has gone, or the socket was cancelled.
/// Asio may say "readable" of a socket that is not (its slot in the reactor served another one before), so that is asked again.
asio::awaitable<std::optional<char>> first_byte(Connection& connection) {
  for (error_code ec;;) {
    co_await connection.stream.socket().async_wait(Socket::wait_read, redirect_error(use_awaitable, ec));
    if (ec) co_return std::nullopt;
    char byte = 0;
    auto n = ::recv(connection.stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 1) co_return byte;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
    connection.gone = true;
    co_return std::nullopt;
  }
}

/// Sees the peer go while nothing is written. Ends when the peer closes, sends more, or the socket is cancelled.
asio::awaitable<void> watch_for_close(std::shared_ptr<Connection> connection) {
  error_code ec;
  if (connection->stream.tls) {  // what is readable may be its good-bye
    char more;
    connection->stream.expires_never();
    co_await connection->stream.async_read_some(asio::buffer(&more, 1), redirect_error(use_awaitable, ec));
    if (ec) connection->gone = true;
    co_return;
  }
  co_await first_byte(*connection);
}

/// RFC 9112, 2.2: some clients send an empty line after a body. True when nothing is left.
bool skip_empty_lines(beast::flat_buffer& buffer) {
  while (std::string_view(static_cast<const char*>(buffer.data().data()), buffer.size()).starts_with("\r\n")) buffer.consume(2);
  return buffer.size() == 0;
}

/// Without reading. On the connection's strand.
bool has_hung_up(Connection& connection) {
  pollfd p{connection.stream.socket().native_handle(), POLLRDHUP, 0};
  return connection.gone || (::poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
}

template <class Acceptor, class Endpoint>
error_code open_acceptor(Acceptor& acceptor, const Endpoint& endpoint, bool reuse) {
  error_code ec;
  acceptor.open(endpoint.protocol(), ec);
  if (!ec && reuse) acceptor.set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(4096, ec);
  return ec;
}

template <class Acceptor>
asio::awaitable<void> close_acceptor(std::shared_ptr<Acceptor> acceptor) {
  error_code ec;
  acceptor->close(ec);
  co_return;
}

std::string address_text(const Socket& socket, bool remote) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  int fd = const_cast<Socket&>(socket).native_handle();
  int rc = remote ? ::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) : ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
  if (rc != 0 || (storage.ss_family != AF_INET && storage.ss_family != AF_INET6)) return remote ? "unix" : "unix:0";
  asio::ip::tcp::endpoint endpoint;
  endpoint.resize(size);
  std::memcpy(endpoint.data(), &storage, size);
  auto host = endpoint.address().to_string();
  return remote ? host : fmt::format("{}:{}", host, endpoint.port());
}

bool compressible(const Response& response) {
  auto type = response.headers.get("Content-Type");
  return type.starts_with("text/") || type.find("json") != std::string_view::npos || type.find("javascript") != std::string_view::npos || type.find("xml") != std::string_view::npos;
}

bool goes_first(const secure::CallerPtr& caller) {
  return caller && (caller->who.kind == secure::Principal::Kind::host || secure::may(caller, secure::Verb::administer, {secure::Kind::farm, {}}).allowed);
}

void compress(Response& response) {
  if (response.body.size() <= gzip_from || response.headers.has("Content-Encoding") || !compressible(response)) return;
  response.body = gzip(response.body);
  response.headers.set("Content-Encoding", "gzip");
  response.headers.add("Vary", "Accept-Encoding");
}

bool accepts_gzip(std::string_view list) {
  for (const auto& piece : split(list, ',')) {
    auto words = split(piece, ';');
    if (!iequals(trim(words[0]), "gzip")) continue;
    for (std::size_t i = 1; i < words.size(); ++i)
      if (auto word = trim(words[i]); word.starts_with("q=")) return to_double(word.substr(2)).value_or(1) > 0;
    return true;
  }
  return false;
}

/// Values may hold what a peer or a task chose, a file's name for one: a line break in it must not begin another field.
void put_fields(const Headers& from, http::fields& to) {
  for (const auto& [name, value] : from.all()) {
    if (one_line(value)) {
      to.insert(name, value);
      continue;
    }
    auto flat = value;
    for (char& c : flat)
      if (!one_line({&c, 1})) c = ' ';
    to.insert(name, flat);
  }
}

/// From any thread. On the connection's strand, because only there it is sure that the descriptor is still this connection's.
void hang_up(const std::shared_ptr<Connection>& connection) {
  connection->gone = true;
  asio::post(connection->stream.get_executor(), [connection] {
    error_code ec;
    connection->stream.socket().shutdown(Socket::shutdown_both, ec);
  });
}

/// Whether a request, or the beginning of one, has come and is only not read yet. On the connection's strand.
bool has_unread(Connection& connection) {
  error_code ec;
  return connection.buffer.size() > 0 || (connection.stream.tls && connection.stream.tls->has_unread()) || (connection.stream.socket().available(ec) > 0 && !ec);
}

/// Ends a connection that waits for a request. One that has come already gets its answer: only receiving is ended, because a read may be over
/// whose coroutine has not run yet.
void hang_up_if_idle(const std::shared_ptr<Connection>& connection) {
  asio::post(connection->stream.get_executor(), [connection] {
    error_code ec;
    if (connection->idle && !has_unread(*connection)) connection->stream.socket().shutdown(Socket::shutdown_receive, ec);
  });
}

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(asio::any_io_executor e, Handler h, std::shared_ptr<const Router> r, ServerOptions o, Metrics* metrics)
      : executor(std::move(e)), handler(std::move(h)), router(std::move(r)), options(std::move(o)) {
    if (!metrics) return;
    auto label = fmt::format("server=\"{}\"", options.name);
    for (int i = 1; i <= 5; ++i)
      by_class[i] = &metrics->counter("croft_http_requests_total", "Requests answered, by the status's first digit.", fmt::format("{},code=\"{}xx\"", label, i));
    seconds = &metrics->histogram("croft_http_request_seconds", "Time from a whole request to its answer, streams left out.", label);
    open = &metrics->gauge("croft_http_connections", "Open connections.", label);
    handshakes_failed = &metrics->counter("croft_tls_handshakes_failed_total", "TLS handshakes that ended without a connection.", label);
  }

  template <class Acceptor>
  asio::awaitable<void> accept(std::shared_ptr<Acceptor> acceptor, std::shared_ptr<const TlsServer> tls) {
    auto self = shared_from_this();
    while (!stopping) {
      error_code ec;
      auto strand = asio::make_strand(executor);
      typename Acceptor::protocol_type::socket::template rebind_executor<asio::any_io_executor>::other socket{asio::any_io_executor(strand)};
      co_await acceptor->async_accept(socket, redirect_error(use_awaitable, ec));
      if (ec == asio::error::operation_aborted || !acceptor->is_open()) break;
      if (ec) {  // no descriptors left, most likely: go on when some are free again
        co_await sleep_for(std::chrono::milliseconds(50));
        continue;
      }
      auto connection = std::make_shared<Connection>(Socket(std::move(socket)));
      connection->tls = tls;
      if (!admit(connection)) continue;
      auto life = serve(connection);
      spawn(strand, options.name, std::move(life), shared_from_this());
    }
  }

  bool admit(const std::shared_ptr<Connection>& connection) {
    no_delay(connection->stream.socket());
    std::lock_guard lock(mutex);
    if (count >= options.connections_max) {
      std::shared_ptr<Connection> oldest;
      for (auto& weak : all)
        if (auto c = weak.lock(); c && c->idle && !c->gone) {
          oldest = c;
          break;
        }
      if (!oldest) {
        constexpr std::string_view full = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        (void)::send(connection->stream.socket().native_handle(), full.data(), full.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        return false;
      }
      hang_up(oldest);
    }
    ++count;
    if (open) open->set(static_cast<double>(count));
    connection->place = all.insert(all.end(), connection);
    return true;
  }

  void forget(const std::shared_ptr<Connection>& connection) {
    std::lock_guard lock(mutex);
    all.erase(connection->place);
    --count;
    if (open) open->set(static_cast<double>(count));
  }

  Result<std::uint16_t> listen(const std::string& address, std::uint16_t port, std::shared_ptr<const TlsServer> tls);
  asio::awaitable<void> serve(std::shared_ptr<Connection> c);
  asio::awaitable<bool> secure_it(std::shared_ptr<Connection> c);
  asio::awaitable<void> let_read(std::shared_ptr<Connection> c, std::chrono::milliseconds limit);
  asio::awaitable<bool> serve_one(std::shared_ptr<Connection> c);
  asio::awaitable<int> read_request(std::shared_ptr<Connection> c, Parser& parser, Unjudged& unjudged);
  asio::awaitable<bool> answer_badly(std::shared_ptr<Connection> c, int status, std::string text);
  asio::awaitable<bool> send(std::shared_ptr<Connection> c, Response response, unsigned version, bool head, bool keep);
  asio::awaitable<void> send_stream(std::shared_ptr<Connection> c, Response response, unsigned version);
  asio::awaitable<Response> call(Request request);
  [[nodiscard]] bool is_stranger(const Connection& c, const http::fields& fields) const {
    return router && router->wants_logins() && !c.certificate && fields.count(http::field::authorization) == 0;
  }

  asio::any_io_executor executor;
  Handler handler;
  std::shared_ptr<const Router> router;
  ServerOptions options;
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::list<std::weak_ptr<Connection>> all;                   // mutex, oldest first
  std::size_t count = 0;                                      // mutex
  std::vector<std::shared_ptr<asio::ip::tcp::acceptor>> tcp_acceptors;
  std::vector<std::shared_ptr<asio::local::stream_protocol::acceptor>> unix_acceptors;
  std::vector<std::string> unix_paths;
  Counter* by_class[6]{};
  Histogram* seconds = nullptr;
  Gauge* open = nullptr;
  Counter* handshakes_failed = nullptr;
};

asio::awaitable<void> HttpServer::Impl::serve(std::shared_ptr<Connection> c) {
  auto self = shared_from_this();
  c->peer = address_text(c->stream.socket(), true);
  c->local = address_text(c->stream.socket(), false);
  bool ready = !c->tls || co_await secure_it(c);
  while (ready && !c->gone && (!stopping || has_unread(*c))) {
    if (c->buffer.size() == 0) {
      // An idle connection holds no buffer but this first small one. Its bound is for what has no other: chunk extensions and trailers.
      c->buffer = beast::flat_buffer(options.header_max + buffer_spare);
      error_code ec;
      c->idle = true;
      c->stream.expires_after(options.idle_timeout);
      auto n = co_await c->stream.async_read_some(c->buffer.prepare(512), redirect_error(use_awaitable, ec));
      if (ec) break;
      c->buffer.commit(n);
    }
    c->idle = false;
    if (skip_empty_lines(c->buffer)) continue;
    if (!co_await serve_one(c)) break;
  }
  error_code ec;
  if (c->stream.tls) c->stream.tls->say_goodbye();
  c->stream.socket().shutdown(Socket::shutdown_both, ec);
  c->stream.close();
  forget(c);
}

/// The handshake. False when there is nobody to serve.
asio::awaitable<bool> HttpServer::Impl::secure_it(std::shared_ptr<Connection> c) {
  error_code ec;
  auto until = std::chrono::steady_clock::now() + options.handshake_timeout;
  c->idle = false;
  // The first byte is looked at and left where it is; waiting for it takes a timer of its own, because Beast's deadlines are those of reads.
  asio::steady_timer limit(c->stream.get_executor(), until);
  limit.async_wait([weak = std::weak_ptr(c)](error_code cancelled) {
    if (auto late = weak.lock(); late && !cancelled) late->stream.close();
  });
  auto first = co_await first_byte(*c);
  limit.cancel();
  if (!first) co_return false;
  constexpr char handshake_record = 0x16;
  if (*first != handshake_record) {
    if (*first < 'A' || *first > 'Z') co_return false;
    (void)co_await answer_badly(c, 400, "this port speaks HTTPS: use https:// and the cluster's CA");
    co_return false;
  }
  c->stream.tls = std::make_unique<TlsLayer>(c->stream.socket(), *c->tls);
  c->stream.expires_after(until - std::chrono::steady_clock::now());
  co_await c->stream.async_handshake(redirect_error(use_awaitable, ec));
  if (ec) {
    if (handshakes_failed) handshakes_failed->add();
    log::debug("net", "server={} peer={} handshake: {}", options.name, c->peer, c->stream.tls->why().context);
    co_await let_read(c, std::chrono::milliseconds(1000));
    co_return false;
  }
  auto peer = c->stream.tls->peer();
  if (peer) c->certificate = std::move(*peer);
  else c->refusal = peer.error().context;
  const auto& roles = c->tls->roles();
  if (c->certificate && !roles.empty() && std::none_of(roles.begin(), roles.end(), [&](auto role) { return c->certificate->identity.is(role); }))
    c->refusal = fmt::format("{} has no business on this port", c->certificate->identity.str());
  co_return true;
}

/// After a refused handshake: what the peer has sent is dropped and its end awaited for a moment, else closing would reset the connection before it has
/// read our alert.
asio::awaitable<void> HttpServer::Impl::let_read(std::shared_ptr<Connection> c, std::chrono::milliseconds limit) {
  error_code ec;
  c->stream.tls.reset();
  if (!c->stream.socket().is_open()) co_return;
  c->stream.socket().shutdown(Socket::shutdown_send, ec);
  std::vector<char> sink(16384);
  c->stream.expires_after(limit);
  for (std::size_t dropped = 0; !ec && dropped < drained_after_alert;) dropped += co_await c->stream.async_read_some(asio::buffer(sink), redirect_error(use_awaitable, ec));
}

/// 0 when the request is whole, else the status to refuse it with; -1 when there is nobody to answer.
asio::awaitable<int> HttpServer::Impl::read_request(std::shared_ptr<Connection> c, Parser& parser, Unjudged& unjudged) {
  auto status_for = [](const error_code& ec) {
    if (ec == http::error::header_limit) return 431;
    if (ec == http::error::body_limit) return 413;
    if (ec.category() == make_error_code(http::error::bad_method).category() && ec != http::error::end_of_stream && ec != http::error::partial_message) return 400;
    return -1;  // gone, or so slow that Beast's deadline has closed the socket
  };
  error_code ec;
  parser.header_limit(static_cast<std::uint32_t>(options.header_max));
  parser.body_limit(boost::none);
  c->stream.expires_after(options.header_timeout);
  co_await http::async_read_header(c->stream, c->buffer, parser, redirect_error(use_awaitable, ec));
  if (ec) co_return status_for(ec);
  // Beast lets codings pass that it does not know and then takes the body's bytes for the next request.
  if (auto codings = parser.get().count(http::field::transfer_encoding); codings > 0) {
    auto coding = parser.get()[http::field::transfer_encoding];
    if (codings > 1 || !iequals(trim(std::string_view(coding.data(), coding.size())), "chunked")) co_return 400;
  }
  // RFC 9112, 3.2: one Host, and in HTTP/1.1 not less.
  if (auto hosts = parser.get().count(http::field::host); hosts > 1 || (hosts == 0 && parser.get().version() >= 11)) co_return 400;
  std::string_view target(parser.get().target().data(), parser.get().target().size());
  auto path = url_decode(target.substr(0, target.find('?'))).value_or("");
  std::string method(parser.get().method_string());
  auto limit = router ? router->limit_for(method, path, options.body_max) : options.body_max;
  if (is_stranger(*c, parser.get())) limit = std::min(limit, strangers_body_max);
  unjudged.wanted = router && router->wants_logins() && !c->certificate;
  if (auto length = parser.content_length(); length && *length > limit) co_return 413;
  parser.body_limit(limit);
  if (parser.is_done()) co_return 0;
  if (iequals(std::string_view(parser.get()[http::field::expect].data(), parser.get()[http::field::expect].size()), "100-continue")) {
    http::response<http::empty_body> go_on(http::status::continue_, 11);
    c->stream.expires_after(options.write_timeout);
    co_await http::async_write(c->stream, go_on, redirect_error(use_awaitable, ec));
    if (ec) co_return -1;
  }
  make_room(c->buffer, parser);
  c->stream.expires_after(options.body_timeout);
  if (!unjudged.wanted) co_await http::async_read(c->stream, c->buffer, parser, redirect_error(use_awaitable, ec));
  while (unjudged.wanted && !ec && !parser.is_done()) {
    co_await http::async_read_some(c->stream, c->buffer, parser, redirect_error(use_awaitable, ec));
    if (unjudged.grow_to(parser.get().body().size(), options.unjudged_max)) continue;
    parser.get().body() = std::string();
    unjudged.give_back();  // not only when its answer has been read
    co_return 503;
  }
  co_return ec ? status_for(ec) : 0;
}

asio::awaitable<bool> HttpServer::Impl::answer_badly(std::shared_ptr<Connection> c, int status, std::string text) {
  auto response = Response::message(status, text);
  if (by_class[status / 100]) by_class[status / 100]->add();
  co_await send(c, std::move(response), 11, false, false);
  error_code ec;
  if (c->stream.tls) c->stream.tls->say_goodbye();
  c->stream.socket().shutdown(Socket::shutdown_send, ec);
  // What the peer still sends is read and dropped for a while: closing at once would reset the connection before it has read the answer.
  std::vector<char> sink(65536);
  std::size_t dropped = 0;
  c->stream.expires_after(drain_limit);
  while (!ec && dropped < drained_max) dropped += co_await c->stream.async_read_some(asio::buffer(sink), redirect_error(use_awaitable, ec));
  co_return false;
}

asio::awaitable<Response> HttpServer::Impl::call(Request request) {
  std::string failure;
  try {
    if (router) co_return co_await router->handle(std::move(request));
    co_return co_await handler(std::move(request));
  } catch (const std::exception& e) {
    failure = e.what();
  }
  log::error("net", "server={} handler failed: {}", options.name, failure);
  co_return Response::message(500, "Internal Server Error");
}

asio::awaitable<bool> HttpServer::Impl::serve_one(std::shared_ptr<Connection> c) {
  Parser parser;
  Unjudged unjudged;
  auto refused = co_await read_request(c, parser, unjudged);
  if (refused < 0) co_return false;
  if (refused > 0) co_return co_await answer_badly(c, refused, std::string(reason_phrase(refused)));
  if (!c->refusal.empty()) co_return co_await answer_badly(c, 403, c->refusal);
  auto begun = std::chrono::steady_clock::now();
  auto message = parser.release();
  Request request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  auto question = request.target.find('?');
  auto path = url_decode(std::string_view(request.target).substr(0, question));
  if (!path || path->empty() || (path->front() != '/' && *path != "*")) co_return co_await answer_badly(c, 400, "the request's path is malformed");
  request.path = std::move(*path);
  if (question != std::string::npos) request.query = Query(std::string_view(request.target).substr(question + 1));
  copy_fields(message, request.headers);
  request.body = std::move(message.body());
  if (iequals(request.headers.get("Content-Encoding"), "gzip")) {
    auto limit = router ? router->limit_for(request.method, request.path, options.body_max) : options.body_max;
    auto plain = gunzip(request.body, is_stranger(*c, message) ? std::min(limit, strangers_body_max) : limit);
    if (!plain) co_return co_await answer_badly(c, 400, "the body is not gzip, or too large unpacked");
    request.body = std::move(*plain);
    if (unjudged.wanted && !unjudged.grow_to(request.body.size(), options.unjudged_max)) co_return co_await answer_badly(c, 503, std::string(reason_phrase(503)));
    request.headers.erase("Content-Encoding");
  }
  request.peer = c->peer;
  request.local = c->local;
  request.tls = c->tls != nullptr;
  request.certificate = c->certificate;
  request.gone = [weak = std::weak_ptr(c)] {
    auto connection = weak.lock();
    return !connection || has_hung_up(*connection);
  };
  bool head = request.method == "HEAD", keep = message.keep_alive();
  bool gzip_ok = options.gzip && accepts_gzip(request.headers.get("Accept-Encoding"));
  c->stream.expires_never();
  auto response = co_await call(std::move(request));
  unjudged.give_back();  // the body is gone; a stream, or a slow reader, keeps nothing
  AnswerShare share;     // of what a slow reader keeps
  if (gzip_ok && !response.stream) compress(response);
  if (!head && !response.stream && !share.take(response.caller ? secure::account_of(response.caller->who.str()) : c->peer, goes_first(response.caller), response.body.size() <= AnswerShare::small ? 0 : response.body.capacity(), options.answers_max)) {
    log::debug("net", "server={} peer={} an answer of {} bytes has no room beside those that are being read", options.name, c->peer, response.body.size());
    response = Response::message(503, "too many large answers are being read already; ask again when one of them is done, or for less");
    response.headers.set("Retry-After", "1");
  }
  for (const auto& [name, value] : options.headers) response.headers.add(name, value);
  if (auto* counter = by_class[std::clamp(response.status / 100, 1, 5)]) counter->add();
  if (response.stream && !head) {
    co_await send_stream(c, std::move(response), message.version());
    co_return false;
  }
  if (seconds) seconds->observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  co_return co_await send(c, std::move(response), message.version(), head, keep && !stopping);
}

asio::awaitable<bool> HttpServer::Impl::send(std::shared_ptr<Connection> c, Response response, unsigned version, bool head, bool keep) {
  http::response<http::string_body> out(static_cast<http::status>(response.status), version);
  out.reason(std::string(reason_phrase(response.status)));
  put_fields(response.headers, out);
  out.keep_alive(keep);
  bool bodyless = response.status == 204 || response.status == 304 || response.status < 200;
  if (!bodyless && !response.stream) out.content_length(response.body.size());
  if (!head && !bodyless) out.body() = std::move(response.body);
  error_code ec;
  c->stream.expires_after(options.write_timeout);
  co_await http::async_write(c->stream, out, redirect_error(use_awaitable, ec));
  co_return !ec && keep;
}

asio::awaitable<void> HttpServer::Impl::send_stream(std::shared_ptr<Connection> c, Response response, unsigned version) {
  http::response<http::empty_body> out(static_cast<http::status>(response.status), version);
  out.reason(std::string(reason_phrase(response.status)));
  put_fields(response.headers, out);
  bool chunked = version >= 11;
  if (chunked) out.chunked(true);
  out.keep_alive(false);
  error_code ec;
  http::response_serializer<http::empty_body> serializer(out);
  c->stream.expires_after(options.write_timeout);
  co_await http::async_write_header(c->stream, serializer, redirect_error(use_awaitable, ec));
  if (ec) co_return;
  c->streaming = true;
  auto watch = watch_for_close(c);
  auto strand = c->stream.get_executor();
  spawn(strand, "watch", std::move(watch), shared_from_this());
  auto writer = std::make_shared<ChunkWriter>(c, options.write_timeout, chunked);
  bool alive = response.body.empty() || co_await writer->write(std::move(response.body));
  if (alive) {
    std::string failure;
    try {
      co_await response.stream(writer);
    } catch (const std::exception& e) {
      failure = e.what();
    }
    if (!failure.empty()) {
      log::error("net", "server={} stream failed: {}", options.name, failure);
      co_return;  // no last chunk: the peer sees that it was cut
    }
  }
  if (!c->gone && chunked) {
    c->stream.expires_after(options.write_timeout);
    auto last = http::make_chunk_last();
    co_await asio::async_write(c->stream, last, redirect_error(use_awaitable, ec));
  }
  c->stream.socket().cancel(ec);
}

HttpServer::HttpServer(asio::any_io_executor executor, Handler handler, ServerOptions options, Metrics* metrics)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(handler), nullptr, std::move(options), metrics)) {}

HttpServer::HttpServer(asio::any_io_executor executor, std::shared_ptr<const Router> router, ServerOptions options, Metrics* metrics)
    : impl_(std::make_shared<Impl>(std::move(executor), Handler(), std::move(router), std::move(options), metrics)) {}

HttpServer::~HttpServer() = default;

Result<std::uint16_t> HttpServer::listen(const std::string& address, std::uint16_t port) { return impl_->listen(address, port, nullptr); }

Result<std::uint16_t> HttpServer::listen_tls(const std::string& address, std::uint16_t port, std::shared_ptr<TlsServer> tls) { return impl_->listen(address, port, std::move(tls)); }

Result<std::uint16_t> HttpServer::Impl::listen(const std::string& address, std::uint16_t port, std::shared_ptr<const TlsServer> tls) {
  error_code ec;
  auto ip = asio::ip::make_address(address, ec);
  if (ec) return fail(Errc::invalid, "'{}' is not an address to listen on", address);
  asio::ip::tcp::endpoint endpoint(ip, port);
  auto acceptor = std::make_shared<asio::ip::tcp::acceptor>(asio::any_io_executor(asio::make_strand(executor)));
  ec = open_acceptor(*acceptor, endpoint, true);
  if (ec) return fail(Errc::io, "bind {}:{}: {}{}", address, port, ec.message(), ec == asio::error::address_in_use ? holder_of_port(port) : "");
  auto bound = acceptor->local_endpoint().port();
  tcp_acceptors.push_back(acceptor);
  auto loop = accept(acceptor, std::move(tls));
  spawn(acceptor->get_executor(), options.name + " accept", std::move(loop), shared_from_this());
  return bound;
}

Status HttpServer::listen_unix(const std::string& path, unsigned mode) {
  error_code ec;
  if (path.size() > 107) return fail(Errc::invalid, "{}: longer than a socket's path may be", path);
  ::unlink(path.c_str());
  auto acceptor = std::make_shared<asio::local::stream_protocol::acceptor>(asio::any_io_executor(asio::make_strand(impl_->executor)));
  asio::local::stream_protocol::endpoint endpoint(path);
  ec = open_acceptor(*acceptor, endpoint, false);
  if (ec) return fail(Errc::io, "bind {}: {}", path, ec.message());
  ::chmod(path.c_str(), mode);
  impl_->unix_acceptors.push_back(acceptor);
  impl_->unix_paths.push_back(path);
  auto loop = impl_->accept(acceptor, nullptr);
  spawn(acceptor->get_executor(), impl_->options.name + " accept", std::move(loop), impl_);
  return {};
}

asio::awaitable<void> HttpServer::stop(std::chrono::milliseconds grace) {
  auto impl = impl_;
  impl->stopping = true;
  // Where they accept: a socket is not closed by one thread while another begins to wait on it.
  for (auto acceptor : impl->tcp_acceptors) {
    auto closed = close_acceptor(acceptor);
    co_await asio::co_spawn(acceptor->get_executor(), std::move(closed), use_awaitable);
  }
  for (auto acceptor : impl->unix_acceptors) {
    auto closed = close_acceptor(acceptor);
    co_await asio::co_spawn(acceptor->get_executor(), std::move(closed), use_awaitable);
  }
  for (const auto& path : impl->unix_paths) ::unlink(path.c_str());
  auto end = std::chrono::steady_clock::now() + grace;
  for (;;) {
    bool last = std::chrono::steady_clock::now() >= end;
    std::size_t left;
    {
      std::lock_guard lock(impl->mutex);
      left = impl->count;
      for (auto& weak : impl->all)
        if (auto c = weak.lock(); c) {
          if (c->streaming || last) hang_up(c);
          else if (c->idle) hang_up_if_idle(c);
        }
    }
    if (left == 0 || std::chrono::steady_clock::now() > end + grace) co_return;
    co_await sleep_for(std::chrono::milliseconds(5));
  }
}

std::size_t HttpServer::connections() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->count;
}

}  // namespace croft::net
