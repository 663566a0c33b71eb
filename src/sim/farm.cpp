#include "sim/farm.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::sim {

namespace {

constexpr std::size_t hosts = 4, apps_max = 5;
constexpr std::size_t log_max = 200;

orchestrator::Options core_options(std::uint64_t seed) {
  orchestrator::Options o;
  o.seed = seed;
  o.drain_time = Millis(3000);
  return o;
}

cluster::Options cluster_options(const coordination::Term& t) {
  cluster::Options o;
  o.cluster_id = t.cluster_id;
  o.epoch = t.epoch;
  o.commit = t.head;
  return o;
}

}  // namespace

std::optional<Bug> bug_named(std::string_view name) {
  if (name.empty()) return Bug::none;
  if (name == "ack-before-commit") return Bug::ack_before_commit;
  if (name == "launch-not-recorded") return Bug::launch_not_recorded;
  if (name == "agents-not-stored") return Bug::agents_not_stored;
  return std::nullopt;
}

Leader::Leader(const coordination::Term& term, std::uint64_t seed)
    : cluster(cluster_options(term)), catalog({.epoch = term.epoch}), core(cluster, catalog, core_options(seed)) {}

Farm::Farm(const RunOptions& options) : options_(options), world_(options.seed) {
  for (std::size_t i = 0; i < hosts; ++i) hosts_.emplace_back().name = fmt::format("node{}", i + 1);
}

void Farm::note(std::string what) {
  result_.trace = result_.trace * 1099511628211ull ^ std::hash<std::string>{}(what) ^ static_cast<std::uint64_t>(world_.elapsed().count());
  result_.log.push_back(fmt::format("{:>8} {}", world_.elapsed().count(), what));
  if (result_.log.size() > log_max) result_.log.erase(result_.log.begin());
}

void Farm::fail(std::string why) {
  if (result_.failure.empty()) result_.failure = fmt::format("after {} ms: {}", world_.elapsed().count(), why);
}

// --- leader ---

void Farm::take_over() {
  ++leader_life_;
  ++epoch_;
  leader_ = std::make_unique<Leader>(coordination::Term{epoch_, head_, "sim"}, options_.seed * 1000 + epoch_);
  auto stored = store_;
  if (options_.bug == Bug::agents_not_stored) std::erase_if(stored, [](const auto& e) { return e.first.starts_with("agents/"); });
  auto ok = leader_->core.load(stored, world_.now());
  if (!ok) return fail("the store cannot be loaded: " + ok.error().context);
  note(fmt::format("leader takes over, epoch {} head {}", epoch_, head_));
  for (const auto& [id, app] : acknowledged_) {
    if (unsure_.contains(id)) continue;
    const auto* known = leader_->core.app(id);
    if (app && !known) fail(fmt::format("an acknowledged app is lost: {}", id));
    else if (!app && known) fail(fmt::format("an acknowledged removal is undone: {}", id));
    else if (app && known->instances != app->instances) fail(fmt::format("an acknowledged change of {} is lost", id));
  }
  auto life = leader_life_;
  world_.after(Millis(1), [this, life] { leader_ticks(life); });
}

void Farm::leader_ticks(std::uint64_t life) {
  if (life != leader_life_ || !leader_) return;
  leader_->cluster.tick(world_.now());
  leader_->catalog.tick(world_.now());
  turn();
  world_.after(Millis(200), [this, life] { leader_ticks(life); });
}

void Farm::kill_leader() {
  if (!leader_) return;
  note("leader killed");
  leader_.reset();
  ++leader_life_;
  for (auto& h : hosts_) h.connected = false, ++h.connection;
  world_.after(world_.between(100, 8000), [this] { take_over(); });
}

void Farm::turn() {
  auto& l = *leader_;
  for (int round = 0; round < 16; ++round) {
    auto events = l.cluster.take_events();
    if (events.empty() && round > 0) break;
    l.core.on_events(events, world_.now());
    (void)l.core.tick(world_.now());
  }
  (void)l.catalog.flush();
  for (auto& m : l.cluster.take_messages())
    for (std::size_t i = 0; i < hosts_.size(); ++i)
      if (hosts_[i].core && hosts_[i].connected && m.subscription == hosts_[i].subscription) {
        auto connection = hosts_[i].connection;
        auto record = m.record;
        world_.after(Millis(2), [this, i, connection, record] { deliver(i, connection, record); });
      }
  for (const auto& cut : l.cluster.take_cuts())
    for (auto& h : hosts_)
      if (h.core && h.connected && cut.subscription == h.subscription) {
        h.core->disconnected();
        h.connected = false;
        ++h.connection;
      }
  // As the leader's shell does: progress waits in one batch, which is tried until it is stored or the leader is gone.
  auto progress = l.core.take_background_batch();
  for (auto& key : progress.remove) l.background.put.erase(key), l.background.remove.push_back(key);
  for (auto& [key, value] : progress.put) std::erase(l.background.remove, key), l.background.put[key] = value;
  if (!l.background.empty() && !l.storing) {
    l.storing = true;
    auto batch = std::exchange(l.background, {});
    auto life = leader_life_;
    commit(batch, [this, batch, life](bool good) {
      if (life != leader_life_ || !leader_) return;
      leader_->storing = false;
      if (good) return;
      for (const auto& [key, value] : batch.put)
        if (std::find(leader_->background.remove.begin(), leader_->background.remove.end(), key) == leader_->background.remove.end()) leader_->background.put.try_emplace(key, value);
      for (const auto& key : batch.remove)
        if (!leader_->background.put.contains(key)) leader_->background.remove.push_back(key);
    });
  }
  (void)l.core.take_bus_events();
  check_step();
}

