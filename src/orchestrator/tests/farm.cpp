#include "farm.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.hpp"
#include "orchestrator/marathon_app.hpp"

namespace croft::orchestrator::test {

App app_of(std::string_view manifest, App over) {
  Problems problems;
  auto parsed = json::parse(manifest);
  EXPECT_TRUE(parsed) << manifest;
  auto app = read_manifest(*parsed, std::move(over), problems);
  if (!problems.any()) validate(app, problems);
  EXPECT_FALSE(problems.any()) << problems.json();
  return app;
}

Farm::Farm(Options options) : options_(options) {
  if (options_.seed == 0) options_.seed = 7;
  now.mono = Mono(std::chrono::hours(100));
  now.wall = *from_iso8601("2026-01-01T00:00:00.000Z");
  leader_ = std::make_unique<Leader>(epoch_, options_);
  EXPECT_TRUE(core().load({}, now));
}

void Farm::agent(const std::string& name, double cpus, double mem, Labels attributes, PortSet ports) {
  auto& one = agents_[name];
  auto& info = one.registration.info;
  info.hostname = name;
  info.ip = "10.0.0." + std::to_string(agents_.size());
  info.total = {to_milli(cpus), to_milli(mem), 0, 0};
  info.attributes = std::move(attributes);
  info.ports = std::move(ports);
  info.docker = true;
  back(name);
}

void Farm::silent(const std::string& name) {
  auto& one = agents_.at(name);
  one.silent = true;
  cluster().stream_closed(one.id, one.subscription, now);
  turn();
}

void Farm::back(const std::string& name) {
  auto& one = agents_.at(name);
  one.registration.id = one.id;
  one.registration.cluster_id = one.id.empty() ? "" : "test";
  auto id = cluster().register_agent(one.registration, now);
  ASSERT_TRUE(id) << id.error().context;
  one.id = *id;
  one.subscription = cluster().agent(*id)->subscription;
  one.silent = false;
  one.number = 0;
  turn();
}

void Farm::without(const std::string& name, const TaskId& task) {
  std::erase_if(agents_.at(name).registration.tasks, [&](const link::HeldTask& t) { return t.spec.id == task; });
}

void Farm::write(const coordination::Batch& batch) {
  for (const auto& key : batch.remove) store.erase(key);
  for (const auto& [key, value] : batch.put) store[key] = value;
}

std::expected<Proposal, Refusal> Farm::change(Intent intent) {
  now.mono += Millis(1), now.wall += Millis(1);
  auto proposal = core().propose(intent, now);
  refusal = proposal ? std::nullopt : std::optional(proposal.error());
  if (!proposal) return proposal;
  write(proposal->batch);
  core().apply(*proposal, now);
  turn();
  return proposal;
}

DeploymentId Farm::put(std::string_view manifest, bool force) {
  auto id = app_of(manifest, App{.id = AppId("/x"), .cmd = "x"}).id;
  const auto* stored = core().app(id);
  Intent intent;
  intent.force = force;
  intent.apps[id] = app_of(manifest, stored ? *stored : App{});
  auto done = change(std::move(intent));
  return done ? done->deployment : DeploymentId();
}

DeploymentId Farm::remove(const AppId& app, bool force) {
  Intent intent;
  intent.force = force;
  intent.apps[app] = std::nullopt;
  auto done = change(std::move(intent));
  return done ? done->deployment : DeploymentId();
}

DeploymentId Farm::restart(const AppId& app) {
  Intent intent;
  intent.restart.insert(app);
  auto done = change(std::move(intent));
  return done ? done->deployment : DeploymentId();
}

Farm::Agent& Farm::agent_of(const AgentId& id) {
  auto at = std::find_if(agents_.begin(), agents_.end(), [&](const auto& one) { return one.second.id == id; });
  CROFT_ASSERT(at != agents_.end());
  return at->second;
}

void Farm::report(const TaskId& id, TaskState state, std::optional<bool> healthy, std::string reason, std::string message, bool ready) {
  const auto* task = cluster().task(id);
  ASSERT_NE(task, nullptr) << id.str();
  auto& one = agent_of(task->agent);
  TaskStatus s;
  s.task = id;
  s.uuid = "u" + std::to_string(++updates_);
  s.state = state;
  s.healthy = healthy;
  s.ready = ready;
  s.reason = std::move(reason);
  s.message = std::move(message);
  if (healthy == false) s.last_check_failure = "it said 500", s.check_failures = 1;
  s.at = now.wall;
  auto& held = one.registration.tasks;
  std::erase_if(held, [&](const link::HeldTask& t) { return t.spec.id == id; });
  if (!is_terminal(state)) held.push_back({task->spec, task->goal, task->draining_since, s});
  if (!one.silent) {
    link::Report r;
    r.agent = one.id;
    r.subscription = one.subscription;
    r.number = ++one.number;
    r.epoch = epoch_;
    r.applied_n = cluster().agent(one.id)->n;
    r.statuses = {s};
    auto done = cluster().report(r, now);
    ASSERT_TRUE(done) << done.error().context;
  }
  turn();
}

void Farm::start(const AppId& app) {
  for (const auto* t : tasks(app))
    if (t->status.state == TaskState::staging && t->goal == link::Goal::run)
      report(t->spec.id, TaskState::running, t->spec.health_checks.empty() ? std::nullopt : std::optional(true));
}

void Farm::run_only(const AppId& app) {
  for (const auto* t : tasks(app))
    if (t->status.state == TaskState::staging && t->goal == link::Goal::run) report(t->spec.id, TaskState::running);
}

void Farm::obey() {
  std::vector<TaskId> ending;
  for (const auto* t : cluster().tasks())
    if (t->goal == link::Goal::kill && !is_terminal(t->status.state) && !agent_of(t->agent).silent) ending.push_back(t->spec.id);
  for (const auto& id : ending) report(id, TaskState::killed, std::nullopt, "REASON_TASK_KILLED");
}

void Farm::crash(const AppId& app) {
  for (const auto* t : tasks(app))
    if (t->status.state == TaskState::running && t->goal == link::Goal::run) report(t->spec.id, TaskState::failed, std::nullopt, "REASON_COMMAND_EXECUTOR_FAILED", "exited with status 1");
}

void Farm::settle(const AppId& app, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    start(app);
    obey();
    pass(Millis(1000));
  }
}

