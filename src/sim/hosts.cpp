// Hosts: agents, their disks, their tasks, their way to the leader.

#include "base/text.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

link::AgentInfo Farm::info(std::size_t host) const {
  link::AgentInfo i;
  i.hostname = hosts_[host].name;
  i.ip = fmt::format("10.0.0.{}", host + 1);
  i.total = {4000, 4'000'000, 0, 0};
  i.ports = PortSet({{31000, 31200}});
  return i;
}

void Farm::boot_agent(std::size_t host) {
  auto& h = hosts_[host];
  ++h.life;
  agent::AgentCore::Options o;
  o.seed = options_.seed * 100 + host * 10 + h.life;
  h.core.emplace(h.disk_membership, o);
  auto life = h.life;
  for (const auto& [id, held] : h.disk) {
    h.core->adopt(held);
    if (auto end = h.ends.find(id); end != h.ends.end()) {
      auto status = end->second;
      h.core->update(status, world_.now());
    } else if (!h.alive.contains(id)) {
      // Recorded and not started, or gone with the host: started anew only when it never ran.
      if (is_terminal(held.status.state)) continue;
      TaskStatus lost;
      lost.task = id;
      lost.state = TaskState::lost;
      lost.message = "gone with its host";
      h.core->update(lost, world_.now());
    } else {
      tell(host, id, TaskState::running, true);
      if (held.goal == link::Goal::kill) world_.after(Millis(10), [this, host, id = id] { end_task(host, id, TaskState::killed, "killed"); });
    }
  }
  note(h.name + " agent up");
  world_.after(world_.between(5, 50), [this, host, life] { agent_loop(host, life); });
}

void Farm::agent_loop(std::size_t host, std::uint64_t life) {
  auto& self = hosts_[host];
  if (self.life != life || !self.core) return;
  if (!self.connected && !self.cut_off && leader_) connect(host);
  report(host);
  world_.after(world_.between(20, 60), [this, host, life] { agent_loop(host, life); });
}

void Farm::kill_agent(std::size_t host) {
  auto& h = hosts_[host];
  if (!h.core) return;
  note(h.name + " agent killed");
  h.core.reset();
  ++h.life;
  ++h.connection;
  h.connected = false;
  world_.after(world_.between(100, 15'000), [this, host] { boot_agent(host); });
}

void Farm::reboot(std::size_t host) {
  auto& h = hosts_[host];
  if (!h.core) return;
  note(h.name + " reboots");
  h.alive.clear();
  kill_agent(host);
}

void Farm::connect(std::size_t host) {
  auto& h = hosts_[host];
  auto registration = h.core->registration(info(host));
  auto id = leader_->cluster.register_agent(registration, world_.now());
  if (!id) return fail(fmt::format("{} may not register: {}", h.name, id.error().context));
  h.disk_membership.id = *id;
  h.subscription = leader_->cluster.agent(*id)->subscription;
  h.connected = true;
  ++h.connection;
  note(h.name + " registers");
  turn();
}

void Farm::deliver(std::size_t host, std::uint64_t connection, link::Down record) {
  auto& h = hosts_[host];
  if (!h.core || !h.connected || h.connection != connection) return;
  auto decisions = h.core->on_down(record, world_.now());
  if (!decisions) {
    note(h.name + " leaves the stream: " + decisions.error().context);
    h.core->disconnected();
    h.connected = false;
    ++h.connection;
    return;
  }
  carry_out(host, std::move(*decisions));
}

void Farm::carry_out(std::size_t host, agent::Decisions decisions) {
  auto& h = hosts_[host];
  if (decisions.persist) h.disk_membership = h.core->membership();
  for (const auto& spec : decisions.start) {
    if (options_.bug != Bug::launch_not_recorded) h.disk[spec.id] = *h.core->task(spec.id);
    start_task(host, spec);
  }
  for (const auto& [id, goal] : decisions.goals) {
    if (auto at = h.disk.find(id); at != h.disk.end()) at->second.goal = goal;
    note(fmt::format("{} is told {} of {}", h.name, static_cast<int>(goal), id));
    if (goal == link::Goal::kill) world_.after(world_.between(5, 500), [this, host, id = id] { end_task(host, id, TaskState::killed, "killed"); });
  }
  for (const auto& id : decisions.forget) h.disk.erase(id), h.ends.erase(id);
}

void Farm::start_task(std::size_t host, const TaskSpec& spec) {
  auto life = hosts_[host].life;
  world_.after(world_.between(5, 300), [this, host, spec, life] {
    auto& h = hosts_[host];
    if (h.life != life || !h.core) return;  // the agent died before it came to it; its next life sees the record
    const auto* held = h.core->task(spec.id);
    if (!held || is_terminal(held->status.state)) return;
    if (held->goal == link::Goal::kill) {
      TaskStatus killed;
      killed.task = spec.id;
      killed.state = TaskState::killed;
      h.core->update(killed, world_.now());
      return;
    }
    h.alive[spec.id] = spec;
    note(fmt::format("{} starts {}", h.name, spec.id));
    tell(host, spec.id, TaskState::running, std::nullopt);
    world_.after(world_.between(50, 2000), [this, host, id = spec.id] {
      if (hosts_[host].alive.contains(id)) tell(host, id, TaskState::running, true);
    });
  });
}

void Farm::tell(std::size_t host, const TaskId& task, TaskState state, std::optional<bool> healthy) {
  auto& h = hosts_[host];
  if (!h.core) return;
  TaskStatus s;
  s.task = task;
  s.state = state;
  s.at = world_.now().wall;
  s.healthy = healthy;
  if (auto at = h.disk.find(task); at != h.disk.end()) at->second.status = s;
  h.core->update(s, world_.now());
}

void Farm::end_task(std::size_t host, TaskId task, TaskState state, std::string message) {
  auto& h = hosts_[host];
  if (!h.alive.erase(task)) return;
  note(fmt::format("{} ends {} {}", h.name, task, wire_name(state)));
  TaskStatus s;
  s.task = task;
  s.state = state;
  s.message = std::move(message);
  s.at = world_.now().wall;
  h.ends[task] = s;  // the executor writes it down, agent or no agent
  if (h.core) h.core->update(s, world_.now());
}

void Farm::report(std::size_t host) {
  auto& h = hosts_[host];
  if (!h.connected || h.cut_off || !leader_) return;
  auto report = h.core->next_report(world_.now());
  if (!report) return;
  if (!quiet_ && world_.chance(0.03)) {  // lost on the way: the connection goes with it
    h.core->disconnected();
    h.connected = false;
    ++h.connection;
    return;
  }
  auto copy = *report;
  auto life = leader_life_;
  world_.after(world_.between(1, 30), [this, copy, life, host, connection = h.connection] {
    if (!leader_ || life != leader_life_) return;
    auto ok = leader_->cluster.report(copy, world_.now());
    auto& self = hosts_[host];
    if (!ok && self.core && self.connection == connection) {
      self.core->disconnected();
      self.connected = false;
      ++self.connection;
    }
    turn();
  });
}

}  // namespace croft::sim
