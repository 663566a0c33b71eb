#include "balancer/keeper.hpp"

#include <algorithm>
#include <cctype>

#include "base/log.hpp"
#include "base/process.hpp"
#include "base/text.hpp"

namespace croft::balancer {

namespace {

constexpr Millis soon{500}, later{5'000}, outdated_again{200}, at_once{10}, unseen_max{2'000};
constexpr std::size_t proven_max = 20'000;

/// Ports in the bind lines of a configuration of ours.
std::set<std::uint16_t> bound_in(const std::string& config) {
  std::set<std::uint16_t> out;
  for (const auto& line : split(config, '\n')) {
    if (!line.starts_with("    bind ")) continue;
    if (auto port = to_int(std::string_view(line).substr(line.rfind(':') + 1)); port && *port > 0 && *port < 65536) out.insert(static_cast<std::uint16_t>(*port));
  }
  return out;
}

/// Nothing in it but what we make up ourselves: no rule, no labels, no odd letter in a path.
bool in_our_words(const Plan& part) {
  return part.rules.empty() && std::all_of(part.backends.begin(), part.backends.end(), [](const auto& named) {
    const Backend& b = named.second;
    auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("/-._").contains(c); };
    return b.labels == PortLabels{} && (!b.check || std::all_of(b.check->path.begin(), b.check->path.end(), plain));
  });
}

}  // namespace

Plan Keeper::plan_for(const catalog::Content& content, const Plan& before) {
  banned_.own_ip = options_.own_ip;
  banned_.ports.clear();
  for (auto at = banned_services_.begin(); at != banned_services_.end();) {
    auto service = content.services.find(at->first);
    bool same = service != content.services.end() && service->second == at->second;
    at = same ? std::next(at) : banned_services_.erase(at);
  }
  banned_.apps.clear();
  for (const auto& [app, service] : banned_services_) banned_.apps.insert(app);
  auto plan = make_plan(content, before, banned_, doubt_);
  for (auto port : service_ports(plan))
    if (!usable(port)) banned_.ports.insert(port);
  return banned_.ports.empty() ? plan : make_plan(content, before, banned_, doubt_);
}

void Keeper::took(Plan plan, const std::string& shape, int pid) {
  has_ = std::move(plan);
  shape_ = shape;
  pid_ = pid;
  up_ = true;
  refused_ = false;
  fronts_ = service_ports(has_);
  fronts_.insert(options_.rendering.shared_ports.begin(), options_.rendering.shared_ports.end());
}

Status Keeper::choose_shared_ports() {
  auto& ports = options_.rendering.shared_ports;
  ports.clear();
  for (auto port : options_.shared_ports) {
    if (!usable(port)) return fail(Errc::unavailable, "port {} is taken by another program{}; HAProxy is not started beside it", port, holder_of_port(port));
    ports.push_back(port);
  }
  for (auto port : options_.optional_ports)
    if (usable(port)) ports.push_back(port);
  return {};
}

/// A HAProxy of ours runs: what it has is asked of itself, and it is left as it is unless its configuration is another one.
void Keeper::adopt(const Proxy::Info& info) {
  on_disk_ = proxy_.config_on_disk();
  fronts_ = bound_in(on_disk_);
  if (auto ok = choose_shared_ports(); !ok) log::error("balancer", "{}", ok.error().context);  // then a reload will tell
  auto state = proxy_.ask("show servers state");
  auto fronts = fronts_;
  took(state ? plan_seen(*state) : Plan{}, resync_ ? "" : info.shape, info.pid);
  fronts_ = std::move(fronts);
  maybe_old_workers_ = outdated_ = true;  // who knows what those know that an earlier croft left behind
  resync_ = false;
  log::info("balancer", "HAProxy {} is adopted", info.pid);
}

Status Keeper::start(const catalog::Content& content, Outcome& outcome) {
  fronts_.clear();
  if (auto ok = choose_shared_ports(); !ok) return ok;
  auto wanted = plan_for(content, has_);
  if (auto ok = judge(content, wanted); !ok) return ok;
  on_disk_.clear();
  if (auto ok = save(wanted, shape_of(wanted, options_.rendering)); !ok) return ok;
  if (auto ok = proxy_.start(); !ok) return ok;
  auto info = proxy_.info();
  if (!info) return fail(Errc::unavailable, "HAProxy was started and is gone again");
  left_out_ = wanted.left_out;
  took(std::move(wanted), info->shape, info->pid);
  maybe_old_workers_ = false;
  outcome.in_force = outcome.whole = true;
  log::info("balancer", "HAProxy {} is started, {} back ends", pid_, has_.backends.size());
  return {};
}

/// Whether all that users wrote into it has been accepted before, or nothing of it is in their own words.
bool Keeper::beyond_doubt(const catalog::Content& content, const Plan& wanted) const {
  return !refused_ && std::all_of(content.services.begin(), content.services.end(), [&](const auto& service) {
    auto part = only(wanted, service.first, true);
    return in_our_words(part) || proven_.contains(shape_of(part, options_.rendering));
  });
}

