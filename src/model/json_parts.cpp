#include "model/json_parts.hpp"

namespace croft::wire {

void write(JsonWriter& w, std::string_view key, const Labels& labels) {
  if (labels.empty()) return;
  w.key(key).begin_object();
  for (const auto& [k, v] : labels) w.field(k, v);
  w.end_object();
}

void write(JsonWriter& w, std::string_view key, const Resources& r) {
  w.key(key).begin_object().field("cpus", r.cpus).field("mem", r.mem).field("disk", r.disk).field("gpus", r.gpus).end_object();
}

void write(JsonWriter& w, std::string_view key, const std::vector<PortSpec>& ports) {
  if (ports.empty()) return;
  w.key(key).begin_array();
  for (const auto& p : ports) {
    w.begin_object().field("host", p.host_port);
    if (p.container_port) w.field("container", p.container_port);
    if (p.service_port) w.field("service", p.service_port);
    if (p.requested) w.field("requested", p.requested);
    if (p.protocol != Protocol::tcp) w.field("protocol", static_cast<int>(p.protocol));
    if (!p.name.empty()) w.field("name", p.name);
    write(w, "labels", p.labels);
    w.end_object();
  }
  w.end_array();
}

void write(JsonWriter& w, const HealthCheck& c) {
  w.begin_object().field("kind", static_cast<int>(c.kind)).field("path", c.path);
  if (!c.command.empty()) w.field("command", c.command);
  w.field("port_index", c.port_index).field("port", c.port);
  w.field("grace_ms", c.grace.count()).field("interval_ms", c.interval.count()).field("timeout_ms", c.timeout.count());
  w.field("delay_ms", c.delay.count()).field("failures_max", c.failures_max);
  if (c.ignore_1xx) w.field("ignore_1xx", true);
  w.field("protocol", c.protocol_name).end_object();
}

Labels labels_from(const json::value& v, std::string_view key) {
  Labels out;
  for (const auto& e : json::members(v, key))
    if (e.value().is_string()) out.emplace(e.key(), e.value().get_string());
  return out;
}

Resources resources_from(const json::value& v, std::string_view key) {
  const auto* r = json::find(v, key);
  if (!r) return {};
  return {json::integer(*r, "cpus"), json::integer(*r, "mem"), json::integer(*r, "disk"), json::integer(*r, "gpus")};
}

std::vector<PortSpec> ports_from(const json::value& v, std::string_view key) {
  std::vector<PortSpec> out;
  auto port = [](const json::value& p, std::string_view name) { return static_cast<std::uint16_t>(json::integer(p, name)); };
  for (const auto& p : json::list(v, key)) {
    out.push_back({.host_port = port(p, "host"), .container_port = port(p, "container"), .service_port = port(p, "service"),
                   .requested = port(p, "requested"), .protocol = enum_from(p, "protocol", Protocol::both),
                   .name = json::text(p, "name"), .labels = labels_from(p, "labels")});
  }
  return out;
}

HealthCheck check_from(const json::value& v) {
  HealthCheck c;
  c.kind = enum_from(v, "kind", CheckKind::command);
  c.path = json::text(v, "path", "/");
  c.command = json::text(v, "command");
  if (auto n = optional_int_from(v, "port_index")) c.port_index = static_cast<std::uint32_t>(*n);
  if (auto n = optional_int_from(v, "port")) c.port = static_cast<std::uint16_t>(*n);
  c.grace = Millis(json::integer(v, "grace_ms"));
  c.interval = Millis(json::integer(v, "interval_ms", 60'000));
  c.timeout = Millis(json::integer(v, "timeout_ms", 20'000));
  c.delay = Millis(json::integer(v, "delay_ms"));
  c.failures_max = static_cast<std::uint32_t>(json::integer(v, "failures_max"));
  c.ignore_1xx = json::boolean(v, "ignore_1xx");
  c.protocol_name = json::text(v, "protocol", "HTTP");
  return c;
}

Wall wall_from(const json::value& v, std::string_view key) { return Wall(Millis(json::integer(v, key))); }

std::optional<Wall> optional_wall_from(const json::value& v, std::string_view key) {
  return json::find(v, key) ? std::optional(wall_from(v, key)) : std::nullopt;
}

std::optional<bool> optional_bool_from(const json::value& v, std::string_view key) {
  return json::find(v, key) ? std::optional(json::boolean(v, key)) : std::nullopt;
}

std::optional<int> optional_int_from(const json::value& v, std::string_view key) {
  return json::find(v, key) ? std::optional(static_cast<int>(json::integer(v, key))) : std::nullopt;
}

}  // namespace croft::wire
