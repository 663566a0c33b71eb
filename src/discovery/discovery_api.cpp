#include "discovery/discovery_api.hpp"

#include <map>
#include <set>

#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "discovery/names.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

using net::Request;
using net::Response;

namespace {

/// Lower case, without final dots, and without ".*" as in DNS.
std::string plain(std::string_view name) {
  auto out = lower(name);
  while (out.ends_with('.')) out.pop_back();
  for (auto at = out.find(".*"); at != std::string::npos; at = out.find(".*")) out.erase(at, 2);
  return out;
}

/// The service's SRV name as it was given; else the app's: "fibonacci-service", "fibonacci.service", "service/fibonacci", and
/// "_fibonacci.service._tcp.marathon.mesos" all mean _fibonacci-service._tcp.marathon.mesos.
const Entry* find_service(const Zone& zone, std::string_view asked) {
  auto name = plain(asked);
  if (const auto* entry = zone.find(name); entry && !entry->services().empty()) return entry;
  std::string protocol = "_tcp", task = name;
  if (name.find('/') != std::string::npos) task = task_name_of(AppId(name.starts_with('/') ? name : "/" + name));
  if (name.starts_with('_')) {
    auto at = name.find("._tcp");
    if (at == std::string::npos) at = name.find("._udp");
    if (at == std::string::npos) return nullptr;
    protocol = name.substr(at + 1, 4);
    task = name.substr(1, at - 1);
  }
  auto label = label_of(task);
  return label.empty() ? nullptr : zone.find(fmt::format("{}.{}.marathon.{}", service_label(label), protocol, zone.domain));
}

void record(JsonWriter& w, const std::string& name, const std::string& host, std::string_view type) {
  w.begin_object().field("name", name).field("host", host).field("rtype", type).end_object();
}

std::string host_of(const Record& r) {
  if (r.kind != Kind::srv) return address_text(r.data);
  auto split = r.data.size() - 2;
  return fmt::format("{}.:{}", from_wire(std::string_view(r.data).substr(0, split)), get16(r.data.data() + split));
}

bool accepts_json(const Request& r) {
  auto accept = r.headers.get("Accept");
  if (accept.empty()) return true;
  for (auto wanted : {"*/*", "application/*", "application/json"})
    if (accept.find(wanted) != std::string_view::npos) return true;
  return false;
}

}  // namespace

std::string services_json(const Zone& zone, const std::string& asked) {
  JsonWriter w;
  w.begin_array();
  bool any = false;
  if (const auto* entry = find_service(zone, asked))
    for (const auto& target : entry->targets())
      for (const auto& ip : target.addresses) {
        w.begin_object().field("service", asked).field("host", target.name + ".").field("ip", ip).field("port", std::to_string(target.port)).end_object();
        any = true;
      }
  if (!any) w.begin_object().field("service", "").field("host", "").field("ip", "").field("port", "").end_object();
  w.end_array();
  return std::move(w).take();
}

std::string hosts_json(const Zone& zone, const std::string& asked) {
  auto name = plain(asked);
  const auto* entry = zone.find(name);
  JsonWriter w;
  w.begin_array();
  bool any = false;
  if (entry)
    for (const auto& ip : entry->addresses()) {
      w.begin_object().field("host", name + ".").field("ip", ip).end_object();
      any = true;
    }
  if (!any) w.begin_object().field("host", "").field("ip", "").end_object();
  w.end_array();
  return std::move(w).take();
}

std::string enumerate_json(const Zone& zone) {
  std::set<Record> said;  // a record that two tasks share stands under the first
  JsonWriter w;
  w.begin_object().key("frameworks").begin_array().begin_object().key("tasks").begin_array();
  zone.apps.for_each([&](const AppId& app, const std::shared_ptr<const NamedTasks>& tasks) {
    for (const auto& task : *tasks) {
      w.begin_object().field("name", task_name_of(app)).field("id", task->task).key("records").begin_array();
      for (const auto& r : records_of(*task, zone.domain))
        if (said.insert(r).second) record(w, from_wire(r.owner) + ".", host_of(r), r.kind == Kind::srv ? "SRV" : r.kind == Kind::a ? "A" : "AAAA");
      w.end_array().end_object();
    }
  });
  w.end_array().field("name", "marathon").end_object().end_array().end_object();
  return std::move(w).take();
}

