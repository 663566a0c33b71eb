#include "cluster/mesos_api.hpp"

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::cluster {

using net::Request;
using net::Response;

namespace {

std::string framework_id(const FarmView& v) { return v.cluster_id + "-0000"; }

void write_resources(JsonWriter& w, std::string_view key, const Resources& r, const std::string& ports) {
  w.key(key).begin_object().field("cpus", from_milli(r.cpus)).field("mem", from_milli(r.mem)).field("disk", from_milli(r.disk)).field("gpus", from_milli(r.gpus));
  if (!ports.empty()) w.field("ports", ports);
  w.end_object();
}

std::string ports_of(const TaskSpec& spec) {
  PortSet set;
  for (const auto& p : spec.ports)
    if (p.host_port) set.add(p.host_port);
  return set.ranges().empty() ? "" : set.str();
}

void write_task(JsonWriter& w, const FarmView& v, const Task& t) {
  const auto& s = t.spec;
  w.begin_object().field("id", s.id).field("name", s.name).field("framework_id", framework_id(v)).field("executor_id", "").field("slave_id", t.agent);
  w.field("state", wire_name(t.status.state)).field("role", s.role);
  write_resources(w, "resources", s.resources, ports_of(s));
  w.key("labels").begin_array();
  for (const auto& [k, value] : s.labels) w.begin_object().field("key", k).field("value", value).end_object();
  w.end_array().key("statuses").begin_array().begin_object().field("state", wire_name(t.status.state)).field("timestamp", to_unix_seconds(t.status.at));
  w.field("healthy", t.status.healthy).key("container_status").begin_object().key("network_infos").begin_array();
  if (t.status.container_ip) w.begin_object().key("ip_addresses").begin_array().begin_object().field("protocol", "IPv4").field("ip_address", *t.status.container_ip).end_object().end_array().end_object();
  w.end_array().end_object().end_object().end_array();
  w.key("discovery").begin_object().field("visibility", "FRAMEWORK").field("name", s.name).key("ports").begin_object().key("ports").begin_array();
  for (const auto& p : s.ports) {
    w.begin_object().field("number", p.host_port ? p.host_port : p.container_port).field("protocol", to_string(p.protocol));
    if (!p.name.empty()) w.field("name", p.name);
    w.end_object();
  }
  w.end_array().end_object().end_object();
  if (s.docker) w.key("container").begin_object().field("type", "DOCKER").key("docker").begin_object().field("image", s.docker->image).end_object().end_object();
  w.end_object();
}

void write_slave(JsonWriter& w, const Agent& a) {
  w.begin_object().field("id", a.id).field("hostname", a.info.hostname).field("port", a.info.port).field("pid", fmt::format("slave(1)@{}:{}", a.info.ip, a.info.port));
  w.field("registered_time", to_unix_seconds(a.registered)).field("reregistered_time", to_unix_seconds(a.reregistered)).field("active", a.reachable).field("version", "1.11.0");
  write_resources(w, "resources", a.info.total, a.info.ports.str());
  write_resources(w, "used_resources", a.used, "");
  write_resources(w, "offered_resources", {}, "");
  write_resources(w, "unreserved_resources", a.info.total, a.info.ports.str());
  w.key("reserved_resources").begin_object().end_object().key("attributes").begin_object();
  for (const auto& [k, v] : a.info.attributes) w.field(k, v);
  w.end_object().field("croft_tasks", a.tasks).end_object();
}

void write_slaves(JsonWriter& w, const FarmView& v) {
  w.key("slaves").begin_array();
  for (const auto& a : v.agents) write_slave(w, *a);
  w.end_array();
}

void write_live_tasks(JsonWriter& w, const FarmView& v) {
  v.tasks.for_each([&](const TaskId&, const auto& t) {
    if (!is_terminal(t->status.state)) write_task(w, v, *t);
  });
}

void write_state(JsonWriter& w, const FarmView& v, const MesosOptions& o) {
  std::size_t active = 0;
  Resources used;
  for (const auto& a : v.agents) active += a->reachable, used += a->used;
  w.begin_object().field("version", "1.11.0").field("git_tag", "croft " + v.version).field("id", v.cluster_id).field("pid", fmt::format("master@{}:{}", v.ip, o.port));
  w.field("hostname", v.hostname).field("leader", fmt::format("master@{}:{}", v.ip, o.port)).field("start_time", to_unix_seconds(v.started)).field("elected_time", to_unix_seconds(v.elected));
  w.key("leader_info").begin_object().field("id", v.cluster_id).field("pid", fmt::format("master@{}:{}", v.ip, o.port)).field("port", o.port).field("hostname", v.hostname).end_object();
  w.field("cluster", "croft").field("activated_slaves", active).field("deactivated_slaves", v.agents.size() - active).field("unreachable_slaves", v.agents.size() - active);
  w.key("flags").begin_object().field("port", std::to_string(o.port)).end_object();
  write_slaves(w, v);
  w.key("frameworks").begin_array().begin_object().field("id", framework_id(v)).field("name", "marathon").field("pid", "").field("hostname", v.hostname).field("active", true);
  w.field("connected", true).field("role", "*").field("user", "root").field("failover_timeout", 604800).field("checkpoint", true).field("webui_url", "http://" + v.leader + "/ui");
  w.field("registered_time", to_unix_seconds(v.elected));
  write_resources(w, "used_resources", used, "");
  write_resources(w, "resources", used, "");
  w.key("tasks").begin_array();
  write_live_tasks(w, v);
  w.end_array().key("completed_tasks").begin_array();
  for (const auto& t : v.ended) write_task(w, v, *t);
  w.end_array().end_object().end_array().key("completed_frameworks").begin_array().end_array().key("orphan_tasks").begin_array().end_array();
  w.key("unregistered_frameworks").begin_array().end_array().end_object();
}

void write_metrics(JsonWriter& w, const FarmView& v) {
  std::size_t active = 0, running = 0, staging = 0, unreachable = 0;
  Resources total, used;
  for (const auto& a : v.agents) active += a->reachable, total += a->info.total, used += a->used;
  v.tasks.for_each([&](const TaskId&, const auto& t) {
    running += t->status.state == TaskState::running;
    staging += t->status.state == TaskState::staging;
    unreachable += t->status.state == TaskState::unreachable;
  });
  auto share = [](Milli u, Milli t) { return t > 0 ? static_cast<double>(u) / static_cast<double>(t) : 0.0; };
  w.begin_object().field("master/elected", 1.0).field("master/uptime_secs", static_cast<double>((v.made - v.started).count()) / 1000.0);
  w.field("master/slaves_active", active).field("master/slaves_connected", active).field("master/slaves_unreachable", v.agents.size() - active);
  w.field("master/frameworks_active", 1).field("master/frameworks_connected", 1).field("master/tasks_running", running).field("master/tasks_staging", staging);
  w.field("master/tasks_unreachable", unreachable).field("master/cpus_total", from_milli(total.cpus)).field("master/cpus_used", from_milli(used.cpus)).field("master/cpus_percent", share(used.cpus, total.cpus));
  w.field("master/mem_total", from_milli(total.mem)).field("master/mem_used", from_milli(used.mem)).field("master/mem_percent", share(used.mem, total.mem));
  w.field("master/disk_total", from_milli(total.disk)).field("master/disk_used", from_milli(used.disk)).end_object();
}

}  // namespace

void add_mesos_routes(net::Router& router, std::function<std::shared_ptr<const FarmView>()> view, MesosOptions options) {
  using Write = std::function<void(JsonWriter&, const FarmView&)>;
  auto get = [&](std::initializer_list<std::string_view> patterns, Write write) {
    for (auto pattern : patterns)
      for (auto end : {"", ".json"})
        router.on("GET", std::string(pattern) + end, [view, write](Request) -> net::asio::awaitable<Response> {
          auto v = view();
          JsonWriter w;
          write(w, *v);
          co_return Response::json(std::move(w).take());
        });
  };
  get({"/state", "/master/state", "/state-summary", "/master/state-summary"}, [options](JsonWriter& w, const FarmView& v) { write_state(w, v, options); });
  get({"/slaves", "/master/slaves"}, [](JsonWriter& w, const FarmView& v) {
    w.begin_object();
    write_slaves(w, v);
    w.key("recovered_slaves").begin_array().end_array().end_object();
  });
  get({"/tasks", "/master/tasks"}, [](JsonWriter& w, const FarmView& v) {
    w.begin_object().key("tasks").begin_array();
    write_live_tasks(w, v);
    for (const auto& t : v.ended) write_task(w, v, *t);
    w.end_array().end_object();
  });
  get({"/metrics/snapshot"}, [](JsonWriter& w, const FarmView& v) { write_metrics(w, v); });
  get({"/version"}, [](JsonWriter& w, const FarmView& v) { w.begin_object().field("version", "1.11.0").field("build_user", "croft").field("git_tag", "croft " + v.version).end_object(); });
  for (auto path : {"/health", "/master/health"}) router.on("GET", path, [](Request) -> net::asio::awaitable<Response> { co_return Response{}; });
  for (auto path : {"/redirect", "/master/redirect"})
    router.on("GET", path, [view, options](Request) -> net::asio::awaitable<Response> { co_return Response::redirect(fmt::format("//{}:{}", view()->hostname, options.port), 307); });
}

}  // namespace croft::cluster
