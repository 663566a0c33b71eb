// The leader's HTTP face for agents, balancers and other followers: registration streams, reports, the catalog, rules.

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "catalog/catalog_stream.hpp"
#include "model/acl.hpp"
#include "model/catalog_json.hpp"
#include "model/link_json.hpp"
#include "orchestrator/leader_impl.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace {

constexpr std::size_t registration_max = 64u << 20;
constexpr Millis abdicate_after{100};

int status_of(const Error& error) {
  switch (error.code) {
    case Errc::invalid: return 422;
    case Errc::not_found: return 404;
    case Errc::conflict: return 409;
    case Errc::forbidden: return 403;
    case Errc::too_large: return 413;
    case Errc::unavailable: case Errc::not_leader: case Errc::unknown_outcome: case Errc::timeout: return 503;
    default: return 500;
  }
}

net::Response answer(const Error& error) { return net::Response::message(status_of(error), error.context); }

}  // namespace

/// Puts the cluster's outbox into the streams of the agents it is for. A stream that is too far behind is closed: its agent
/// comes back and gets a snapshot.
void LeaderService::Impl::route_messages() {
  std::map<std::string, bool> touched;
  for (auto& message : term->cluster.take_messages()) {
    auto at = term->streams.find(message.subscription);
    if (at == term->streams.end()) continue;
    auto line = link::encode(message.record);
    line.push_back('\n');
    std::lock_guard guard(at->second->mutex);
    at->second->bytes += line.size();
    at->second->lines.push_back(std::move(line));
    if (at->second->bytes > AgentStream::bytes_max) at->second->closed = true;
    touched[message.subscription] = true;
  }
  for (const auto& cut : term->cluster.take_cuts()) {
    auto at = term->streams.find(cut.subscription);
    if (at == term->streams.end()) continue;
    log::info("leader", "agent={} its stream is closed: {}", cut.agent, cut.why);
    std::lock_guard guard(at->second->mutex);
    at->second->closed = true;
    touched[cut.subscription] = true;
  }
  for (const auto& [subscription, yes] : touched) term->streams[subscription]->signal->notify();
}

asio::awaitable<net::Response> LeaderService::Impl::register_agent(net::Request request) {
  auto self = shared_from_this();
  auto registration = link::decode_registration(request.body);
  if (!registration) co_return answer(registration.error());
  if (auto ok = secure::check_speaks_for(request.caller, registration->info.hostname); !ok) co_return answer(ok.error());
  if (registration->info.ip.empty()) registration->info.ip = request.peer;
  struct Opened { std::optional<Error> error; AgentId agent; std::string subscription; std::shared_ptr<AgentStream> stream; };
  auto work = [this, &registration, &request]() -> Opened {
    if (!leads || !term) return {Error{Errc::unavailable, "this master does not lead"}, {}, {}, {}};
    if (const auto* known = term->cluster.agent(registration->id))
      if (auto ok = secure::check_speaks_for(request.caller, known->info.hostname); !ok) return {ok.error(), {}, {}, {}};
    auto now = system_now();
    auto agent = term->cluster.register_agent(*registration, now);
    if (!agent) return {agent.error(), {}, {}, {}};
    Opened opened{std::nullopt, *agent, term->cluster.agent(*agent)->subscription, std::make_shared<AgentStream>()};
    term->streams[opened.subscription] = opened.stream;
    turn(now);
    return opened;
  };
  auto opened = co_await on_strand(work);
  if (opened.error) co_return answer(*opened.error);
  log::info("leader", "agent={} host={} tasks={} registered", opened.agent, registration->info.hostname, registration->tasks.size());
  net::Response response;
  response.headers.set("Content-Type", "application/x-ndjson");
  response.stream = [self, opened](std::shared_ptr<net::StreamWriter> out) {
    return self->feed_agent(opened.agent, opened.subscription, opened.stream, out);
  };
  co_return response;
}

asio::awaitable<void> LeaderService::Impl::feed_agent(AgentId agent, std::string subscription, std::shared_ptr<AgentStream> stream,
                                                      std::shared_ptr<net::StreamWriter> out) {
  auto self = shared_from_this();
  for (;;) {
    auto ticket = stream->signal->ticket();
    std::string chunk;
    bool closed;
    {
      std::lock_guard guard(stream->mutex);
      for (auto& line : stream->lines) chunk += line;
      stream->lines.clear();
      stream->bytes = 0;
      closed = stream->closed;
    }
    if (closed || stopping || out->closed()) break;
    if (!chunk.empty()) {
      if (!co_await out->write(std::move(chunk))) break;
    } else {
      (void)co_await stream->signal->wait(ticket, Millis(500));
    }
  }
  auto end = [self, agent, subscription] { self->agent_stream_closed(agent, subscription); };
  co_await on_strand(end);
}

