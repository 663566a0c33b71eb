// The agent's process: its link. What it does with tasks is in host_tasks.cpp.

#include "model/link_json.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr Millis pause_first{20}, pause_max{2000}, answer_patience{3000}, silence_max{4500};

}  // namespace

std::string Host::label() const { return farm_.net.name(node); }

link::AgentInfo Host::info() const {
  link::AgentInfo i;
  i.hostname = farm_.net.name(node);
  i.ip = fmt::format("10.0.0.{}", index + 1);
  i.total = {4000, 4'000'000, 0, 0};
  i.ports = PortSet({{31000, 31100}});
  i.boot_id = fmt::format("boot-{}-{}", index, boot);
  return i;
}

// --- life ---

void Host::boot_agent() {
  farm_.net.start(node);
  ++lives_;
  runs_.clear();
  waiting_.clear();
  booted_ = farm_.world.elapsed();
  posting_ = false;
  pause_ = pause_first;
  ++page.membership.lives;
  sync_membership();
  recover();
  farm_.note("{} agent up, {} records", label(), page.runs.size());
  farm_.net.after(node, farm_.world.between(5, 40), [this] { connect(); });
}

void Host::kill_agent() {
  farm_.net.stop(node);
  if (stream) stream->broken_at_reader = nullptr, farm_.net.close(stream);
  stream.reset();
  core.reset();
  ++connection;
}

void Host::power_off(bool wipe_disk) {
  if (stream) stream->open = false;  // nobody is told
  kill_agent();
  ++boot;
  for (const auto& [id, proc] : procs) farm_.judge.task_died(id, proc.spec.app, false);
  procs.clear();
  if (page.exits.size() != stable.exits.size() || !(page.membership == stable.membership)) farm_.probe(Probe::unsynced_lost);
  page = stable;
  if (!wipe_disk) return;
  farm_.probe(Probe::disk_lost);
  page = stable = Disk();
  epoch_obeyed = commit_obeyed = 0;
  cluster_obeyed.clear();
}

// --- the link ---

void Host::connect() {
  auto& f = farm_;
  auto mine = ++connection;
  heard_ = f.world.elapsed();
  auto r = core->registration(info());
  if (f.has(Bug::held_not_listed)) std::erase_if(r.tasks, [](const link::HeldTask& t) { return t.status.state == TaskState::staging; });
  if (f.has(Bug::drain_not_listed))
    for (auto& t : r.tasks) t.goal = link::Goal::run;
  if (f.has(Bug::epoch_forgotten)) r.epoch_seen = 0;
  if (f.has(Bug::old_store_accepted)) r.epoch_seen = r.commit_seen = 0, r.cluster_id.clear();
  auto to = master;
  f.net.post(node, f.masters[to]->node, [&f, to, mine, host = index, r = std::move(r)] { f.masters[to]->on_register(host, mine, r); }, [this, mine] { on_refused(mine, "no connection"); });
  f.net.after(node, answer_patience, [this, mine] {
    if (!stream) on_refused(mine, "no answer");
  });
}

void Host::on_refused(std::uint64_t of, const std::string& why) {
  if (of != connection || !core) return;
  (void)why;
  leave_stream(Millis(0));
}

/// The stream is over, or never came: the next master is asked; after all of them, after a pause with jitter.
void Host::leave_stream(Millis at_least) {
  bool had = stream != nullptr;
  if (had) farm_.note("{} has no stream any more", label());
  core->disconnected();
  if (stream) stream->broken_at_reader = nullptr, farm_.net.close(stream);
  stream.reset();
  posting_ = false;
  auto mine = ++connection;
  master = (master + 1) % farm_.masters.size();
  asked_ = had ? 0 : asked_ + 1;
  bool round = had || asked_ % farm_.masters.size() == 0;
  if (round) pause_ = had ? pause_first : std::min(pause_ * 2, pause_max);
  auto pause = std::max(at_least, round ? pause_ / 2 + farm_.world.between(0, pause_.count() / 2) : Millis(1));
  farm_.net.after(node, pause, [this, mine] {
    if (mine == connection) connect();
  });
}

