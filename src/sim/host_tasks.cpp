// Tasks on a host: recorded, started, probed, ended; found again by the next life of the agent.

#include <algorithm>

#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr Millis probe_first{30};
constexpr Millis never{1'000'000'000};

}  // namespace

void Host::recover() {
  auto membership = page.membership;
  if (farm_.has(Bug::epoch_forgotten)) membership.epoch = 0;
  agent::AgentCore::Options o;
  o.seed = farm_.options.seed * 10'000 + index * 1'000 + lives_;
  core.emplace(membership, o);
  for (const auto& [id, record] : page.runs) {
    link::HeldTask held{record.spec, record.goal, record.draining_since, {}};
    held.status.task = id;
    held.status.state = TaskState::staging;
    if (record.begun) {
      held.status.state = TaskState::running;
      held.status.started_at = record.started_at;
      held.status.ready = record.spec.readiness_checks.empty();
      if (!page.exits.contains(id)) held.status.healthy = agent::combined(record.alive), held.status.ready |= record.ready;
    }
    core->adopt(std::move(held));
    runs_[id];
    if (record.begun || page.exits.contains(id)) {
      farm_.net.after(node, farm_.world.between(1, 10), [this, id = id] { hold(id); });
    } else {
      farm_.probe(Probe::launch_cut_off);
      launch(id);
    }
  }
}

void Host::launch(const TaskId& id) {
  runs_[id];
  if (!begun_once_.insert(id).second && !page.runs.contains(id)) farm_.probe(Probe::unstored_launch_again);
  farm_.net.after(node, farm_.world.between(1, 8), [this, id] {
    const auto* held = core->task(id);
    if (!held) return;
    if (!farm_.has(Bug::launch_not_recorded)) page.runs[id] = {held->spec, held->goal, held->draining_since, false, {}, {}, false};
    sync_run(id);
    bool pulls = farm_.world.chance(0.04);
    if (pulls) core->progress(id, "pulling image: 1 of 40 MB");
    farm_.net.after(node, pulls ? farm_.world.between(1000, 8000) : farm_.world.chance(0.5) ? farm_.world.between(1, 10) : farm_.world.between(5, 250), [this, id] { spawn(id); });
  });
}

void Host::spawn(const TaskId& id) {
  auto& w = farm_.world;
  const auto* held = core->task(id);
  if (!held || is_terminal(held->status.state) || procs.contains(id)) return;
  if (held->goal == link::Goal::kill) {
    farm_.probe(Probe::killed_before_start);
    return end_with(id, TaskState::killed, "REASON_TASK_KILLED_DURING_LAUNCH", "killed before it was started");
  }
  if (auto known = core->secrets_of(held->spec); !known && known.error().code == Errc::unavailable) {
    farm_.probe(Probe::launch_waited_for_secret);
    waiting_.insert(id);
    return;
  } else if (!known) {
    farm_.probe(Probe::launch_without_secret);
    return fail_launch(id, known.error().context);
  }
  if (auto at = page.runs.find(id); at != page.runs.end()) at->second.begun = true;
  sync_run(id);
  Proc p;
  p.spec = held->spec;
  read_secrets(p);
  p.since = w.elapsed();
  p.answers_from = p.since + w.between(30, 1500);
  p.ready_from = p.since + w.between(100, 3000);
  p.stubborn = w.chance(0.05);
  auto bad = p.spec.env.find("BAD");
  if (bad != p.spec.env.end() && bad->second == "sick") p.answers_from = never;
  if (bad != p.spec.env.end() && bad->second == "crash")
    w.after(w.between(100, 1500), [this, id] { end_proc(id, TaskState::failed, "", "crashes"); });
  procs[id] = std::move(p);
  farm_.note("{} starts {}", label(), id);
  on_started(id);
}

/// On disk before it is told.
void Host::fail_launch(const TaskId& id, std::string why) {
  TaskStatus s;
  s.task = id;
  s.state = TaskState::failed;
  s.reason = "REASON_CONTAINER_LAUNCH_FAILED";
  s.message = why;
  if (page.runs.contains(id)) page.exits[id] = stable.exits[id] = s;
  end_with(id, TaskState::failed, s.reason, std::move(why));
}

