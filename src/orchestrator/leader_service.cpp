#include "orchestrator/leader_service.hpp"

#include <algorithm>

#include "orchestrator/leader_impl.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace {

constexpr Millis tick_max{500};           // the longest time between two turns
constexpr Millis publish_every{5};
constexpr int turn_rounds_max = 16;       // decisions cause events, events cause decisions; they settle in two or three rounds
constexpr std::size_t commits_waiting_max = 1000;
constexpr Millis background_again{1000};
constexpr Millis again{500};              // between two attempts to take over
constexpr Millis unsafe_pause{50};        // until the lease is looked at again

/// Errors that the next attempt may not meet.
bool may_pass(Errc code) { return code == Errc::unavailable || code == Errc::timeout || code == Errc::not_leader || code == Errc::unknown_outcome; }

}  // namespace

LeaderService::Impl::Impl(asio::any_io_executor p, std::unique_ptr<coordination::Store> s, std::unique_ptr<coordination::Election> e, LeaderOptions o,
                          Metrics& metrics)
    : pool(p), strand(asio::make_strand(p)), store(std::move(s)), election(std::move(e)), options(std::move(o)), wake(strand),
      changes(metrics.counter("croft_leader_changes_total", "Changes of intent committed.")),
      terms(metrics.counter("croft_leader_terms_total", "How often this master took over.")),
      commit_seconds(metrics.histogram("croft_leader_commit_seconds", "Time of a commit to the store.")),
      strand_hold(metrics.histogram("croft_leader_strand_hold_seconds", "How long one piece of work held the leader's strand.")),
      strand_hold_max(metrics.gauge("croft_leader_strand_hold_max_seconds", "Longest hold of the leader's strand since the start.")),
      strand_cpu_max(metrics.gauge("croft_leader_strand_cpu_max_seconds", "Most CPU time that one piece of work spent on the leader's strand since the start.")) {}

asio::awaitable<Status> LeaderService::Impl::take_over() {
  auto elected = co_await election->campaign();
  if (!elected) co_return elected;
  auto taken = co_await store->take_over();
  if (!taken) co_return fail(std::move(taken).error());
  auto stored = co_await store->load("");
  if (!stored) co_return fail(std::move(stored).error());
  auto now = system_now();
  term = std::make_unique<LeaderTerm>(*taken, options);
  head = taken->head;
  if (auto loaded = term->core.load(*stored, now); !loaded) {
    term.reset();
    co_return fail(Error(loaded.error()).within("loading the intent"));
  }
  auto kept = load_records(*stored);
  if (kept) kept = co_await seed_records();
  if (!kept || stopping) {
    term.reset();
    co_return kept ? Status(fail(Errc::unavailable, "this master is told to stop")) : kept;
  }
  std::vector<catalog::Master> masters{{options.hostname, options.ip, options.mesos_port, true}};
  for (const auto& other : options.other_masters) masters.push_back({other.hostname, other.ip, options.mesos_port, false});
  term->catalog.set_masters(std::move(masters));
  building = View{};
  building.cluster_id = taken->cluster_id;
  building.hostname = options.hostname;
  building.ip = options.ip;
  building.version = options.version;
  building.leader = fmt::format("{}:{}", options.hostname, options.marathon_port);
  building.epoch = taken->epoch;
  building.elected = now.wall;
  building.started = started;
  for (const auto& [id, app] : term->core.apps()) building.apps.set(id, std::make_shared<AppView>(term->core.view(id, now)));
  view_dirty = true;
  leads = true;
  publish_records();
  terms.add();
  log::info("leader", "epoch={} commit={} apps={} leading", taken->epoch, taken->head, term->core.apps().size());
  turn(now);
  co_return Status{};
}

asio::awaitable<void> LeaderService::Impl::lead() {
  auto self = shared_from_this();
  auto put_out = [this] { return options.may_lead && !options.may_lead(); };
  while (!stopping) {
    if (put_out()) {
      co_await net::sleep_for(again);
      continue;
    }
    auto taken = co_await take_over();
    if (stopping) break;
    if (taken && put_out()) {  // only the store has told it so: the hosts do not talk to it any more
      log::error("leader", "this host's certificate is revoked: it does not lead");
      step_down();
      co_await election->resign();
      continue;
    }
    if (!taken && !may_pass(taken.error().code)) {
      if (failed) failed(taken.error());
      co_return;
    }
    if (!taken) {
      log::warn("leader", "could not take over, again soon: {}", taken.error().context);
      co_await election->resign();
      co_await net::sleep_for(again);
      continue;
    }
    auto timers = timer_loop(term->term.epoch);
    net::spawn(strand, "leader timers", std::move(timers), self);
    co_await election->lost();
    step_down();
  }
}

