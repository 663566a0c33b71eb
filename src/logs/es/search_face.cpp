// Searching: _search, _count, _msearch, scrolls, points in time, _validate/query.

#include <algorithm>

#include "base/json.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/es/search_body.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t msearch_max = 200;
using Clock = std::chrono::steady_clock;

EsError too_many_buckets() { return {503, "too_many_buckets_exception", "Trying to create too many buckets. Must be less than or equal to: [65535] but was exceeded.", {{"max_buckets", "65535"}}, false}; }
EsError no_context(std::string_view id) { return {404, "search_context_missing_exception", fmt::format("No search context found for id [{}]", id), {}, true}; }

std::string owner_of(const Request& r) { return r.caller ? r.caller->who.str() : ""; }

struct Shown {
  SearchBody body;
  SearchResult result;
  std::size_t shards = 0;
  std::int64_t took = 0;
  std::string scroll_id;
};

/// How many more bytes an answer may take for documents.
struct Room {
  explicit Room(const Api& api) : left(api.options.answer_bytes_max), beside(left / 8) {}
  std::size_t left, beside;
  /// Beside its documents a hit has names, too.
  [[nodiscard]] std::size_t to_write() const { return left + beside; }
  void take(std::size_t bytes) { left -= std::min(left, bytes); }
};

/// The members of a search's answer; the object is open, so that more can follow. False when it is too large: what was written is then not whole.
bool write_answer(JsonWriter& w, const Shown& s, std::size_t room) {
  auto end = w.size() + room;
  const auto& request = s.body.request;
  auto failed = std::min(s.result.failures.size(), s.shards);
  if (!s.scroll_id.empty()) w.field("_scroll_id", s.scroll_id);
  if (s.body.pit) w.field("pit_id", *s.body.pit);
  w.field("took", s.took).field("timed_out", s.result.timed_out);
  if (request.terminate_after > 0) w.field("terminated_early", s.result.terminated_early);
  w.key("_shards").begin_object().field("total", s.shards).field("successful", s.shards - failed).field("skipped", 0).field("failed", failed);
  if (failed > 0) {
    w.key("failures").begin_array();
    for (std::size_t i = 0; i < failed; ++i) {
      w.begin_object().field("shard", 0).field("index", "_all").field("node", "croft").key("reason").begin_object().field("type", "corrupt_index_exception").field("reason", s.result.failures[i]);
      w.end_object().end_object();
    }
    w.end_array();
  }
  w.end_object().key("hits").begin_object();
  if (request.total_limit > 0) {
    if (s.body.total_as_number) w.field("total", s.result.total);
    else w.key("total").begin_object().field("value", s.result.total).field("relation", s.result.total_is_lower_bound ? "gte" : "eq").end_object();
  }
  w.key("max_score");
  if (s.body.hits.scored && !s.result.hits.empty()) w.value(1.0);
  else w.null();
  w.key("hits").begin_array();
  for (const auto& hit : s.result.hits)
    if (w.size() > end || !write_hit(w, hit, s.body.hits, *request.query, end - w.size())) return false;
  w.end_array().end_object();
  if (s.result.aggregations.size() > end - std::min(end, w.size())) return false;
  if (!s.result.aggregations.empty()) w.key("aggregations").raw(s.result.aggregations);
  return true;
}

/// Tells the search what it may hold, and how to make do with less.
void bound(SearchRequest& request, const HitOptions& hits, const Room& room) {
  request.bytes_max = room.left;
  const auto& source = hits.source;
  if (!hits.source_only() || (source.enabled && source.includes.empty() && source.excludes.empty())) return;
  request.shorten = [source](const std::string& whole) { return source.enabled ? source.apply(whole) : std::string(); };
}

