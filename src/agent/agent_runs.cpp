// Tasks: launched, held, probed, ended.

#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include <algorithm>

#include "agent/agent_impl.hpp"
#include "agent/fetcher.hpp"
#include "agent/prober.hpp"
#include "base/text.hpp"

namespace croft::agent {

using asio::redirect_error;
using asio::use_awaitable;
using Local = asio::local::stream_protocol;

namespace {

constexpr std::chrono::milliseconds probe_first{30};

/// Port that a check asks: its own number, or that of the port at its index; and whether it is the container's, at whose own address it is then.
std::pair<std::uint16_t, bool> port_of(const HealthCheck& c, const TaskSpec& spec) {
  if (c.port) return {*c.port, false};
  auto index = c.port_index.value_or(0);
  if (index >= spec.ports.size()) return {0, false};
  const auto& p = spec.ports[index];
  return p.host_port ? std::pair(p.host_port, false) : std::pair(p.container_port, true);
}

}  // namespace

Labels AgentService::Impl::environment(const Launch& l) const {
  Labels env;
  bool inside = l.spec.docker.has_value();
  auto sandbox = inside ? std::string("/mnt/mesos/sandbox") : l.sandbox.string();
  if (!inside) {  // an image brings its own
    env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env["HOME"] = env["PWD"] = sandbox;
  }
  env["MESOS_SANDBOX"] = env["MESOS_DIRECTORY"] = sandbox;
  env["MESOS_SLAVE_ID"] = core.membership().id.str();
  env["MESOS_EXECUTOR_ID"] = env["MESOS_CONTAINER_NAME"] = l.spec.id.str();
  auto bridged = inside && l.spec.docker->network != NetworkMode::host;
  // On a farm that lives on loopback, the host is at the bridge's address as a container sees it.
  env["CROFT_HOST_IP"] = bridged && options.info.ip.starts_with("127.") && !options.bridge.empty() ? options.bridge : options.info.ip;
  env["CROFT_DNS_URL"] = bridged && !options.bridge_dns_url.empty() ? options.bridge_dns_url : options.dns_url;
  for (const auto& [k, v] : l.spec.env) env[k] = v;
  return env;
}

RunPtr AgentService::Impl::make_run(const TaskSpec& spec) {
  auto run = std::make_shared<Run>();
  auto container = random_uuid();
  auto base = options.work_dir / "slaves" / core.membership().id.str() / "frameworks" / (core.membership().cluster_id + "-0000") / "executors" / spec.id.str() / "runs";
  run->launch = {spec, options.work_dir / "runs" / spec.id.str(), base / container, spec.secrets.empty() ? fs::path() : secret_files.of(spec.id)};
  runs[spec.id] = run;
  return run;
}

asio::awaitable<Status> AgentService::Impl::launch(RunPtr run) {
  auto result = std::make_shared<Status>();
  auto record = RunRecord{run->launch.spec, run->goal, run->draining_since, run->launch.sandbox.string(), boot};
  // Recorded, then started: whatever happens in between is found again.
  std::function<void()> prepare_folders = [this, run, record, result] {
    *result = make_dirs(run->launch.run);
    if (*result) *result = write_record(run->launch.run, record);
    if (*result) *result = make_dirs(run->launch.sandbox);
    if (!*result) return;
    std::error_code ec;
    auto latest = run->launch.sandbox.parent_path() / "latest";
    fs::remove(latest, ec);
    fs::create_directory_symlink(run->launch.sandbox.filename(), latest, ec);
    auto owner = runtime_of(*run).owner(run->launch.spec);
    if (!owner) *result = fail(std::move(owner).error());
    else if (*owner && ::chown(run->launch.sandbox.c_str(), (*owner)->uid, (*owner)->gid) != 0) *result = fail_errno("chown " + run->launch.sandbox.string());
    for (const auto& artifact : run->launch.spec.fetch)
      if (*result) *result = fetch(artifact, run->launch.sandbox, options.work_dir / "cache", {.as = *owner, .host_paths = options.fetch_paths, .sandboxes = options.work_dir / "slaves"});
  };
  co_await blocking.run(prepare_folders);
  if (!*result) co_return *result;
  if (auto ok = co_await put_secrets(run); !ok) co_return ok;
  auto whole = run->launch;
  whole.spec.env = environment(run->launch);
  auto id = run->launch.spec.id;
  auto self = shared_from_this();
  Runtime::Progress progress = [self, id](std::string text) {
    asio::post(self->strand, [self, id, text = std::move(text)] {
      self->core.progress(id, text);
      self->report_signal->notify();
    });
  };
  auto plan = co_await runtime_of(*run).prepare(std::move(whole), std::move(progress));
  if (!plan) co_return fail(std::move(plan).error());
  if (auto ok = co_await put_secrets(run); !ok) co_return ok;  // those of now: an image may have taken minutes
  if (run->goal == link::Goal::kill) co_return fail(Errc::unavailable, "killed before it was started");
  std::function<void()> spawn = [this, run, plan = std::move(*plan), result] {
    *result = write_exec_conf(run->launch.run, plan);
    if (*result) *result = spawner.start(run->launch.run);
  };
  co_await blocking.run(spawn);
  launched.add();
  co_return *result;
}

/// In place when this returns, as they are now. They come over the link: a launch that a former life began waits for it.
asio::awaitable<Status> AgentService::Impl::put_secrets(RunPtr run) {
  auto self = shared_from_this();
  const auto& spec = run->launch.spec;
  while (!spec.secrets.empty()) {
    auto ticket = secrets_signal->ticket();
    auto values = core.secrets_of(spec);
    if (!values && values.error().code == Errc::unavailable && run->goal != link::Goal::kill && !stopping) {
      (void)co_await secrets_signal->wait(ticket, Millis(1000));
      continue;
    }
    if (!values) co_return fail(std::move(values).error());
    auto result = std::make_shared<Status>();
    auto plan = plan_secrets(spec, runtime_of(*run).secrets_at(run->launch.run));
    std::function<void()> put = [this, run, plan, values = *values, result] { *result = secret_files.put(run->launch, plan, values); };
    co_await blocking.run(put);
    if (!*result) co_return *result;
    auto now = core.secrets_of(spec);
    if (now && *now == *values) break;
  }
  co_return Status{};
}

/// Files in running tasks follow; one pass after the other, so that the newest value is written last.
asio::awaitable<void> AgentService::Impl::renew_secrets() {
  auto self = shared_from_this();
  if (std::exchange(renewing_secrets, true)) co_return;
  while (!changed_secrets.empty()) {
    struct Job { RunPtr run; SecretPlan plan; std::string secret; SecretValue value; bool started; };
    auto names = std::exchange(changed_secrets, {});
    std::vector<Job> jobs;
    for (const auto& [id, run] : runs) {
      if (run->over) continue;
      std::set<std::string> used;  // each for itself: that another is not known yet, or gone, is no reason
      for (const auto& use : run->launch.spec.secrets)
        if (!use.file.empty() && names.contains(use.secret)) used.insert(use.secret);
      for (const auto& name : used)
        if (const auto* value = core.secret(name); value && value->version > 0)
          jobs.push_back({run, plan_secrets(run->launch.spec, runtime_of(*run).secrets_at(run->launch.run)), name, *value, run->started.has_value()});
    }
    auto done = std::make_shared<std::vector<Status>>(jobs.size());
    std::function<void()> write = [this, jobs, done] {
      for (std::size_t i = 0; i < jobs.size(); ++i) (*done)[i] = secret_files.renew(jobs[i].run->launch.spec, jobs[i].plan, jobs[i].secret, jobs[i].value, jobs[i].started);
    };
    co_await blocking.run(write);
    for (std::size_t i = 0; i < jobs.size(); ++i)
      if (const auto& run = jobs[i].run; !(*done)[i] && !run->over) log::error("agent", "task={} secret={} {}", run->launch.spec.id, jobs[i].secret, (*done)[i].error().context);
  }
  renewing_secrets = false;
}

asio::awaitable<void> AgentService::Impl::start_run(RunPtr run) {
  auto self = shared_from_this();
  auto ok = co_await launch(run);
  if (stopping) co_return;
  if (!ok) {
    auto failed = ok.error();
    auto recorded = std::make_shared<Status>();
    std::function<void()> record = [run, failed, recorded] { *recorded = write_failure(run->launch.run, failed.context); };
    if (run->goal != link::Goal::kill) co_await blocking.run(record);
    if (!*recorded) log::warn("agent", "task={} its end cannot be recorded: {}", run->launch.spec.id, recorded->error().context);
    if (run->goal == link::Goal::kill) end_with(run, TaskState::killed, "REASON_TASK_KILLED_DURING_LAUNCH", "killed before it was started");
    else end_with(run, TaskState::failed, "REASON_CONTAINER_LAUNCH_FAILED", failed.context);
    co_await runtime_of(*run).cleanup(run->launch);
    co_return;
  }
  co_await hold(run);
}

/// The executor listens before its first process ends, so one attempt is enough where it lives.
asio::awaitable<bool> AgentService::Impl::connect_ctl(RunPtr run) {
  auto socket = std::make_unique<Local::socket>(strand);
  boost::system::error_code ec;
  // A socket's path is short; the folder is reached through a descriptor of ours.
  Fd folder(::open(run->launch.run.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Local::endpoint endpoint(fmt::format("/proc/self/fd/{}/ctl", folder.get()));
  co_await socket->async_connect(endpoint, redirect_error(use_awaitable, ec));
  if (ec) co_return false;
  run->ctl = std::move(socket);
  co_return true;
}

/// Until the task is over: with its executor, or with the next one where a container outlives the first.
asio::awaitable<void> AgentService::Impl::hold(RunPtr run) {
  auto self = shared_from_this();
  constexpr int attempts_max = 20;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    co_await talk(run);
    if (stopping || run->over) co_return;
    if (auto exit = read_exit(run->launch.run)) {
      co_await on_exit(run, *exit);
      co_return;
    }
    if (!runtime_of(*run).outlives_executor() || !fs::exists(run->launch.run / "exec.conf")) break;
    if (run->ctl) attempt = 0;
    run->ctl.reset();
    run->kill_sent = false;
    log::warn("agent", "task={} its executor is gone; another one takes its container over", run->launch.spec.id);
    co_await net::sleep_for(std::chrono::milliseconds(attempt * 50));
    std::function<void()> spawn = [this, run] {
      if (auto ok = spawner.start(run->launch.run); !ok) log::error("agent", "task={} {}", run->launch.spec.id, ok.error().context);
    };
    co_await blocking.run(spawn);
  }
  auto started = read_started(run->launch.run);
  if (started && process_start_ticks(started->pid) == started->ticks) ::kill(started->pid, SIGKILL);  // the start time names the very process
  end_with(run, TaskState::lost, "REASON_EXECUTOR_TERMINATED", started ? "the task's executor is gone" : "the launch was cut off");
  co_await runtime_of(*run).cleanup(run->launch);
}

/// With one executor, until it goes.
asio::awaitable<void> AgentService::Impl::talk(RunPtr run) {
  if (co_await connect_ctl(run)) {
    if (run->goal == link::Goal::kill) kill(run);
    std::string text;
    auto buffer = asio::dynamic_buffer(text, 65536);
    while (!stopping && run->ctl && !run->over) {
      boost::system::error_code ec;
      auto n = co_await asio::async_read_until(*run->ctl, buffer, '\n', redirect_error(use_awaitable, ec));
      if (ec) break;
      std::string line = text.substr(0, n);
      buffer.consume(n);
      if (auto exit = parse_exit(line)) {
        co_await on_exit(run, *exit);
        break;
      }
      if (auto started = parse_started(line)) on_started(run, *started);
      if (auto ooms = parse_oom(line); ooms && run->started) {
        run->ooms = *ooms;
        log::warn("agent", "task={} {} ({} so far)", run->launch.spec.id, told_of_memory(run->launch.spec), *ooms);
        tell_running(run);
      }
    }
  }
}

void AgentService::Impl::on_started(RunPtr run, RunStart started) {
  if (run->started) return;  // a second executor's word
  run->started = started;
  run->running_since = started.at;  // of the start, not of this agent's
  // The grace counts from the start of the task, also when this agent came later.
  auto now = system_now();
  auto since = now.mono - std::max(Millis(0), now.wall - started.at);
  const auto& spec = run->launch.spec;
  for (std::size_t i = 0; i < spec.health_checks.size(); ++i)
    run->checks.emplace_back(spec.health_checks[i], since, run->recalled ? run->recalled->alive[i] : std::nullopt);
  tell_running(run);
  if (run->launch.spec.docker) net::spawn(strand, "address", learn_address(run), shared_from_this());
  for (std::size_t i = 0; i < run->checks.size(); ++i) net::spawn(strand, "health", watch_health(run, i), shared_from_this());
  if (!spec.readiness_checks.empty() && !(run->recalled && run->recalled->ready)) net::spawn(strand, "readiness", watch_readiness(run), shared_from_this());
}

asio::awaitable<void> AgentService::Impl::learn_address(RunPtr run) {
  auto self = shared_from_this();
  auto address = co_await runtime_of(*run).address(run->launch);
  const auto* held = core.task(run->launch.spec.id);
  if (stopping || run->over || !address || !held) co_return;
  auto status = held->status;
  status.container_ip = address;
  core.update(std::move(status), system_now());
  report_signal->notify();
}

void AgentService::Impl::tell_running(RunPtr run) {
  const auto* held = core.task(run->launch.spec.id);
  if (!held || run->over) return;
  TaskStatus status = held->status;
  bool first = status.state != TaskState::running || !status.started_at;
  status.state = TaskState::running;
  status.at = system_now().wall;
  if (first) {
    status.started_at = run->running_since;
    status.ready = run->launch.spec.readiness_checks.empty();
  }
  status.message = run->ooms > 0 ? told_of_memory(run->launch.spec) : "";
  status.healthy = combined(run->checks);
  status.last_check_failure.clear();
  status.check_failures = 0;
  for (const auto& m : run->checks)
    if (m.failures() > 0 || !m.alive()) {
      status.check_failures = std::max(status.check_failures, m.failures());
      if (!m.cause().empty()) status.last_check_failure = m.cause();
    }
  core.update(std::move(status), system_now());
  report_signal->notify();
}

/// For the next life of this agent.
void AgentService::Impl::record_verdict(const Run& run) {
  const auto* held = core.task(run.launch.spec.id);
  if (!held || run.over) return;
  RunVerdict verdict{{}, held->status.ready};
  for (const auto& m : run.checks) verdict.alive.push_back(m.alive());
  if (auto ok = write_verdict(run.launch.run, verdict); !ok) log::warn("agent", "task={} its health cannot be recorded: {}", run.launch.spec.id, ok.error().context);
}

void AgentService::Impl::end_with(RunPtr run, TaskState state, std::string reason, std::string message, const RunExit* exit) {
  if (std::exchange(run->over, true)) return;
  if (!run->launch.secrets.empty()) secret_files.remove(run->launch.spec.id);
  std::error_code ec;
  fs::last_write_time(run->launch.sandbox, fs::file_time_type::clock::now(), ec);  // its age counts from the end, however long it ran
  const auto* held = core.task(run->launch.spec.id);
  TaskStatus status;
  if (held) status = held->status;
  status.task = run->launch.spec.id;
  status.state = state;
  status.reason = std::move(reason);
  status.message = std::move(message);
  status.at = system_now().wall;
  if (exit) {
    if (exit->signal) status.exit_signal = exit->signal;
    else status.exit_code = exit->code;
    if (exit->at.time_since_epoch().count() > 0) status.at = exit->at;
  }
  ended.add();
  log::info("agent", "task={} app={} {} {}", status.task, run->launch.spec.app, wire_name(state), status.message);
  core.update(std::move(status), system_now());
  report_signal->notify();
}

asio::awaitable<void> AgentService::Impl::on_exit(RunPtr run, RunExit exit) {
  auto self = shared_from_this();
  bool asked = run->kill_sent || run->goal == link::Goal::kill;  // told in a former life of this agent, perhaps
  auto end = end_of(exit, run->launch.spec, asked, run->killed_unhealthy ? run->kill_message : "");
  end_with(run, end.state, std::move(end.reason), std::move(end.message), &exit);
  co_await runtime_of(*run).cleanup(run->launch);
}

void AgentService::Impl::set_goal(const TaskId& id, link::Goal goal) {
  auto at = runs.find(id);
  if (at == runs.end()) return;
  auto run = at->second;
  run->goal = goal;
  if (goal == link::Goal::drain) run->draining_since = system_now().wall;
  if (run->over) return;  // its end is what the next life finds, or nothing: the folder may be gone
  // Recorded for the next life of this agent; a full disk must not keep a task alive, so it goes on without.
  auto ok = write_record(run->launch.run, {run->launch.spec, goal, run->draining_since, run->launch.sandbox.string(), boot});
  if (!ok) log::warn("agent", "task={} its goal cannot be recorded: {}", id, ok.error().context);
  if (goal == link::Goal::kill) kill(run);
}

void AgentService::Impl::kill(RunPtr run) {
  run->goal = link::Goal::kill;
  if (run->over || run->kill_sent) return;
  if (!run->ctl) return;  // hold() kills it as soon as it is connected
  run->kill_sent = true;
  auto job = send_term(run);
  net::spawn(strand, "kill", std::move(job), shared_from_this());
}

asio::awaitable<void> AgentService::Impl::send_term(RunPtr run) {
  auto self = shared_from_this();
  auto line = fmt::format("term {}\n", run->launch.spec.kill_grace.value_or(Millis(3000)).count());
  boost::system::error_code ec;
  if (run->ctl) co_await asio::async_write(*run->ctl, asio::buffer(line), redirect_error(use_awaitable, ec));
}

asio::awaitable<void> AgentService::Impl::watch_health(RunPtr run, std::size_t index) {
  auto self = shared_from_this();
  auto check = run->checks[index].check();
  check.interval = std::max(check.interval, Millis(1000));  // 0 was taken by earlier builds
  check.timeout = std::max(check.timeout, Millis(1000));
  auto [port, inside] = port_of(check, run->launch.spec);
  // Until the first success the pace is quick: a task that is up is in rotation at once, and failures inside the grace count for nothing.
  auto pause = std::min<std::chrono::milliseconds>(probe_first, check.interval);
  for (bool passed_once = false; !stopping && !run->over;) {
    co_await net::sleep_for(pause);
    if (stopping || run->over) break;
    ProbeResult result;
    if (check.kind == CheckKind::command) {
      auto launch = run->launch;
      launch.spec.env = environment(run->launch);
      auto code = co_await runtime_of(*run).run_inside(std::move(launch), check.command, check.timeout);
      result.passed = code && *code == 0;
      if (!result.passed) result.cause = code ? fmt::format("the command exited with {}", *code) : code.error().context;
    } else {
      const auto* held = core.task(run->launch.spec.id);
      auto host = inside ? (held && held->status.container_ip ? *held->status.container_ip : "") : options.info.ip;
      if (host.empty() || port == 0) result.cause = "the task has no port that can be asked";
      else result = co_await probe(host, port, check);
    }
    if (stopping || run->over) break;
    auto& machine = run->checks[index];
    auto action = machine.observe(result, std::chrono::steady_clock::now());
    passed_once = passed_once || result.passed;
    pause = passed_once || machine.alive() ? check.interval : std::min<std::chrono::milliseconds>(pause * 3 / 2 + Millis(5), check.interval);
    if (action == CheckMachine::Action::announce) {
      tell_running(run);
      record_verdict(*run);
    }
    if (action != CheckMachine::Action::kill) continue;
    tell_running(run);
    run->killed_unhealthy = true;
    run->kill_message = fmt::format("health check {} on port {} failed {} times in a row: {}", check.protocol_name, port, machine.failures(), machine.cause());
    kill(run);
    break;
  }
}

asio::awaitable<void> AgentService::Impl::watch_readiness(RunPtr run) {
  auto self = shared_from_this();
  auto check = run->launch.spec.readiness_checks[0];
  HealthCheck as_http;
  as_http.kind = check.protocol == "HTTPS" ? CheckKind::https : CheckKind::http;
  as_http.path = check.path;
  as_http.timeout = check.timeout;
  std::uint16_t port = 0;
  for (const auto& p : run->launch.spec.ports)
    if (p.name == check.port_name) port = p.host_port ? p.host_port : p.container_port;
  if (port == 0 && !run->launch.spec.ports.empty()) port = run->launch.spec.ports[0].host_port;
  auto pause = std::min<std::chrono::milliseconds>(probe_first, check.interval);
  while (!stopping && !run->over) {
    co_await net::sleep_for(pause);
    if (stopping || run->over) break;
    auto host = options.info.ip;
    auto result = co_await probe(host, port, as_http);
    pause = std::min<std::chrono::milliseconds>(pause * 2, check.interval);
    if (!ready_on(check, result)) continue;
    if (const auto* held = core.task(run->launch.spec.id); held && !run->over) {
      auto status = held->status;
      status.ready = true;
      status.at = system_now().wall;
      core.update(std::move(status), system_now());
      report_signal->notify();
      record_verdict(*run);
    }
    break;
  }
}

void AgentService::Impl::forget(const TaskId& id) {
  auto at = runs.find(id);
  if (at == runs.end()) return;
  std::error_code ec;
  // Its executor may be taking files away at the same time, and what has just gone ends remove_all early.
  for (int tries = 0; tries < 5 && fs::exists(at->second->launch.run, ec); ++tries) fs::remove_all(at->second->launch.run, ec);
  if (ec && ec != std::errc::no_such_file_or_directory) log::warn("agent", "{}: {}", at->second->launch.run.string(), ec.message());
  forgotten.push_back({system_now().mono, {id, at->second->launch.spec.app, at->second->launch.sandbox.string(), true}});
  if (forgotten.size() > forgotten_max) forgotten.pop_front();
  runs.erase(at);
}

}  // namespace croft::agent