void LeaderService::Impl::agent_stream_closed(const AgentId& agent, const std::string& subscription) {
  if (!term || term->streams.erase(subscription) == 0) return;
  auto now = system_now();
  term->cluster.stream_closed(agent, subscription, now);
  turn(now);
}

asio::awaitable<net::Response> LeaderService::Impl::report(net::Request request) {
  auto self = shared_from_this();
  auto report = link::decode_report(request.body);
  if (!report) co_return answer(report.error());
  if (report->agent.empty()) report->agent = AgentId(request.params["id"]);
  if (report->agent.str() != request.params["id"]) co_return net::Response::message(422, "the report's agent is not the path's");
  auto work = [this, &report, &request]() -> Status {
    if (!leads || !term) return fail(Errc::unavailable, "this master does not lead");
    if (const auto* known = term->cluster.agent(report->agent))
      if (auto ok = secure::check_speaks_for(request.caller, known->info.hostname); !ok) return ok;
    auto now = system_now();
    auto done = term->cluster.report(*report, now);
    turn(now);
    return done;
  };
  auto done = co_await on_strand(work);
  if (!done) co_return answer(done.error());
  co_return net::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

/// Hands over: answered first, so that who asked hears of it; then the next candidate leads.
asio::awaitable<net::Response> LeaderService::Impl::abdicate(net::Request request) {
  if (!leads) co_return net::Response::message(404, "There is no leader");
  auto leave = [](std::shared_ptr<Impl> self) -> asio::awaitable<void> {
    co_await net::sleep_for(abdicate_after);
    co_await self->lock();  // what is being stored is answered before
    self->unlock();
    co_await self->election->resign();
  };
  log::warn("leader", "asked to hand over");
  if (request.caller) {
    auto told = [self = shared_from_this(), caller = request.caller] { self->note_on_strand({0, {}, caller->who.str(), caller->source, "DELETE /v2/leader", {}}); };
    co_await on_strand(told);
  }
  auto leaving = leave(shared_from_this());
  net::spawn(strand, "abdicate", std::move(leaving));
  co_return net::Response::message(200, "Leadership abdicated");
}

asio::awaitable<net::Response> LeaderService::Impl::confirm(net::Request request) {
  auto self = shared_from_this();
  auto confirmation = catalog::decode_confirmation(request.body);
  if (!confirmation) co_return answer(confirmation.error());
  if (auto ok = secure::check_speaks_for(request.caller, confirmation->balancer.host); !ok) co_return answer(ok.error());
  if (confirmation->balancer.ip.empty()) confirmation->balancer.ip = request.peer;
  auto work = [this, &confirmation]() -> Status {
    if (!leads || !term) return fail(Errc::unavailable, "this master does not lead");
    auto now = system_now();
    auto known = term->catalog.live().size();
    term->catalog.confirm(*confirmation, now);
    if (safe(now)) term->catalog.tick(now);  // those that are still heard tell which one is not
    if (term->catalog.live().size() != known) view_dirty = true;
    turn(now);
    return {};
  };
  auto done = co_await on_strand(work);
  if (!done) co_return answer(done.error());
  co_return net::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

asio::awaitable<catalog::Batch> LeaderService::Impl::catalog_after(std::optional<catalog::Index> after) {
  auto work = [this, after]() -> catalog::Batch {
    if (!leads || !term || stopping) return {};
    return {term->catalog.index(), term->catalog.since(after), true, term->catalog.root()};
  };
  co_return co_await on_strand(work);
}

asio::awaitable<net::Response> LeaderService::Impl::follow_catalog(net::Request request) {
  auto self = shared_from_this();
  catalog::Feed feed = [self](std::optional<catalog::Index> after) { return self->catalog_after(after); };
  co_return co_await catalog::serve_catalog(std::move(request), std::move(feed), catalog_signal);
}

/// What another host refused somebody who had logged in there.
asio::awaitable<net::Response> LeaderService::Impl::take_refusal(net::Request request) {
  auto body = json::parse(request.body);
  if (!body) co_return net::Response::message(400, body.error().context);
  AuditRecord record{0, {}, json::text(*body, "who"), json::text(*body, "from"), json::text(*body, "what"), {}, false, json::text(*body, "reason")};
  if (auto path = json::text(*body, "path"); !path.empty()) record.paths.push_back(std::move(path));
  // What another host says stands there in that host's name. (Standbys do not pass it on.)
  if (request.certificate && !record.what.starts_with(request.certificate->identity.host + ": "))
    record.what = fmt::format("{}: {}", request.certificate->identity.host, record.what);
  if (record.who.empty() || record.what.empty()) co_return net::Response::message(422, "who, what: must be given");
  if (!leads) co_return net::Response::message(503, "this master does not lead");
  auto told = [self = shared_from_this(), record] { self->note_on_strand(record); };
  co_await on_strand(told);
  co_return net::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
}

asio::awaitable<net::Response> LeaderService::Impl::put_rule(net::Request request) {
  AppId app("/" + request.params["app"]);
  auto body = json::parse(request.body);
  if (!body) co_return net::Response::message(400, body.error().context);
  auto acl = json::text(*body, "acl");
  if (auto ok = check_acl(acl); !ok) co_return net::Response::message(422, "acl: " + ok.error().context);
  std::optional<catalog::Rule> rule(catalog::Rule{app, acl});
  co_return co_await change_rule(std::move(request), app, std::move(rule));
}

asio::awaitable<net::Response> LeaderService::Impl::delete_rule(net::Request request) {
  AppId app("/" + request.params["app"]);
  co_return co_await change_rule(std::move(request), app, std::nullopt);
}

asio::awaitable<net::Response> LeaderService::Impl::change_rule(net::Request request, AppId app, std::optional<catalog::Rule> rule) {
  Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    if (!rule && !state.rules().contains(app)) return std::unexpected(Refusal{{Errc::not_found, fmt::format("there is no rule for {}", app)}, {}});
    Intent intent;
    intent.caller = request.caller;
    intent.what = request.method + " " + request.path;
    intent.rules[app] = rule;
    return intent;
  };
  auto job = change_on_strand(make);
  auto done = co_await asio::co_spawn(strand, std::move(job), asio::use_awaitable);
  if (!done) co_return answer(done.error().error);
  JsonWriter w;
  w.begin_object().field("app", app);
  if (rule) w.field("acl", rule->acl);
  w.field("version", done->version).end_object();
  co_return net::Response::json(std::move(w).take());
}

/// {"mode": "draining" | "active" | "down"}; the node by its id or host name.
asio::awaitable<net::Response> LeaderService::Impl::change_node(net::Request request) {
  auto body = json::parse(request.body);
  if (!body) co_return net::Response::message(400, body.error().context);
  auto word = json::text(*body, "mode");
  static const std::map<std::string_view, NodeMode> words{{"active", NodeMode::active}, {"draining", NodeMode::draining}, {"down", NodeMode::down}};
  auto mode = words.find(word);
  if (mode == words.end()) co_return net::Response::message(422, fmt::format("mode: '{}' is none of active, draining, down", word));
  auto name = request.params["node"];
  AgentId node;
  Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
    auto found = state.node(name, mode->second == NodeMode::down);
    if (!found) return std::unexpected(Refusal{{Errc::not_found, fmt::format("There is no node {}", name)}, {}});
    Intent intent;
    intent.caller = request.caller;
    intent.what = fmt::format("POST {} {}", request.path, word);
    intent.nodes[node = *found] = mode->second;
    return intent;
  };
  auto job = change_on_strand(make);
  auto done = co_await asio::co_spawn(strand, std::move(job), asio::use_awaitable);
  if (!done) co_return answer(done.error().error);
  log::info("leader", "agent={} node={} is {} by an operator's word", node, name, word);
  JsonWriter w;
  w.begin_object().field("id", node).field("mode", word).end_object();
  co_return net::Response::json(std::move(w).take());
}

void LeaderService::add_link_routes(net::Router& router) {
  auto impl = impl_;
  auto route = [&](std::string_view method, std::string_view pattern, asio::awaitable<net::Response> (Impl::*handle)(net::Request)) {
    router.on(method, pattern, [impl, handle](net::Request request) { return (impl.get()->*handle)(std::move(request)); });
  };
  route("POST", "/croft/v1/agents", &Impl::register_agent);
  route("POST", "/croft/v1/agents/{id}/reports", &Impl::report);
  route("GET", "/croft/v1/catalog", &Impl::follow_catalog);
  route("DELETE", "/v2/leader", &Impl::abdicate);
  route("POST", "/croft/v1/catalog/confirmations", &Impl::confirm);
  route("POST", "/croft/v1/refusals", &Impl::take_refusal);
  route("PUT", "/croft/v1/rules/{*app}", &Impl::put_rule);
  route("DELETE", "/croft/v1/rules/{*app}", &Impl::delete_rule);
  route("POST", "/croft/v1/nodes/{node}", &Impl::change_node);
  router.body_limit("/croft/v1/agents", registration_max);
  router.body_limit("/croft/v1/agents/{id}/reports", registration_max);
}

}  // namespace croft::orchestrator
