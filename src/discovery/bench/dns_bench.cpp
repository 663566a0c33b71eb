// croft_discovery_bench            ns an answer of the codec, and us a change at 50,000 tasks
// croft_discovery_bench serve PORT answers on 127.0.0.1:PORT with one thread until its input ends; then prints its CPU time. For dnsperf.

#include <malloc.h>
#include <sys/resource.h>

#include <boost/asio/thread_pool.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "base/text.hpp"
#include "discovery/dns_codec.hpp"
#include "discovery/dns_server.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {
namespace {

using Steady = std::chrono::steady_clock;

double us_since(Steady::time_point begun) { return std::chrono::duration<double, std::micro>(Steady::now() - begun).count(); }

catalog::Content farm(int apps, int instances) {
  catalog::Content c;
  c.masters = {{"m1", "10.0.0.1", 5050, true}};
  for (int a = 0; a < apps; ++a) {
    AppId app("/group/app" + std::to_string(a));
    c.services[app].app = app;
    for (int i = 0; i < instances; ++i) {
      catalog::Endpoint e;
      e.app = app;
      e.task = TaskId(fmt::format("group_app{}.{:08x}-0000-0000-0000-{:012x}", a, a * 7919, i));
      e.agent = AgentId("c0ffee-S" + std::to_string((a * instances + i) % 1000));
      e.ip = fmt::format("10.1.{}.{}", (a + i) % 250, i % 250);
      PortSpec p;
      p.host_port = static_cast<std::uint16_t>(31000 + i);
      e.ports = {p};
      c.endpoints[e.task] = std::move(e);
    }
  }
  return c;
}

std::string question(const std::string& name, std::uint16_t type) {
  std::string p;
  for (int v : {1, 0x0100, 1, 0, 0, 1}) append16(p, static_cast<std::uint16_t>(v));
  p += *to_wire(name);
  append16(p, type), append16(p, 1);
  p.push_back('\0');
  append16(p, 41), append16(p, 1232), append32(p, 0), append16(p, 0);
  return p;
}

std::shared_ptr<const Zone> zone_of(const catalog::Content& c) {
  ZoneBuilder b(ZoneOptions{});
  catalog::Follower::Change all;
  all.all = true;
  b.apply(c, all);
  return b.zone();
}

void codec() {
  auto z = zone_of(farm(300, 3));
  struct Case { const char* what; const char* pattern; std::uint16_t type; };
  for (auto [what, pattern, type] : {Case{"A", "app{}-group.marathon.mesos", 1}, Case{"SRV of 3", "_app{}-group._tcp.marathon.mesos", 33}, Case{"NXDOMAIN", "nobody{}.marathon.mesos", 1}}) {
    std::vector<std::string> questions;
    for (int a = 0; a < 300; ++a) questions.push_back(question(fmt::format(fmt::runtime(pattern), a), type));
    std::array<char, udp_answer_max> out;
    std::size_t bytes = 0;
    constexpr int rounds = 2000;
    auto begun = Steady::now();
    for (int r = 0; r < rounds; ++r)
      for (const auto& q : questions) {
        ReplyOptions o;
        o.turn = static_cast<std::uint32_t>(r);
        bytes += reply_to(q, *z, o, out).size;
      }
    std::printf("codec %-9s %6.0f ns an answer, %zu bytes\n", what, us_since(begun) * 1000 / (rounds * 300.0), bytes / (rounds * 300));
  }
}

double heap_mb() { return static_cast<double>(::mallinfo2().uordblks + ::mallinfo2().hblkhd) / 1e6; }

void changes() {
  auto c = farm(10'000, 5);
  auto heap = heap_mb();
  ZoneBuilder b(ZoneOptions{});
  catalog::Follower::Change all;
  all.all = true;
  auto begun = Steady::now();
  b.apply(c, all);
  std::printf("zone of %zu tasks, %zu names: %.0f ms\n", c.endpoints.size(), b.zone()->names.size(), us_since(begun) / 1000);
  std::printf("heap: catalog copy %.0f MB, zone and its builder %.0f MB\n", heap, heap_mb() - heap);
  constexpr int n = 2000;
  std::shared_ptr<const Zone> held;
  begun = Steady::now();
  auto at = c.endpoints.begin();
  for (int i = 0; i < n; ++i) {
    for (int skip = 0; skip < 23; ++skip) ++at;
    at->second.draining = true;
    catalog::Follower::Change one;
    one.apps = {at->second.app};
    one.endpoints = {at->first};
    b.apply(c, one);
    held = b.zone();
  }
  std::printf("a change, published: %.1f us\n", us_since(begun) / n);
}

double cpu_seconds() {
  rusage r{};
  ::getrusage(RUSAGE_SELF, &r);
  return static_cast<double>(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + static_cast<double>(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

int serve(std::uint16_t port) {
  boost::asio::thread_pool pool(1);
  Metrics metrics;
  DnsOptions o;
  o.listen = {{"127.0.0.1", port, false}};
  o.forward = false;
  DnsServer server(pool.get_executor(), o, metrics);
  if (auto ok = server.start(); !ok) {
    std::fprintf(stderr, "%s\n", ok.error().context.c_str());
    return 1;
  }
  server.set_zone(zone_of(farm(300, 3)));
  auto before = cpu_seconds();
  std::string line;
  while (std::getline(std::cin, line)) {}
  auto spent = cpu_seconds() - before;
  double answered = 0;
  for (auto code : {"NOERROR", "NXDOMAIN"})
    answered += static_cast<double>(metrics.counter("croft_dns_queries_total", "", fmt::format("transport=\"udp\",rcode=\"{}\"", code)).value());
  std::printf("%.0f answers, %.2f s of CPU, %.2f us a query, %.0f queries a CPU second\n", answered, spent, spent * 1e6 / answered, answered / spent);
  server.stop();
  pool.join();
  return 0;
}

}  // namespace
}  // namespace croft::discovery

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "serve") == 0) return croft::discovery::serve(static_cast<std::uint16_t>(std::atoi(argv[2])));
  croft::discovery::codec();
  croft::discovery::changes();
  return 0;
}
