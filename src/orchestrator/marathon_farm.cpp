// Marathon's deployments, queue, groups, info, leader and events; croft's explain and overview.

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_face.hpp"
#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator {

namespace {

using net::Request;
using net::Response;

asio::awaitable<Response> list_deployments(FacePtr face, Request) {
  auto view = co_await face->leader->fresh_view();
  JsonWriter w;
  w.begin_array();
  for (const auto& d : view->deployments) write_deployment(w, *d);
  w.end_array();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> cancel_deployment(FacePtr face, Request r) {
  DeploymentId id(r.params.at("id"));
  bool force = r.query.flag("force");
  Leader::Make make = [&](const Orchestrator&, Now) -> std::expected<Intent, Refusal> {
    Intent intent;
    intent.cancel = id;
    intent.force = force;
    intent.origin = r.peer;
    return intent;
  };
  auto done = co_await face->leader->change(make);
  if (!done) co_return refused(done.error());
  if (force) co_return Response{.status = 202, .headers = {}, .body = {}, .stream = {}};
  co_return deployed(*done);
}

asio::awaitable<Response> list_queue(FacePtr face, Request r) {
  auto asked = r.query.all("embed");
  bool unused_offers = std::find(asked.begin(), asked.end(), "lastUnusedOffers") != asked.end();
  auto view = co_await face->leader->fresh_view();
  JsonWriter w;
  w.begin_object().key("queue").begin_array();
  view->apps.for_each([&](const AppId&, const auto& app) {
    if (app->queue) write_queue_item(w, *view, *app, unused_offers);
  });
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> reset_delay(FacePtr face, Request r) {
  auto id = path_id(r);
  auto queued = co_await face->leader->reset_delay(id);
  if (!queued) co_return Response::message(404, fmt::format("Application {} not found in tasks queue.", id));
  co_return Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

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
  auto view = co_await face->leader->fresh_view();
  auto id = path_id(r);
  if (!is_group(*view, id)) co_return no_group(id);
  JsonWriter w;
  write_group(w, *view, id.str(), group_embed_of(r));
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> group_apps(FacePtr face, Request r) {
  auto view = co_await face->leader->fresh_view();
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
  auto view = co_await face->leader->fresh_view();
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
  auto view = co_await face->leader->fresh_view();
  auto id = path_id(r);
  auto when = from_iso8601(r.params.at("version"));
  if (!when) co_return Response::message(422, fmt::format("Invalid timestamp provided '{}'. Expecting ISO-8601 datetime string.", r.params.at("version")));
  if (!is_group(*view, id)) co_return no_group(id);
  auto stamp = to_iso8601(*when);
  if (!versions_of(*view, id).contains(stamp)) co_return Response::message(404, fmt::format("Group '{}' does not exist in version {}", id, stamp));
  View then;
  then.group_version = stamp;
  std::function<void(const Orchestrator&, Now)> reader = [&](const Orchestrator& state, Now) {
    each_app_below(*view, id, [&](const AppId& app, const auto& now) {
      auto old = std::find_if(now->versions.begin(), now->versions.end(), [&](const std::string& v) { return v <= stamp; });  // newest first
      if (old == now->versions.end()) return;
      auto stored = state.version(app, *old);
      if (!stored) return;
      auto shown = std::make_shared<AppView>();
      shown->app = std::move(*stored);
      then.apps.set(app, std::move(shown));
    });
  };
  co_await face->leader->read(reader);
  JsonWriter w;
  write_group(w, then, id.str(), group_embed_of(r));
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> info(FacePtr face, Request) {
  auto view = face->leader->view();
  JsonWriter w;
  w.begin_object().field("name", "marathon").field("version", "1.11.24").field("buildref", "croft " + view->version).field("elected", true);
  w.field("leader", face->options.leader).field("frameworkId", view->cluster_id + "-0000");
  w.key("marathon_config").begin_object().field("checkpoint", true).field("decline_offer_duration", 120000).field("env_vars_prefix", "").field("executor", "//cmd");
  w.field("failover_timeout", 604800).key("features").begin_array().end_array().field("framework_name", "marathon").field("ha", true).field("hostname", view->hostname);
  w.field("local_port_min", face->options.service_port_min).field("local_port_max", face->options.service_port_max).field("master", "").field("mesos_role", "*");
  w.field("task_launch_timeout", 300000).field("webui_url", face->options.base_url + "/ui").end_object();
  w.key("zookeeper_config").begin_object().field("zk", "").field("zk_max_versions", 50).end_object();
  w.key("http_config").begin_object().field("http_port", to_int(face->options.leader.substr(face->options.leader.rfind(':') + 1)).value_or(8080)).key("https_port").null().end_object();
  w.key("event_subscriber").null().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> read_leader(FacePtr face, Request) {
  JsonWriter w;
  w.begin_object().field("leader", face->options.leader).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> ping(FacePtr, Request r) {
  auto accept = r.headers.get("Accept");
  auto takes = [&](std::string_view type) { return accept.find(type) != std::string_view::npos; };
  if (accept.empty() || takes("*/*") || takes("text/")) co_return Response::text("pong");
  if (takes("application/json") || takes("application/*")) co_return Response::json("\"pong\"");
  co_return Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

asio::awaitable<Response> explain(FacePtr face, Request r) {
  auto id = path_id(r);
  auto view = co_await face->leader->fresh_view();
  auto reasons = co_await face->leader->explain(id);
  JsonWriter w;
  w.begin_object().field("app", id).key("reasons").begin_array();
  for (const auto& reason : reasons) w.value(reason);
  w.end_array().end_object();
  co_return Response::json(std::move(w).take(), view->apps.find(id) ? 200 : 404);
}

asio::awaitable<Response> overview(FacePtr face, Request) {
  auto view = co_await face->leader->fresh_view();
  JsonWriter w;
  write_overview(w, *view);
  co_return Response::json(std::move(w).take());
}

asio::awaitable<void> feed_events(FacePtr face, std::set<std::string> types, std::string peer, std::shared_ptr<net::StreamWriter> out) {
  auto frame = [](const std::string& type, const std::string& data) { return "event: " + type + "\r\ndata: " + data + "\r\n\r\n"; };
  auto newest = face->leader->newest_event();
  if (types.empty() || types.contains("event_stream_attached")) {
    JsonWriter w;
    w.begin_object().field("eventType", "event_stream_attached").field("timestamp", to_iso8601(system_now().wall)).field("remoteAddress", peer).end_object();
    if (!co_await out->write(frame("event_stream_attached", w.str()))) co_return;
  }
  while (!out->closed()) {
    auto events = co_await face->leader->events_after(newest, Millis(10'000));
    if (!events) co_return;  // too slow: the client reads the farm anew
    std::string chunk;
    for (const auto& e : *events) {
      newest = e.sequence;
      for (const auto& wire : wire_events(e))
        if (types.empty() || types.contains(wire.type)) chunk += frame(wire.type, wire.data);
    }
    if (!co_await out->write(chunk.empty() ? "\r\n" : std::move(chunk))) co_return;
  }
}

asio::awaitable<Response> events(FacePtr face, Request r) {
  if (r.headers.get("Accept").find("text/event-stream") == std::string_view::npos) co_return Response::message(405, "Method Not Allowed");
  auto asked = r.query.all("event_type");
  std::set<std::string> types(asked.begin(), asked.end());
  Response response;
  response.headers.set("Content-Type", "text/event-stream;charset=UTF-8");
  response.stream = [face, types, peer = r.peer](std::shared_ptr<net::StreamWriter> out) { return feed_events(face, types, peer, std::move(out)); };
  co_return response;
}

asio::awaitable<Response> decorated(FaceRoutes::Handler handler, FacePtr face, Request r) {
  auto response = co_await handler(face, std::move(r));
  response.headers.set("Cache-Control", "no-cache, no-store, must-revalidate");
  response.headers.set("Pragma", "no-cache");
  response.headers.set("Expires", "0");
  response.headers.set("X-Frame-Options", "DENY");
  response.headers.set("X-XSS-Protection", "1; mode=block");
  response.headers.set("X-Marathon-Leader", face->options.base_url);
  co_return response;
}

}  // namespace

void FaceRoutes::operator()(std::string_view method, std::string_view pattern, Handler handler) const {
  router.on(method, pattern, [face = face, handler](Request r) { return decorated(handler, face, std::move(r)); });
}

void add_farm_routes(const FaceRoutes& on) {
  for (auto list : {"/v2/deployments", "/v2/deployments/"}) on("GET", list, list_deployments);
  on("DELETE", "/v2/deployments/{id}", cancel_deployment);
  for (auto list : {"/v2/queue", "/v2/queue/"}) on("GET", list, list_queue);
  on("DELETE", "/v2/queue/{*id}/delay", reset_delay);
  for (auto root : {"/v2/groups", "/v2/groups/", "/v2/groups/{*id}"}) on("GET", root, read_group);
  for (auto of : {"/v2/groups", "/v2/groups/{*id}"}) {
    on("GET", fmt::format("{}/apps", of), group_apps);
    on("GET", fmt::format("{}/versions", of), group_versions);
    on("GET", fmt::format("{}/versions/{{version}}", of), group_version);
  }
  on("GET", "/v2/info", info);
  on("GET", "/v2/leader", read_leader);
  on("GET", "/v2/events", events);
  on("GET", "/ping", ping);
  on("GET", "/croft/v1/explain/{*id}", explain);
  on("GET", "/croft/v1/overview", overview);
}

}  // namespace croft::orchestrator
