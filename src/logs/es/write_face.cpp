// Documents in: _bulk, _doc, _create; and single ones out again: GET _doc, _source, _mget.

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/es/bulk.hpp"
#include "logs/es/face.hpp"
#include "logs/es/hits.hpp"
#include "logs/query/search.hpp"
#include "secure/caller.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t in_flight_max = 256u << 20;  // bytes of bulk bodies at work at once

/// Counts a body's bytes while it is worked on.
class InFlight {
 public:
  InFlight(Api& api, std::size_t bytes) : api_(api), bytes_(bytes), fits_(api.in_flight.fetch_add(bytes) + bytes <= in_flight_max || api.in_flight == bytes) {}
  ~InFlight() { api_.in_flight -= bytes_; }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  [[nodiscard]] bool fits() const { return fits_; }

 private:
  Api& api_;
  std::size_t bytes_;
  bool fits_;
};

/// The host that asks with its certificate; nothing: who asks has a login, or nobody has.
std::optional<Sender> sender_of(const Request& r) {
  if (!r.certificate || (r.caller && r.caller->who.kind != secure::Principal::Kind::host)) return std::nullopt;
  return Sender{r.certificate->identity.host, r.certificate->identity.is(secure::HostRole::node)};
}

void write_stored(JsonWriter& w, const Stored& stored) {
  bool created = stored.kind == Stored::Kind::created;
  w.field("_version", created ? 1 : 2).field("result", created ? "created" : "updated").key("_shards").begin_object().field("total", 1).field("successful", 1).field("failed", 0).end_object();
  w.field("_seq_no", stored.seq).field("_primary_term", 1);
}

std::string conflict_words(std::string_view id) { return fmt::format("[{}]: version conflict, document already exists (current version [1])", id); }

void write_item(JsonWriter& w, const BulkItem& item, const Stored* stored) {
  w.begin_object().key(item.action).begin_object().field("_index", item.document.index).field("_type", "_doc");
  auto id = stored ? stored->id : item.document.id;
  if (id.empty()) w.key("_id").null();
  else w.field("_id", id);
  if (!stored || stored->kind == Stored::Kind::refused) {
    w.field("status", stored ? 400 : item.status).key("error").begin_object().field("type", stored ? "validation_exception" : item.type);
    w.field("reason", stored ? "this action would add [1] index, but this store has its maximum of indices open" : item.problem).end_object();
  } else if (stored->kind == Stored::Kind::conflict) {
    w.field("status", 409).key("error").begin_object().field("type", "version_conflict_engine_exception").field("reason", conflict_words(stored->id));
    w.field("index_uuid", "_na_").field("shard", "0").field("index", item.document.index).end_object();
  } else {
    write_stored(w, *stored);
    w.field("status", stored->kind == Stored::Kind::created ? 201 : 200);
  }
  w.end_object().end_object();
}

/// Where each item goes: aliases and dates resolved, names judged. Bulks name few indices, so each name is looked at once.
void resolve(Api& api, std::vector<BulkItem>& items, bool require_alias, Wall now) {
  std::map<std::string, Es<std::string>> known;
  auto aliases = aliases_of(api);
  for (auto& item : items) {
    auto at = known.find(item.document.index);
    if (at == known.end()) {
      auto name = aliases.by_alias.empty() && !item.document.index.starts_with('<') ? Es<std::string>(item.document.index) : write_index(api, item.document.index, now);
      if (name)
        if (auto ok = check_index_name(*name); !ok) name = std::unexpected(EsError{400, "invalid_index_name_exception", ok.error().context, {}, false});
      if (name && require_alias && !aliases.by_alias.contains(item.document.index))
        name = std::unexpected(EsError{404, "index_not_found_exception", fmt::format("no such index [{}] and [require_alias] request flag is [true] and [{}] is not an alias", item.document.index, item.document.index), {}, false});
      at = known.emplace(item.document.index, std::move(name)).first;
    }
    if (at->second) item.document.index = *at->second;
    else if (item.problem.empty()) item.status = at->second.error().status, item.type = at->second.error().type, item.problem = at->second.error().reason;
  }
}

