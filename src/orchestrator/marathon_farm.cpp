// Marathon's deployments, queue, info, leader and events; croft's explain and overview.

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_face.hpp"
#include "orchestrator/marathon_json.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace {

using net::Request;
using net::Response;

asio::awaitable<Response> list_deployments(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  JsonWriter w;
  w.begin_array();
  for (const auto& d : view->deployments) write_deployment(w, *view, *d);
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
    ask(intent, r);
    return intent;
  };
  auto done = co_await change(face, r, make);
  if (!done) co_return refused(done.error());
  if (force) co_return Response{.status = 202, .headers = {}, .body = {}, .stream = {}};
  co_return deployed(*done);
}

asio::awaitable<Response> list_queue(FacePtr face, Request r) {
  auto asked = r.query.all("embed");
  bool unused_offers = std::find(asked.begin(), asked.end(), "lastUnusedOffers") != asked.end();
  auto view = co_await fresh_view(face, r);
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
  if (r.caller) face->leader->note({0, {}, r.caller->who.str(), r.caller->source, r.method + " " + r.path, {id.str()}});
  co_return Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
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
  if (face->leader->view()->leader.empty()) co_return Response::message(404, "There is no leader");
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
  auto view = co_await fresh_view(face, r);
  auto reasons = co_await face->leader->explain(id);
  JsonWriter w;
  w.begin_object().field("app", id).key("reasons").begin_array();
  for (const auto& reason : reasons) w.value(reason);
  w.end_array().end_object();
  co_return Response::json(std::move(w).take(), view->apps.find(id) ? 200 : 404);
}

asio::awaitable<Response> overview(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  JsonWriter w;
  write_overview(w, *view, secure::sees_all(r.caller));
  co_return Response::json(std::move(w).take());
}

/// An event is shown to who may see all that it tells of.
bool shows(const secure::CallerPtr& caller, const BusEvent& e) {
  if (secure::sees_all(caller)) return true;
  bool all = true, any = false;
  auto look = [&](const AppId& app) { any = true, all = all && secure::sees(caller, app.str()); };
  if (!e.app.empty()) look(e.app);
  if (e.task) look(e.task->spec.app);
  if (e.deployment)
    for (const auto& [app, target] : e.deployment->target) look(app);
  return any && all;
}

constexpr Millis look_again{10'000};  // without events: that the client is there, and may still read

asio::awaitable<void> feed_events(FacePtr face, std::set<std::string> types, std::string peer, secure::CallerPtr caller, std::shared_ptr<net::StreamWriter> out) {
  auto frame = [](const std::string& type, const std::string& data) { return "event: " + type + "\r\ndata: " + data + "\r\n\r\n"; };
  auto newest = face->leader->newest_event();
  if (types.empty() || types.contains("event_stream_attached")) {
    JsonWriter w;
    w.begin_object().field("eventType", "event_stream_attached").field("timestamp", to_iso8601(system_now().wall)).field("remoteAddress", peer).end_object();
    auto hello = frame("event_stream_attached", w.str());
    bool sent = co_await out->write(std::move(hello));
    if (!sent) co_return;
  }
  while (!out->closed()) {
    auto events = co_await face->leader->events_after(newest, look_again);
    if (!events) co_return;  // too slow: the client reads the farm anew
    auto now = secure::renewed(caller, system_now().wall);
    if (!now) co_return;
    caller = std::move(*now);
    std::string chunk;
    for (const auto& e : *events) {
      newest = e.sequence;
      if (!shows(caller, e)) continue;
      for (const auto& wire : wire_events(e))
        if (types.empty() || types.contains(wire.type)) chunk += frame(wire.type, wire.data);
    }
    if (chunk.empty()) chunk = "\r\n";  // named first: GCC 12 frees a temporary of a conditional inside co_await twice
    bool sent = co_await out->write(std::move(chunk));
    if (!sent) co_return;
  }
}

asio::awaitable<Response> events(FacePtr face, Request r) {
  if (r.headers.get("Accept").find("text/event-stream") == std::string_view::npos) co_return Response::message(405, "Method Not Allowed");
  auto asked = r.query.all("event_type");
  std::set<std::string> types(asked.begin(), asked.end());
  Response response;
  response.headers.set("Content-Type", "text/event-stream;charset=UTF-8");
  response.stream = [face, types, peer = r.peer, caller = r.caller](std::shared_ptr<net::StreamWriter> out) { return feed_events(face, types, peer, caller, std::move(out)); };
  co_return response;
}

/// A master that has just started knows no apps yet. Clients that read an empty list would empty their balancers, so they wait for a moment.
asio::awaitable<bool> has_leader(FacePtr face) {
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer pause(executor);
  for (int i = 0; i < 10; ++i) {
    if (!face->leader->view()->leader.empty()) co_return true;
    pause.expires_after(face->options.leader_wait / 10);
    boost::system::error_code ec;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
  co_return false;
}

asio::awaitable<Response> decorated(FaceRoutes::Handler handler, FacePtr face, Request r) {
  bool led = true;
  if (handler != ping && handler != read_leader) led = co_await has_leader(face);
  Response response;
  if (led) response = co_await handler(face, std::move(r));
  else response = Response::message(502, "Could not determine the current leader");
  mark(response, face->options.base_url);
  co_return response;
}

asio::awaitable<Response> marked(const net::Router& router, std::string base_url, Request r) {
  auto response = co_await router.handle_here(std::move(r));
  if (!response.headers.has("X-Marathon-Leader")) mark(response, base_url);
  co_return response;
}

}  // namespace

void mark(Response& response, const std::string& base_url) {
  response.headers.set("Cache-Control", "no-cache, no-store, must-revalidate");
  response.headers.set("Pragma", "no-cache");
  response.headers.set("Expires", "0");
  response.headers.set("X-Frame-Options", "DENY");
  response.headers.set("X-XSS-Protection", "1; mode=block");
  response.headers.set("X-Marathon-Leader", base_url);
}

void mark_refusals(net::Router& router, const MarathonOptions& options) {
  router.divert([](const Request& r) { return r.path.starts_with("/v2"); }, [&router, base_url = options.base_url](Request r) { return marked(router, base_url, std::move(r)); });
}

void FaceRoutes::operator()(std::string_view method, std::string_view pattern, Handler handler) const {
  router.on(method, pattern, [face = face, handler](Request r) { return decorated(handler, face, std::move(r)); });
}

void add_farm_routes(const FaceRoutes& on) {
  for (auto list : {"/v2/deployments", "/v2/deployments/"}) on("GET", list, list_deployments);
  on("DELETE", "/v2/deployments/{id}", cancel_deployment);
  for (auto list : {"/v2/queue", "/v2/queue/"}) on("GET", list, list_queue);
  on("DELETE", "/v2/queue/{*id}/delay", reset_delay);
  on("GET", "/v2/info", info);
  on("GET", "/v2/leader", read_leader);
  on("GET", "/v2/events", events);
  on("GET", "/ping", ping);
  on("GET", "/croft/v1/explain/{*id}", explain);
  on("GET", "/croft/v1/overview", overview);
}

}  // namespace croft::orchestrator
