// The ledger (C1), who may speak and whom agents obey (C2, C3), and what a leader decides in a turn (C4 to C6, C9, C11).

#include "sim/judge.hpp"

#include <cmath>

#include "orchestrator/app_json.hpp"
#include "orchestrator/secrets.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr Millis settled{13'000};          // an agent well for so long has registered, whatever happened before

bool is_intent(const std::string& key) { return key.starts_with("apps/") || key.starts_with("rules/") || key.starts_with("nodes/") || key.starts_with(orchestrator::secrets_prefix); }

bool serves_but_for_its_goal(const cluster::Task& t) {
  if (t.status.state != TaskState::running || !t.status.ready) return false;
  return t.spec.health_checks.empty() ? t.status.healthy.value_or(true) : t.status.healthy.value_or(false);
}

bool serving(const cluster::Task& t) { return t.goal == link::Goal::run && serves_but_for_its_goal(t); }

/// Stands for an instance, as far as the leader can know.
bool stands(const cluster::Task& t) {
  return !t.quarantined && !is_terminal(t.status.state) && t.status.state != TaskState::unreachable;
}

/// The deployment at work on an app that replaces its tasks, if there is one.
bool replaces(const orchestrator::Orchestrator& core, const AppId& app) {
  for (const auto& [id, d] : core.deployments())
    for (const auto& step : d->steps)
      for (const auto& action : step)
        if (action.app == app && action.kind == orchestrator::ActionKind::restart) return true;
  return false;
}

bool drained(const Term& t, const cluster::Task& task) {
  const auto* agent = t.cluster.agent(task.agent);
  return agent && agent->draining;
}

std::uint32_t least_of(const orchestrator::App& app) {
  return static_cast<std::uint32_t>(std::ceil(app.instances * app.upgrade.minimum_health_capacity - 1e-9));
}

}  // namespace

/// Whether this is the one leader of the farm's own store.
bool Judge::in_force(const Master& m) const {
  return m.term && !farm_.faults.bad_store && m.term->term.epoch == farm_.store.image().epoch && m.may_act();
}

// --- C1 ---

void Judge::write(const Op& op) {
  const auto& batch = op.batch;
  for (const auto& key : batch.remove) {
    if (key.starts_with("agents/")) called_down(AgentId(key.substr(7)));
    if (!is_intent(key)) continue;
    if (key.starts_with("nodes/")) farm_.probe(Probe::node_taken_back);
    ledger_[key] = {};
    if (!key.starts_with("apps/")) continue;
    for (const auto& h : farm_.hosts)  // whether a leader knows them by now or not
      for (const auto& [id, record] : h->page.runs)
        if (record.spec.app == AppId(key.substr(4))) {
          decided_.insert(id);
          // Whoever knew it has stored that it is to go, and that holds wherever it is meanwhile.
          auto* m = farm_.leader();
          if (m && m->term && m->term->cluster.task(id)) known_when_removed_.insert(id);
          else if (called_down_.contains(id)) unawaited_.insert(id);
        }
  }
  for (const auto& [key, text] : batch.put) {
    if (!is_intent(key)) continue;
    auto& e = ledger_[key];
    bool anew = !e.text;
    e.text = text;
    if (!key.starts_with("apps/")) continue;
    auto app = orchestrator::decode_app(text);
    if (!app) return farm_.fail("C12", "a stored app cannot be read back: " + app.error().context);
    e.version = app->version;
    if (anew && !op.rolls_back) e.born = app->version;
  }
}

/// By its operator, whatever runs there: others get the places of its tasks.
void Judge::called_down(const AgentId& agent) {
  farm_.probe(Probe::node_called_down);
  gave_up(agent);
  for (const auto& h : farm_.hosts)
    if (h->page.membership.id == agent)
      for (const auto& [id, record] : h->page.runs) {
        called_down_.insert(id);
        auto app = ledger_.find("apps" + record.spec.app.str());
        auto* m = farm_.leader();
        bool heard = m && m->term && heard_in_[agent] == m->term->term.epoch;
        if (app != ledger_.end() && !app->second.text && !heard && !known_when_removed_.contains(id)) unawaited_.insert(id);  // removed before, by leaders that had not heard of it
      }
}

void Judge::proposed(const OpPtr& op) {
  decided_.insert(op->kill.begin(), op->kill.end());
  for (const auto& h : farm_.hosts)
    for (const auto& id : op->kill)
      if (auto p = h->procs.find(id); p != h->procs.end()) disturbed_.insert(p->second.spec.app);
  if (op->kill.empty()) unsure_.push_back(op);
  for (const auto& key : op->batch.remove)
    if (key.starts_with("apps/")) removed_.insert(AppId(key.substr(4)));
}

