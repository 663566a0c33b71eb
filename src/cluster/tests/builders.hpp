#pragma once
// A leader's books and agents that speak to them, with good defaults.

#include "cluster/cluster.hpp"

namespace croft::cluster {

inline Now at_ms(int ms) { return {Mono(Millis(1'000'000 + ms)), Wall(Millis(1'700'000'000'000 + ms))}; }

inline Resources res(double cpus, double mem, double disk = 0, double gpus = 0) { return {to_milli(cpus), to_milli(mem), to_milli(disk), to_milli(gpus)}; }

inline link::AgentInfo info(std::string host, double cpus = 4, double mem = 1000, std::string ports = "31000-31009") {
  link::AgentInfo i;
  i.hostname = host;
  i.ip = "10.0.0." + host.substr(1);
  i.total = res(cpus, mem, 1000);
  i.ports = *PortSet::parse(ports);
  i.boot_id = "boot-" + host;
  return i;
}

inline Shape shape(std::string app = "/a", double cpus = 1, double mem = 100, std::vector<std::uint16_t> ports = {}) {
  Shape s;
  s.app = AppId(std::move(app));
  s.resources = res(cpus, mem);
  s.host_ports = std::move(ports);
  return s;
}

inline TaskSpec spec_for(const Shape& shape, std::string id, const Placement& p) {
  TaskSpec s;
  s.id = TaskId(std::move(id));
  s.app = shape.app;
  s.name = task_name_of(shape.app);
  s.resources = shape.resources;
  for (auto port : p.host_ports) {
    PortSpec spec;
    spec.host_port = port;
    s.ports.push_back(spec);
  }
  return s;
}

inline TaskStatus status(std::string task, TaskState state, std::string uuid = "u1", int ms = 0) {
  TaskStatus s;
  s.task = TaskId(std::move(task));
  s.state = state;
  s.uuid = std::move(uuid);
  s.at = at_ms(ms).wall;
  return s;
}

/// The books, and what came out of them so far.
struct Books {
  Options options = [] {
    Options o;
    o.cluster_id = "c";
    o.epoch = 3;
    o.commit = 10;
    o.agent_timeout = Millis(10'000);
    o.heartbeat = Millis(5'000);
    return o;
  }();
  Cluster cluster{options};
  std::map<AgentId, std::uint64_t> numbers;

  AgentId join(link::AgentInfo i, std::vector<link::HeldTask> tasks = {}, std::string id = "", int ms = 0) {
    link::Registration r;
    r.info = std::move(i);
    r.id = AgentId(std::move(id));
    r.tasks = std::move(tasks);
    auto got = cluster.register_agent(r, at_ms(ms));
    if (!got) throw std::runtime_error(got.error().context);
    numbers[*got] = 0;
    return *got;
  }
  Status report(const AgentId& agent, std::vector<TaskStatus> statuses, int ms = 0, std::uint64_t applied = 0) {
    link::Report r;
    r.agent = agent;
    r.subscription = cluster.agent(agent)->subscription;
    r.number = ++numbers[agent];
    r.epoch = options.epoch;
    r.applied_n = applied;
    r.statuses = std::move(statuses);
    return cluster.report(r, at_ms(ms));
  }
  TaskId launch(const Shape& s, std::string id, int ms = 0) {
    auto got = cluster.place(s, 1);
    if (got.placed.empty()) throw std::runtime_error("no place for " + id);
    auto spec = spec_for(s, id, got.placed[0]);
    cluster.launch(spec, s, got.placed[0], at_ms(ms));
    return spec.id;
  }
  template <class T>
  std::vector<T> sent(const AgentId& agent) {
    std::vector<T> out;
    for (auto& m : cluster.take_messages())
      if (m.agent == agent)
        if (auto* t = std::get_if<T>(&m.record)) out.push_back(*t);
    return out;
  }
  std::vector<Event::Kind> kinds() {
    std::vector<Event::Kind> out;
    for (const auto& e : cluster.take_events()) out.push_back(e.kind);
    return out;
  }
  TaskState state(const std::string& task) { return cluster.task(TaskId(task))->status.state; }
};

inline link::HeldTask held(std::string id, std::string app = "/a", TaskState state = TaskState::running, double cpus = 1, std::uint16_t port = 0) {
  link::HeldTask h;
  h.spec.id = TaskId(id);
  h.spec.app = AppId(std::move(app));
  h.spec.resources = res(cpus, 100);
  if (port) {
    PortSpec p;
    p.host_port = port;
    h.spec.ports = {p};
  }
  h.status = status(id, state);
  h.status.started_at = at_ms(-1000).wall;
  return h;
}

}  // namespace croft::cluster
