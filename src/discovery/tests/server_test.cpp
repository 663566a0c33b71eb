#include "discovery/dns_server.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/thread_pool.hpp>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/files.hpp"
#include "builders.hpp"
#include "discovery/dns_address.hpp"
#include "discovery/dns_codec.hpp"
#include "discovery/rate_limit.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {
namespace {

using Lines = std::vector<std::string>;
constexpr int patience_ms = 5000;

Fd connected(int type, std::uint16_t port) {
  auto at = *socket_address("127.0.0.1", port);
  Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), at.get(), at.size) != 0) fd.reset();
  return fd;
}
bool readable(const Fd& fd, int ms = patience_ms) {
  pollfd p{fd.get(), POLLIN, 0};
  return ::poll(&p, 1, ms) > 0;
}
std::string receive(const Fd& fd, int ms = patience_ms) {
  if (!readable(fd, ms)) return {};
  std::string in(65536, '\0');
  auto n = ::recv(fd.get(), in.data(), in.size(), 0);
  in.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return in;
}
std::string ask_udp(std::uint16_t port, const std::string& packet) {
  auto fd = connected(SOCK_DGRAM, port);
  ::send(fd.get(), packet.data(), packet.size(), 0);
  return receive(fd);
}
std::string framed(const std::string& packet) {
  std::string out;
  append16(out, static_cast<std::uint16_t>(packet.size()));
  return out + packet;
}
/// One message from a TCP connection; "" at its end.
std::string next(const Fd& fd) {
  std::string in;
  auto read_to = [&](std::size_t size) -> bool {
    while (in.size() < size && readable(fd)) {
      char block[4096];
      auto n = ::recv(fd.get(), block, std::min(sizeof block, size - in.size()), 0);
      if (n <= 0) return false;
      in.append(block, static_cast<std::size_t>(n));
    }
    return in.size() == size;
  };
  if (!read_to(2)) return {};
  auto size = get16(in.data());
  in.clear();
  return read_to(size) ? in : std::string();
}

/// A resolver of our own: says what it is told to, over UDP and TCP on one port.
class Upstream {
 public:
  using Make = std::function<Lines(std::string packet, bool tcp)>;   ///< zero or more answers, sent in order
  explicit Upstream(Make make) : make_(std::move(make)) {
    for (int tries = 0; tries < 20; ++tries) {
      auto at = *socket_address("127.0.0.1", 0);
      tcp_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      EXPECT_EQ(::bind(tcp_.get(), at.get(), at.size), 0);
      ::getsockname(tcp_.get(), at.get(), &at.size);
      udp_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      port_ = at.port();
      if (::bind(udp_.get(), at.get(), at.size) == 0) break;
    }
    ::listen(tcp_.get(), 8);
    thread_ = std::thread([this] { run(); });
  }
  ~Upstream() {
    stopping_ = true;
    thread_.join();
  }
  std::string str() const { return "127.0.0.1:" + std::to_string(port_); }
  int asked() const { return asked_; }

 private:
  void run() {
    while (!stopping_) {
      pollfd p[2]{{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}};
      if (::poll(p, 2, 5) <= 0) continue;
      if (p[0].revents) {
        std::string in(4096, '\0');
        SocketAddress from;
        from.size = sizeof from.storage;
        auto n = ::recvfrom(udp_.get(), in.data(), in.size(), 0, from.get(), &from.size);
        in.resize(static_cast<std::size_t>(n));
        ++asked_;
        for (const auto& text : make_(in, false)) ::sendto(udp_.get(), text.data(), text.size(), 0, from.get(), from.size);
      }
      if (p[1].revents) {
        Fd one(::accept(tcp_.get(), nullptr, nullptr));
        auto in = next(one);
        ++asked_;
        for (const auto& text : make_(in, true)) {
          auto out = framed(text);
          ::send(one.get(), out.data(), out.size(), MSG_NOSIGNAL);
        }
      }
    }
  }
  Make make_;
  Fd udp_, tcp_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> asked_{0};
  std::thread thread_;
};

