#include "discovery/dns_server.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

#include "base/log.hpp"
#include "discovery/dns_codec.hpp"
#include "discovery/forwarder.hpp"
#include "discovery/udp_workers.hpp"
#include "discovery/wire.hpp"
#include "net/async.hpp"

namespace croft::discovery {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;
using error_code = boost::system::error_code;

namespace {

constexpr std::size_t tcp_question_max = 4096;
constexpr int free_port_tries = 20;

struct Session {
  explicit Session(tcp::socket s) : socket(std::move(s)), timer(socket.get_executor()) {}
  tcp::socket socket;
  asio::steady_timer timer;
  /// The connection closes unless another call or the end comes first.
  static void close_after(const std::shared_ptr<Session>& s, std::chrono::milliseconds limit) {
    s->timer.expires_after(limit);
    s->timer.async_wait([s](error_code cancelled) {
      error_code ignored;
      if (!cancelled) s->socket.close(ignored);
    });
  }
};

/// The peer's address as it travels, 4 or 16 bytes; "" when it is gone already.
std::string bytes_of(const tcp::socket& socket) {
  error_code ec;
  auto peer = socket.remote_endpoint(ec).address();
  if (ec) return {};
  auto as_text = [](const auto& bytes) { return std::string(bytes.begin(), bytes.end()); };
  return peer.is_v4() ? as_text(peer.to_v4().to_bytes()) : as_text(peer.to_v6().to_bytes());
}

}  // namespace

struct DnsServer::Impl : std::enable_shared_from_this<DnsServer::Impl> {
  Impl(asio::any_io_executor e, DnsOptions o, Metrics& m)
      : executor(std::move(e)), options(std::move(o)), metrics(m), udp_tally(m, "udp"), tcp_tally(m, "tcp"), ports(options.listen.size(), 0) {}

  Status prepare();
  Status bind(std::size_t index);
  Result<std::shared_ptr<tcp::acceptor>> open_tcp(const SocketAddress& at) const;
  asio::awaitable<void> bind_later(std::size_t index);
  asio::awaitable<void> accept(std::shared_ptr<tcp::acceptor> acceptor);
  asio::awaitable<void> serve(std::shared_ptr<Session> s);
  asio::awaitable<std::string> answer(std::string packet, std::uint32_t turn, std::string address);

  asio::any_io_executor executor;
  DnsOptions options;
  Metrics& metrics;
  ZoneHolder zones;
  const CookieJar cookies = CookieJar::random();
  DnsTally udp_tally, tcp_tally;
  std::shared_ptr<Forwarder> forwarder;
  std::unique_ptr<UdpWorkers> workers;
  std::atomic<bool> stopping{false};
  std::atomic<int> connections{0};
  std::vector<Network> clients;                                    // set before it serves
  std::shared_ptr<net::Signal> wake = net::Signal::make();
  mutable std::mutex mutex;
  std::vector<std::uint16_t> ports;                                // mutex
  std::vector<std::shared_ptr<tcp::acceptor>> acceptors;           // mutex
  std::list<std::weak_ptr<Session>> sessions;                      // mutex
};

Status DnsServer::Impl::prepare() {
  Forwarder::Options f;
  f.limit = options.resolver_timeout;
  f.under_way_max = options.forwards_max;
  std::vector<std::string> own;
  for (const auto& where : options.listen) {
    auto at = socket_address(where.address, where.port);
    if (!at) return fail(std::move(at).error().within("DNS"));
    own.push_back(at->str());
    if (!at->wildcard()) continue;
    for (const auto& mine : host_addresses())
      if (auto a = socket_address(mine, where.port)) own.push_back(a->str());
    own.push_back(fmt::format("127.0.0.1:{}", where.port));
  }
  if (!options.forward) options.resolvers.clear();
  else if (options.resolvers.empty()) options.resolvers = system_resolvers();
  for (const auto& text : options.resolvers) {
    auto at = resolver_address(text);
    if (!at) return fail(std::move(at).error().within("DNS"));
    if (std::find(own.begin(), own.end(), at->str()) != own.end()) log::warn("dns", "resolver {} is this server itself and is left out", at->str());
    else f.upstreams.push_back(*at);
  }
  forwarder = std::make_shared<Forwarder>(executor, std::move(f), metrics);
  UdpWorkers::Options u;
  u.threads = options.threads;
  u.recursion = forwarder->any();
  for (const auto& text : options.clients) {
    auto network = Network::parse(text);
    if (!network) return fail(Errc::invalid, "DNS: '{}' is no network", text);
    clients.push_back(*network);
  }
  u.clients = clients;
  u.answers_per_second = options.answers_per_second;
  u.cookies = cookies;
  workers = std::make_unique<UdpWorkers>(u, zones, udp_tally, [f = forwarder](std::string packet, std::size_t limit, UdpPeer peer) {
    f->ask(std::move(packet), limit, [peer = std::move(peer)](std::string text) { peer.send(text); });
  });
  return {};
}

Result<std::shared_ptr<tcp::acceptor>> DnsServer::Impl::open_tcp(const SocketAddress& at) const {
  tcp::endpoint endpoint;
  endpoint.resize(at.size);
  std::memcpy(endpoint.data(), &at.storage, at.size);
  auto strand = asio::make_strand(executor);
  auto acceptor = std::make_shared<tcp::acceptor>(asio::any_io_executor(strand));
  error_code ec;
  acceptor->open(endpoint.protocol(), ec);
  if (!ec) acceptor->set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec && at.storage.ss_family == AF_INET6) acceptor->set_option(asio::ip::v6_only(true), ec);
  if (!ec) acceptor->bind(endpoint, ec);
  if (!ec) acceptor->listen(128, ec);
  if (ec) return fail(Errc::io, "bind {} (TCP): {}", at.str(), ec.message());
  return acceptor;
}

