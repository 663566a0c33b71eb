// The leader's records that are none of the orchestrator's, and the audit log.

#include <boost/asio/post.hpp>

#include <algorithm>

#include "orchestrator/changes.hpp"
#include "orchestrator/leader_impl.hpp"
#include "orchestrator/secrets.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace {

constexpr std::string_view kept_prefixes[] = {"users/", "tokens/", "trust/", "hosts/", "joins/", "revoked/", secrets_prefix};
/// Somebody who tries what he may not must not fill the store.
constexpr std::size_t refusals_a_minute = 20, refused_a_minute = 100;  // of one, and how many ones

bool is_kept(std::string_view key) {
  return std::any_of(std::begin(kept_prefixes), std::end(kept_prefixes), [&](auto prefix) { return key.starts_with(prefix); });
}

std::shared_ptr<const Records> records_after(const Records& before, const coordination::Batch& batch) {
  auto out = std::make_shared<Records>(before);
  for (const auto& key : batch.remove) out->erase(key);
  for (const auto& [key, value] : batch.put)
    if (is_kept(key)) (*out)[key] = value;
  return out;
}

}  // namespace

Status LeaderService::Impl::load_records(const std::map<std::string, std::string>& stored) {
  auto kept = std::make_shared<Records>();
  for (const auto& [key, value] : stored) {
    if (is_kept(key)) kept->emplace(key, value);
    if (!key.starts_with(AuditLog::prefix)) continue;
    if (auto ok = term->audit.load(key, value); !ok) return ok;
  }
  term->records = std::move(kept);
  for (const auto& [key, value] : *term->records)
    if (key.starts_with(secrets_prefix)) tell_secret(key);
  return {};
}

/// One that cannot be read is none: its tasks say so when they start, and everything else goes on.
void LeaderService::Impl::tell_secret(const std::string& key) {
  auto path = key.substr(secrets_prefix.size() - 1);
  auto at = term->records->find(key);
  SecretValue value;
  if (at != term->records->end()) {
    auto read = decode_secret(path, at->second, options.keys.get());
    if (read) value = std::move(read->value);
    else log::error("leader", "secret {}: {}", path, read.error().context);
  }
  term->cluster.set_secret(path, std::move(value));
}

Status LeaderService::Impl::check_unused(const std::string& path) const {
  auto used = [&](std::string_view by) -> Status { return fail(Errc::conflict, "secret {} is used by {}", path, by); };
  for (const auto& [id, app] : term->core.apps())
    if (uses_secret(app, path)) return used("an app");
  for (const auto& [id, d] : term->core.deployments())
    for (const auto* side : {&d->original, &d->target})
      for (const auto& [app, definition] : *side)
        if (definition && uses_secret(*definition, path)) return used("a deployment under way, which may be rolled back");
  for (const auto* task : term->cluster.tasks())
    if (!is_terminal(task->status.state) && std::any_of(task->spec.secrets.begin(), task->spec.secrets.end(), [&](const SecretUse& u) { return u.secret == path; })) return used("a task that runs");
  return {};
}

Status LeaderService::Impl::check_secrets(const Intent& intent) const {
  for (const auto& [id, app] : intent.apps) {
    if (!app) continue;
    const auto* present = term->core.app(id);
    for (const auto& [name, source] : app->secrets)
      if (auto path = secret_path(source); !(present && uses_secret(*present, path)) && !term->records->contains(secret_key(path)))
        return fail(Errc::invalid, "app {}: secrets/{}/source: there is no secret {}; it is made by: croft secret set {}", id, name, path, path);
  }
  return {};
}

asio::awaitable<Status> LeaderService::Impl::seed_records() {
  if (!options.seed) co_return Status{};
  auto batch = options.seed(*term->records);
  if (!batch) co_return fail(std::move(batch).error());
  if (batch->empty()) co_return Status{};
  auto number = co_await store->commit(*batch);
  if (!number) co_return fail(std::move(number).error());
  head = *number;
  term->cluster.committed(head);
  term->records = records_after(*term->records, *batch);
  co_return Status{};
}

