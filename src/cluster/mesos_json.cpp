#include "cluster/mesos_json.hpp"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::cluster::mesos {

namespace {

constexpr std::string_view mesos_version = "1.11.0";  // of the API that is spoken; clients parse major.minor.patch

std::string framework_id(const FarmView& v) { return v.cluster_id + "-0000"; }
std::string master_pid(const FarmView& v, std::uint16_t port) { return fmt::format("master@{}:{}", v.ip, port); }
std::string marathon_port(const FarmView& v) { return v.leader.substr(v.leader.rfind(':') + 1); }

// --- resources ---

void write_amounts(JsonWriter& w, const Resources& r, const PortSet& ports) {
  w.begin_object().field("cpus", from_milli(r.cpus)).field("gpus", from_milli(r.gpus)).field("mem", from_milli(r.mem)).field("disk", from_milli(r.disk));
  if (!ports.ranges().empty()) w.field("ports", ports.str());
  w.end_object();
}
void write_resources(JsonWriter& w, std::string_view key, const Resources& r, const PortSet& ports = {}) {
  w.key(key);
  write_amounts(w, r, ports);
}

/// The typed form, [{name, type, scalar|ranges, role}].
void write_full(JsonWriter& w, std::string_view key, const Resources& r, const PortSet& ports) {
  w.key(key).begin_array();
  for (auto [name, amount] : {std::pair<std::string_view, Milli>{"cpus", r.cpus}, {"gpus", r.gpus}, {"mem", r.mem}, {"disk", r.disk}})
    if (amount != 0) w.begin_object().field("name", name).field("type", "SCALAR").key("scalar").begin_object().field("value", from_milli(amount)).end_object().field("role", "*").end_object();
  if (!ports.ranges().empty()) {
    w.begin_object().field("name", "ports").field("type", "RANGES").key("ranges").begin_object().key("range").begin_array();
    for (const auto& range : ports.ranges()) w.begin_object().field("begin", range.begin).field("end", range.end).end_object();
    w.end_array().end_object().field("role", "*").end_object();
  }
  w.end_array();
}

/// What an agent has and does not have free.
PortSet taken_ports(const Agent& a) {
  std::vector<PortRange> out;
  const auto& free = a.free_ports.ranges();
  auto f = free.begin();
  for (const auto& have : a.info.ports.ranges()) {
    std::uint32_t at = have.begin;
    while (f != free.end() && f->end < have.begin) ++f;
    for (; f != free.end() && f->begin <= have.end; ++f) {
      if (f->begin > at) out.push_back({static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(f->begin - 1)});
      at = f->end + 1u;
    }
    if (at <= have.end) out.push_back({static_cast<std::uint16_t>(at), have.end});
  }
  return PortSet(std::move(out));
}

PortSet ports_of(const TaskSpec& spec) {
  PortSet set;
  for (const auto& p : spec.ports)
    if (p.host_port) set.add(p.host_port);
  return set;
}

// --- tasks ---

struct Seen { TaskState state; Wall at; };

/// One entry for each state that the task was told to be in, oldest first. Of the ones before the newest the beginning is kept.
std::vector<Seen> statuses_of(const Task& t) {
  const auto& s = t.status;
  std::vector<Seen> out;
  if (s.state == TaskState::staging) return out;
  if (s.started_at && s.state != TaskState::running && s.state != TaskState::starting) out.push_back({TaskState::running, *s.started_at});
  out.push_back({s.state, s.at});
  return out;
}

Wall first_status(const Task& t) {
  auto all = statuses_of(t);
  return all.empty() ? t.staged_at : t.status.started_at.value_or(all.front().at);
}

const Agent* agent_of(const FarmView& v, const AgentId& id) {
  auto at = std::lower_bound(v.agents.begin(), v.agents.end(), id, [](const auto& a, const AgentId& b) { return a->id < b; });
  return at != v.agents.end() && (*at)->id == id ? at->get() : nullptr;
}

void write_labels(JsonWriter& w, const Labels& labels) {
  w.key("labels").begin_array();
  for (const auto& [k, value] : labels) w.begin_object().field("key", k).field("value", value).end_object();
  w.end_array();
}

/// A task without an address of its own is reached by its agent's: discovery services count on one being there.
void write_network(JsonWriter& w, const Task& t, const Agent* agent) {
  auto ip = t.status.container_ip ? *t.status.container_ip : agent ? agent->info.ip : std::string();
  if (t.spec.docker && t.status.container_ip)
    w.key("labels").begin_array().begin_object().field("key", "Docker.NetworkSettings.IPAddress").field("value", ip).end_object().end_array();
  w.key("container_status").begin_object().key("container_id").begin_object().field("value", t.spec.id).end_object().key("network_infos").begin_array();
  if (!ip.empty()) {
    w.begin_object().key("ip_addresses").begin_array().begin_object().field("protocol", ip.find(':') == std::string::npos ? "IPv4" : "IPv6").field("ip_address", ip);
    w.end_object().end_array().end_object();
  }
  w.end_array().end_object();
}

void write_discovery(JsonWriter& w, const TaskSpec& s) {
  w.key("discovery").begin_object().field("visibility", "FRAMEWORK").field("name", s.name).key("ports").begin_object().key("ports").begin_array();
  for (const auto& p : s.ports) {
    auto number = p.host_port ? p.host_port : p.container_port;
    for (auto protocol : {Protocol::tcp, Protocol::udp}) {
      if (p.protocol != protocol && p.protocol != Protocol::both) continue;
      w.begin_object().field("number", number);
      if (!p.name.empty()) w.field("name", p.name);
      w.field("protocol", to_string(protocol)).end_object();
    }
  }
  w.end_array().end_object().end_object();
}

void write_task(JsonWriter& w, const FarmView& v, const Task& t) {
  const auto& s = t.spec;
  w.begin_object().field("id", s.id).field("name", s.name).field("framework_id", framework_id(v)).field("executor_id", "").field("slave_id", t.agent);
  w.field("state", wire_name(t.status.state));
  write_resources(w, "resources", s.resources, ports_of(s));
  w.field("role", s.role).key("statuses").begin_array();
  const auto* agent = agent_of(v, t.agent);
  for (const auto& seen : statuses_of(t)) {
    w.begin_object().field("state", wire_name(seen.state)).field("timestamp", to_unix_seconds(seen.at));
    write_network(w, t, agent);
    if (seen.state == t.status.state) w.field("healthy", t.status.healthy);
    w.end_object();
  }
  w.end_array();
  if (!s.user.empty()) w.field("user", s.user);
  write_labels(w, s.labels);
  write_discovery(w, s);
  if (s.docker) w.key("container").begin_object().field("type", "DOCKER").key("docker").begin_object().field("image", s.docker->image).end_object().end_object();
  w.end_object();
}

template <class F>
void each_live(const FarmView& v, F&& f) {
  v.tasks.for_each([&](const TaskId&, const auto& t) {
    if (!is_terminal(t->status.state)) f(*t);
  });
}

// --- agents ---

void write_slave_fields(JsonWriter& w, const Agent& a) {
  auto taken = taken_ports(a);
  w.field("id", a.id).field("hostname", a.info.hostname).field("port", a.info.port).key("attributes").begin_object();
  for (const auto& [k, value] : a.info.attributes) w.field(k, value);
  w.end_object().field("pid", fmt::format("slave(1)@{}:{}", a.info.ip, a.info.port)).field("registered_time", to_unix_seconds(a.registered));
  if (a.reregistered != a.registered) w.field("reregistered_time", to_unix_seconds(a.reregistered));
  write_resources(w, "resources", a.info.total, a.info.ports);
  write_resources(w, "used_resources", a.used, taken);
  write_resources(w, "offered_resources", {});
  w.key("reserved_resources").begin_object().end_object();
  write_resources(w, "unreserved_resources", a.info.total, a.info.ports);
  w.field("active", a.connected).field("deactivated", a.draining).field("version", mesos_version).key("capabilities").begin_array().end_array();
}

/// As with Mesos: an agent that was silent for too long is not in the list any more, only in the count.
template <class F>
void each_slave(const FarmView& v, F&& f) {
  for (const auto& a : v.agents)
    if (a->reachable) f(*a);
}

// --- the framework ---

constexpr TaskState counted[] = {TaskState::staging, TaskState::starting, TaskState::running, TaskState::killing, TaskState::finished,
                                 TaskState::killed,  TaskState::failed,   TaskState::lost,    TaskState::error,   TaskState::unreachable};
using Counts = std::map<TaskState, std::size_t>;

void write_counts(JsonWriter& w, const Counts& counts) {
  for (auto state : counted) {
    auto at = counts.find(state);
    w.field(wire_name(state), at == counts.end() ? 0 : at->second);
  }
}

Resources held_by_tasks(const FarmView& v) {
  Resources sum;
  for (const auto& a : v.agents) sum += a->used;
  return sum;
}

void write_framework_head(JsonWriter& w, const FarmView& v) {
  // Marathon's own id, name and address as a driver's: Mesos-DNS makes marathon.mesos of the latter.
  w.field("id", framework_id(v)).field("name", "marathon").field("pid", fmt::format("scheduler-{}@{}:{}", v.cluster_id, v.ip, marathon_port(v)));
  write_resources(w, "used_resources", held_by_tasks(v));
  write_resources(w, "offered_resources", {});
  w.key("capabilities").begin_array().value("PARTITION_AWARE").value("TASK_KILLING_STATE").end_array();
  w.field("hostname", v.hostname).field("webui_url", fmt::format("http://{}:{}/ui", v.ip, marathon_port(v))).field("active", true).field("connected", true).field("recovered", false);
}

void write_framework_until_tasks(JsonWriter& w, const FarmView& v) {
  w.begin_object();
  write_framework_head(w, v);
  w.field("user", "root").field("failover_timeout", 604800.0).field("checkpoint", true).field("registered_time", to_unix_seconds(v.elected)).field("unregistered_time", 0.0);
  write_resources(w, "resources", held_by_tasks(v));
  w.field("role", "*");
}
void write_framework_end(JsonWriter& w) {
  w.key("offers").begin_array().end_array().key("executors").begin_array().end_array().end_object();
}

/// A framework's three lists of tasks, in the order in which they are written.
struct TaskLists {
  struct List { std::string_view key; std::vector<const Task*> tasks; };
  std::array<List, 3> lists;
  explicit TaskLists(const FarmView& v) : lists{List{"tasks", {}}, List{"unreachable_tasks", {}}, List{"completed_tasks", {}}} {
    lists[0].tasks.reserve(v.tasks.size());
    each_live(v, [&](const Task& t) { lists[t.status.state == TaskState::unreachable ? 1 : 0].tasks.push_back(&t); });
    for (const auto& t : v.ended) lists[2].tasks.push_back(t.get());
  }
};

void write_framework(JsonWriter& w, const FarmView& v) {
  write_framework_until_tasks(w, v);
  for (const auto& list : TaskLists(v).lists) {
    w.key(list.key).begin_array();
    for (const auto* t : list.tasks) write_task(w, v, *t);
    w.end_array();
  }
  write_framework_end(w);
}

void write_version_fields(JsonWriter& w, const FarmView& v) {
  w.field("version", mesos_version).field("build_date", "").field("build_time", 0.0).field("build_user", "croft").field("git_tag", "croft " + v.version);
}

void write_flags(JsonWriter& w, const FarmView& v, std::uint16_t port) {
  w.key("flags").begin_object().field("cluster", "croft").field("hostname", v.hostname).field("ip", v.ip).field("port", std::to_string(port)).end_object();
}

struct Totals {
  std::size_t connected = 0, disconnected = 0, unreachable = 0;
  Resources total, used;
  explicit Totals(const FarmView& v) {
    for (const auto& a : v.agents) {
      ++(!a->reachable ? unreachable : a->connected ? connected : disconnected);
      if (a->reachable) total += a->info.total, used += a->used;
    }
  }
};

}  // namespace

