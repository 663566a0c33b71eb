// Deployments carried forward, and apps held at what they should be. After every surprise the next step is planned anew from what is there.

#include <algorithm>
#include <cmath>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/constraints.hpp"
#include "orchestrator/core_impl.hpp"

namespace croft::orchestrator {

using cluster::Task;

std::shared_ptr<const Deployment> Orchestrator::Impl::deployment_of(const AppId& app) const {
  for (const auto& id : order) {
    const auto& d = deployments.at(id);
    if (d->target.contains(app)) return d;
  }
  return nullptr;
}

bool Orchestrator::Impl::serving(const Task& task) const {
  if (task.status.state != TaskState::running || !task.status.ready || task.goal != link::Goal::run) return false;
  return task.spec.health_checks.empty() ? task.status.healthy.value_or(true) : task.status.healthy.value_or(false);
}

/// More agents lost within a minute than a farm loses by accident: then nothing is replaced until an operator or the agents say so.
bool Orchestrator::Impl::brake(Now now) const {
  auto all = cluster.agent_count();
  std::size_t lost = 0;
  for (const auto& [at, agent] : lost_agents) {
    const auto* a = cluster.agent(agent);
    if (now.mono - at < std::chrono::minutes(1) && a && !a->reachable) ++lost;
  }
  return static_cast<double>(lost) > std::max(1.0, 0.34 * static_cast<double>(all)) && all > 1;
}

/// Whether a task stands for an instance of its app. An unreachable one does until its strategy says otherwise.
bool Orchestrator::Impl::counts(const Task& task, const App& app, Now now) const {
  if (is_terminal(task.status.state)) return false;
  if (task.status.state != TaskState::unreachable) return true;
  if (given_up.contains(task.spec.id)) return false;
  if (app.unreachable.disabled || brake(now)) return true;
  auto since = unreachable_since.find(task.spec.id);
  return since != unreachable_since.end() && now.mono - since->second < app.unreachable.inactive_after;
}

/// What does not count from here on leaves the catalog, and never counts again while it is away: its place may be another's by then.
void Orchestrator::Impl::give_up_the_lost(const AppId& id, Now now) {
  auto app = apps.find(id);
  if (app == apps.end() || unreachable_since.size() == given_up.size()) return;  // as nearly always: nobody is away, or all that are were given up
  for (const auto* task : cluster.tasks_of(id)) {
    if (task->status.state != TaskState::unreachable) continue;
    auto since = unreachable_since.find(task->spec.id);
    if (counts(*task, app->second, now)) {
      // Looked at again in its time, whatever else the app was looked at for meanwhile. Held by the brake, it is when that ends.
      bool due = app->second.unreachable.disabled || since == unreachable_since.end() || now.mono - since->second >= app->second.unreachable.inactive_after;
      if (!due) look_again(id, since->second + app->second.unreachable.inactive_after + Millis(1));
    } else if (given_up.insert(task->spec.id).second) {
      publish_task(*task, now);
    }
  }
}

/// Losses are forgotten after a minute; what the brake held is looked at again then.
void Orchestrator::Impl::end_brake(Now now) {
  constexpr Millis length = std::chrono::minutes(1);
  auto before = lost_agents.size();
  std::erase_if(lost_agents, [&](const auto& lost) { return now.mono - lost.first >= length; });
  for (const auto& [at, agent] : lost_agents) wake_by(at + length);
  if (lost_agents.size() == before) return;
  for (const auto& [id, since] : unreachable_since)
    if (const auto* task = cluster.task(id)) touch(task->spec.app);
}

Tally Orchestrator::Impl::tally(const AppId& id) const {
  Tally t;
  auto app = apps.find(id);
  for (const auto* task : cluster.tasks_of(id)) {
    if (task->quarantined || is_terminal(task->status.state)) continue;
    bool moves = draining.contains(task->agent);
    if (task->goal != link::Goal::run) {
      t.moves = t.moves || (moves && task->status.state != TaskState::unreachable);  // its place is not another's before it has gone
      t.leaving.push_back(task);
    } else if (moves || app == apps.end() || task->spec.app_version < app->second.last_config_change) {
      t.moves = t.moves || moves;
      t.old.push_back(task);
      t.serving_old += serving(*task);
    } else {
      t.current.push_back(task);
      t.serving_current += serving(*task);
    }
  }
  return t;
}

std::vector<const Task*> Orchestrator::Impl::victim_order(const App& app, std::vector<const Task*> tasks, const std::vector<TaskId>& first) const {
  auto stage = [](const Task* t) {
    switch (t->status.state) {
      case TaskState::unreachable: return 0;
      case TaskState::staging: return 1;
      case TaskState::starting: return 2;
      default: return 3;
    }
  };
  auto named = [&](const Task* t) { return std::find(first.begin(), first.end(), t->spec.id) == first.end(); };
  auto wanted_still = [&](const Task* t) { return !outlived.contains(t->spec.id); };
  // Of an earlier configuration: came back with its agent after the deployment that replaced it.
  auto current = [&](const Task* t) { return t->spec.app_version >= app.last_config_change; };
  std::stable_sort(tasks.begin(), tasks.end(), [&](const Task* a, const Task* b) {
    auto age = [&](const Task* t) { return app.kill_oldest_first ? t->staged_at.time_since_epoch().count() : -t->staged_at.time_since_epoch().count(); };
    return std::tuple(named(a), current(a), stage(a), serving(*a), wanted_still(a), age(a)) < std::tuple(named(b), current(b), stage(b), serving(*b), wanted_still(b), age(b));
  });
  return tasks;
}

/// Brings the number of running tasks to app.instances. True when it is so and nobody is leaving.
bool Orchestrator::Impl::scale(const App& app, std::vector<const Task*> running, const std::vector<TaskId>& victims, Now now) {
  std::erase_if(running, [&](const Task* t) { return !counts(*t, app, now); });
  auto charged = held_back(app.id, now);
  if (running.size() > app.instances) {
    waiting.erase(app.id);
    // One that is away stands for an instance as long as it may, but it is no reason to end one that is there, nor is it ended itself unless a user asked for fewer.
    if (!deployment_of(app.id)) std::erase_if(running, [](const Task* t) { return t->status.state == TaskState::unreachable; });
    auto surplus = running.size() > app.instances ? running.size() - app.instances : 0;
    for (const auto* task : evened_out(app, cluster, victim_order(app, running, victims), victims)) {
      if (surplus-- == 0) break;
      stop_task(*task, now, false);
    }
    return false;
  }
  auto missing = app.instances - static_cast<std::uint32_t>(running.size());
  if (missing > charged) launch(app, missing - charged, now);
  else waiting.erase(app.id);
  if (missing > 0) return false;
  for (const auto* task : running) outlived.erase(task->spec.id);
  return std::all_of(running.begin(), running.end(), [&](const Task* t) { return serving(*t); });
}

/// Whether agents from before this leader's time have not said yet what they hold.
bool Orchestrator::Impl::some_absent(Now now) const { return holding && !awaited.empty() && now.mono < held_until; }

/// How many may be there at once while they are replaced.
std::uint32_t Orchestrator::Impl::capacity_of(const App& app) { return static_cast<std::uint32_t>(std::floor(app.instances * (1.0 + app.upgrade.maximum_over_capacity) + 1e-9)); }

/// New ones that came back with an agent whose time was over, after others had taken their place: as many as are too many go.
void Orchestrator::Impl::trim(const App& app, Tally& t, Now now) {
  auto here = t.current;
  std::erase_if(here, [](const Task* task) { return task->status.state == TaskState::unreachable; });
  auto surplus = here.size() > app.instances ? here.size() - app.instances : 0;
  for (const auto* task : victim_order(app, std::move(here), {})) {
    if (surplus-- == 0) break;
    t.serving_current -= serving(*task);
    stop_task(*task, now, false);
    std::erase(t.current, task);
    t.leaving.push_back(task);
  }
}

/// Where tasks only move to other nodes, those of an earlier configuration stay as they are: what brought the present one was dropped half done.
void Orchestrator::Impl::leave_in_place(Tally& t) const {
  for (const auto* task : std::exchange(t.old, {})) {
    bool moves = draining.contains(task->agent);
    (moves ? t.old : t.current).push_back(task);
    if (moves || !serving(*task)) continue;
    --t.serving_old;
    ++t.serving_current;
  }
}

/// One round of a rolling restart: kills as many old tasks as may go, starts as many new ones as fit. Marathon's arithmetic; without a
/// `restart` tasks only move to other nodes, and where more than all may be there at once none goes before another serves.
bool Orchestrator::Impl::roll(const App& app, Tally& t, bool restart, Now now) {
  auto n = app.instances;
  if (!restart) leave_in_place(t);
  std::erase_if(t.current, [&](const Task* task) { return !counts(*task, app, now); });
  trim(app, t, now);
  auto capacity = capacity_of(app);
  auto min_healthy = !restart && capacity > n ? n : static_cast<std::uint32_t>(std::ceil(n * app.upgrade.minimum_health_capacity - 1e-9));
  auto healthy = t.serving_current + t.serving_old;
  if (min_healthy == capacity && capacity <= healthy) ++capacity;  // no room to move: one more is allowed
  // Old tasks that do not serve keep nobody alive and go first; of the serving ones as many as are above the minimum.
  auto may_go = healthy > min_healthy ? healthy - min_healthy : 0;
  for (const auto* task : victim_order(app, t.old, {})) {
    bool serves = serving(*task);
    if (serves && may_go == 0) break;
    if (serves) --may_go;
    stop_task(*task, now, false);
    t.leaving.push_back(task);
  }
  std::erase_if(t.old, [](const Task* task) { return task->goal != link::Goal::run; });
  // Instances on agents that have not come back to this leader stand too. Of a configuration from before its time nobody knows how many there are: none is started.
  bool absent = some_absent(now), uncertain = absent && app.last_config_change <= loaded_version;
  auto live = held_back(app.id, now) + t.current.size() + t.old.size() + static_cast<std::size_t>(std::count_if(t.leaving.begin(), t.leaving.end(), [](const Task* task) {
    return !is_terminal(task->status.state) && task->status.state != TaskState::unreachable;
  }));
  auto room = capacity > live && !uncertain ? capacity - static_cast<std::uint32_t>(live) : 0;
  auto missing = n > t.current.size() ? n - static_cast<std::uint32_t>(t.current.size()) : 0;
  if (auto count = std::min(room, missing); count > 0) launch(app, count, now);
  else if (missing == 0) waiting.erase(app.id);
  return t.old.empty() && missing == 0 && t.serving_current == n && !absent;
}

/// True when the app is as it should be.
bool Orchestrator::Impl::reconcile(const App& app, bool rolling, const std::vector<TaskId>& victims, Now now) {
  give_up_the_lost(app.id, now);
  auto t = tally(app.id);
  bool there;
  if ((rolling && (!t.old.empty() || t.current.size() < app.instances || some_absent(now))) || t.moves) {
    there = roll(app, t, rolling, now);
  } else {
    auto running = t.current;
    running.insert(running.end(), t.old.begin(), t.old.end());
    there = scale(app, std::move(running), victims, now);
  }
  // What was told to go and is on an agent that does not answer ends when that comes back: the kill is stored, and nobody waits for it.
  bool gone = true;
  for (const auto* task : tally(app.id).leaving) {
    if (task->status.state == TaskState::unreachable) stop_task(*task, now, false);
    else gone = false;
  }
  return there && gone;
}

bool Orchestrator::Impl::carry_out(const Deployment& d, const Action& action, Now now) {
  if (action.kind == ActionKind::start) return true;
  if (action.kind == ActionKind::stop) {
    auto t = tally(action.app);
    bool unreachable_only = true;
    // Also those that were leaving already, when their agent fell silent: with the app gone from the store nothing else would remember them.
    for (auto* list : {&t.current, &t.old, &t.leaving})
      for (const auto* task : *list) stop_task(*task, now, false);
    t = tally(action.app);
    for (const auto* task : t.leaving) unreachable_only = unreachable_only && task->status.state == TaskState::unreachable;
    // Tasks behind a dead agent are killed when it comes back (their kill is stored); the deployment does not wait for that.
    return unreachable_only;
  }
  auto app = apps.find(action.app);
  if (app == apps.end()) return true;
  auto victims = d.victims.find(action.app);
  static const std::vector<TaskId> none;
  return reconcile(app->second, action.kind == ActionKind::restart, victims == d.victims.end() ? none : victims->second, now);
}

void Orchestrator::Impl::advance(const DeploymentId& id, Now now) {
  for (;;) {
    auto at = deployments.find(id);
    if (at == deployments.end()) return;
    auto d = at->second;
    for (const auto& before : d->behind)
      if (deployments.contains(before)) return;
    if (d->current >= d->steps.size()) return finish(id, now);
    bool done = true;
    for (const auto& action : d->steps[d->current]) done = carry_out(*d, action, now) && done;
    if (!done) return;
    auto next = std::make_shared<Deployment>(*d);
    ++next->current;
    deployments[id] = next;
    for (const auto& action : d->steps[d->current])
      if (action.kind == ActionKind::stop) terminated(*d, action.app, now);
    emit(BusEvent::Kind::deployment_step_success, std::shared_ptr<const Deployment>(d), now);
    if (next->current < next->steps.size()) emit(BusEvent::Kind::deployment_info, std::shared_ptr<const Deployment>(next), now);
    for (const auto& [app, target] : next->target) changed.insert(app);
  }
}

/// Agents that have not come back from an earlier leader's time may bring tasks of it.
void Orchestrator::Impl::remember_removed(const AppId& app, const std::string& until) {
  if (awaited.empty()) return;
  auto& removal = removed[app];
  removal.until = std::max(removal.until, until);
  removal.missing.insert(awaited.begin(), awaited.end());
  background.put[key("removed", app)] = json::print(json::object{{"until", removal.until}});
}

/// The last task of a removed app is gone. An app of the same name may have been made meanwhile: what is kept by name is then its.
void Orchestrator::Impl::terminated(const Deployment& d, const AppId& app, Now now) {
  if (!apps.contains(app)) {
    stopping.erase(app);
    failures.erase(app);
    backoffs.erase(app);
    waiting.erase(app);
    progress.erase(app);
    held.erase(app);
    if (cluster.tasks_of(app).empty()) cluster.app_known(app, false);
  }
  remember_removed(app, d.version);
  if (auto original = d.original.find(app); original != d.original.end() && original->second && !original->second->health_checks.empty())
    emit(BusEvent::Kind::remove_health_check, app, now);
  emit(BusEvent::Kind::app_terminated, app, now);
}

void Orchestrator::Impl::finish(const DeploymentId& id, Now now) {
  auto at = deployments.find(id);
  auto d = at->second;
  deployments.erase(at);
  std::erase(order, id);
  background.remove.push_back("deployments/" + id.str());
  for (const auto& [app, target] : d->target) touch(app);
  emit(BusEvent::Kind::deployment_success, d, now);
}

void Orchestrator::Impl::touch_waiting() {
  for (const auto& [app, w] : waiting) dirty.insert(app);
}

/// A leader that was frozen, or silent for want of a lease of its own, heard nobody: that is not the others' absence.
void Orchestrator::Impl::allow_for_silence(Now now) {
  constexpr Millis tick_late{1500};  // ticks come at least every second
  auto slept = now.mono - ticked;
  if (slept >= tick_late) {
    for (auto* until : {&held_until, &balancers_back})
      if (ticked < *until) *until += slept;
    for (auto& [task, since] : unreachable_since) since += slept;
    for (auto& [at, agent] : lost_agents) at += slept;
    for (auto& [task, d] : drains)
      for (auto* at : {&d.since, &d.confirmed_at, &d.not_before}) *at += slept;
  }
  ticked = now.mono;
}

Mono Orchestrator::tick(Now now) {
  auto& i = *impl_;
  i.allow_for_silence(now);
  i.wake = now.mono + std::chrono::hours(1);
  if (i.holding && (now.mono >= i.held_until || i.awaited.empty())) {
    i.holding = false;
    for (const auto& [app, n] : std::exchange(i.held, {})) i.touch(app);
    for (const auto& [id, d] : i.deployments)
      for (const auto& [app, target] : d->target) i.touch(app);
    // Who is not back by now is lost: followers, which keep what they had of it, are told so.
    for (const auto& agent : i.awaited) i.catalog.remove_node(agent);
  }
  if (i.hearing && now.mono >= i.held_until) {
    i.hearing = false;
    i.catalog.all_heard();
  }
  if (i.hearing) i.wake_by(i.held_until);
  for (auto at = i.timers.begin(); at != i.timers.end();) {
    if (at->second <= now.mono) i.touch(at->first), at = i.timers.erase(at);
    else i.wake_by(at->second), ++at;
  }
  i.end_brake(now);
  i.tick_drains(now);
  // Work on what changed; that may change more (a finished deployment frees the one behind it), so until nothing is left.
  for (int round = 0; !i.dirty.empty() && round < 100; ++round) {
    std::set<DeploymentId> seen;
    for (const auto& app : std::exchange(i.dirty, {})) {
      if (auto d = i.deployment_of(app)) {
        if (seen.insert(d->id).second) i.advance(d->id, now);
      } else if (auto at = i.apps.find(app); at != i.apps.end()) {
        (void)i.reconcile(at->second, false, {}, now);
      } else {
        // Gone from the store, yet still with tasks (they came back with their agent): what was removed is reaped.
        for (const auto* task : i.cluster.tasks_of(app))
          if (i.kills.contains(task->spec.id)) i.stop_task(*task, now, false);
      }
    }
  }
  i.tick_drains(now);
  return i.wake;
}

}  // namespace croft::orchestrator