void Judge::acknowledged(const OpPtr& op) {
  std::erase(unsure_, op);
  for (const auto& id : op->kill) kills_.try_emplace(id, farm_.world.elapsed());
  if (settled_.erase(op) == 0) write(*op);
}

void Judge::refused(const OpPtr& op) { std::erase(unsure_, op); }

/// What a new leader found must be what was acknowledged, or what was asked for and never answered.
void Judge::took_over(const Master& m) {
  if (!in_force(m)) return;
  const auto& data = farm_.store.image().data;
  for (const auto& op : unsure_) {
    bool found = !op->batch.put.empty() || !op->batch.remove.empty();
    for (const auto& [key, text] : op->batch.put) {
      auto at = data.find(key);
      found = found && (!is_intent(key) || (at != data.end() && at->second == text));
    }
    for (const auto& key : op->batch.remove) found = found && (!is_intent(key) || !data.contains(key));
    if (found) write(*op), settled_.insert(op);
  }
  unsure_.clear();
  for (const auto& [key, entry] : ledger_) {
    auto at = data.find(key);
    bool same = at == data.end() ? !entry.text : entry.text == at->second;
    if (!same) return farm_.fail("C1", fmt::format("{}: what was acknowledged is not in the store of epoch {}", key, m.term->term.epoch));
  }
  for (const auto& [key, text] : data)
    if (is_intent(key) && !ledger_.contains(key)) return farm_.fail("C1", fmt::format("{} is in the store and nobody was told so", key));
}

void Judge::check_ledger(const Master& m) {
  for (const auto& [key, entry] : ledger_) {
    if (key.starts_with("rules/")) {
      if (m.term->core.rules().contains(AppId(key.substr(5))) != entry.text.has_value()) return farm_.fail("C1", fmt::format("{}: the leader does not hold what was acknowledged", key));
      continue;
    }
    if (key.starts_with("nodes/")) {
      const auto* agent = m.term->cluster.agent(AgentId(key.substr(6)));
      if (agent && agent->draining != entry.text.has_value()) return farm_.fail("C1", fmt::format("{}: the leader does not hold what was acknowledged", key));
      continue;
    }
    if (key.starts_with(orchestrator::secrets_prefix)) {
      auto at = m.term->secrets.find(key);
      if (at == m.term->secrets.end() || at->second != entry.text) return farm_.fail("C1", fmt::format("{}: the leader does not hold what was acknowledged", key));
      continue;
    }
    const auto* app = m.term->core.app(AppId(key.substr(4)));
    if ((app != nullptr) != entry.text.has_value() || (app && app->version != entry.version))
      return farm_.fail("C1", fmt::format("{}: the leader holds version {}, acknowledged was {}", key, app ? app->version : "none", entry.text ? entry.version : "its removal"));
  }
}

// --- C2, C3 ---

void Judge::sends(const Master& m) {
  if (m.forced || farm_.faults.bad_store) return;
  if (m.term->term.epoch < farm_.store.image().epoch)
    farm_.fail("C2", fmt::format("{} was deposed and still gives commands: its epoch is {}, in force is {}", farm_.net.name(m.node), m.term->term.epoch, farm_.store.image().epoch));
}

void Judge::obeys(Host& h, std::uint64_t epoch, std::uint64_t commit, const std::string& cluster) {
  if (farm_.faults.bad_store && !h.cluster_obeyed.empty()) return farm_.fail("C3", fmt::format("{} obeys a leader whose store is not the farm's", h.label()));
  if (epoch < h.epoch_obeyed) return farm_.fail("C3", fmt::format("{} obeys epoch {} after {}", h.label(), epoch, h.epoch_obeyed));
  if (commit < h.commit_obeyed) return farm_.fail("C3", fmt::format("{} obeys a leader at commit {}, it had heard of {}", h.label(), commit, h.commit_obeyed));
  if (!h.cluster_obeyed.empty() && cluster != h.cluster_obeyed) return farm_.fail("C3", fmt::format("{} obeys a leader of cluster {}", h.label(), cluster));
  h.epoch_obeyed = epoch;
  h.commit_obeyed = commit;
  h.cluster_obeyed = cluster;
}

void Judge::acts_on(const Host& h, std::uint64_t epoch, const std::string& what) {
  if (epoch < h.epoch_obeyed) farm_.fail("C3", fmt::format("{} acts on {} by the word of epoch {} after {}", h.label(), what, epoch, h.epoch_obeyed));
}