/// Those of the term, or none outside of one.
void LeaderService::Impl::publish_records() {
  auto now = term ? term->records : nullptr;
  {
    std::lock_guard guard(view_mutex);
    records = now;
    ++records_turn;
  }
  records_signal->notify();
  if (now && options.records_changed) options.records_changed(now);
}

asio::awaitable<std::expected<void, Refusal>> LeaderService::Impl::change_records_on_strand(RecordKeeper::MakeRecords make, AuditRecord audit) {
  auto self = shared_from_this();
  auto refuse = [](Errc code, std::string text) { return std::unexpected(Refusal{{code, std::move(text)}, {}}); };
  if (!leads || !term) co_return refuse(Errc::unavailable, "this master does not lead yet");
  co_await lock();
  if (!leads || !term) {
    unlock();
    co_return refuse(Errc::unavailable, "this master no longer leads");
  }
  auto now = system_now();
  auto batch = make(*term->records, now);
  if (!batch || batch->empty()) {
    unlock();
    if (!batch) co_return std::unexpected(std::move(batch).error());
    co_return std::expected<void, Refusal>{};
  }
  for (const auto& key : batch->remove) {
    if (!key.starts_with(secrets_prefix)) continue;
    if (auto ok = check_unused(key.substr(secrets_prefix.size() - 1)); !ok) {
      unlock();
      co_return std::unexpected(Refusal{std::move(ok).error(), {}});
    }
  }
  auto next = records_after(*term->records, *batch);
  audit.when = now.wall;
  audit = term->audit.entry(std::move(audit));
  term->audit.put(audit, *batch);
  std::set<std::string> secrets;
  for (const auto& [key, value] : batch->put) secrets.insert(key);
  secrets.insert(batch->remove.begin(), batch->remove.end());
  std::erase_if(secrets, [](const std::string& key) { return !key.starts_with(secrets_prefix); });
  auto epoch = term->term.epoch;
  auto number = co_await commit(std::move(*batch));
  if (number && !in_term(epoch)) number = fail(Errc::unavailable, "this master no longer leads");
  if (number) {
    term->records = std::move(next);
    keep_audit(std::move(audit));
    publish_records();
    for (const auto& key : secrets) tell_secret(key);
    if (!secrets.empty()) turn(system_now());
  }
  unlock();
  if (!number) co_return std::unexpected(Refusal{std::move(number).error(), {}});
  co_return std::expected<void, Refusal>{};
}

Status LeaderService::Impl::check_rights(const Intent& intent) const {
  if (!intent.caller) return {};
  auto check = [&](secure::Verb verb, secure::Target what) -> Status {
    auto decision = secure::may(intent.caller, verb, what);
    return decision.allowed ? Status{} : fail(Errc::forbidden, "{}", decision.reason);
  };
  std::set<AppId> apps = intent.restart;
  for (const auto& [app, definition] : intent.apps) apps.insert(app);
  for (const auto& [app, tasks] : intent.victims) apps.insert(app);
  for (const auto& [app, rule] : intent.rules) apps.insert(app);
  if (intent.cancel)
    if (auto at = term->core.deployments().find(*intent.cancel); at != term->core.deployments().end())
      for (const auto& [app, target] : at->second->target) apps.insert(app);
  // What names nothing changes nothing, and is stored all the same: not for those who may change nothing.
  if (apps.empty() && intent.nodes.empty() && !intent.cancel) {
    const auto& grants = intent.caller->who.grants;
    if (std::none_of(grants.begin(), grants.end(), [](const secure::Grant& g) { return g.level >= secure::Level::operator_; })) return check(secure::Verb::change, {secure::Kind::app, "/"});
  }
  for (const auto& app : apps)
    if (auto ok = check(secure::Verb::change, {secure::Kind::app, app.str()}); !ok) return ok;
  if (!intent.nodes.empty()) return check(secure::Verb::administer, {secure::Kind::farm, {}});
  return {};
}

