// What a caller of the Marathon face gets to see and may ask for, beyond what the gate judged by the path alone.

#include <algorithm>

#include "orchestrator/marathon_face.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace {

std::shared_ptr<const View> seen_by(const std::shared_ptr<const View>& all, const secure::CallerPtr& caller) {
  if (secure::sees_all(caller)) return all;
  auto out = std::make_shared<View>(*all);
  out->apps.clear();
  out->tasks.clear();
  out->ended.clear();
  all->apps.for_each([&](const AppId& id, const auto& app) {
    if (secure::sees(caller, id.str())) out->apps.set(id, app);
  });
  all->tasks.for_each([&](const TaskId& id, const auto& task) {
    if (secure::sees(caller, task->spec.app.str())) out->tasks.set(id, task);
  });
  // One that concerns other apps as well would tell of them.
  std::erase_if(out->deployments, [&](const auto& d) { return std::any_of(d->target.begin(), d->target.end(), [&](const auto& e) { return !secure::sees(caller, e.first.str()); }); });
  std::erase_if(out->rules, [&](const auto& rule) { return !secure::sees(caller, rule->app.str()); });
  return out;
}

/// Nothing: it may be so.
std::optional<Refusal> beyond(const TaskPolicy& policy, const secure::CallerPtr& caller, const App& app, bool same) {
  const auto& id = app.id;
  bool admin = same || secure::may(caller, secure::Verb::administer, {secure::Kind::app, id.str()}).allowed;
  auto problems = against_policy(app, policy_at(policy, id.str(), admin));
  if (problems.empty()) return std::nullopt;
  if (!admin && against_policy(app, policy_at(policy, id.str(), true)).empty())
    return Refusal{{Errc::forbidden, fmt::format("{} of {}: policy allows it here to admins only", problems[0].path, id)}, {}, {}, true};
  return Refusal{{Errc::invalid, problems[0].words}, {}, problems[0].path};
}

/// What gives a host away is for admins of the app's group, and policy must allow it there. An app that was allowed once may be scaled by operators; and
/// a deployment that took it away is not theirs to undo.
std::optional<Refusal> beyond(const TaskPolicy& policy, const Intent& intent, const Orchestrator& state) {
  auto judge = [&](const std::map<AppId, std::optional<App>>& all) -> std::optional<Refusal> {
    for (const auto& [id, app] : all) {
      const auto* stored = app ? state.app(id) : nullptr;
      if (!app) continue;
      if (auto refusal = beyond(policy, intent.caller, *app, stored && app->same_config(*stored))) return refusal;  // another command in it is another thing
    }
    return std::nullopt;
  };
  if (auto refusal = judge(intent.apps)) return refusal;
  auto cancelled = intent.cancel && !intent.force ? state.deployments().find(*intent.cancel) : state.deployments().end();
  return cancelled == state.deployments().end() ? std::nullopt : judge(cancelled->second->original);
}

/// The same, with what only admins may ask for refused to others.
Leader::Make judged(FacePtr face, const net::Request& r, Leader::Make make) {
  if (!r.caller) return make;
  return [face, &r, make = std::move(make)](const Orchestrator& state, Now now) -> std::expected<Intent, Refusal> {
    auto intent = make(state, now);
    if (!intent && intent.error().attempt) {
      auto attempt = *intent.error().attempt;
      ask(attempt.intent, r);
      intent.error().attempt = std::make_shared<const Attempt>(std::move(attempt));
    }
    if (!intent) return intent;
    auto refusal = beyond(face->options.policy, *intent, state);
    if (!refusal) return intent;
    refusal->attempt = std::make_shared<const Attempt>(Attempt{std::move(*intent), refusal->error.context});
    return std::unexpected(std::move(*refusal));
  };
}

}  // namespace

asio::awaitable<std::shared_ptr<const View>> fresh_view(FacePtr face, const net::Request& r) {
  auto caller = r.caller;
  auto all = co_await face->leader->fresh_view();
  co_return seen_by(all, caller);
}

asio::awaitable<std::expected<Accepted, Refusal>> change(FacePtr face, const net::Request& r, Leader::Make make) {
  auto all = judged(face, r, std::move(make));
  co_return co_await face->leader->change(std::move(all));
}

asio::awaitable<std::expected<std::vector<Step>, Refusal>> rehearse(FacePtr face, const net::Request& r, Leader::Make make) {
  auto all = judged(face, r, std::move(make));
  co_return co_await face->leader->rehearse(std::move(all));
}

}  // namespace croft::orchestrator
