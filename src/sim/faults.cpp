#include "sim/faults.hpp"

#include "sim/farm.hpp"

namespace croft::sim {

namespace {
constexpr std::uint64_t own_commits = 8;  // what a leader on a rolled-back store may write by itself
}

bool Faults::well(NodeId n, Millis length) const {
  return n >= trouble_.size() || trouble_[n] + length <= farm_.world.elapsed();
}

bool Faults::led(Millis length) const { return top_ + length <= farm_.world.elapsed(); }

void Faults::trouble(NodeId n, Millis length) {
  if (n >= trouble_.size()) trouble_.resize(n + 1, Millis(0));
  trouble_[n] = std::max(trouble_[n], farm_.world.elapsed() + length);
}

void Faults::trouble_at_the_top(Millis length) { top_ = std::max(top_, farm_.world.elapsed() + length); }

void Faults::later(Millis delay, Work undo) {
  auto once = [done = std::make_shared<bool>(false), undo = std::move(undo)] {
    if (!std::exchange(*done, true)) undo();
  };
  undo_.push_back(once);
  farm_.world.after(delay, once);
}

void Faults::start() {
  auto kind = farm_.world.roll(8);
  calm_ = kind == 0;
  host_faults_ = kind != 1 && !calm_;
  top_faults_ = kind != 2 && !calm_;
  if (calm_) return;
  farm_.store.unknown = 0.01;
  farm_.store.refuses = 0.005;
  weather();
  loop();
}

void Faults::end_all() {
  for (const auto& undo : std::exchange(undo_, {})) undo();
  farm_.net.weather = {};
  farm_.store.answers = true;
  farm_.store.unknown = farm_.store.refuses = 0;
}

void Faults::loop() {
  if (farm_.quiet) return;
  auto& w = farm_.world;
  w.after(w.between(1500, 14'000), [this] { loop(); });
  if (bad_store) return;
  auto dice = w.roll(20);
  if (dice < 4) return strike_task();
  if (dice < 5 || (dice < 6 && (!top_faults_ || !host_faults_))) return strike_balancer();
  if (dice < 6) return strike_machine(w.chance(0.5));
  if (dice < 7) return weather();
  if (dice < 13) {
    if (host_faults_) strike_host();
    return;
  }
  if (!top_faults_) return;
  if (dice < 15) return strike_master();
  if (dice < 19) return strike_leadership(w.roll(7));
  strike_store();
}

void Faults::weather() {
  auto& w = farm_.world;
  static constexpr Weather kinds[] = {{Millis(1), Millis(6), 0, 0, 0}, {Millis(1), Millis(20), 0.02, 0.002, 0.01}, {Millis(5), Millis(80), 0.05, 0.006, 0.03}};
  farm_.net.weather = kinds[w.roll(3)];
}

void Faults::part(NodeId a, NodeId b, Millis length) {
  auto& net = farm_.net;
  auto kind = farm_.world.roll(4);  // both directions, or one
  bool there = kind != 2, back = kind != 3;
  if (there) net.cut(a, b);
  if (back) net.cut(b, a);
  later(length, [&net, a, b, there, back] {
    if (there) net.heal(a, b);
    if (back) net.heal(b, a);
  });
}

// --- masters ---

void Faults::strike_master() {
  auto& f = farm_;
  auto* m = f.leader();
  if (!m || f.world.chance(0.25)) m = f.masters[f.world.roll(f.masters.size())].get();
  if (!f.net.up(m->node)) return;
  if (m->leads()) f.probe(Probe::leader_killed);
  auto down = f.world.between(100, 9000);
  f.note("{} is killed for {} ms", f.net.name(m->node), down.count());
  m->crash();
  later(down, [m, &f] {
    if (!f.net.up(m->node)) m->boot();
  });
}

void Faults::all_masters_down(Millis length) {
  auto& f = farm_;
  f.note("all masters are down for {} ms", length.count());
  for (auto& m : f.masters) {
    if (f.net.up(m->node)) m->crash();
    later(length + f.world.between(0, 1500), [m = m.get(), &f] {
      if (!f.net.up(m->node)) m->boot();
    });
  }
}

void Faults::strike_leadership(std::uint64_t kind) {
  auto& f = farm_;
  auto& w = f.world;
  auto* m = f.leader();
  if (!m || f.net.frozen(m->node)) return;
  if (kind == 0) {
    auto length = w.between(500, 12'000);
    f.note("{} is frozen for {} ms", f.net.name(m->node), length.count());
    f.probe(Probe::leader_frozen);
    f.net.freeze(m->node);
    later(length, [m, &f] { f.net.thaw(m->node); });
  } else if (kind == 1) {
    auto length = w.between(800, 10'000);
    f.note("{} and the store are parted for {} ms", f.net.name(m->node), length.count());
    part(m->node, f.store_node, length);
  } else if (kind == 2) {
    f.probe(Probe::leader_rogue);
    auto length = w.between(2000, 8000);
    m->rogue(length);
    for (auto& h : f.hosts)
      for (int i = 0; i < 2; ++i)
        if (w.chance(0.5))
          w.after(w.between(300, length.count()), [h = h.get()] {
            if (h->core && h->stream) h->leave_stream(Millis(0));
          });
    if (!host_faults_ || !w.chance(0.6)) return;
    auto* h = f.hosts[w.roll(f.hosts.size())].get();
    w.after(w.between(1000, 4000), [this, h, m, &f] {
      if (!h->core) return;
      f.note("{} loses power for a moment", h->label());
      trouble(h->node, Millis(1000));
      h->power_off(false);
      h->master = m->index;  // whom it asks first when it is back
      later(Millis(400), [h, &f] {
        if (!f.net.up(h->node)) h->boot_agent();
      });
    });
  } else if (kind == 3) {
    f.probe(Probe::session_lost);
    m->rogue(Millis(0));
  } else if (kind == 4) {
    m->hand_over();
  } else if (kind == 5) {
    all_masters_down(w.between(3000, 60'000));
  } else {
    unknown_store();
  }
}

/// A store that is not the farm's: lost, or rolled back. It is noticed, and the right one put back; its epoch is raised past the other's, as the
/// operator's tool does.
void Faults::unknown_store() {
  auto& f = farm_;
  for (const auto& h : f.hosts)
    if (h->page.membership.id.empty()) return;
  StoreSim::Image other;
  auto old = f.store.older(Millis(20'000));
  bool rolled_back = old && f.world.chance(0.5);
  for (const auto& h : f.hosts) rolled_back = rolled_back && h->stable.membership.commit > old->head + own_commits;  // who knows no more than it has, or soon has, cannot tell
  if (rolled_back) other = *old;
  else other.cluster_id = f.world.chance(0.5) ? "another" : f.store.image().cluster_id;
  auto down = [&f] {
    for (auto& m : f.masters)
      if (f.net.up(m->node)) m->crash();
  };
  auto up = [this, &f] {
    for (auto& m : f.masters)
      later(f.world.between(100, 900), [m = m.get(), &f] {
        if (f.net.up(m->node)) return;
        m->session = 0;  // it was of the other store
        m->boot();
      });
  };
  f.note("the store is {}", rolled_back ? fmt::format("rolled back to commit {}", other.head) : "lost, an empty one stands in its place");
  f.users.paused = true;
  bad_store = true;
  down();
  auto right = std::make_shared<StoreSim::Image>(f.store.swap(std::move(other)));
  up();
  later(f.world.between(10'000, 40'000), [this, &f, right, down, up] {
    f.note("the right store is back");
    down();
    right->epoch = std::max(right->epoch, f.store.image().epoch) + 1;
    (void)f.store.swap(std::move(*right));
    bad_store = false;
    f.users.paused = f.quiet;
    up();
  });
}

void Faults::strike_store() {
  auto& f = farm_;
  auto& w = f.world;
  auto length = w.between(2000, 20'000);
  auto kind = w.roll(3);
  f.note("the store {} for {} ms", kind == 0 ? "has no quorum" : kind == 1 ? "loses answers" : "refuses", length.count());
  if (kind == 0) {
    f.store.answers = false;
    later(length, [&f] { f.store.answers = true; });
  } else if (kind == 1) {
    f.store.unknown = 0.5;
    later(length, [&f] { f.store.unknown = 0.01; });
  } else {
    f.store.refuses = 0.4;
    later(length, [&f] { f.store.refuses = 0.005; });
  }
}

// --- hosts ---

void Faults::strike_host() {
  auto& f = farm_;
  auto& w = f.world;
  auto* h = f.hosts[w.roll(f.hosts.size())].get();
  auto kind = w.roll(12);
  auto reboot = [&](Millis down, bool wipe) {
    f.note("{} loses power for {} ms{}", h->label(), down.count(), wipe ? " and its disk" : "");
    f.probe(Probe::host_rebooted);
    trouble(h->node, down);
    h->power_off(wipe);
    later(down, [h, &f] {
      if (!f.net.up(h->node)) h->boot_agent();
    });
  };
  if (!f.net.up(h->node)) return;
  if (kind < 3) {
    auto down = w.between(100, 15'000);
    f.note("{}'s agent is killed for {} ms", h->label(), down.count());
    trouble(h->node, down);
    h->kill_agent();
    later(down, [h, &f] {
      if (!f.net.up(h->node)) h->boot_agent();
    });
  } else if (kind < 5) {
    reboot(w.between(1000, 45'000), false);
  } else if (kind < 6) {
    reboot(w.between(1000, 45'000), !bad_store && w.chance(0.5));
  } else if (kind < 9) {
    auto length = w.between(800, 40'000);
    f.note("{} is cut off for {} ms", h->label(), length.count());
    trouble(h->node, length);
    for (auto& m : f.masters) part(h->node, m->node, length);
  } else if (kind < 10) {
    auto length = w.between(5000, 30'000);
    f.note("half of the hosts are cut off for {} ms", length.count());
    for (auto& other : f.hosts) {
      if (other->index % 2 != h->index % 2) continue;
      trouble(other->node, length);
      for (auto& m : f.masters) part(other->node, m->node, length);
    }
  } else if (kind < 11) {
    auto length = w.between(3000, 20'000);
    f.note("{} is slow for {} ms", h->label(), length.count());
    trouble(h->node, length + Millis(5000));
    f.net.slow_down(h->node, w.between(100, 2500));
    later(length, [h, &f] { f.net.slow_down(h->node, Millis(0)); });
  } else if (h->core && h->stream) {
    h->leave_stream(Millis(0));
  }
}

void Faults::strike_task() {
  auto& f = farm_;
  auto& w = f.world;
  auto* h = f.hosts[w.roll(f.hosts.size())].get();
  if (h->procs.empty()) return;
  auto at = std::next(h->procs.begin(), static_cast<std::ptrdiff_t>(w.roll(h->procs.size())));
  if (w.chance(0.3)) {
    auto length = w.between(1000, 15'000);
    f.note("{} is sick for {} ms", at->first, length.count());
    at->second.sick_from = w.elapsed();
    at->second.sick_until = w.elapsed() + length;
    return;
  }
  auto id = at->first;
  h->end_proc(id, TaskState::failed, "", "crashes");
}

// --- machines ---

/// Every process of ours on a machine at once, or on all of them (`croft dev` is all of a farm in one); HAProxy and the tasks live on.
void Faults::strike_machine(bool all) {
  auto& f = farm_;
  auto& w = f.world;
  auto* m = f.leader();
  if (!m) return;
  auto down = w.chance(0.5) ? w.between(20, 1500) : w.between(100, 9000);
  f.note("{} killed for {} ms, leader, agent and balancer at once", all ? "all machines are" : "a machine is", down.count());
  f.probe(Probe::machine_killed);
  auto again = [&] { return down + w.between(0, 60); };  // one unit starts a little before the other
  auto host = w.roll(f.hosts.size()), balancer = w.roll(f.balancers.size());
  for (auto& other : f.masters) {
    if (!f.net.up(other->node) || (!all && other.get() != m)) continue;
    other->crash();
    later(again(), [x = other.get(), &f] {
      if (!f.net.up(x->node)) x->boot();
    });
  }
  for (auto& h : f.hosts) {
    if (!f.net.up(h->node) || (!all && h->index != host)) continue;
    trouble(h->node, down);
    h->kill_agent();
    later(again(), [x = h.get(), &f] {
      if (!f.net.up(x->node)) x->boot_agent();
    });
  }
  for (auto& b : f.balancers) {
    if (!f.net.up(b->node) || (!all && b->index != balancer)) continue;
    trouble(b->node, down + Millis(500));
    b->crash();
    later(again(), [x = b.get(), &f] {
      if (!f.net.up(x->node)) x->boot();
    });
  }
}

// --- balancers ---

void Faults::strike_balancer() {
  auto& f = farm_;
  auto& w = f.world;
  auto* b = f.balancers[w.roll(f.balancers.size())].get();
  if (!f.net.up(b->node)) return;
  auto length = w.between(200, 15'000);
  trouble(b->node, length + Millis(500));
  auto kind = w.roll(3);
  f.note("{} {} for {} ms", b->label(), kind == 0 ? "is killed" : kind == 1 ? "is cut off" : "is slow", length.count());
  if (kind == 0) {
    b->crash();
    later(length, [b, &f] {
      if (!f.net.up(b->node)) b->boot();
    });
  } else if (kind == 1) {
    for (auto& m : f.masters) part(b->node, m->node, length);
  } else {
    f.net.slow_down(b->node, w.between(100, 2500));
    later(length, [b, &f] { f.net.slow_down(b->node, Millis(0)); });
  }
}

}  // namespace croft::sim
