// App definitions out, in the canonical form, with the old spellings that clients of 2015 read beside it.

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/app_json.hpp"
#include "orchestrator/marathon_app.hpp"

namespace croft::orchestrator {

namespace {

void write_labels(JsonWriter& w, std::string_view key, const Labels& labels) {
  w.key(key).begin_object();
  for (const auto& [k, v] : labels) w.field(k, v);
  w.end_object();
}

template <class T>
void write_texts(JsonWriter& w, std::string_view key, const std::vector<T>& texts) {
  w.key(key).begin_array();
  for (const auto& t : texts) w.value(t);
  w.end_array();
}

std::string_view mode_name(NetworkMode m) { return m == NetworkMode::host ? "host" : m == NetworkMode::bridge ? "container/bridge" : "container"; }

void write_mappings(JsonWriter& w, const App& app) {
  w.key("portMappings").begin_array();
  for (const auto& p : app.ports) {
    w.begin_object().field("containerPort", p.container_port).field("hostPort", p.host_port);
    write_labels(w, "labels", p.labels);
    if (!p.name.empty()) w.field("name", p.name);
    w.field("protocol", to_string(p.protocol)).field("servicePort", p.service_port);
    if (!p.network_names.empty()) write_texts(w, "networkNames", p.network_names);
    w.end_object();
  }
  w.end_array();
}

void write_container(JsonWriter& w, const App& app, bool old_forms) {
  if (app.container == ContainerType::none) return;
  bool mapped = !app.networks.empty() && app.networks[0].mode != NetworkMode::host;
  w.key("container").begin_object().field("type", app.container == ContainerType::docker ? "DOCKER" : "MESOS");
  if (app.docker) {
    w.key("docker").begin_object().field("image", app.docker->image).field("forcePullImage", app.docker->force_pull).field("privileged", app.docker->privileged);
    w.key("parameters").begin_array();
    for (const auto& [k, v] : app.docker->parameters) w.begin_object().field("key", k).field("value", v).end_object();
    w.end_array();
    if (old_forms && app.container == ContainerType::docker) {
      w.field("network", !mapped ? "HOST" : app.networks[0].mode == NetworkMode::bridge ? "BRIDGE" : "USER");
      if (mapped) write_mappings(w, app);
    }
    w.end_object();
  }
  w.key("volumes").begin_array();
  for (const auto& v : app.volumes) w.begin_object().field("containerPath", v.container_path).field("hostPath", v.host_path).field("mode", v.mode).end_object();
  for (const auto& [path, secret] : app.secret_files) w.begin_object().field("containerPath", path).field("secret", secret).end_object();
  w.end_array();
  if (mapped) write_mappings(w, app);
  w.end_object();
}

void write_ports(JsonWriter& w, const App& app, bool old_forms) {
  bool mapped = !app.networks.empty() && app.networks[0].mode != NetworkMode::host;
  w.key("networks").begin_array();
  for (const auto& n : app.networks) {
    w.begin_object().field("mode", mode_name(n.mode));
    if (!n.name.empty()) w.field("name", n.name);
    if (!n.labels.empty()) write_labels(w, "labels", n.labels);
    w.end_object();
  }
  w.end_array();
  if (!mapped) {
    w.key("portDefinitions").begin_array();
    for (const auto& p : app.ports) {
      w.begin_object();
      write_labels(w, "labels", p.labels);
      if (!p.name.empty()) w.field("name", p.name);
      w.field("port", p.port).field("protocol", to_string(p.protocol)).end_object();
    }
    w.end_array();
  }
  w.field("requirePorts", app.require_ports);
  if (!old_forms) return;
  w.key("ports").begin_array();
  for (const auto& p : app.ports) w.value(mapped ? p.service_port : p.port);
  w.end_array();
}

void write_checks(JsonWriter& w, const App& app) {
  if (!app.health_checks.empty()) {
    w.key("healthChecks").begin_array();
    for (const auto& c : app.health_checks) write_check(w, c);
    w.end_array();
  }
  if (app.readiness_checks.empty()) return;
  w.key("readinessChecks").begin_array();
  for (const auto& r : app.readiness_checks) {
    w.begin_object().field("name", r.name).field("protocol", r.protocol).field("path", r.path).field("portName", r.port_name);
    w.field("intervalSeconds", r.interval.count() / 1000).field("timeoutSeconds", r.timeout.count() / 1000);
    write_texts(w, "httpStatusCodesForReady", r.ready_statuses);
    w.field("preserveLastResponse", r.preserve_last_response).end_object();
  }
  w.end_array();
}

void write_limits(JsonWriter& w, const App& app) {
  if (!app.cpus_limit && !app.mem_limit) return;
  auto limit = [&](std::string_view key, const std::optional<Milli>& v) {
    if (!v) return;
    if (*v < 0) w.field(key, "unlimited");
    else w.field(key, from_milli(*v));
  };
  w.key("resourceLimits").begin_object();
  limit("cpus", app.cpus_limit);
  limit("mem", app.mem_limit);
  w.end_object();
}

}  // namespace

void write_check(JsonWriter& w, const HealthCheck& c) {
  w.begin_object().field("protocol", c.protocol_name);
  if (c.kind == CheckKind::command) w.key("command").begin_object().field("value", c.command).end_object();
  if (c.kind == CheckKind::http || c.kind == CheckKind::https) w.field("path", c.path).field("ignoreHttp1xx", c.ignore_1xx);
  w.field("portIndex", c.port_index).field("port", c.port);
  if (c.kind != CheckKind::command) w.field("ipProtocol", "IPv4");
  w.field("gracePeriodSeconds", c.grace.count() / 1000).field("intervalSeconds", c.interval.count() / 1000).field("timeoutSeconds", c.timeout.count() / 1000);
  w.field("maxConsecutiveFailures", c.failures_max).field("delaySeconds", c.delay.count() / 1000);
  w.end_object();
}

void write_app_fields(JsonWriter& w, const App& app, bool old_forms) {
  w.field("id", app.id).field("cmd", app.cmd);
  if (app.args) write_texts(w, "args", *app.args);
  if (!app.user.empty()) w.field("user", app.user);
  if (!app.accepted_roles.empty()) write_texts(w, "acceptedResourceRoles", app.accepted_roles);
  w.field("backoffFactor", app.backoff_factor).field("backoffSeconds", app.backoff.count());
  if (!app.constraints.empty() || old_forms) {
    w.key("constraints").begin_array();
    for (const auto& c : app.constraints) {
      w.begin_array();
      for (const auto& t : c) w.value(t);
      w.end_array();
    }
    w.end_array();
  }
  write_container(w, app, old_forms);
  w.field("cpus", from_milli(app.resources.cpus)).field("disk", from_milli(app.resources.disk)).field("gpus", app.resources.gpus / 1000);
  if (!app.dependencies.empty() || old_forms) write_texts(w, "dependencies", app.dependencies);
  w.key("env").begin_object();
  for (const auto& [k, v] : app.env) w.field(k, v);
  for (const auto& [variable, secret] : app.env_secrets) w.key(variable).begin_object().field("secret", secret).end_object();
  w.end_object();
  w.field("executor", app.executor);
  w.key("fetch").begin_array();
  for (const auto& a : app.fetch) {
    w.begin_object().field("uri", a.uri).field("extract", a.extract).field("executable", a.executable).field("cache", a.cache);
    if (!a.dest_path.empty()) w.field("destPath", a.dest_path);
    if (!a.checksum.empty()) w.field("checksum", a.checksum);
    w.end_object();
  }
  w.end_array();
  if (old_forms) {
    w.key("uris").begin_array();
    for (const auto& a : app.fetch) w.value(a.uri);
    w.end_array();
  }
  write_checks(w, app);
  w.field("instances", app.instances).field("killSelection", app.kill_oldest_first ? "OLDEST_FIRST" : "YOUNGEST_FIRST");
  write_labels(w, "labels", app.labels);
  w.field("maxLaunchDelaySeconds", app.max_launch_delay.count()).field("mem", from_milli(app.resources.mem));
  write_ports(w, app, old_forms);
  write_limits(w, app);
  w.field("role", app.role);
  if (!app.secrets.empty()) {
    w.key("secrets").begin_object();
    for (const auto& [name, source] : app.secrets) w.key(name).begin_object().field("source", source).end_object();
    w.end_object();
  }
  if (app.kill_grace) w.field("taskKillGracePeriodSeconds", app.kill_grace->count());
  w.key("unreachableStrategy");
  if (app.unreachable.disabled) w.value("disabled");
  else w.begin_object().field("inactiveAfterSeconds", app.unreachable.inactive_after.count()).field("expungeAfterSeconds", app.unreachable.expunge_after.count()).end_object();
  w.key("upgradeStrategy").begin_object().field("minimumHealthCapacity", app.upgrade.minimum_health_capacity);
  w.field("maximumOverCapacity", app.upgrade.maximum_over_capacity).end_object();
  if (app.kept.is_object())
    for (const auto& e : app.kept.get_object()) w.key(e.key()).value(e.value());
  w.field("version", app.version).key("versionInfo").begin_object();
  w.field("lastScalingAt", app.last_scaling).field("lastConfigChangeAt", app.last_config_change).end_object();
}

std::string encode_app(const App& app) {
  JsonWriter w;
  w.begin_object().field("format", 1);
  write_app_fields(w, app, false);
  w.end_object();
  return std::move(w).take();
}

Result<App> decode_app(std::string_view text) {
  auto parsed = json::parse(text);
  if (!parsed) return fail(std::move(parsed).error());
  if (parsed->is_object())
    for (auto key : {"ipAddress", "residency"}) parsed->get_object().erase(key);  // kept without effect by earlier builds
  if (json::integer(*parsed, "format", 1) > 1) return fail(Errc::invalid, "written by a newer croft (format {})", json::integer(*parsed, "format"));
  Problems problems;
  App base;
  base.version = "stored";  // no defaults are filled in: the record is whole
  auto app = read_manifest(*parsed, std::move(base), problems);
  if (problems.any()) return fail(Errc::corrupt, "stored app: {}", problems.json());
  app.version = json::text(*parsed, "version");
  if (const auto* info = json::find(*parsed, "versionInfo")) {
    app.last_scaling = json::text(*info, "lastScalingAt");
    app.last_config_change = json::text(*info, "lastConfigChangeAt");
  }
  return app;
}

}  // namespace croft::orchestrator
