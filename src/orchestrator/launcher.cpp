// New tasks: how many, where, with what environment; and back-off when they do not stay up.

#include <algorithm>
#include <cmath>

#include "base/text.hpp"
#include "orchestrator/constraints.hpp"
#include "orchestrator/core_impl.hpp"
#include "orchestrator/secrets.hpp"

namespace croft::orchestrator {

namespace {

/// Runs of characters outside [A-Za-z0-9_] become one '_', upper case.
std::string env_name(std::string_view text) {
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (!plain && !out.empty() && out.back() == '_') continue;
    out.push_back(!plain ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c);
  }
  return out;
}

void add_label_env(Labels& env, const Labels& labels) {
  std::vector<std::string> names;
  for (const auto& [name, value] : labels) {
    if (name.size() >= 493 || value.size() >= 512) continue;
    auto upper = env_name(name);
    env["MARATHON_APP_LABEL_" + upper] = value;
    names.push_back(std::move(upper));
  }
  env["MARATHON_APP_LABELS"] = join(names, " ");
}

void add_port_env(Labels& env, const std::vector<PortSpec>& ports) {
  if (ports.empty()) return;
  std::vector<std::string> all;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    auto assigned = ports[i].host_port ? ports[i].host_port : ports[i].container_port;
    auto text = std::to_string(assigned);
    env[fmt::format("PORT{}", i)] = text;
    env[fmt::format("PORT_{}", ports[i].requested ? ports[i].requested : assigned)] = text;
    if (!ports[i].name.empty()) env["PORT_" + env_name(ports[i].name)] = text;
    all.push_back(std::move(text));
  }
  env["PORT"] = all.front();
  env["PORTS"] = join(all, ",");
}

bool mapped(const App& app) { return !app.networks.empty() && app.networks[0].mode != NetworkMode::host; }

}  // namespace

std::uint32_t Orchestrator::Impl::held_back(const AppId& app, Now now) const {
  auto at = held.find(app);
  return at == held.end() || now.mono >= held_until ? 0 : at->second;
}

Millis Orchestrator::Impl::delay_left(const App& app, Now now) const {
  auto at = backoffs.find(app.id);
  if (at == backoffs.end() || at->second.config != app.last_config_change || at->second.until <= now.mono) return Millis(0);
  return std::chrono::ceil<Millis>(at->second.until - now.mono);
}

void Orchestrator::Impl::note_failure(const cluster::Task& task, Now now) {
  auto app = apps.find(task.spec.app);
  if (app == apps.end()) return;
  auto state = task.status.state;
  if (state != TaskState::finished && state != TaskState::killed) {
    const auto* agent = cluster.agent(task.agent);
    failures[app->first] = {app->first, task.spec.id, task.agent, agent ? agent->info.hostname : "", task.status.message, task.status.reason, task.spec.app_version, state, task.status.at};
  }
  bool grows = state == TaskState::failed || state == TaskState::error || state == TaskState::dropped || state == TaskState::gone || state == TaskState::finished;
  if (!grows || task.goal != link::Goal::run || task.spec.app_version < app->second.last_config_change) return;
  auto& b = backoffs[app->first];
  auto cap = Millis(app->second.max_launch_delay);
  bool calm = b.failures > 0 && now.mono - b.last_failure > b.delay + cap;  // it ran long enough in between
  if (b.config != app->second.last_config_change || calm) b = {app->second.last_config_change, Millis(0), {}, {}, 0};
  auto next = b.failures == 0 ? Millis(app->second.backoff) : Millis(static_cast<Millis::rep>(std::llround(static_cast<double>(b.delay.count()) * app->second.backoff_factor)));
  b.delay = std::min(next, cap);
  b.until = now.mono + b.delay;
  b.last_failure = now.mono;
  ++b.failures;
}

