#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr std::size_t masters_n = 3, hosts_n = 5, balancers_n = 3;
constexpr Millis store_every{200}, remember_every{10'000}, rest_bound{120'000}, rest_look{500};

}  // namespace

Farm::Farm(const RunOptions& o)
    : options(o), world(o.seed), net(world, result.probes), store_node(0), user_node(0), store(world, o.bug, world.between(2000, 5000)), judge(*this), users(*this), faults(*this) {
  for (std::size_t i = 0; i < masters_n; ++i) masters.push_back(std::make_unique<Master>(*this, net.add(fmt::format("master{}", i + 1)), i));
  store_node = net.add("store");
  user_node = net.add("users");
  for (std::size_t i = 0; i < hosts_n; ++i) hosts.push_back(std::make_unique<Host>(*this, net.add(fmt::format("node{}", i + 1)), i));
  for (std::size_t i = 0; i < balancers_n; ++i) {
    bool dns = i + 1 == balancers_n;
    balancers.push_back(std::make_unique<Balancer>(*this, net.add(dns ? "dns" : fmt::format("balancer{}", i + 1)), i, !dns));
  }
}

Farm::~Farm() = default;

void Farm::keep() {
  auto& trace = result.trace;
  for (char c : line_) trace = (trace ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  trace = (trace ^ static_cast<std::uint64_t>(world.elapsed().count())) * 1099511628211ull;
  log_.push_back(fmt::format("{:>8} {}", world.elapsed().count(), std::string_view(line_.data(), line_.size())));
  if (log_.size() > options.log_max) log_.pop_front();
}

void Farm::fail(std::string id, std::string why) {
  if (!options.check.empty() && options.check != id) return;
  if (result.failure.empty()) result.failure = fmt::format("{}: after {} ms: {}", id, world.elapsed().count(), why);
}

Master* Farm::leader() {
  Master* found = nullptr;
  for (auto& m : masters)
    if (m->term && (!found || m->term->term.epoch > found->term->term.epoch)) found = m.get();
  return found;
}

void Farm::store_loop() {
  world.after(store_every, [this] { store_loop(); });
  store.tick();
  if (world.elapsed() % remember_every == Millis(0) && !faults.bad_store) store.remember();
}

RunResult Farm::run() {
  net.start(store_node);
  net.start(user_node);
  for (auto& m : masters) world.after(world.between(0, 50), [m = m.get()] { m->boot(); });
  for (auto& h : hosts) world.after(world.between(0, 300), [h = h.get()] { h->boot_agent(); });
  for (auto& b : balancers) world.after(world.between(0, 300), [b = b.get()] { b->boot(); });
  store_loop();
  judge.look_around();
  world.after(Millis(1500), [this] { users.start(); });
  world.after(Millis(4000), [this] { faults.start(); });
  auto stop = [this] { return failed(); };
  auto end = Millis(static_cast<std::int64_t>(options.minutes * 60'000));
  world.run_until(end, stop);
  if (!failed()) {
    quiet = true;
    note("the faults end");
    faults.end_all();
    users.repair();
  }
  std::string open = "-";
  int rested = 0;
  for (auto at = end; at < end + rest_bound && !failed() && rested < 4; at += rest_look) {
    world.run_until(at + rest_look, stop);
    open = at < end + Millis(16'000) ? "too early to say" : judge.unfinished();  // what can never run is repaired first
    rested = open.empty() ? rested + 1 : 0;
    if (rested == 1) result.converged_ms = (world.elapsed() - end).count();
  }
  if (!failed() && rested < 4) fail("C13", fmt::format("{} s after the last fault: {}", rest_bound.count() / 1000, open));
  result.probes[static_cast<std::size_t>(Probe::late_commit_refused)] = store.late_refused();
  result.steps = world.steps();
  result.log.assign(log_.begin(), log_.end());
  return std::move(result);
}

RunResult run(const RunOptions& options) { return Farm(options).run(); }

}  // namespace croft::sim