Status DnsServer::Impl::bind(std::size_t index) {
  const auto& where = options.listen[index];
  auto at = socket_address(where.address, where.port);
  if (!at) return fail(std::move(at).error());
  // For port 0, TCP picks one, which may be taken by UDP: then another.
  for (int left = where.port == 0 ? free_port_tries : 1;; --left) {
    auto acceptor = open_tcp(*at);
    if (!acceptor) return fail(std::move(acceptor).error());
    auto bound = *at;
    bound.set_port((*acceptor)->local_endpoint().port());
    if (auto ok = workers->add(bound); !ok) {
      if (left > 1) continue;
      return ok;
    }
    std::lock_guard lock(mutex);
    if (stopping) return fail(Errc::unavailable, "the server stops");
    ports[index] = bound.port();
    acceptors.push_back(*acceptor);
    auto loop = accept(*acceptor);
    net::spawn((*acceptor)->get_executor(), "dns accept", std::move(loop), shared_from_this());
    return {};
  }
}

asio::awaitable<void> DnsServer::Impl::bind_later(std::size_t index) {
  auto self = shared_from_this();
  const auto& where = options.listen[index];
  while (!stopping) {
    auto ticket = wake->ticket();
    if (!stopping) co_await wake->wait(ticket, options.bind_again);
    if (stopping) break;
    if (auto ok = bind(index); !ok) continue;
    log::info("dns", "answers on {}:{} now", where.address, where.port);
    co_return;
  }
}

asio::awaitable<void> DnsServer::Impl::accept(std::shared_ptr<tcp::acceptor> acceptor) {
  auto self = shared_from_this();
  while (!stopping) {
    error_code ec;
    auto strand = asio::make_strand(executor);
    tcp::socket socket{asio::any_io_executor(strand)};
    co_await acceptor->async_accept(socket, redirect_error(use_awaitable, ec));
    if (ec == asio::error::operation_aborted || !acceptor->is_open()) break;
    if (ec) {  // no descriptors left, most likely
      co_await net::sleep_for(std::chrono::milliseconds(50));
      continue;
    }
    if (connections >= options.tcp_connections_max) continue;
    auto session = std::make_shared<Session>(std::move(socket));
    {
      std::lock_guard lock(mutex);
      std::erase_if(sessions, [](const auto& weak) { return weak.expired(); });
      sessions.push_back(session);
    }
    ++connections;
    auto life = serve(session);
    net::spawn(strand, "dns tcp", std::move(life), self);
  }
}

