// Marathon's app paths.

#include "orchestrator/marathon_api.hpp"

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_face.hpp"
#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator {

AppId path_id(const net::Request& r) {
  std::vector<std::string> parts;
  auto at = r.params.find("id");
  for (auto& part : split(at == r.params.end() ? "" : at->second, '/')) {
    if (part == ".." && !parts.empty()) parts.pop_back();
    else if (!part.empty() && part != "." && part != "..") parts.push_back(std::move(part));
  }
  return AppId("/" + join(parts, "/"));
}

void ask(Intent& intent, const net::Request& r) {
  intent.origin = r.peer;
  intent.caller = r.caller;
  intent.what = r.method + " " + r.path;
}

Intent intent_of(const net::Request& r) {
  Intent intent;
  intent.force = r.query.flag("force");
  ask(intent, r);
  intent.path = r.path;
  return intent;
}

net::Response no_app(const AppId& id) { return net::Response::message(404, fmt::format("App '{}' does not exist", id)); }

Embed embed_of(const net::Request& r, std::vector<std::string>* others) {
  Embed e;
  for (auto& word : r.query.all("embed")) {
    auto whole = word;
    for (auto prefix : {"group.apps.", "apps.", "app."})
      if (word.starts_with(prefix)) word.erase(0, std::string_view(prefix).size());
    if (word == "tasks" || word == "failures") e.tasks = true;
    if (word == "lastTaskFailure" || word == "failures") e.failure = true;
    if (word == "taskStats" || word == "tasksStats") e.stats = true;
    if (word == "readiness") e.readiness = true;
    if (others) others->push_back(std::move(whole));
  }
  return e;
}

std::expected<json::value, net::Response> body_of(const net::Request& r, boost::json::kind wanted) {
  auto answer = [](std::string_view message, std::string_view details) {
    JsonWriter w;
    w.begin_object().field("message", message).field("details", details).end_object();
    return std::unexpected(net::Response::json(std::move(w).take(), 400));
  };
  constexpr std::string_view wrong_kind = "Please specify data in JSON format";
  if (trim(r.body).empty()) return answer(wrong_kind, "the body is empty");
  auto parsed = json::parse(r.body);
  if (!parsed) return answer("Invalid JSON", parsed.error().context);
  if (parsed->kind() != wanted) return answer(wrong_kind, wanted == boost::json::kind::array ? "the body must be a JSON array" : "the body must be a JSON object");
  return std::move(*parsed);
}

namespace {

void find_unknown(const json::value& body, const std::string& within, std::vector<std::string>& into) {
  auto each = [&](const json::array& list, std::string_view key) {
    for (std::size_t i = 0; i < list.size(); ++i) find_unknown(list[i], fmt::format("{}{}({})", within, key, i), into);
  };
  if (body.is_array()) return each(body.get_array(), "");
  const auto &apps = json::list(body, "apps"), &groups = json::list(body, "groups");
  if (apps.empty() && groups.empty()) {
    for (auto& path : unknown_fields(body)) into.push_back(within + path);
    return;
  }
  each(apps, "/apps");
  each(groups, "/groups");
}

}  // namespace

void tell_unknown(net::Response& response, const json::value& body) {
  constexpr std::size_t named_max = 20;
  std::vector<std::string> unknown;
  find_unknown(body, "", unknown);
  if (unknown.size() > named_max) unknown.resize(named_max), unknown.emplace_back("...");
  if (!unknown.empty()) response.headers.set("Croft-Unknown-Fields", join(unknown, ", "));
}

net::Response refused(const Refusal& refusal, const json::value& body) {
  auto response = refused(refusal);
  if (response.status == 422) tell_unknown(response, body);
  return response;
}

std::vector<PolicyProblem> against_policy(const App& app, const TaskPolicy& policy) {
  std::vector<std::uint16_t> own;
  for (const auto& p : app.ports)
    if (auto on_node = app.docker && p.container_port ? p.host_port.value_or(0) : p.port; on_node != 0) own.push_back(on_node);
  auto problems = check_probes(app.health_checks, own, policy);
  auto also = app.docker ? check_policy(*app.docker, app.volumes, policy) : std::vector<PolicyProblem>();
  problems.insert(problems.end(), also.begin(), also.end());
  auto problem = app.docker ? std::nullopt : check_user(app.user, policy);
  if (problem) problems.push_back(std::move(*problem));
  return problems;
}