namespace {

void write_state_until_frameworks(JsonWriter& w, const FarmView& v, std::uint16_t port) {
  Totals totals(v);
  auto pid = master_pid(v, port);
  w.begin_object();
  write_version_fields(w, v);
  w.field("start_time", to_unix_seconds(v.started)).field("elected_time", to_unix_seconds(v.elected)).field("id", v.cluster_id).field("pid", pid).field("hostname", v.hostname);
  w.key("capabilities").begin_array().end_array();
  w.field("activated_slaves", totals.connected).field("deactivated_slaves", totals.disconnected).field("unreachable_slaves", totals.unreachable).field("leader", pid);
  w.key("leader_info").begin_object().field("id", v.cluster_id).field("pid", pid).field("port", port).field("hostname", v.hostname).end_object();
  w.field("cluster", "croft");
  write_flags(w, v, port);
  w.key("slaves").begin_array();
  each_slave(v, [&](const Agent& a) {
    w.begin_object();
    write_slave_fields(w, a);
    w.end_object();
  });
  w.end_array().key("recovered_slaves").begin_array().end_array().key("frameworks").begin_array();
}

void write_state_end(JsonWriter& w) {
  w.end_array();
  for (auto key : {"completed_frameworks", "orphan_tasks", "unregistered_frameworks"}) w.key(key).begin_array().end_array();
  w.end_object();
}

}  // namespace

