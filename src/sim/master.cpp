// A master's life: its session, its term, its turns, its commits. The faces are in master_faces.cpp.

#include "orchestrator/secrets.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr Millis beat_every{300}, tick_every{500}, store_patience{1000}, read_again{700}, take_over_patience{1500}, absent_max{10'000};
constexpr int turn_rounds_max = 16;

orchestrator::Options core_options(std::uint64_t seed) {
  orchestrator::Options o;
  o.seed = seed;
  o.drain_time = Millis(5000);
  return o;
}

cluster::Options cluster_options(const coordination::Term& t) {
  cluster::Options o;
  o.cluster_id = t.cluster_id;
  o.epoch = t.epoch;
  o.commit = t.head;
  o.unacked_max = 6;
  o.heartbeat = Millis(2000);
  return o;
}

}  // namespace

Term::Term(const coordination::Term& t, std::uint64_t seed)
    : term(t), cluster(cluster_options(t)), catalog({.epoch = t.epoch, .lease = Millis(3000), .backlog_max = 24u << 10}), core(cluster, catalog, core_options(seed)), head(t.head) {}

// --- the process ---

void Master::boot() {
  farm_.net.start(node);
  taking_over_ = opening_ = knows_leader_ = forced = false;
  lease_until = rogue_until = Millis(0);
  if (auto old = std::exchange(session, 0); old != 0)  // it holds the lock file again, which proves that its earlier life is over
    farm_.net.post(node, farm_.store_node, [this, old] { farm_.store.end(old); }, {}, true);
  beat_loop();
}

void Master::crash() {
  farm_.net.stop(node);
  if (!term) return;
  for (auto& [subscription, s] : term->streams) s.pipe->broken_at_writer = nullptr, farm_.net.close(s.pipe);
  for (auto& f : term->follows) farm_.net.close(f.pipe);
  term.reset();
}

/// A leader that must not go on ends its process; the unit starts it again.
void Master::step_down(const char* why) {
  farm_.note("{} steps down: {}", farm_.net.name(node), why);
  crash();
  farm_.world.after(farm_.world.between(50, 500), [this] {
    if (!farm_.net.up(node)) boot();
  });
}

void Master::hand_over() {
  farm_.probe(Probe::leader_handed_over);
  farm_.net.post(node, farm_.store_node, [this, s = session] { farm_.store.end(s); }, {}, true);
  step_down("it hands over");
}

void Master::rogue(Millis length) {
  farm_.note("{} loses its session and does not notice for {} ms", farm_.net.name(node), length.count());
  forced = true;
  rogue_until = farm_.world.elapsed() + length;
  farm_.store.end(session);
}

bool Master::may_act() const {
  if (farm_.has(Bug::lease_ignored)) return true;
  return farm_.world.elapsed() < std::max(lease_until, rogue_until);
}

// --- session and election ---

void Master::open_session() {
  opening_ = true;
  auto& f = farm_;
  f.net.post(node, f.store_node, [this, &f] {
    if (!f.store.answers) return;
    auto id = f.store.open(node);
    f.net.post(f.store_node, node, [this, id] {
      if (session == 0) session = id;
      opening_ = false;
    }, {}, true);
  }, {}, true);
  f.net.after(node, take_over_patience, [this] { opening_ = false; });
}

void Master::beat_loop() {
  auto& f = farm_;
  f.net.after(node, beat_every, [this] { beat_loop(); });
  if (session == 0) {
    if (!opening_) open_session();
    return;
  }
  Beat b{f.world.elapsed(), session, false, std::nullopt, 0};
  f.net.post(node, f.store_node, [this, &f, b]() mutable {
    if (!f.store.answers) return;
    b.alive = f.store.beat(b.session);
    b.first = f.store.first();
    b.epoch = f.store.image().epoch;
    f.net.post(f.store_node, node, [this, b] { on_beat(b); }, {}, true);
  }, {}, true);
}

