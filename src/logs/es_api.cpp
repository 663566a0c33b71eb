#include "logs/es_api.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "logs/query/parse.hpp"
#include "logs/query/search.hpp"

namespace croft::logs {

namespace asio = boost::asio;
using net::Request;
using net::Response;

namespace {

constexpr std::size_t bulk_max = 100u << 20, window_max = 10'000;

struct Api {
  Store& store;
  net::BlockingPool& pool;
  EsOptions options;
};
using ApiPtr = std::shared_ptr<Api>;

Response error(int status, std::string_view type, std::string_view reason) {
  JsonWriter w;
  w.begin_object().key("error").begin_object().key("root_cause").begin_array().begin_object().field("type", type).field("reason", reason).end_object().end_array();
  w.field("type", type).field("reason", reason).end_object().field("status", status).end_object();
  return Response::json(std::move(w).take(), status);
}

Response no_index(std::string_view name) { return error(404, "index_not_found_exception", fmt::format("no such index [{}]", name)); }

bool wildcard(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') {
    for (std::size_t i = 0; i <= name.size(); ++i)
      if (wildcard(pattern.substr(1), name.substr(i))) return true;
    return false;
  }
  return !name.empty() && (pattern[0] == name[0]) && wildcard(pattern.substr(1), name.substr(1));
}

/// "a,b-*,-b-old", "_all", "": which indices are meant; an unknown plain name is an error.
struct Wanted {
  std::vector<std::string> patterns;
  std::optional<std::string> unknown;
  [[nodiscard]] bool operator()(const std::string& name) const {
    bool in = patterns.empty();
    for (const auto& p : patterns) {
      if (p.starts_with('-') && p.size() > 1) in = in && !wildcard(p.substr(1), name);
      else in = in || p == "_all" || wildcard(p, name);
    }
    return in;
  }
};

Wanted wanted_of(const Store& store, const Request& r) {
  Wanted w;
  auto at = r.params.find("index");
  if (at == r.params.end()) return w;
  auto known = store.indices();
  for (auto& p : split(at->second, ',')) {
    bool plain = p.find('*') == std::string::npos && p != "_all" && !p.starts_with('-');
    bool there = std::any_of(known.begin(), known.end(), [&](const auto& i) { return i.name == p; });
    if (plain && !there && !r.query.flag("ignore_unavailable")) w.unknown = p;
    w.patterns.push_back(std::move(p));
  }
  return w;
}

std::expected<json::value, Response> body_of(const Request& r) {
  if (trim(r.body).empty()) return json::value(json::object());
  auto parsed = json::parse(r.body);
  if (!parsed) return std::unexpected(error(400, "parsing_exception", parsed.error().context));
  if (!parsed->is_object()) return std::unexpected(error(400, "parsing_exception", "Expected [START_OBJECT]"));
  return std::move(*parsed);
}

Result<std::vector<SortKey>> sort_of(const json::value& body, const Request& r) {
  std::vector<SortKey> out;
  if (auto text = r.query.get("sort"))
    for (const auto& one : split(*text, ',')) {
      auto colon = one.rfind(':');
      out.push_back({one.substr(0, colon), colon != std::string::npos && one.substr(colon + 1) == "desc", false});
    }
  const auto* sort = json::find(body, "sort");
  if (!sort) return out;
  auto take = [&](const json::value& v) -> Status {
    if (v.is_string()) {
      out.push_back({std::string(v.get_string()), v.get_string() == "_score", false});
      return {};
    }
    if (!v.is_object()) return fail(Errc::invalid, "[sort] must be a string, an object or an array");
    for (const auto& member : v.get_object()) {
      SortKey key{std::string(member.key()), false, false};
      auto order = member.value().is_string() ? std::string(member.value().get_string()) : json::text(member.value(), "order", member.key() == "_score" ? "desc" : "asc");
      if (order != "asc" && order != "desc") return fail(Errc::invalid, "Unknown SortOrder [{}]", order);
      key.descending = order == "desc";
      key.missing_first = json::text(member.value(), "missing") == "_first";
      if (key.field.ends_with(".keyword")) key.field.resize(key.field.size() - 8);
      out.push_back(std::move(key));
    }
    return {};
  };
  if (!sort->is_array()) {
    if (auto ok = take(*sort); !ok) return fail(ok.error());
    return out;
  }
  for (const auto& v : sort->get_array())
    if (auto ok = take(v); !ok) return fail(ok.error());
  return out;
}

/// Body and URL parameters as one request.
Result<SearchRequest> request_of(const json::value& body, const Request& r, Wall now) {
  SearchRequest s;
  s.query = match_all();
  if (const auto* query = json::find(body, "query")) {
    auto q = parse_dsl(*query, now);
    if (!q) return fail(std::move(q).error());
    s.query = *q;
  }
  if (auto text = r.query.get("q")) {
    QueryStringOptions options{r.query.get("df").value_or(""), lower(r.query.get("default_operator").value_or("")) == "and", false};
    auto q = parse_query_string(*text, options, now);
    if (!q) return fail(std::move(q).error());
    s.query = make_bool({s.query, *q}, {}, {}, 0);
  }
  auto number = [&](std::string_view key, std::size_t fallback) -> Result<std::size_t> {
    std::int64_t n = json::integer(body, key, static_cast<std::int64_t>(fallback));
    if (auto text = r.query.get(key)) {
      auto parsed = to_int(*text);
      if (!parsed) return fail(Errc::invalid, "Failed to parse int parameter [{}] with value [{}]", key, *text);
      n = *parsed;
    }
    if (n < 0) return fail(Errc::invalid, "[{}] parameter cannot be negative, found [{}]", key, n);
    return static_cast<std::size_t>(n);
  };
  auto from = number("from", 0), size = number("size", 10);
  if (!from) return fail(from.error());
  if (!size) return fail(size.error());
  if (*from + *size > window_max)
    return fail(Errc::invalid, "Result window is too large, from + size must be less than or equal to: [10000] but was [{}]. See the scroll api for a more efficient way to request large data sets.", *from + *size);
  s.from = *from;
  s.size = *size;
  auto sort = sort_of(body, r);
  if (!sort) return fail(std::move(sort).error());
  s.sort = std::move(*sort);
  if (const auto* track = json::find(body, "track_total_hits")) {
    if (track->is_bool()) s.total_limit = track->get_bool() ? UINT64_MAX : 0;
    else if (track->is_int64()) s.total_limit = static_cast<std::uint64_t>(std::max<std::int64_t>(0, track->get_int64()));
  }
  for (const auto& key : json::list(body, "search_after")) s.after.push_back(key);
  const auto* aggs = json::find(body, "aggs") ? json::find(body, "aggs") : json::find(body, "aggregations");
  if (aggs) {
    auto parsed = parse_aggregations(*aggs, now);
    if (!parsed) return fail(std::move(parsed).error());
    s.aggregations = std::move(*parsed);
  }
  return s;
}

void write_source(JsonWriter& w, const std::string& source, const json::value& body) {
  const auto* filter = json::find(body, "_source");
  if (filter && filter->is_bool() && !filter->get_bool()) return;
  w.key("_source").raw(source);
}

void write_shards(JsonWriter& w, std::size_t total, std::size_t failed) {
  w.key("_shards").begin_object().field("total", total).field("successful", total - failed).field("skipped", 0).field("failed", failed).end_object();
}

asio::awaitable<Response> do_search(ApiPtr api, Request r, bool count) {
  auto body = body_of(r);
  if (!body) co_return body.error();
  auto wanted = wanted_of(api->store, r);
  if (wanted.unknown) co_return no_index(*wanted.unknown);
  auto begun = std::chrono::steady_clock::now();
  auto request = request_of(*body, r, system_now().wall);
  if (!request) co_return error(400, request.error().context.starts_with("Failed to parse query") ? "query_shard_exception" : "parsing_exception", request.error().context);
  if (count) request->count_only = true, request->total_limit = UINT64_MAX, request->aggregations.clear();
  auto result = std::make_shared<SearchResult>();
  auto shared = std::make_shared<SearchRequest>(std::move(*request));
  auto view = std::make_shared<StoreView>(api->store.view(wanted));
  std::function<void()> work = [view, shared, result] { *result = search(*view, *shared); };
  co_await api->pool.run(work);
  auto shards = view->indices.size();
  auto failed = std::min(result->failures.size(), shards);
  JsonWriter w;
  w.begin_object();
  if (count) {
    w.field("count", result->total);
    write_shards(w, shards, failed);
    w.end_object();
    co_return Response::json(std::move(w).take());
  }
  auto took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begun).count();
  w.field("took", took).field("timed_out", result->timed_out);
  write_shards(w, shards, failed);
  w.key("hits").begin_object();
  if (shared->total_limit > 0) {
    if (r.query.flag("rest_total_hits_as_int")) w.field("total", result->total);
    else w.key("total").begin_object().field("value", result->total).field("relation", result->total_is_lower_bound ? "gte" : "eq").end_object();
  }
  w.key("max_score");
  bool scored = shared->sort.empty() && !result->hits.empty();
  if (scored) w.value(1.0);
  else w.null();
  w.key("hits").begin_array();
  for (const auto& hit : result->hits) {
    w.begin_object().field("_index", hit.index).field("_type", "_doc").field("_id", hit.id).key("_score");
    if (scored) w.value(1.0);
    else w.null();
    write_source(w, hit.source, *body);
    if (!shared->sort.empty()) {
      w.key("sort").begin_array();
      for (const auto& key : hit.keys) w.value(key);
      w.end_array();
    }
    w.end_object();
  }
  w.end_array().end_object();
  if (!result->aggregations.empty()) w.key("aggregations").raw(result->aggregations);
  w.end_object();
  co_return Response::json(std::move(w).take());
}

