// What a master hears from agents, balancers and users, and what it sends them.

#include "model/catalog_json.hpp"
#include "model/link_json.hpp"
#include "orchestrator/secrets.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr std::uint64_t wire_share = 16;  // one record in so many goes through its JSON
constexpr Millis follower_beat{1000};

}  // namespace

// --- agents ---

void Master::on_register(std::size_t host, std::uint64_t connection, const link::Registration& r) {
  auto& f = farm_;
  auto refuse = [&](std::string why) {
    Work told = [&f, host, connection, why = std::move(why)] { f.hosts[host]->on_refused(connection, why); };
    f.net.answer(node, f.hosts[host]->node, told, told);
  };
  if (!term || !may_act()) return refuse("it does not lead");
  auto read = link::decode_registration(link::encode(r));
  if (!read) return f.fail("C12", "a registration does not survive its wire form: " + read.error().context);
  if (const auto* known = term->cluster.agent(r.id); known && !known->reachable && !r.tasks.empty()) f.probe(Probe::agent_back_with_tasks);
  auto id = term->cluster.register_agent(*read, f.world.now());
  if (!id) {
    const auto& why = id.error().context;
    f.probe(why.find("cluster") != std::string::npos  ? Probe::registration_refused_cluster
            : why.find("epoch") != std::string::npos  ? Probe::registration_refused_epoch
            : why.find("commit") != std::string::npos ? Probe::registration_refused_commit
                                                      : Probe::old_registration_refused);
    f.note("{} refuses {}: {}", f.net.name(node), f.hosts[host]->label(), why);
    return refuse(why);
  }
  f.judge.came_back(*f.hosts[host], *this);
  auto subscription = term->cluster.agent(*id)->subscription;
  auto pipe = f.net.open(node, f.hosts[host]->node);
  pipe->broken_at_reader = [&f, host, connection] { f.hosts[host]->on_refused(connection, "the stream broke"); };
  pipe->broken_at_writer = [this, epoch = term->term.epoch, agent = *id, subscription] { stream_broke(epoch, agent, subscription); };
  term->streams[subscription] = {pipe, host, connection};
  f.note("{} registers at {} with {} tasks as {}, its number {}", f.hosts[host]->label(), f.net.name(node), r.tasks.size(), *id, r.number);
  turn();
}

void Master::stream_broke(std::uint64_t epoch, const AgentId& agent, const std::string& subscription) {
  if (!still(epoch) || term->streams.erase(subscription) == 0) return;
  term->cluster.stream_closed(agent, subscription, farm_.world.now());
  turn();
}

void Master::on_report(std::size_t host, std::uint64_t connection, const link::Report& r) {
  auto& f = farm_;
  auto answer = [&](bool good) {
    auto told = [&f, host, connection](bool as) -> Work { return [&f, host, connection, as] { f.hosts[host]->on_report_answer(connection, as); }; };
    f.net.answer(node, f.hosts[host]->node, told(good), told(false));
  };
  if (!term || !may_act()) return answer(false);
  if (f.has(Bug::status_acked_unprocessed) && !r.statuses.empty() && f.world.chance(0.2)) {
    if (auto at = term->streams.find(r.subscription); at != term->streams.end())
      for (const auto& s : r.statuses)
        f.net.send(at->second.pipe, [&f, host, connection, pipe = at->second.pipe, ack = link::Ack{term->term.epoch, s.task, s.uuid}] { f.hosts[host]->on_record(pipe, connection, ack); });
    return answer(true);
  }
  auto done = term->cluster.report(r, f.world.now());
  if (!done) f.probe(Probe::stale_report_refused);
  answer(done.has_value());
  turn();
}