struct StatePieces::Impl {
  std::shared_ptr<const FarmView> view;
  std::uint16_t port;
  JsonWriter writer;
  std::optional<TaskLists> tasks;  // once the head is written
  std::size_t list = 0, at = 0;
  bool done = false;

  /// A few tasks further, or past a list's end.
  void step() {
    if (!tasks) {
      write_state_until_frameworks(writer, *view, port);
      write_framework_until_tasks(writer, *view);
      tasks.emplace(*view);
      writer.key(tasks->lists[0].key).begin_array();
      return;
    }
    const auto& now = tasks->lists[list].tasks;
    if (at < now.size()) {
      write_task(writer, *view, *now[at++]);
      return;
    }
    writer.end_array();
    at = 0;
    if (++list < tasks->lists.size()) {
      writer.key(tasks->lists[list].key).begin_array();
      return;
    }
    write_framework_end(writer);
    write_state_end(writer);
    done = true;
  }
};

StatePieces::StatePieces(std::shared_ptr<const FarmView> view, std::uint16_t port) : impl_(new Impl{std::move(view), port, {}, {}}) {}
StatePieces::~StatePieces() = default;

std::string state(const FarmView& v, std::uint16_t port) {
  StatePieces::Impl whole{std::shared_ptr<const FarmView>(std::shared_ptr<const FarmView>(), &v), port, {}, {}};
  while (!whole.done) whole.step();
  return std::move(whole.writer).take();
}

