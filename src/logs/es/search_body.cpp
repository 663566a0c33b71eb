#include "logs/es/search_body.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/query/parse.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t window_max = 10'000;
constexpr std::int64_t limit_max_ms = 120'000;

EsError illegal(std::string reason) { return {400, "illegal_argument_exception", std::move(reason), {}, false}; }

/// A query that cannot be read: the words tell whether its syntax, its dates or its JSON is wrong.
EsError query_error(const std::string& words, std::string_view text) {
  if (words.starts_with("Failed to parse query")) {
    auto end = words.find("]: column ");
    auto query = words.substr(0, end == std::string::npos ? end : end + 1);
    JsonWriter cause;
    cause.begin_object().field("type", "parse_exception").field("reason", words).end_object();
    return {400, "query_shard_exception", query, {{"index_uuid", "\"_na_\""}, {"index", "\"_all\""}, {"caused_by", std::move(cause).take()}}, true};
  }
  if (words.starts_with("failed to parse date field") || words.starts_with("Unknown time-zone")) return {400, words.starts_with("U") ? "illegal_argument_exception" : "parse_exception", words, {}, true};
  return parsing_error(words, text);
}

/// Members of a search body. What is left out on purpose is refused when it asks for something.
Status check_keys(const json::value& body) {
  static constexpr std::string_view known[] = {"query", "from", "size", "sort", "_source", "fields", "docvalue_fields", "stored_fields", "script_fields", "aggs", "aggregations", "highlight", "search_after", "pit",
                                               "track_total_hits", "timeout", "terminate_after", "min_score", "version", "seq_no_primary_term", "explain", "profile", "post_filter", "track_scores", "stats", "indices_boost", "ext", "index"};
  static constexpr std::string_view refused[] = {"collapse", "runtime_mappings", "suggest", "rescore", "slice", "knn"};
  for (const auto& m : body.get_object()) {
    bool nothing = m.value().is_null() || (m.value().is_object() && m.value().get_object().empty()) || (m.value().is_array() && m.value().get_array().empty());
    if (std::find(std::begin(refused), std::end(refused), m.key()) != std::end(refused) || m.key() == "script_fields") {
      if (!nothing) return fail(Errc::invalid, "[{}] is not supported by this store", std::string_view(m.key()));
    } else if (std::find(std::begin(known), std::end(known), m.key()) == std::end(known)) {
      auto kind = m.value().is_object() ? "START_OBJECT" : m.value().is_array() ? "START_ARRAY" : m.value().is_string() ? "VALUE_STRING" : m.value().is_bool() ? "VALUE_BOOLEAN" : m.value().is_null() ? "VALUE_NULL" : "VALUE_NUMBER";
      return fail(Errc::invalid, "Unknown key for a {} in [{}].", kind, std::string_view(m.key()));
    }
  }
  return {};
}

class Reader {
 public:
  Reader(const json::value& body, std::string_view text, const net::Query& url, Wall now) : body_(body), text_(text), url_(url), now_(now) {}

  Es<SearchBody> run() {
    if (auto ok = check_keys(body_); !ok) return std::unexpected(parsing_error(ok.error().context, text_));
    for (auto step : {&Reader::queries, &Reader::window, &Reader::order, &Reader::totals, &Reader::limits, &Reader::place, &Reader::rest})
      if (auto wrong = (this->*step)()) return std::unexpected(std::move(*wrong));
    return std::move(out_);
  }

 private:
  using Wrong = std::optional<EsError>;

  Wrong queries() {
    auto& s = out_.request;
    for (auto [key, into] : {std::pair("query", &s.query), std::pair("post_filter", &s.post_filter)}) {
      const auto* given = json::find(body_, key);
      if (!given) continue;
      auto q = parse_dsl(*given, now_);
      if (!q) return query_error(q.error().context, text_);
      *into = *q;
    }
    auto text = url_.get("q");
    if (!text) return {};
    auto operand = lower(url_.get("default_operator").value_or("or"));
    if (operand != "and" && operand != "or") return illegal(fmt::format("Unsupported defaultOperator [{}], can either be [OR] or [AND]", operand));
    auto q = parse_query_string(*text, {url_.get("df").value_or(""), operand == "and", nullptr}, now_);
    if (!q && url_.flag("lenient")) return {};
    if (!q) return query_error(q.error().context, text_);
    s.query = json::find(body_, "query") ? make_bool({s.query, *q}, {}, {}, 0) : *q;
    return {};
  }