/// What its files hold from now on.
void Host::read_secrets(Proc& p) {
  for (const auto& use : p.spec.secrets)
    if (const auto* value = use.file.empty() ? nullptr : core->secret(use.secret); value && value->version > 0) p.secrets[use.secret] = value->version;
}

void Host::follow_secrets(const std::vector<std::string>& names) {
  for (const auto& id : std::exchange(waiting_, {})) spawn(id);
  if (farm_.has(Bug::secret_files_forgotten) && farm_.world.elapsed() - booted_ < Millis(3000)) return;
  for (auto& [id, p] : procs) {
    auto before = p.secrets;
    bool uses = std::any_of(p.spec.secrets.begin(), p.spec.secrets.end(), [&](const SecretUse& u) { return std::find(names.begin(), names.end(), u.secret) != names.end(); });
    if (uses) read_secrets(p);
    if (p.secrets != before) farm_.probe(Probe::secret_rotated);
  }
}

/// After a restart of the agent: the executor is asked, or what it left behind is read.
void Host::hold(const TaskId& id) {
  auto at = page.runs.find(id);
  if (at == page.runs.end()) return;
  if (auto exit = page.exits.find(id); exit != page.exits.end()) {
    if (farm_.has(Bug::exit_lost)) return;
    return end_with(id, exit->second.state, exit->second.reason, exit->second.message);
  }
  if (!procs.contains(id)) return end_with(id, TaskState::lost, "REASON_EXECUTOR_TERMINATED", "the task's executor is gone");
  on_started(id);
  if (at->second.goal == link::Goal::kill) kill(id);
}

void Host::on_started(const TaskId& id) {
  auto& run = runs_[id];
  run.started = true;
  const auto& spec = procs.at(id).spec;
  auto record = page.runs.find(id);
  for (std::size_t i = 0; i < spec.health_checks.size(); ++i)
    run.checks.emplace_back(spec.health_checks[i], farm_.world.now().mono, record != page.runs.end() && i < record->second.alive.size() ? record->second.alive[i] : std::nullopt);
  tell_running(id);
  for (std::size_t i = 0; i < run.checks.size(); ++i) watch_health(id, i, probe_first);
  if (!spec.readiness_checks.empty() && !(record != page.runs.end() && record->second.ready)) watch_readiness(id, probe_first);
}

void Host::tell_running(const TaskId& id) {
  const auto* held = core->task(id);
  auto& run = runs_[id];
  if (!held || run.over) return;
  TaskStatus status = held->status;
  bool first = status.state != TaskState::running || !status.started_at;
  status.state = TaskState::running;
  status.at = farm_.world.now().wall;
  if (first) {
    status.started_at = Wall(Millis(1'700'000'000'000) + procs.at(id).since);
    status.ready = procs.at(id).spec.readiness_checks.empty();
  }
  status.healthy = agent::combined(run.checks);
  status.check_failures = 0;
  for (const auto& m : run.checks) status.check_failures = std::max(status.check_failures, m.failures());
  core->update(std::move(status), farm_.world.now());
  record_verdict(id);
  kick();
}

/// For the next life of this agent.
void Host::record_verdict(const TaskId& id) {
  auto record = page.runs.find(id);
  const auto* held = core->task(id);
  if (record == page.runs.end() || !held) return;
  record->second.started_at = held->status.started_at;
  record->second.ready = held->status.ready;
  record->second.alive.clear();
  for (const auto& m : runs_[id].checks) record->second.alive.push_back(m.alive());
}

