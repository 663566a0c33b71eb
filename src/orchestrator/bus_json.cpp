// Bus events in Marathon's JSON.

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator {

namespace {

std::string_view condition_of(TaskState s) {
  switch (s) {
    case TaskState::staging: return "Staging";
    case TaskState::starting: return "Starting";
    case TaskState::running: return "Running";
    case TaskState::killing: return "Killing";
    case TaskState::finished: return "Finished";
    case TaskState::failed: return "Failed";
    case TaskState::killed: return "Killed";
    case TaskState::error: return "Error";
    case TaskState::dropped: return "Dropped";
    case TaskState::unreachable: return "Unreachable";
    case TaskState::gone: case TaskState::gone_by_operator: return "Gone";
    default: return "Unknown";
  }
}

class Event {
 public:
  Event(std::string_view type, const BusEvent& e) : type_(type) { w_.begin_object().field("eventType", type).field("timestamp", to_iso8601(e.at)); }
  JsonWriter& w() { return w_; }
  WireEvent done() {
    w_.end_object();
    return {type_, std::move(w_).take()};
  }

 private:
  std::string type_;
  JsonWriter w_;
};

void write_plan(JsonWriter& w, const Deployment& d, bool with_step) {
  w.key("plan").begin_object().field("id", d.id).field("version", d.version).key("steps").begin_array();
  for (const auto& step : d.steps) write_step(w, step, true);
  w.end_array().end_object();
  if (!with_step) return;
  w.key("currentStep");
  write_step(w, d.current < d.steps.size() ? d.steps[d.current] : Step{}, true);
}

WireEvent status_update(const BusEvent& e, std::string_view host) {
  const auto& t = *e.task;
  Event out("status_update_event", e);
  out.w().field("slaveId", t.agent).field("taskId", t.spec.id).field("taskStatus", wire_name(t.status.state)).field("message", t.status.message);
  out.w().field("appId", t.spec.app).field("host", host).key("ipAddresses").begin_array();
  if (t.status.container_ip) out.w().begin_object().field("ipAddress", *t.status.container_ip).field("protocol", "IPv4").end_object();
  out.w().end_array().key("ports").begin_array();
  for (const auto& p : t.spec.ports)
    if (p.host_port) out.w().value(p.host_port);
  out.w().end_array().field("version", t.spec.app_version);
  return out.done();
}

std::string host_of(const cluster::Task& t) {
  auto at = t.spec.env.find("HOST");
  return at == t.spec.env.end() ? "" : at->second;
}

std::vector<WireEvent> task_events(const BusEvent& e) {
  using Kind = BusEvent::Kind;
  const auto& t = *e.task;
  auto instance = [&](std::string_view type) {
    Event out(type, e);
    out.w().field("instanceId", t.spec.id).field("runSpecId", t.spec.app).field("runSpecVersion", t.spec.app_version);
    return out;
  };
  switch (e.kind) {
    case Kind::status_update: return {status_update(e, host_of(t))};
    case Kind::instance_changed: {
      auto out = instance("instance_changed_event");
      out.w().field("condition", condition_of(t.status.state)).field("agentId", t.agent).field("host", host_of(t));
      return {out.done()};
    }
    case Kind::instance_health_changed: {
      auto out = instance("instance_health_changed_event");
      out.w().key("healthy");
      if (t.status.healthy) out.w().value(*t.status.healthy);
      else out.w().null();
      return {out.done()};
    }
    case Kind::health_status_changed: {
      Event out("health_status_changed_event", e);
      out.w().field("appId", t.spec.app).field("instanceId", t.spec.id).field("taskId", t.spec.id).field("version", t.spec.app_version).field("alive", t.status.healthy.value_or(false));
      return {out.done()};
    }
    case Kind::failed_health_check: {
      Event out("failed_health_check_event", e);
      out.w().field("appId", t.spec.app).field("taskId", t.spec.id).key("healthCheck");
      if (t.spec.health_checks.empty()) out.w().null();
      else write_check(out.w(), t.spec.health_checks[0]);
      return {out.done()};
    }
    case Kind::unhealthy_kill: {
      Event out("unhealthy_instance_kill_event", e);
      out.w().field("appId", t.spec.app).field("taskId", t.spec.id).field("instanceId", t.spec.id).field("version", t.spec.app_version);
      out.w().field("reason", t.status.message).field("host", host_of(t)).field("slaveId", t.agent);
      return {out.done()};
    }
    default: {
      // Ours: what Marathon never told. Clients skip types that they do not know.
      Event out(e.kind == Kind::drain_started ? "drain_started_event" : e.kind == Kind::drain_ended ? "drain_ended_event" : "task_progress_event", e);
      out.w().field("appId", t.spec.app).field("taskId", t.spec.id).field("message", e.text);
      return {out.done()};
    }
  }
}

std::vector<WireEvent> deployment_events(const BusEvent& e) {
  using Kind = BusEvent::Kind;
  const auto& d = *e.deployment;
  if (e.kind == Kind::group_change_success) {
    Event out("group_change_success", e);
    auto app = d.target.empty() ? std::string("/") : d.target.begin()->first.str();
    auto slash = app.rfind('/');
    out.w().field("groupId", slash == 0 || slash == std::string::npos ? "/" : app.substr(0, slash)).field("version", d.version);
    return {out.done()};
  }
  if (e.kind == Kind::deployment_info || e.kind == Kind::deployment_step_success) {
    Event out(e.kind == Kind::deployment_info ? "deployment_info" : "deployment_step_success", e);
    write_plan(out.w(), d, true);
    return {out.done()};
  }
  Event out(e.kind == Kind::deployment_success ? "deployment_success" : "deployment_failed", e);
  out.w().field("id", d.id);
  write_plan(out.w(), d, false);
  return {out.done()};
}

/// One event a check, as Marathon told them.
std::vector<WireEvent> added_checks(const BusEvent& e) {
  std::vector<WireEvent> out;
  for (const auto& check : e.definition->health_checks) {
    Event event("add_health_check_event", e);
    event.w().field("appId", e.app).field("version", e.definition->version).key("healthCheck");
    write_check(event.w(), check);
    out.push_back(event.done());
  }
  return out;
}

}  // namespace

std::vector<WireEvent> wire_events(const BusEvent& e) {
  if (e.kind == BusEvent::Kind::add_health_check && e.definition) return added_checks(e);
  if (e.deployment) return deployment_events(e);
  if (e.task) return task_events(e);
  if (e.kind == BusEvent::Kind::api_post && e.definition) {
    Event out("api_post_event", e);
    out.w().field("clientIp", e.origin).field("uri", e.text).key("appDefinition").begin_object();
    write_app_fields(out.w(), *e.definition, true);
    out.w().end_object();
    return {out.done()};
  }
  if (e.kind == BusEvent::Kind::app_terminated || e.kind == BusEvent::Kind::remove_health_check) {
    Event out(e.kind == BusEvent::Kind::app_terminated ? "app_terminated_event" : "remove_health_check_event", e);
    out.w().field("appId", e.app);
    return {out.done()};
  }
  if (e.kind == BusEvent::Kind::rule_changed) {
    Event out("balancer_rule_changed_event", e);
    out.w().field("appId", e.app).field("acl", e.text);
    return {out.done()};
  }
  return {};
}

}  // namespace croft::orchestrator
