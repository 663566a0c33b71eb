#include "discovery/udp_workers.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "base/log.hpp"
#include "discovery/dns_codec.hpp"
#include "discovery/rate_limit.hpp"

namespace croft::discovery {

namespace {

constexpr std::size_t batch = 32;
constexpr std::size_t packet_max = 2048;      // of a question; what is longer is cut and then malformed
constexpr int rounds_max = 8;                 // of one socket before the others get their turn
constexpr std::size_t control_max = 64;
constexpr int socket_buffer = 1 << 20;

Result<Fd> open_socket(const SocketAddress& at, bool shared) {
  Fd fd(::socket(at.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno("socket");
  int one = 1;
  if (shared) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  if (at.storage.ss_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &socket_buffer, sizeof socket_buffer);
  if (at.wildcard()) {
    ::setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
    if (at.storage.ss_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one);
  }
  if (::bind(fd.get(), at.get(), at.size) != 0) return fail_errno(fmt::format("bind {} (UDP)", at.str()));
  return fd;
}

/// What told where a packet came in is what tells where the answer goes out, but by any interface.
void turn_round(msghdr& m) {
  for (auto* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) reinterpret_cast<in_pktinfo*>(CMSG_DATA(c))->ipi_ifindex = 0;
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      auto* info = reinterpret_cast<in6_pktinfo*>(CMSG_DATA(c));
      if (!IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr)) info->ipi6_ifindex = 0;
    }
  }
}

}  // namespace

void UdpPeer::send(std::string_view answer) const {
  iovec io{const_cast<char*>(answer.data()), answer.size()};
  auto target = to;
  auto about = control;
  msghdr m{};
  m.msg_name = &target.storage;
  m.msg_namelen = target.size;
  m.msg_iov = &io;
  m.msg_iovlen = 1;
  if (!about.empty()) m.msg_control = about.data(), m.msg_controllen = about.size();
  ::sendmsg(socket->fd.get(), &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// One thread with its buffers. Slot i of everything belongs to packet i of the batch.
struct UdpWorkers::Worker {
  explicit Worker(UdpWorkers& o) : owner(o), zone(o.zones_), limit(o.options_.answers_per_second), epoll(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.ptr = nullptr;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, owner.wake_.get(), &e);
  }

  void run() {
    epoll_event ready[16];
    while (!owner.stopping_) {
      int n = ::epoll_wait(epoll.get(), ready, 16, -1);
      if (n < 0 && errno != EINTR) {
        log::error("dns", "{}", errno_error("epoll_wait", errno).context);
        return;
      }
      for (int i = 0; i < n; ++i)
        if (ready[i].data.ptr) serve(static_cast<UdpSocket*>(ready[i].data.ptr));
    }
  }

  void serve(UdpSocket* socket) {
    for (int round = 0; round < rounds_max; ++round) {
      auto got = receive(*socket);
      if (got == 0) return;
      answer(*socket, got);
      if (got < batch) return;  // level-triggered: what came meanwhile is seen at once
    }
  }

  std::size_t receive(const UdpSocket& socket) {
    for (std::size_t i = 0; i < batch; ++i) {
      in_io[i] = {in[i].data(), packet_max};
      auto& h = in_msgs[i].msg_hdr;
      h.msg_name = &from[i];
      h.msg_namelen = sizeof from[i];
      h.msg_iov = &in_io[i];
      h.msg_iovlen = 1;
      h.msg_control = socket.wildcard ? control[i].data() : nullptr;
      h.msg_controllen = socket.wildcard ? control_max : 0;
      h.msg_flags = 0;
    }
    int n = ::recvmmsg(socket.fd.get(), in_msgs.data(), batch, MSG_DONTWAIT, nullptr);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  void answer(UdpSocket& socket, std::size_t got) {
    const auto& z = zone.now();
    auto now = owner.options_.answers_per_second ? std::chrono::steady_clock::now() : Mono{};
    ReplyOptions options;
    options.cookies = &owner.options_.cookies;
    options.now = static_cast<std::uint32_t>(std::chrono::duration_cast<Seconds>(system_now().wall.time_since_epoch()).count());
    std::size_t sends = 0;
    for (std::size_t i = 0; i < got; ++i) {
      std::string_view packet(in[i].data(), in_msgs[i].msg_len);
      options.turn = turn++;
      options.address = address_of(from[i]);
      options.recursion = owner.options_.recursion && is_near(options.address, owner.options_.clients);
      auto verdict = owner.options_.answers_per_second ? limit.ask(options.address, now) : RateLimit::Verdict::answer;
      if (verdict != RateLimit::Verdict::answer && has_valid_cookie(packet, options)) verdict = RateLimit::Verdict::answer;
      auto reply = verdict == RateLimit::Verdict::answer ? reply_to(packet, z, options, out[sends]) : limited(packet, verdict, out[sends]);
      owner.tally_.count(reply);
      if (reply.action == Reply::Action::forward) forward(socket, i, packet, reply.limit);
      if (reply.action != Reply::Action::send) continue;
      out_io[sends] = {out[sends].data(), reply.size};
      auto& h = out_msgs[sends].msg_hdr;
      h = in_msgs[i].msg_hdr;
      h.msg_iov = &out_io[sends];
      if (h.msg_controllen > 0) turn_round(h);
      ++sends;
    }
    for (std::size_t sent = 0; sent < sends;) {
      int n = ::sendmmsg(socket.fd.get(), out_msgs.data() + sent, static_cast<unsigned>(sends - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && errno == EAGAIN) return;  // the network is full: askers ask again
      sent += n > 0 ? static_cast<std::size_t>(n) : 1;
    }
  }

  Reply limited(std::string_view packet, RateLimit::Verdict verdict, std::span<char> to) {
    owner.tally_.limited.add();
    Reply r;
    if (verdict != RateLimit::Verdict::truncate) return r;
    auto text = error_reply(packet, Rcode::noerror, owner.options_.recursion, true);
    if (text.empty()) return r;
    std::memcpy(to.data(), text.data(), text.size());
    r.action = Reply::Action::send;
    r.size = text.size();
    r.truncated = true;
    return r;
  }

  void forward(UdpSocket& socket, std::size_t i, std::string_view packet, std::size_t most) {
    UdpPeer peer;
    {
      std::lock_guard lock(owner.mutex_);
      for (const auto& s : owner.sockets_)
        if (s.get() == &socket) peer.socket = s;
    }
    auto& h = in_msgs[i].msg_hdr;
    std::memcpy(&peer.to.storage, &from[i], h.msg_namelen);
    peer.to.size = h.msg_namelen;
    if (h.msg_controllen > 0) {
      turn_round(h);
      peer.control.assign(static_cast<const char*>(h.msg_control), h.msg_controllen);
    }
    owner.forward_(std::string(packet), most, std::move(peer));
  }

  static std::string_view address_of(const sockaddr_storage& s) {
    if (s.ss_family == AF_INET) return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in&>(s).sin_addr), 4};
    return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in6&>(s).sin6_addr), 16};
  }

  UdpWorkers& owner;
  ZoneHolder::Reader zone;
  RateLimit limit;
  Fd epoll;
  std::uint32_t turn = 0;
  std::array<std::array<char, packet_max>, batch> in;
  std::array<std::array<char, udp_answer_max>, batch> out;
  std::array<sockaddr_storage, batch> from;
  alignas(cmsghdr) std::array<std::array<char, control_max>, batch> control;
  std::array<iovec, batch> in_io, out_io;
  std::array<mmsghdr, batch> in_msgs, out_msgs;
  std::thread thread;
};

