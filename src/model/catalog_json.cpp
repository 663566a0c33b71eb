#include "model/catalog_json.hpp"

#include "model/json_parts.hpp"

namespace croft::catalog {

using namespace croft::wire;

void write(JsonWriter& w, const Endpoint& e) {
  w.begin_object().field("task", e.task).field("app", e.app).field("agent", e.agent).field("version", e.app_version);
  w.field("host", e.host).field("ip", e.ip).field("container_ip", e.container_ip);
  wire::write(w, "ports", e.ports);
  w.field("state", wire_name(e.state)).field("healthy", e.healthy);
  if (!e.ready) w.field("ready", false);
  if (e.draining) w.field("draining", true);
  if (e.weight != 1) w.field("weight", e.weight);
  write_wall(w, "started_ms", e.started);
  w.end_object();
}

void write(JsonWriter& w, const Service& s) {
  w.begin_object().field("app", s.app).key("ports").begin_array();
  for (const auto& p : s.ports) {
    w.begin_object().field("service", p.service_port).field("container", p.container_port).field("protocol", static_cast<int>(p.protocol));
    if (!p.name.empty()) w.field("name", p.name);
    if (p.host_port) w.field("host", p.host_port);
    wire::write(w, "labels", p.labels);
    w.end_object();
  }
  w.end_array();
  wire::write(w, "labels", s.labels);
  wire::write(w, "env", s.env);
  w.key("health_checks").begin_array();
  for (const auto& c : s.health_checks) wire::write(w, c);
  w.end_array().field("instances", s.instances).field("version", s.version).end_object();
}

namespace {

void write(JsonWriter& w, const Rule& r) { w.begin_object().field("app", r.app).field("acl", r.acl).end_object(); }
void write(JsonWriter& w, const Node& n) {
  w.begin_object().field("id", n.id).field("host", n.host).field("ip", n.ip).field("port", n.port).field("reachable", n.reachable).end_object();
}
void write(JsonWriter& w, const Master& m) {
  w.begin_object().field("host", m.host).field("ip", m.ip).field("port", m.port).field("leader", m.leader).end_object();
}
void write(JsonWriter& w, const Balancer& b) { w.begin_object().field("id", b.id).field("host", b.host).field("ip", b.ip).end_object(); }

template <class List>
void write_list(JsonWriter& w, std::string_view key, const List& list) {
  if (list.empty()) return;
  w.key(key).begin_array();
  for (const auto& element : list) {
    if constexpr (requires { element.second; }) write(w, element.second);
    else write(w, element);
  }
  w.end_array();
}

Endpoint endpoint_from(const json::value& v) {
  Endpoint e;
  e.task = TaskId(json::text(v, "task"));
  e.app = AppId(json::text(v, "app"));
  e.agent = AgentId(json::text(v, "agent"));
  e.app_version = json::text(v, "version");
  e.host = json::text(v, "host");
  e.ip = json::text(v, "ip");
  if (json::find(v, "container_ip")) e.container_ip = json::text(v, "container_ip");
  e.ports = ports_from(v, "ports");
  e.state = task_state_from(json::text(v, "state")).value_or(TaskState::unknown);
  e.healthy = optional_bool_from(v, "healthy");
  e.ready = json::boolean(v, "ready", true);
  e.draining = json::boolean(v, "draining");
  e.weight = static_cast<std::uint32_t>(json::integer(v, "weight", 1));
  e.started = wall_from(v, "started_ms");
  return e;
}

Service service_from(const json::value& v) {
  Service s;
  s.app = AppId(json::text(v, "app"));
  for (const auto& p : json::list(v, "ports"))
    s.ports.push_back({static_cast<std::uint16_t>(json::integer(p, "service")), static_cast<std::uint16_t>(json::integer(p, "container")),
                       enum_from(p, "protocol", Protocol::both), json::text(p, "name"), labels_from(p, "labels"),
                       static_cast<std::uint16_t>(json::integer(p, "host"))});
  s.labels = labels_from(v, "labels");
  s.env = labels_from(v, "env");
  for (const auto& c : json::list(v, "health_checks")) s.health_checks.push_back(check_from(c));
  s.instances = static_cast<std::uint32_t>(json::integer(v, "instances"));
  s.version = json::text(v, "version");
  return s;
}

Rule rule_from(const json::value& v) { return {AppId(json::text(v, "app")), json::text(v, "acl")}; }
Node node_from(const json::value& v) {
  return {AgentId(json::text(v, "id")), json::text(v, "host"), json::text(v, "ip"), static_cast<std::uint16_t>(json::integer(v, "port", 5051)),
          json::boolean(v, "reachable", true)};
}
Master master_from(const json::value& v) {
  return {json::text(v, "host"), json::text(v, "ip"), static_cast<std::uint16_t>(json::integer(v, "port", 5050)), json::boolean(v, "leader")};
}
Balancer balancer_from(const json::value& v) { return {BalancerId(json::text(v, "id")), json::text(v, "host"), json::text(v, "ip")}; }

template <class T>
std::vector<T> list_from(const json::value& v, std::string_view key, T (*read)(const json::value&)) {
  std::vector<T> out;
  for (const auto& element : json::list(v, key)) out.push_back(read(element));
  return out;
}

Index index_from(const json::value& v) {
  return {static_cast<std::uint64_t>(json::integer(v, "epoch")), static_cast<std::uint64_t>(json::integer(v, "n"))};
}

struct RecordWriter {
  JsonWriter& w;
  void head(std::string_view type, Index at) { w.field("type", type).field("epoch", at.epoch).field("n", at.n); }
  void operator()(const Snapshot& s) {
    head("snapshot", s.at);
    write_list(w, "services", s.content.services);
    write_list(w, "endpoints", s.content.endpoints);
    write_list(w, "rules", s.content.rules);
    write_list(w, "nodes", s.content.nodes);
    write_list(w, "masters", s.content.masters);
    write_list(w, "balancers", s.content.balancers);
    write_ids(w, "complete", s.complete);
    if (s.all_heard) w.field("all_heard", *s.all_heard);
    if (!s.root.cluster.empty()) w.field("cluster", s.root.cluster).field("commit", s.root.commit);
  }
  void operator()(const Delta& d) {
    head("delta", d.at);
    write_list(w, "services", d.services);
    write_ids(w, "services_gone", d.services_gone);
    write_list(w, "endpoints", d.endpoints);
    write_ids(w, "endpoints_gone", d.endpoints_gone);
    write_list(w, "rules", d.rules);
    write_ids(w, "rules_gone", d.rules_gone);
    write_list(w, "nodes", d.nodes);
    write_ids(w, "nodes_gone", d.nodes_gone);
    if (d.masters) {
      w.key("masters").begin_array();
      for (const auto& m : *d.masters) write(w, m);
      w.end_array();
    }
    write_list(w, "balancers", d.balancers);
    write_ids(w, "balancers_gone", d.balancers_gone);
    write_ids(w, "complete", d.complete);
    if (d.all_heard) w.field("all_heard", true);
  }
  void operator()(const Heartbeat& h) {
    head("heartbeat", h.at);
    if (h.commit > 0) w.field("commit", h.commit);
  }
};

Snapshot snapshot_from(const json::value& v) {
  Snapshot s;
  s.at = index_from(v);
  for (auto& x : list_from(v, "services", service_from)) s.content.services.emplace(x.app, x);
  for (auto& x : list_from(v, "endpoints", endpoint_from)) s.content.endpoints.emplace(x.task, x);
  for (auto& x : list_from(v, "rules", rule_from)) s.content.rules.emplace(x.app, x);
  for (auto& x : list_from(v, "nodes", node_from)) s.content.nodes.emplace(x.id, x);
  s.content.masters = list_from(v, "masters", master_from);
  for (auto& x : list_from(v, "balancers", balancer_from)) s.content.balancers.emplace(x.id, x);
  s.complete = ids_from<AgentId>(v, "complete");
  s.all_heard = optional_bool_from(v, "all_heard");
  s.root = {json::text(v, "cluster"), static_cast<std::uint64_t>(json::integer(v, "commit"))};
  return s;
}

Delta delta_from(const json::value& v) {
  Delta d;
  d.at = index_from(v);
  d.services = list_from(v, "services", service_from);
  d.services_gone = ids_from<AppId>(v, "services_gone");
  d.endpoints = list_from(v, "endpoints", endpoint_from);
  d.endpoints_gone = ids_from<TaskId>(v, "endpoints_gone");
  d.rules = list_from(v, "rules", rule_from);
  d.rules_gone = ids_from<AppId>(v, "rules_gone");
  d.nodes = list_from(v, "nodes", node_from);
  d.nodes_gone = ids_from<AgentId>(v, "nodes_gone");
  if (json::find(v, "masters")) d.masters = list_from(v, "masters", master_from);
  d.balancers = list_from(v, "balancers", balancer_from);
  d.balancers_gone = ids_from<BalancerId>(v, "balancers_gone");
  d.complete = ids_from<AgentId>(v, "complete");
  d.all_heard = json::boolean(v, "all_heard");
  return d;
}

}  // namespace

std::string encode(const Record& record) {
  JsonWriter w;
  w.begin_object();
  std::visit(RecordWriter{w}, record);
  w.end_object();
  return std::move(w).take();
}

Result<Record> decode_record(std::string_view line) {
  auto parsed = json::parse(line);
  if (!parsed) return fail(std::move(parsed).error().within("catalog record"));
  auto type = json::text(*parsed, "type");
  if (type == "heartbeat") return Heartbeat{index_from(*parsed), static_cast<std::uint64_t>(json::integer(*parsed, "commit"))};
  if (type == "snapshot") return snapshot_from(*parsed);
  if (type == "delta") return delta_from(*parsed);
  return fail(Errc::invalid, "catalog record: unknown type '{}'", type);
}

std::string encode(const Confirmation& c) {
  JsonWriter w;
  w.begin_object().key("balancer");
  write(w, c.balancer);
  w.field("epoch", c.applied.epoch).field("n", c.applied.n).key("open").begin_object();
  for (const auto& [task, n] : c.open) w.field(task.str(), n);
  w.end_object().end_object();
  return std::move(w).take();
}

Result<Confirmation> decode_confirmation(std::string_view body) {
  auto parsed = json::parse(body);
  if (!parsed) return fail(std::move(parsed).error().within("confirmation"));
  const auto* balancer = json::find(*parsed, "balancer");
  if (!balancer || json::text(*balancer, "id").empty()) return fail(Errc::invalid, "confirmation: 'balancer.id' is missing");
  Confirmation c{balancer_from(*balancer), index_from(*parsed), {}};
  for (const auto& e : json::members(*parsed, "open"))
    if (e.value().is_int64()) c.open.emplace(TaskId(std::string_view(e.key())), static_cast<std::uint32_t>(e.value().get_int64()));
  return c;
}

}  // namespace croft::catalog