std::expected<App, Refusal> read_app(const TaskPolicy& policy, const json::value& body, const App& over, const std::optional<AppId>& id, std::string within) {
  Problems problems(std::move(within));
  refuse_nul(body, problems);
  App app;
  if (id) {
    auto own = body.get_object();  // the path's id is the app's, whatever the body says
    own["id"] = id->str();
    app = read_manifest(own, over, problems);
  } else {
    app = read_manifest(body, over, problems);
    const auto* given = json::find(body, "id");
    if (!given || given->is_null()) problems.shape("/id", "error.path.missing");
  }
  if (!problems.any()) validate(app, problems);
  auto against = against_policy(app, policy_at(policy, app.id.str(), true));
  for (const auto& [path, words] : against) problems.meaning(path, words);
  if (!problems.any()) return app;
  Refusal refusal{{Errc::invalid, problems.json()}, {}};
  if (!against.empty() && !app.id.empty()) {
    Attempt attempt{{}, fmt::format("{}: {}", against[0].path, against[0].words)};
    attempt.intent.apps[app.id] = app;
    refusal.attempt = std::make_shared<const Attempt>(std::move(attempt));
  }
  return std::unexpected(std::move(refusal));
}

namespace {

/// Versions are told apart by the moment, however it is written.
std::optional<std::string> time_stamp(std::string_view text) {
  auto when = from_iso8601(text);
  return when ? std::optional(to_iso8601(*when)) : std::nullopt;
}

std::string no_time(std::string_view text) { return fmt::format("Invalid timestamp provided '{}'. Expecting ISO-8601 datetime string.", text); }

using net::Request;
using net::Response;

asio::awaitable<Response> list_apps(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto embed = embed_of(r);
  std::function<bool(const Labels&)> selects = [](const Labels&) { return true; };
  if (auto label = r.query.get("label"); label && !label->empty()) {
    auto parsed = parse_selector(*label);
    if (!parsed) co_return Response::message(422, parsed.error().context);
    selects = *parsed;
  }
  auto cmd = lower(r.query.get("cmd").value_or("")), id = lower(r.query.get("id").value_or(""));
  JsonWriter w;
  w.begin_object().key("apps").begin_array();
  view->apps.for_each([&](const AppId& app_id, const auto& app) {
    if (!cmd.empty() && lower(app->app->cmd.value_or("")).find(cmd) == std::string::npos) return;
    if (!id.empty() && lower(app_id.str()).find(id) == std::string::npos) return;
    if (selects(app->app->labels)) write_app_info(w, *view, *app, embed);
  });
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> create_app(FacePtr face, Request r) {
  auto body = body_of(r, boost::json::kind::object);
  if (!body) co_return body.error();
  AppId id;
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    auto app = read_app(face->options.policy, *body, App{}, std::nullopt);
    if (!app) return std::unexpected(app.error());
    id = app->id;
    // Who may not change it does not hear that it is there: his rights are judged with the intent.
    bool may = secure::may(r.caller, secure::Verb::change, {secure::Kind::app, id.str()}).allowed;
    if (may && state.app(id)) return refuse(Errc::conflict, fmt::format("An app with id [{}] already exists.", id));
    auto intent = intent_of(r);
    intent.announce = true;
    intent.apps[id] = std::move(*app);
    return intent;
  };
  auto done = co_await change(face, r, make);
  if (!done) co_return refused(done.error(), *body);
  const auto* stored = done->after->apps.find(id);
  if (!stored) co_return deployed(*done, 201);
  AppView app;                       // as it is stored; what its deployment has begun already is for the next read
  app.app = (*stored)->app;
  app.deployments = {done->deployment};
  JsonWriter w;
  write_app_info(w, *done->after, app, {.tasks = true});
  auto response = Response::json(std::move(w).take(), 201);
  response.headers.set("Location", face->options.base_url + "/v2/apps" + id.str());
  response.headers.set("Marathon-Deployment-Id", done->deployment.str());
  tell_unknown(response, *body);
  co_return response;
}

/// {"version": "…"} alone rolls back to that version.
std::expected<std::optional<App>, Refusal> rollback_in(const json::value& body, const Orchestrator& state, const AppId& id) {
  const auto* version = json::find(body, "version");
  if (!version || version->is_null()) return std::nullopt;
  auto stamp = version->is_string() ? time_stamp(version->get_string()) : std::nullopt;
  if (!stamp) return refuse(Errc::invalid, no_time(version->is_string() ? std::string(version->get_string()) : json::print(*version)));
  const auto& fields = body.get_object();
  if (fields.size() > 1u + fields.contains("id")) {
    // A definition that was read, edited and sent back brings its time stamp along, which then means nothing.
    const auto* app = state.app(id);
    if (fields.contains("versionInfo") || (app && app->version == *stamp)) return std::nullopt;
    return refuse(Errc::invalid, "The 'version' field may only be combined with the 'id' field.");
  }
  auto stored = state.version(id, *stamp);
  if (!stored) return refuse(Errc::not_found, fmt::format("App '{}' does not exist in version {}", id, *stamp));
  return stored;
}

/// How one app of a PUT or PATCH is to be read.
struct Update {
  bool partial = true, must_exist = false;
  std::string within;                ///< where in the body it stands
};

std::expected<App, Refusal> updated(const TaskPolicy& policy, const json::value& body, const Orchestrator& state, const AppId& id, const Update& how) {
  const auto* stored = state.app(id);
  if (!stored && how.must_exist) return refuse(Errc::not_found, fmt::format("App '{}' does not exist", id));
  auto rollback = rollback_in(body, state, id);
  if (!rollback) return std::unexpected(rollback.error());
  if (*rollback) return **rollback;
  if (!stored || how.partial) return read_app(policy, body, stored ? *stored : App{}, id, how.within);
  return read_app(policy, body, App{}, id, how.within);
}

Update update_of(const Request& r) { return {.partial = r.query.flag("partialUpdate", true) || r.method == "PATCH", .must_exist = r.method == "PATCH", .within = {}}; }

asio::awaitable<Response> update_app(FacePtr face, Request r) {
  auto body = body_of(r, boost::json::kind::object);
  if (!body) co_return body.error();
  auto id = path_id(r);
  bool created = false;
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    created = !state.app(id);
    auto app = updated(face->options.policy, *body, state, id, update_of(r));
    if (!app) return std::unexpected(app.error());
    auto intent = intent_of(r);
    intent.announce = true;
    intent.apps[app->id] = std::move(*app);
    return intent;
  };
  auto done = co_await change(face, r, make);
  if (!done) co_return refused(done.error(), *body);
  auto response = deployed(*done, created ? 201 : 200);
  if (created) response.headers.set("Location", face->options.base_url + "/v2/apps" + id.str());
  tell_unknown(response, *body);
  co_return response;
}