/// The question with one A record, 10.9.8.7.
std::string with_address(std::string packet) {
  packet[2] = static_cast<char>(packet[2] | 0x80);
  packet[7] = 1;
  append16(packet, 0xC00C), append16(packet, 1), append16(packet, 1), append32(packet, 60), append16(packet, 4);
  return packet + "\x0a\x09\x08\x07";
}

class DnsServing : public ::testing::Test {
 protected:
  std::uint16_t start(DnsOptions o = {}) {
    if (o.resolvers.empty()) o.forward = false;
    if (o.listen.empty()) o.listen = {{"127.0.0.1", 0, false}};
    server_ = std::make_unique<DnsServer>(pool_.get_executor(), o, metrics_);
    auto ok = server_->start();
    EXPECT_TRUE(ok) << (ok ? "" : ok.error().context);
    auto e = endpoint("t.u1", "/a");
    server_->set_zone(zone_of(content_of({e})));
    return server_->port();
  }
  void TearDown() override {
    if (server_) server_->stop();
    server_.reset();
    pool_.join();
  }
  bool metric(const std::string& line) { return metrics_.print().find(line) != std::string::npos; }
  boost::asio::thread_pool pool_{2};
  Metrics metrics_;
  std::unique_ptr<DnsServer> server_;
};

const Ask ours{.name = "a.marathon.mesos"}, theirs{.name = "www.example.com"};

TEST_F(DnsServing, AnswersByUdp) {
  auto port = start({.listen = {}, .resolvers = {}, .threads = 2});
  for (int i = 0; i < 20; ++i) {
    auto r = read_answer(ask_udp(port, packet_of(ours)));
    EXPECT_EQ(r.answers, Lines{"a.marathon.mesos. A 192.168.99.21"});
  }
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).rcode, 5);
  EXPECT_TRUE(metric("croft_dns_queries_total{transport=\"udp\",rcode=\"NOERROR\"} 20"));
  EXPECT_TRUE(metric("croft_dns_queries_total{transport=\"udp\",rcode=\"REFUSED\"} 1"));
}

TEST_F(DnsServing, AnswersABurst) {
  auto port = start();
  auto fd = connected(SOCK_DGRAM, port);
  auto packet = packet_of(ours);
  for (int i = 0; i < 200; ++i) {
    put16(packet.data(), static_cast<std::uint16_t>(i));
    ASSERT_GT(::send(fd.get(), packet.data(), packet.size(), 0), 0);
  }
  std::set<std::uint16_t> seen;
  for (int i = 0; i < 200; ++i) {
    auto in = receive(fd);
    ASSERT_FALSE(in.empty());
    seen.insert(get16(in.data()));
  }
  EXPECT_EQ(seen.size(), 200u);
}

TEST_F(DnsServing, ANewZoneAnswersAtOnce) {
  auto port = start();
  auto e = endpoint("t.u1", "/a");
  e.ip = "10.0.0.77";
  server_->set_zone(zone_of(content_of({e})));
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(ours))).answers, Lines{"a.marathon.mesos. A 10.0.0.77"});
}

TEST_F(DnsServing, NoiseIsAnsweredOrIgnoredAndLifeGoesOn) {
  auto port = start();
  auto fd = connected(SOCK_DGRAM, port);
  for (const auto& noise : Lines{"", "x", "0123456789ab", std::string(12, '\xff'), "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20"}) ::send(fd.get(), noise.data(), noise.size(), 0);
  std::string huge(60'000, '\0');
  ::send(fd.get(), huge.data(), huge.size(), 0);
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(ours))).answers.size(), 1u);
}

TEST_F(DnsServing, SaysFromWhereItAnswersOnAWildcard) {
  auto port = start({.listen = {{"0.0.0.0", 0, false}}, .resolvers = {}});
  auto at = *socket_address("127.0.0.9", port);
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(fd.get(), at.get(), at.size), 0);  // takes answers from 127.0.0.9 only
  auto packet = packet_of(ours);
  ::send(fd.get(), packet.data(), packet.size(), 0);
  EXPECT_FALSE(receive(fd).empty());
}