/// Questions may come one behind the other without waiting (RFC 7766); answers go in their order.
asio::awaitable<void> DnsServer::Impl::serve(std::shared_ptr<Session> s) {
  auto self = shared_from_this();
  auto address = bytes_of(s->socket);
  for (std::uint32_t turn = 0; !stopping; ++turn) {
    error_code ec;
    Session::close_after(s, connections > options.tcp_connections_max / 2 ? options.tcp_idle / 3 : options.tcp_idle);
    char length[2] = {};
    co_await asio::async_read(s->socket, asio::buffer(length), redirect_error(use_awaitable, ec));
    auto size = get16(length);
    if (ec || size < header_size || size > tcp_question_max) break;
    std::string packet(size, '\0');
    co_await asio::async_read(s->socket, asio::buffer(packet), redirect_error(use_awaitable, ec));
    if (ec) break;
    Session::close_after(s, options.tcp_idle + options.resolver_timeout * static_cast<int>(options.resolvers.size() + 1));
    auto framed = co_await answer(std::move(packet), turn, address);
    if (framed.size() <= 2) break;
    co_await asio::async_write(s->socket, asio::buffer(framed), redirect_error(use_awaitable, ec));
    if (ec) break;
  }
  s->timer.cancel();
  error_code ignored;
  s->socket.close(ignored);
  --connections;
}

/// With its length in front.
asio::awaitable<std::string> DnsServer::Impl::answer(std::string packet, std::uint32_t turn, std::string address) {
  std::string framed(2 + message_max, '\0');
  ReplyOptions how;
  how.tcp = true;
  how.recursion = forwarder->any() && is_near(address, clients);
  how.turn = turn;
  how.cookies = &cookies;
  how.address = address;
  how.now = static_cast<std::uint32_t>(std::chrono::duration_cast<Seconds>(system_now().wall.time_since_epoch()).count());
  auto zone = zones.get();
  auto reply = reply_to(packet, *zone, how, std::span<char>(framed).subspan(2));
  tcp_tally.count(reply);
  std::size_t size = reply.action == Reply::Action::send ? reply.size : 0;
  if (reply.action == Reply::Action::forward) {
    auto text = co_await forwarder->ask_tcp(std::move(packet));
    size = text.size();
    std::memcpy(framed.data() + 2, text.data(), size);
  }
  framed.resize(2 + size);
  put16(framed.data(), static_cast<std::uint16_t>(size));
  co_return framed;
}

DnsServer::DnsServer(asio::any_io_executor executor, DnsOptions options, Metrics& metrics)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(options), metrics)) {}
DnsServer::~DnsServer() { stop(); }

Status DnsServer::start() {
  if (auto ok = impl_->prepare(); !ok) return ok;
  for (std::size_t i = 0; i < impl_->options.listen.size(); ++i) {
    const auto& where = impl_->options.listen[i];
    auto ok = impl_->bind(i);
    if (ok) continue;
    if (!where.may_wait) return ok;
    log::info("dns", "{}; tried again until it can be had", ok.error().context);
    auto later = impl_->bind_later(i);
    net::spawn(asio::make_strand(impl_->executor), "dns listen", std::move(later), impl_);
  }
  return {};
}

void DnsServer::stop() {
  if (impl_->stopping.exchange(true)) return;
  impl_->wake->notify();
  std::lock_guard lock(impl_->mutex);
  error_code ec;
  for (auto& a : impl_->acceptors) asio::post(a->get_executor(), [a] { error_code ignored; a->close(ignored); });
  for (auto& weak : impl_->sessions)
    if (auto s = weak.lock()) asio::post(s->socket.get_executor(), [s] { error_code ignored; s->socket.close(ignored); });
  if (impl_->workers) impl_->workers->stop();
}

void DnsServer::set_zone(std::shared_ptr<const Zone> zone) { impl_->zones.set(std::move(zone)); }

std::uint16_t DnsServer::port(std::size_t i) const {
  std::lock_guard lock(impl_->mutex);
  return i < impl_->ports.size() ? impl_->ports[i] : 0;
}

}  // namespace croft::discovery