/// Everything of the term goes: what runs is reported to the next leader, what was acknowledged is in the store. Streams end, so that agents and followers
/// look for it. Changes whose commit is under way find the term gone and say so.
void LeaderService::Impl::step_down() {
  leads = false;
  wake.cancel();
  if (!term) return;
  log::warn("leader", "epoch={} no longer leading", term->term.epoch);
  for (auto& [subscription, stream] : term->streams) {
    std::lock_guard guard(stream->mutex);
    stream->closed = true;
    stream->signal->notify();
  }
  term.reset();
  exec_board.clear();
  exec_signal->notify();
  publish_records();
  background = {};
  background_after = {};
  changed_apps.clear();
  changed_tasks.clear();
  changed_agents.clear();
  catalog_at = {};
  catalog_signal->notify();
  bus_signal->notify();
}

asio::awaitable<void> LeaderService::Impl::timer_loop(std::uint64_t epoch) {
  auto self = shared_from_this();
  while (!stopping && in_term(epoch)) {
    wake.expires_at(std::min(wake.expiry(), std::chrono::steady_clock::now() + tick_max));
    boost::system::error_code ec;
    co_await wake.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (stopping || !in_term(epoch)) break;
    HoldClock begun;
    auto now = system_now();
    wake.expires_at(now.mono + tick_max);
    if (safe(now)) {  // who cannot be sure to lead gives nobody up
      term->cluster.tick(now);
      term->catalog.tick(now);
    }
    turn(now);
    held_since(begun);
  }
}

void LeaderService::Impl::turn(Now now) {
  Mono next = now.mono + tick_max;
  auto before = catalog_at;
  for (int round = 0; round < turn_rounds_max; ++round) {
    auto events = term->cluster.take_events();
    if (!events.empty()) {
      note(events);
      term->core.on_events(events, now);
    } else if (round > 0) {
      break;
    }
    if (safe(now)) next = std::min(next, term->core.tick(now));
  }
  catalog_at = term->catalog.flush();
  if (catalog_at != before) catalog_signal->notify();
  if (safe(now)) route_messages();
  else next = std::min(next, now.mono + unsafe_pause);
  collect_bus_events();
  auto progress = term->core.take_background_batch();
  if (!progress.empty()) {
    for (auto& key : progress.remove) {
      background.put.erase(key);
      background.remove.push_back(std::move(key));
    }
    for (auto& [key, value] : progress.put) {
      std::erase(background.remove, key);
      background.put[key] = std::move(value);
    }
  }
  if (!background.empty() && !committing && now.mono >= background_after) net::spawn(strand, "background commit", commit_background(), shared_from_this());
  auto apps = term->core.take_changed_apps();
  view_dirty = view_dirty || !apps.empty();
  changed_apps.merge(apps);
  if (view_dirty && now.mono - published_at >= publish_every) publish(now);
  else if (view_dirty) next = std::min(next, published_at + publish_every);
  if (next < wake.expiry()) wake.expires_at(next);  // cancels the wait; the timer loop starts it anew
}