void write_item(JsonWriter& w, const BulkItem& item, const Stored* stored) {
  w.begin_object().key(item.action).begin_object().field("_index", item.document.index).field("_type", "_doc").field("_id", stored ? stored->id : item.document.id);
  if (!stored) {
    w.field("status", item.status).key("error").begin_object().field("type", item.status == 400 ? "mapper_parsing_exception" : "illegal_argument_exception").field("reason", item.problem).end_object();
  } else if (stored->kind == Stored::Kind::conflict) {
    w.field("status", 409).key("error").begin_object().field("type", "version_conflict_engine_exception");
    w.field("reason", fmt::format("[{}]: version conflict, document already exists (current version [1])", stored->id)).field("index", item.document.index).end_object();
  } else {
    bool created = stored->kind == Stored::Kind::created;
    w.field("_version", created ? 1 : 2).field("result", created ? "created" : "updated").key("_shards").begin_object().field("total", 1).field("successful", 1).field("failed", 0).end_object();
    w.field("_seq_no", stored->seq).field("_primary_term", 1).field("status", created ? 201 : 200);
  }
  w.end_object().end_object();
}

Response store_failed(const Error& e) {
  if (e.code == Errc::unavailable) {
    auto response = error(429, "es_rejected_execution_exception", e.context);
    response.headers.set("Retry-After", "1");
    return response;
  }
  return error(e.code == Errc::io ? 503 : 500, "cluster_block_exception", e.context);
}

