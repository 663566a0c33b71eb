// Elasticsearch's query DSL.

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/query/parse.hpp"

namespace croft::logs {

namespace {

using json::value;
constexpr int depth_max = 60;
constexpr std::size_t clauses_max = 1024;

Result<QueryPtr> parse(const value& query, Wall now, int depth);

std::string scalar_text(const value& v) {
  if (v.is_string()) return std::string(v.get_string());
  return json::print(v);
}

/// {"field": x} -> field and x. Clauses such as {"range": {"f": {...}}} have exactly one member.
Result<std::pair<std::string, const value*>> single(const value& body, std::string_view clause) {
  if (!body.is_object()) return fail(Errc::invalid, "[{}] query malformed, no start_object after query name", clause);
  const value* found = nullptr;
  std::string field;
  for (const auto& member : body.get_object()) {
    if (member.key() == "boost" || member.key() == "_name") continue;
    if (found) return fail(Errc::invalid, "[{}] query doesn't support multiple fields, found [{}] and [{}]", clause, field, std::string_view(member.key()));
    field = member.key();
    found = &member.value();
  }
  if (!found) return fail(Errc::invalid, "[{}] query wants a field", clause);
  return std::pair(field, found);
}

/// The text of {"f": "x"} and of {"f": {"<key>": "x"}}.
Result<std::string> text_of(const value& v, std::string_view key, std::string_view clause, std::string_view field) {
  const auto* inner = v.is_object() ? json::find(v, key) : &v;
  if (!inner || inner->is_object() || inner->is_array() || inner->is_null()) return fail(Errc::invalid, "[{}] query on [{}]: no text given", clause, field);
  return scalar_text(*inner);
}

/// "2", "-1", "75%", "-25%", "3<90%": how many of `count` clauses must match.
Result<std::size_t> least_of(std::string_view text, std::size_t count) {
  auto total = static_cast<std::int64_t>(count);
  auto wrong = [&] { return fail(Errc::invalid, "failed to parse [minimum_should_match] with value [{}]", text); };
  auto rest = trim(text);
  std::int64_t least = total;
  if (auto less = rest.find('<'); less != std::string_view::npos) {
    std::optional<std::string> chosen;
    for (const auto& part : split(rest, ' ')) {
      auto at = part.find('<');
      auto above = to_int(part.substr(0, at));
      if (at == std::string::npos || !above) return wrong();
      if (total > *above) chosen = part.substr(at + 1);
    }
    return chosen ? least_of(*chosen, count) : Result<std::size_t>(count);
  }
  bool percent = rest.ends_with('%');
  auto n = to_int(percent ? rest.substr(0, rest.size() - 1) : rest);
  if (!n || *n > 1'000'000 || *n < -1'000'000) return wrong();
  if (percent) least = *n < 0 ? total - (-*n * total) / 100 : *n * total / 100;
  else least = *n < 0 ? total + *n : *n;
  return static_cast<std::size_t>(std::max<std::int64_t>(0, least));
}

Result<std::vector<QueryPtr>> parse_list(const value& body, std::string_view key, Wall now, int depth) {
  std::vector<QueryPtr> out;
  const auto* list = json::find(body, key);
  if (!list) return out;
  auto one = [&](const value& v) -> Status {
    auto q = parse(v, now, depth + 1);
    if (!q) return fail(q.error());
    out.push_back(*q);
    return {};
  };
  if (!list->is_array()) {
    if (auto ok = one(*list); !ok) return fail(ok.error());
    return out;
  }
  if (list->get_array().size() > clauses_max) return fail(Errc::invalid, "[bool] too many clauses: maxClauseCount is set to {}", clauses_max);
  for (const auto& v : list->get_array())
    if (auto ok = one(v); !ok) return fail(ok.error());
  return out;
}

Result<QueryPtr> parse_bool(const value& body, Wall now, int depth) {
  if (!body.is_object()) return fail(Errc::invalid, "[bool] query malformed, no start_object after query name");
  for (const auto& member : body.get_object()) {
    static constexpr std::string_view known[] = {"must", "filter", "should", "must_not", "minimum_should_match", "boost", "_name", "adjust_pure_negative"};
    if (std::find(std::begin(known), std::end(known), member.key()) == std::end(known)) return fail(Errc::invalid, "[bool] query does not support [{}]", std::string_view(member.key()));
  }
  auto must = parse_list(body, "must", now, depth), filter = parse_list(body, "filter", now, depth);
  auto should = parse_list(body, "should", now, depth), must_not = parse_list(body, "must_not", now, depth);
  for (auto* list : {&must, &filter, &should, &must_not})
    if (!*list) return fail(list->error());
  must->insert(must->end(), filter->begin(), filter->end());
  std::size_t minimum = must->empty() && !should->empty() ? 1 : 0;
  if (const auto* given = json::find(body, "minimum_should_match")) {
    auto n = least_of(scalar_text(*given), should->size());
    if (!n) return fail(std::move(n).error());
    minimum = *n;
  }
  return make_bool(std::move(*must), std::move(*should), std::move(*must_not), minimum);
}

Result<QueryPtr> parse_range(const value& body, Wall now) {
  auto pair = single(body, "range");
  if (!pair) return fail(pair.error());
  const auto& [field, limits] = *pair;
  if (!limits->is_object()) return fail(Errc::invalid, "[range] query malformed, no start_object after field name");
  auto q = std::make_shared<Query>();
  q->kind = Query::Kind::range;
  q->field = field;
  bool low_in = json::boolean(*limits, "include_lower", true), high_in = json::boolean(*limits, "include_upper", true);
  DateOptions dates{json::text(*limits, "format"), nullptr};
  auto zone = find_zone(json::text(*limits, "time_zone"));
  if (!zone) return fail(std::move(zone).error());
  dates.zone = *zone;
  for (const auto& member : limits->get_object()) {
    std::string_view key = member.key();
    if (key == "format" || key == "time_zone" || key == "relation" || key == "boost" || key == "include_lower" || key == "include_upper") continue;
    if (member.value().is_null()) continue;
    if (member.value().is_object() || member.value().is_array()) return fail(Errc::invalid, "[range] [{}] must be a value", key);
    auto text = scalar_text(member.value());
    if (key == "gte" || key == "gt" || key == "from") q->from = make_bound(text, key == "from" ? low_in : key == "gte", false, now, dates);
    else if (key == "lte" || key == "lt" || key == "to") q->to = make_bound(text, key == "to" ? high_in : key == "lte", true, now, dates);
    else return fail(Errc::invalid, "[range] query does not support [{}]", key);
  }
  if (field == "@timestamp" && ((q->from.given && !q->from.date) || (q->to.given && !q->to.date)))
    return fail(Errc::invalid, "failed to parse date field [{}] with format [{}]", q->from.given && !q->from.date ? q->from.text : q->to.text, dates.format.empty() ? "strict_date_optional_time||epoch_millis" : dates.format);
  return QueryPtr(q);
}

Result<QueryPtr> parse_match(const value& body, std::string_view clause, Wall now) {
  auto pair = single(body, clause);
  if (!pair) return fail(pair.error());
  const auto& [name, given] = *pair;
  auto text = text_of(*given, "query", clause, name);
  if (!text) return fail(text.error());
  if (given->is_object()) {
    static constexpr std::string_view known[] = {"query", "operator", "minimum_should_match", "analyzer", "fuzziness", "prefix_length", "max_expansions", "fuzzy_rewrite", "fuzzy_transpositions", "lenient",
                                                 "zero_terms_query", "boost", "_name", "slop", "auto_generate_synonyms_phrase_query", "cutoff_frequency", "type"};
    for (const auto& member : given->get_object())
      if (std::find(std::begin(known), std::end(known), member.key()) == std::end(known)) return fail(Errc::invalid, "[{}] query does not support [{}]", clause, std::string_view(member.key()));
  }
  auto field = name == "*" || name == "_all" ? std::string() : name;
  if (field == "@timestamp") return make_term_or_date(field, *text, now);
  bool exact = field.ends_with(".keyword") || field == "_id" || field == "_index", prefix = clause == "match_phrase_prefix" || clause == "match_bool_prefix";
  if (exact && !prefix) return make_term(field, *text);
  auto slop = static_cast<int>(std::clamp<std::int64_t>(given->is_object() ? json::integer(*given, "slop") : 0, 0, 1000));
  bool phrase = clause.starts_with("match_phrase") || (given->is_object() && json::text(*given, "type").starts_with("phrase"));
  if (phrase && !prefix) return make_phrase(field, *text, slop);
  auto operand = given->is_object() ? lower(json::text(*given, "operator", "or")) : std::string("or");
  if (operand != "and" && operand != "or") return fail(Errc::invalid, "operator needs to be either OR or AND, but not [{}]", operand);
  auto made = std::make_shared<Query>(*(phrase ? make_phrase(field, *text, slop) : make_match(field, *text, operand == "and")));
  made->last_is_prefix = prefix;
  const auto* least = given->is_object() ? json::find(*given, "minimum_should_match") : nullptr;
  if (least && operand == "or") {
    auto n = least_of(scalar_text(*least), made->tokens.size());
    if (!n) return fail(std::move(n).error());
    made->tokens_min = std::max<std::size_t>(1, *n);
  }
  if (made->tokens.empty() && given->is_object() && iequals(json::text(*given, "zero_terms_query"), "all")) return match_all();
  if (given->is_object() && json::find(*given, "fuzziness") && !phrase) {
    auto edits = to_int(scalar_text(*json::find(*given, "fuzziness")));
    std::vector<QueryPtr> words;
    for (const auto& word : made->tokens) words.push_back(make_fuzzy(field, word, edits ? static_cast<int>(*edits) : -1));
    auto count = words.size();
    return make_bool({}, std::move(words), {}, operand == "and" ? count : made->tokens_min);
  }
  return QueryPtr(made);
}

Result<QueryPtr> parse_multi_match(const value& body) {
  if (!body.is_object() || !json::find(body, "query")) return fail(Errc::invalid, "No text specified for multi_match query");
  auto text = scalar_text(*json::find(body, "query"));
  auto type = json::text(body, "type", "best_fields");
  bool all = iequals(json::text(body, "operator"), "and"), prefix = type == "phrase_prefix" || type == "bool_prefix";
  auto fields = json::texts(body, "fields");
  if (auto one = json::text(body, "fields"); !one.empty()) fields.push_back(one);
  if (fields.empty()) fields.emplace_back();
  std::vector<QueryPtr> any;
  for (auto& field : fields) {
    if (auto caret = field.find('^'); caret != std::string::npos) field.resize(caret);
    if (field == "*") field.clear();
    auto q = std::make_shared<Query>(*(type.starts_with("phrase") ? make_phrase(field, text, static_cast<int>(json::integer(body, "slop"))) : make_match(field, text, all)));
    q->last_is_prefix = prefix;
    any.push_back(field.ends_with(".keyword") && !prefix ? make_term(field, text) : QueryPtr(q));
  }
  return make_bool({}, std::move(any), {}, 1);
}

Result<QueryPtr> parse_term(const value& body, std::string_view clause, Wall now) {
  auto pair = single(body, clause);
  if (!pair) return fail(pair.error());
  const auto& [field, given] = *pair;
  if (clause == "terms") {
    if (!given->is_array()) return fail(Errc::invalid, "[terms] query does not support [{}]", field);
    if (given->get_array().size() > 65'536) return fail(Errc::invalid, "[terms] more than 65536 values");
    std::vector<QueryPtr> any;
    for (const auto& v : given->get_array()) any.push_back(make_term_or_date(field, scalar_text(v), now));
    return any.empty() ? match_none() : make_bool({}, std::move(any), {}, 1);
  }
  auto text = text_of(*given, clause == "regexp" || clause == "wildcard" || clause == "prefix" || clause == "term" || clause == "fuzzy" ? "value" : "query", clause, field);
  if (!text && clause == "wildcard") text = text_of(*given, "wildcard", clause, field);
  if (!text) return fail(text.error());
  bool ignore_case = given->is_object() && json::boolean(*given, "case_insensitive");
  if (clause == "wildcard") return make_wildcard(field, *text, ignore_case || !field.ends_with(".keyword"));
  if (clause == "regexp") return make_regexp(field, *text);
  if (clause == "fuzzy") {
    const auto* edits = given->is_object() ? json::find(*given, "fuzziness") : nullptr;
    auto n = edits ? to_int(scalar_text(*edits)) : std::nullopt;
    return make_fuzzy(field, *text, n ? static_cast<int>(*n) : -1);
  }
  if (clause == "term" && field == "@timestamp") return make_term_or_date(field, *text, now);
  auto q = std::make_shared<Query>(*make_term(field, *text));
  q->ignore_case = ignore_case;
  if (clause == "prefix") {
    q->kind = Query::Kind::prefix;
    if (ignore_case) q->text = lower(q->text);
  }
  return QueryPtr(q);
}

Result<QueryPtr> parse_query_string_clause(const value& body, bool simple, Wall now) {
  std::string_view clause = simple ? "simple_query_string" : "query_string";
  const auto* text = body.is_object() ? json::find(body, "query") : nullptr;
  if (!text || text->is_object() || text->is_array()) return fail(Errc::invalid, "[{}] must be provided with a [query]", clause);
  QueryStringOptions options;
  options.field = json::text(body, "default_field");
  auto operand = lower(json::text(body, "default_operator", "or"));
  if (operand != "and" && operand != "or") return fail(Errc::invalid, "operator needs to be either OR or AND, but not [{}]", operand);
  options.and_by_default = operand == "and";
  auto zone = find_zone(json::text(body, "time_zone"));
  if (!zone) return fail(std::move(zone).error());
  options.zone = *zone;
  auto words = scalar_text(*text);
  auto fields = json::texts(body, "fields");
  if (fields.empty()) fields.push_back(options.field);
  std::vector<QueryPtr> any;
  for (const auto& field : fields) {
    options.field = field.substr(0, field.find('^'));
    if (options.field == "*") options.field.clear();
    auto q = simple ? Result<QueryPtr>(parse_simple_query_string(words, options)) : parse_query_string(words, options, now);
    if (!q && json::boolean(body, "lenient") && fields.size() > 1) continue;
    if (!q) return q;
    any.push_back(*q);
  }
  return any.size() == 1 ? any[0] : make_bool({}, std::move(any), {}, 1);
}

/// Clauses that only change scores: what they wrap.
Result<QueryPtr> parse_wrapper(const value& body, std::string_view clause, Wall now, int depth) {
  auto inner = clause == "constant_score" ? "filter" : clause == "boosting" ? "positive" : "query";
  if (clause == "dis_max") {
    auto queries = parse_list(body, "queries", now, depth);
    if (!queries) return fail(std::move(queries).error());
    if (queries->empty()) return fail(Errc::invalid, "[dis_max] requires 'queries' field with at least one clause");
    return make_bool({}, std::move(*queries), {}, 1);
  }
  const auto* wrapped = json::find(body, inner);
  if (!wrapped && (clause == "function_score" || clause == "script_score")) return match_all();
  if (!wrapped) return fail(Errc::invalid, "[{}] requires a '{}' element", clause, inner);
  return parse(*wrapped, now, depth + 1);
}

Result<QueryPtr> parse(const value& query, Wall now, int depth) {
  if (depth > depth_max) return fail(Errc::invalid, "the query is nested too deeply");
  if (!query.is_object()) return fail(Errc::invalid, "[_na] query malformed, must start with start_object");
  if (query.get_object().empty() && depth == 0) return match_all();
  if (query.get_object().empty()) return fail(Errc::invalid, "query malformed, empty clause found");
  if (query.get_object().size() > 1) return fail(Errc::invalid, "[{}] malformed query, expected [END_OBJECT] but found [FIELD_NAME]", std::string_view(query.get_object().begin()->key()));
  const auto& member = *query.get_object().begin();
  std::string_view clause = member.key();
  const auto& body = member.value();
  if (clause == "match_all") return match_all();
  if (clause == "match_none") return match_none();
  if (clause == "bool") return parse_bool(body, now, depth);
  if (clause == "range") return parse_range(body, now);
  if (clause == "match" || clause == "match_phrase" || clause == "match_phrase_prefix" || clause == "match_bool_prefix") return parse_match(body, clause, now);
  if (clause == "multi_match") return parse_multi_match(body);
  if (clause == "term" || clause == "terms" || clause == "prefix" || clause == "wildcard" || clause == "regexp" || clause == "fuzzy") return parse_term(body, clause, now);
  if (clause == "query_string" || clause == "simple_query_string") return parse_query_string_clause(body, clause[0] == 's', now);
  if (clause == "constant_score" || clause == "boosting" || clause == "function_score" || clause == "dis_max") return parse_wrapper(body, clause, now, depth);
  if (clause == "exists") {
    auto field = json::text(body, "field");
    if (field.empty()) return fail(Errc::invalid, "[exists] must be provided with a [field]");
    return make_exists(field);
  }
  if (clause == "ids") {
    auto q = std::make_shared<Query>();
    q->kind = Query::Kind::ids;
    for (const auto& id : json::list(body, "values")) q->tokens.push_back(scalar_text(id));
    return QueryPtr(q);
  }
  return fail(Errc::invalid, "unknown query [{}]", clause);
}

}  // namespace

Result<QueryPtr> parse_dsl(const value& query, Wall now) { return parse(query, now, 0); }

}  // namespace croft::logs
