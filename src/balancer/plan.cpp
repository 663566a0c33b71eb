#include "balancer/plan.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "model/acl.hpp"

namespace croft::balancer {

namespace {

constexpr std::size_t slots_min = 16;

using Endpoints = std::vector<const catalog::Endpoint*>;

/// Different ids give different names: what Marathon allows in an id stays readable, anything else gets a hash behind it.
std::string safe(const AppId& app) {
  std::string out;
  bool exact = true;
  for (char c : app.str().starts_with('/') ? std::string_view(app.str()).substr(1) : std::string_view(app.str())) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    exact = exact && (plain || c == '/');
    out.push_back(plain ? c : '_');
  }
  if (!exact) out += "-" + hex(sha1(app.str()).substr(0, 4));
  return out;
}

Slot slot_for(const catalog::Endpoint& e, std::size_t port_index, bool serves) {
  Slot s;
  s.task = e.task;
  s.ip = e.ip;
  if (port_index < e.ports.size()) {
    s.port = e.ports[port_index].host_port;
    if (s.port == 0 && e.container_ip) s.ip = *e.container_ip, s.port = e.ports[port_index].container_port;
  }
  s.state = serves ? Slot::State::ready : e.draining ? Slot::State::drain : Slot::State::maint;
  return s;
}

bool is_http(const HealthCheck& c) { return c.kind == CheckKind::http || c.kind == CheckKind::https; }
bool is_of(const HealthCheck& c, std::size_t port_index) { return !c.port && c.port_index.value_or(0) == port_index; }

/// Without a word from the app a port is plain TCP, which is right for every protocol; a rule, a host name or an HTTP check says HTTP.
bool speaks_http(const catalog::Service& s, std::size_t i, const PortLabels& labels, bool has_rule) {
  if (labels.http) return *labels.http;
  if (!labels.hosts.empty() || (i == 0 && has_rule) || lower(s.ports[i].name).starts_with("http")) return true;
  return std::any_of(s.health_checks.begin(), s.health_checks.end(), [&](const HealthCheck& c) { return c.kind == CheckKind::http && is_of(c, i); });
}

/// What is only recalled from an old copy says which task this is, and not whether it is in rotation: HAProxy was told that later.
void take(Slot& slot, const Slot& wanted, const catalog::Doubt& doubt) {
  auto state = doubt.recalled.contains(wanted.task) ? slot.state : wanted.state;
  slot = wanted;
  slot.state = state;
}

void take_places(Backend& b, std::map<TaskId, Slot>& wanted, const catalog::Doubt& doubt) {
  for (auto& slot : b.slots) {  // by task
    auto at = slot.task.empty() ? wanted.end() : wanted.find(slot.task);
    if (at == wanted.end()) continue;
    take(slot, at->second, doubt);
    wanted.erase(at);
  }
  std::map<std::pair<std::string, std::uint16_t>, std::map<TaskId, Slot>::iterator> by_address;
  for (auto at = wanted.begin(); at != wanted.end(); ++at) by_address.emplace(std::pair(at->second.ip, at->second.port), at);
  for (auto& slot : b.slots) {  // by address, where HAProxy was asked and not the memory
    if (slot.state == Slot::State::free || !slot.task.empty()) continue;
    auto at = by_address.find({slot.ip, slot.port});
    if (at == by_address.end()) continue;
    take(slot, at->second->second, doubt);
    wanted.erase(at->second);
    by_address.erase(at);
  }
}

void fill_slots(Backend& b, const Endpoints& endpoints, const Backend* before, bool has_checks, std::uint32_t instances, const catalog::Doubt& doubt) {
  if (before) b.slots = before->slots;
  for (auto& slot : b.slots) slot.agrees = true;
  bool nobody = std::none_of(endpoints.begin(), endpoints.end(), [&](const auto* e) { return e->serves(has_checks); });
  std::map<TaskId, Slot> wanted;
  std::set<TaskId> here;
  for (const auto* e : endpoints)
    if (auto s = slot_for(*e, b.port_index, nobody ? e->last_resort() : e->serves(has_checks)); s.port != 0 && !s.ip.empty() && e->state == TaskState::running) here.insert(e->task), wanted.emplace(e->task, std::move(s));
  take_places(b, wanted, doubt);
  if (before) std::erase_if(wanted, [&](const auto& w) { return doubt.recalled.contains(w.first); });  // out of HAProxy since the copy was made
  for (auto& slot : b.slots) {
    bool unknown = slot.task.empty() && slot.state != Slot::State::free;
    if (!here.contains(slot.task) && !(unknown && doubt.may_serve_at(slot.ip))) slot = {};
  }
  auto room = std::max(slots_min, static_cast<std::size_t>(instances) * 2);
  if (b.slots.size() < slots_min) b.slots.resize(room);
  std::size_t free = 0;
  for (auto& [task, slot] : wanted) {
    while (free < b.slots.size() && b.slots[free].state != Slot::State::free) ++free;
    if (free == b.slots.size()) b.slots.resize(std::max(room, b.slots.size() * 2));
    b.slots[free] = std::move(slot);
  }
}

/// Ports that tasks hold on this host: a front end there would keep them from starting.
std::set<std::uint16_t> ports_of_tasks(const catalog::Content& content, const std::string& own_ip) {
  std::set<std::uint16_t> out;
  bool agent_here = own_ip.empty() || content.nodes.empty() || std::any_of(content.nodes.begin(), content.nodes.end(), [&](const auto& n) { return n.second.ip == own_ip; });
  if (!agent_here) return out;
  for (const auto& [id, s] : content.services)
    for (const auto& p : s.ports)
      if (p.host_port) out.insert(p.host_port);
  for (const auto& [id, e] : content.endpoints)
    for (const auto& p : e.ports)
      if (p.host_port) out.insert(p.host_port);
  return out;
}

class Planner {
 public:
  Planner(const catalog::Content& content, const Plan& before, const Banned& banned, const catalog::Doubt& doubt)
      : content_(content), before_(before), banned_(banned), doubt_(doubt), held_(ports_of_tasks(content, banned.own_ip)) {
    for (const auto& [id, e] : content.endpoints) by_app_[e.app].push_back(&e);
  }