Response bulk_reply(const std::vector<BulkItem>& items, const std::vector<Stored>& outcomes, std::chrono::steady_clock::time_point begun, const Request& r) {
  bool errors = false;
  auto next = outcomes.begin();
  for (const auto& item : items) {
    if (!item.problem.empty()) errors = true;
    else if (auto kind = (next++)->kind; kind == Stored::Kind::conflict || kind == Stored::Kind::refused) errors = true;
  }
  auto took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begun).count();
  // What shippers ask for: only the errors. Without any there is no need to write what would be filtered out.
  auto paths = r.query.get("filter_path");
  bool only_errors = paths && !errors && std::ranges::all_of(split(*paths, ','), [](const std::string& p) { return p == "error" || p == "errors" || p == "items.*.error"; });
  JsonWriter w;
  w.begin_object();
  if (!only_errors) w.field("took", took);
  w.field("errors", errors);
  if (only_errors) return w.end_object(), Response::json(std::move(w).take());
  w.key("items").begin_array();
  next = outcomes.begin();
  for (const auto& item : items) write_item(w, item, item.problem.empty() ? &*next++ : nullptr);
  w.end_array().end_object();
  return Response::json(std::move(w).take());
}

asio::awaitable<Response> bulk(ApiPtr api, Request r) {
  auto begun = std::chrono::steady_clock::now();
  InFlight load(*api, r.body.size());
  if (!load.fits()) co_return error(429, "es_rejected_execution_exception", "rejected execution of bulk: more than 256 MB of bulk requests are at work");
  auto items = std::make_shared<Result<std::vector<BulkItem>>>();
  auto outcomes = std::make_shared<Result<std::vector<Stored>>>();
  BulkDefaults defaults{index_param(r), r.query.get("op_type") == "create", sender_of(r)};
  bool require_alias = r.query.flag("require_alias");
  if (auto pipeline = r.query.get("pipeline"); pipeline && *pipeline != "_none") co_return error(400, "illegal_argument_exception", fmt::format("pipeline with id [{}] does not exist", *pipeline));
  std::function<void()> work = [&] {
    auto now = system_now().wall;
    *items = parse_bulk(r.body, defaults, now);
    if (!*items) return;
    resolve(*api, **items, require_alias, now);
    std::vector<Document> documents;
    documents.reserve((*items)->size());
    for (auto& item : **items) {
      if (!item.problem.empty()) continue;
      auto index = item.document.index;
      documents.push_back(std::move(item.document));
      item.document.index = std::move(index);
    }
    *outcomes = documents.empty() ? Result<std::vector<Stored>>(std::vector<Stored>()) : api->store.ingest(std::move(documents));
  };
  co_await api->pool.run(work);
  if (!*items) {
    auto words = items->error().context;
    co_return error(400, words.starts_with("Validation") ? "action_request_validation_exception" : "illegal_argument_exception", words);
  }
  if (!*outcomes) co_return error(store_failed(outcomes->error()));
  api->indexed += (*outcomes)->size();
  co_return bulk_reply(**items, **outcomes, begun, r);
}

