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
    auto n = to_int(scalar_text(*given));
    if (!n || *n < 0) return fail(Errc::invalid, "[bool] minimum_should_match [{}] is not supported", scalar_text(*given));
    minimum = static_cast<std::size_t>(*n);
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
  for (const auto& member : limits->get_object()) {
    std::string_view key = member.key();
    if (key == "format" || key == "time_zone" || key == "relation" || key == "boost" || key == "include_lower" || key == "include_upper") continue;
    if (member.value().is_null()) continue;
    if (member.value().is_object() || member.value().is_array()) return fail(Errc::invalid, "[range] [{}] must be a value", key);
    auto text = scalar_text(member.value());
    if (key == "gte" || key == "gt" || key == "from") q->from = make_bound(text, key == "from" ? low_in : key == "gte", false, now);
    else if (key == "lte" || key == "lt" || key == "to") q->to = make_bound(text, key == "to" ? high_in : key == "lte", true, now);
    else return fail(Errc::invalid, "[range] query does not support [{}]", key);
  }
  if (field == "@timestamp" && ((q->from.given && !q->from.date) || (q->to.given && !q->to.date)))
    return fail(Errc::invalid, "failed to parse date field [{}]", q->from.given && !q->from.date ? q->from.text : q->to.text);
  return QueryPtr(q);
}

Result<QueryPtr> parse_match(const value& body, std::string_view clause) {
  auto pair = single(body, clause);
  if (!pair) return fail(pair.error());
  const auto& [field, given] = *pair;
  auto text = text_of(*given, "query", clause, field);
  if (!text) return fail(text.error());
  auto slop = static_cast<int>(given->is_object() ? json::integer(*given, "slop") : 0);
  if (clause == "match_phrase") return field.ends_with(".keyword") ? make_term(field, *text) : make_phrase(field, *text, slop);
  auto prefix = clause == "match_phrase_prefix" || clause == "match_bool_prefix";
  bool all = given->is_object() && iequals(json::text(*given, "operator"), "and");
  auto made = clause == "match_phrase_prefix" ? make_phrase(field, *text, slop) : make_match(field, *text, all);
  if (!prefix) return field.ends_with(".keyword") ? make_term(field, *text) : made;
  auto with_prefix = std::make_shared<Query>(*made);
  with_prefix->last_is_prefix = true;
  return QueryPtr(with_prefix);
}

Result<QueryPtr> parse_multi_match(const value& body) {
  if (!body.is_object() || !json::find(body, "query")) return fail(Errc::invalid, "[multi_match] wants a query");
  auto text = scalar_text(*json::find(body, "query"));
  bool phrase = json::text(body, "type").starts_with("phrase"), all = iequals(json::text(body, "operator"), "and");
  auto fields = json::texts(body, "fields");
  if (fields.empty()) fields.push_back("");
  std::vector<QueryPtr> any;
  for (auto& field : fields) {
    if (auto caret = field.find('^'); caret != std::string::npos) field.resize(caret);
    if (field == "*") field.clear();
    any.push_back(phrase ? make_phrase(field, text, 0) : make_match(field, text, all));
  }
  return make_bool({}, std::move(any), {}, 1);
}