  Plan run() {
    for (const auto& [id, service] : content_.services) {
      if (banned_.apps.contains(id)) continue;
      for (std::size_t i = 0; i < service.ports.size(); ++i)
        if (service.ports[i].protocol != Protocol::udp) add(service, i);
    }
    for (const auto& [app, rule] : content_.rules) add_rule(app, rule.acl);
    return std::move(plan_);
  }

 private:
  void left_out(const AppId& app, std::string_view why) { plan_.left_out.push_back(fmt::format("app={} {}", app, why)); }

  void add(const catalog::Service& service, std::size_t i) {
    Backend b;
    b.name = backend_name(service.app, i);
    b.app = service.app;
    b.port_index = i;
    b.labels = port_labels(service.labels, i);
    for (const auto& problem : b.labels.problems) left_out(service.app, problem);
    b.http = speaks_http(service, i, b.labels, content_.rules.contains(service.app));
    for (const auto& c : service.health_checks)
      if (!b.check && is_http(c) && is_of(c, i)) b.check = c;
    b.last_resort = b.check.has_value();
    b.tls = b.check && b.check->kind == CheckKind::https;
    b.service_port = front_end(service, i, b.labels);
    auto old = before_.backends.find(b.name);
    static const Endpoints none;
    auto endpoints = by_app_.find(service.app);
    fill_slots(b, endpoints == by_app_.end() ? none : endpoints->second, old == before_.backends.end() ? nullptr : &old->second, !service.health_checks.empty(), service.instances, doubt_);
    plan_.backends.emplace(b.name, std::move(b));
  }

  std::uint16_t front_end(const catalog::Service& service, std::size_t i, const PortLabels& labels) {
    auto port = labels.port.value_or(service.ports[i].service_port);
    if (port == 0 || held_.contains(port)) return 0;  // where tasks have the port itself, clients reach them there
    if (banned_.ports.contains(port)) {
      left_out(service.app, fmt::format("service port {} is taken by another program; it gets no front end", port));
      return 0;
    }
    auto [at, first] = owners_.emplace(port, service.app);  // the first app keeps a port that two want
    if (first) return port;
    left_out(service.app, fmt::format("service port {} is already that of {}; it gets no front end", port, at->second));
    return 0;
  }

  void add_rule(const AppId& app, const std::string& acl) {
    if (auto refused = banned_.rules.find(app); refused != banned_.rules.end() && refused->second == acl) return;
    if (auto ok = check_acl(acl); !ok) return left_out(app, "its rule is left out: it " + ok.error().context);
    auto backend = plan_.backends.find(backend_name(app, 0));
    if (backend == plan_.backends.end()) return;  // the app comes later, or has no port: Bamboo kept such rules too
    if (!backend->second.http) return left_out(app, "its rule is left out: HAPROXY_0_MODE says tcp, and rules are for HTTP");
    plan_.rules.emplace(app, acl);
  }

  const catalog::Content& content_;
  const Plan& before_;
  const Banned& banned_;
  const catalog::Doubt& doubt_;
  std::set<std::uint16_t> held_;
  std::map<AppId, Endpoints> by_app_;
  std::map<std::uint16_t, AppId> owners_;
  Plan plan_;
};

}  // namespace

std::string backend_name(const AppId& app, std::size_t port_index) { return fmt::format("{}_{}", safe(app), port_index); }

Plan make_plan(const catalog::Content& content, const Plan& before, const Banned& banned, const catalog::Doubt& doubt) { return Planner(content, before, banned, doubt).run(); }

std::set<std::uint16_t> service_ports(const Plan& plan) {
  std::set<std::uint16_t> out;
  for (const auto& [name, b] : plan.backends)
    if (b.service_port) out.insert(b.service_port);
  return out;
}

Plan only(const Plan& plan, const AppId& app, bool with_rule) {
  Plan out;
  for (const auto& [name, b] : plan.backends)
    if (b.app == app) out.backends.emplace(name, b);
  if (auto rule = plan.rules.find(app); with_rule && rule != plan.rules.end()) out.rules.insert(*rule);
  return out;
}

}  // namespace croft::balancer