/// Carried out now or not at all; the outcome may stay unknown for a moment, which the shell resolves by reading the head.
void Farm::commit(coordination::Batch batch, std::function<void(bool)> then) {
  bool good = quiet_ || !world_.chance(0.05);
  auto life = leader_life_;
  auto write = [this, batch = std::move(batch), good] {
    if (!good) return;
    for (const auto& key : batch.remove) store_.erase(key);
    for (const auto& [key, value] : batch.put) store_[key] = value;
    ++head_;
  };
  world_.after(world_.between(1, 20), [this, life, write, good, then] {
    if (life != leader_life_) return;  // fenced: a new epoch is in force
    write();
    if (leader_ && good) leader_->cluster.committed(head_);
    then(good);
  });
}

void Farm::propose(orchestrator::Intent intent, std::string what) {
  if (!leader_ || leader_->committing) return;
  auto proposal = leader_->core.propose(intent, world_.now());
  if (!proposal) return;
  note(what);
  auto told = [this, intent](bool sure) {
    for (const auto& [id, app] : intent.apps) {
      if (sure) acknowledged_[id] = app, unsure_.erase(id);
      else unsure_.insert(id);
    }
  };
  told(false);
  if (options_.bug == Bug::ack_before_commit) told(true);
  leader_->committing = true;
  auto life = leader_life_;
  auto shared = std::make_shared<orchestrator::Proposal>(std::move(*proposal));
  commit(shared->batch, [this, life, shared, told, intent](bool good) {
    if (life != leader_life_ || !leader_) return;
    leader_->committing = false;
    if (!good) {
      // Refused in plain words: nothing of it is in force.
      if (options_.bug != Bug::ack_before_commit)
        for (const auto& [id, app] : intent.apps) unsure_.erase(id);
      return;
    }
    leader_->core.apply(*shared, world_.now());
    told(true);
    turn();
  });
}