asio::awaitable<Response> put_document(ApiPtr api, Request r) {
  Document d;
  auto name = write_index(*api, index_param(r), system_now().wall);
  if (!name) co_return error(name.error());
  d.index = *name;
  if (auto id = r.params.find("id"); id != r.params.end()) d.id = id->second;
  if (!valid_utf8(d.id)) co_return error(400, "illegal_argument_exception", fmt::format("id [{}] is not valid UTF-8", url_encode(d.id)));
  if (d.id.size() > 512) co_return error(400, "illegal_argument_exception", fmt::format("id is too long, must be no longer than 512 bytes but was: {}", d.id.size()));
  d.source = std::string(trim(r.body));
  d.create_only = r.path.find("/_create") != std::string::npos || r.query.get("op_type") == "create";
  if (d.source.empty()) co_return error(400, "action_request_validation_exception", "Validation Failed: 1: source is missing;");
  if (auto ok = check_index_name(d.index); !ok) co_return error(400, "invalid_index_name_exception", ok.error().context);
  auto sender = sender_of(r);
  if (auto ok = complete_document(d, system_now().wall, sender); !ok) {
    bool forbidden = ok.error().code == Errc::forbidden;
    co_return error(forbidden ? 403 : 400, forbidden ? "security_exception" : "mapper_parsing_exception", ok.error().context);
  }
  auto outcome = std::make_shared<Result<std::vector<Stored>>>();
  auto documents = std::make_shared<std::vector<Document>>();
  documents->push_back(std::move(d));
  std::function<void()> work = [api, documents, outcome] { *outcome = api->store.ingest(std::move(*documents)); };
  co_await api->pool.run(work);
  if (!*outcome) co_return error(store_failed(outcome->error()));
  const auto& stored = (**outcome)[0];
  if (stored.kind == Stored::Kind::refused) co_return error(400, "validation_exception", "this action would add [1] index, but this store has its maximum of indices open");
  if (stored.kind == Stored::Kind::conflict)
    co_return error(EsError{409, "version_conflict_engine_exception", conflict_words(stored.id), {{"index_uuid", "\"_na_\""}, {"shard", "\"0\""}, {"index", json_quote(*name)}}, false});
  ++api->indexed;
  JsonWriter w;
  w.begin_object().field("_index", *name).field("_type", "_doc").field("_id", stored.id);
  write_stored(w, stored);
  w.end_object();
  auto response = Response::json(std::move(w).take(), stored.kind == Stored::Kind::created ? 201 : 200);
  response.headers.set("Location", fmt::format("/{}/_doc/{}", url_encode(*name), url_encode(stored.id)));
  co_return response;
}

/// One document by its id, the newest version.
std::optional<Hit> find_document(Api& api, const Target& target, const std::string& id) {
  auto q = std::make_shared<Query>();
  q->kind = Query::Kind::ids;
  q->tokens = {id};
  SearchRequest s;
  s.query = q;
  s.size = 1;
  auto found = search(api.store.view(std::cref(target)), s);
  return found.hits.empty() ? std::nullopt : std::optional(std::move(found.hits[0]));
}

void write_document(JsonWriter& w, std::string_view index, std::string_view id, const std::optional<Hit>& hit, const SourceFilter& filter) {
  w.begin_object().field("_index", hit ? std::string_view(hit->index) : index).field("_type", "_doc").field("_id", id);
  if (!hit) {
    w.field("found", false).end_object();
    return;
  }
  w.field("_version", 1).field("_seq_no", hit->seq).field("_primary_term", 1).field("found", true);
  if (filter.enabled) w.key("_source").raw(filter.apply(hit->source));
  w.end_object();
}

asio::awaitable<Response> get_document(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto id = r.params.at("id");
  auto hit = std::make_shared<std::optional<Hit>>();
  std::function<void(const Cancelled&)> work = [api, &target, id, hit](const Cancelled&) { *hit = find_document(*api, *target, id); };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  auto filter = source_filter(json::value(json::object()), r.query);
  if (r.path.find("/_source/") != std::string::npos) {
    if (!*hit) co_return error(404, "resource_not_found_exception", fmt::format("Document not found [{}]/[_doc]/[{}]", index_param(r), id));
    co_return Response::json(filter.apply((*hit)->source));
  }
  JsonWriter w;
  write_document(w, index_param(r), id, *hit, filter);
  co_return Response::json(std::move(w).take(), *hit ? 200 : 404);
}

struct Wanted { std::string index, id; SourceFilter filter; };

