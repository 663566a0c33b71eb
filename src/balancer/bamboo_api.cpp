// Bamboo's HTTP face: rules by app, whatever Content-Type a client sends.

#include <algorithm>

#include "balancer/balancer_impl.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "model/acl.hpp"
#include "net/http_client.hpp"
#include "secure/caller.hpp"

namespace croft::balancer {

using net::Request;
using net::Response;

namespace {

constexpr std::chrono::milliseconds seen_within{2000}, routed_within{1000};

const json::value* find_ignoring_case(const json::value& v, std::string_view key) {
  if (!v.is_object()) return nullptr;
  for (const auto& member : v.get_object())
    if (iequals(member.key(), key)) return &member.value();
  return nullptr;
}

std::string text_in(const json::value& v, std::string_view key) {
  const auto* found = find_ignoring_case(v, key);
  return found && found->is_string() ? std::string(found->get_string()) : "";
}

void write_rule(JsonWriter& w, const catalog::Rule& r) {
  w.begin_object().field("Id", r.app).field("Acl", r.acl).key("Config").begin_object().field("Acl", r.acl).end_object().end_object();
}

void write_rules(JsonWriter& w, const catalog::Content& c, const secure::CallerPtr& caller) {
  w.begin_object();
  for (const auto& [app, rule] : c.rules) {
    if (!secure::sees(caller, app.str())) continue;
    w.key(app.str());
    write_rule(w, rule);
  }
  w.end_object();
}

void write_app(JsonWriter& w, const catalog::Service& s, const std::vector<const catalog::Endpoint*>& tasks) {
  auto id = s.app.str(), escaped = id;
  for (auto at = escaped.find('/'); at != std::string::npos; at = escaped.find('/', at)) escaped.replace(at, 1, "::");
  auto dns = task_name_of(s.app);
  std::replace(dns.begin(), dns.end(), '.', '-');
  w.begin_object().field("Id", id).field("EscapedId", escaped).field("MesosDnsId", dns).key("SplitId").begin_array();
  for (const auto& part : split(id, '/')) w.value(part);
  w.end_array();
  const HealthCheck* http = nullptr;
  w.key("HealthChecks").begin_array();
  for (const auto& c : s.health_checks) {
    if (!http && (c.kind == CheckKind::http || c.kind == CheckKind::https)) http = &c;
    w.begin_object().field("Protocol", c.protocol_name).field("Path", c.path).field("PortIndex", c.port_index.value_or(0)).end_object();
  }
  w.end_array().field("HealthCheckPath", http ? http->path : "").field("HealthCheckProtocol", http ? http->protocol_name : "").field("ReadinessCheckPath", "");
  w.field("ServicePort", s.ports.empty() ? 0 : s.ports[0].service_port).key("ServicePorts").begin_array();
  for (const auto& p : s.ports) w.value(p.service_port);
  w.end_array();
  for (auto [key, map] : {std::pair<std::string_view, const Labels*>{"Env", &s.env}, {"Labels", &s.labels}}) {
    w.key(key).begin_object();
    for (const auto& [k, v] : *map) w.field(k, v);
    w.end_object();
  }
  w.key("ipAddress").begin_object().key("discovery").begin_object().key("ports").begin_array().end_array().end_object().end_object();
  w.key("Tasks").begin_array();
  for (const auto* e : tasks) {
    if (e->ports.empty() || e->ports[0].host_port == 0) continue;
    w.begin_object().field("Id", e->task).field("Host", e->host.empty() ? e->ip : e->host).field("Port", e->ports[0].host_port).key("Ports").begin_array();
    for (const auto& p : e->ports) w.value(p.host_port);
    w.end_array().field("Alive", e->healthy.value_or(s.health_checks.empty())).field("State", wire_name(e->state)).field("Ready", e->ready && !e->draining).end_object();
  }
  w.end_array().end_object();
}

/// "a/b", "/a/b" and "//a/b/" name one app; "" stays empty.
std::string absolute(std::string_view id) {
  std::string out;
  for (const auto& part : split(id, '/'))
    if (!part.empty()) out += "/" + part;
  return out;
}

Response bad(std::string text) { return Response::text(std::move(text) + "\n", 400); }

}  // namespace

/// In the name of who asked: the leader judges his rights.
asio::awaitable<Response> BalancerService::Impl::send_rule(Request from, std::string method, AppId app, std::string acl) {
  auto self = shared_from_this();
  Request request;
  net::pass_credentials(from, request);
  request.method = method;
  request.target = "/croft/v1/rules";
  for (const auto& part : split(app.str().substr(1), '/')) request.target += "/" + url_encode(part);
  if (method == "PUT") {
    JsonWriter w;
    w.begin_object().field("acl", acl).end_object();
    request.body = std::move(w).take();
    request.headers.set("Content-Type", "application/json");
  }
  std::string words = "no master is configured";
  for (const auto& master : options.masters) {
    auto answer = co_await client.request(master, request);
    if (!answer) {
      words = answer.error().context;
      continue;
    }
    if (answer->status < 300) co_return Response{};
    auto parsed = json::parse(answer->body);
    words = parsed ? json::text(*parsed, "message", answer->body) : answer->body;
    if (auto details = parsed ? json::text(*parsed, "details") : std::string(); !details.empty()) words += ": " + details;
    if (answer->status == 401 || answer->status == 403) co_return Response::text(words + "\n", answer->status);
    if (answer->status != 503) co_return bad(answer->status == 404 ? "zk: node does not exist" : words);
  }
  co_return Response::text(words + "\n", 503);
}

/// Until this balancer's own copy has what the leader has just accepted, so that who reads behind a write finds it, and then until its HAProxy routes by it.
/// Bounded: the write itself is done.
asio::awaitable<void> BalancerService::Impl::until_routed(AppId app, std::optional<std::string> acl) {
  auto self = shared_from_this();
  auto end = std::chrono::steady_clock::now() + seen_within;
  while (!stopping && std::chrono::steady_clock::now() < end) {
    auto ticket = changed->ticket();
    std::optional<catalog::Index> at;
    {
      std::lock_guard lock(mutex);
      if (newest.content) {
        const auto& rules = newest.content->rules;
        auto rule = rules.find(app);
        if (acl ? rule != rules.end() && rule->second.acl == *acl : rule == rules.end()) at = newest.at;
      }
    }
    if (at) {
      auto job = until_applied(*at);
      co_await asio::co_spawn(strand, std::move(job), asio::use_awaitable);
      co_return;
    }
    (void)co_await changed->wait(ticket, std::chrono::milliseconds(50));
  }
}

asio::awaitable<void> BalancerService::Impl::until_applied(catalog::Index at) {
  auto self = shared_from_this();
  auto end = std::chrono::steady_clock::now() + routed_within;
  for (;;) {
    auto ticket = applied_signal->ticket();
    auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (stopping || left.count() <= 0 || (routed && *routed >= at)) co_return;
    (void)co_await applied_signal->wait(ticket, left);
  }
}

/// What Bamboo says to a write: the values that it was sent.
static std::string echo(const AppId& app, const json::value& body) {
  JsonWriter w;
  w.begin_object().field("Id", app).field("Acl", text_in(body, "acl")).key("Config");
  const auto* config = find_ignoring_case(body, "config");
  if (config && config->is_object()) {
    w.begin_object();
    for (const auto& member : config->get_object())
      if (member.value().is_string()) w.field(iequals(member.key(), "acl") ? "Acl" : std::string_view(member.key()), std::string_view(member.value().get_string()));
    w.end_object();
  } else {
    w.null();
  }
  w.end_object();
  return std::move(w).take();
}

static asio::awaitable<Response> put_service(std::shared_ptr<BalancerService::Impl> impl, Request r) {
  auto body = json::parse(r.body);
  if (!body || !body->is_object()) co_return bad("Unable to decode JSON request");
  auto id = text_in(*body, "id"), acl = text_in(*body, "acl");
  if (const auto* config = find_ignoring_case(*body, "config"); acl.empty() && config) acl = text_in(*config, "Acl");
  id = absolute(id);
  if (id.empty()) co_return bad("can not use empty ID");
  AppId app(id);
  // HAProxy is not asked in the name of somebody who may not change it anyway; the master that keeps the rule judges again, and writes it down.
  if (auto may = secure::may(r.caller, secure::Verb::change, {secure::Kind::app, id}); !may.allowed) co_return co_await impl->send_rule(r, "PUT", app, acl);
  if (auto ok = check_acl(acl); !ok) co_return bad("Acl: " + ok.error().context);
  // Tried before it is kept: a rule that HAProxy refuses is answered in HAProxy's own words.
  auto verdict = std::make_shared<Status>();
  std::function<void()> check = [impl, acl, verdict] {
    (void)make_dirs(impl->options.run_dir, 0750);
    *verdict = impl->haproxy.check(probe_config(acl));
  };
  co_await impl->blocking.run(check);
  if (!*verdict && verdict->error().code != Errc::invalid) co_return Response::text("the rule cannot be tried: " + verdict->error().context + "\n", 503);
  if (!*verdict) co_return bad("HAProxy refuses this rule: " + verdict->error().context);
  auto answer = co_await impl->send_rule(r, "PUT", app, acl);
  if (answer.status != 200) co_return answer;
  co_await impl->until_routed(app, acl);
  auto said = echo(app, *body);
  co_return Response::json(std::move(said));
}

static asio::awaitable<Response> delete_service(std::shared_ptr<BalancerService::Impl> impl, Request r) {
  auto at = r.params.find("id");
  auto id = at == r.params.end() ? "" : absolute(at->second);
  if (id.empty()) co_return bad("can not use empty ID");
  AppId app(id);
  auto answer = co_await impl->send_rule(r, "DELETE", app, "");
  if (answer.status != 200) co_return answer;
  std::optional<std::string> gone;
  co_await impl->until_routed(app, gone);
  co_return Response::json("null");
}

void BalancerService::add_routes(net::Router& router) {
  auto impl = impl_;
  auto get = [&](std::string_view pattern, std::function<Response(const catalog::Content&, const secure::CallerPtr&)> write) {
    router.on("GET", pattern, [impl, write](Request r) -> asio::awaitable<Response> {
      static const catalog::Content nothing;
      auto c = impl->content();
      co_return write(c ? *c : nothing, r.caller);
    });
  };
  get("/status", [](const catalog::Content&, const secure::CallerPtr&) { return Response::text("OK"); });
  get("/api/services", [](const catalog::Content& c, const secure::CallerPtr& caller) {
    JsonWriter w;
    write_rules(w, c, caller);
    return Response::json(std::move(w).take());
  });
  get("/api/state", [](const catalog::Content& c, const secure::CallerPtr& caller) {
    std::map<AppId, std::vector<const catalog::Endpoint*>> by_app;
    for (const auto& [id, e] : c.endpoints) by_app[e.app].push_back(&e);
    JsonWriter w;
    w.begin_object().key("Apps").begin_array();
    for (const auto& [app, s] : c.services)
      if (secure::sees(caller, app.str())) write_app(w, s, by_app[app]);
    w.end_array().key("Services");
    write_rules(w, c, caller);
    w.end_object();
    return Response::json(std::move(w).take());
  });
  // Bamboo has no such route; a reader gets all rules at once.
  router.on("GET", "/api/services/{*id}", [](Request) -> asio::awaitable<Response> { co_return Response::text("404 page not found\n", 404); });
  router.on("POST", "/api/services", [impl](Request r) { return put_service(impl, std::move(r)); });
  router.on("PUT", "/api/services/{*id}", [impl](Request r) { return put_service(impl, std::move(r)); });
  router.on("DELETE", "/api/services/{*id}", [impl](Request r) { return delete_service(impl, std::move(r)); });
  for (auto path : {"/api/services", "/api/services/"}) {
    router.on("PUT", path, [impl](Request r) { return put_service(impl, std::move(r)); });
    router.on("DELETE", path, [impl](Request r) { return delete_service(impl, std::move(r)); });
  }
  router.on("POST", "/api/marathon/event_callback", [](Request) -> asio::awaitable<Response> { co_return Response::text("Got it!"); });
}

}  // namespace croft::balancer
