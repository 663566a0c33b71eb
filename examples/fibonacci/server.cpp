#include "server.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include <charconv>
#include <optional>

namespace fibonacci {

namespace beast = boost::beast;
namespace http = beast::http;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t n_max = 25;         // beyond, the tree of calls has more leaves than a small farm wants
constexpr std::size_t open_max = 20'000;    // requests at once; more are refused, never queued

/// The last path segment as a number: "/15", "/service/fibonacci/15".
std::optional<std::uint32_t> number_in(std::string_view path) {
  auto last = path.substr(path.rfind('/') + 1);
  std::uint32_t n = 0;
  auto [end, ec] = std::from_chars(last.data(), last.data() + last.size(), n);
  if (last.empty() || ec != std::errc() || end != last.data() + last.size()) return std::nullopt;
  return n;
}

std::optional<std::uint64_t> value_in(const Outcome& outcome) {
  if (!outcome) return std::nullopt;
  std::uint64_t v = 0;
  auto [end, ec] = std::from_chars(outcome->body.data(), outcome->body.data() + outcome->body.size(), v);
  if (ec != std::errc()) return std::nullopt;
  return v;
}

}  // namespace

void Server::listen(std::uint16_t port) {
  tcp::endpoint at(tcp::v4(), port);
  acceptor_.open(at.protocol());
  acceptor_.set_option(tcp::acceptor::reuse_address(true));
  acceptor_.bind(at);
  acceptor_.listen();
  asio::co_spawn(io_, accept(), asio::detached);
}

asio::awaitable<void> Server::accept() {
  while (acceptor_.is_open()) {
    boost::system::error_code ec;
    auto socket = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted) co_return;
    if (!ec) asio::co_spawn(io_, serve(std::move(socket)), asio::detached);
  }
}

asio::awaitable<void> Server::serve(tcp::socket socket) {
  boost::system::error_code ec;
  socket.set_option(tcp::no_delay(true), ec);
  beast::tcp_stream stream(std::move(socket));
  beast::flat_buffer buffer(16u << 10);
  for (;;) {
    http::request_parser<http::string_body> parser;
    parser.body_limit(1024);
    stream.expires_after(draining_ ? 1s : 75s);
    co_await http::async_read(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) break;
    auto request = parser.release();
    ++open_;
    std::string method(request.method_string()), target(request.target());
    auto reply = co_await answer(method, target);
    http::response<http::string_body> response(static_cast<http::status>(reply.status), request.version());
    response.set(http::field::content_type, "text/plain");
    response.keep_alive(request.keep_alive() && !draining_);
    response.body() = std::move(reply.body);
    response.prepare_payload();
    stream.expires_after(30s);
    co_await http::async_write(stream, response, asio::redirect_error(asio::use_awaitable, ec));
    --open_;
    if (ec || !response.keep_alive()) break;
  }
  stream.socket().shutdown(tcp::socket::shutdown_send, ec);
}

asio::awaitable<Server::Reply> Server::answer(std::string method, std::string target) {
  auto path = target.substr(0, target.find('?'));
  if (method != "GET") co_return Reply{405, "only GET\n"};
  if (path.ends_with("/healthcheck/") || path.ends_with("/healthcheck")) co_return co_await health();
  auto n = number_in(path);
  if (!n) co_return Reply{404, "ask for /{n}\n"};
  if (*n > n_max) co_return Reply{400, "n is at most " + std::to_string(n_max) + "\n"};
  if (open_ > open_max) co_return Reply{503, "too many requests at once\n"};
  co_return co_await number(*n);
}

asio::awaitable<Server::Reply> Server::number(std::uint32_t n) {
  using namespace asio::experimental::awaitable_operators;
  if (n < 2) co_return Reply{200, std::to_string(n)};
  auto one = peers_.ask(n - 1);
  auto two = peers_.ask(n - 2);
  auto [a, b] = co_await (std::move(one) && std::move(two));
  auto x = value_in(a), y = value_in(b);
  if (!x || !y) co_return Reply{502, "fibonacci of " + std::to_string(n) + ": " + (!a ? a.error() : !b ? b.error() : "an instance answered no number") + "\n"};
  co_return Reply{200, std::to_string(*x + *y)};
}

/// Healthy is who can find the others: an instance that has never reached discovery could answer nothing but 0 and 1. One that has goes on with what it knew, so that
/// an outage of discovery does not take all of them out of service at once.
asio::awaitable<Server::Reply> Server::health() {
  auto found = co_await peers_.look_up();
  if (!found && peers_.knows_any()) co_return Reply{200, "ok, by what was known before: " + found.error() + "\n"};
  if (!found) co_return Reply{503, found.error() + "\n"};
  if (found->empty()) co_return Reply{503, "discovery knows no instance of this service\n"};
  co_return Reply{200, "ok, " + std::to_string(found->size()) + " instances\n"};
}

asio::awaitable<void> Server::drain(std::chrono::milliseconds limit) {
  draining_ = true;
  boost::system::error_code ec;
  acceptor_.close(ec);
  asio::steady_timer timer(io_);
  auto end = std::chrono::steady_clock::now() + limit;
  while (open_ > 0 && std::chrono::steady_clock::now() < end) {
    timer.expires_after(5ms);
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
}

}  // namespace fibonacci