asio::awaitable<void> LeaderService::Impl::lock() {
  while (committing) {
    auto mine = std::make_shared<asio::steady_timer>(strand, std::chrono::steady_clock::time_point::max());
    commit_waiters.push_back(mine);
    boost::system::error_code ec;
    co_await mine->async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
  committing = true;
}

void LeaderService::Impl::unlock() {
  committing = false;
  if (commit_waiters.empty()) return;
  commit_waiters.front()->cancel();
  commit_waiters.pop_front();
}

/// Commits, and where the store does not know whether it did, reads the head back before anything else is answered.
asio::awaitable<Result<std::uint64_t>> LeaderService::Impl::commit(coordination::Batch batch) {
  auto begun = std::chrono::steady_clock::now();
  auto epoch = term->term.epoch;
  auto expected = head + 1;
  auto number = co_await store->commit(std::move(batch));
  if (!number && number.error().code == Errc::unknown_outcome) {
    auto read = co_await store->read_head();
    if (!read) number = fail(read.error().code == Errc::not_leader ? Errc::not_leader : Errc::unavailable, "the store does not answer: {}", Error(read.error()).context);
    else if (*read == expected) number = *read;
    else number = fail(Errc::unavailable, "the change was not stored: {}", Error(number.error()).context);
  }
  commit_seconds.observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  if (!in_term(epoch)) co_return fail(Errc::unavailable, "this master lost its leadership while the change was stored; read it again before it is repeated");
  if (number) {
    head = *number;
    term->cluster.committed(head);
    term->catalog.committed(head);
  } else if (number.error().code == Errc::not_leader) {
    log::error("leader", "fenced by another epoch: {}", number.error().context);
    leads = false;
    auto leaving = election->resign();
    net::spawn(strand, "resign", std::move(leaving), shared_from_this());
  }
  co_return number;
}

asio::awaitable<void> LeaderService::Impl::commit_background() {
  auto self = shared_from_this();
  co_await lock();
  auto batch = std::exchange(background, {});
  if (!batch.empty() && leads && term) {
    auto again = batch;
    auto epoch = term->term.epoch;
    auto number = co_await commit(std::move(batch));
    if (!number && in_term(epoch)) {
      log::warn("leader", "progress could not be stored, again in a second: {}", number.error().context);
      background_after = system_now().mono + background_again;
      for (auto& [key, value] : again.put)
        if (std::find(background.remove.begin(), background.remove.end(), key) == background.remove.end()) background.put.try_emplace(key, std::move(value));
      for (auto& key : again.remove)
        if (!background.put.contains(key)) background.remove.push_back(std::move(key));
    }
  }
  unlock();
}

std::expected<LeaderService::Impl::Decided, Refusal> LeaderService::Impl::decide(const Make& make, Now now) {
  auto intent = make(term->core, now);
  if (!intent && (!intent.error().attempt || !intent.error().attempt->intent.caller)) return std::unexpected(std::move(intent).error());
  const auto& asked = intent ? *intent : intent.error().attempt->intent;
  auto note = [&](AuditRecord told, const std::string& reason) {
    told.done = false;
    told.reason = reason;
    note_on_strand(std::move(told));
  };
  // Before what policy says: who may not change an app does not hear what else would be wrong with it.
  if (auto allowed = check_rights(asked); !allowed) {
    auto told = record_of(asked, now);
    // The log has the whole reason; its caller does not hear the names of apps that he may not see.
    bool unseen = std::ranges::any_of(told.paths, [&](const auto& app) { return !secure::sees(asked.caller, app); });
    note(std::move(told), allowed.error().context);
    return std::unexpected(Refusal{unseen ? Error{Errc::forbidden, "it concerns apps that are none of yours"} : std::move(allowed).error(), {}, {}, true});
  }
  if (!intent) return note(record_of(asked, now), intent.error().attempt->reason), std::unexpected(std::move(intent).error());
  if (auto there = check_secrets(*intent); !there) return std::unexpected(Refusal{std::move(there).error(), {}});
  auto proposal = term->core.propose(*intent, now);
  if (!proposal) return std::unexpected(std::move(proposal).error());
  return Decided{std::move(*intent), std::move(*proposal)};
}

asio::awaitable<std::expected<Accepted, Refusal>> LeaderService::Impl::change_on_strand(Make make) {
  auto self = shared_from_this();
  using Answer = std::expected<Accepted, Refusal>;
  auto refuse = [](Errc code, std::string text) -> Answer { return std::unexpected(Refusal{{code, std::move(text)}, {}}); };
  if (!leads || !term) co_return refuse(Errc::unavailable, "this master does not lead yet");
  if (commit_waiters.size() >= commits_waiting_max) co_return refuse(Errc::unavailable, "too many changes are waiting");
  co_await lock();
  if (!leads || !term) {
    unlock();
    co_return refuse(Errc::unavailable, "this master no longer leads");
  }
  auto now = system_now();
  HoldClock begun;
  auto decided = decide(make, now);
  if (!decided) {
    unlock();
    co_return std::unexpected(std::move(decided).error());
  }
  auto& proposal = decided->proposal;
  auto audit = audit_of(decided->intent, now);
  if (audit) term->audit.put(*audit, proposal.batch);
  held_since(begun);
  auto epoch = term->term.epoch;
  auto number = co_await commit(proposal.batch);
  if (number && !in_term(epoch)) number = fail(Errc::unavailable, "this master no longer leads");
  if (!number) {
    unlock();
    co_return std::unexpected(Refusal{std::move(number).error(), {}});
  }
  now = system_now();
  begun = HoldClock();
  if (audit) keep_audit(std::move(*audit));
  term->core.apply(proposal, now);
  changes.add();
  turn(now);
  publish(now);
  held_since(begun);
  unlock();
  co_return Accepted{proposal.version, proposal.deployment, published};
}

// --- the public face ---

std::shared_ptr<LeaderService> LeaderService::make(asio::any_io_executor pool, std::unique_ptr<coordination::Store> store,
                                                   std::unique_ptr<coordination::Election> election, LeaderOptions options, Metrics& metrics) {
  std::shared_ptr<LeaderService> made(new LeaderService);
  made->impl_ = std::make_shared<Impl>(std::move(pool), std::move(store), std::move(election), std::move(options), metrics);
  return made;
}

LeaderService::~LeaderService() = default;

void LeaderService::start(std::function<void(Error)> failed) {
  impl_->failed = std::move(failed);
  net::spawn(impl_->strand, "leader", impl_->lead(), impl_);
}

asio::awaitable<void> LeaderService::stop() {
  auto impl = impl_;
  impl->stopping = true;
  auto end = [impl] {
    impl->wake.cancel();
    impl->leads = false;
    impl->records_signal->notify();
    impl->exec_signal->notify();
    if (!impl->term) return;
    for (auto& [subscription, stream] : impl->term->streams) {
      std::lock_guard lock(stream->mutex);
      stream->closed = true;
      stream->signal->notify();
    }
  };
  co_await impl->on_strand(end);
  co_await impl->election->resign();
}

bool LeaderService::leading() const { return impl_->leads; }

asio::awaitable<std::expected<Accepted, Refusal>> LeaderService::change(Make make) {
  auto impl = impl_;
  auto job = impl->change_on_strand(std::move(make));
  co_return co_await asio::co_spawn(impl->strand, std::move(job), asio::use_awaitable);
}

asio::awaitable<std::expected<std::vector<Step>, Refusal>> LeaderService::rehearse(Make make) {
  auto impl = impl_;
  auto work = [impl, make = std::move(make)]() -> std::expected<std::vector<Step>, Refusal> {
    if (!impl->leads || !impl->term) return std::unexpected(Refusal{{Errc::unavailable, "this master does not lead yet"}, {}});
    auto decided = impl->decide(make, system_now());
    if (!decided) return std::unexpected(std::move(decided).error());
    return std::move(decided->proposal.steps);
  };
  co_return co_await impl->on_strand(std::move(work));
}

asio::awaitable<Result<std::vector<cluster::Task>>> LeaderService::kill_tasks(std::vector<TaskId> tasks) {
  auto impl = impl_;
  struct Killed { std::optional<Error> error; std::vector<cluster::Task> tasks; std::vector<std::string> records; std::uint64_t epoch = 0; };
  auto work = [impl, tasks = std::move(tasks)] {
    Killed killed;
    auto now = system_now();
    if (!impl->leads || !impl->term) return killed.error = Error{Errc::unavailable, "this master does not lead"}, killed;
    // Nobody would carry it out, and nobody would know of it later.
    if (!impl->safe(now)) return killed.error = Error{Errc::unavailable, "this master is not sure to lead just now, and changes nothing"}, killed;
    killed.epoch = impl->term->term.epoch;
    for (const auto& id : impl->term->core.kill_tasks(tasks, now))
      if (const auto* task = impl->term->cluster.task(id)) killed.tasks.push_back(*task), killed.records.push_back("kills/" + id.str());
    impl->turn(now);
    return killed;
  };
  auto killed = co_await impl->on_strand(std::move(work));
  if (killed.error) co_return std::unexpected(std::move(*killed.error));
  // Stored before it is answered; one that cannot be is carried out all the same where this master's word still counts, but nobody is told that it will be.
  auto job = impl->commit_background();
  co_await asio::co_spawn(impl->strand, std::move(job), asio::use_awaitable);
  auto look = [impl, &killed]() -> Status {
    if (!impl->in_term(killed.epoch)) return fail(Errc::unavailable, "this master lost its leadership while the kill was stored; look at the tasks before it is repeated");
    bool waits = std::ranges::any_of(killed.records, [&](const auto& key) { return impl->background.put.contains(key); });
    if (waits) return fail(Errc::unavailable, "the kill is not stored yet: the store does not answer");
    return {};
  };
  auto stored = co_await impl->on_strand(look);
  if (!stored) co_return std::unexpected(std::move(stored).error());
  co_return std::move(killed.tasks);
}

asio::awaitable<bool> LeaderService::reset_delay(AppId app) {
  auto impl = impl_;
  auto work = [impl, app = std::move(app)] {
    if (!impl->term || !impl->term->core.app(app)) return false;
    auto now = system_now();
    auto queued = impl->term->core.view(app, now).queue.has_value();
    impl->term->core.reset_delay(app);
    impl->turn(now);
    return queued;
  };
  co_return co_await impl->on_strand(std::move(work));
}

asio::awaitable<std::vector<std::string>> LeaderService::explain(AppId app) {
  auto impl = impl_;
  auto work = [impl, app = std::move(app)] {
    return impl->term ? impl->term->core.explain(app, system_now()) : std::vector<std::string>{"This master does not lead yet."};
  };
  co_return co_await impl->on_strand(std::move(work));
}

asio::awaitable<void> LeaderService::read(std::function<void(const Orchestrator&, Now)> reader) {
  auto impl = impl_;
  auto work = [impl, reader = std::move(reader)] {
    if (impl->term) reader(impl->term->core, system_now());
  };
  co_await impl->on_strand(std::move(work));
}

}  // namespace croft::orchestrator
