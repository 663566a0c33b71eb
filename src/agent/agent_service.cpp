#include "agent/agent_service.hpp"

#include <sys/stat.h>

#include <sys/statvfs.h>

#include <algorithm>
#include <set>
#include <thread>

#include "agent/agent_impl.hpp"
#include "agent/cgroups.hpp"
#include "agent/collector.hpp"
#include "agent/exec_session.hpp"
#include "base/text.hpp"
#include "model/link_json.hpp"

namespace croft::agent {

namespace {

constexpr std::chrono::milliseconds report_gap{10};
constexpr std::chrono::milliseconds pause_first{20}, pause_max{500};
constexpr std::chrono::milliseconds connect_limit{700};  // masters are near; one whose host is down must not hold up the search for the next
constexpr std::chrono::milliseconds silence_max{3000};   // three of the leader's heartbeats
constexpr std::chrono::milliseconds brief{400};            // while a leader is looked for that fell silent, twice as long each time: a frozen host takes connections under any of its names

}  // namespace

Resources discover_resources(const fs::path& work_dir, const std::string& cgroup_parent, double reserve_cpus, double reserve_mem) {
  Resources r;
  auto limits = limits_above(CgroupHost::find(), cgroup_parent);
  auto cpus = to_milli(std::thread::hardware_concurrency());
  r.cpus = std::max<Milli>(100, std::min(cpus, limits.cpus.value_or(cpus)) - to_milli(reserve_cpus));
  if (auto text = read_file("/proc/meminfo"))
    for (const auto& line : split(*text, '\n'))
      if (line.starts_with("MemTotal:"))
        if (auto kib = to_int(trim(line.substr(9, line.find("kB") - 9)))) r.mem = *kib * 1000 / 1024;
  r.mem = std::max<Milli>(to_milli(64), std::min(r.mem, limits.mem.value_or(r.mem)) - to_milli(reserve_mem));
  struct statvfs fs_info{};
  if (::statvfs(work_dir.c_str(), &fs_info) == 0) r.disk = static_cast<Milli>(fs_info.f_bavail * fs_info.f_frsize / (1024 * 1024)) * 1000;
  return r;
}

AgentService::Impl::Impl(asio::any_io_executor p, AgentOptions o, std::unique_ptr<Runtime> n, std::unique_ptr<Runtime> d, Metrics& m)
    : pool(p), strand(asio::make_strand(p)), options(std::move(o)), membership_file(options.work_dir), native(std::move(n)), docker(std::move(d)), spawner(options.executor), client(p), exec_client(std::make_shared<net::HttpClient>(p)), metrics(m),
      launched(m.counter("croft_agent_launches_total", "Tasks started.")), ended(m.counter("croft_agent_ends_total", "Tasks ended.")),
      reports(m.counter("croft_agent_reports_total", "Reports sent to the leader.")) {
  options.info.exec = true;
}

Status AgentService::Impl::recover() {
  if (auto made = make_dirs(options.work_dir / "runs", 0711); !made) return made;
  ::chmod((options.work_dir / "runs").c_str(), 0711);  // one of an older croft: tasks went through, and read there whose tasks there are
  drop_unfinished(options.work_dir / "cache");
  boot = boot_id();
  Membership membership;
  auto kept = membership_file.load();
  // Without it this host registers anew, and the leader knows it again by its name and port.
  if (!kept && kept.error().code != Errc::not_found) log::error("agent", "{}", kept.error().context);
  if (kept) membership = *kept;
  ++membership.lives;
  core = AgentCore(membership);
  if (auto ok = membership_file.save(membership); !ok) log::warn("agent", "{}", ok.error().context);  // the life before counts the same then
  std::error_code ec;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(options.work_dir / "runs", ec)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  for (const auto& folder : folders) recover_run(folder);
  std::set<TaskId> known;
  for (const auto& [id, run] : runs) known.insert(id);
  secret_files.keep_only(known);
  if (!folders.empty()) log::info("agent", "{} tasks found in {}", runs.size(), (options.work_dir / "runs").string());
  return {};
}

void AgentService::Impl::recover_run(const fs::path& folder) {
  auto record = read_record(folder);
  if (!record && never_recorded(folder)) {
    log::info("agent", "task={} was being launched when this agent's predecessor ended, before it was recorded; the leader sends it again where it is still wanted", folder.filename().string());
    std::error_code ec;
    fs::remove_all(folder, ec);
    return;
  }
  if (!record) {
    log::error("agent", "task={} lost, its record is damaged: {}", folder.filename().string(), record.error().context);
    (void)tell_kill(folder);  // a task may still be behind it, and nobody would ever end that one
    std::error_code ec;
    auto aside = options.work_dir / "damaged";
    fs::create_directories(aside, ec);
    fs::rename(folder, aside / (folder.filename().string() + fmt::format(".{:x}", random_u64())), ec);
    return;
  }
  auto run = std::make_shared<Run>();
  run->launch = {record->spec, folder, record->sandbox, record->spec.secrets.empty() ? fs::path() : secret_files.of(record->spec.id)};
  run->goal = record->goal;
  run->draining_since = record->draining_since;
  link::HeldTask held{record->spec, record->goal, record->draining_since, {}};
  held.status.task = record->spec.id;
  held.status.state = TaskState::staging;
  runs[record->spec.id] = run;
  auto started = read_started(folder);
  if (started) {
    held.status.state = TaskState::running;
    held.status.ready = record->spec.readiness_checks.empty();
    held.status.started_at = started->at;
    auto verdict = record->boot_id == boot && !read_exit(folder) ? read_verdict(folder) : std::nullopt;
    if (verdict && verdict->alive.size() == record->spec.health_checks.size()) {
      run->recalled = verdict;
      held.status.ready = held.status.ready || verdict->ready;
      held.status.healthy = combined(verdict->alive);
    }
  }
  core.adopt(std::move(held));
  // A launch that was cut off before its executor was made is begun again.
  std::error_code ec;
  bool begun = started || fs::exists(folder / "exec.conf", ec) || fs::exists(folder / "exit", ec);
  auto job = begun ? hold(run) : start_run(run);
  net::spawn(strand, "hold", std::move(job), shared_from_this());
}

// --- the link ---

bool AgentService::Impl::carry_out(Decisions decisions) {
  if (decisions.persist) {
    auto ok = membership_file.save(core.membership());
    if (!ok) {
      log::error("agent", "cannot remember the leader's epoch: {}", ok.error().context);
      return false;
    }
  }
  for (const auto& spec : decisions.start) {
    auto run = make_run(spec);
    auto job = start_run(run);
    net::spawn(strand, "start", std::move(job), shared_from_this());
  }
  for (const auto& [id, goal] : decisions.goals) set_goal(id, goal);
  for (const auto& id : decisions.forget) forget(id);
  for (const auto& order : decisions.exec) start_exec(order);
  if (!decisions.secrets.empty()) {
    changed_secrets.insert(decisions.secrets.begin(), decisions.secrets.end());
    secrets_signal->notify();
    net::spawn(strand, "secrets", renew_secrets(), shared_from_this());
  }
  if (decisions.report) report_signal->notify();
  return true;
}

void AgentService::Impl::start_exec(const link::Exec& order) {
  ExecSession session;
  session.leader = *leader;
  session.target = fmt::format("/croft/v1/agents/{}/exec/{}", core.membership().id, order.session);
  session.stopping = [self = shared_from_this()] { return self->stopping.load(); };
  auto at = runs.find(order.task);
  if (at == runs.end() || at->second->over || !at->second->started) session.refused = fmt::format("task {} does not run", order.task);
  else session.words = runtime_of(*at->second).inside(at->second->launch, order.command, order.terminal);
  log::info("agent", "task={} session={} runs {}", order.task, order.session, order.command.empty() ? "" : order.command[0].substr(0, 100));
  net::spawn(pool, "exec", run_exec_session(pool, exec_client, std::move(session)));
}

asio::awaitable<bool> AgentService::Impl::follow(net::Origin master, bool pointed) {
  net::Request request;
  request.method = "POST";
  request.target = "/croft/v1/agents";
  request.headers.set("Content-Type", "application/json");
  request.body = link::encode(core.registration(options.info));
  net::ClientOptions how;
  how.connect_timeout = connect_limit;
  how.timeout = how.idle_timeout = silence_max;
  auto silent = silences.find(master.str());
  if (pointed || !silences.empty()) how.timeout = std::min(silence_max, brief * (1 << (silent == silences.end() ? 0 : std::min(silent->second, 3))));
  auto opened = co_await client.open(master, std::move(request), how);
  if (!opened) {
    if (opened.error().code == Errc::timeout) ++silences[master.str()];
    co_return false;
  }
  std::shared_ptr<net::StreamReader> reader(std::move(*opened));
  if (reader->head().status != 200) {
    if (auto there = net::leader_in(reader->head())) {
      pointed_at = master;  // with what this one has to prove
      pointed_at->host = there->host, pointed_at->port = there->port;
    }
    auto said = co_await reader->read_some();
    if (reader->head().status != 503) log::warn("agent", "master={} answered {}: {}", master.str(), reader->head().status, said.value_or(""));
    co_return false;
  }
  stream = reader;
  leader = master;
  bool had = false;
  while (!stopping) {
    auto line = co_await reader->read_line();
    if (!line && line.error().code == Errc::timeout) ++silences[master.str()];
    if (!line || !*line || stopping) break;
    auto record = link::decode_down(**line);
    auto decisions = record ? core.on_down(*record, system_now()) : Result<Decisions>(std::unexpected(record.error()));
    if (!decisions) {
      log::warn("agent", "master={} {}", master.str(), decisions.error().context);
      break;
    }
    if (!had) silences.clear();
    if (!had) log::info("agent", "master={} agent={} registered", master.str(), core.membership().id);
    had = true;
    if (!carry_out(std::move(*decisions))) break;
  }
  core.disconnected();
  leader.reset();
  stream.reset();
  reader->cancel();
  co_return had;
}

asio::awaitable<void> AgentService::Impl::link_loop() {
  auto self = shared_from_this();
  ++loops;
  auto pause = pause_first;
  if (docker) {
    options.info.docker = co_await docker->available();
    options.info.engine = docker->facts();
  }
  for (std::size_t turn = 0; !stopping && !options.masters.empty(); ++turn) {
    pointed_at.reset();
    bool had = co_await follow(options.masters[turn % options.masters.size()], false);
    // Masters that do not lead go on naming the one that has just gone silent, perhaps by another name, until they know better.
    if (auto there = std::exchange(pointed_at, std::nullopt); there && !had && !stopping) had = co_await follow(*there, true);
    if (stopping) break;
    if (!had && (turn + 1) % options.masters.size() != 0) continue;  // everybody is asked before it waits
    pause = had ? pause_first : std::min(pause * 2, pause_max);
    auto jitter = std::chrono::milliseconds(random_u64() % static_cast<std::uint64_t>(pause.count() + 1));
    co_await net::sleep_for(pause / 2 + jitter / 2);
  }
  --loops;
}

asio::awaitable<void> AgentService::Impl::report_loop() {
  auto self = shared_from_this();
  ++loops;
  while (!stopping) {
    auto ticket = report_signal->ticket();
    auto now = system_now();
    auto report = leader ? core.next_report(now) : std::nullopt;
    if (!report) {
      auto due = core.next_due(now);
      auto wait = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(due - now.mono), std::chrono::milliseconds(leader ? 1 : 50), std::chrono::milliseconds(1000));
      (void)co_await report_signal->wait(ticket, wait);
      continue;
    }
    auto to = *leader;
    net::Request request;
    request.method = "POST";
    request.target = "/croft/v1/agents/" + report->agent.str() + "/reports";
    request.headers.set("Content-Type", "application/json");
    request.body = link::encode(*report);
    net::ClientOptions how;
    how.connect_timeout = connect_limit;
    how.timeout = silence_max;
    reports.add();
    auto answer = co_await client.request(to, std::move(request), how);
    if (answer && answer->status < 300) {
      // The first of many goes at once; what comes right behind it goes together.
      auto early = now.mono + report_gap - std::chrono::steady_clock::now();
      if (early > early.zero()) co_await net::sleep_for(std::chrono::ceil<std::chrono::milliseconds>(early));
      continue;
    }
    if (answer) log::warn("agent", "master={} refused a report: {} {}", to.str(), answer->status, answer->body);
    // Register anew, so that everything unacknowledged is told again; unless another leader has been found meanwhile.
    if (auto reader = stream.lock(); reader && leader == to) reader->cancel();
    co_await net::sleep_for(std::chrono::milliseconds(50));
  }
  --loops;
}