UdpWorkers::UdpWorkers(Options options, const ZoneHolder& zones, DnsTally& tally, Forward forward)
    : options_(options), zones_(zones), tally_(tally), forward_(std::move(forward)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (int i = 0; i < std::max(1, options_.threads); ++i) {
    workers_.push_back(std::make_unique<Worker>(*this));
    workers_.back()->thread = std::thread([worker = workers_.back().get()] { worker->run(); });
  }
}

UdpWorkers::~UdpWorkers() { stop(); }

Status UdpWorkers::add(const SocketAddress& at) {
  {
    // Without this, a second process of the same user would take half of the questions, and neither would know.
    auto alone = open_socket(at, false);
    if (!alone) return fail(std::move(alone).error());
  }
  std::vector<std::shared_ptr<UdpSocket>> made;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    auto fd = open_socket(at, true);
    if (!fd) return fail(std::move(fd).error());
    made.push_back(std::make_shared<UdpSocket>(std::move(*fd), at.wildcard()));
  }
  std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < made.size(); ++i) {
    sockets_.push_back(made[i]);
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.ptr = made[i].get();
    ::epoll_ctl(workers_[i]->epoll.get(), EPOLL_CTL_ADD, made[i]->fd.get(), &e);
  }
  return {};
}

void UdpWorkers::stop() {
  if (stopping_.exchange(true)) return;
  std::uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) log::warn("dns", "cannot wake the threads");
  for (auto& w : workers_) w->thread.join();
  std::lock_guard lock(mutex_);
  sockets_.clear();
}

}  // namespace croft::discovery