bool StatePieces::next(std::string& piece) {
  constexpr std::size_t enough = 60'000;
  if (impl_->done) return false;
  while (!impl_->done && impl_->writer.size() < enough) impl_->step();
  impl_->writer.drain(piece);
  return true;
}

std::string state_summary(const FarmView& v) {
  Counts all;
  std::map<AgentId, Counts> by_agent;
  each_live(v, [&](const Task& t) { ++all[t.status.state], ++by_agent[t.agent][t.status.state]; });
  for (const auto& t : v.ended) ++all[t->status.state], ++by_agent[t->agent][t->status.state];
  JsonWriter w;
  w.begin_object().field("hostname", v.hostname).field("cluster", "croft").key("slaves").begin_array();
  each_slave(v, [&](const Agent& a) {
    w.begin_object();
    write_slave_fields(w, a);
    write_counts(w, by_agent[a.id]);
    w.key("framework_ids").begin_array();
    if (a.tasks > 0) w.value(framework_id(v));
    w.end_array().end_object();
  });
  w.end_array().key("frameworks").begin_array().begin_object();
  write_framework_head(w, v);
  write_counts(w, all);
  w.key("slave_ids").begin_array();
  each_slave(v, [&](const Agent& a) { if (a.tasks > 0) w.value(a.id); });
  w.end_array().end_object().end_array().end_object();
  return std::move(w).take();
}

std::string slaves(const FarmView& v, const std::optional<std::string>& only) {
  JsonWriter w;
  w.begin_object().key("slaves").begin_array();
  each_slave(v, [&](const Agent& a) {
    if (only && a.id.str() != *only) return;
    w.begin_object();
    write_slave_fields(w, a);
    w.key("reserved_resources_full").begin_object().end_object();
    write_full(w, "unreserved_resources_full", a.info.total, a.info.ports);
    write_full(w, "used_resources_full", a.used, taken_ports(a));
    write_full(w, "offered_resources_full", {}, {});
    w.end_object();
  });
  w.end_array().key("recovered_slaves").begin_array().end_array().end_object();
  return std::move(w).take();
}

std::string frameworks(const FarmView& v, const std::optional<std::string>& only) {
  JsonWriter w;
  w.begin_object().key("frameworks").begin_array();
  if (!only || *only == framework_id(v)) write_framework(w, v);
  w.end_array().key("completed_frameworks").begin_array().end_array().key("unregistered_frameworks").begin_array().end_array().end_object();
  return std::move(w).take();
}

std::string tasks(const FarmView& v, const TaskQuery& q) {
  std::vector<std::pair<Wall, const Task*>> found;
  auto take = [&](const Task& t) {
    if (!q.task || t.spec.id.str() == *q.task) found.emplace_back(first_status(t), &t);
  };
  if (!q.framework || *q.framework == framework_id(v)) {
    each_live(v, take);
    for (const auto& t : v.ended) take(*t);
  }
  auto earlier = [](const auto& a, const auto& b) { return a.first != b.first ? a.first < b.first : a.second->spec.id < b.second->spec.id; };
  auto from = std::min(q.offset, found.size()), to = from + std::min(q.limit, found.size() - from);
  auto end = found.begin() + static_cast<std::ptrdiff_t>(to);
  if (q.ascending) std::partial_sort(found.begin(), end, found.end(), earlier);
  else std::partial_sort(found.begin(), end, found.end(), [&](const auto& a, const auto& b) { return earlier(b, a); });
  JsonWriter w;
  w.begin_object().key("tasks").begin_array();
  for (auto i = from; i < to; ++i) write_task(w, v, *found[i].second);
  w.end_array().end_object();
  return std::move(w).take();
}