Es<std::vector<Wanted>> wanted_of(const json::value& body, const Request& r) {
  std::vector<Wanted> out;
  auto index = index_param(r);
  for (const auto& d : json::list(body, "docs")) {
    const auto* id = json::find(d, "_id");
    if (!id) return std::unexpected(EsError{400, "action_request_validation_exception", fmt::format("Validation Failed: 1: id is missing for doc {};", out.size()), {}, false});
    out.push_back({json::text(d, "_index", index), id->is_string() ? std::string(id->get_string()) : json::print(*id), source_filter(d, r.query)});
  }
  for (const auto& id : json::list(body, "ids")) out.push_back({index, id.is_string() ? std::string(id.get_string()) : json::print(id), source_filter(json::value(json::object()), r.query)});
  if (out.empty()) return std::unexpected(EsError{400, "action_request_validation_exception", "Validation Failed: 1: no documents to get;", {}, false});
  if (out.size() > 1000) return std::unexpected(EsError{400, "illegal_argument_exception", "more than 1000 documents to get", {}, false});
  return out;
}

/// Documents that would make the answer too large are answered with the error, each in its place.
std::string documents_of(Api& api, const std::vector<Wanted>& wanted, const Cancelled& cancelled) {
  const auto most = api.options.answer_bytes_max;
  JsonWriter w;
  w.begin_object().key("docs").begin_array();
  for (const auto& one : wanted) {
    if (cancelled) break;
    auto target = target_of(api, one.index, {});
    std::optional<EsError> wrong;
    if (!target) wrong = target.error();
    auto hit = target && w.size() <= most ? find_document(api, *target, one.id) : std::nullopt;
    if (hit && one.filter.enabled) hit->source = one.filter.apply(hit->source);
    if (w.size() > most || (hit && one.filter.enabled && w.size() + hit->source.size() > most)) wrong = answer_too_large(api);
    if (!wrong) {
      write_document(w, one.index, one.id, hit, SourceFilter{one.filter.enabled, {}, {}});
      continue;
    }
    w.begin_object().field("_index", one.index).field("_type", "_doc").field("_id", one.id).key("error").begin_object().field("type", wrong->type).field("reason", wrong->reason).end_object().end_object();
  }
  w.end_array().end_object();
  return std::move(w).take();
}

asio::awaitable<Response> get_several(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto wanted = wanted_of(*body, r);
  if (!wanted) co_return error(wanted.error());
  auto text = std::make_shared<std::string>();
  std::function<void(const Cancelled&)> work = [api, &wanted, text](const Cancelled& cancelled) { *text = documents_of(*api, *wanted, cancelled); };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  co_return Response::json(std::move(*text));
}

asio::awaitable<Response> append_only(ApiPtr, Request r) {
  co_return error(400, "illegal_argument_exception", fmt::format("[{} {}] is not supported: this store only appends; documents go with their index, by DELETE or by retention", r.method, r.path));
}

}  // namespace

void add_write_routes(const On& on) {
  for (const char* p : {"", "/{index}", "/{index}/{rest}"}) {
    std::string prefix(p);
    on({"POST", "PUT"}, prefix + "/_bulk", bulk);
    if (prefix.empty()) continue;
    on({"POST"}, prefix + "/_doc", put_document);
    on({"POST", "PUT"}, prefix + "/_doc/{id}", put_document);
    on({"POST", "PUT"}, prefix + "/_create/{id}", put_document);
  }
  on({"GET"}, "/{index}/_doc/{id}", get_document);
  on({"GET"}, "/{index}/_source/{id}", get_document);
  on({"DELETE"}, "/{index}/_doc/{id}", append_only);
  on({"POST"}, "/{index}/_update/{id}", append_only);
  on({"POST"}, "/{index}/_delete_by_query", append_only);
  on({"POST"}, "/{index}/_update_by_query", append_only);
  on({"GET", "POST"}, "/_mget", get_several);
  on({"GET", "POST"}, "/{index}/_mget", get_several);
}

}  // namespace croft::logs