/// Runs one search; blocks. The target is given unless the body names a point in time, which must be `owner`'s.
Es<Shown> search_now(Api& api, const Target& target, SearchBody body, const std::string& owner, std::optional<std::chrono::milliseconds> scroll, const Cancelled& cancelled, const Room& room) {
  auto begun = Clock::now();
  ++api.searches;
  std::shared_ptr<const StoreView> view;
  if (body.pit) {
    auto cursor = api.cursors.find(*body.pit, owner, body.pit_keep);
    if (!cursor) return std::unexpected(no_context(*body.pit));
    view = cursor->view;
  } else {
    view = std::make_shared<const StoreView>(api.store.view(std::cref(target)));
  }
  Shown shown{std::move(body), {}, view->indices.size(), 0, {}};
  auto& request = shown.body.request;
  if (scroll && request.sort.empty()) request.sort = {{"_doc", false, false, {}}};
  bound(request, shown.body.hits, room);
  shown.result = search(*view, request, &cancelled);
  if (shown.result.too_large) return std::unexpected(answer_too_large(api));
  if (shown.result.too_many_buckets) return std::unexpected(too_many_buckets());
  for (const auto& failure : shown.result.failures) log::error("logs", "{}", failure);
  if (scroll) {
    Cursor cursor{owner, view, request, {}, shown.result.total, shown.result.total_is_lower_bound};
    cursor.request.aggregations.clear();
    cursor.request.from = 0;
    cursor.request.total_limit = 0;  // known from the first page
    if (!shown.result.hits.empty()) cursor.request.after = shown.result.hits.back().keys, cursor.request.after_seq = shown.result.hits.back().seq;
    cursor.hits = std::make_shared<HitOptions>(shown.body.hits);
    auto id = api.cursors.open(std::move(cursor), *scroll);
    if (!id) return std::unexpected(EsError{429, "es_rejected_execution_exception", "Trying to create too many scroll contexts. Must be less than or equal to: [200].", {}, false});
    shown.scroll_id = *id;
  }
  shown.took = std::chrono::duration_cast<Millis>(Clock::now() - begun).count();
  return shown;
}

/// With room for what is likely: growing would take twice of it.
JsonWriter writer_for(const Shown& s) {
  std::string text;
  const auto& source = s.body.hits.source;
  bool whole = source.enabled && source.includes.empty() && source.excludes.empty();
  text.reserve(1024 + s.result.aggregations.size() + (whole ? s.result.bytes + 128 * s.result.hits.size() : 0));
  return JsonWriter(std::move(text));
}

/// Written where it was searched: so many answers are made at once as threads search.
Es<std::string> answer_of(const Api& api, const Shown& shown) {
  auto w = writer_for(shown);
  w.begin_object();
  if (!write_answer(w, shown, Room(api).to_write())) return std::unexpected(answer_too_large(api));
  w.end_object();
  return std::move(w).take();
}

asio::awaitable<Response> search_face(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto read = read_search(*body, r.body, r.query, system_now().wall);
  if (!read) co_return error(read.error());
  if (auto refused = restrict_to(*read, r.caller)) co_return error(*refused);
  if (read->pit && !index_param(r).empty()) co_return error(400, "action_request_validation_exception", "Validation Failed: 1: [indices] cannot be used with point in time;");
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  std::optional<std::chrono::milliseconds> scroll;
  if (auto text = r.query.get("scroll")) {
    scroll = read_duration(*text);
    if (!scroll) co_return error(400, "illegal_argument_exception", fmt::format("failed to parse setting [scroll] with value [{}] as a time value", *text));
    if (read->request.size == 0) co_return error(400, "action_request_validation_exception", "Validation Failed: 1: [size] cannot be [0] in a scroll context;");
  }
  auto text = std::make_shared<Es<std::string>>();
  std::function<void(const Cancelled&)> work = [&](const Cancelled& cancelled) {
    auto shown = search_now(*api, *target, std::move(*read), owner_of(r), scroll, cancelled, Room(*api));
    *text = shown ? answer_of(*api, *shown) : Es<std::string>(std::unexpected(std::move(shown).error()));
    if (shown && !*text) api->cursors.close(shown->scroll_id, owner_of(r));
  };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  if (!*text) co_return error(text->error());
  co_return Response::json(std::move(**text));
}

asio::awaitable<Response> count_face(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  for (const auto& m : body->get_object())
    if (m.key() != "query") co_return error(parsing_error(fmt::format("request does not support [{}]", std::string_view(m.key())), r.body));
  auto read = read_search(*body, r.body, r.query, system_now().wall);
  if (!read) co_return error(read.error());
  if (auto refused = restrict_to(*read, r.caller)) co_return error(*refused);
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  read->request.count_only = true;
  read->request.total_limit = UINT64_MAX;
  read->request.sort.clear();
  auto shown = std::make_shared<Es<Shown>>();
  std::function<void(const Cancelled&)> work = [&](const Cancelled& cancelled) { *shown = search_now(*api, *target, std::move(*read), owner_of(r), {}, cancelled, Room(*api)); };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  if (!*shown) co_return error(shown->error());
  JsonWriter w;
  w.begin_object().field("count", (*shown)->result.total);
  write_shards(w, (*shown)->shards, std::min((*shown)->result.failures.size(), (*shown)->shards));
  w.end_object();
  co_return Response::json(std::move(w).take());
}

// --- several at once ---

struct Pair { json::value header; std::string body; };

