#include "logs/es/face.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t bulk_max = 100u << 20;
constexpr std::chrono::milliseconds look_every{100};        // whether who asked is there still

/// What a request says about the form of its answer.
struct Form {
  std::optional<std::string> paths;
  bool pretty = false;
  std::string accept;
  explicit Form(const Request& r) : paths(r.query.get("filter_path")), pretty(r.query.flag("pretty")), accept(r.headers.get("Accept")) {}

  [[nodiscard]] Response shaped(Response response) const {
    response.headers.set("X-elastic-product", "Elasticsearch");
    bool is_json = response.headers.get("Content-Type").starts_with("application/json");
    if (!is_json) return response;
    if (paths && !response.body.empty()) response.body = filter_path(response.body, *paths);
    if (pretty) response.body = indented(response.body) + "\n";
    // Clients of 8 and later want back the type that they asked for.
    if (accept.starts_with("application/vnd.elasticsearch+json")) response.headers.set("Content-Type", accept);
    return response;
  }
};

/// JSON in any of its names, and what old clients and scripts call it: nothing at all, or a form, which is what `curl -d` says of every
/// body. Other types are refused as Elasticsearch does: 406.
bool takes(std::string_view type) {
  auto name = lower(trim(type.substr(0, type.find(';'))));
  return name.empty() || name == "application/x-www-form-urlencoded" || name == "application/json" || name == "application/x-ndjson" || name == "application/vnd.elasticsearch+json" || name == "application/vnd.elasticsearch+x-ndjson" || name == "text/json";
}

asio::awaitable<Response> decorated(Face face, ApiPtr api, Request r) {
  // "<logstash-{now/d}>" holds a slash: the router saw two segments.
  auto first = r.params.find("index"), second = r.params.find("rest");
  if (first != r.params.end() && second != r.params.end()) first->second += "/" + second->second;
  if (!r.body.empty() && !takes(r.headers.get("Content-Type"))) {
    JsonWriter w;
    w.begin_object().field("error", fmt::format("Content-Type header [{}] is not supported", r.headers.get("Content-Type"))).field("status", 406).end_object();
    co_return Form(r).shaped(Response::json(std::move(w).take(), 406));
  }
  if (r.body.empty())
    if (auto source = r.query.get("source")) r.body = std::move(*source);
  Form form(r);
  auto job = face(std::move(api), std::move(r));
  auto response = co_await std::move(job);
  co_return form.shaped(std::move(response));
}

asio::awaitable<Response> wrong_method(Request r, std::string allowed) {
  JsonWriter w;
  w.begin_object().field("error", fmt::format("Incorrect HTTP method for uri [{}] and method [{}], allowed: [{}]", r.target, r.method, allowed)).field("status", 405).end_object();
  auto response = Response::json(std::move(w).take(), 405);
  response.headers.set("Allow", allowed);
  response.headers.set("X-elastic-product", "Elasticsearch");
  co_return response;
}

asio::awaitable<Response> unknown(Request r) {
  JsonWriter w;
  w.begin_object().field("error", fmt::format("no handler found for uri [{}] and method [{}]", r.target, r.method)).end_object();
  auto response = Response::json(std::move(w).take(), 400);
  response.headers.set("X-elastic-product", "Elasticsearch");
  co_return response;
}

void write_error_members(JsonWriter& w, const EsError& e) {
  w.field("type", e.type).field("reason", e.reason);
  for (const auto& [key, text] : e.more) w.key(key).raw(text);
}

}  // namespace

void write_error(JsonWriter& w, const EsError& e) {
  w.begin_object().key("error").begin_object().key("root_cause").begin_array().begin_object();
  write_error_members(w, e);
  w.end_object().end_array();
  if (e.in_query) {
    w.field("type", "search_phase_execution_exception").field("reason", "all shards failed").field("phase", "query").field("grouped", true).key("failed_shards").begin_array();
    w.begin_object().field("shard", 0).field("index", "_all").field("node", "croft").key("reason").begin_object();
    write_error_members(w, e);
    w.end_object().end_object().end_array();
  } else {
    write_error_members(w, e);
  }
  w.end_object().field("status", e.status).end_object();
}

Response error(const EsError& e) {
  JsonWriter w;
  write_error(w, e);
  auto response = Response::json(std::move(w).take(), e.status);
  if (e.status == 429) response.headers.set("Retry-After", "1");
  return response;
}

Response error(int status, std::string_view type, std::string_view reason) { return error(EsError{status, std::string(type), std::string(reason), {}, false}); }

EsError no_index(std::string_view name) {
  auto quoted = json_quote(name);
  return {404, "index_not_found_exception", fmt::format("no such index [{}]", name), {{"resource.type", "\"index_or_alias\""}, {"resource.id", quoted}, {"index_uuid", "\"_na_\""}, {"index", quoted}}, false};
}