/// The cluster's outbox goes into the agents' streams; those it wants cut are closed.
void Master::route_messages() {
  auto& f = farm_;
  for (auto& m : term->cluster.take_messages()) {
    auto at = term->streams.find(m.subscription);
    if (at == term->streams.end()) continue;
    if (!std::holds_alternative<link::Ack>(m.record)) f.judge.sends(*this);
    if (f.world.roll(wire_share) == 0) {
      auto read = link::decode_down(link::encode(m.record));
      if (!read) return f.fail("C12", "a record does not survive its wire form: " + read.error().context);
      m.record = std::move(*read);
    }
    auto record = std::make_shared<const link::Down>(std::move(m.record));
    f.net.send(at->second.pipe, [&f, s = at->second, record] { f.hosts[s.host]->on_record(s.pipe, s.connection, *record); });
  }
  for (const auto& cut : term->cluster.take_cuts()) {
    auto stream = term->streams.extract(cut.subscription);
    if (!stream) continue;
    if (cut.why.find("behind") != std::string::npos) f.probe(Probe::stream_behind);
    stream.mapped().pipe->broken_at_writer = nullptr;
    f.net.close(stream.mapped().pipe);
  }
}

// --- followers ---

void Master::on_follow(std::size_t balancer, std::uint64_t connection, std::optional<catalog::Index> after) {
  auto& f = farm_;
  Work refused = [&f, balancer, connection] { f.balancers[balancer]->on_refused(connection); };
  if (!term || !may_act()) return f.net.answer(node, f.balancers[balancer]->node, refused, refused);
  auto pipe = f.net.open(node, f.balancers[balancer]->node);
  pipe->broken_at_reader = [&f, balancer, connection] { f.balancers[balancer]->on_refused(connection); };
  term->follows.push_back({balancer, pipe, connection, after, Millis(0)});
  if (after && after->epoch == term->term.epoch) f.probe(Probe::catalog_delta_resumed);
  feed_followers();
}

void Master::feed_followers() {
  auto& f = farm_;
  auto now = f.world.elapsed();
  std::erase_if(term->follows, [](const Term::Follow& w) { return !w.pipe->open; });
  for (auto& w : term->follows) {
    auto lines = term->catalog.since(w.at);
    if (lines.empty()) {
      if (now < w.next_beat) continue;
      lines.push_back(std::make_shared<const std::string>(catalog::encode(catalog::Record(catalog::Heartbeat{term->catalog.index()}))));
    } else if (w.at && w.at->epoch == term->term.epoch && lines[0]->find("\"snapshot\"") != std::string::npos) {
      f.probe(Probe::catalog_snapshot_again);
    }
    w.at = term->catalog.index();
    w.next_beat = now + follower_beat;
    // One write: what a follower missed arrives together.
    f.net.send(w.pipe, [&f, to = w.balancer, pipe = w.pipe, connection = w.connection, lines] {
      for (const auto& line : lines) f.balancers[to]->on_line(pipe, connection, line);
    });
  }
}

void Master::on_confirm(const catalog::Confirmation& given, int hops) {
  auto& f = farm_;
  if (!term) {  // who does not lead passes it on
    if (hops == 0 && knows_leader_) f.net.post(node, known_leader_, [&f, to = known_leader_, given] { f.masters[to]->on_confirm(given, 1); });
    return;
  }
  if (!may_act()) return;
  auto c = given;
  if (c.applied.epoch != term->term.epoch) {
    f.probe(Probe::confirmation_of_old_epoch);
    if (f.has(Bug::old_confirmation_taken)) c.applied = term->catalog.index();
  }
  term->catalog.confirm(c, f.world.now());
  turn();
}

// --- users ---

void Master::answer(const OpPtr& op, Answer a) {
  static constexpr std::string_view words[] = {"done", "refused", "unavailable"};
  farm_.note("op {} {}: {}", op->id, op->what, words[static_cast<int>(a)]);
}

