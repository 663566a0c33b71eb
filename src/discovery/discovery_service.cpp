#include "discovery/discovery_service.hpp"

#include <arpa/inet.h>

#include <boost/asio/strand.hpp>

#include <mutex>

#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::discovery {

namespace asio = boost::asio;
using net::Request;
using net::Response;

struct DiscoveryService::Impl : std::enable_shared_from_this<DiscoveryService::Impl> {
  Impl(asio::any_io_executor pool, DiscoveryOptions o, Metrics& metrics)
      : options(std::move(o)), server(pool, options.dns, metrics), builds(metrics.histogram("croft_dns_zone_build_seconds", "Time to build the zone after a change.")),
        subscription(asio::make_strand(pool), {options.masters, options.saved, std::chrono::milliseconds(3000)},
                     [this](const catalog::Follower& f, const catalog::Follower::Change&) { rebuild(f.content()); }) {
    metrics.sampled("croft_dns_stale", "1 while no leader is heard.", [this] { return subscription.stale() ? 1.0 : 0.0; });
  }

  void rebuild(const catalog::Content& content) {
    auto begun = std::chrono::steady_clock::now();
    auto made = build_zone(content, options.zone, ++serial);
    server.set_zone(made);
    {
      std::lock_guard lock(mutex);
      zone = made;
    }
    builds.observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }

  std::shared_ptr<const Zone> now() const {
    std::lock_guard lock(mutex);
    return zone;
  }

  DiscoveryOptions options;
  DnsServer server;
  Histogram& builds;
  std::uint32_t serial = 0;
  mutable std::mutex mutex;
  std::shared_ptr<const Zone> zone = std::make_shared<Zone>();  // mutex
  catalog::Subscription subscription;                           // last: it calls the others
};

namespace {

std::string ip_text(const std::array<std::uint8_t, 4>& a) { return fmt::format("{}.{}.{}.{}", a[0], a[1], a[2], a[3]); }
std::string ip_text(const std::array<std::uint8_t, 16>& a) {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(AF_INET6, a.data(), text, sizeof text) ? text : "";
}

std::string plain(std::string name) {
  while (name.ends_with('.')) name.pop_back();
  return lower(name);
}

void write_service(JsonWriter& w, const Zone& zone, const std::string& asked, const std::string& name) {
  w.begin_array();
  const auto* records = zone.find(name);
  bool any = false;
  if (records)
    for (const auto& srv : records->srv) {
      const auto* host = zone.find(srv.target);
      if (!host) continue;
      auto entry = [&](const std::string& ip) {
        w.begin_object().field("service", asked).field("host", srv.target + ".").field("ip", ip).field("port", std::to_string(srv.port)).end_object();
        any = true;
      };
      if (!host->a.empty()) entry(ip_text(host->a.front()));
      if (!host->aaaa.empty()) entry(ip_text(host->aaaa.front()));
    }
  if (!any) w.begin_object().field("service", "").field("host", "").field("ip", "").field("port", "").end_object();
  w.end_array();
}

void write_host(JsonWriter& w, const Zone& zone, const std::string& asked) {
  w.begin_array();
  const auto* records = zone.find(plain(asked));
  bool any = false;
  auto entry = [&](const std::string& ip) {
    w.begin_object().field("host", asked.ends_with('.') ? asked : asked + ".").field("ip", ip).end_object();
    any = true;
  };
  if (records) {
    for (const auto& a : records->a) entry(ip_text(a));
    for (const auto& a : records->aaaa) entry(ip_text(a));
  }
  if (!any) w.begin_object().field("host", "").field("ip", "").end_object();
  w.end_array();
}

void write_records(JsonWriter& w, const Zone& zone) {
  std::map<std::string, const Records*> sorted;
  for (const auto& [name, records] : zone.names) sorted.emplace(name, &records);
  w.begin_object().key("frameworks").begin_array().begin_object().field("name", "marathon").key("tasks").begin_array();
  for (const auto& [name, records] : sorted) {
    w.begin_object().field("name", name + ".").key("records").begin_array();
    for (const auto& a : records->a) w.begin_object().field("name", name + ".").field("host", ip_text(a)).field("rtype", "A").end_object();
    for (const auto& a : records->aaaa) w.begin_object().field("name", name + ".").field("host", ip_text(a)).field("rtype", "AAAA").end_object();
    for (const auto& s : records->srv) w.begin_object().field("name", name + ".").field("host", fmt::format("{}.:{}", s.target, s.port)).field("rtype", "SRV").end_object();
    w.end_array().end_object();
  }
  w.end_array().end_object().end_array().end_object();
}

}  // namespace

DiscoveryService::DiscoveryService(asio::any_io_executor pool, DiscoveryOptions options, Metrics& metrics) : impl_(std::make_shared<Impl>(std::move(pool), std::move(options), metrics)) {}
DiscoveryService::~DiscoveryService() = default;

Status DiscoveryService::start() {
  impl_->rebuild({});
  if (auto ok = impl_->server.start(); !ok) return ok;
  impl_->subscription.start();
  return {};
}

asio::awaitable<void> DiscoveryService::stop() {
  auto impl = impl_;
  co_await impl->subscription.stop();
  impl->server.stop();
}

void DiscoveryService::add_routes(net::Router& router) {
  auto impl = impl_;
  auto answer = [&](std::string_view pattern, std::function<void(JsonWriter&, const Zone&, const Request&)> write) {
    router.on("GET", pattern, [impl, write](Request r) -> asio::awaitable<Response> {
      JsonWriter w;
      write(w, *impl->now(), r);
      co_return Response::json(std::move(w).take());
    });
  };
  answer("/v1/version", [impl](JsonWriter& w, const Zone&, const Request&) {
    w.begin_object().field("Service", "Mesos-DNS").field("Version", impl->options.version).field("URL", "croft").end_object();
  });
  answer("/v1/config", [impl](JsonWriter& w, const Zone& zone, const Request&) {
    w.begin_object().field("Domain", zone.domain).field("TTL", zone.ttl).field("RefreshSeconds", 0).field("DNSOn", true).field("HTTPOn", true);
    w.key("IPSources").begin_array().value("netinfo").value("mesos").value("host").end_array().end_object();
  });
  answer("/v1/services/{service}", [](JsonWriter& w, const Zone& zone, const Request& r) {
    auto asked = r.params.at("service");
    write_service(w, zone, asked, plain(asked));
  });
  answer("/v1/hosts/{host}", [](JsonWriter& w, const Zone& zone, const Request& r) { write_host(w, zone, r.params.at("host")); });
  answer("/v1/enumerate", [](JsonWriter& w, const Zone& zone, const Request&) { write_records(w, zone); });
}

}  // namespace croft::discovery