TEST_F(DnsServing, AnswersByTcpOneBehindTheOther) {
  auto port = start();
  auto fd = connected(SOCK_STREAM, port);
  std::string all;
  for (std::uint16_t i = 0; i < 50; ++i) {
    auto ask = ours;
    ask.id = i;
    all += framed(packet_of(ask));
  }
  for (std::size_t at = 0; at < all.size(); at += 7) ::send(fd.get(), all.data() + at, std::min<std::size_t>(7, all.size() - at), 0);
  for (std::uint16_t i = 0; i < 50; ++i) {
    auto r = read_answer(next(fd));
    ASSERT_TRUE(r.ok);
    EXPECT_EQ(r.id, i);
    EXPECT_EQ(r.answers.size(), 1u);
  }
}

TEST_F(DnsServing, ClosesIdleAndMalformedTcpConnections) {
  auto port = start({.listen = {}, .resolvers = {}, .tcp_idle = std::chrono::milliseconds(30)});
  auto idle = connected(SOCK_STREAM, port);
  EXPECT_EQ(next(idle), "");  // closed, not timed out
  char byte;
  EXPECT_EQ(::recv(idle.get(), &byte, 1, MSG_DONTWAIT), 0);
  for (std::string bad : {std::string("\0\5hello", 7), std::string("\xff\xff", 2)}) {
    auto fd = connected(SOCK_STREAM, port);
    ::send(fd.get(), bad.data(), bad.size(), 0);
    EXPECT_EQ(next(fd), "");
  }
}

TEST_F(DnsServing, TakesNoMoreTcpConnectionsThanItMay) {
  auto port = start({.listen = {}, .resolvers = {}, .tcp_connections_max = 2});
  auto one = connected(SOCK_STREAM, port), two = connected(SOCK_STREAM, port);
  auto q = framed(packet_of(ours));
  for (auto* fd : {&one, &two}) {
    ::send(fd->get(), q.data(), q.size(), 0);
    EXPECT_FALSE(next(*fd).empty());
  }
  auto three = connected(SOCK_STREAM, port);
  EXPECT_EQ(next(three), "");
  ::send(one.get(), q.data(), q.size(), 0);
  EXPECT_FALSE(next(one).empty());
}

TEST_F(DnsServing, ForwardsOthersNamesByUdpAndTcp) {
  Upstream up([](std::string p, bool) { return Lines{with_address(p)}; });
  auto port = start({.listen = {}, .resolvers = {up.str()}});
  auto packet = packet_of(theirs);
  auto r = read_answer(ask_udp(port, packet));
  EXPECT_EQ(r.id, 0x1234);
  EXPECT_EQ(r.answers, Lines{"www.example.com. A 10.9.8.7"});
  auto fd = connected(SOCK_STREAM, port);
  auto q = framed(packet);
  ::send(fd.get(), q.data(), q.size(), 0);
  EXPECT_EQ(read_answer(next(fd)).answers.size(), 1u);
  EXPECT_EQ(up.asked(), 2);
  EXPECT_TRUE(read_answer(ask_udp(port, packet_of(ours))).ra);
  EXPECT_EQ(up.asked(), 2);
}

TEST_F(DnsServing, TheForwardedIdIsNotTheAskers) {
  std::atomic<int> same{0};
  Upstream up([&](std::string p, bool) {
    if (get16(p.data()) == 0x1234) ++same;
    return Lines{with_address(p)};
  });
  auto port = start({.listen = {}, .resolvers = {up.str()}});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).id, 0x1234);
  EXPECT_LT(same, 3);
}

TEST_F(DnsServing, PassesOverAnswersThatAreNotToTheQuestion) {
  Upstream up([](std::string p, bool) {
    auto wrong_id = with_address(p), wrong_name = with_address(p), question = p;
    wrong_id[0] = static_cast<char>(wrong_id[0] ^ 1);
    wrong_name[14] = 'x';
    return Lines{"short", question, wrong_id, wrong_name, with_address(p)};
  });
  auto port = start({.listen = {}, .resolvers = {up.str()}});
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).answers, Lines{"www.example.com. A 10.9.8.7"});
}