std::string roles(const FarmView& v) {
  Totals totals(v);
  JsonWriter w;
  w.begin_object().key("roles").begin_array().begin_object().field("name", "*").field("weight", 1.0).key("quota").begin_object().field("role", "*");
  for (auto key : {"guarantee", "limit", "consumed"}) w.key(key).begin_object().end_object();
  w.end_object();
  write_resources(w, "resources", totals.used);
  write_resources(w, "allocated", totals.used);
  write_resources(w, "offered", {});
  write_resources(w, "reserved", {});
  w.key("frameworks").begin_array().value(framework_id(v)).end_array().end_object().end_array().end_object();
  return std::move(w).take();
}

std::string flags(const FarmView& v, std::uint16_t port) {
  JsonWriter w;
  w.begin_object();
  write_flags(w, v, port);
  w.end_object();
  return std::move(w).take();
}

std::string version(const FarmView& v) {
  JsonWriter w;
  w.begin_object();
  write_version_fields(w, v);
  w.end_object();
  return std::move(w).take();
}

namespace {

struct Host { double load[3] = {0, 0, 0}; double cpus = 0, mem_total = 0, mem_free = 0; };

Host this_machine() {
  Host h;
  (void)::getloadavg(h.load, 3);
  h.cpus = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  struct sysinfo s{};
  if (::sysinfo(&s) == 0) h.mem_total = static_cast<double>(s.totalram) * s.mem_unit, h.mem_free = static_cast<double>(s.freeram) * s.mem_unit;
  return h;
}

}  // namespace

std::string system_stats() {
  auto h = this_machine();
  JsonWriter w;
  w.begin_object().field("avg_load_1min", h.load[0]).field("avg_load_5min", h.load[1]).field("avg_load_15min", h.load[2]);
  w.field("cpus_total", h.cpus).field("mem_total_bytes", h.mem_total).field("mem_free_bytes", h.mem_free).end_object();
  return std::move(w).take();
}

std::string metrics(const FarmView& v) {
  bool leads = !v.cluster_id.empty();
  Totals totals(v);
  Counts counts;
  each_live(v, [&](const Task& t) { ++counts[t.status.state]; });
  auto h = this_machine();
  JsonWriter w;
  w.begin_object().field("master/elected", leads ? 1.0 : 0.0).field("master/uptime_secs", to_seconds(v.made - v.started));
  for (auto [name, have, used] : {std::tuple<std::string_view, Milli, Milli>{"cpus", totals.total.cpus, totals.used.cpus}, {"gpus", totals.total.gpus, totals.used.gpus},
                                  {"mem", totals.total.mem, totals.used.mem}, {"disk", totals.total.disk, totals.used.disk}}) {
    w.field(fmt::format("master/{}_total", name), from_milli(have)).field(fmt::format("master/{}_used", name), from_milli(used));
    w.field(fmt::format("master/{}_percent", name), have > 0 ? static_cast<double>(used) / static_cast<double>(have) : 0.0);
  }
  w.field("master/slaves_active", totals.connected).field("master/slaves_connected", totals.connected).field("master/slaves_disconnected", totals.disconnected);
  w.field("master/slaves_inactive", totals.disconnected).field("master/slaves_unreachable", totals.unreachable);
  w.field("master/frameworks_active", leads ? 1 : 0).field("master/frameworks_connected", leads ? 1 : 0).field("master/frameworks_disconnected", 0).field("master/frameworks_inactive", 0);
  w.field("master/outstanding_offers", 0);
  for (auto state : {TaskState::staging, TaskState::starting, TaskState::running, TaskState::killing, TaskState::unreachable})
    w.field("master/" + lower(wire_name(state)).replace(0, 4, "tasks"), counts[state]);
  for (auto state : {TaskState::finished, TaskState::failed, TaskState::killed, TaskState::lost, TaskState::error, TaskState::dropped, TaskState::gone, TaskState::gone_by_operator})
    w.field("master/" + lower(wire_name(state)).replace(0, 4, "tasks"), v.ended_by_state[static_cast<std::size_t>(state)]);
  w.field("system/cpus_total", h.cpus).field("system/load_1min", h.load[0]).field("system/load_5min", h.load[1]).field("system/load_15min", h.load[2]);
  w.field("system/mem_total_bytes", h.mem_total).field("system/mem_free_bytes", h.mem_free).end_object();
  return std::move(w).take();
}

}  // namespace croft::cluster::mesos
