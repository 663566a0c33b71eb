#include "discovery/records.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <set>

#include "base/text.hpp"
#include "discovery/names.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

class Maker {
 public:
  explicit Maker(std::string_view domain, std::string_view loopback_as = {}) : domain_(domain), loopback_as_(loopback_as) {}

  void address(std::string_view name, const std::string& ip) {
    auto bytes = address_bytes(seen_from_outside(ip, loopback_as_));
    auto owner = full(name);
    if (bytes && owner) out.push_back({std::move(*owner), bytes->size() == 4 ? Kind::a : Kind::aaaa, std::move(*bytes)});
  }
  void srv(std::string_view name, std::string_view target, std::uint16_t port) {
    auto owner = full(name), to = full(target);
    if (port == 0 || !owner || !to) return;
    append16(*to, port);
    out.push_back({std::move(*owner), Kind::srv, std::move(*to)});
  }
  std::vector<Record> out;

 private:
  std::optional<std::string> full(std::string_view name) const { return to_wire(fmt::format("{}.{}", name, domain_)); }
  std::string_view domain_;
  std::string loopback_as_;
};

std::vector<std::string_view> names_of(Protocol p) {
  if (p == Protocol::tcp) return {"_tcp"};
  if (p == Protocol::udp) return {"_udp"};
  return {"_tcp", "_udp"};
}

}  // namespace

std::string seen_from_outside(const std::string& ip, const std::string& loopback_as) {
  return !loopback_as.empty() && ip.starts_with("127.") ? loopback_as : ip;
}

std::optional<std::string> address_bytes(const std::string& text) {
  std::array<char, 16> bytes{};
  if (::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) return std::string(bytes.data(), 4);
  if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return std::string(bytes.data(), 16);
  return std::nullopt;
}

std::string address_text(std::string_view bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

NamedTask NamedTask::of(const catalog::Endpoint& e) {
  NamedTask t;
  t.task = e.task;
  t.app = e.app;
  t.agent = e.agent;
  // A bridge's address is of no use on other hosts: only a container without any host port is reached by its own.
  bool on_host = e.ports.empty() || std::any_of(e.ports.begin(), e.ports.end(), [](const PortSpec& p) { return p.host_port != 0; });
  t.agent_ip = e.ip;
  t.ip = !on_host && e.container_ip ? *e.container_ip : e.ip;
  for (const auto& p : e.ports) t.ports.push_back({on_host ? p.host_port : p.container_port, p.host_port, p.protocol, p.name});
  return t;
}

std::vector<Record> records_of(const NamedTask& task, std::string_view domain) {
  auto label = label_of(task_name_of(task.app));
  if (label.empty()) return {};
  Maker m(domain);
  auto instance = instance_label(label, hash_of(task.task.str()), tail_of(task.agent));
  auto canonical = instance + ".marathon", on_agent = instance + ".marathon.slave";
  m.address(label + ".marathon", task.ip);
  m.address(canonical, task.ip);
  m.address(label + ".marathon.slave", task.agent_ip);
  m.address(on_agent, task.agent_ip);
  auto service = service_label(label);
  for (const auto& p : task.ports) {
    for (auto protocol : names_of(p.protocol)) {
      auto name = fmt::format("{}.{}.marathon", service, protocol);
      m.srv(name, canonical, p.number);
      if (auto named = label_of(p.name); !named.empty()) m.srv(service_label(named) + "." + name, canonical, p.number);
    }
    // Mesos-DNS lists what the host holds for the task under both protocols, whatever was declared.
    for (auto protocol : names_of(Protocol::both)) m.srv(fmt::format("{}.{}.marathon.slave", service, protocol), on_agent, p.host_port);
  }
  std::sort(m.out.begin(), m.out.end());
  m.out.erase(std::unique(m.out.begin(), m.out.end()), m.out.end());
  return std::move(m.out);
}

std::vector<Record> farm_records(const catalog::Content& content, const ZoneOptions& options) {
  Maker m(options.domain, options.loopback_as);
  std::set<std::string> masters_seen;
  int number = 0;
  for (const auto& master : content.masters) {
    // Two entries with one address are one master, as Mesos-DNS numbers them; the leader keeps its place.
    if (!masters_seen.insert(master.ip).second) {
      if (!master.leader) continue;
    } else {
      m.address("master", master.ip);
      m.address(fmt::format("master{}", number++), master.ip);
    }
    if (!master.leader) continue;
    m.address("leader", master.ip);
    for (auto protocol : names_of(Protocol::both)) m.srv(fmt::format("_leader.{}", protocol), "leader", master.port);
    m.address("marathon", master.ip);
    m.srv("_framework._tcp.marathon", "marathon", options.marathon_port);
  }
  for (const auto& [id, node] : content.nodes) {
    if (!node.reachable) continue;
    m.address("slave", node.ip);
    m.srv("_slave._tcp", "slave", node.port);
  }
  for (const auto& [id, balancer] : content.balancers) m.address("balancer", balancer.ip);
  for (const auto& ip : options.server_addresses) m.address("ns1", ip);
  std::sort(m.out.begin(), m.out.end());
  m.out.erase(std::unique(m.out.begin(), m.out.end()), m.out.end());
  return std::move(m.out);
}

std::vector<const catalog::Endpoint*> named_of(const std::vector<const catalog::Endpoint*>& endpoints, bool has_checks) {
  std::vector<const catalog::Endpoint*> out;
  auto take = [&](auto&& fits) {
    if (!out.empty()) return;
    for (const auto* e : endpoints)
      if (e->state == TaskState::running && fits(*e)) out.push_back(e);
  };
  take([&](const catalog::Endpoint& e) { return e.serves(has_checks); });
  take([](const catalog::Endpoint& e) { return e.healthy != false && !e.draining; });
  take([](const catalog::Endpoint& e) { return e.healthy != false; });
  // When every check fails at once the cause is a common one; a service whose check asks for its own name could never recover else.
  take([](const catalog::Endpoint&) { return true; });
  return out;
}

}  // namespace croft::discovery