  /// A natural number of the body, overruled by the URL's.
  std::expected<std::int64_t, EsError> number(std::string_view key, std::int64_t fallback) {
    const auto* given = json::find(body_, key);
    if (given && !given->is_number() && !(given->is_string() && to_int(std::string_view(given->get_string()))))
      return std::unexpected(parsing_error(fmt::format("Failed to parse value [{}] of [{}] as an integer", json::print(*given), key), text_));
    auto n = given && given->is_string() ? *to_int(std::string_view(given->get_string())) : json::integer(body_, key, fallback);
    if (auto text = url_.get(key)) {
      auto parsed = to_int(*text);
      if (!parsed) return std::unexpected(illegal(fmt::format("Failed to parse int parameter [{}] with value [{}]", key, *text)));
      n = *parsed;
    }
    if (n < 0) return std::unexpected(illegal(fmt::format("[{}] parameter cannot be negative, found [{}]", key, n)));
    return n;
  }

  Wrong window() {
    auto from = number("from", 0), size = number("size", 10), stop = number("terminate_after", 0);
    for (auto* n : {&from, &size, &stop})
      if (!*n) return n->error();
    if (*from + *size > static_cast<std::int64_t>(window_max)) {
      auto e = illegal(fmt::format("Result window is too large, from + size must be less than or equal to: [{}] but was [{}]. See the scroll api for a more efficient way to request large data sets. "
                                   "This limit can be set by changing the [index.max_result_window] index level setting.", window_max, *from + *size));
      e.in_query = true;
      return e;
    }
    out_.request.from = static_cast<std::size_t>(*from);
    out_.request.size = static_cast<std::size_t>(*size);
    out_.request.terminate_after = static_cast<std::uint64_t>(*stop);
    return {};
  }

  Wrong order() {
    auto& sort = out_.request.sort;
    if (auto text = url_.get("sort")) {
      for (const auto& one : split(*text, ',')) {
        auto keys = parse_sort(json::value(one));
        if (keys) sort.insert(sort.end(), keys->begin(), keys->end());
      }
    } else if (const auto* given = json::find(body_, "sort")) {
      auto keys = parse_sort(*given);
      if (!keys) return parsing_error(keys.error().context, text_);
      sort = std::move(*keys);
    }
    // By score alone is no order here: every match weighs the same.
    if (sort.size() == 1 && sort[0].field == "_score") sort.clear();
    return {};
  }

  Wrong totals() {
    auto& limit = out_.request.total_limit;
    const auto* track = json::find(body_, "track_total_hits");
    std::optional<std::string> text = url_.get("track_total_hits");
    if (!text && track) text = track->is_string() ? std::string(track->get_string()) : json::print(*track);
    out_.total_as_number = url_.flag("rest_total_hits_as_int");
    if (out_.total_as_number) limit = UINT64_MAX;
    if (!text) return {};
    if (*text == "true" || text->empty()) limit = UINT64_MAX;
    else if (*text == "false") limit = 0;
    else if (auto n = to_int(*text); n && *n >= -1) limit = *n < 0 ? UINT64_MAX : static_cast<std::uint64_t>(*n);
    else return illegal(fmt::format("[track_total_hits] parameter must be positive or equals to -1, got {}", *text));
    return {};
  }

  Wrong limits() {
    auto text = url_.get("timeout").value_or(json::text(body_, "timeout"));
    if (text.empty()) return {};
    auto limit = read_duration(text);
    if (!limit) return illegal(fmt::format("failed to parse setting [timeout] with value [{}] as a time value: unit is missing or unrecognized", text));
    if (limit->count() > 0) out_.request.limit = Millis(std::clamp<std::int64_t>(limit->count(), 1, limit_max_ms));
    return {};
  }

