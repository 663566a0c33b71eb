// JSON of TaskSpec and TaskStatus, as they travel in link records and stand in run folders.

#include "model/json_parts.hpp"
#include "model/link_json.hpp"

namespace croft::link {

using namespace croft::wire;

namespace {

void write_docker(JsonWriter& w, const DockerSpec& d) {
  w.key("docker").begin_object().field("image", d.image).field("network", static_cast<int>(d.network));
  if (!d.network_name.empty()) w.field("network_name", d.network_name);
  if (d.force_pull) w.field("force_pull", true);
  if (d.privileged) w.field("privileged", true);
  w.key("parameters").begin_array();
  for (const auto& [k, v] : d.parameters) w.begin_array().value(k).value(v).end_array();
  w.end_array().end_object();
}

void write_mounts(JsonWriter& w, const TaskSpec& s) {
  w.key("fetch").begin_array();
  for (const auto& a : s.fetch)
    w.begin_object().field("uri", a.uri).field("dest", a.dest_path).field("extract", a.extract).field("executable", a.executable).field("cache", a.cache).field("checksum", a.checksum).end_object();
  w.end_array().key("volumes").begin_array();
  for (const auto& v : s.volumes)
    w.begin_object().field("container", v.container_path).field("host", v.host_path).field("mode", v.mode).end_object();
  w.end_array();
}

void write_checks(JsonWriter& w, const TaskSpec& s) {
  w.key("health_checks").begin_array();
  for (const auto& c : s.health_checks) wire::write(w, c);
  w.end_array().key("readiness_checks").begin_array();
  for (const auto& r : s.readiness_checks) {
    w.begin_object().field("name", r.name).field("protocol", r.protocol).field("path", r.path).field("port_name", r.port_name);
    w.field("interval_ms", r.interval.count()).field("timeout_ms", r.timeout.count()).field("preserve", r.preserve_last_response);
    w.key("statuses").begin_array();
    for (auto status : r.ready_statuses) w.value(status);
    w.end_array().end_object();
  }
  w.end_array();
}

void write_secrets(JsonWriter& w, const std::vector<SecretUse>& secrets) {
  w.key("secrets").begin_array();
  for (const auto& s : secrets) w.begin_object().field("secret", s.secret).field("env", s.env).field("file", s.file).end_object();
  w.end_array();
}

void read_mounts(const json::value& v, TaskSpec& s) {
  for (const auto& a : json::list(v, "fetch"))
    s.fetch.push_back({json::text(a, "uri"), json::text(a, "dest"), json::boolean(a, "extract", true), json::boolean(a, "executable"), json::boolean(a, "cache"), json::text(a, "checksum")});
  for (const auto& a : json::list(v, "volumes"))
    s.volumes.push_back({json::text(a, "container"), json::text(a, "host"), json::text(a, "mode", "RO")});
}

void read_checks(const json::value& v, TaskSpec& s) {
  for (const auto& c : json::list(v, "health_checks")) s.health_checks.push_back(check_from(c));
  for (const auto& r : json::list(v, "readiness_checks")) {
    ReadinessCheck made{.name = json::text(r, "name"), .protocol = json::text(r, "protocol"), .path = json::text(r, "path"), .port_name = json::text(r, "port_name"),
                        .interval = Millis(json::integer(r, "interval_ms", 30'000)), .timeout = Millis(json::integer(r, "timeout_ms", 10'000)),
                        .ready_statuses = {}, .preserve_last_response = json::boolean(r, "preserve")};
    for (const auto& status : json::list(r, "statuses"))
      if (status.is_int64()) made.ready_statuses.push_back(static_cast<std::uint16_t>(status.get_int64()));
    s.readiness_checks.push_back(std::move(made));
  }
}

DockerSpec docker_from(const json::value& v) {
  DockerSpec d;
  d.image = json::text(v, "image");
  d.network = enum_from(v, "network", NetworkMode::none, NetworkMode::bridge);
  d.network_name = json::text(v, "network_name");
  d.force_pull = json::boolean(v, "force_pull");
  d.privileged = json::boolean(v, "privileged");
  for (const auto& p : json::list(v, "parameters"))
    if (p.is_array() && p.get_array().size() == 2 && p.get_array()[0].is_string() && p.get_array()[1].is_string())
      d.parameters.emplace_back(p.get_array()[0].get_string(), p.get_array()[1].get_string());
  return d;
}

}  // namespace

void write(JsonWriter& w, const TaskSpec& s) {
  w.begin_object().field("id", s.id).field("app", s.app).field("version", s.app_version).field("name", s.name).field("role", s.role);
  w.field("cmd", s.cmd);
  if (s.args) {
    w.key("args").begin_array();
    for (const auto& a : *s.args) w.value(a);
    w.end_array();
  }
  if (!s.user.empty()) w.field("user", s.user);
  wire::write(w, "env", s.env);
  wire::write(w, "labels", s.labels);
  wire::write(w, "resources", s.resources);
  w.field("cpus_limit", s.cpus_limit).field("mem_limit", s.mem_limit);
  wire::write(w, "ports", s.ports);
  if (!s.fetch.empty() || !s.volumes.empty()) write_mounts(w, s);
  if (s.docker) write_docker(w, *s.docker);
  if (!s.health_checks.empty() || !s.readiness_checks.empty()) write_checks(w, s);
  if (s.kill_grace) w.field("kill_grace_ms", s.kill_grace->count());
  if (!s.secrets.empty()) write_secrets(w, s.secrets);
  if (s.staged_at != Wall{}) write_wall(w, "staged_ms", s.staged_at);
  w.end_object();
}

Result<TaskSpec> spec_from(const json::value& v) {
  TaskSpec s;
  s.id = TaskId(json::text(v, "id"));
  s.app = AppId(json::text(v, "app"));
  if (s.id.empty() || s.app.empty()) return fail(Errc::invalid, "task spec: 'id' and 'app' must be given");
  s.app_version = json::text(v, "version");
  s.name = json::text(v, "name");
  s.role = json::text(v, "role", "*");
  if (json::find(v, "cmd")) s.cmd = json::text(v, "cmd");
  if (json::find(v, "args")) s.args = json::texts(v, "args");
  s.user = json::text(v, "user");
  s.env = labels_from(v, "env");
  s.labels = labels_from(v, "labels");
  s.resources = resources_from(v, "resources");
  if (json::find(v, "cpus_limit")) s.cpus_limit = json::integer(v, "cpus_limit");
  if (json::find(v, "mem_limit")) s.mem_limit = json::integer(v, "mem_limit");
  s.ports = ports_from(v, "ports");
  read_mounts(v, s);
  if (const auto* d = json::find(v, "docker")) s.docker = docker_from(*d);
  read_checks(v, s);
  if (json::find(v, "kill_grace_ms")) s.kill_grace = Millis(json::integer(v, "kill_grace_ms"));
  for (const auto& u : json::list(v, "secrets")) s.secrets.push_back({json::text(u, "secret"), json::text(u, "env"), json::text(u, "file")});
  s.staged_at = wall_from(v, "staged_ms");
  return s;
}

void write(JsonWriter& w, const TaskStatus& s) {
  w.begin_object().field("task", s.task).field("state", wire_name(s.state));
  if (!s.uuid.empty()) w.field("uuid", s.uuid);
  if (!s.message.empty()) w.field("message", s.message);
  if (!s.reason.empty()) w.field("reason", s.reason);
  write_wall(w, "at_ms", s.at);
  w.field("healthy", s.healthy);
  if (!s.ready) w.field("ready", false);
  if (!s.last_check_failure.empty()) w.field("check_failure", s.last_check_failure);
  if (s.check_failures) w.field("check_failures", s.check_failures);
  w.field("container_ip", s.container_ip).field("exit_code", s.exit_code).field("exit_signal", s.exit_signal);
  if (s.started_at) write_wall(w, "started_ms", *s.started_at);
  w.end_object();
}

Result<TaskStatus> status_from(const json::value& v) {
  TaskStatus s;
  s.task = TaskId(json::text(v, "task"));
  auto state = task_state_from(json::text(v, "state"));
  if (s.task.empty() || !state) return fail(Errc::invalid, "task status: 'task' and a known 'state' must be given");
  s.state = *state;
  s.uuid = json::text(v, "uuid");
  s.message = json::text(v, "message");
  s.reason = json::text(v, "reason");
  s.at = wall_from(v, "at_ms");
  s.healthy = optional_bool_from(v, "healthy");
  s.ready = json::boolean(v, "ready", true);
  s.last_check_failure = json::text(v, "check_failure");
  s.check_failures = static_cast<std::uint32_t>(json::integer(v, "check_failures"));
  if (json::find(v, "container_ip")) s.container_ip = json::text(v, "container_ip");
  s.exit_code = optional_int_from(v, "exit_code");
  s.exit_signal = optional_int_from(v, "exit_signal");
  s.started_at = optional_wall_from(v, "started_ms");
  return s;
}

}  // namespace croft::link