/// Old sandboxes go by age, the oldest sooner where the disk is nearly full; never one of a task that runs, nor one whose lines are not shipped.
asio::awaitable<void> AgentService::Impl::collect_loop() {
  auto self = shared_from_this();
  constexpr int by_room = 60, by_age = 600;  // seconds
  for (int round = 1; !stopping; ++round) {
    co_await net::sleep_for(std::chrono::milliseconds(1000));
    if (round % by_age == 0 || (round % by_room == 0 && fullness(options.work_dir) > Collection::fullness_max)) co_await collect();
  }
}

asio::awaitable<void> AgentService::Impl::collect() {
  auto self = shared_from_this();
  auto found = std::make_shared<std::vector<EndedSandbox>>();
  std::function<void()> look = [self, found] { *found = list_sandboxes(self->options.work_dir / "slaves"); };
  co_await blocking.run(look);
  // Asked after the look: whatever was there then and runs is among these.
  std::set<fs::path> running;
  for (const auto& [id, run] : runs)
    if (!run->over) running.insert(run->launch.sandbox);
  std::erase_if(*found, [&](const EndedSandbox& s) { return running.contains(s.path) || (options.shipped && !options.shipped(s.path)); });
  std::function<void()> remove = [self, found] {
    auto kept = list_kept(self->options.work_dir / "cache");
    found->insert(found->end(), kept.begin(), kept.end());
    Collection collection(std::move(*found), self->options.sandbox_age);
    auto before = fullness(self->options.work_dir);
    std::size_t n = 0;
    for (auto full = before; !self->stopping; full = fullness(self->options.work_dir), ++n) {
      auto sandbox = collection.next(full);
      if (!sandbox) break;
      std::error_code ec;
      if (fs::is_regular_file(*sandbox, ec)) fs::remove(*sandbox, ec);  // a fetch that has it open reads on
      else remove_sandbox(*sandbox);
    }
    if (n > 0) log::info("agent", "{} sandboxes of ended tasks and kept artifacts removed; the disk was {:.0f} % full, is {:.0f} %", n, before * 100, fullness(self->options.work_dir) * 100);
  };
  co_await blocking.run(remove);
}