TEST_F(DnsServing, GoesToTheNextResolverAndRemembersIt) {
  Upstream mute([](std::string, bool) { return Lines{}; });
  Upstream good([](std::string p, bool) { return Lines{with_address(p)}; });
  auto port = start({.listen = {}, .resolvers = {mute.str(), good.str()}, .resolver_timeout = std::chrono::milliseconds(50)});
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).answers.size(), 1u);
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).answers.size(), 1u);
  EXPECT_EQ(mute.asked(), 1);
  EXPECT_EQ(good.asked(), 2);
}

TEST_F(DnsServing, SaysServfailWhenNoResolverAnswers) {
  Upstream mute([](std::string, bool) { return Lines{}; });
  auto port = start({.listen = {}, .resolvers = {mute.str()}, .resolver_timeout = std::chrono::milliseconds(20)});
  auto r = read_answer(ask_udp(port, packet_of(theirs)));
  EXPECT_EQ(r.rcode, 2);
  EXPECT_EQ(r.id, 0x1234);
  EXPECT_TRUE(metric("croft_dns_forward_failures_total 1"));
  auto fd = connected(SOCK_STREAM, port);
  auto q = framed(packet_of(theirs));
  ::send(fd.get(), q.data(), q.size(), 0);
  EXPECT_EQ(read_answer(next(fd)).rcode, 2);
}

TEST_F(DnsServing, BoundsWhatIsUnderWay) {
  Upstream mute([](std::string, bool) { return Lines{}; });
  auto port = start({.listen = {}, .resolvers = {mute.str()}, .resolver_timeout = std::chrono::milliseconds(300), .forwards_max = 0});
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).rcode, 2);
  EXPECT_EQ(mute.asked(), 0);
}

TEST_F(DnsServing, CutsAForwardedAnswerThatTheAskerCannotTake) {
  Upstream up([](std::string p, bool) {
    auto out = with_address(p);
    out.resize(900, '\0');
    return Lines{out};
  });
  auto port = start({.listen = {}, .resolvers = {up.str()}});
  auto packet = packet_of(theirs);
  auto cut = read_answer(ask_udp(port, packet));
  EXPECT_TRUE(cut.tc);
  EXPECT_TRUE(cut.answers.empty());
  auto ask = theirs;
  ask.edns = 1232;
  auto fd = connected(SOCK_DGRAM, port);
  packet = packet_of(ask);
  ::send(fd.get(), packet.data(), packet.size(), 0);
  EXPECT_EQ(receive(fd).size(), 900u);
}