asio::awaitable<Response> bulk(ApiPtr api, Request r) {
  auto begun = std::chrono::steady_clock::now();
  auto at = r.params.find("index");
  auto items = std::make_shared<Result<std::vector<BulkItem>>>();
  auto outcomes = std::make_shared<Result<std::vector<Stored>>>();
  std::string index = at == r.params.end() ? "" : at->second;
  std::function<void()> work = [&] {
    *items = parse_bulk(r.body, index, system_now().wall);
    if (!*items) return;
    std::vector<Document> documents;
    for (auto& item : **items)
      if (item.problem.empty()) documents.push_back(std::move(item.document)), item.document.index = documents.back().index;
    *outcomes = documents.empty() ? Result<std::vector<Stored>>(std::vector<Stored>()) : api->store.ingest(std::move(documents));
  };
  co_await api->pool.run(work);
  if (!*items) co_return error(400, "illegal_argument_exception", items->error().context);
  if (!*outcomes) co_return store_failed(outcomes->error());
  bool errors = false;
  JsonWriter list;
  list.begin_array();
  auto next = (*outcomes)->begin();
  for (const auto& item : **items) {
    const Stored* stored = item.problem.empty() ? &*next++ : nullptr;
    errors = errors || !stored || stored->kind == Stored::Kind::conflict;
    write_item(list, item, stored);
  }
  list.end_array();
  JsonWriter w;
  w.begin_object().field("took", std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begun).count()).field("errors", errors).key("items").raw(list.str()).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> put_document(ApiPtr api, Request r) {
  BulkItem item;
  item.document.index = r.params.at("index");
  if (auto id = r.params.find("id"); id != r.params.end()) item.document.id = id->second;
  item.document.source = std::string(trim(r.body));
  item.document.create_only = r.path.find("/_create") != std::string::npos || r.query.get("op_type") == "create";
  if (auto ok = check_index_name(item.document.index); !ok) co_return error(400, "invalid_index_name_exception", ok.error().context);
  if (auto ok = complete_document(item.document, system_now().wall); !ok) co_return error(400, "mapper_parsing_exception", ok.error().context);
  auto index = item.document.index;
  auto outcome = std::make_shared<Result<std::vector<Stored>>>();
  auto documents = std::make_shared<std::vector<Document>>();
  documents->push_back(std::move(item.document));
  std::function<void()> work = [api, documents, outcome] { *outcome = api->store.ingest(std::move(*documents)); };
  co_await api->pool.run(work);
  if (!*outcome) co_return store_failed(outcome->error());
  const auto& stored = (**outcome)[0];
  if (stored.kind == Stored::Kind::conflict) co_return error(409, "version_conflict_engine_exception", fmt::format("[{}]: version conflict, document already exists (current version [1])", stored.id));
  bool created = stored.kind == Stored::Kind::created;
  JsonWriter w;
  w.begin_object().field("_index", index).field("_type", "_doc").field("_id", stored.id).field("_version", created ? 1 : 2).field("result", created ? "created" : "updated");
  w.key("_shards").begin_object().field("total", 1).field("successful", 1).field("failed", 0).end_object().field("_seq_no", stored.seq).field("_primary_term", 1).end_object();
  co_return Response::json(std::move(w).take(), created ? 201 : 200);
}