void Judge::task_died(const TaskId& id, const AppId& app, bool told) {
  died_[id] = farm_.world.elapsed();
  if (!told) disturbed_.insert(app);
}

// --- a leader's turn ---

void Judge::after_turn(Master& m) {
  auto& t = *m.term;
  check_books(m);
  std::map<AppId, Turn> turns;
  std::set<AppId> deploying;
  for (const auto& [id, d] : t.core.deployments())
    for (const auto& [app, target] : d->target) deploying.insert(app);
  auto tasks = t.cluster.tasks();
  for (auto at = t.shadow.begin(); at != t.shadow.end();) {
    if (t.cluster.task(at->first)) ++at;
    else drains_.erase(at->first), at = t.shadow.erase(at);
  }
  for (const auto* task : tasks) {
    auto [at, fresh] = t.shadow.try_emplace(task->spec.id);
    auto& s = at->second;
    if (fresh) s.app = task->spec.app;
    bool over = is_terminal(task->status.state);
    if (fresh && !t.adopted.contains(task->spec.id)) {
      ++turns[s.app].launched;
      if (drained(t, *task)) return farm_.fail("C4", fmt::format("{} is launched on {}, which is to be empty", task->spec.id, task->agent));
    }
    if (fresh && t.adopted.contains(task->spec.id)) t.returned[s.app] += given_up_.contains(task->spec.id);
    // An adopted one comes with its agent's goal; what it is told beyond that was decided here.
    auto before = s.goal;
    if (fresh && t.adopted.contains(task->spec.id))
      for (const auto& h : farm_.hosts)
        if (auto record = h->page.runs.find(task->spec.id); record != h->page.runs.end()) before = record->second.goal;
    if (before == link::Goal::run && task->goal != link::Goal::run && !over) {
      auto& turn = turns[s.app];
      turn.stopped.push_back(task);
      turn.served = turn.served || serves_but_for_its_goal(*task);
      turn.moved = turn.moved || (drained(t, *task) && serves_but_for_its_goal(*task));
    }
    if (task->goal == link::Goal::drain && (fresh || s.goal == link::Goal::run)) drains_[task->spec.id] = farm_.world.elapsed();
    s.goal = task->goal;
  }
  for (const auto& [app, turn] : turns) {
    if (turn.launched > 0) check_launches(m, app, turn.launched);
    if (!turn.stopped.empty()) {
      auto before = t.deploying;
      t.deploying.insert(deploying.begin(), deploying.end());
      check_stops(m, app, turn);
      t.deploying = std::move(before);
    }
  }
  t.deploying = std::move(deploying);
  check_draining(m);
  check_words(m);
}

/// C6: every figure that is kept equals the sum of what it stands for, on the leader and on the hosts.
void Judge::check_books(Master& m) {
  auto& t = *m.term;
  if (auto wrong = t.core.audit(farm_.world.now()); !wrong.empty()) return farm_.fail("C6", wrong);
  Resources sum;
  for (const auto* task : t.cluster.tasks())
    if (!is_terminal(task->status.state)) sum += task->spec.resources;
  if (sum != t.cluster.used()) return farm_.fail("C6", fmt::format("{} cpus are charged, the tasks hold {}", t.cluster.used().cpus, sum.cpus));
}

void Judge::check_hosts() {
  for (const auto& h : farm_.hosts) {
    Resources used;
    std::set<std::uint16_t> ports;
    for (const auto& [id, p] : h->procs) {
      used += p.spec.resources;
      for (const auto& port : p.spec.ports)
        if (port.host_port && !ports.insert(port.host_port).second) return farm_.fail("C6", fmt::format("port {} of {} is used twice", port.host_port, h->label()));
    }
    if (!Resources{4000, 4'000'000, 0, 0}.holds(used)) return farm_.fail("C6", fmt::format("{} runs more than it has", h->label()));
  }
}

/// Tasks of an app that run, on hosts that have been well for long, and that this leader does not know. Those that a leader gave up are replaced
/// already, and surplus when they are back; those that are to go for a reason (C5) go then.
std::size_t Judge::orphans(const Master& m, const AppId& app) const {
  std::size_t n = 0;
  for (const auto& h : farm_.hosts) {
    if (!h->core || !farm_.faults.well(h->node, settled)) continue;
    if (farm_.store.image().data.contains("nodes/" + h->page.membership.id.str())) continue;  // to be empty: others have their places
    for (const auto* held : h->core->tasks())
      n += held->spec.app == app && held->goal == link::Goal::run && !is_terminal(held->status.state) && !m.term->cluster.task(held->spec.id) &&
           !given_up_.contains(held->spec.id) && !decided_.contains(held->spec.id);
  }
  return n;
}

