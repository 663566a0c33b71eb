#include "balancer/render.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::balancer {

namespace {

constexpr std::size_t slots_min = 16;

std::string safe(std::string_view id) {
  std::string out;
  for (char c : id.starts_with('/') ? id.substr(1) : id)
    out.push_back((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ? c : '_');
  return out;
}

/// Values that go into the configuration are data: no byte that could end a word or a line.
std::string word(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) continue;
    if (std::string_view("\\\"'#$").contains(c)) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

std::string server_name(std::size_t slot) { return fmt::format("s{}", slot + 1); }

Slot slot_for(const catalog::Endpoint& e, std::size_t port_index, bool has_checks) {
  Slot s;
  s.task = e.task;
  s.ip = e.ip;
  if (port_index < e.ports.size()) {
    s.port = e.ports[port_index].host_port;
    if (s.port == 0 && e.container_ip) s.ip = *e.container_ip, s.port = e.ports[port_index].container_port;
  }
  s.state = e.serves(has_checks) ? Slot::State::ready : e.draining ? Slot::State::drain : Slot::State::maint;
  return s;
}

void fill_slots(Backend& b, const std::vector<const catalog::Endpoint*>& endpoints, const Backend* before, bool has_checks, std::uint32_t instances) {
  if (before) b.slots = before->slots;
  std::map<TaskId, Slot> wanted;
  for (const auto* e : endpoints)
    if (auto s = slot_for(*e, b.port_index, has_checks); s.port != 0 && !s.ip.empty() && e->state == TaskState::running) wanted.emplace(e->task, std::move(s));
  for (auto& slot : b.slots) {
    auto at = wanted.find(slot.task);
    if (slot.task.empty() || at == wanted.end()) {
      slot = {};
      continue;
    }
    slot = at->second;
    wanted.erase(at);
  }
  auto free = b.slots.begin();
  for (auto& [task, slot] : wanted) {
    free = std::find_if(free, b.slots.end(), [](const Slot& s) { return s.state == Slot::State::free; });
    if (free == b.slots.end()) {
      auto grown = std::max({slots_min, b.slots.size() * 2, static_cast<std::size_t>(instances) * 2});
      auto at = b.slots.size();
      b.slots.resize(grown);
      free = b.slots.begin() + static_cast<std::ptrdiff_t>(at);
    }
    *free = std::move(slot);
  }
  if (b.slots.size() < slots_min) b.slots.resize(std::max(slots_min, static_cast<std::size_t>(instances) * 2));
}

std::string bind_line(const RenderOptions& o, std::uint16_t port) { return fmt::format("    bind {}:{}\n", o.address.empty() ? "*" : o.address, port); }

void render_backend(std::string& out, const Backend& b, bool with_slots) {
  out += fmt::format("\nbackend {}\n    mode {}\n    balance {}\n", b.name, b.http ? "http" : "tcp", b.http ? "leastconn" : "roundrobin");
  if (b.http) {
    out += "    option forwardfor\n    http-request disable-l7-retry if METH_POST or { method PATCH }\n";
    out += "    retry-on conn-failure empty-response response-timeout\n";
  }
  std::string check = "check inter 2s fastinter 500ms downinter 1s rise 1 fall 2";
  if (b.http && b.check && b.check->kind == CheckKind::http)
    out += fmt::format("    option httpchk\n    http-check send meth GET uri {} ver HTTP/1.1 hdr Host croft\n    http-check expect status 200-399\n", word(b.check->path.starts_with('/') ? b.check->path : "/" + b.check->path));
  for (std::size_t i = 0; i < b.slots.size(); ++i) {
    const auto& s = b.slots[i];
    if (!with_slots) out += fmt::format("    server {}\n", server_name(i));
    else if (s.state == Slot::State::free) out += fmt::format("    server {} 127.0.0.1:1 {} disabled\n", server_name(i), check);
    else out += fmt::format("    server {} {}:{} {}{}\n", server_name(i), s.ip, s.port, check, s.state == Slot::State::ready ? "" : " disabled");
  }
}

std::string render_all(const Plan& plan, const RenderOptions& o, bool with_slots) {
  std::string out = fmt::format(
      "# Written by croft; changes are overwritten.\nglobal\n    stats socket {0}/haproxy.sock mode 600 level admin expose-fd listeners\n    hard-stop-after 30s\n    nbthread {1}\n"
      "    maxconn 8000\n\ndefaults\n    mode http\n    retries 3\n    option redispatch 1\n    option http-keep-alive\n    option idle-close-on-response\n    timeout connect 2s\n"
      "    timeout client 60s\n    timeout server 60s\n    timeout http-request 10s\n    timeout http-keep-alive 60s\n    timeout queue 10s\n    timeout tunnel 1h\n    timeout check 2s\n",
      o.run_dir, o.threads);
  out += "\nfrontend shared\n";
  for (auto port : o.shared_ports) out += bind_line(o, port);
  for (const auto& [app, acl] : plan.rules) {
    auto name = backend_name(app, 0);
    if (!plan.backends.contains(name)) continue;
    out += fmt::format("    acl rule_{0} {1}\n    use_backend {2} if rule_{0}\n", safe(app.str()), acl, name);
  }
  out += "    default_backend nothing_here\n\nbackend nothing_here\n    http-request return status 503 content-type text/plain string \"no rule leads to an app\\n\"\n";
  for (const auto& [name, b] : plan.backends) {
    if (b.service_port && !o.skipped_ports.contains(b.service_port))
      out += fmt::format("\nfrontend port_{}\n    mode {}\n{}    default_backend {}\n", b.service_port, b.http ? "http" : "tcp", bind_line(o, b.service_port), name);
    render_backend(out, b, with_slots);
  }
  return out;
}

}  // namespace

std::string backend_name(const AppId& app, std::size_t port_index) { return fmt::format("{}_{}", safe(app.str()), port_index); }

Plan make_plan(const catalog::Content& content, const Plan& before, const std::set<AppId>& refused, const RenderOptions&) {
  Plan plan;
  std::map<AppId, std::vector<const catalog::Endpoint*>> by_app;
  for (const auto& [id, e] : content.endpoints) by_app[e.app].push_back(&e);
  std::set<std::uint16_t> ports;
  for (const auto& [id, service] : content.services) {
    for (std::size_t i = 0; i < service.ports.size(); ++i) {
      const auto& port = service.ports[i];
      if (port.protocol == Protocol::udp) continue;
      Backend b;
      b.name = backend_name(id, i);
      b.app = id;
      b.port_index = i;
      auto mode = service.labels.find(fmt::format("HAPROXY_{}_MODE", i));
      b.http = mode == service.labels.end() || mode->second != "tcp";
      if (ports.insert(port.service_port).second) b.service_port = port.service_port;  // the first app keeps a port that two want
      for (const auto& c : service.health_checks)
        if (!b.check && c.kind == CheckKind::http && !c.port && c.port_index.value_or(0) == i) b.check = c;
      auto old = before.backends.find(b.name);
      static const std::vector<const catalog::Endpoint*> none;
      auto endpoints = by_app.find(id);
      fill_slots(b, endpoints == by_app.end() ? none : endpoints->second, old == before.backends.end() ? nullptr : &old->second, !service.health_checks.empty(), service.instances);
      plan.backends.emplace(b.name, std::move(b));
    }
  }
  for (const auto& [app, rule] : content.rules)
    if (!refused.contains(app)) plan.rules.emplace(app, rule.acl);
  return plan;
}

std::string render(const Plan& plan, const RenderOptions& options) { return render_all(plan, options, true); }
std::string shape_of(const Plan& plan, const RenderOptions& options) { return render_all(plan, options, false); }

std::vector<std::string> runtime_commands(const Plan& from, const Plan& to) {
  std::vector<std::string> out;
  for (const auto& [name, b] : to.backends) {
    const auto& old = from.backends.at(name);
    for (std::size_t i = 0; i < b.slots.size(); ++i) {
      const auto &was = old.slots[i], &is = b.slots[i];
      if (was == is) continue;
      auto server = fmt::format("{}/{}", name, server_name(i));
      if (is.state == Slot::State::free) {
        out.push_back(fmt::format("set server {} state maint", server));
        continue;
      }
      if (was.ip != is.ip || was.port != is.port) {
        // In maintenance first, so that no request goes to the new address under the old one's health.
        if (was.state != Slot::State::free) out.push_back(fmt::format("set server {} state maint", server));
        out.push_back(fmt::format("set server {} addr {} port {}", server, is.ip, is.port));
      }
      out.push_back(fmt::format("set server {} state {}", server, is.state == Slot::State::ready ? "ready" : is.state == Slot::State::drain ? "drain" : "maint"));
    }
  }
  return out;
}

std::string probe_config(const std::string& acl) {
  return fmt::format("defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\nfrontend probe\n    bind 127.0.0.1:1\n    acl rule {}\n    use_backend b if rule\nbackend b\n", acl);
}

}  // namespace croft::balancer
