#include "discovery/dns_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <cstring>
#include <mutex>
#include <thread>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "discovery/dns_codec.hpp"
#include "net/async.hpp"

namespace croft::discovery {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr int batch = 32;
constexpr std::size_t packet_max = 4096;
constexpr std::size_t udp_answer_max = 1232;
constexpr int tcp_connections_max = 512;
constexpr int forwards_max = 1024;
constexpr auto forward_limit = std::chrono::milliseconds(2000);
constexpr auto tcp_idle = std::chrono::seconds(10);

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

std::optional<Address> address_of(const std::string& text, std::uint16_t port) {
  Address a;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&a.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&a.storage);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    a.size = sizeof *v4;
  } else if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    a.size = sizeof *v6;
  } else {
    return std::nullopt;
  }
  return a;
}

}  // namespace

struct DnsServer::Impl : std::enable_shared_from_this<DnsServer::Impl> {
  Impl(asio::any_io_executor e, DnsOptions o, Metrics& m)
      : executor(e), options(std::move(o)), queries(m.counter("croft_dns_queries_total", "Questions answered from the zone.")),
        forwarded(m.counter("croft_dns_forwarded_total", "Questions passed to other resolvers.")), refused_count(m.counter("croft_dns_refused_total", "Questions refused.")) {
    for (const auto& r : options.resolvers) {
      auto colon = r.rfind(':');
      auto port = colon == std::string::npos ? std::optional<std::int64_t>(53) : to_int(r.substr(colon + 1));
      if (auto a = address_of(r.substr(0, colon), static_cast<std::uint16_t>(port.value_or(53)))) {
        asio::ip::udp::endpoint endpoint;
        endpoint.resize(a->size);
        std::memcpy(endpoint.data(), &a->storage, a->size);
        upstreams.push_back(endpoint);
      }
    }
  }

  std::shared_ptr<const Zone> zone() const {
    std::lock_guard lock(mutex);
    return current;
  }

