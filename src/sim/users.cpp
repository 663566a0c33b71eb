#include "sim/users.hpp"

#include "sim/farm.hpp"

namespace croft::sim {

using orchestrator::App;
using orchestrator::Intent;
using orchestrator::Orchestrator;

namespace {

constexpr std::uint64_t apps_max = 5, secrets_n = 2;

AppId app_id(std::uint64_t n) { return AppId(n == 4 ? "/shop/cart" : fmt::format("/app{}", n)); }

}  // namespace

void Users::start() {
  for (std::uint64_t n = 0; n < secrets_n; ++n)
    if (farm_.world.chance(0.7)) send(give_secret(n));
  loop();
}

OpPtr Users::give_secret(std::uint64_t n) {
  auto op = std::make_shared<Op>();
  op->secret = fmt::format("/s{}", n);
  op->what = "give " + op->secret;
  return op;
}

OpPtr Users::set_node(const AgentId& node, orchestrator::NodeMode mode) {
  static constexpr std::string_view words[] = {"take back", "drain", "call down"};
  auto op = std::make_shared<Op>();
  op->what = fmt::format("{} {}", words[static_cast<int>(mode)], node);
  op->make = [node, mode](const Orchestrator&, Now) {
    Intent intent;
    intent.nodes[node] = mode;
    return std::optional(std::move(intent));
  };
  return op;
}

/// A node is to be empty, or is taken back, or is given up although it may be alive and only cut off.
OpPtr Users::change_node() {
  auto& w = farm_.world;
  const auto& id = farm_.hosts[w.roll(farm_.hosts.size())]->page.membership.id;
  if (id.empty()) return give_secret(0);  // it has not joined yet
  if (w.chance(0.25)) return set_node(id, orchestrator::NodeMode::down);
  bool drained = farm_.store.image().data.contains("nodes/" + id.str());
  return set_node(id, drained == w.chance(0.8) ? orchestrator::NodeMode::active : orchestrator::NodeMode::draining);
}

/// All but one at most, which has to be empty in the end.
void Users::take_nodes_back() {
  bool one_stays = farm_.world.chance(0.5);
  Millis at{9000};
  for (const auto& [key, value] : farm_.store.image().data) {
    if (!key.starts_with("nodes/") || std::exchange(one_stays, false)) continue;
    farm_.world.after(at += Millis(150), [this, op = set_node(AgentId(key.substr(6)), orchestrator::NodeMode::active)] { send(op); });
  }
}

void Users::loop() {
  if (farm_.quiet) return;
  farm_.world.after(farm_.world.chance(0.15) ? farm_.world.between(5, 50) : farm_.world.between(300, 7000), [this] { loop(); });
  if (!paused) send(pick());
}

void Users::send(OpPtr op) {
  op->id = next_++;
  auto to = farm_.world.roll(farm_.masters.size());
  farm_.net.post(farm_.user_node, farm_.masters[to]->node, [this, to, op] { farm_.masters[to]->on_op(op, 0); }, {}, true);
}

/// A new app: something of everything that changes what the leader does with it.
App Users::dress(App app) {
  auto& w = farm_.world;
  static constexpr double least[] = {0.5, 1.0, 1.0, 0.0, 0.5}, over[] = {0.5, 1.0, 0.0, 0.0, 0.0};
  app.cmd = "run";
  app.instances = static_cast<std::uint32_t>(1 + w.roll(5));
  app.resources = {static_cast<Milli>(100 + 50 * w.roll(4)), 64'000, 0, 0};
  app.backoff = Seconds(1);
  app.backoff_factor = 1.5;
  app.max_launch_delay = Seconds(8);
  app.ports.resize(w.chance(0.8) ? 1 : w.roll(3));
  auto strategy = w.roll(5);
  app.upgrade = {least[strategy], over[strategy]};
  app.kill_oldest_first = w.chance(0.3);
  app.unreachable = {};
  if (w.chance(0.15)) app.unreachable.disabled = true;
  else if (w.chance(0.2)) app.unreachable.inactive_after = app.unreachable.expunge_after = Seconds(w.roll(20));
  app.health_checks.clear();
  if (w.chance(0.7)) {
    HealthCheck check;
    check.grace = Millis(5000);
    check.interval = Millis(2000);
    check.failures_max = 2;
    app.health_checks.push_back(check);
  }
  app.readiness_checks.clear();
  if (w.chance(0.2)) app.readiness_checks.emplace_back();
  app.dependencies.clear();
  if (w.chance(0.1)) app.dependencies.push_back(app_id(0));
  app.env["N"] = std::to_string(flavour_++);
  app.env.erase("BAD");
  app.secrets.clear();
  app.env_secrets.clear();
  app.secret_files.clear();
  if (w.chance(0.4)) {
    app.secrets["s"] = fmt::format("/s{}", w.roll(secrets_n));
    if (w.chance(0.3)) app.env_secrets["S"] = "s";
    else app.secret_files.emplace_back("s", "s");
    if (w.chance(0.5)) {
      app.secrets["t"] = fmt::format("/s{}", w.roll(secrets_n));
      app.secret_files.emplace_back("t", "t");
    }
  }
  return app;
}

std::optional<Intent> Users::deploy(const Orchestrator& core, const AppId& id) {
  Intent intent;
  intent.force = farm_.world.chance(0.3);
  App app;
  if (const auto* there = core.app(id)) app = *there;
  app.id = id;
  app = dress(std::move(app));
  if (farm_.world.chance(0.08)) app.env["BAD"] = farm_.world.chance(0.5) ? "crash" : "sick";
  intent.apps[id] = std::move(app);
  return intent;
}

std::optional<Intent> Users::change(const Orchestrator& core, const AppId& id, std::uint64_t kind) {
  auto& w = farm_.world;
  Intent intent;
  intent.force = w.chance(0.3);
  const auto* app = core.app(id);
  if (kind == 0) {  // roll back, or drop, what is under way
    if (core.deployments().empty()) return std::nullopt;
    auto at = std::next(core.deployments().begin(), static_cast<std::ptrdiff_t>(w.roll(core.deployments().size())));
    intent.cancel = at->first;
    return intent;
  }
  if (kind == 1) {
    intent.rules[id] = core.rules().contains(id) && w.chance(0.5) ? std::nullopt : std::optional(catalog::Rule{id, fmt::format("path_beg -i /{}", flavour_++)});
    return intent;
  }
  if (!app) return deploy(core, id);
  if (kind == 2) return intent.apps[id] = std::nullopt, intent;
  if (kind == 3) return intent.restart.insert(id), intent;
  auto next = *app;
  if (kind == 4) {  // update
    next.env["N"] = std::to_string(flavour_++);
    next.env.erase("BAD");
    if (w.chance(0.12)) next.env["BAD"] = w.chance(0.5) ? "crash" : "sick";
  } else if (kind == 5) {
    next.instances = static_cast<std::uint32_t>(w.roll(7));
  }
  intent.apps[id] = std::move(next);
  return intent;
}

OpPtr Users::pick() {
  auto& w = farm_.world;
  auto op = std::make_shared<Op>();
  auto id = app_id(w.roll(apps_max));
  static constexpr std::string_view names[] = {"cancel", "rule", "remove", "restart", "update", "scale"};
  auto kind = w.roll(13);
  if (kind == 12) return change_node();
  if (kind < 6) {
    op->what = fmt::format("{} {}", names[kind], id);
    op->make = [this, id, kind](const Orchestrator& core, Now) { return change(core, id, kind); };
    op->rolls_back = kind == 0;
    if (kind == 2 && w.chance(0.6)) {  // removed, and at once created anew
      auto again = std::make_shared<Op>();
      again->what = fmt::format("create again {}", id);
      again->make = [this, id](const Orchestrator& core, Now) { return deploy(core, id); };
      farm_.world.after(w.between(5, 60), [this, again] { send(again); });
    }
    return op;
  }
  auto* m = farm_.leader();
  auto tasks = m && m->term ? m->term->cluster.tasks() : std::vector<const cluster::Task*>{};
  if (kind < 8 && !tasks.empty()) {
    const auto& victim = *tasks[w.roll(tasks.size())];
    if (kind == 6) {
      op->what = fmt::format("kill {}", victim.spec.id);
      op->kill.push_back(victim.spec.id);
      if (tasks.size() > 1 && w.chance(0.3)) op->kill.push_back(tasks[w.roll(tasks.size())]->spec.id);
    } else {
      op->what = fmt::format("kill and scale {}", victim.spec.id);
      op->make = [app = victim.spec.app, task = victim.spec.id](const Orchestrator& core, Now) -> std::optional<Intent> {
        const auto* there = core.app(app);
        if (!there || there->instances == 0) return std::nullopt;
        Intent intent;
        intent.apps[app] = *there;
        --intent.apps[app]->instances;
        intent.victims[app] = {task};
        return intent;
      };
    }
    return op;
  }
  if (w.chance(0.3)) return give_secret(w.roll(secrets_n));
  op->what = fmt::format("deploy {}", id);
  op->make = [this, id](const Orchestrator& core, Now) { return deploy(core, id); };
  return op;
}

void Users::repair() {
  paused = true;
  farm_.world.after(Millis(8900), [this] { take_nodes_back(); });
  for (std::uint64_t n = 0; n < secrets_n; ++n) farm_.world.after(Millis(11'000 + 200 * static_cast<std::int64_t>(n)), [this, n] {
    auto op = give_secret(n);
    op->unless_there = true;
    send(op);
  });
  for (std::uint64_t n = 0; n < apps_max; ++n) {
    auto op = std::make_shared<Op>();
    op->what = fmt::format("repair {}", app_id(n));
    op->make = [id = app_id(n)](const Orchestrator& core, Now) -> std::optional<Intent> {
      const auto* app = core.app(id);
      if (!app || !app->env.contains("BAD")) return std::nullopt;
      Intent intent;
      intent.force = true;
      intent.apps[id] = *app;
      intent.apps[id]->env.erase("BAD");
      return intent;
    };
    farm_.world.after(Millis(12'000 + 200 * static_cast<std::int64_t>(n)), [this, op] { send(op); });
  }
}

}  // namespace croft::sim