void Host::watch_health(const TaskId& id, std::size_t check, Millis pause) {
  farm_.net.after(node, pause, [this, id, check, pause] {
    auto at = runs_.find(id);
    auto proc = procs.find(id);
    if (at == runs_.end() || at->second.over || proc == procs.end()) return;
    auto& machine = at->second.checks[check];
    bool passed = proc->second.answers(farm_.world.elapsed());
    auto action = machine.observe({passed, false, passed ? "" : "connection refused"}, farm_.world.now().mono);
    auto interval = machine.check().interval;
    auto next = machine.alive() ? interval : std::min(pause * 3 / 2 + Millis(5), interval);
    if (action != agent::CheckMachine::Action::none) tell_running(id);
    if (action == agent::CheckMachine::Action::kill) {
      at->second.unhealthy = true;
      return kill(id);
    }
    watch_health(id, check, next);
  });
}

void Host::watch_readiness(const TaskId& id, Millis pause) {
  farm_.net.after(node, pause, [this, id, pause] {
    auto proc = procs.find(id);
    const auto* held = core->task(id);
    if (proc == procs.end() || !held || is_terminal(held->status.state)) return;
    if (farm_.world.elapsed() < proc->second.ready_from) return watch_readiness(id, std::min(pause * 2, Millis(1000)));
    auto status = held->status;
    status.ready = true;
    status.at = farm_.world.now().wall;
    core->update(std::move(status), farm_.world.now());
    record_verdict(id);
    kick();
  });
}

void Host::set_goal(const TaskId& id, link::Goal goal) {
  farm_.note("{} is told {} of {}", label(), goal == link::Goal::kill ? "kill" : "drain", id);
  if (auto at = page.runs.find(id); at != page.runs.end()) {
    at->second.goal = goal;
    if (goal == link::Goal::drain) at->second.draining_since = farm_.world.now().wall;
    sync_run(id);
  }
  if (goal == link::Goal::kill && waiting_.erase(id) > 0) return spawn(id);
  if (goal == link::Goal::kill || farm_.has(Bug::drain_taken_as_kill)) kill(id);
}

/// TERM by the executor, which needs no agent for what follows.
void Host::kill(const TaskId& id) {
  auto& run = runs_[id];
  auto proc = procs.find(id);
  if (run.over || run.kill_sent || proc == procs.end()) return;
  run.kill_sent = true;
  if (!run.unhealthy) farm_.judge.term_sent(*this, id);
  if (std::exchange(proc->second.ending, true)) return;
  farm_.world.after(proc->second.stubborn ? Millis(3000) : farm_.world.between(5, 300), [this, id] { end_proc(id, TaskState::failed, "", "signal"); });
}

void Host::end_proc(const TaskId& id, TaskState state, std::string reason, std::string message) {
  auto proc = procs.extract(id);
  if (!proc) return;
  auto at = runs_.find(id);
  farm_.judge.task_died(id, proc.mapped().spec.app, at != runs_.end() && at->second.kill_sent && !at->second.unhealthy);
  farm_.note("{} ends {}: {}", label(), id, message);
  TaskStatus s;
  s.task = id;
  s.state = state;
  s.reason = std::move(reason);
  s.message = std::move(message);
  page.exits[id] = s;  // the executor writes it down, agent or no agent
  if (farm_.world.chance(0.6)) stable.exits[id] = s;
  if (!core || at == runs_.end()) return;
  if (at->second.unhealthy) end_with(id, TaskState::killed, "REASON_TASK_HEALTH_CHECK_KILLED", "health check failed");
  else if (at->second.kill_sent) end_with(id, TaskState::killed, "REASON_COMMAND_EXECUTOR_FAILED", "Command terminated by the farm");
  else end_with(id, state, "REASON_COMMAND_EXECUTOR_FAILED", s.message);
}

void Host::end_with(const TaskId& id, TaskState state, std::string reason, std::string message) {
  auto& run = runs_[id];
  if (std::exchange(run.over, true)) return;
  TaskStatus status;
  if (const auto* held = core->task(id)) status = held->status;
  status.task = id;
  status.state = state;
  status.reason = std::move(reason);
  status.message = std::move(message);
  status.at = farm_.world.now().wall;
  core->update(std::move(status), farm_.world.now());
  kick();
}

}  // namespace croft::sim
