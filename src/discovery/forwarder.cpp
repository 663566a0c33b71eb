#include "discovery/forwarder.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <cstring>
#include <optional>

#include "base/text.hpp"
#include "discovery/dns_codec.hpp"
#include "discovery/wire.hpp"
#include "net/async.hpp"

namespace croft::discovery {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using error_code = boost::system::error_code;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr std::size_t answer_max = 8192;   // by UDP; no resolver sends more than it was asked for
constexpr auto first_again = std::chrono::seconds(30);

template <class Endpoint>
Endpoint endpoint_of(const SocketAddress& a) {
  Endpoint e;
  e.resize(a.size);
  std::memcpy(e.data(), &a.storage, a.size);
  return e;
}

/// Whether `answer` is one to `packet`: same id, same question (0x20 mixed case included, which makes guessing harder still).
bool answers(std::string_view answer, std::string_view packet, std::size_t question_end) {
  if (answer.size() < header_size || answer.substr(0, 2) != packet.substr(0, 2) || !(static_cast<unsigned char>(answer[2]) & 0x80)) return false;
  if (get16(answer.data() + 4) == 0) return (answer[3] & 15) != 0;  // an error need not repeat the question
  return answer.size() >= question_end && answer.substr(header_size, question_end - header_size) == packet.substr(header_size, question_end - header_size);
}

/// Closes the socket when the time is over. Everything runs on one strand.
template <class Socket>
std::shared_ptr<asio::steady_timer> close_after(std::shared_ptr<Socket> socket, std::chrono::milliseconds limit) {
  auto timer = std::make_shared<asio::steady_timer>(socket->get_executor(), limit);
  timer->async_wait([socket, timer](error_code cancelled) {
    error_code ignored;
    if (!cancelled) socket->close(ignored);
  });
  return timer;
}

asio::awaitable<std::optional<std::string>> exchange_udp(SocketAddress to, std::string packet, std::size_t question_end, std::chrono::milliseconds limit) {
  error_code ec;
  auto executor = co_await asio::this_coro::executor;
  auto socket = std::make_shared<udp::socket>(executor);
  auto endpoint = endpoint_of<udp::endpoint>(to);
  socket->open(endpoint.protocol(), ec);
  if (!ec) socket->connect(endpoint, ec);  // connected: the kernel drops what comes from elsewhere
  if (ec) co_return std::nullopt;
  auto timer = close_after(socket, limit);
  std::optional<std::string> out;
  co_await socket->async_send(asio::buffer(packet), redirect_error(use_awaitable, ec));
  std::string in(answer_max, '\0');
  while (!ec && !out) {
    auto n = co_await socket->async_receive(asio::buffer(in), redirect_error(use_awaitable, ec));
    if (!ec && answers(std::string_view(in).substr(0, n), packet, question_end)) out = in.substr(0, n);
  }
  timer->cancel();
  co_return out;
}

asio::awaitable<std::optional<std::string>> exchange_tcp(SocketAddress to, std::string packet, std::size_t question_end, std::chrono::milliseconds limit) {
  error_code ec;
  auto executor = co_await asio::this_coro::executor;
  auto socket = std::make_shared<tcp::socket>(executor);
  auto timer = close_after(socket, limit);
  auto endpoint = endpoint_of<tcp::endpoint>(to);
  co_await socket->async_connect(endpoint, redirect_error(use_awaitable, ec));
  std::string framed;
  append16(framed, static_cast<std::uint16_t>(packet.size()));
  framed += packet;
  if (!ec) co_await asio::async_write(*socket, asio::buffer(framed), redirect_error(use_awaitable, ec));
  char length[2] = {};
  if (!ec) co_await asio::async_read(*socket, asio::buffer(length), redirect_error(use_awaitable, ec));
  std::string in(get16(length), '\0');
  if (!ec) co_await asio::async_read(*socket, asio::buffer(in), redirect_error(use_awaitable, ec));
  timer->cancel();
  if (ec || !answers(in, packet, question_end)) co_return std::nullopt;
  co_return in;
}

}  // namespace

Forwarder::Forwarder(asio::any_io_executor executor, Options options, Metrics& m)
    : executor_(std::move(executor)), options_(std::move(options)), forwarded_(m.counter("croft_dns_forwarded_total", "Questions passed to other resolvers.")),
      failed_(m.counter("croft_dns_forward_failures_total", "Forwarded questions that no resolver answered in time.")),
      refused_(m.counter("croft_dns_forward_refused_total", "Questions not forwarded because too many were under way.")) {
  m.sampled("croft_dns_forwards_under_way", "Forwarded questions that wait for an answer.", [n = under_way_] { return static_cast<double>(n->load()); });
}

void Forwarder::ask(std::string packet, std::size_t limit, std::function<void(std::string)> done) {
  if (under_way_->load() >= options_.under_way_max) {
    refused_.add();
    done(error_reply(packet, Rcode::servfail, true));
    return;
  }
  auto job = ask_and_tell(std::move(packet), limit, std::move(done));
  net::spawn(asio::make_strand(executor_), "dns forward", std::move(job));
}

asio::awaitable<void> Forwarder::ask_and_tell(std::string packet, std::size_t limit, std::function<void(std::string)> done) {
  auto self = shared_from_this();
  auto answer = co_await ask_in_turn(packet, false);
  if (answer.size() > limit) answer = error_reply(packet, Rcode::noerror, true, true);
  done(std::move(answer));
}

asio::awaitable<std::string> Forwarder::ask_tcp(std::string packet) {
  auto self = shared_from_this();
  if (under_way_->load() >= options_.under_way_max) {
    refused_.add();
    co_return error_reply(packet, Rcode::servfail, true);
  }
  co_return co_await ask_in_turn(std::move(packet), true);
}

asio::awaitable<std::string> Forwarder::ask_in_turn(std::string packet, bool tcp) {
  struct Held {
    explicit Held(std::atomic<int>& c) : count(c) { ++count; }
    ~Held() { --count; }
    std::atomic<int>& count;
  } held(*under_way_);
  forwarded_.add();
  Question q;
  parse_question(packet, q);
  auto asked = packet;
  auto n = options_.upstreams.size();
  auto now = std::chrono::steady_clock::now();
  if (now - preferred_since_.load() > first_again) preferred_ = 0, preferred_since_ = now;
  auto first = preferred_.load();
  for (std::size_t i = 0; i < n; ++i) {
    auto index = (first + i) % n;
    auto upstream = options_.upstreams[index];
    put16(asked.data(), static_cast<std::uint16_t>(random_u64()));
    auto work = tcp ? exchange_tcp(upstream, asked, q.end, options_.limit) : exchange_udp(upstream, asked, q.end, options_.limit);
    auto answer = co_await std::move(work);
    if (!answer) continue;
    if (i > 0) preferred_ = index, preferred_since_ = std::chrono::steady_clock::now();
    put16(answer->data(), q.id);
    co_return std::move(*answer);
  }
  failed_.add();
  co_return error_reply(packet, Rcode::servfail, true);
}

}  // namespace croft::discovery