/// Asks HAProxy about the whole; only when it says no, about each app that is new or changed, so that one bad rule or label stops nothing else.
Status Keeper::judge(const catalog::Content& content, Plan& wanted) {
  if (beyond_doubt(content, wanted)) return {};  // a tenth of a second saved, and what is wrong all the same is refused by the reload
  for (int tries = 0;; ++tries) {
    auto ok = proxy_.check(render(wanted, options_.rendering));
    if (!ok && (ok.error().code != Errc::invalid || tries == 2)) return ok;
    if (ok) {
      if (proven_.size() > proven_max) proven_.clear();
      for (const auto& [app, service] : content.services) proven_.insert(shape_of(only(wanted, app, true), options_.rendering));
      return ok;
    }
    find_offenders(content, wanted);
    wanted = plan_for(content, has_);
  }
}

void Keeper::find_offenders(const catalog::Content& content, const Plan& wanted) {
  auto before = banned_.rules.size() + banned_services_.size();
  for (const auto& [app, service] : content.services) {
    auto part = only(wanted, app, true);
    if (proven_.contains(shape_of(part, options_.rendering))) continue;
    auto ok = proxy_.check(render(part, options_.rendering));
    if (ok || ok.error().code != Errc::invalid) continue;
    auto words = ok.error().context;
    auto rule = wanted.rules.find(app);
    if (rule != wanted.rules.end() && proxy_.check(render(only(wanted, app, false), options_.rendering))) {
      banned_.rules[app] = rule->second;
      log::error("balancer", "app={} its rule is left out: {}", app, words);
    } else {
      banned_services_[app] = service;
      log::error("balancer", "app={} is left out, HAProxy refuses it: {}", app, words);
    }
  }
  if (banned_.rules.size() + banned_services_.size() > before) return;
  // Each is good alone: it is between rules. The others are not to wait for those two; who comes later stays out.
  auto trial = wanted;
  trial.rules.clear();
  if (!proxy_.check(render(trial, options_.rendering))) return;
  for (const auto& [app, rule] : wanted.rules) {
    trial.rules.emplace(app, rule);
    auto ok = proxy_.check(render(trial, options_.rendering));
    if (ok || ok.error().code != Errc::invalid) continue;
    trial.rules.erase(app);
    banned_.rules[app] = rule;
    log::error("balancer", "app={} its rule is left out, beside the others' HAProxy refuses it: {}", app, ok.error().context);
  }
}

Status Keeper::save(const Plan& plan, const std::string& shape) {
  auto text = render(plan, options_.rendering, shape);
  if (text == on_disk_) return {};
  auto ok = proxy_.write_config(text);
  if (ok) on_disk_ = std::move(text);
  return ok;
}

/// An old worker takes no commands any more, and would send a request on a connection that its client kept to an instance that has left. So once instances
/// leave, an old worker ends as soon as it has no request open: idle connections close, as a server may close them at any time. True when none is left; nothing: it is
/// not known, for some milliseconds after a reload.
std::optional<bool> Keeper::end_idle_old_workers() {
  auto list = proxy_.ask_master("show proc");
  if (!list) return std::nullopt;
  auto workers = old_workers_seen(*list);
  maybe_old_workers_ = !workers.empty();
  for (auto pid : workers) {
    auto csv = proxy_.ask("show stat -1 6 -1", pid);  // back ends and servers: also who still waits for a server
    if (!csv) continue;  // it has ended meanwhile
    auto open = sessions_seen(*csv);
    if (!open.empty() && std::all_of(open.begin(), open.end(), [](const auto& server) { return server.second == 0; })) proxy_.end_worker(pid);
  }
  return workers.empty();
}

Status Keeper::reload(const catalog::Content& content, Plan wanted, Outcome& outcome, Mono now) {
  if (auto ok = judge(content, wanted); !ok) return ok;
  auto shape = shape_of(wanted, options_.rendering);
  left_out_ = wanted.left_out;
  if (shape == shape_) {  // what was new in it is what HAProxy refuses
    has_ = std::move(wanted);
    return save(has_, shape);
  }
  if (auto ok = save(wanted, shape); !ok) return ok;
  auto ok = proxy_.reload();
  outcome.reloads = 1;
  maybe_old_workers_ = true;
  auto list = proxy_.ask_master("show proc");
  auto old = list ? old_workers_seen(*list).size() : 0;
  next_reload_ = now + options_.reload_every * static_cast<int>(1 + old);
  if (!ok) return refused_ = true, ok;
  auto info = proxy_.info();
  if (!info) return fail(Errc::unavailable, "HAProxy is gone after a reload");
  took(std::move(wanted), info->shape, info->pid);
  return {};
}