  /// Where a later page goes on.
  Wrong place() {
    auto& s = out_.request;
    if (const auto* pit = json::find(body_, "pit")) {
      out_.pit = json::text(*pit, "id");
      out_.pit_keep = read_duration(json::text(*pit, "keep_alive"));
      if (std::none_of(s.sort.begin(), s.sort.end(), [](const auto& k) { return k.field == "_shard_doc" || k.field == "_doc"; })) s.sort.push_back({"_shard_doc", false, false, {}});
    }
    const auto& after = json::list(body_, "search_after");
    if (after.empty()) return {};
    if (s.from > 0) return illegal("`from` parameter must be set to 0 when `search_after` is used.");
    if (after.size() > s.sort.size() || (after.size() < s.sort.size() && !out_.pit))
      return illegal(s.sort.empty() ? "Sort must contain at least one field." : fmt::format("search_after has {} value(s) but sort has {}.", after.size(), s.sort.size()));
    for (std::size_t i = 0; i < after.size(); ++i) {
      auto value = after[i];
      if (value.is_string() && s.sort[i].field == "@timestamp" && s.sort[i].format.empty())
        if (auto at = parse_date(std::string_view(value.get_string()), false, now_)) value = at->time_since_epoch().count();
      s.after.push_back(std::move(value));
    }
    return {};
  }

  Wrong rest() {
    const auto* aggs = json::find(body_, "aggs") ? json::find(body_, "aggs") : json::find(body_, "aggregations");
    if (aggs) {
      auto parsed = parse_aggregations(*aggs, now_);
      if (!parsed) {
        const auto& words = parsed.error().context;
        return words.starts_with("Unknown aggregation") || words.starts_with("Expected") || words.starts_with("[") ? parsing_error(words, text_) : query_error_or_illegal(words);
      }
      out_.request.aggregations = std::move(*parsed);
    }
    out_.request.typed_keys = url_.flag("typed_keys");
    auto hits = hit_options(body_, url_, now_);
    if (!hits) return parsing_error(hits.error().context, text_);
    out_.hits = std::move(*hits);
    out_.hits.sorted = !out_.request.sort.empty();
    out_.hits.scored = out_.request.sort.empty() || json::boolean(body_, "track_scores");
    return {};
  }

  EsError query_error_or_illegal(const std::string& words) { return words.starts_with("Failed to parse query") ? query_error(words, text_) : illegal(words); }

  const json::value& body_;
  std::string_view text_;
  const net::Query& url_;
  Wall now_;
  SearchBody out_;
};

}  // namespace

Es<SearchBody> read_search(const json::value& body, std::string_view text, const net::Query& url, Wall now) { return Reader(body, text, url, now).run(); }

std::optional<std::chrono::milliseconds> read_duration(std::string_view text) {
  auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  auto n = to_int(text.substr(0, digits));
  auto unit = text.substr(digits);
  if (!n || *n > 1'000'000'000) return text == "-1" ? std::optional(std::chrono::milliseconds(0)) : std::nullopt;
  std::int64_t each = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "m" ? 60'000 : unit == "h" ? 3'600'000 : unit == "d" ? 86'400'000 : unit.empty() && *n == 0 ? 1 : 0;
  if (unit == "micros" || unit == "nanos") return std::chrono::milliseconds(1);
  return each == 0 ? std::nullopt : std::optional(std::chrono::milliseconds(*n * each));
}

std::optional<EsError> restrict_to(SearchBody& body, const secure::CallerPtr& caller) {
  if (secure::sees_all(caller)) return std::nullopt;
  // This aggregation counts past the query, and thereby past this filter.
  for (const auto& a : body.request.aggregations)
    if (a && a->kind == Aggregation::Kind::global) return EsError{403, "security_exception", "global aggregations are for those who may see the whole farm", {}, false};
  std::vector<QueryPtr> groups;
  for (const auto& grant : caller->who.grants) {
    groups.push_back(make_term("app.keyword", grant.group));
    auto below = std::make_shared<Query>();
    below->kind = Query::Kind::prefix;
    below->field = "app.keyword";
    below->text = grant.group + "/";
    groups.push_back(std::move(below));
  }
  auto allowed = groups.empty() ? match_none() : make_bool({}, std::move(groups), {}, 1);
  auto asked = body.request.query ? body.request.query : match_all();
  body.request.query = make_bool({std::move(asked), std::move(allowed)}, {}, {}, 0);
  return std::nullopt;
}

}  // namespace croft::logs