Result<QueryPtr> parse_term(const value& body, std::string_view clause) {
  auto pair = single(body, clause);
  if (!pair) return fail(pair.error());
  const auto& [field, given] = *pair;
  if (clause == "terms") {
    if (!given->is_array()) return fail(Errc::invalid, "[terms] query requires an array of values for [{}]", field);
    if (given->get_array().size() > 65'536) return fail(Errc::invalid, "[terms] more than 65536 values");
    std::vector<QueryPtr> any;
    for (const auto& v : given->get_array()) any.push_back(make_term(field, scalar_text(v)));
    return any.empty() ? match_none() : make_bool({}, std::move(any), {}, 1);
  }
  auto text = text_of(*given, clause == "regexp" || clause == "wildcard" || clause == "prefix" || clause == "term" || clause == "fuzzy" ? "value" : "query", clause, field);
  if (!text && clause == "wildcard") text = text_of(*given, "wildcard", clause, field);
  if (!text) return fail(text.error());
  bool ignore_case = given->is_object() && json::boolean(*given, "case_insensitive");
  if (clause == "wildcard") return make_wildcard(field, *text, ignore_case);
  if (clause == "regexp") return make_regexp(field, *text);
  auto q = std::make_shared<Query>(*make_term(field, *text));
  q->ignore_case = ignore_case;
  if (clause == "prefix") {
    q->kind = Query::Kind::prefix;
    if (ignore_case) q->text = lower(q->text);
  }
  return QueryPtr(q);
}

Result<QueryPtr> parse_query_string_clause(const value& body, bool simple, Wall now) {
  const auto* text = body.is_object() ? json::find(body, "query") : nullptr;
  if (!text || !text->is_string()) return fail(Errc::invalid, "[{}] must be provided with a [query]", simple ? "simple_query_string" : "query_string");
  QueryStringOptions options;
  options.field = json::text(body, "default_field");
  if (options.field == "*") options.field.clear();
  options.and_by_default = iequals(json::text(body, "default_operator"), "and");
  options.lenient = simple;
  auto fields = json::texts(body, "fields");
  if (fields.size() == 1 && fields[0] != "*") options.field = fields[0].substr(0, fields[0].find('^'));
  if (fields.size() < 2) return parse_query_string(std::string_view(text->get_string()), options, now);
  std::vector<QueryPtr> any;
  for (const auto& field : fields) {
    options.field = field.substr(0, field.find('^'));
    auto q = parse_query_string(std::string_view(text->get_string()), options, now);
    if (!q) return q;
    any.push_back(*q);
  }
  return make_bool({}, std::move(any), {}, 1);
}

Result<QueryPtr> parse(const value& query, Wall now, int depth) {
  if (depth > depth_max) return fail(Errc::invalid, "the query is nested too deeply");
  if (!query.is_object()) return fail(Errc::invalid, "[_na] query malformed, must start with start_object");
  if (query.get_object().empty()) return fail(Errc::invalid, "query malformed, empty clause found");
  if (query.get_object().size() > 1) return fail(Errc::invalid, "[{}] malformed query, expected [END_OBJECT] but found [FIELD_NAME]", std::string_view(query.get_object().begin()->key()));
  const auto& member = *query.get_object().begin();
  std::string_view clause = member.key();
  const auto& body = member.value();
  if (clause == "match_all") return match_all();
  if (clause == "match_none") return match_none();
  if (clause == "bool") return parse_bool(body, now, depth);
  if (clause == "range") return parse_range(body, now);
  if (clause == "match" || clause == "match_phrase" || clause == "match_phrase_prefix" || clause == "match_bool_prefix") return parse_match(body, clause);
  if (clause == "multi_match") return parse_multi_match(body);
  if (clause == "term" || clause == "terms" || clause == "prefix" || clause == "wildcard" || clause == "regexp") return parse_term(body, clause);
  if (clause == "query_string" || clause == "simple_query_string") return parse_query_string_clause(body, clause[0] == 's', now);
  if (clause == "constant_score") {
    const auto* filter = json::find(body, "filter");
    return filter ? parse(*filter, now, depth + 1) : fail(Errc::invalid, "[constant_score] requires a 'filter' element");
  }
  if (clause == "exists") {
    auto q = std::make_shared<Query>();
    q->kind = Query::Kind::exists;
    q->field = json::text(body, "field");
    if (q->field.empty()) return fail(Errc::invalid, "[exists] must be provided with a [field]");
    return QueryPtr(q);
  }
  if (clause == "ids") {
    auto q = std::make_shared<Query>();
    q->kind = Query::Kind::ids;
    q->tokens = json::texts(body, "values");
    return QueryPtr(q);
  }
  return fail(Errc::invalid, "unknown query [{}]", clause);
}

}  // namespace

Result<QueryPtr> parse_dsl(const value& query, Wall now) { return parse(query, now, 0); }

}  // namespace croft::logs
