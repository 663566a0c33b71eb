// The agent's HTTP face, in Mesos's shapes.

#include "agent/agent_files.hpp"
#include "agent/agent_impl.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "net/jsonp.hpp"

namespace croft::agent {

using net::Request;
using net::Response;

namespace {

void write_resources(JsonWriter& w, std::string_view key, const Resources& r, const PortSet& ports = {}) {
  w.key(key).begin_object().field("cpus", from_milli(r.cpus)).field("gpus", from_milli(r.gpus)).field("mem", from_milli(r.mem)).field("disk", from_milli(r.disk));
  if (!ports.ranges().empty()) w.field("ports", ports.str());
  w.end_object();
}

PortSet ports_of(const TaskSpec& spec) {
  PortSet set;
  for (const auto& p : spec.ports)
    if (p.host_port) set.add(p.host_port);
  return set;
}

std::string container_id(const Run& run) { return run.launch.sandbox.filename().string(); }

/// Tasks without an executor of their own have one by their own name, as command tasks do with Mesos.
void write_executor(JsonWriter& w, const Run& run, const link::HeldTask* held, const Membership& m) {
  const auto& spec = run.launch.spec;
  auto state = held ? held->status.state : run.over ? TaskState::lost : TaskState::staging;
  w.begin_object().field("id", spec.id).field("name", spec.name).field("source", spec.id).field("container", container_id(run)).field("directory", run.launch.sandbox.string());
  write_resources(w, "resources", spec.resources, ports_of(spec));
  w.field("role", spec.role).field("type", "DEFAULT");
  auto home = run.over ? "completed_tasks" : state == TaskState::staging ? "queued_tasks" : "tasks";
  for (std::string_view list : {"tasks", "queued_tasks", "completed_tasks"}) {
    w.key(list).begin_array();
    if (list == home) {
      w.begin_object().field("id", spec.id).field("name", spec.name).field("framework_id", m.cluster_id + "-0000").field("executor_id", "").field("slave_id", m.id).field("state", wire_name(state));
      write_resources(w, "resources", spec.resources, ports_of(spec));
      w.key("labels").begin_array();
      for (const auto& [k, v] : spec.labels) w.begin_object().field("key", k).field("value", v).end_object();
      w.end_array().end_object();
    }
    w.end_array();
  }
  w.end_object();
}

void write_statistics(JsonWriter& w, const Run& run, const Usage& u) {
  const auto& r = run.launch.spec.resources;
  w.key("statistics").begin_object().field("timestamp", to_unix_seconds(system_now().wall)).field("cpus_limit", from_milli(r.cpus));
  w.field("cpus_user_time_secs", u.cpus_user).field("cpus_system_time_secs", u.cpus_system).field("cpus_nr_periods", u.periods).field("cpus_nr_throttled", u.throttled);
  w.field("cpus_throttled_time_secs", u.throttled_seconds).field("mem_limit_bytes", u.memory_limit).field("mem_rss_bytes", u.memory_rss).field("mem_total_bytes", u.memory_total);
  w.field("disk_limit_bytes", static_cast<std::uint64_t>(r.disk) * 1024 * 1024 / 1000).field("processes", u.processes).end_object();
}

void write_version_fields(JsonWriter& w, const link::AgentInfo& info) {
  w.field("version", "1.11.0").field("build_date", "").field("build_time", 0.0).field("build_user", "croft").field("git_tag", "croft " + info.version);
}

}  // namespace

void AgentService::Impl::write_flags(JsonWriter& w) const {
  w.key("flags").begin_object().field("hostname", options.info.hostname).field("ip", options.info.ip).field("port", std::to_string(options.info.port));
  w.field("work_dir", options.work_dir.string()).end_object();
}

std::string AgentService::Impl::state_json() {
  const auto& m = core.membership();
  const auto& info = options.info;
  JsonWriter w;
  w.begin_object();
  write_version_fields(w, info);
  w.field("start_time", to_unix_seconds(started_at)).field("id", m.id).field("pid", fmt::format("slave(1)@{}:{}", info.ip, info.port)).field("hostname", info.hostname);
  w.key("capabilities").begin_array().end_array();
  write_resources(w, "resources", info.total, info.ports);
  w.key("reserved_resources").begin_object().end_object();
  write_resources(w, "unreserved_resources", info.total, info.ports);
  Resources used;
  PortSet used_ports;
  for (const auto& [id, run] : runs) {
    if (run->over) continue;
    used += run->launch.spec.resources;
    for (const auto& range : ports_of(run->launch.spec).ranges())
      for (std::uint32_t p = range.begin; p <= range.end; ++p) used_ports.add(static_cast<std::uint16_t>(p));
  }
  w.key("reserved_resources_allocated").begin_object().end_object();
  write_resources(w, "unreserved_resources_allocated", used, used_ports);
  w.key("attributes").begin_object();
  for (const auto& [k, v] : info.attributes) w.field(k, v);
  w.end_object();
  if (leader) w.field("master_hostname", leader->host);
  write_flags(w);
  w.key("frameworks").begin_array();
  if (!m.cluster_id.empty()) {
    w.begin_object().field("id", m.cluster_id + "-0000").field("name", "marathon").field("user", "root").field("failover_timeout", 604800.0).field("checkpoint", true);
    w.field("hostname", leader ? leader->host : "").field("role", "*");
    for (bool over : {false, true}) {
      w.key(over ? "completed_executors" : "executors").begin_array();
      for (const auto& [id, run] : runs)
        if (run->over == over) write_executor(w, *run, core.task(id), m);
      w.end_array();
    }
    w.end_object();
  }
  w.end_array().key("completed_frameworks").begin_array().end_array().end_object();
  return std::move(w).take();
}

std::string AgentService::Impl::statistics_json(bool containers) {
  JsonWriter w;
  w.begin_array();
  for (const auto& [id, run] : runs) {
    if (run->over) continue;
    w.begin_object().field("executor_id", id).field("executor_name", run->launch.spec.name).field("framework_id", core.membership().cluster_id + "-0000").field("source", id);
    if (containers) {
      const auto* held = core.task(id);
      auto ip = held ? held->status.container_ip.value_or(options.info.ip) : options.info.ip;
      w.field("container_id", container_id(*run)).key("status").begin_object().key("container_id").begin_object().field("value", container_id(*run)).end_object();
      w.key("network_infos").begin_array().begin_object().key("ip_addresses").begin_array().begin_object().field("protocol", "IPv4").field("ip_address", ip).end_object().end_array();
      w.end_object().end_array();
      if (run->started) w.field("executor_pid", run->started->pid);
      w.end_object();
    }
    write_statistics(w, *run, runtime_of(*run).usage(run->launch));
    w.end_object();
  }
  w.end_array();
  return std::move(w).take();
}

/// Mesos's flat names.
std::string AgentService::Impl::metrics_json() {
  Resources used;
  std::map<TaskState, std::size_t> states;
  std::size_t alive = 0;
  for (const auto& [id, run] : runs) {
    if (run->over) continue;
    ++alive;
    used += run->launch.spec.resources;
    const auto* held = core.task(id);
    ++states[held ? held->status.state : TaskState::staging];
  }
  const auto& total = options.info.total;
  JsonWriter w;
  w.begin_object().field("slave/registered", leader ? 1.0 : 0.0).field("slave/uptime_secs", to_seconds(system_now().wall - started_at));
  w.field("slave/frameworks_active", alive > 0 ? 1 : 0).field("slave/executors_running", alive);
  for (auto state : {TaskState::staging, TaskState::starting, TaskState::running, TaskState::killing}) w.field("slave/" + lower(wire_name(state)).replace(0, 4, "tasks"), states[state]);
  for (auto [name, have, taken] : {std::tuple<std::string_view, Milli, Milli>{"cpus", total.cpus, used.cpus}, {"gpus", total.gpus, used.gpus}, {"mem", total.mem, used.mem}, {"disk", total.disk, used.disk}}) {
    w.field(fmt::format("slave/{}_total", name), from_milli(have)).field(fmt::format("slave/{}_used", name), from_milli(taken));
    w.field(fmt::format("slave/{}_percent", name), have > 0 ? static_cast<double>(taken) / static_cast<double>(have) : 0.0);
  }
  w.end_object();
  return std::move(w).take();
}

asio::awaitable<Response> AgentService::Impl::on_strand_as_json(std::function<std::string()> write, Request request) {
  auto self = shared_from_this();
  auto text = co_await on_strand(write);
  auto response = Response::json(std::move(text));
  co_return net::with_jsonp(std::move(response), request);
}

void AgentService::add_routes(net::Router& router) {
  auto impl = impl_;
  auto json = [&](std::string_view name, std::function<std::string()> write) {
    for (auto prefix : {"", "/slave(1)"})
      for (auto end : {"", ".json"})
        router.on("GET", fmt::format("{}/{}{}", prefix, name, end), [impl, write](Request r) { return impl->on_strand_as_json(write, std::move(r)); });
  };
  json("state", [impl] { return impl->state_json(); });
  json("monitor/statistics", [impl] { return impl->statistics_json(false); });
  json("containers", [impl] { return impl->statistics_json(true); });
  json("metrics/snapshot", [impl] { return impl->metrics_json(); });
  json("version", [impl] {
    JsonWriter w;
    w.begin_object();
    write_version_fields(w, impl->options.info);
    w.end_object();
    return std::move(w).take();
  });
  json("flags", [impl] {
    JsonWriter w;
    w.begin_object();
    impl->write_flags(w);
    w.end_object();
    return std::move(w).take();
  });
  for (auto path : {"/health", "/slave(1)/health"}) router.on("GET", path, [](Request) -> asio::awaitable<Response> { co_return Response{}; });
  add_file_routes(router, impl->options.work_dir);
}

}  // namespace croft::agent
