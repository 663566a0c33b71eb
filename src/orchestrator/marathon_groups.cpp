// Marathon's groups. A group has no record of its own: it is the apps below its name, and a write to it is one change of these.

#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_face.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace {

using net::Request;
using net::Response;


GroupEmbed group_embed_of(const Request& r) {
  std::vector<std::string> words;
  GroupEmbed e;
  e.app = embed_of(r, &words);
  auto has = [&](std::string_view word) { return std::find(words.begin(), words.end(), word) != words.end(); };
  bool below = std::any_of(words.begin(), words.end(), [](const std::string& w) { return w.starts_with("group.apps"); });
  if (has("group.groups") || has("group.apps") || has("group.pods")) e.groups = has("group.groups"), e.apps = below, e.pods = has("group.pods");
  return e;
}

Response no_group(const AppId& id) { return Response::message(404, fmt::format("Group '{}' does not exist", id)); }

template <class F>
void each_app_below(const View& view, const AppId& group, F&& each) {
  auto prefix = group.str() == "/" ? std::string("/") : group.str() + "/";
  view.apps.for_each([&](const AppId& id, const auto& app) {
    if (id.str().starts_with(prefix)) each(id, app);
  });
}

bool is_group(const View& view, const AppId& id) {
  bool known = id.str() == "/";
  each_app_below(view, id, [&](const AppId&, const auto&) { known = true; });
  return known;
}