TEST_F(DnsServing, WaitsForAnAddressThatIsNotThereYet) {
  auto at = *socket_address("127.0.0.1", 0);
  Fd holder(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(holder.get(), at.get(), at.size), 0);
  ::getsockname(holder.get(), at.get(), &at.size);
  start({.listen = {{"127.0.0.1", 0, false}, {"127.0.0.1", at.port(), true}}, .resolvers = {}, .bind_again = std::chrono::milliseconds(10)});
  EXPECT_EQ(server_->port(1), 0);
  holder.reset();
  for (int i = 0; i < 5000 && server_->port(1) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(read_answer(ask_udp(server_->port(1), packet_of(ours))).answers.size(), 1u);
}

TEST_F(DnsServing, RefusesToStartBesideAnotherOrOnNonsense) {
  auto port = start();
  auto try_one = [&](DnsOptions o) {
    DnsServer other(pool_.get_executor(), std::move(o), metrics_);
    auto ok = other.start();
    return ok ? std::string() : ok.error().context;
  };
  auto taken = try_one({.listen = {{"127.0.0.1", port, false}}, .resolvers = {}});
  EXPECT_NE(taken.find("127.0.0.1:" + std::to_string(port)), std::string::npos) << taken;
  EXPECT_NE(try_one({.listen = {{"nowhere", 53, false}}, .resolvers = {}}).find("'nowhere'"), std::string::npos);
  EXPECT_NE(try_one({.listen = {}, .resolvers = {"1.2.3.4:x"}}).find("'1.2.3.4:x'"), std::string::npos);
}

TEST_F(DnsServing, DoesNotForwardToItself) {
  Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto at = *socket_address("127.0.0.1", 0);
  ASSERT_EQ(::bind(probe.get(), at.get(), at.size), 0);
  ::getsockname(probe.get(), at.get(), &at.size);
  probe.reset();
  auto port = start({.listen = {{"127.0.0.1", at.port(), false}}, .resolvers = {at.str()}});
  EXPECT_EQ(read_answer(ask_udp(port, packet_of(theirs))).rcode, 5);
}

TEST(RateLimit, StrangersHaveABudgetAndNeighboursNot) {
  RateLimit limit(10);
  Mono now(std::chrono::seconds(100));
  auto stranger = *address_bytes("203.0.113.7"), same_net = *address_bytes("203.0.113.200"), other = *address_bytes("198.51.100.1");
  int answered = 0, truncated = 0, dropped = 0;
  for (int i = 0; i < 30; ++i) {
    auto v = limit.ask(i % 2 ? stranger : same_net, now);
    (v == RateLimit::Verdict::answer ? answered : v == RateLimit::Verdict::truncate ? truncated : dropped)++;
  }
  EXPECT_EQ(answered, 10);
  EXPECT_EQ(truncated, 10);
  EXPECT_EQ(dropped, 10);
  EXPECT_EQ(limit.ask(other, now), RateLimit::Verdict::answer);
  EXPECT_EQ(limit.ask(stranger, now + std::chrono::milliseconds(150)), RateLimit::Verdict::answer);
  for (auto near : {"127.0.0.1", "10.1.2.3", "172.17.0.2", "192.168.1.1", "169.254.1.1", "::1", "fd01::1", "fe80::1", "::ffff:10.0.0.1"})
    for (int i = 0; i < 30; ++i) ASSERT_EQ(limit.ask(*address_bytes(near), now), RateLimit::Verdict::answer) << near;
  int six = 0;
  for (int i = 0; i < 30; ++i) six += limit.ask(*address_bytes("2001:db8::1"), now) == RateLimit::Verdict::answer;
  EXPECT_EQ(six, 10);
  RateLimit none(0);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(none.ask(stranger, now), RateLimit::Verdict::answer);
}

TEST(Addresses, ResolversAreReadAsPeopleWriteThem) {
  EXPECT_EQ(resolver_address("10.0.0.1")->str(), "10.0.0.1:53");
  EXPECT_EQ(resolver_address("10.0.0.1:5353")->str(), "10.0.0.1:5353");
  EXPECT_EQ(resolver_address("fd01::2")->str(), "[fd01::2]:53");
  EXPECT_EQ(resolver_address("[fd01::2]:5353")->str(), "[fd01::2]:5353");
  EXPECT_EQ(resolver_address("[fd01::2]")->str(), "[fd01::2]:53");
  for (auto bad : {"", "dns.example.com", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0", "[fd01::2", "[fd01::2]x", "fd01::2:zz"})
    EXPECT_FALSE(resolver_address(bad)) << bad;
}

TEST(Addresses, TheSystemsResolvers) {
  char name[] = "/tmp/croft-resolv-XXXXXX";
  Fd fd(::mkstemp(name));
  std::ofstream(name) << "# a comment\nsearch example.com\nnameserver 10.0.0.1\nnameserver\tfd01::2 # two\nnameserver nonsense\nnameserverx 1.2.3.4\noptions edns0\n";
  EXPECT_EQ(system_resolvers(name), (Lines{"10.0.0.1", "fd01::2"}));
  std::filesystem::remove(name);
  EXPECT_TRUE(system_resolvers(name).empty());
}

}  // namespace
}  // namespace croft::discovery