TaskSpec Orchestrator::Impl::make_spec(const App& app, const cluster::Placement& placement) {
  TaskSpec s;
  auto safe = app.id.str().substr(1);
  std::replace(safe.begin(), safe.end(), '/', '_');
  s.id = TaskId(safe + "." + new_id());
  s.app = app.id;
  s.app_version = app.version;
  s.name = task_name_of(app.id);
  s.role = app.role;
  s.cmd = app.cmd;
  s.args = app.args;
  s.user = app.user;
  s.labels = app.labels;
  s.resources = app.resources;
  s.cpus_limit = app.cpus_limit;
  s.mem_limit = app.mem_limit;
  s.fetch = app.fetch;
  s.volumes = app.volumes;
  s.docker = app.docker;
  if (s.docker) {
    s.docker->network = app.networks.empty() ? NetworkMode::host : app.networks[0].mode;
    s.docker->network_name = app.networks.empty() ? "" : app.networks[0].name;
  }
  s.health_checks = app.health_checks;
  s.readiness_checks = app.readiness_checks;
  if (app.kill_grace) s.kill_grace = Millis(*app.kill_grace);
  std::size_t next = 0;
  for (const auto& p : app.ports) {
    PortSpec port;
    port.protocol = p.protocol;
    port.name = p.name;
    port.labels = p.labels;
    bool published = !mapped(app) || p.host_port.has_value();
    if (published) port.host_port = placement.host_ports.at(next++);
    if (mapped(app)) {
      port.container_port = p.container_port ? p.container_port : port.host_port;
      port.service_port = p.service_port;
      port.requested = p.container_port;
    } else {
      port.service_port = p.port;
      port.requested = p.port;
    }
    s.ports.push_back(std::move(port));
  }
  s.env["HOST"] = placement.hostname;
  s.env["MESOS_TASK_ID"] = s.id.str();
  s.env["MARATHON_APP_ID"] = app.id.str();
  s.env["MARATHON_APP_VERSION"] = app.version;
  if (app.docker) s.env["MARATHON_APP_DOCKER_IMAGE"] = app.docker->image;
  auto decimal = [](Milli m) {
    auto text = print_number(from_milli(m));
    return text.find('.') == std::string::npos ? text + ".0" : text;
  };
  s.env["MARATHON_APP_RESOURCE_CPUS"] = decimal(app.resources.cpus);
  s.env["MARATHON_APP_RESOURCE_MEM"] = decimal(app.resources.mem);
  s.env["MARATHON_APP_RESOURCE_DISK"] = decimal(app.resources.disk);
  s.env["MARATHON_APP_RESOURCE_GPUS"] = std::to_string(app.resources.gpus / 1000);
  add_label_env(s.env, app.labels);
  add_port_env(s.env, s.ports);
  for (const auto& [name, value] : app.env) s.env[name] = value;
  auto path_of = [&](const std::string& name) {
    auto at = app.secrets.find(name);
    return at == app.secrets.end() ? std::string() : secret_path(at->second);
  };
  for (const auto& [variable, name] : app.env_secrets) s.secrets.push_back({path_of(name), variable});
  for (const auto& [file, name] : app.secret_files) s.secrets.push_back({path_of(name), "", file});
  return s;
}

void Orchestrator::Impl::launch(const App& app, std::uint32_t count, Now now) {
  auto& w = waiting[app.id];
  if (w.count == 0) w.since = now.wall;
  w.count = count;
  w.refused.clear();
  w.by_reason = {};
  if (auto left = delay_left(app, now); left.count() > 0) {
    look_again(app.id, now.mono + left);
    wake_by(now.mono + left);
    return;
  }
  cluster::Shape shape;
  shape.app = app.id;
  shape.resources = app.resources;
  shape.docker = app.docker.has_value();
  for (const auto& p : app.ports) {
    if (mapped(app)) {
      if (p.host_port) shape.host_ports.push_back(*p.host_port);
    } else {
      shape.host_ports.push_back(app.require_ports ? p.port : 0);
    }
  }
  std::optional<Constraints> constraints;
  if (!app.constraints.empty()) shape.chooser = &constraints.emplace(app, cluster);
  auto result = cluster.place(shape, count);
  shape.chooser = nullptr;
  for (const auto& placement : result.placed) {
    auto spec = make_spec(app, placement);
    cluster.launch(std::move(spec), shape, placement, now);
  }
  if (!result.placed.empty()) changed.insert(app.id);
  if (result.placed.size() == count) {
    waiting.erase(app.id);
    return;
  }
  w.count = count - static_cast<std::uint32_t>(result.placed.size());
  w.refused = std::move(result.refused);
  w.considered = result.agents_considered;
  w.by_reason = result.by_reason;
  changed.insert(app.id);
}

}  // namespace croft::orchestrator