asio::awaitable<Response> read_group(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  if (!is_group(*view, id)) co_return no_group(id);
  JsonWriter w;
  write_group(w, *view, id.str(), group_embed_of(r));
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> group_apps(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  if (!is_group(*view, id)) co_return no_group(id);
  auto embed = embed_of(r);
  JsonWriter w;
  w.begin_array();
  each_app_below(*view, id, [&](const AppId&, const auto& app) { write_app_info(w, *view, *app, embed); });
  w.end_array();
  co_return Response::json(std::move(w).take());
}

/// A group has no record of its own: its versions are those of the apps in it.
std::set<std::string> versions_of(const View& view, const AppId& group) {
  std::set<std::string> out;
  each_app_below(view, group, [&](const AppId&, const auto& app) { out.insert(app->versions.begin(), app->versions.end()); });
  if (group.str() == "/" && !view.group_version.empty()) out.insert(view.group_version);
  return out;
}

asio::awaitable<Response> group_versions(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  if (!is_group(*view, id)) co_return no_group(id);
  auto versions = versions_of(*view, id);
  JsonWriter w;
  w.begin_array();
  for (auto at = versions.rbegin(); at != versions.rend(); ++at) w.value(*at);
  w.end_array();
  co_return Response::json(std::move(w).take());
}

/// The apps that are there today, each as it was then.
asio::awaitable<Response> group_version(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  auto when = from_iso8601(r.params.at("version"));
  if (!when) co_return Response::message(422, fmt::format("Invalid timestamp provided '{}'. Expecting ISO-8601 datetime string.", r.params.at("version")));
  if (!is_group(*view, id)) co_return no_group(id);
  auto stamp = to_iso8601(*when);
  if (!versions_of(*view, id).contains(stamp)) co_return Response::message(404, fmt::format("Group '{}' does not exist in version {}", id, stamp));
  View then;
  then.group_version = stamp;
  std::function<void(const Orchestrator&, Now)> reader = [&](const Orchestrator& state, Now) {
    each_app_below(*view, id, [&](const AppId& app, const auto&) {
      auto stored = state.version_at(app, stamp);
      if (!stored) return;
      auto shown = std::make_shared<AppView>();
      shown->app = std::make_shared<const App>(std::move(*stored));
      then.apps.set(app, std::move(shown));
    });
  };
  co_await face->leader->read(reader);
  JsonWriter w;
  write_group(w, then, id.str(), group_embed_of(r));
  co_return Response::json(std::move(w).take());
}

// --- writing ---

std::string below(const AppId& group) { return group.str() == "/" ? "/" : group.str() + "/"; }

template <class F>
void each_stored_below(const Orchestrator& state, const AppId& group, F&& each) {
  auto prefix = below(group);
  for (auto at = state.apps().lower_bound(AppId(prefix)); at != state.apps().end() && at->first.str().starts_with(prefix); ++at) each(at->first, at->second);
}

/// A group's body, worked into edits of apps. Lists that are given are the whole of what shall be at their level; absent ones leave it alone.
class GroupReader {
 public:
  GroupReader(const Face& face, const Orchestrator& state, Intent& intent) : face_(face), state_(state), intent_(intent) {}

  std::optional<Refusal> read(const json::value& body, const AppId& group, const std::vector<AppId>& inherited, const std::string& within) {
    Problems problems(within);
    if (!body.is_object()) problems.shape("", "error.expected.jsobject");
    for (auto key : {"apps", "groups", "dependencies"})
      if (const auto* list = json::find(body, key); list && !list->is_null() && !list->is_array()) problems.shape("/" + std::string(key), "error.expected.jsarray");
    if (problems.any()) return Refusal{{Errc::invalid, problems.json()}, {}};
    auto dependencies = inherited;
    for (const auto& text : json::texts(body, "dependencies")) dependencies.push_back(read_app_id(text, group.str(), problems, true));
    if (problems.any()) return Refusal{{Errc::invalid, problems.json()}, {}};
    if (given(body, "apps"))
      if (auto wrong = read_apps(body, group, dependencies, within)) return wrong;
    return given(body, "groups") ? read_groups(body, group, dependencies, within) : std::nullopt;
  }

 private:
  static bool given(const json::value& body, std::string_view key) {
    const auto* list = json::find(body, key);
    return list && list->is_array();
  }

  /// The id of a child, resolved against its group; or what is wrong with it.
  static std::expected<AppId, Refusal> child_id(const json::value& body, const AppId& group, const std::string& within, bool of_group) {
    Problems problems(within);
    auto text = json::text(body, "id");
    if (!body.is_object()) problems.shape("", "error.expected.jsobject");
    else if (text.empty()) problems.shape("/id", "error.path.missing");
    auto id = read_app_id(text, group.str(), problems, of_group);
    if (!problems.any() && !id.str().starts_with(below(group))) problems.meaning("/id", fmt::format("Identifier is not child of '{}'", group));
    if (problems.any()) return std::unexpected(Refusal{{Errc::invalid, problems.json()}, {}});
    return id;
  }

  std::optional<Refusal> read_apps(const json::value& body, const AppId& group, const std::vector<AppId>& dependencies, const std::string& within) {
    each_stored_below(state_, group, [&](const AppId& id, const App&) {
      if (id.str().find('/', below(group).size()) == std::string::npos) intent_.apps[id] = std::nullopt;
    });
    std::size_t i = 0;
    for (const auto& one : json::list(body, "apps")) {
      auto path = fmt::format("{}/apps({})", within, i++);
      auto id = child_id(one, group, path, false);
      if (!id) return id.error();
      auto app = read_app(face_.options.policy, one, App{}, *id, path);
      if (!app) return app.error();
      for (const auto& d : dependencies)
        if (std::find(app->dependencies.begin(), app->dependencies.end(), d) == app->dependencies.end()) app->dependencies.push_back(d);
      intent_.apps[*id] = std::move(*app);
    }
    return std::nullopt;
  }

  std::optional<Refusal> read_groups(const json::value& body, const AppId& group, const std::vector<AppId>& dependencies, const std::string& within) {
    std::vector<AppId> listed;
    std::size_t i = 0;
    for (const auto& one : json::list(body, "groups")) {
      auto path = fmt::format("{}/groups({})", within, i++);
      auto id = child_id(one, group, path, true);
      if (!id) return id.error();
      listed.push_back(*id);
      if (auto wrong = read(one, *id, dependencies, path)) return wrong;
    }
    each_stored_below(state_, group, [&](const AppId& id, const App&) {
      if (id.str().find('/', below(group).size()) == std::string::npos) return;  // of this level itself
      bool kept = std::any_of(listed.begin(), listed.end(), [&](const AppId& g) { return id.str().starts_with(below(g)); });
      if (!kept) intent_.apps[id] = std::nullopt;
    });
    return std::nullopt;
  }

  const Face& face_;
  const Orchestrator& state_;
  Intent& intent_;
};

/// {"scaleBy": 1.5} and {"version": "…"}, which stand alone. False: the body is neither.
std::expected<bool, Refusal> read_alone(const json::value& body, const AppId& group, const Orchestrator& state, Intent& intent) {
  const auto *by = json::find(body, "scaleBy"), *version = json::find(body, "version");
  if (!by && (!version || json::find(body, "apps") || json::find(body, "groups"))) return false;
  auto size = body.get_object().size();
  if (size > 1u + body.get_object().contains("id")) return refuse(Errc::invalid, "not allowed in conjunction with other properties.", by ? "/scaleBy" : "/version");
  if (by) {
    if (!by->is_number()) return refuse(Errc::invalid, "error.expected.jsnumber", "/scaleBy");
    auto factor = by->to_number<double>();
    if (!(factor >= 0 && factor <= 1e6)) return refuse(Errc::invalid, "must be between 0 and 1000000", "/scaleBy");
    each_stored_below(state, group, [&](const AppId& id, const App& app) {
      intent.apps[id] = app;
      intent.apps[id]->instances = static_cast<std::uint32_t>(std::min(1e6, std::ceil(app.instances * factor)));
    });
    return true;
  }
  auto when = version->is_string() ? from_iso8601(std::string_view(version->get_string())) : std::nullopt;
  if (!when) return refuse(Errc::invalid, fmt::format("Invalid timestamp provided '{}'. Expecting ISO-8601 datetime string.", json::print(*version)));
  auto stamp = to_iso8601(*when);
  bool known = false;
  each_stored_below(state, group, [&](const AppId& id, const App&) {
    intent.apps[id] = state.version_at(id, stamp);
    known = known || intent.apps[id];
  });
  if (!known) return refuse(Errc::not_found, fmt::format("Group '{}' does not exist in version {}", group, stamp));
  return true;
}

bool exists(const Orchestrator& state, const AppId& group) {
  bool any = group.str() == "/";
  each_stored_below(state, group, [&](const AppId&, const App&) { any = true; });
  return any;
}

asio::awaitable<Response> write_to_group(FacePtr face, Request r) {
  auto body = body_of(r, boost::json::kind::object);
  if (!body) co_return body.error();
  auto id = path_id(r);
  bool create = r.method == "POST", made = create;
  bool lists = json::find(*body, "apps") || json::find(*body, "groups");
  if (auto text = json::text(*body, "id"); !text.empty()) {
    Problems problems;
    auto named = read_app_id(text, id.str(), problems, true);
    if (problems.any()) co_return Response::json(problems.json(), 422);
    if (create || id.str() == "/") id = named;
  }
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    auto intent = intent_of(r);
    // Before anything that tells what there is: the body may name another group than the path, which the gate has judged.
    if (auto decision = secure::may(r.caller, secure::Verb::change, {secure::Kind::app, id.str()}); r.caller && id.str() != "/" && !decision.allowed)
      return std::unexpected(Refusal{{Errc::forbidden, decision.reason}, {}, {}, true});
    if (state.app(id)) return refuse(Errc::conflict, fmt::format("An app with the path {} already exists.", id));
    if (create && id.str() != "/" && exists(state, id)) return refuse(Errc::conflict, fmt::format("Group {} is already created. Use PUT to change this group.", id));
    made = create || !exists(state, id);
    auto alone = read_alone(*body, id, state, intent);
    if (!alone) return std::unexpected(alone.error());
    if (*alone) return intent;
    if (auto wrong = GroupReader(*face, state, intent).read(*body, id, {}, "")) return std::unexpected(std::move(*wrong));
    return intent;
  };
  if (r.query.flag("dryRun") && !create) {
    Leader::Make forced = [&](const Orchestrator& state, Now now) {
      auto intent = make(state, now);
      if (intent) intent->force = true;
      return intent;
    };
    auto steps = co_await rehearse(face, r, forced);
    if (!steps) co_return lists ? refused(steps.error(), *body) : refused(steps.error());
    JsonWriter w;
    w.begin_object().key("steps").begin_array();
    for (const auto& step : *steps) write_step(w, step, false);
    w.end_array().end_object();
    co_return Response::json(std::move(w).take());
  }
  auto done = co_await change(face, r, make);
  if (!done) co_return lists ? refused(done.error(), *body) : refused(done.error());
  auto response = deployed(*done, made ? 201 : 200);
  if (made) response.headers.set("Location", face->options.base_url + "/v2/groups" + id.str());
  if (lists) tell_unknown(response, *body);
  co_return response;
}

asio::awaitable<Response> delete_group(FacePtr face, Request r) {
  auto id = path_id(r);
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    if (!exists(state, id)) return refuse(Errc::not_found, fmt::format("Group '{}' does not exist", id));
    auto intent = intent_of(r);
    each_stored_below(state, id, [&](const AppId& app, const App&) { intent.apps[app] = std::nullopt; });
    return intent;
  };
  auto done = co_await change(face, r, make);
  co_return done ? deployed(*done) : refused(done.error());
}

}  // namespace

void add_group_routes(const FaceRoutes& on) {
  for (auto root : {"/v2/groups", "/v2/groups/", "/v2/groups/{*id}"}) on("GET", root, read_group);
  for (auto of : {"/v2/groups", "/v2/groups/{*id}"}) {
    on("GET", fmt::format("{}/apps", of), group_apps);
    on("GET", fmt::format("{}/versions", of), group_versions);
    on("GET", fmt::format("{}/versions/{{version}}", of), group_version);
  }
  for (auto path : {"/v2/groups", "/v2/groups/", "/v2/groups/{*id}"}) {
    on("POST", path, write_to_group);
    on("PUT", path, write_to_group);
    on("DELETE", path, delete_group);
  }
}

}  // namespace croft::orchestrator