void Master::on_op(const OpPtr& op, int hops) {
  auto& f = farm_;
  if (!term) {
    if (hops == 0 && knows_leader_) f.net.post(node, known_leader_, [&f, to = known_leader_, op] { f.masters[to]->on_op(op, 1); }, {}, true);
    return;
  }
  if (!may_act()) return answer(op, Answer::unavailable);
  if (f.has(Bug::reservation_leaked) && f.world.chance(0.1)) {
    cluster::Shape looked_at;
    looked_at.resources = {100, 64'000, 0, 0};
    (void)term->cluster.place(looked_at, 1);
  }
  if (!op->kill.empty()) return kill_tasks(op);
  lock([this, op] { op->secret.empty() ? change(op) : change_secret(op); });
}

void Master::change(const OpPtr& op) {
  auto& f = farm_;
  auto now = f.world.now();
  auto epoch = term->term.epoch;
  auto give_up = [&](Answer a) {
    answer(op, a);
    unlock();
  };
  if (!may_act()) return give_up(Answer::unavailable);
  auto intent = op->make(term->core, now);
  if (!intent) return unlock();
  auto proposed = term->core.propose(*intent, now);
  if (!proposed) return give_up(Answer::refused);
  auto proposal = std::make_shared<orchestrator::Proposal>(std::move(*proposed));
  op->batch = proposal->batch;
  op->epoch = epoch;
  f.note("op {} {}: proposed", op->id, op->what);
  f.judge.proposed(op);
  if (f.has(Bug::ack_before_commit)) f.judge.acknowledged(op);
  bool force = intent->force, cancel = intent->cancel.has_value();
  commit(proposal->batch, [this, &f, op, proposal, epoch, force, cancel](bool good) {
    if (!good) {
      f.judge.refused(op);
      answer(op, Answer::unavailable);
      return unlock();
    }
    if (force && !cancel) f.probe(Probe::deployment_forced);
    if (cancel) f.probe(Probe::deployment_rolled_back);
    term->core.apply(*proposal, f.world.now());
    f.judge.acknowledged(op);
    answer(op, Answer::done);
    turn();
    if (still(epoch)) unlock();
  });
}

/// What stands in the records and what the agents are told of it.
void Master::tell_secret(const std::string& key) {
  auto path = key.substr(orchestrator::secrets_prefix.size() - 1);
  auto read = orchestrator::decode_secret(path, term->secrets.at(key), nullptr);
  if (!read) return farm_.fail("C12", key + " cannot be read back: " + read.error().context);
  term->cluster.set_secret(path, read->value);
}

void Master::change_secret(const OpPtr& op) {
  auto& f = farm_;
  auto epoch = term->term.epoch;
  if (!may_act()) return answer(op, Answer::unavailable), unlock();
  auto key = orchestrator::secret_key(op->secret);
  orchestrator::StoredSecret next{{1, {}}, f.world.now().wall, "users"};
  if (op->unless_there && term->secrets.contains(key)) return unlock();
  if (auto at = term->secrets.find(key); at != term->secrets.end()) next.value.version = orchestrator::describe_secret(at->second)->value.version + 1;
  next.value.value = fmt::format("{} of op {}", op->secret, op->id);
  op->batch.put[key] = orchestrator::encode_secret(op->secret, next, nullptr);
  op->epoch = epoch;
  f.note("op {} {}: proposed", op->id, op->what);
  f.judge.proposed(op);
  commit(op->batch, [this, &f, op, key, epoch](bool good) {
    if (!good) {
      f.judge.refused(op);
      answer(op, Answer::unavailable);
      return unlock();
    }
    term->secrets[key] = op->batch.put.at(key);
    tell_secret(key);
    f.judge.acknowledged(op);
    answer(op, Answer::done);
    turn();
    if (still(epoch)) unlock();
  });
}

/// A kill is acknowledged once its record is stored, or the next leader would not know of it.
void Master::kill_tasks(const OpPtr& op) {
  auto found = term->core.kill_tasks(op->kill, farm_.world.now());
  if (found.empty()) return answer(op, Answer::refused);
  op->kill = found;
  farm_.judge.proposed(op);
  term->when_stored.push_back([this, op] {
    farm_.judge.acknowledged(op);
    answer(op, Answer::done);
  });
  turn();
}

void Master::read_bus() {
  auto events = term->core.take_bus_events();
  if (!events.empty()) farm_.judge.on_bus(*this, events);
}

}  // namespace croft::sim