void Master::on_beat(const Beat& b) {
  auto now = farm_.world.elapsed();
  if (b.session != session) return;
  if (!b.alive) {
    if (now < rogue_until) return;
    session = 0;
    if (term) step_down("its session has ended");
    return;
  }
  if (term && b.first && b.first->session != session && now >= rogue_until) return step_down("another is first in the queue");
  lease_until = std::max(lease_until, b.sent + farm_.store.session_timeout * 6 / 10);
  knows_leader_ = b.first && b.first->session != session;
  if (knows_leader_) known_leader_ = b.first->owner;
  if (b.first && b.first->session == session && !term && !taking_over_ && may_act()) take_over(b.epoch);
}

void Master::take_over(std::uint64_t epoch_seen) {
  taking_over_ = true;
  auto& f = farm_;
  f.net.post(node, f.store_node, [this, &f, epoch_seen] {
    if (!f.store.answers) return;
    auto image = f.store.take_over(session, epoch_seen);
    if (!image) return;
    f.net.post(f.store_node, node, [this, image = std::move(*image)] {
      if (taking_over_ && !term) start_term(image);
    }, {}, true);
  }, {}, true);
  f.net.after(node, take_over_patience, [this] { taking_over_ = false; });
}

void Master::start_term(StoreSim::Image image) {
  auto& f = farm_;
  taking_over_ = false;
  if (f.has(Bug::agents_not_stored)) std::erase_if(image.data, [](const auto& e) { return e.first.starts_with("agents/"); });
  if (f.has(Bug::drained_nodes_forgotten)) std::erase_if(image.data, [](const auto& e) { return e.first.starts_with("nodes/"); });
  term = std::make_unique<Term>(coordination::Term{image.epoch, image.head, image.cluster_id}, f.options.seed * 100'000 + image.epoch * 10 + index + 1);
  auto& t = *term;
  t.since = t.ticked = f.world.elapsed();
  f.note("{} leads: epoch {} head {} of {}", f.net.name(node), image.epoch, image.head, image.cluster_id);
  if (auto ok = t.core.load(image.data, f.world.now()); !ok) return f.fail("C1", "the store cannot be loaded: " + ok.error().context);
  for (const auto& [key, value] : image.data)
    if (key.starts_with(orchestrator::secrets_prefix)) t.secrets[key] = value, tell_secret(key);
  if (f.has(Bug::partial_snapshot))
    for (const auto& [key, value] : image.data)
      if (key.starts_with("agents/")) t.catalog.complete(AgentId(key.substr(7)));
  for (const auto& [id, d] : t.core.deployments()) t.deployments_open.emplace(id, d->current), f.probe(Probe::deployment_resumed);
  t.catalog.set_masters({{f.net.name(node), "10.0.1.1", 5050, true}});
  f.judge.took_over(*this);
  tick_loop(image.epoch);
  turn();
}

// --- turns ---

void Master::tick_loop(std::uint64_t epoch) {
  if (!still(epoch)) return;
  farm_.net.after(node, tick_every, [this, epoch] { tick_loop(epoch); });
  if (!may_act()) return farm_.probe(Probe::lease_ran_out);
  allow_for_silence();
  if (!std::exchange(term->waited, farm_.world.elapsed() - term->since >= absent_max) && term->waited)
    for (const auto& h : farm_.hosts)  // who is not back by now is lost
      if (!term->cluster.agent(h->page.membership.id)) farm_.judge.gave_up(h->page.membership.id);
  term->cluster.tick(farm_.world.now());
  term->catalog.tick(farm_.world.now());
  turn();
  if (still(epoch)) count_rare();
}

/// What shows from outside only in words.
void Master::count_rare() {
  auto& core = term->core;
  auto now = farm_.world.now();
  for (const auto& item : core.queue(now))
    if (item.failures >= 3) farm_.probe(Probe::backoff_grew);
  if (core.apps().empty()) return;
  bool fresh = farm_.world.elapsed() - term->since < Millis(10'000), away = false;
  for (const auto* agent : term->cluster.agents()) away = away || !agent->reachable;
  if (!fresh && !away) return;
  for (const auto& line : core.explain(core.apps().begin()->first, now)) {
    if (line.find("charged to nodes") != std::string::npos) farm_.probe(Probe::held_back);
    if (line.starts_with("Too many nodes")) farm_.probe(Probe::brake_on);
  }
}

void Master::note_events(const std::vector<cluster::Event>& events) {
  using Kind = cluster::Event::Kind;
  for (const auto& e : events) {
    if (e.kind == Kind::task_adopted) {
      term->adopted.insert(e.task);
      const auto* task = term->cluster.task(e.task);
      if (!task) continue;
      if (task->quarantined) farm_.probe(Probe::quarantined);
      if (task->goal == link::Goal::drain) farm_.probe(Probe::drain_adopted);
      if (task->goal == link::Goal::kill) farm_.probe(Probe::kill_adopted);
    } else if (e.kind == Kind::agent_unreachable) {
      farm_.probe(Probe::agent_unreachable);
      farm_.note("{} gives {} up", farm_.net.name(node), e.agent);
      farm_.judge.gave_up(e.agent);
    } else if (e.kind == Kind::task_gone && e.last->status.reason == "REASON_RECONCILIATION") {
      farm_.judge.counted_as_lost(*this, e.task);
    } else if (e.kind == Kind::task_gone && e.last->status.reason == "REASON_TASK_HEALTH_CHECK_KILLED") {
      farm_.probe(Probe::health_killed);
    }
  }
}

/// As the core does: `since` is when the absent have had no time yet.
void Master::allow_for_silence() {
  auto now = farm_.world.elapsed();
  auto before = std::exchange(term->ticked, now);
  if (now - before >= Millis(1500) && before - term->since < absent_max) term->since += now - before;
}

void Master::turn() {
  if (!term || !may_act() || farm_.failed()) return;
  allow_for_silence();
  auto& t = *term;
  auto now = farm_.world.now();
  t.adopted.clear();
  Mono next = now.mono + tick_every;
  for (int round = 0; round < turn_rounds_max; ++round) {
    auto events = t.cluster.take_events();
    if (events.empty() && round > 0) break;
    note_events(events);
    t.core.on_events(events, now);
    next = std::min(next, t.core.tick(now));
  }
  (void)t.catalog.flush();
  farm_.judge.after_turn(*this);
  route_messages();
  feed_followers();
  read_bus();
  collect_progress();
  wake_at(next);
}

void Master::wake_at(Mono when) {
  auto now = farm_.world.elapsed();
  auto at = now + std::max(Millis(1), std::chrono::ceil<Millis>(when - farm_.world.now().mono));
  if (term->wake > now && term->wake <= at) return;
  term->wake = at;
  farm_.net.after(node, at - now, [this, at, epoch = term->term.epoch] {
    if (still(epoch) && term->wake == at) turn();
  });
}

// --- commits: one at a time, each outcome known before the next ---

void Master::lock(Work work) {
  if (term->committing) return term->waiting.push_back(std::move(work));
  term->committing = true;
  work();
}

void Master::unlock() {
  term->committing = false;
  if (term->waiting.empty()) return;
  auto next = std::move(term->waiting.front());
  term->waiting.pop_front();
  term->committing = true;
  next();
}

void Master::commit(coordination::Batch batch, Done done) {
  auto& f = farm_;
  auto answered = std::make_shared<bool>(false), overtaken = std::make_shared<bool>(false);
  auto epoch = term->term.epoch, head = term->head;
  auto settled = [this, answered, epoch, done](StoreSim::Outcome outcome) {
    if (!std::exchange(*answered, true)) settle(epoch, outcome, done);
  };
  auto unsure = [this, answered, overtaken, epoch, done] {
    if (std::exchange(*answered, true)) return;
    if (farm_.has(Bug::unknown_is_done)) settle(epoch, StoreSim::Outcome::committed, done);
    else read_back(epoch, done, overtaken);
  };
  auto refused = [this, answered, epoch, done] {
    if (!std::exchange(*answered, true) && still(epoch)) farm_.probe(Probe::store_refused), done(false);
  };
  f.net.post(node, f.store_node, [this, &f, epoch, head, s = session, batch = std::move(batch), settled, refused, overtaken] {
    if (!f.store.answers || *overtaken) return;  // a session's requests are served in order: one that a later one passed is lost
    if (f.world.chance(f.store.refuses)) return f.net.post(f.store_node, node, refused, {}, true);
    if (f.world.chance(f.store.unknown)) {
      auto fate = f.world.roll(3);
      if (fate == 0) (void)f.store.commit(epoch, head, batch);
      if (fate == 1) f.store.commit_late(s, epoch, head, batch, f.world.between(1000, 6000));
      return;
    }
    auto outcome = f.store.commit(epoch, head, batch);
    f.net.post(f.store_node, node, [settled, outcome] { settled(outcome); }, {}, true);
  }, unsure, true);
  f.net.after(node, store_patience, unsure);
}

void Master::read_back(std::uint64_t epoch, const Done& done, const std::shared_ptr<bool>& overtaken) {
  if (!still(epoch)) return;
  auto& f = farm_;
  auto answered = std::make_shared<bool>(false);
  f.net.post(node, f.store_node, [this, &f, epoch, done, answered, overtaken, s = session] {
    if (!f.store.answers) return;
    *overtaken = true;
    bool alive = f.store.alive(s);
    auto head = f.store.synced_head(s);
    f.net.post(f.store_node, node, [this, epoch, done, answered, alive, head] {
      if (std::exchange(*answered, true) || !still(epoch)) return;
      if (!alive) return step_down("its session ended while an outcome was unknown");
      if (head == term->head + 1) return farm_.probe(Probe::unknown_applied), settle(epoch, StoreSim::Outcome::committed, done);
      if (head == term->head) return farm_.probe(Probe::unknown_dropped), done(false);
      step_down("the store went on without it");
    }, {}, true);
  }, {}, true);
  f.net.after(node, read_again, [this, epoch, done, answered, overtaken] {
    if (!*answered) *answered = true, read_back(epoch, done, overtaken);
  });
}

void Master::settle(std::uint64_t epoch, StoreSim::Outcome outcome, const Done& done) {
  if (!still(epoch)) return;
  if (outcome == StoreSim::Outcome::committed) {
    ++term->head;
    term->cluster.committed(term->head);
    return done(true);
  }
  farm_.probe(Probe::fenced_commit);
  step_down(outcome == StoreSim::Outcome::not_leader ? "a commit of its was fenced" : "the store is not where it left it");
}

void Master::collect_progress() {
  auto& t = *term;
  auto progress = t.core.take_background_batch();
  for (auto& key : progress.remove) t.background.put.erase(key), t.background.remove.push_back(key);
  for (auto& [key, value] : progress.put) std::erase(t.background.remove, key), t.background.put[key] = value;
  if ((t.background.empty() && t.when_stored.empty()) || t.background_queued) return;
  t.background_queued = true;
  lock([this] { commit_background(); });
}

void Master::commit_background() {
  auto& t = *term;
  auto epoch = t.term.epoch;
  t.background_queued = false;
  auto batch = std::exchange(t.background, {});
  auto waiters = std::exchange(t.when_stored, {});
  auto told = [this, epoch](const std::vector<Work>& all) {
    for (const auto& work : all)
      if (still(epoch)) work();
    if (still(epoch)) unlock();
  };
  if (batch.empty()) return told(waiters);
  commit(batch, [this, batch, waiters, told](bool good) {
    if (good) return told(waiters);
    farm_.probe(Probe::background_retried);
    auto& b = term->background;
    for (const auto& [key, value] : batch.put)
      if (std::find(b.remove.begin(), b.remove.end(), key) == b.remove.end()) b.put.try_emplace(key, value);
    for (const auto& key : batch.remove)
      if (!b.put.contains(key)) b.remove.push_back(key);
    for (const auto& work : waiters) term->when_stored.push_back(work);
    unlock();
  });
}

}  // namespace croft::sim
