#include "discovery/zone.hpp"

#include <arpa/inet.h>

#include <algorithm>

#include "base/text.hpp"
#include "discovery/names.hpp"

namespace croft::discovery {

namespace {

void add_address(Records& r, const std::string& text) {
  std::array<std::uint8_t, 4> v4{};
  std::array<std::uint8_t, 16> v6{};
  if (::inet_pton(AF_INET, text.c_str(), v4.data()) == 1) r.a.push_back(v4);
  else if (::inet_pton(AF_INET6, text.c_str(), v6.data()) == 1) r.aaaa.push_back(v6);
}

class Builder {
 public:
  Builder(Zone& zone) : zone_(zone) {}
  Records& at(const std::string& name) { return zone_.names[name + "." + zone_.domain]; }
  void address(const std::string& name, const std::string& ip) { add_address(at(name), ip); }
  void srv(const std::string& name, const std::string& target, std::uint16_t port) { at(name).srv.push_back({target + "." + zone_.domain, port}); }

  void task(const catalog::Endpoint& e) {
    auto label = label_of(task_name_of(e.app));
    if (label.empty()) return;
    auto tail = hash_of(e.task.str()) + "-" + tail_of(e.agent);
    // The canonical label must fit into 63 bytes with its hash and agent.
    auto canonical = label.substr(0, std::min(label.size(), 62 - tail.size())) + "-" + tail;
    bool own_address = e.container_ip && std::none_of(e.ports.begin(), e.ports.end(), [](const PortSpec& p) { return p.host_port != 0; }) && !e.ports.empty();
    const auto& ip = own_address ? *e.container_ip : e.ip;
    address(label + ".marathon", ip);
    address(canonical + ".marathon", ip);
    address(label + ".marathon.slave", e.ip);
    address(canonical + ".marathon.slave", e.ip);
    auto service = "_" + label.substr(0, 62);
    for (const auto& p : e.ports) {
      auto port = p.host_port ? p.host_port : p.container_port;
      if (port == 0) continue;
      for (auto protocol : {"_tcp", "_udp"}) {
        if ((p.protocol == Protocol::tcp && protocol[1] == 'u') || (p.protocol == Protocol::udp && protocol[1] == 't')) continue;
        auto name = fmt::format("{}.{}.marathon", service, protocol);
        srv(name, canonical + ".marathon", port);
        if (auto named = label_of(p.name); !named.empty()) srv(fmt::format("_{}.{}", named.substr(0, 62), name), canonical + ".marathon", port);
      }
      if (p.host_port)
        for (auto protocol : {"_tcp", "_udp"}) srv(fmt::format("{}.{}.marathon.slave", service, protocol), canonical + ".marathon.slave", p.host_port);
    }
  }

  void farm(const catalog::Content& content) {
    int number = 0;
    for (const auto& m : content.masters) {
      address("master", m.ip);
      address(fmt::format("master{}", number++), m.ip);
      if (!m.leader) continue;
      address("leader", m.ip);
      for (auto name : {"_leader._tcp", "_leader._udp"}) srv(name, "leader", m.port);
      address("marathon", m.ip);
      srv("_framework._tcp.marathon", "marathon", 8080);
    }
    for (const auto& [id, n] : content.nodes) {
      if (!n.reachable) continue;
      address("slave", n.ip);
      srv("_slave._tcp", "slave", n.port);
    }
    for (const auto& [id, b] : content.balancers) address("balancer", b.ip);
  }

 private:
  Zone& zone_;
};

}  // namespace

void Records::sort_and_unique() {
  auto tidy = [](auto& list) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  };
  tidy(a), tidy(aaaa), tidy(srv);
}

std::shared_ptr<const Zone> build_zone(const catalog::Content& content, const ZoneOptions& options, std::uint32_t serial) {
  auto zone = std::make_shared<Zone>();
  zone->domain = lower(options.domain);
  zone->ttl = options.ttl;
  zone->serial = serial;
  Builder b(*zone);
  std::map<AppId, std::vector<const catalog::Endpoint*>> by_app;
  for (const auto& [id, e] : content.endpoints)
    if (e.state == TaskState::running) by_app[e.app].push_back(&e);
  for (const auto& [app, endpoints] : by_app) {
    auto service = content.services.find(app);
    bool checks = service != content.services.end() && !service->second.health_checks.empty();
    auto serves = [&](const catalog::Endpoint* e) { return e->serves(checks); };
    auto may_serve = [&](const catalog::Endpoint* e) { return e->healthy != false && !e->draining; };
    bool any_serves = std::any_of(endpoints.begin(), endpoints.end(), serves), any_may = std::any_of(endpoints.begin(), endpoints.end(), may_serve);
    for (const auto* e : endpoints)
      if (any_serves ? serves(e) : any_may ? may_serve(e) : e->healthy != false) b.task(*e);
  }
  b.farm(content);
  for (const auto& ip : options.server_addresses) b.address("ns1", ip);
  for (auto& [name, records] : zone->names) {
    records.sort_and_unique();
    for (auto dot = name.find('.'); dot != std::string::npos && dot + 1 < name.size(); dot = name.find('.', dot + 1)) {
      auto parent = name.substr(dot + 1);
      if (parent.size() >= zone->domain.size() && !zone->names.contains(parent)) zone->parents.insert(parent);
    }
  }
  zone->parents.insert(zone->domain);
  return zone;
}

}  // namespace croft::discovery