std::string size_text(std::uint64_t bytes) {
  static constexpr const char* units[] = {"b", "kb", "mb", "gb", "tb"};
  double v = static_cast<double>(bytes);
  int u = 0;
  while (v >= 1024 && u < 4) v /= 1024, ++u;
  return u == 0 ? fmt::format("{}b", bytes) : fmt::format("{:.1f}{}", v, units[u]);
}

asio::awaitable<Response> cat_indices(ApiPtr api, Request r) {
  auto wanted = wanted_of(api->store, r);
  if (wanted.unknown) co_return no_index(*wanted.unknown);
  bool as_json = r.query.get("format") == "json" || (r.headers.get("Accept").find("json") != std::string_view::npos && !r.query.has("v"));
  JsonWriter w;
  std::string text = r.query.has("v") ? "health status index uuid pri rep docs.count docs.deleted store.size pri.store.size\n" : "";
  w.begin_array();
  for (const auto& i : api->store.indices()) {
    if (!wanted(i.name)) continue;
    auto size = r.query.get("bytes") ? std::to_string(i.bytes) : size_text(i.bytes);
    w.begin_object().field("health", "green").field("status", "open").field("index", i.name).field("uuid", i.uuid).field("pri", "1").field("rep", "0");
    w.field("docs.count", std::to_string(i.documents)).field("docs.deleted", "0").field("store.size", size).field("pri.store.size", size).end_object();
    text += fmt::format("green open {} {} 1 0 {} 0 {} {}\n", i.name, i.uuid, i.documents, size, size);
  }
  w.end_array();
  co_return as_json ? Response::json(std::move(w).take()) : Response::text(std::move(text));
}

