// Marathon's app paths.

#include "orchestrator/marathon_api.hpp"

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_face.hpp"
#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator {

namespace {

using net::Request;
using net::Response;

std::unexpected<Refusal> refuse(Errc code, std::string text) { return std::unexpected(Refusal{{code, std::move(text)}, {}}); }

AppId path_id(const Request& r) {
  std::string id;
  for (const auto& part : split(r.params.at("id"), '/'))
    if (!part.empty()) id += "/" + part;
  return AppId(id.empty() ? "/" : id);
}

Response no_app(const AppId& id) { return Response::message(404, fmt::format("App '{}' does not exist", id)); }

Embed embed_of(const Request& r) {
  Embed e;
  for (auto& word : r.query.all("embed")) {
    for (auto prefix : {"group.apps.", "apps.", "app."})
      if (word.starts_with(prefix)) word.erase(0, std::string_view(prefix).size());
    e.tasks = e.tasks || word == "tasks" || word == "failures";
    e.failure = e.failure || word == "lastTaskFailure" || word == "failures";
  }
  return e;
}

/// The body as JSON, or the answer that says why not.
std::expected<json::value, Response> body_of(const Request& r) {
  auto parsed = json::parse(r.body);
  if (parsed) return std::move(*parsed);
  JsonWriter w;
  w.begin_object().field("message", "Invalid JSON").field("details", parsed.error().context).end_object();
  return std::unexpected(Response::json(std::move(w).take(), 400));
}

Intent intent_of(const Request& r) {
  Intent intent;
  intent.force = r.query.flag("force");
  intent.origin = r.peer;
  intent.path = r.path;
  return intent;
}

/// Reads a manifest over what is stored (or over nothing) and checks it whole.
std::expected<App, Refusal> read_app(const DockerPolicy& policy, const json::value& body, const App& over, const std::optional<AppId>& id) {
  Problems problems;
  auto app = read_manifest(body, over, problems);
  if (id) app.id = *id;
  if (!problems.any()) validate(app, problems);
  if (app.docker)
    for (auto& [path, words] : check_policy(*app.docker, app.volumes, policy)) problems.meaning(path, words);
  if (problems.any()) return std::unexpected(Refusal{{Errc::invalid, problems.json()}, {}});
  return app;
}

asio::awaitable<Response> list_apps(FacePtr face, Request r) {
  auto view = co_await face->leader->fresh_view();
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
    if (!cmd.empty() && lower(app->app.cmd.value_or("")).find(cmd) == std::string::npos) return;
    if (!id.empty() && lower(app_id.str()).find(id) == std::string::npos) return;
    if (selects(app->app.labels)) write_app_info(w, *view, *app, embed);
  });
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> create_app(FacePtr face, Request r) {
  auto body = body_of(r);
  if (!body) co_return body.error();
  AppId id;
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    auto app = read_app(face->options.docker, *body, App{}, std::nullopt);
    if (!app) return std::unexpected(app.error());
    id = app->id;
    if (state.app(id)) return refuse(Errc::conflict, fmt::format("An app with id [{}] already exists.", id));
    auto intent = intent_of(r);
    intent.apps[id] = std::move(*app);
    return intent;
  };
  auto done = co_await face->leader->change(make);
  if (!done) co_return refused(done.error());
  const auto* app = done->after->apps.find(id);
  if (!app) co_return deployed(*done, 201);
  JsonWriter w;
  write_app_info(w, *done->after, **app, {.tasks = true, .failure = false});
  auto response = Response::json(std::move(w).take(), 201);
  response.headers.set("Location", face->options.base_url + "/v2/apps" + id.str());
  response.headers.set("Marathon-Deployment-Id", done->deployment.str());
  co_return response;
}

/// {"version": "…"} alone rolls back to that version.
std::expected<std::optional<App>, Refusal> rollback_in(const json::value& body, const Orchestrator& state, const AppId& id) {
  const auto* version = json::find(body, "version");
  if (!version || !body.is_object()) return std::nullopt;
  auto others = body.get_object().size() - 1 - (body.get_object().contains("id") ? 1 : 0);
  if (others > 0) return std::nullopt;  // beside other fields it is the read-back's time stamp, and means nothing
  if (!version->is_string() || !from_iso8601(std::string_view(version->get_string())))
    return refuse(Errc::invalid, fmt::format("Invalid timestamp provided '{}'. Expecting ISO-8601 datetime string.", json::print(*version)));
  auto stored = state.version(id, std::string(version->get_string()));
  if (!stored) return refuse(Errc::not_found, fmt::format("App '{}' does not exist in version {}", id, std::string_view(version->get_string())));
  return stored;
}