void Farm::pass(Millis time) {
  while (time.count() > 0) {
    auto step = std::min(time, Millis(250));
    time -= step;
    now.mono += step, now.wall += step;
    for (auto& [name, one] : agents_) {
      const auto* known = one.silent ? nullptr : cluster().agent(one.id);
      if (!known || known->subscription != one.subscription || !known->connected) continue;
      link::Report r;
      r.agent = one.id;
      r.subscription = one.subscription;
      r.epoch = epoch_;
      r.applied_n = known->n;
      (void)cluster().report(r, now);
    }
    cluster().tick(now);
    catalog().tick(now);
    turn();
  }
}

void Farm::take_over() {
  ++epoch_;
  ++options_.seed;
  for (auto& [name, one] : agents_) one.silent = true;
  leader_ = std::make_unique<Leader>(epoch_, options_);
  auto loaded = core().load(store, now);
  ASSERT_TRUE(loaded) << loaded.error().context;
  turn();
}

void Farm::turn() {
  for (int round = 0; round < 16; ++round) {
    auto events = cluster().take_events();
    if (events.empty() && round > 0) break;
    core().on_events(events, now);
    (void)core().tick(now);
  }
  (void)catalog().flush();
  (void)cluster().take_messages();
  (void)cluster().take_cuts();
  auto progress = core().take_background_batch();
  if (keep_progress) write(progress);
  for (auto& e : core().take_bus_events()) events_.push_back(std::move(e));
  EXPECT_EQ(core().audit(now), "");
}

std::vector<BusEvent> Farm::take_events() { return std::exchange(events_, {}); }

std::vector<const cluster::Task*> Farm::tasks(const AppId& app) const {
  auto all = cluster().tasks_of(app);
  std::erase_if(all, [](const auto* t) { return is_terminal(t->status.state); });
  std::sort(all.begin(), all.end(), [](const auto* one, const auto* other) { return one->spec.id < other->spec.id; });
  return all;
}

std::string Farm::census(const AppId& app, bool present) const {
  std::map<std::string, int> counts;
  const auto* known = core().app(app);
  for (const auto* t : tasks(app)) {
    if (present != (known && t->spec.app_version >= known->last_config_change)) continue;
    std::string word = t->goal == link::Goal::drain ? "draining" : t->goal == link::Goal::kill ? "ending" : std::string(wire_name(t->status.state)).substr(5);
    std::transform(word.begin(), word.end(), word.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    ++counts[word];
  }
  std::string out;
  for (const auto& [word, n] : counts) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", n, word);
  return out.empty() ? "none" : out;
}

std::string Farm::of_present(const AppId& app) const { return census(app, true); }
std::string Farm::of_earlier(const AppId& app) const { return census(app, false); }

std::size_t Farm::running(const AppId& app) const {
  auto all = tasks(app);
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const auto* t) { return t->status.state == TaskState::running && t->goal == link::Goal::run; }));
}

std::string Farm::host_of(const cluster::Task& task) const { return cluster().agent(task.agent)->info.hostname; }

std::map<std::string, int> Farm::spread(const AppId& app) const {
  std::map<std::string, int> out;
  for (const auto* t : tasks(app)) ++out[host_of(*t)];
  return out;
}

std::string Farm::explained(const AppId& app) const {
  std::string out;
  for (const auto& sentence : core().explain(app, now)) out += sentence + "\n";
  return out;
}

std::string manifest(int instances, std::string_view more, std::string_view cmd) {
  return fmt::format(R"({{"id":"/a","cmd":"{}","cpus":1,"mem":1,"ports":[0],"instances":{}{}}})", cmd, instances, more);
}

Farm on_hosts(int hosts, int instances, std::string_view more) {
  Farm f;
  for (int n = 1; n <= hosts; ++n) f.agent("h" + std::to_string(n));
  f.put(manifest(instances, more));
  f.settle(a, 5);
  EXPECT_EQ(f.running(a), static_cast<std::size_t>(instances));
  return f;
}

}  // namespace croft::orchestrator::test
