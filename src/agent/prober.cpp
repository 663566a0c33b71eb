#include "agent/prober.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/text.hpp"

namespace croft::agent {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using tcp = asio::ip::tcp;

namespace {

constexpr std::size_t head_max = 16u << 10, shown_of_path = 200;

ProbeResult judged(std::string_view head, const HealthCheck& check, std::string_view path) {
  ProbeResult r;
  auto space = head.find(' ');
  auto status = space == std::string_view::npos ? std::nullopt : to_int(head.substr(space + 1, 3));
  if (!head.starts_with("HTTP/") || !status) {
    r.cause = "the answer is not HTTP";
    return r;
  }
  r.status = static_cast<int>(*status);
  r.ignored = check.ignore_1xx && *status < 200;
  r.passed = *status >= 200 && *status < 400;
  if (!r.passed) r.cause = fmt::format("GET {}: HTTP {}", path.substr(0, shown_of_path), *status);
  return r;
}

template <class Stream>
asio::awaitable<ProbeResult> ask(Stream& stream, std::string host, std::uint16_t port, HealthCheck check) {
  ProbeResult r;
  boost::system::error_code ec;
  auto path = check.path.empty() || check.path[0] != '/' ? "/" + check.path : check.path;
  auto request = fmt::format("GET {} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: croft\r\nAccept: */*\r\nConnection: close\r\n\r\n", path, host, port);
  co_await asio::async_write(stream, asio::buffer(request), redirect_error(use_awaitable, ec));
  std::string head;
  auto buffer = asio::dynamic_buffer(head, head_max);
  if (!ec) co_await asio::async_read_until(stream, buffer, "\r\n", redirect_error(use_awaitable, ec));
  if (ec) {
    r.cause = ec.message();
    co_return r;
  }
  co_return judged(head, check, path);
}

asio::awaitable<ProbeResult> attempt(std::string host, std::uint16_t port, HealthCheck check) {
  ProbeResult r;
  boost::system::error_code ec;
  auto executor = co_await asio::this_coro::executor;
  tcp::socket socket(executor);
  auto address = asio::ip::make_address(host, ec);
  if (!ec) {
    tcp::endpoint endpoint(address, port);
    co_await socket.async_connect(endpoint, redirect_error(use_awaitable, ec));
  } else {
    tcp::resolver resolver(executor);
    auto found = co_await resolver.async_resolve(host, std::to_string(port), redirect_error(use_awaitable, ec));
    if (!ec) co_await asio::async_connect(socket, found, redirect_error(use_awaitable, ec));
  }
  if (ec) {
    r.cause = fmt::format("port {}: {}", port, ec.message());
    co_return r;
  }
  if (check.kind == CheckKind::tcp) {
    r.passed = true;
    co_return r;
  }
  if (check.kind == CheckKind::http) {
    auto job = ask(socket, host, port, check);
    co_return co_await std::move(job);
  }
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.set_verify_mode(asio::ssl::verify_none);  // Marathon's checks verify no certificate
  asio::ssl::stream<tcp::socket&> stream(socket, context);
  co_await stream.async_handshake(asio::ssl::stream_base::client, redirect_error(use_awaitable, ec));
  if (ec) {
    r.cause = "TLS: " + ec.message();
    co_return r;
  }
  auto job = ask(stream, host, port, check);
  co_return co_await std::move(job);
}

}  // namespace

asio::awaitable<ProbeResult> probe(std::string host, std::uint16_t port, HealthCheck check) {
  using namespace asio::experimental::awaitable_operators;
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, check.timeout);
  auto work = attempt(host, port, check);
  auto limit = timer.async_wait(use_awaitable);
  auto first = co_await (std::move(work) || std::move(limit));
  if (first.index() == 0) co_return std::move(std::get<0>(first));
  ProbeResult r;
  r.cause = fmt::format("no answer within {} s", print_number(to_seconds(check.timeout)));
  co_return r;
}

}  // namespace croft::agent