/// Whether the Docker Engine is there decides whether images are placed here: the leader hears of a change by a new registration.
asio::awaitable<void> AgentService::Impl::docker_loop() {
  auto self = shared_from_this();
  bool reaped = false;
  while (!stopping) {
    bool there = co_await docker->available();
    if (stopping) co_return;
    if (there && !std::exchange(reaped, true)) {
      std::set<TaskId> known;
      for (const auto& [id, run] : runs) known.insert(id);
      co_await docker->reap(std::move(known));
    }
    if (there != options.info.docker || (there && docker->facts() != options.info.engine)) {
      options.info.docker = there;
      options.info.engine = docker->facts();
      if (auto reader = stream.lock()) reader->cancel();
    }
    co_await net::sleep_for(std::chrono::milliseconds(there ? 5000 : 1000));
  }
}

// --- the public face ---

std::shared_ptr<AgentService> AgentService::make(asio::any_io_executor pool, AgentOptions options, std::unique_ptr<Runtime> native, std::unique_ptr<Runtime> docker, Metrics& metrics) {
  std::shared_ptr<AgentService> made(new AgentService);
  made->impl_ = std::make_shared<Impl>(std::move(pool), std::move(options), std::move(native), std::move(docker), metrics);
  return made;
}

AgentService::~AgentService() = default;