EsError answer_too_large(const Api& api) {
  auto most = api.options.answer_bytes_max;
  auto reason = fmt::format("Data too large: the documents of one answer would take more than the [{}] bytes that it may. "
                            "Ask for fewer: a smaller [size], parts of them only by [_source], or less in one request", most);
  return {413, "circuit_breaking_exception", std::move(reason), {{"bytes_limit", std::to_string(most)}, {"durability", "\"PERMANENT\""}}, false};
}

EsError store_failed(const Error& e) {
  if (e.code == Errc::unavailable) return {429, "cluster_block_exception", e.context, {}, false};
  return {503, "cluster_block_exception", e.context, {}, false};
}

EsError parsing_error(std::string_view words, std::string_view body) {
  EsError e{400, "parsing_exception", std::string(words), {}, false};
  auto open = words.find('['), close = words.find(']', open == std::string_view::npos ? 0 : open);
  std::size_t at = std::string_view::npos;
  if (open != std::string_view::npos && close != std::string_view::npos) at = body.find("\"" + std::string(words.substr(open + 1, close - open - 1)) + "\"");
  std::size_t line = 1, column = 1;
  for (char c : body.substr(0, at == std::string_view::npos ? 0 : at)) {
    ++column;
    if (c == '\n') ++line, column = 1;
  }
  e.more = {{"line", std::to_string(line)}, {"col", std::to_string(column)}};
  return e;
}

Es<boost::json::value> body_of(const Request& r, bool object) {
  if (trim(r.body).empty()) return boost::json::value(boost::json::object());
  auto parsed = json::parse(r.body);
  if (!parsed) return std::unexpected(EsError{400, "json_parse_exception", parsed.error().context, {}, false});
  if (object && !parsed->is_object()) return std::unexpected(EsError{400, "parsing_exception", "Expected [START_OBJECT] but found another value", {{"line", "1"}, {"col", "1"}}, false});
  return std::move(*parsed);
}

void write_shards(JsonWriter& w, std::size_t total, std::size_t failed) {
  w.key("_shards").begin_object().field("total", total).field("successful", total - failed).field("skipped", 0).field("failed", failed).end_object();
}

namespace {

struct Reading { Cancelled cancelled{false}; std::atomic<bool> over{false}; };

asio::awaitable<void> watch_client(std::function<bool()> gone, std::shared_ptr<Reading> reading) {
  for (;;) {  // the wait in a condition, beside an &&, is more than GCC 12 can do
    bool slept = co_await net::sleep_for(look_every);
    if (!slept || reading->over) co_return;
    if (gone()) break;
  }
  reading->cancelled = true;
}

}  // namespace

asio::awaitable<bool> on_readers(ApiPtr api, const Request& request, std::function<void(const Cancelled&)> work) {
  if (api->reading.fetch_add(1) >= api->options.reads_at_once + api->options.reads_waiting) {
    --api->reading;
    ++api->rejected;
    co_return false;
  }
  auto reading = std::make_shared<Reading>();
  auto executor = co_await asio::this_coro::executor;
  if (request.gone) net::spawn(executor, "reader", watch_client(request.gone, reading));
  std::function<void()> unless_cancelled = [&] {
    if (!reading->cancelled) work(reading->cancelled);
  };
  co_await api->readers.run(std::move(unless_cancelled));
  reading->over = true;
  --api->reading;
  co_return !reading->cancelled;
}

Response busy(const Api& api) {
  return error(429, "es_rejected_execution_exception", fmt::format("rejected execution of search: {} are at work and {} wait, which is the most that may", api.options.reads_at_once, api.options.reads_waiting));
}

void add_es_routes(net::Router& router, Store& store, net::BlockingPool& pool, EsOptions options) {
  auto api = std::make_shared<Api>(store, pool, std::move(options));
  std::map<std::string, std::vector<std::string>> methods_of;
  On on = [&](std::initializer_list<std::string_view> methods, std::string_view pattern, Face face) {
    for (auto method : methods) {
      router.on(method, pattern, [api, face](Request r) { return decorated(face, api, std::move(r)); });
      methods_of[std::string(pattern)].emplace_back(method);
    }
  };
  add_write_routes(on);
  add_search_routes(on);
  add_index_routes(on);
  add_admin_routes(on);
  add_cluster_routes(on);
  for (const auto& [pattern, methods] : methods_of) {
    auto allowed = join(methods, ", ");
    router.on("*", pattern, [allowed](Request r) { return wrong_method(std::move(r), allowed); });
    if (pattern.ends_with("/_bulk")) router.body_limit(pattern, bulk_max);
  }
  router.fallback(unknown);
}

}  // namespace croft::logs