  Result<Fd> open_udp(const Listen& where) const {
    auto a = address_of(where.address, where.port);
    if (!a) return fail(Errc::invalid, "'{}' is not an address", where.address);
    Fd fd(::socket(a->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    int one = 1, size = 1 << 20;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&a->storage), a->size) != 0) return fail_errno(fmt::format("bind {}:{} (UDP)", where.address, where.port));
    return fd;
  }

  Status listen(const Listen& where) {
    for (int i = 0; i < options.threads; ++i) {
      auto fd = open_udp(where);
      if (!fd) return fail(fd.error());
      std::lock_guard lock(mutex);
      threads.emplace_back([self = shared_from_this(), raw = fd->release()] { self->serve_udp(Fd(raw)); });
    }
    boost::system::error_code ec;
    auto acceptor = std::make_shared<tcp::acceptor>(executor);
    tcp::endpoint endpoint(asio::ip::make_address(where.address, ec), where.port);
    acceptor->open(endpoint.protocol(), ec);
    if (!ec) acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor->bind(endpoint, ec);
    if (!ec) acceptor->listen(128, ec);
    if (ec) return fail(Errc::io, "bind {}:{} (TCP): {}", where.address, where.port, ec.message());
    {
      std::lock_guard lock(mutex);
      acceptors.push_back(acceptor);
    }
    auto loop = accept(acceptor);
    net::spawn(executor, "dns accept", std::move(loop));
    log::info("dns", "answers on {}:{}", where.address, where.port);
    return {};
  }

  asio::awaitable<void> listen_later(Listen where) {
    auto self = shared_from_this();
    while (!stopping && !listen(where)) co_await net::sleep_for(std::chrono::seconds(1));
  }

  /// The reply at once, or nothing when it has to be asked elsewhere.
  std::optional<std::string> reply(std::string_view packet, std::size_t limit, std::uint32_t turn, const Zone& z) {
    auto parsed = parse_question(packet);
    if (!parsed) return std::string();
    if (parsed->error) return refused_count.add(), refuse(packet, *parsed, *parsed->error);
    const auto& q = parsed->question;
    if (!in_zone(q.name, z)) {
      if (upstreams.empty()) return refused_count.add(), refuse(packet, *parsed, Rcode::refused);
      return std::nullopt;
    }
    if (q.cls != 1 && q.cls != 255) return refused_count.add(), refuse(packet, *parsed, Rcode::refused);
    queries.add();
    auto most = limit < 65535 ? std::min<std::size_t>(q.edns ? std::max<std::size_t>(512, q.udp_size) : 512, limit) : limit;
    return answer(packet, q, z, most, turn);
  }

  /// Receives and sends in batches: the sockets cost more than the answers.
  void serve_udp(Fd fd) {
    std::vector<std::array<char, packet_max>> in(batch);
    std::vector<sockaddr_storage> from(batch);
    std::vector<iovec> in_io(batch), out_io(batch);
    std::vector<mmsghdr> in_msgs(batch), out_msgs(batch);
    std::vector<std::string> out(batch);
    std::uint32_t turn = 0;
    pollfd waits[2]{{fd.get(), POLLIN, 0}, {wake.get(), POLLIN, 0}};
    while (!stopping) {
      if (::poll(waits, 2, -1) < 0 && errno != EINTR) break;
      if (stopping) break;
      for (int i = 0; i < batch; ++i) {
        in_io[i] = {in[i].data(), packet_max};
        in_msgs[i] = {};
        in_msgs[i].msg_hdr.msg_iov = &in_io[i];
        in_msgs[i].msg_hdr.msg_iovlen = 1;
        in_msgs[i].msg_hdr.msg_name = &from[i];
        in_msgs[i].msg_hdr.msg_namelen = sizeof from[i];
      }
      int n = ::recvmmsg(fd.get(), in_msgs.data(), batch, MSG_DONTWAIT, nullptr);
      if (n <= 0) continue;
      auto z = zone();
      int sends = 0;
      for (int i = 0; i < n; ++i) {
        std::string_view packet(in[i].data(), in_msgs[i].msg_len);
        auto made = reply(packet, udp_answer_max, turn++, *z);
        if (!made) {
          forward_udp(fd.get(), std::string(packet), from[i], in_msgs[i].msg_hdr.msg_namelen);
          continue;
        }
        if (made->empty()) continue;
        out[sends] = std::move(*made);
        out_io[sends] = {out[sends].data(), out[sends].size()};
        out_msgs[sends] = {};
        out_msgs[sends].msg_hdr.msg_iov = &out_io[sends];
        out_msgs[sends].msg_hdr.msg_iovlen = 1;
        out_msgs[sends].msg_hdr.msg_name = &from[i];
        out_msgs[sends].msg_hdr.msg_namelen = in_msgs[i].msg_hdr.msg_namelen;
        ++sends;
      }
      if (sends > 0) ::sendmmsg(fd.get(), out_msgs.data(), static_cast<unsigned>(sends), 0);
    }
  }

  void forward_udp(int fd, std::string packet, sockaddr_storage to, socklen_t size) {
    if (forwards >= forwards_max) return;
    Fd copy(::dup(fd));
    auto shared = std::make_shared<Fd>(std::move(copy));
    auto job = forward_and_send(shared, std::move(packet), to, size);
    net::spawn(executor, "dns forward", std::move(job));
  }

  asio::awaitable<void> forward_and_send(std::shared_ptr<Fd> fd, std::string packet, sockaddr_storage to, socklen_t size) {
    auto answer = co_await ask_upstream(std::move(packet));
    ::sendto(fd->get(), answer.data(), answer.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&to), size);
  }

  /// Asks the upstreams in turn, from a random port with a random id. SERVFAIL when none answers.
  asio::awaitable<std::string> ask_upstream(std::string packet) {
    using namespace asio::experimental::awaitable_operators;
    auto self = shared_from_this();
    ++forwards;
    forwarded.add();
    std::string id = packet.substr(0, 2), out;
    auto strand = asio::make_strand(executor);
    for (const auto& upstream : upstreams) {
      boost::system::error_code ec;
      udp::socket socket(co_await asio::this_coro::executor);
      socket.open(upstream.protocol(), ec);
      if (!ec) socket.connect(upstream, ec);
      if (ec) continue;
      auto mine = random_u64();
      packet[0] = static_cast<char>(mine), packet[1] = static_cast<char>(mine >> 8);
      co_await socket.async_send(asio::buffer(packet), redirect_error(use_awaitable, ec));
      std::string in(4096, '\0');
      asio::steady_timer timer(co_await asio::this_coro::executor, forward_limit / upstreams.size());
      auto receive = socket.async_receive(asio::buffer(in), redirect_error(use_awaitable, ec));
      auto limit = timer.async_wait(use_awaitable);
      auto first = co_await (std::move(receive) || std::move(limit));
      if (first.index() != 0 || ec) continue;
      in.resize(std::get<0>(first));
      if (in.size() < 12 || in[0] != packet[0] || in[1] != packet[1]) continue;
      out = std::move(in);
      break;
    }
    --forwards;
    if (out.empty()) {
      auto parsed = parse_question(packet);
      if (parsed) out = refuse(packet, *parsed, Rcode::servfail);
    }
    if (out.size() >= 2) out[0] = id[0], out[1] = id[1];
    co_return out;
  }

  asio::awaitable<void> accept(std::shared_ptr<tcp::acceptor> acceptor) {
    auto self = shared_from_this();
    while (!stopping) {
      boost::system::error_code ec;
      auto strand = asio::make_strand(executor);
      tcp::socket socket{asio::any_io_executor(strand)};
      co_await acceptor->async_accept(socket, redirect_error(use_awaitable, ec));
      if (ec == asio::error::operation_aborted || !acceptor->is_open()) break;
      if (ec || connections >= tcp_connections_max) continue;
      auto life = serve_tcp(std::move(socket));
      net::spawn(strand, "dns tcp", std::move(life));
    }
  }

  asio::awaitable<void> serve_tcp(tcp::socket socket) {
    auto self = shared_from_this();
    ++connections;
    auto timer = std::make_shared<asio::steady_timer>(socket.get_executor());
    std::uint32_t turn = 0;
    while (!stopping) {
      boost::system::error_code ec;
      std::uint8_t length[2];
      timer->expires_after(tcp_idle);
      timer->async_wait([&socket](boost::system::error_code cancelled) { if (!cancelled) { boost::system::error_code ignored; socket.close(ignored); } });
      co_await asio::async_read(socket, asio::buffer(length), redirect_error(use_awaitable, ec));
      if (ec) break;
      std::string packet(static_cast<std::size_t>(length[0] << 8 | length[1]), '\0');
      co_await asio::async_read(socket, asio::buffer(packet), redirect_error(use_awaitable, ec));
      timer->cancel();
      if (ec) break;
      auto made = reply(packet, 65535, turn++, *zone());
      if (!made) made = co_await ask_upstream(packet);
      if (made->empty()) break;
      std::string framed{static_cast<char>(made->size() >> 8), static_cast<char>(made->size() & 255)};
      framed += *made;
      co_await asio::async_write(socket, asio::buffer(framed), redirect_error(use_awaitable, ec));
      if (ec) break;
    }
    timer->cancel();
    --connections;
  }

  asio::any_io_executor executor;
  DnsOptions options;
  std::vector<udp::endpoint> upstreams;
  std::atomic<bool> stopping{false};
  std::atomic<int> forwards{0}, connections{0};
  Fd wake{::eventfd(0, EFD_CLOEXEC)};
  mutable std::mutex mutex;
  std::shared_ptr<const Zone> current = std::make_shared<Zone>();  // mutex
  std::vector<std::thread> threads;                                // mutex
  std::vector<std::shared_ptr<tcp::acceptor>> acceptors;           // mutex
  Counter &queries, &forwarded, &refused_count;
};

DnsServer::DnsServer(asio::any_io_executor executor, DnsOptions options, Metrics& metrics) : impl_(std::make_shared<Impl>(std::move(executor), std::move(options), metrics)) {}
DnsServer::~DnsServer() { stop(); }

Status DnsServer::start() {
  for (const auto& where : impl_->options.listen) {
    auto ok = impl_->listen(where);
    if (ok) continue;
    if (!where.may_wait) return ok;
    auto later = impl_->listen_later(where);
    net::spawn(impl_->executor, "dns listen", std::move(later));
  }
  return {};
}

void DnsServer::stop() {
  if (impl_->stopping.exchange(true)) return;
  std::uint64_t one = 1;
  if (::write(impl_->wake.get(), &one, sizeof one) < 0) log::warn("dns", "cannot wake the threads");
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(impl_->mutex);
    threads.swap(impl_->threads);
    boost::system::error_code ec;
    for (auto& a : impl_->acceptors) a->close(ec);
  }
  for (auto& t : threads) t.join();
}

void DnsServer::set_zone(std::shared_ptr<const Zone> zone) {
  std::lock_guard lock(impl_->mutex);
  impl_->current = std::move(zone);
}

}  // namespace croft::discovery