Status AgentService::start() {
  auto& i = *impl_;
  i.started_at = system_now().wall;
  if (auto ok = i.recover(); !ok) return ok;
  if (i.docker) net::spawn(i.strand, "docker engine", i.docker_loop(), impl_);
  net::spawn(i.strand, "agent link", i.link_loop(), impl_);
  net::spawn(i.strand, "agent reports", i.report_loop(), impl_);
  net::spawn(i.strand, "sandbox collection", i.collect_loop(), impl_);
  return {};
}

asio::awaitable<void> AgentService::stop() {
  auto impl = impl_;
  impl->stopping = true;
  auto work = [impl] {
    if (auto reader = impl->stream.lock()) reader->cancel();
    impl->report_signal->notify();
    impl->secrets_signal->notify();
    for (auto& [id, run] : impl->runs) run->ctl.reset();
    return true;
  };
  co_await impl->on_strand(work);
  for (int i = 0; i < 400 && impl->loops > 0; ++i) co_await net::sleep_for(std::chrono::milliseconds(5));
}

asio::awaitable<std::vector<AgentService::SandboxInfo>> AgentService::sandboxes() {
  auto impl = impl_;
  auto work = [impl] {
    std::vector<SandboxInfo> out;
    for (const auto& [id, run] : impl->runs) out.push_back({id, run->launch.spec.app, run->launch.sandbox.string(), run->over});
    auto& gone = impl->forgotten;
    for (auto now = system_now().mono; !gone.empty() && now - gone.front().first > Impl::forgotten_age;) gone.pop_front();
    for (const auto& [at, sandbox] : gone) out.push_back(sandbox);
    return out;
  };
  co_return co_await impl->on_strand(work);
}

}  // namespace croft::agent