asio::awaitable<Response> root(ApiPtr api, Request) {
  auto uuid = base64_encode(api->store.uuid()).substr(0, 22);
  JsonWriter w;
  w.begin_object().field("name", api->options.node).field("cluster_name", "farm-logs").field("cluster_uuid", uuid).key("version").begin_object();
  w.field("number", api->options.version).field("build_flavor", "default").field("build_type", "deb").field("build_hash", "croft").field("build_date", "2025-02-20T09:05:31.349013687Z");
  w.field("build_snapshot", false).field("lucene_version", "8.11.3").field("minimum_wire_compatibility_version", "6.8.0").field("minimum_index_compatibility_version", "6.0.0-beta1");
  w.end_object().field("tagline", "You Know, for Search").end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> health(ApiPtr api, Request) {
  auto shards = api->store.indices().size();
  JsonWriter w;
  w.begin_object().field("cluster_name", "farm-logs").field("status", api->store.damaged().empty() ? "green" : "yellow").field("timed_out", false).field("number_of_nodes", 1).field("number_of_data_nodes", 1);
  w.field("active_primary_shards", shards).field("active_shards", shards).field("relocating_shards", 0).field("initializing_shards", 0).field("unassigned_shards", 0).field("delayed_unassigned_shards", 0);
  w.field("number_of_pending_tasks", 0).field("number_of_in_flight_fetch", 0).field("task_max_waiting_in_queue_millis", 0).field("active_shards_percent_as_number", 100.0).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> license(ApiPtr, Request) {
  co_return Response::json(R"({"license":{"status":"active","uid":"croft","type":"basic","issue_date":"2024-01-01T00:00:00.000Z","issue_date_in_millis":1704067200000,"max_nodes":1000,"max_resource_units":null,"issued_to":"farm","issuer":"elasticsearch","start_date_in_millis":-1}})");
}

asio::awaitable<Response> index_exists(ApiPtr api, Request r) {
  auto wanted = wanted_of(api->store, r);
  if (wanted.unknown) co_return no_index(*wanted.unknown);
  JsonWriter w;
  w.begin_object();
  for (const auto& i : api->store.indices()) {
    if (!wanted(i.name)) continue;
    w.key(i.name).begin_object().key("aliases").begin_object().end_object().key("mappings").begin_object().end_object().key("settings").begin_object().key("index").begin_object();
    w.field("creation_date", std::to_string(i.created.time_since_epoch().count())).field("number_of_shards", "1").field("number_of_replicas", "0").field("uuid", i.uuid).field("provided_name", i.name);
    w.end_object().end_object().end_object();
  }
  w.end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> index_change(ApiPtr api, Request r) {
  auto name = r.params.at("index");
  auto result = std::make_shared<Status>();
  bool drop = r.method == "DELETE";
  if (drop && (name.find('*') != std::string::npos || name == "_all")) co_return error(400, "illegal_argument_exception", "Wildcard expressions or all indices are not allowed");
  std::function<void()> work = [api, name, drop, result] { *result = drop ? api->store.drop_index(name) : api->store.create_index(name); };
  co_await api->pool.run(work);
  if (!*result) {
    auto e = result->error();
    if (e.code == Errc::not_found) co_return no_index(name);
    if (e.code == Errc::conflict) co_return error(400, "resource_already_exists_exception", e.context);
    co_return error(e.code == Errc::invalid ? 400 : 503, e.code == Errc::invalid ? "invalid_index_name_exception" : "cluster_block_exception", e.context);
  }
  JsonWriter w;
  w.begin_object().field("acknowledged", true);
  if (!drop) w.field("shards_acknowledged", true).field("index", name);
  w.end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> refreshed(ApiPtr, Request) { co_return Response::json(R"({"_shards":{"total":1,"successful":1,"failed":0}})"); }
asio::awaitable<Response> search_all(ApiPtr api, Request r) {
  auto job = do_search(std::move(api), std::move(r), false);
  co_return co_await std::move(job);
}
asio::awaitable<Response> count_all(ApiPtr api, Request r) {
  auto job = do_search(std::move(api), std::move(r), true);
  co_return co_await std::move(job);
}

using Face = asio::awaitable<Response> (*)(ApiPtr, Request);

/// Clients of 8 and later want the product's header on every answer, and the content type that they asked for.
asio::awaitable<Response> decorated(Face face, ApiPtr api, Request r) {
  std::string accept(r.headers.get("Accept"));
  auto response = co_await face(std::move(api), std::move(r));
  response.headers.set("X-elastic-product", "Elasticsearch");
  if (accept.starts_with("application/vnd.elasticsearch+json") && response.headers.get("Content-Type") == "application/json") response.headers.set("Content-Type", accept);
  co_return response;
}

}  // namespace

void add_es_routes(net::Router& router, Store& store, net::BlockingPool& pool, EsOptions options) {
  auto api = std::make_shared<Api>(Api{store, pool, std::move(options)});
  auto on = [&](std::initializer_list<std::string_view> methods, std::string_view pattern, Face face) {
    for (auto method : methods) router.on(method, pattern, [api, face](Request r) { return decorated(face, api, std::move(r)); });
  };
  on({"GET"}, "/", root);
  for (auto prefix : {"", "/{index}"}) {
    std::string p(prefix);
    on({"POST", "PUT"}, p + "/_bulk", bulk);
    on({"GET", "POST"}, p + "/_search", search_all);
    on({"GET", "POST"}, p + "/_count", count_all);
    on({"GET", "POST"}, p + "/_refresh", refreshed);
    on({"GET", "POST"}, p + "/_flush", refreshed);
    router.body_limit(p + "/_bulk", bulk_max);
  }
  on({"POST", "PUT"}, "/{index}/{type}/_bulk", bulk);
  on({"GET"}, "/_cat/indices", cat_indices);
  on({"GET"}, "/_cat/indices/{index}", cat_indices);
  on({"GET"}, "/_cluster/health", health);
  on({"GET"}, "/_license", license);
  on({"POST"}, "/{index}/_doc", put_document);
  on({"POST", "PUT"}, "/{index}/_doc/{id}", put_document);
  on({"POST", "PUT"}, "/{index}/_create/{id}", put_document);
  on({"GET"}, "/{index}", index_exists);
  on({"PUT", "DELETE"}, "/{index}", index_change);
}

}  // namespace croft::logs