Es<std::vector<Pair>> pairs_of(std::string_view text) {
  std::vector<Pair> out;
  auto line = [&] {
    auto end = text.find('\n');
    auto l = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return trim(l);
  };
  while (!text.empty()) {
    auto header = line();
    if (header.empty() && text.empty()) break;
    auto parsed = header.empty() ? Result<json::value>(json::value(json::object())) : json::parse(header);
    if (!parsed || !parsed->is_object()) return std::unexpected(EsError{400, "illegal_argument_exception", "the header of a search is not a JSON object", {}, false});
    if (text.empty()) return std::unexpected(EsError{400, "action_request_validation_exception", "Validation Failed: 1: no body for the last search;", {}, false});
    out.push_back({std::move(*parsed), std::string(line())});
    if (out.size() > msearch_max) return std::unexpected(EsError{400, "illegal_argument_exception", fmt::format("more than {} searches in one request", msearch_max), {}, false});
  }
  if (out.empty()) return std::unexpected(EsError{400, "action_request_validation_exception", "Validation Failed: 1: no requests added;", {}, false});
  return out;
}

std::string index_of_header(const json::value& header, const std::string& fallback) {
  for (auto key : {"index", "indices"}) {
    const auto* v = json::find(header, key);
    if (!v) continue;
    if (v->is_string()) return std::string(v->get_string());
    return join(json::texts(header, key), ",");
  }
  return fallback;
}

Es<Shown> search_pair(Api& api, const Pair& pair, const std::string& fallback, const Request& r, const Cancelled& cancelled, const Room& room) {
  auto body = trim(pair.body).empty() ? Result<json::value>(json::value(json::object())) : json::parse(pair.body);
  if (!body) return std::unexpected(EsError{400, "json_parse_exception", body.error().context, {}, false});
  if (!body->is_object()) return std::unexpected(EsError{400, "parsing_exception", "Expected [START_OBJECT]", {{"line", "1"}, {"col", "1"}}, false});
  auto read = read_search(*body, pair.body, r.query, system_now().wall);
  if (!read) return std::unexpected(std::move(read).error());
  if (auto refused = restrict_to(*read, r.caller)) return std::unexpected(std::move(*refused));
  TargetOptions options{json::boolean(pair.header, "ignore_unavailable"), json::boolean(pair.header, "allow_no_indices", true)};
  auto target = target_of(api, index_of_header(pair.header, fallback), options);
  if (!target) return std::unexpected(std::move(target).error());
  return search_now(api, *target, std::move(*read), owner_of(r), {}, cancelled, room);
}

/// One after the other, with one bound for all: what comes when it is reached is answered with the error as its own.
std::string answers_of(Api& api, const std::vector<Pair>& pairs, const std::string& fallback, const Request& r, const Cancelled& cancelled) {
  auto begun = Clock::now();
  Room room(api);
  JsonWriter list;
  list.begin_object().key("responses").begin_array();
  for (const auto& pair : pairs) {
    if (cancelled) break;
    auto shown = search_pair(api, pair, fallback, r, cancelled, room);
    if (!shown) {
      write_error(list, shown.error());
      continue;
    }
    auto one = writer_for(*shown);
    one.begin_object();
    bool whole = write_answer(one, *shown, room.to_write());
    room.take(std::max(one.size(), shown->result.bytes));
    if (!whole) {
      write_error(list, answer_too_large(api));
      continue;
    }
    one.field("status", 200).end_object();
    list.raw(one.str());
  }
  list.end_array().field("took", std::chrono::duration_cast<Millis>(Clock::now() - begun).count()).end_object();
  return std::move(list).take();
}

asio::awaitable<Response> several(ApiPtr api, Request r) {
  auto pairs = pairs_of(r.body);
  if (!pairs) co_return error(pairs.error());
  auto text = std::make_shared<std::string>();
  auto fallback = index_param(r);
  std::function<void(const Cancelled&)> work = [&](const Cancelled& cancelled) { *text = answers_of(*api, *pairs, fallback, r, cancelled); };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  co_return Response::json(std::move(*text));
}

// --- scrolls and points in time ---

std::vector<std::string> ids_of(const json::value& body, std::string_view key, const Request& r) {
  std::vector<std::string> out = json::texts(body, key);
  if (auto one = json::text(body, key); !one.empty()) out.push_back(one);
  if (auto text = r.query.get(key)) out.push_back(*text);
  if (auto at = r.params.find("id"); at != r.params.end())
    for (auto& id : split(at->second, ',')) out.push_back(std::move(id));
  return out;
}