/// C4: what is launched keeps within the plan, counting what the leader knows, and what it must know is there.
void Judge::check_launches(Master& m, const AppId& id, std::size_t launched) {
  const auto* app = m.term->core.app(id);
  if (!app) return farm_.fail("C4", fmt::format("{} does not exist and is launched", id));
  bool rolling = replaces(m.term->core, id);
  std::size_t run = 0, leaving = 0;
  for (const auto* task : m.term->cluster.tasks_of(id)) {
    if (!stands(*task) || (task->goal == link::Goal::run && drained(*m.term, *task))) continue;  // another has its place
    ++(task->goal == link::Goal::run ? run : leaving);
  }
  std::size_t most = app->instances;
  if (rolling) {
    most = std::max<std::size_t>(most, static_cast<std::size_t>(std::floor(app->instances * (1 + app->upgrade.maximum_over_capacity) + 1e-9)));
    if (least_of(*app) == most) ++most;
  }
  // Each that is back from being given up may have one more in its place, of which a later leader cannot know.
  auto unknown = in_force(m) && !m.forced && farm_.faults.led(Millis(0)) ? orphans(m, id) : 0;
  unknown -= std::min(unknown, m.term->returned[id]);
  if (run + unknown > most)
    farm_.fail("C4", fmt::format("{} launches {} of {}: {} stand now, {} run unknown to it, {} leave; at most {} are allowed", farm_.net.name(m.node), launched, id, run, unknown, leaving, most));
}

/// C5: nobody is told to go without a reason. C11: a rolling deployment keeps what it promised.
void Judge::check_stops(Master& m, const AppId& id, const Turn& turn) {
  auto& t = *m.term;
  const auto* app = t.core.app(id);
  std::size_t run = 0, serves = 0, unasked = 0;
  for (const auto* task : t.cluster.tasks_of(id)) {
    run += stands(*task) && task->goal == link::Goal::run;
    serves += !task->quarantined && serving(*task);
  }
  const cluster::Task* example = nullptr;
  for (const auto* task : turn.stopped)
    if (!decided_.contains(task->spec.id)) ++unasked, example = task;
  if (unasked == 0) return;
  bool all_moved = std::ranges::all_of(turn.stopped, [&](const auto* task) { return decided_.contains(task->spec.id) || drained(t, *task); });
  for (const auto* task : turn.stopped) decided_.insert(task->spec.id);  // a later leader may carry it out
  if (!app) {
    if (!t.deploying.contains(id)) farm_.probe(Probe::removed_reaped);
    if (!removed_.contains(id)) farm_.fail("C5", fmt::format("{} is told to go, its app is not known and was never removed", example->spec.id));
    return;
  }
  if (all_moved) {
    farm_.probe(Probe::moved_from_drained);
    auto least = !replaces(t.core, id) && app->upgrade.maximum_over_capacity > 0 ? app->instances : least_of(*app);
    if (turn.moved && unasked == turn.stopped.size() && serves < least)
      farm_.fail("C11", fmt::format("{} of {} serve after {} had to leave its node, at least {} must", serves, id, example->spec.id, least));
    return;
  }
  bool surplus = run >= app->instances, deployed = t.deploying.contains(id);
  if (!deployed && surplus) farm_.probe(Probe::surplus_after_return);
  if (!deployed && !surplus)
    return farm_.fail("C5", fmt::format("{} is told to go without a reason: {} of {} are left", example->spec.id, run, app->instances));
  if (replaces(t.core, id) && turn.served && unasked == turn.stopped.size() && serves < least_of(*app))
    farm_.fail("C11", fmt::format("{} of {} serve after {} was stopped, at least {} must", serves, id, example->spec.id, least_of(*app)));
}

void Judge::gave_up(const AgentId& agent) {
  for (const auto& h : farm_.hosts)
    if (h->page.membership.id == agent)
      for (const auto& [id, record] : h->page.runs) {
        given_up_.insert(id), away_.insert(id);
        for (auto& b : farm_.balancers) b->seen.erase(id);
      }
}

void Judge::came_back(const Host& h, const Master& m) {
  heard_in_[h.page.membership.id] = m.term->term.epoch;
  if (!in_force(m)) return;  // one that leads no more and does not know
  for (const auto& [id, record] : h.page.runs) away_.erase(id), called_down_.erase(id);
}