AuditRecord LeaderService::Impl::record_of(const Intent& intent, Now now) const {
  AuditRecord r{0, now.wall, intent.caller->who.str(), intent.caller->source, intent.what, {}};
  for (const auto& [app, definition] : intent.apps) r.paths.push_back(app.str());
  for (const auto& app : intent.restart) r.paths.push_back(app.str());
  for (const auto& [app, rule] : intent.rules) r.paths.push_back(app.str());
  if (intent.cancel)
    if (auto at = term->core.deployments().find(*intent.cancel); at != term->core.deployments().end())
      for (const auto& [app, target] : at->second->target) r.paths.push_back(app.str());
  std::sort(r.paths.begin(), r.paths.end());
  r.paths.erase(std::unique(r.paths.begin(), r.paths.end()), r.paths.end());
  return r;
}

std::optional<AuditRecord> LeaderService::Impl::audit_of(const Intent& intent, Now now) {
  if (!intent.caller) return std::nullopt;
  auto record = record_of(intent, now);
  record.changes = changes_of(intent, term->core);  // of what is done only: refusals can be as many as somebody likes
  return term->audit.entry(std::move(record));
}

/// Into this process's own log too, which nobody who changes the farm can wash anything out of.
void LeaderService::Impl::keep_audit(AuditRecord record) {
  log::info("audit", "{}", encode_audit(record));
  term->audit.keep(std::move(record));
}

void LeaderService::Impl::note_on_strand(AuditRecord record) {
  if (!leads || !term) return;
  auto now = system_now();
  if (!record.done) {
    if (now.mono - refusals_since >= std::chrono::minutes(1)) refusals_since = now.mono, refusals_noted.clear();
    auto account = secure::account_of(record.who);
    if (refusals_noted.size() >= refused_a_minute && !refusals_noted.contains(account)) return;
    auto& noted = refusals_noted[account];  // each has his own: one who is loud hides nobody
    if (++noted > refusals_a_minute) return;
    if (noted == refusals_a_minute) record.reason += "; further refusals of this minute are left out";
  }
  record.when = now.wall;
  record = term->audit.entry(std::move(record));
  coordination::Batch batch;
  term->audit.put(record, batch);
  keep_audit(std::move(record));
  for (auto& [key, value] : batch.put) background.put[key] = std::move(value);
  for (auto& key : batch.remove) background.remove.push_back(std::move(key));
  if (!committing && now.mono >= background_after) net::spawn(strand, "background commit", commit_background(), shared_from_this());
}

// --- the public face ---

void LeaderService::note(AuditRecord record) {
  auto impl = impl_;
  asio::post(impl->strand, [impl, record = std::move(record)]() mutable { impl->note_on_strand(std::move(record)); });
}

RecordKeeper::Seen LeaderService::records() const {
  std::lock_guard guard(impl_->view_mutex);
  if (impl_->stopping) return {nullptr, impl_->records_turn};  // who waits for news of them must not wait for these
  return {impl_->records, impl_->records_turn};
}

asio::awaitable<RecordKeeper::Seen> LeaderService::records_changed(std::uint64_t seen, Millis limit) {
  auto impl = impl_;
  auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    auto ticket = impl->records_signal->ticket();
    auto now = records();
    auto left = std::chrono::ceil<Millis>(end - std::chrono::steady_clock::now());
    if (now.turn != seen || left.count() <= 0 || !now.records) co_return now;
    (void)co_await impl->records_signal->wait(ticket, left);
  }
}

asio::awaitable<std::expected<void, Refusal>> LeaderService::change_records(MakeRecords make, AuditRecord audit) {
  auto impl = impl_;
  auto job = impl->change_records_on_strand(std::move(make), std::move(audit));
  co_return co_await asio::co_spawn(impl->strand, std::move(job), asio::use_awaitable);
}

asio::awaitable<std::optional<AuditPage>> LeaderService::audit(std::uint64_t after, std::size_t limit, bool last, std::function<bool(const AuditRecord&)> shows) {
  auto impl = impl_;
  auto work = [impl, after, limit, last, shows = std::move(shows)]() -> std::optional<AuditPage> {
    if (!impl->term) return std::nullopt;
    return impl->term->audit.page(after, limit, last, shows);
  };
  co_return co_await impl->on_strand(std::move(work));
}

}  // namespace croft::orchestrator
