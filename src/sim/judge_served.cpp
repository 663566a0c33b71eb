// What is served (C7, C8, C10, C12), looked at every quarter of a second; and whether the farm has come to rest (C13).

#include <cmath>

#include "orchestrator/secrets.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr Millis look_every{250};
constexpr Millis path_well{6000};        // a balancer well for so long hears the leader, when it has a stream
// Its data plane has what the stream's first record said. When it gets a stream again is not bounded by 6 s: an attempt that the weather swallows costs it 2 s and
// the pause after a round of masters 2 s more, so that two such in a row are 8 (seed 1811 was back after 7.4 s, and was asked 9 ms later).
constexpr Millis carried_out{100};
constexpr Millis leased{2500};           // without a stream: less than the lease, by what the newest confirmation took
constexpr Millis host_well{13'000};
constexpr Millis news_bound{3000};       // a change of a task's state is with every balancer by then
constexpr Millis sick_bound{6000};       // a check every 2 s, one failure
constexpr Millis lost_bound{35'000};     // an agent that fell silent, its strategy, a fail-over meanwhile
constexpr Millis solid_for{6000};
constexpr Millis drain_time{5000};

bool answers_for(const Proc& p, Millis now, Millis length) { return p.answers(now) && now - std::max({p.answers_from, p.sick_until, p.ready_from}) >= length; }

}  // namespace

void Judge::look_around() {
  farm_.world.after(look_every, [this] { look_around(); });
  if (farm_.failed()) return;
  check_hosts();
  Master* led = farm_.leader();
  bool leads = led && in_force(*led) && !farm_.net.frozen(led->node);
  farm_.faults.trouble_at_the_top(leads ? led->term->since - farm_.world.elapsed() : Millis(0));
  // Who was out of touch when the leader fell silent has its time from when there is one again.
  for (const auto& b : farm_.balancers)
    if (!leads && !farm_.faults.well(b->node, path_well)) farm_.faults.trouble(b->node, Millis(0));
  // Who listens to a leader that was kept in office by force is not heard by the one in force.
  for (const auto& b : farm_.balancers)
    if (b->stream && farm_.masters[b->master]->forced) farm_.faults.trouble(b->node, Millis(0));
  for (const auto& h : farm_.hosts)
    if (h->stream && farm_.masters[h->master]->forced) farm_.faults.trouble(h->node, Millis(0));
  if (led && in_force(*led)) {
    check_ledger(*led);
    if (farm_.faults.calm_farm()) check_rolling(*led);
    for (auto& b : farm_.balancers) check_copy(*b, *led);
  }
  for (auto& b : farm_.balancers)
    if (farm_.net.up(b->node)) check_rotation_of(*b);
}

/// C12: a copy at the leader's index is the leader's catalog; beyond it there is only what is kept of agents that have not come back.
void Judge::check_copy(Balancer& b, Master& m) {
  const auto& catalog = m.term->catalog;
  if (!b.stream || b.follower.index() != catalog.index() || catalog.pending() != catalog.index()) return;  // a leader without a lease does not publish
  const auto &mine = b.follower.content(), &theirs = catalog.content();
  auto wrong = [&](std::string_view what) { farm_.fail("C12", fmt::format("{} is at {}.{} and its {} differ from the leader's", b.label(), catalog.index().epoch, catalog.index().n, what)); };
  if (mine.services != theirs.services) return wrong("services");
  if (mine.rules != theirs.rules) return wrong("rules");
  for (const auto& [id, e] : theirs.endpoints)
    if (auto at = mine.endpoints.find(id); at == mine.endpoints.end() || !(at->second == e)) return wrong("end points");
  for (const auto& [id, e] : mine.endpoints) {
    if (theirs.endpoints.contains(id)) continue;
    const auto* agent = m.term->cluster.agent(e.agent);
    if (agent) return wrong("end points");
  }
}

/// C7: what is in rotation runs and answers, within a bound. C8: no rotation is empty while an instance is there that the balancer must know of.
void Judge::check_rotation_of(Balancer& b) {
  auto now = farm_.world.elapsed();
  bool hears = b.stream && now - b.followed >= carried_out && farm_.faults.well(b.node, path_well) && farm_.faults.led(path_well);
  std::map<TaskId, std::pair<const Host*, const Proc*>> alive;
  std::map<AppId, TaskId> solid;
  for (const auto& h : farm_.hosts)
    for (const auto& [id, p] : h->procs) {
      alive[id] = {h.get(), &p};
      auto record = h->page.runs.find(id);
      // One that is to go for a reason (C5) is out of rotation before its host hears of it.
      bool wanted = record != h->page.runs.end() && record->second.goal == link::Goal::run && h->core && h->core->wanted(id) && !decided_.contains(id);
      auto seen = b.seen.find(id);
      if (wanted && farm_.faults.well(h->node, host_well) && answers_for(p, now, solid_for) && seen != b.seen.end() && seen->second >= std::max({p.answers_from, p.sick_until, p.ready_from})) solid[p.spec.app] = id;
    }
  bool misled = farm_.faults.bad_store || b.misled;
  if (misled) b.seen.clear(), solid.clear();
  for (const auto& [app, tasks] : b.rotation)
    for (const auto& id : tasks)  // one that was given up may leave when its strategy says so, and is not known to be back before its host is
      if (!misled && !away_.contains(id)) b.seen[id] = now;
  for (const auto& [app, id] : solid)
    if (auto at = b.rotation.find(app); at == b.rotation.end() || at->second.empty())
      if (b.follower.content().services.contains(app)) return farm_.fail("C8", fmt::format("{} routes {} to nobody, {} is there", b.label(), app, id));
  if (!hears) return;
  for (const auto& [app, tasks] : b.rotation)
    for (const auto& id : tasks) {
      auto at = alive.find(id);
      if (at == alive.end()) {
        auto dead = now - died_[id];
        const Host* home = nullptr;
        std::size_t unwell = 0;
        for (const auto& h : farm_.hosts) {
          if (h->page.membership.id == b.homes[app][id]) home = h.get();
          unwell += !farm_.faults.well(h->node, Millis(60'000));
        }
        if (home && farm_.faults.well(home->node, host_well) && dead > news_bound) return farm_.fail("C7", fmt::format("{} routes to {}, which ended {} ms ago", b.label(), id, dead.count()));
        auto* m = farm_.leader();
        const auto* definition = m && m->term ? m->term->core.app(app) : nullptr;
        bool kept = definition && (definition->unreachable.disabled || definition->unreachable.inactive_after.count() > 0);
        if (kept) kept_[app] = now;  // that it is no longer is news to the balancers as well
        if (!kept && (!kept_.contains(app) || now - kept_[app] > lost_bound) && unwell <= 1 && farm_.faults.led(lost_bound) && farm_.faults.well(b.node, lost_bound) && dead > lost_bound)
          return farm_.fail("C7", fmt::format("{} routes to {}, which was lost with its host {} ms ago", b.label(), id, dead.count()));
      } else if (const auto& p = *at->second.second; !p.spec.health_checks.empty() && farm_.faults.well(at->second.first->node, host_well) && !p.answers(now) && p.sick_until > now &&
                 now - p.sick_from > sick_bound) {
        return farm_.fail("C7", fmt::format("{} routes to {}, which fails its checks", b.label(), id));
      }
    }
}

/// C8 as well: while its leader has not heard a host, what a balancer sends requests to there stays, although nobody speaks of it.
void Judge::left_rotation(const Balancer& b, const AppId& app, const TaskId& id) {
  constexpr Millis absent_max{10'000};
  auto now = farm_.world.elapsed();
  const auto& m = *farm_.masters[b.master];
  if (farm_.faults.bad_store || b.misled || m.forced || !m.term || !b.follower.index() || b.follower.index()->epoch != m.term->term.epoch) return;
  if (now - m.term->since >= absent_max || decided_.contains(id) || away_.contains(id) || !b.follower.content().services.contains(app)) return;
  if (b.follower.content().endpoints.contains(id)) return;  // a leader before this one said so
  for (const auto& h : farm_.hosts) {
    auto proc = h->procs.find(id);
    auto record = h->page.runs.find(id);
    if (proc == h->procs.end() || record == h->page.runs.end() || record->second.goal != link::Goal::run || m.term->cluster.agent(h->page.membership.id)) continue;
    if (answers_for(proc->second, now, Millis(0))) return farm_.fail("C8", fmt::format("{} takes {} out of rotation, and its leader has not heard {} yet", b.label(), id, h->label()));
  }
}

/// C10: TERM comes after the last live balancer let go, or after the drain time.
void Judge::term_sent(const Host& h, const TaskId& id) {
  auto now = farm_.world.elapsed();
  auto proc = h.procs.find(id);
  auto drain = drains_.find(id);
  if (drain != drains_.end() && now - drain->second >= drain_time) return;
  if (farm_.masters[h.master]->forced) return;
  if (proc == h.procs.end() || !answers_for(proc->second, now, path_well) || proc->second.spec.ports.empty()) return;
  for (const auto& b : farm_.balancers) {
    if (!b->confirms || !farm_.net.up(b->node) || !farm_.faults.well(b->node, path_well)) continue;
    if (!b->stream && now - b->unfollowed > leased) continue;  // its lease may have ended, which a drain does not outwait
    if (b->has(proc->second.spec.app, id))
      return farm_.fail("C10", fmt::format("{} gets TERM while {} sends it requests, {} ms after its drain began", id, b->label(), drain == drains_.end() ? -1 : (now - drain->second).count()));
  }
}

/// C11 by the processes themselves, in farms where nothing fails: as many answer as the strategy promises, all through a rolling deployment.
/// Deployments are let off whose tasks users kill, or which end or fall ill by themselves.
void Judge::check_rolling(const Master& m) {
  auto now = farm_.world.elapsed();
  for (const auto& [id, d] : m.term->core.deployments()) {
    if (d->target.size() != 1 || d->current >= d->steps.size()) continue;
    const auto& [app, target] = *d->target.begin();
    const auto& original = d->original.at(app);
    if (!target || !original || target->same_config(*original) || target->instances != original->instances) continue;
    auto least = static_cast<std::size_t>(std::ceil(target->instances * target->upgrade.minimum_health_capacity - 1e-9));
    std::size_t serves = 0;
    for (const auto& h : farm_.hosts)
      for (const auto& [task, p] : h->procs) {
        auto record = h->page.runs.find(task);
        // What a task does not have checked nobody can know: it counts from its start.
        bool well = (p.spec.health_checks.empty() || p.answers(now)) && (p.spec.readiness_checks.empty() || now >= p.ready_from);
        serves += p.spec.app == app && well && record != h->page.runs.end() && record->second.goal == link::Goal::run;
      }
    // One that has just started may answer before its leader can know: a promise is held of what it knew when it began.
    std::size_t known = 0;
    for (const auto* task : m.term->cluster.tasks_of(app)) {
      bool well = task->status.healthy.value_or(task->spec.health_checks.empty());
      known += task->goal == link::Goal::run && task->status.state == TaskState::running && task->status.ready && well;
    }
    auto [at, fresh] = rolling_.try_emplace(id, serves >= least && known >= least);
    if (disturbed_.contains(app)) at->second = false;
    if (at->second && serves < least) return farm_.fail("C11", fmt::format("{} of {} answer during a rolling deployment, at least {} must", serves, app, least));
  }
  disturbed_.clear();
}

// --- C13: at rest ---

std::string Judge::unfinished() {
  Master* m = farm_.leader();
  if (!m || !in_force(*m)) return "nobody leads";
  auto& t = *m->term;
  for (const auto& [id, d] : t.core.deployments()) {
    auto words = fmt::format("deployment {} is at step {} of {}, {} before it", id, d->current, d->steps.size(), d->behind.size());
    for (const auto& [app, target] : d->target)
      for (const auto& line : t.core.explain(app, farm_.world.now())) words += " | " + line;
    return words;
  }
  std::map<AppId, std::size_t> alive;
  std::size_t all = 0;
  for (const auto& h : farm_.hosts) {
    if (!h->core || !h->stream) return h->label() + " is not connected";
    for (const auto& [id, p] : h->procs) {
      const auto* task = t.cluster.task(id);
      if (!task) return fmt::format("{} runs on {} and nobody knows it", id, h->label());
      if (task->quarantined && unawaited_.contains(id) && !t.core.app(p.spec.app)) {  // until an operator says what is to become of it
        ++all;
        continue;
      }
      if (task->quarantined) return fmt::format("{} is quarantined", id);
      if (task->goal != link::Goal::run) return fmt::format("{} is told to go and still runs", id);
      if (const auto* agent = t.cluster.agent(task->agent); agent && agent->draining) return fmt::format("{} runs on {}, which is to be empty", id, h->label());
      auto entry = ledger_.find("apps" + p.spec.app.str());
      if (entry != ledger_.end() && p.spec.app_version < entry->second.born) return fmt::format("{} runs, a task of the {} that was removed before this one was made", id, p.spec.app);
      for (const auto& [name, version] : p.secrets) {
        auto record = farm_.store.image().data.find(orchestrator::secret_key(name));
        auto now = record == farm_.store.image().data.end() ? 0 : orchestrator::describe_secret(record->second)->value.version;
        if (version != now) return fmt::format("{} has version {} of {} in its file, it is at {}", id, version, name, now);
      }
      ++alive[p.spec.app], ++all;
    }
    if (const auto* agent = t.cluster.agent(h->page.membership.id); agent && agent->draining) farm_.probe(Probe::node_emptied);
    for (const auto& [id, record] : h->page.runs)
      if (!h->procs.contains(id)) return fmt::format("{} keeps a record of {}, which does not run", h->label(), id);
  }
  if (t.cluster.task_count() != all) return fmt::format("the leader counts {} tasks, {} run", t.cluster.task_count(), all);
  for (const auto& [id, app] : t.core.apps()) {
    if (alive[id] != app.instances) {
      auto words = fmt::format("{} has {} tasks, {} are wanted", id, alive[id], app.instances);
      for (const auto& line : t.core.explain(id, farm_.world.now())) words += " | " + line;
      return words;
    }
    for (const auto& b : farm_.balancers) {
      auto at = b->rotation.find(id);
      auto seen = at == b->rotation.end() ? 0 : at->second.size();
      if (seen != app.instances) return fmt::format("{} routes to {} instances of {}, {} are wanted", b->label(), seen, id, app.instances);
    }
    alive.erase(id);
  }
  for (const auto& [id, n] : alive)
    if (n > 0) return fmt::format("{} tasks of the removed {} still run", n, id);
  for (const auto& b : farm_.balancers)
    for (const auto& [app, tasks] : b->rotation)
      if (!t.core.app(app)) return fmt::format("{} still routes {}", b->label(), app);
  for (const auto& [id, when] : kills_)
    for (const auto& h : farm_.hosts)
      if (h->procs.contains(id)) return fmt::format("{} was to be killed, and that was acknowledged", id);
  for (const auto& [key, value] : farm_.store.image().data)
    if (!key.starts_with("apps/") && !key.starts_with("versions/") && !key.starts_with("rules/") && !key.starts_with("agents/") && !key.starts_with("nodes/") && !key.starts_with(orchestrator::secrets_prefix)) return fmt::format("{} stays in the store", key);
  return {};
}

}  // namespace croft::sim