std::expected<App, Refusal> updated(const DockerPolicy& policy, const json::value& body, const Orchestrator& state, const AppId& id, bool partial, bool must_exist) {
  const auto* stored = state.app(id);
  if (!stored && must_exist) return refuse(Errc::not_found, fmt::format("App '{}' does not exist", id));
  auto rollback = rollback_in(body, state, id);
  if (!rollback) return std::unexpected(rollback.error());
  if (*rollback) return **rollback;
  return read_app(policy, body, stored && partial ? *stored : App{}, id);
}

asio::awaitable<Response> update_app(FacePtr face, Request r) {
  auto body = body_of(r);
  if (!body) co_return body.error();
  auto id = path_id(r);
  bool partial = r.query.flag("partialUpdate", true) || r.method == "PATCH";
  bool created = false;
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    created = !state.app(id);
    auto app = updated(face->options.docker, *body, state, id, partial, r.method == "PATCH");
    if (!app) return std::unexpected(app.error());
    auto intent = intent_of(r);
    intent.apps[id] = std::move(*app);
    return intent;
  };
  auto done = co_await face->leader->change(make);
  if (!done) co_return refused(done.error());
  auto response = deployed(*done, created ? 201 : 200);
  if (created) response.headers.set("Location", face->options.base_url + "/v2/apps" + id.str());
  co_return response;
}

asio::awaitable<Response> update_apps(FacePtr face, Request r) {
  auto body = body_of(r);
  if (!body) co_return body.error();
  if (!body->is_array()) co_return Response::json(R"({"message":"Invalid JSON","details":[{"path":"/","errors":["error.expected.jsarray"]}]})", 422);
  bool partial = r.query.flag("partialUpdate", true) || r.method == "PATCH";
  Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    auto intent = intent_of(r);
    std::size_t i = 0;
    for (const auto& one : body->get_array()) {
      Problems problems;
      auto text = json::text(one, "id");
      if (text.empty()) problems.shape(fmt::format("({})/id", i), "error.path.missing");
      auto id = read_app_id(text, "/", problems);
      if (problems.any()) return std::unexpected(Refusal{{Errc::invalid, problems.json()}, {}});
      auto app = updated(face->options.docker, one, state, id, partial, r.method == "PATCH");
      if (!app) return std::unexpected(app.error());
      intent.apps[id] = std::move(*app);
      ++i;
    }
    return intent;
  };
  auto done = co_await face->leader->change(make);
  co_return done ? deployed(*done) : refused(done.error());
}

asio::awaitable<Response> read_one(FacePtr face, Request r) {
  auto view = co_await face->leader->fresh_view();
  auto id = path_id(r);
  JsonWriter w;
  if (id.str().ends_with("/*") || id.str() == "*") {
    auto group = id.str().substr(0, id.str().size() - 1);
    w.begin_object().key("*").begin_array();
    view->apps.for_each([&](const AppId& app_id, const auto& app) {
      if (app_id.str().starts_with(group)) write_app_info(w, *view, *app, embed_of(r));
    });
    w.end_array().end_object();
    co_return Response::json(std::move(w).take());
  }
  const auto* app = view->apps.find(id);
  if (!app) co_return no_app(id);
  w.begin_object().key("app");
  write_app_info(w, *view, **app, {.tasks = true, .failure = true});
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
  auto done = co_await face->leader->change(make);
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
  auto done = co_await face->leader->change(make);
  co_return done ? deployed(*done) : refused(done.error());
}

asio::awaitable<Response> list_versions(FacePtr face, Request r) {
  auto view = co_await face->leader->fresh_view();
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
  auto version = r.params.at("version");
  if (!from_iso8601(version)) co_return Response::message(422, fmt::format("Invalid timestamp provided '{}'. Expecting ISO-8601 datetime string.", version));
  std::optional<App> found;
  std::function<void(const Orchestrator&, Now)> reader = [&](const Orchestrator& state, Now) { found = state.version(id, version); };
  co_await face->leader->read(reader);
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
  on("GET", "/v2/apps", list_apps);
  on("POST", "/v2/apps", create_app);
  on("PUT", "/v2/apps", update_apps);
  on("PATCH", "/v2/apps", update_apps);
  on("GET", "/v2/apps/{*id}", read_one);
  on("PUT", "/v2/apps/{*id}", update_app);
  on("PATCH", "/v2/apps/{*id}", update_app);
  on("DELETE", "/v2/apps/{*id}", delete_app);
  on("POST", "/v2/apps/{*id}/restart", restart_app);
  on("GET", "/v2/apps/{*id}/versions", list_versions);
  on("GET", "/v2/apps/{*id}/versions/{version}", read_version);
  add_task_routes(on);
  add_farm_routes(on);
}

}  // namespace croft::orchestrator