/// C5 as well: a task that runs is not given up because of what its agent said long ago.
void Judge::counted_as_lost(const Master& m, const TaskId& id) {
  if (!in_force(m)) return;
  for (const auto& h : farm_.hosts) {
    const auto* held = h->core ? h->core->task(id) : nullptr;
    if (held && !is_terminal(held->status.state) && h->procs.contains(id)) return farm_.fail("C5", fmt::format("{} is counted as lost while it runs on {}", id, h->label()));
  }
}

/// C9: what an agent drains or kills is never in rotation again, whoever leads.
void Judge::check_draining(Master& m) {
  if (!in_force(m) || m.forced) return;
  auto& t = *m.term;
  for (const auto& h : farm_.hosts) {
    if (!h->core || !h->stream || h->page.membership.id.empty()) continue;
    const auto* agent = t.cluster.agent(h->page.membership.id);
    if (!agent || !agent->connected) continue;
    auto stream = t.streams.find(agent->subscription);
    if (stream == t.streams.end() || stream->second.pipe != h->stream) continue;
    for (const auto& [id, record] : h->page.runs) {
      if (record.goal == link::Goal::run) continue;
      auto e = t.catalog.content().endpoints.find(id);
      if (e != t.catalog.content().endpoints.end() && e->second.serves(!record.spec.health_checks.empty()))
        return farm_.fail("C9", fmt::format("{} was told to go and is in rotation again", id));
    }
  }
}

/// C10 as well: a leader believes nothing carried out that a data plane does not have.
void Judge::check_words(const Master& m) {
  if (!in_force(m) || m.forced) return;
  const auto& catalog = m.term->catalog;
  auto live = catalog.live();
  for (const auto& b : farm_.balancers) {
    BalancerId id(b->label());
    if (std::find(live.begin(), live.end(), id) == live.end() || !catalog.confirmed({id}, catalog.index()) || b->carried >= catalog.index() || catalog.index().n == 0) continue;
    return farm_.fail("C10", fmt::format("{} counts as being at {}.{}, its data plane has {}.{}", id, catalog.index().epoch, catalog.index().n, b->carried.epoch, b->carried.n));
  }
}

/// C12: one order of events: nothing after an end, nothing before a beginning.
void Judge::on_bus(Master& m, const std::vector<orchestrator::BusEvent>& events) {
  using Kind = orchestrator::BusEvent::Kind;
  auto& t = *m.term;
  for (const auto& e : events) {
    if (e.kind == Kind::drain_ended) {
      farm_.note("drain of {} ends: {}", e.task->spec.id, e.text);
      farm_.probe(e.text.starts_with("all") ? Probe::drain_confirmed : e.text.starts_with("no") ? Probe::drain_without_balancer : e.text.starts_with("the drain") ? Probe::drain_time_over : Probe::drain_lease_ended);
    } else if (e.deployment && e.kind == Kind::deployment_info) {
      // Told at its beginning and again before each further step, as Marathon does: each step once, in order.
      auto [at, fresh] = t.deployments_open.try_emplace(e.deployment->id, e.deployment->current);
      if (fresh ? e.deployment->current != 0 : e.deployment->current != at->second + 1)
        farm_.fail("C12", fmt::format("step {} of deployment {} begins after step {}", e.deployment->current, e.deployment->id, fresh ? std::string("none") : std::to_string(at->second)));
      at->second = e.deployment->current;
      if (!e.deployment->behind.empty()) farm_.probe(Probe::deployment_waits_behind);
    } else if (e.deployment && (e.kind == Kind::deployment_success || e.kind == Kind::deployment_failed)) {
      if (!e.deployment->steps.empty() && t.deployments_open.erase(e.deployment->id) == 0) farm_.fail("C12", fmt::format("deployment {} ends and had not begun, or had ended", e.deployment->id));
    } else if (e.deployment && e.kind == Kind::deployment_step_success) {
      if (!t.deployments_open.contains(e.deployment->id)) farm_.fail("C12", fmt::format("a step of deployment {}, which is over", e.deployment->id));
    } else if (e.kind == Kind::status_update && e.task) {
      farm_.note("{} tells {} of {}{}{}", farm_.net.name(m.node), wire_name(e.task->status.state), e.task->spec.id, e.task->status.reason.empty() ? "" : ", ", e.task->status.reason);
      auto [at, fresh] = t.told.try_emplace(e.task->spec.id, e.task->status.state);
      if (!fresh && is_terminal(at->second) && !is_terminal(e.task->status.state) && !t.adopted.contains(e.task->spec.id))
        farm_.fail("C12", fmt::format("{} is told {} after its end", e.task->spec.id, wire_name(e.task->status.state)));
      at->second = e.task->status.state;
    }
  }
}

}  // namespace croft::sim