std::string axfr_json(const Zone& zone) {
  std::map<std::string, const Entry*> sorted;
  zone.names.for_each([&](const Entry& e) { sorted.emplace(from_wire(e.name()) + ".", &e); });
  JsonWriter w;
  w.begin_object().field("TTL", zone.ttl).field("Serial", zone.serial).field("RefreshSeconds", 0);
  w.field("Mname", fmt::format("ns1.{}.", zone.domain)).field("Rname", fmt::format("root.ns1.{}.", zone.domain)).field("Domain", zone.domain);
  w.key("Records").begin_object();
  auto section = [&](std::string_view key, auto&& values_of) {
    w.key(key).begin_object();
    for (const auto& [name, entry] : sorted) {
      auto values = values_of(*entry);
      if (values.empty()) continue;
      w.key(name).begin_array();
      for (const auto& v : values) w.value(v);
      w.end_array();
    }
    w.end_object();
  };
  auto addresses = [](bool v6) {
    return [v6](const Entry& e) {
      auto all = e.addresses();
      std::erase_if(all, [&](const std::string& a) { return (a.find(':') != std::string::npos) != v6; });
      return all;
    };
  };
  section("As", addresses(false));
  section("AAAAs", addresses(true));
  section("SRVs", [](const Entry& e) {
    std::vector<std::string> out;
    for (const auto& t : e.targets()) out.push_back(fmt::format("{}.:{}", t.name, t.port));
    return out;
  });
  w.end_object().end_object();
  return std::move(w).take();
}

/// Mesos-DNS's fields in its order. What has no meaning here says what comes nearest: nothing is polled, nothing is kept in ZooKeeper.
std::string config_json(const Zone& zone, const ApiInfo& info) {
  JsonWriter w;
  auto texts = [&](std::string_view key, const std::vector<std::string>& list) {
    w.key(key).begin_array();
    for (const auto& t : list) w.value(t);
    w.end_array();
  };
  w.begin_object().field("RefreshSeconds", 0).field("Port", info.dns_port).field("Timeout", info.timeout_seconds).field("StateTimeoutSeconds", 0);
  w.field("ZkDetectionTimeout", 0).field("HttpPort", info.http_port).field("TTL", zone.ttl).field("SRVRecordDefaultWeight", 1).field("SOASerial", zone.serial);
  w.field("SOARefresh", 60).field("SOARetry", 600).field("SOAExpire", 86400).field("SOAMinttl", zone.ttl);
  w.field("SOAMname", fmt::format("ns1.{}.", zone.domain)).field("SOARname", fmt::format("root.ns1.{}.", zone.domain));
  texts("Masters", info.masters);
  w.key("ZoneResolvers").begin_object().end_object();
  texts("Resolvers", info.resolvers);
  texts("IPSources", {"host", "netinfo"});
  w.field("Zk", "").field("Domain", zone.domain).field("File", "").field("Listener", info.listener).field("HTTPListener", info.listener);
  w.field("RecurseOn", !info.resolvers.empty()).field("DnsOn", true).field("HttpOn", true).field("ExternalOn", !info.resolvers.empty());
  w.field("EnforceRFC952", false).field("SetTruncateBit", true).field("EnumerationOn", true).field("MesosHTTPSOn", false);
  w.field("CACertFile", "").field("CertFile", "").field("KeyFile", "");
  w.key("MesosCredentials").begin_object().field("Principal", "").field("Secret", "").end_object();
  w.field("IAMConfigFile", "").field("MesosAuthentication", "").end_object();
  return std::move(w).take();
}

void add_discovery_routes(net::Router& router, ApiInfo info, std::function<std::shared_ptr<const Zone>(const Request&)> zone, std::function<double()> stale_seconds) {
  using Body = std::function<std::string(const Zone&, const Request&)>;
  auto answer = [&](std::string_view pattern, bool wants_data, Body body) {
    router.on("GET", pattern, [=](Request r) -> net::asio::awaitable<Response> {
      if (!accepts_json(r)) co_return Response::text("406: Not Acceptable: only application/json is spoken here\n", 406);
      auto z = zone(r);
      if (wants_data && !z->loaded) co_return Response::message(503, "nothing was heard of the farm yet");
      auto text = body(*z, r);
      auto response = Response::json(std::move(text));
      if (auto stale = stale_seconds(); stale > 0) response.headers.set("X-Croft-Stale", fmt::format("{:.0f}", stale));
      co_return response;
    });
  };
  answer("/v1/version", false, [version = info.version](const Zone&, const Request&) {
    JsonWriter w;
    w.begin_object().field("Service", "Mesos-DNS").field("URL", "https://github.com/mesosphere/mesos-dns").field("Version", version).end_object();
    return std::move(w).take();
  });
  answer("/v1/config", false, [info](const Zone& z, const Request& r) {
    auto here = info;
    if (auto port = to_int(std::string_view(r.local).substr(r.local.rfind(':') + 1))) here.http_port = static_cast<std::uint16_t>(*port);
    return config_json(z, here);
  });
  answer("/v1/services/{*service}", true, [](const Zone& z, const Request& r) { return services_json(z, r.params.at("service")); });
  answer("/v1/hosts/{host}", true, [](const Zone& z, const Request& r) { return hosts_json(z, r.params.at("host")); });
  router.on("GET", "/v1/hosts/{host}/ports", [](Request) -> net::asio::awaitable<Response> { co_return Response::text("To be implemented...", 501); });
  router.fallback([](Request) -> net::asio::awaitable<Response> { co_return Response::text("404: Page Not Found", 404); });
  answer("/v1/enumerate", true, [](const Zone& z, const Request&) { return enumerate_json(z); });
  answer("/v1/axfr", true, [](const Zone& z, const Request&) { return axfr_json(z); });
}

}  // namespace croft::discovery
