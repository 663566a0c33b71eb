#include "discovery/discovery_service.hpp"

#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>

#include "base/log.hpp"
#include "discovery/discovery_api.hpp"
#include "discovery/dns_address.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

namespace asio = boost::asio;
using Steady = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds silence_max{3000};

/// What the name server's own name answers: where it listens, loopback only when there is nothing else.
std::vector<std::string> own_addresses(const DnsOptions& dns) {
  std::vector<std::string> outside, loopback;
  for (const auto& where : dns.listen) {
    auto at = socket_address(where.address, where.port);
    if (!at) continue;
    if (at->wildcard()) {
      for (auto& a : host_addresses()) outside.push_back(std::move(a));
      continue;
    }
    bool local = where.address == "::1" || where.address.starts_with("127.");
    (local ? loopback : outside).push_back(where.address);
  }
  return outside.empty() ? loopback : outside;
}

DiscoveryOptions completed(DiscoveryOptions o) {
  if (o.zone.server_addresses.empty()) o.zone.server_addresses = own_addresses(o.dns);
  if (o.dns.forward && o.dns.resolvers.empty()) o.dns.resolvers = system_resolvers();
  auto seconds = std::chrono::duration_cast<Seconds>(system_now().wall.time_since_epoch()).count();
  if (o.zone.first_serial == 1) o.zone.first_serial = static_cast<std::uint32_t>(seconds);
  return o;
}

struct Shared {                                  // outlives the service: metrics and routes may be asked later
  std::atomic<double> names{0}, serial{0}, tasks{0};
};

}  // namespace

/// The farm as containers see it, on the bridge: a zone and a server of their own where addresses differ.
struct BridgeView {
  BridgeView(asio::any_io_executor pool, const DiscoveryOptions& o, Metrics& m) : address(o.bridge), server(std::move(pool), dns_of(o), m), builder(zone_of(o)) {}

  static DnsOptions dns_of(const DiscoveryOptions& o) {
    auto dns = o.dns;
    dns.listen = {{o.bridge, 53, true}};
    return dns;
  }
  static ZoneOptions zone_of(const DiscoveryOptions& o) {
    auto zone = o.zone;
    zone.loopback_as = o.bridge;
    return zone;
  }
  void publish() {
    auto made = builder.zone();
    server.set_zone(made);
    newest.set(std::move(made));
  }

  std::string address;
  DnsServer server;
  ZoneHolder newest;
  ZoneBuilder builder;                                   // the subscription's strand
};

struct DiscoveryService::Impl : std::enable_shared_from_this<DiscoveryService::Impl> {
  Impl(asio::any_io_executor p, DiscoveryOptions o, Metrics& m)
      : pool(std::move(p)), options(completed(std::move(o))), metrics(m), server(pool, options.dns, m),
        publishing(m.histogram("croft_dns_publish_seconds", "From a change that arrived to the zone that answers by it.")) {
    m.sampled("croft_dns_names", "Names in the zone.", [s = shared] { return s->names.load(); });
    m.sampled("croft_dns_tasks", "Instances that are named.", [s = shared] { return s->tasks.load(); });
    m.sampled("croft_dns_serial", "Serial of the zone; one more each time it changes.", [s = shared] { return s->serial.load(); });
  }

  /// On the subscription's strand.
  void take(const catalog::Content& content, const catalog::Follower::Change& change) {
    auto begun = Steady::now();
    if (bridge && bridge->builder.apply(content, change)) bridge->publish();
    if (!builder->apply(content, change)) return;
    publish();
    publishing.observe(std::chrono::duration<double>(Steady::now() - begun).count());
  }

  void publish() {
    auto made = builder->zone();
    server.set_zone(made);
    shared->names = static_cast<double>(made->names.size());
    shared->tasks = static_cast<double>(made->tasks);
    shared->serial = made->serial;
    newest.set(std::move(made));
  }

  [[nodiscard]] double stale_seconds() const {
    if (!subscription->stale()) return 0;
    return std::max(0.001, std::chrono::duration<double>(subscription->silence()).count());
  }

  asio::any_io_executor pool;
  DiscoveryOptions options;
  Metrics& metrics;
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  DnsServer server;
  Histogram& publishing;
  ZoneHolder newest;
  std::unique_ptr<ZoneBuilder> builder;                  // the subscription's strand
  std::unique_ptr<BridgeView> bridge;
  std::unique_ptr<catalog::Subscription> subscription;   // last: it calls the others
};

DiscoveryService::DiscoveryService(asio::any_io_executor pool, DiscoveryOptions options, Metrics& metrics)
    : impl_(std::make_shared<Impl>(std::move(pool), std::move(options), metrics)) {
  std::weak_ptr<Impl> weak = impl_;
  catalog::Subscription::Options o{impl_->options.masters, impl_->options.saved, silence_max};
  impl_->subscription = std::make_unique<catalog::Subscription>(asio::make_strand(impl_->pool), std::move(o), [weak](const catalog::Follower& f, const catalog::Follower::Change& c) {
    if (auto impl = weak.lock()) impl->take(f.content(), c);
  });
  metrics.sampled("croft_dns_stale_seconds", "How long no leader was heard; 0 while one is.", [weak] {
    auto impl = weak.lock();
    return impl ? impl->stale_seconds() : 0.0;
  });
}
DiscoveryService::~DiscoveryService() = default;

Status DiscoveryService::start() {
  auto& i = *impl_;
  auto domain = to_wire(i.options.zone.domain);
  if (!domain || domain->size() < 2) return fail(Errc::invalid, "DNS: the domain '{}' is not a name", i.options.zone.domain);
  i.builder = std::make_unique<ZoneBuilder>(i.options.zone);
  i.publish();
  if (auto ok = i.server.start(); !ok) return ok;
  if (!i.options.bridge.empty()) {
    i.bridge = std::make_unique<BridgeView>(i.pool, i.options, i.metrics);
    i.bridge->publish();
    if (auto ok = i.bridge->server.start(); !ok) return ok;
  }
  i.subscription->start();
  return {};
}

asio::awaitable<void> DiscoveryService::stop() {
  auto impl = impl_;
  co_await impl->subscription->stop();
  impl->server.stop();
  if (impl->bridge) impl->bridge->server.stop();
}

void DiscoveryService::add_routes(net::Router& router) {
  ApiInfo info;
  const auto& o = impl_->options;
  info.version = o.version;
  info.resolvers = o.dns.resolvers;
  for (const auto& m : o.masters) info.masters.push_back(m.str());
  if (!o.dns.listen.empty()) info.dns_port = o.dns.listen.front().port, info.listener = o.dns.listen.front().address;
  info.timeout_seconds = static_cast<int>(std::chrono::ceil<Seconds>(o.dns.resolver_timeout).count());
  auto impl = impl_;
  add_discovery_routes(router, std::move(info), [impl](const net::Request& r) { return impl->bridge && r.local.starts_with(impl->bridge->address + ":") ? impl->bridge->newest.get() : impl->newest.get(); }, [impl] { return impl->stale_seconds(); });
}

std::uint16_t DiscoveryService::dns_port(std::size_t i) const { return impl_->server.port(i); }

std::shared_ptr<const Zone> DiscoveryService::zone() const { return impl_->newest.get(); }

}  // namespace croft::discovery