/// Whether a reload would bring nothing but new back ends that have no instance yet.
bool Keeper::brings_nobody(Plan wanted) const {
  std::erase_if(wanted.backends, [&](const auto& b) {
    return !has_.backends.contains(b.first) && std::all_of(b.second.slots.begin(), b.second.slots.end(), [](const Slot& s) { return s.state == Slot::State::free; });
  });
  return shape_of(wanted, options_.rendering) == shape_;
}

Keeper::Outcome Keeper::apply(const catalog::Content& content, bool fresh, Mono now, const catalog::Doubt& doubt) {
  doubt_ = doubt;
  Outcome outcome;
  auto trouble = [&](const Error& e, Millis again) {
    outcome.trouble = e.context;
    outcome.again = again;
    return outcome;
  };
  auto info = proxy_.info();
  if (up_ && (!info || info->pid != pid_)) {
    log::error("balancer", "HAProxy {} is gone", pid_);
    up_ = false;
  }
  if (!up_ && !info) {
    auto ok = start(content, outcome);
    return ok ? outcome : trouble(ok.error(), soon);
  }
  if (!up_ && !fresh) {
    outcome.again = soon;
    return outcome;
  }
  if (!up_) adopt(*info);
  auto wanted = plan_for(content, has_);
  left_out_ = wanted.left_out;
  auto steps = steps_between(has_, wanted);
  if (!steps.commands.empty()) {
    if (auto ok = proxy_.run(steps.commands); !ok) {
      up_ = false;                                        // it is asked what it has before the next try
      resync_ = ok.error().code == Errc::invalid;         // and gets all of it anew when it does not know what we speak of
      return trouble(ok.error(), soon);
    }
    outcome.commands = steps.commands.size();
    has_ = std::move(steps.after);
    outdated_ = outdated_ || steps.any_leaves;
  }
  outdated_ = outdated_ && maybe_old_workers_;
  bool unseen = false;                                    // who has left may still be asked by an old worker that could not be looked at
  if (outdated_) {
    auto none_left = end_idle_old_workers();
    if (none_left) unseen_since_.reset();
    else if (!unseen_since_) unseen_since_ = now;
    unseen = !none_left && now - *unseen_since_ < unseen_max;  // a master that stays away must not hold up drains for ever
    outdated_ = !none_left.value_or(false);
    if (outdated_) outcome.again = unseen ? at_once : outdated_again;
  }
  outcome.in_force = steps.all_placed && !unseen;
  if (!banned_.ports.empty() && !outcome.again) outcome.again = later;  // a port may come free
  if (shape_of(wanted, options_.rendering) == shape_) {
    has_ = std::move(wanted);
    gathers_until_.reset();
    outcome.whole = outcome.in_force;
    auto ok = save(has_, shape_);
    return ok ? outcome : trouble(ok.error(), later);
  }
  if (!gathers_until_) gathers_until_ = now + options_.gather;
  auto reload_at = std::max(next_reload_.value_or(now), brings_nobody(wanted) ? *gathers_until_ : now);
  if (now < reload_at) {
    auto wait = std::chrono::ceil<Millis>(reload_at - now);
    outcome.again = outcome.again ? std::min(*outcome.again, wait) : wait;
    return outcome;
  }
  gathers_until_.reset();
  auto ok = reload(content, std::move(wanted), outcome, now);
  if (!ok) return trouble(ok.error(), soon);
  outcome.in_force = outcome.whole = !unseen;
  return outcome;
}

bool Keeper::lost() const {
  if (!up_) return false;
  auto info = proxy_.info();
  return !info || info->pid != pid_;
}

bool Keeper::drains() const {
  return std::any_of(has_.backends.begin(), has_.backends.end(),
                     [](const auto& b) { return std::any_of(b.second.slots.begin(), b.second.slots.end(), [](const Slot& s) { return s.state == Slot::State::drain; }); });
}

std::map<TaskId, std::uint32_t> Keeper::open_requests() const {
  std::map<TaskId, std::uint32_t> out;
  std::map<std::string, TaskId> draining;                 // "backend/address:port"
  for (const auto& [name, b] : has_.backends)
    for (const auto& s : b.slots)
      if (s.state == Slot::State::drain) draining.emplace(fmt::format("{}/{}:{}", name, s.ip, s.port), s.task), out.emplace(s.task, 0);
  if (draining.empty()) return out;
  std::vector<int> workers{0};
  if (maybe_old_workers_) {
    auto list = proxy_.ask_master("show proc");
    if (!list)
      for (auto& [task, open] : out) open += 1;           // as below: better one too many
    for (auto pid : list ? old_workers_seen(*list) : std::vector<int>()) workers.push_back(pid);
  }
  for (auto worker : workers) {
    auto csv = proxy_.ask("show stat -1 4 -1", worker);
    if (!csv) {
      if (worker == 0)
        for (auto& [task, open] : out) open += 1;         // HAProxy did not say: better one too many than a request cut off
      continue;
    }
    for (const auto& [server, open] : sessions_seen(*csv))
      if (auto at = draining.find(server); at != draining.end()) out[at->second] += open;
  }
  return out;
}

}  // namespace croft::balancer