void Host::on_record(const PipePtr& pipe, std::uint64_t of, const link::Down& record) {
  auto& f = farm_;
  if (!core || of != connection || (stream && stream != pipe)) return f.net.close(pipe);
  if (!stream) {
    stream = pipe;
    auto watch = std::make_shared<Work>();
    std::weak_ptr<Work> again = watch;
    *watch = [this, of, again] {
      if (of != connection) return;
      auto left = heard_ + silence_max - farm_.world.elapsed();
      if (left.count() <= 0) return leave_stream(Millis(0));
      if (auto w = again.lock()) farm_.net.after(node, left, [w] { (*w)(); });
    };
    f.net.after(node, silence_max, [watch] { (*watch)(); });
  }
  heard_ = f.world.elapsed();
  auto decisions = core->on_down(record, f.world.now());
  if (!decisions && (f.has(Bug::epoch_forgotten) || f.has(Bug::old_store_accepted)) && std::holds_alternative<link::Welcome>(record)) {
    auto membership = core->membership();  // as if the core did not look
    membership.epoch = 0;
    if (f.has(Bug::old_store_accepted)) membership.commit = 0, membership.cluster_id.clear();
    agent::AgentCore careless(membership, agent::AgentCore::Options{.resend_first = Millis(1000), .resend_max = Millis(60'000), .seed = f.world.roll(1'000'000) + 1});
    for (const auto* held : core->tasks()) careless.adopt(*held);
    core = std::move(careless);
    decisions = core->on_down(record, f.world.now());
  }
  if (!decisions) {
    const auto& why = decisions.error().context;
    f.note("{} leaves its stream: {}", label(), why);
    f.probe(Probe::stream_gap);
    return leave_stream(Millis(0));
  }
  auto epoch = std::visit([](const auto& r) { return r.epoch; }, record);
  if (const auto* w = std::get_if<link::Welcome>(&record)) f.judge.obeys(*this, w->epoch, w->commit, w->cluster_id);
  if (const auto* h = std::get_if<link::Heartbeat>(&record)) commit_obeyed = std::max(commit_obeyed, h->commit);
  carry_out(*decisions, epoch);
}

void Host::carry_out(const agent::Decisions& d, std::uint64_t epoch) {
  if (d.persist) {
    page.membership = core->membership();
    if (!farm_.has(Bug::epoch_not_synced)) sync_membership();
  }
  if (!d.start.empty() || !d.goals.empty()) farm_.judge.acts_on(*this, epoch, d.start.empty() ? d.goals[0].first.str() : d.start[0].id.str());
  for (const auto& spec : d.start) {
    farm_.note("{} is to run {}", label(), spec.id);
    launch(spec.id);
  }
  for (const auto& [id, goal] : d.goals) set_goal(id, goal);
  for (const auto& id : d.forget) {
    page.runs.erase(id);
    page.exits.erase(id);
    runs_.erase(id);
    sync_run(id);
  }
  if (!d.secrets.empty()) follow_secrets(d.secrets);
  if (d.report) kick();
}

// --- reports ---

void Host::kick() {
  if (posting_ || !core || !stream) return;
  report_loop();
}

void Host::report_loop() {
  auto& f = farm_;
  auto now = f.world.now();
  auto r = core->next_report(now);
  auto timer = ++report_timer_;
  if (!r) {
    auto wait = std::clamp(std::chrono::ceil<Millis>(core->next_due(now) - now.mono), Millis(1), Millis(1000));
    f.net.after(node, wait, [this, timer] {
      if (timer == report_timer_) kick();
    });
    return;
  }
  if (f.world.roll(16) == 0) {
    auto read = link::decode_report(link::encode(*r));
    if (!read) return f.fail("C12", "a report does not survive its wire form: " + read.error().context);
    r = std::move(*read);
  }
  posting_ = true;
  auto mine = connection;
  auto to = master;
  f.net.post(node, f.masters[to]->node, [&f, to, mine, host = index, r = std::move(*r)] { f.masters[to]->on_report(host, mine, r); }, [this, mine] { on_report_answer(mine, false); });
  f.net.after(node, answer_patience, [this, mine, timer] {
    if (posting_ && timer == report_timer_) on_report_answer(mine, false);
  });
}

void Host::on_report_answer(std::uint64_t of, bool good) {
  if (of != connection || !core || !posting_) return;
  posting_ = false;
  if (!good) return leave_stream(Millis(50));  // registers anew: everything unacknowledged is told again
  report_loop();
}

}  // namespace croft::sim