asio::awaitable<Response> update_apps(FacePtr face, Request r) {
  auto body = body_of(r, boost::json::kind::array);
  if (!body) co_return body.error();
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    auto intent = intent_of(r);
    auto how = update_of(r);
    std::size_t i = 0;
    for (const auto& one : body->get_array()) {
      how.within = fmt::format("({})", i++);
      Problems problems(how.within);
      auto text = json::text(one, "id");
      if (!one.is_object()) problems.shape("", "error.expected.jsobject");
      else if (text.empty()) problems.shape("/id", "error.path.missing");
      auto id = read_app_id(text, "/", problems);
      if (intent.apps.contains(id)) problems.meaning("/id", fmt::format("{} stands twice in this list", id));
      if (problems.any()) return std::unexpected(Refusal{{Errc::invalid, problems.json()}, {}});
      auto app = updated(face->options.policy, one, state, id, how);
      if (!app) return std::unexpected(app.error());
      intent.apps[id] = std::move(*app);
    }
    return intent;
  };
  auto done = co_await change(face, r, make);
  if (!done) co_return refused(done.error(), *body);
  auto response = deployed(*done);
  tell_unknown(response, *body);
  co_return response;
}

asio::awaitable<Response> read_one(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  JsonWriter w;
  if (id.str().ends_with("/*")) {
    auto group = id.str().substr(0, id.str().size() - 1);
    auto embed = embed_of(r);
    w.begin_object().key("*").begin_array();
    view->apps.for_each([&](const AppId& app_id, const auto& app) {
      if (app_id.str().starts_with(group)) write_app_info(w, *view, *app, embed);
    });
    w.end_array().end_object();
    co_return Response::json(std::move(w).take());
  }
  const auto* app = view->apps.find(id);
  if (!app) co_return no_app(id);
  w.begin_object().key("app");
  auto embed = embed_of(r);
  embed.tasks = embed.failure = true;
  write_app_info(w, *view, **app, embed);
  w.end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> delete_app(FacePtr face, Request r) {
  auto id = path_id(r);
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    if (!state.app(id)) return refuse(Errc::not_found, fmt::format("App '{}' does not exist", id));
    auto intent = intent_of(r);
    intent.force = r.query.flag("force", true);
    intent.apps[id] = std::nullopt;
    return intent;
  };
  auto done = co_await change(face, r, make);
  co_return done ? deployed(*done) : refused(done.error());
}