/// The next page of a scroll; the cursor then stands behind it.
Es<std::string> page_of(const Api& api, const std::string& id, Cursor& cursor, bool as_number, const Cancelled& cancelled) {
  auto begun = Clock::now();
  Shown shown{{}, search(*cursor.view, cursor.request, &cancelled), cursor.view->indices.size(), 0, id};
  if (shown.result.too_large) return std::unexpected(answer_too_large(api));
  shown.body.request.query = cursor.request.query;
  shown.body.hits = *cursor.hits;
  shown.body.total_as_number = as_number;
  shown.result.total = cursor.total;
  shown.result.total_is_lower_bound = cursor.total_is_lower_bound;
  shown.took = std::chrono::duration_cast<Millis>(Clock::now() - begun).count();
  auto text = answer_of(api, shown);
  if (text && !shown.result.hits.empty()) cursor.request.after = shown.result.hits.back().keys, cursor.request.after_seq = shown.result.hits.back().seq;
  return text;
}

asio::awaitable<Response> next_page(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto ids = ids_of(*body, "scroll_id", r);
  if (ids.empty()) co_return error(400, "action_request_validation_exception", "Validation Failed: 1: scrollId is missing;");
  auto keep = read_duration(json::text(*body, "scroll", r.query.get("scroll").value_or("1m"))).value_or(std::chrono::minutes(1));
  auto cursor = api->cursors.find(ids[0], owner_of(r), keep);
  if (!cursor) co_return error(no_context(ids[0]));
  auto text = std::make_shared<Es<std::string>>();
  bool as_number = r.query.flag("rest_total_hits_as_int");
  std::function<void(const Cancelled&)> work = [&](const Cancelled& cancelled) { *text = page_of(*api, ids[0], *cursor, as_number, cancelled); };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  if (!*text) co_return error(text->error());
  api->cursors.replace(ids[0], std::move(*cursor));
  co_return Response::json(std::move(**text));
}

asio::awaitable<Response> end_cursors(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  bool scroll = r.path.find("scroll") != std::string::npos;
  auto ids = ids_of(*body, scroll ? "scroll_id" : "id", r);
  std::size_t freed = 0;
  if (std::find(ids.begin(), ids.end(), "_all") != ids.end()) freed = api->cursors.close_all();
  else
    for (const auto& id : ids) freed += api->cursors.close(id, owner_of(r));
  JsonWriter w;
  w.begin_object().field("succeeded", true).field("num_freed", freed).end_object();
  co_return Response::json(std::move(w).take(), freed > 0 ? 200 : 404);
}

asio::awaitable<Response> open_point(ApiPtr api, Request r) {
  auto keep = read_duration(r.query.get("keep_alive").value_or(""));
  if (!keep) co_return error(400, "action_request_validation_exception", "Validation Failed: 1: [keep_alive] is not specified;");
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  Cursor cursor;
  cursor.owner = owner_of(r);
  cursor.view = std::make_shared<const StoreView>(api->store.view(std::cref(*target)));
  auto id = api->cursors.open(std::move(cursor), *keep);
  if (!id) co_return error(429, "es_rejected_execution_exception", "too many points in time and scrolls are open");
  JsonWriter w;
  w.begin_object().field("id", *id).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> validate(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto read = read_search(*body, r.body, r.query, system_now().wall);
  JsonWriter w;
  w.begin_object().key("_shards").begin_object().field("total", 1).field("successful", 1).field("failed", 0).end_object().field("valid", read.has_value());
  if (!read && r.query.flag("explain")) w.key("explanations").begin_array().begin_object().field("valid", false).field("error", read.error().reason).end_object().end_array();
  w.end_object();
  co_return Response::json(std::move(w).take());
}

}  // namespace

void add_search_routes(const On& on) {
  for (const char* p : {"", "/{index}", "/{index}/{rest}"}) {
    std::string prefix(p);
    on({"GET", "POST"}, prefix + "/_search", search_face);
    on({"GET", "POST"}, prefix + "/_count", count_face);
    on({"GET", "POST"}, prefix + "/_msearch", several);
    on({"GET", "POST"}, prefix + "/_validate/query", validate);
  }
  on({"GET", "POST"}, "/_search/scroll", next_page);
  on({"GET", "POST"}, "/_search/scroll/{id}", next_page);
  on({"DELETE"}, "/_search/scroll", end_cursors);
  on({"DELETE"}, "/_search/scroll/{id}", end_cursors);
  on({"POST"}, "/{index}/_pit", open_point);
  on({"DELETE"}, "/_pit", end_cursors);
}

}  // namespace croft::logs