void Farm::user_acts() {
  if (quiet_) return;
  world_.after(world_.between(200, 6000), [this] { user_acts(); });
  if (!leader_) return;
  AppId id(fmt::format("/app{}", world_.roll(apps_max)));
  const auto* app = leader_->core.app(id);
  orchestrator::Intent intent;
  intent.force = world_.chance(0.3);
  switch (world_.roll(6)) {
    case 0:
      if (!app) return;
      intent.apps[id] = std::nullopt;
      return propose(intent, fmt::format("remove {}", id));
    case 1: {
      if (!app) return;
      auto next = *app;
      next.env["N"] = std::to_string(world_.roll(1000));
      intent.apps[id] = next;
      return propose(intent, fmt::format("update {}", id));
    }
    case 2: {
      if (!app) return;
      auto tasks = leader_->cluster.tasks_of(id);
      if (tasks.empty()) return;
      note(fmt::format("kill {}", tasks[0]->spec.id));
      leader_->core.kill_tasks({tasks[0]->spec.id}, world_.now());
      return turn();
    }
    default: {
      App next = app ? *app : App{};
      next.id = id;
      next.cmd = "run";
      next.instances = static_cast<std::uint32_t>(1 + world_.roll(6));
      next.resources = {200, 64'000, 0, 0};
      next.backoff = Seconds(1);
      next.ports.resize(1);
      next.upgrade = {0.5, 0.5};
      HealthCheck check;
      check.grace = Millis(5000);
      next.health_checks = {check};
      intent.apps[id] = next;
      return propose(intent, fmt::format("{} {} to {}", app ? "scale" : "create", id, next.instances));
    }
  }
}

// --- the balancer: follows, confirms ---

void Farm::balance() {
  world_.after(world_.between(20, 120), [this] { balance(); });
  if (!leader_ || (!quiet_ && world_.chance(0.05))) return;
  for (const auto& line : leader_->catalog.since(follower_.index())) {
    auto record = catalog::decode_record(*line);
    if (!record) return fail("a catalog record does not decode: " + record.error().context);
    if (!follower_.apply(*record)) break;
  }
  if (!follower_.index()) return;
  catalog::Confirmation c{{BalancerId("b"), "b", "127.0.0.1"}, *follower_.index(), {}};
  for (const auto& [id, e] : follower_.content().endpoints)
    if (e.draining) c.open[id] = world_.chance(0.3) ? 1 : 0;
  leader_->catalog.confirm(c, world_.now());
  turn();
}

void Farm::faults() {
  if (quiet_) return;
  world_.after(world_.between(2000, 20'000), [this] { faults(); });
  auto host = world_.roll(hosts);
  switch (world_.roll(7)) {
    case 0: return kill_leader();
    case 1: return kill_agent(host);
    case 2: return reboot(host);
    case 3: {
      note(hosts_[host].name + " is cut off");
      hosts_[host].cut_off = true;
      auto& h = hosts_[host];
      h.connected = false;
      ++h.connection;
      if (h.core) h.core->disconnected();
      world_.after(world_.between(1000, 30'000), [this, host] { hosts_[host].cut_off = false; });
      return;
    }
    default: {
      if (hosts_[host].alive.empty()) return;
      auto at = std::next(hosts_[host].alive.begin(), static_cast<std::ptrdiff_t>(world_.roll(hosts_[host].alive.size())));
      return end_task(host, at->first, TaskState::failed, "crashed");
    }
  }
}

RunResult Farm::run() {
  take_over();
  for (std::size_t i = 0; i < hosts_.size(); ++i) boot_agent(i);
  world_.after(Millis(500), [this] { user_acts(); });
  world_.after(Millis(3000), [this] { faults(); });
  world_.after(Millis(10), [this] { balance(); });
  auto failed = [this] { return !result_.failure.empty(); };
  auto end = Millis(static_cast<std::int64_t>(options_.minutes * 60'000));
  world_.run_until(end, failed);
  quiet_ = true;
  note("the faults end");
  for (auto& h : hosts_) h.cut_off = false;
  if (!failed()) world_.run_until(end + Millis(420'000), failed);
  if (!failed()) check_end();
  result_.steps = world_.steps();
  return std::move(result_);
}

RunResult run(const RunOptions& options) { return Farm(options).run(); }

// --- judgement ---

void Farm::check_step() {
  if (!leader_ || !result_.failure.empty()) return;
  if (auto wrong = leader_->core.audit(world_.now()); !wrong.empty()) return fail(wrong);
  for (const auto& h : hosts_) {
    Resources used;
    std::set<std::uint16_t> ports;
    for (const auto& [id, spec] : h.alive) {
      used += spec.resources;
      for (const auto& p : spec.ports)
        if (!ports.insert(p.host_port).second) return fail(fmt::format("port {} of {} is used twice", p.host_port, h.name));
    }
    if (!Resources{4000, 4'000'000, 0, 0}.holds(used)) return fail(fmt::format("{} runs more than it has", h.name));
  }
}

void Farm::check_end() {
  if (!leader_) return fail("no leader at the end");
  std::string stuck;
  for (const auto& [id, d] : leader_->core.deployments()) {
    stuck += fmt::format(" | {} step {} of {}, {} before it", id, d->current, d->steps.size(), d->behind.size());
    for (const auto& [app, target] : d->target) {
      stuck += fmt::format("; {} to {}:", app, target ? std::to_string(target->instances) : "nothing");
      for (const auto* t : leader_->cluster.tasks_of(app))
        stuck += fmt::format(" {} on {} {} goal {}{}", t->spec.id, t->agent, wire_name(t->status.state), static_cast<int>(t->goal), t->quarantined ? " quarantined" : "");
    }
  }
  if (!stuck.empty()) return fail("deployments have not ended" + stuck);
  std::map<AppId, std::size_t> alive;
  for (const auto& h : hosts_)
    for (const auto& [id, spec] : h.alive) {
      ++alive[spec.app];
      const auto* task = leader_->cluster.task(id);
      if (!task) return fail(fmt::format("{} runs on {} and nobody knows it", id, h.name));
      if (task->quarantined) return fail(fmt::format("{} is quarantined although its app was never lost", id));
    }
  for (const auto& [id, app] : leader_->core.apps()) {
    if (alive[id] != app.instances) return fail(fmt::format("{} has {} tasks, {} are wanted", id, alive[id], app.instances));
    std::size_t seen = 0;
    for (const auto& [task, e] : follower_.content().endpoints) seen += e.app == id && e.serves(true);
    if (seen != app.instances) return fail(fmt::format("the balancer sees {} instances of {}, {} are wanted", seen, id, app.instances));
    alive.erase(id);
  }
  for (const auto& [id, n] : alive)
    if (n > 0) return fail(fmt::format("{} tasks of the removed {} still run", n, id));
}

}  // namespace croft::sim