asio::awaitable<Response> restart_app(FacePtr face, Request r) {
  auto id = path_id(r);
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    if (!state.app(id)) return refuse(Errc::not_found, fmt::format("App '{}' does not exist", id));
    auto intent = intent_of(r);
    intent.restart.insert(id);
    return intent;
  };
  auto done = co_await change(face, r, make);
  co_return done ? deployed(*done) : refused(done.error());
}

asio::awaitable<Response> list_versions(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  const auto* app = view->apps.find(id);
  if (!app) co_return no_app(id);
  JsonWriter w;
  w.begin_object().key("versions").begin_array();
  for (const auto& version : (*app)->versions) w.value(version);
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> read_version(FacePtr face, Request r) {
  auto id = path_id(r);
  auto stamp = time_stamp(r.params.at("version"));
  if (!stamp) co_return Response::message(422, no_time(r.params.at("version")));
  const auto& version = *stamp;
  std::optional<App> found;
  bool known = false;
  std::function<void(const Orchestrator&, Now)> reader = [&](const Orchestrator& state, Now) {
    known = state.app(id) != nullptr;
    found = state.version(id, version);
  };
  co_await face->leader->read(reader);
  if (!known) co_return no_app(id);
  if (!found) co_return Response::message(404, fmt::format("App '{}' does not exist in version {}", id, version));
  JsonWriter w;
  w.begin_object();
  write_app_fields(w, *found, true);
  w.end_object();
  co_return Response::json(std::move(w).take());
}

}  // namespace

void add_marathon_routes(net::Router& router, std::shared_ptr<Leader> leader, MarathonOptions options) {
  auto face = std::make_shared<Face>(Face{std::move(leader), std::move(options)});
  FaceRoutes on{router, face};
  for (auto list : {"/v2/apps", "/v2/apps/"}) {
    on("GET", list, list_apps);
    on("POST", list, create_app);
    on("PUT", list, update_apps);
    on("PATCH", list, update_apps);
  }
  on("GET", "/v2/apps/{*id}", read_one);
  on("PUT", "/v2/apps/{*id}", update_app);
  on("PATCH", "/v2/apps/{*id}", update_app);
  on("DELETE", "/v2/apps/{*id}", delete_app);
  on("POST", "/v2/apps/{*id}/restart", restart_app);
  on("GET", "/v2/apps/{*id}/versions", list_versions);
  on("GET", "/v2/apps/{*id}/versions/{version}", read_version);
  add_task_routes(on);
  add_group_routes(on);
  add_farm_routes(on);
}

}  // namespace croft::orchestrator
