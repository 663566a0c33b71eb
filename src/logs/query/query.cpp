#include "logs/query/query.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::string_view time_field = "@timestamp";

bool token_in(std::string_view text, std::string_view token, bool prefix) {
  bool found = false;
  for_each_token(text, [&](std::string_view t) {
    found = prefix ? t.starts_with(token) : t == token;
    return !found;
  });
  return found;
}

bool any_value(const Query& q, DocumentReader& d, const std::function<bool(const Value&)>& is) {
  bool found = false;
  d.values(q.field, [&](const Value& v) {
    found = is(v);
    return !found;
  });
  return found;
}

bool term_matches(const Query& q, const Value& v) {
  switch (v.kind) {
    case Value::Kind::number: return q.number && *q.number == v.number;
    case Value::Kind::boolean: return q.truth && *q.truth == v.truth;
    case Value::Kind::text: break;
  }
  if (v.text == q.text || (q.ignore_case && iequals(v.text, q.text))) return true;
  if (q.field.ends_with(".keyword") || q.tokens.size() != 1 || q.tokens[0] != lower(q.text)) return false;
  return token_in(v.text, q.tokens[0], false);  // a text field's terms are its words
}

bool match_matches(const Query& q, DocumentReader& d) {
  if (q.tokens.empty()) return false;
  std::vector<bool> seen(q.tokens.size(), false);
  std::size_t left = q.tokens.size();
  d.values(q.field, [&](const Value& v) {
    auto check = [&](std::string_view word) {
      for (std::size_t i = 0; i < q.tokens.size(); ++i) {
        bool last = q.last_is_prefix && i + 1 == q.tokens.size();
        if (!seen[i] && (last ? word.starts_with(q.tokens[i]) : word == q.tokens[i])) seen[i] = true, --left;
      }
      return left > 0 && (q.all_tokens || left == q.tokens.size());
    };
    if (v.kind == Value::Kind::text) for_each_token(v.text, check);
    else for_each_token(value_text(v), check);
    return left > 0 && (q.all_tokens || left == q.tokens.size());
  });
  return q.all_tokens ? left == 0 : left < q.tokens.size();
}

/// Tokens adjacent and in order; with slop, that many other words may stand between them altogether.
bool phrase_in(const Query& q, std::string_view text) {
  auto words = tokens_of(text);
  for (std::size_t at = 0; at + q.tokens.size() <= words.size(); ++at) {
    std::size_t i = 0, w = at;
    int gaps = 0;
    while (i < q.tokens.size() && w < words.size()) {
      bool last = q.last_is_prefix && i + 1 == q.tokens.size();
      if (last ? words[w].starts_with(q.tokens[i]) : words[w] == q.tokens[i]) ++i, ++w;
      else if (i == 0 || ++gaps > q.slop) break;
      else ++w;
    }
    if (i == q.tokens.size()) return true;
  }
  return false;
}

template <class T>
bool within(const T& value, const std::optional<T>& low, bool low_inclusive, const std::optional<T>& high, bool high_inclusive) {
  if (low && (low_inclusive ? value < *low : value <= *low)) return false;
  if (high && (high_inclusive ? value > *high : value >= *high)) return false;
  return true;
}

bool range_matches(const Query& q, const Value& v) {
  auto missing = [](const Bound& b, auto& as) { return b.given && !as; };
  if (v.kind == Value::Kind::number) {
    if (missing(q.from, q.from.number) || missing(q.to, q.to.number)) return false;
    return within(v.number, q.from.number, q.from.inclusive, q.to.number, q.to.inclusive);
  }
  if (v.kind == Value::Kind::boolean) return false;
  bool as_dates = (!q.from.given || q.from.date) && (!q.to.given || q.to.date);
  if (as_dates)
    if (auto date = from_iso8601(v.text)) return within(*date, q.from.date, q.from.inclusive, q.to.date, q.to.inclusive);
  std::string text(v.text);
  auto low = q.from.given ? std::optional(q.from.text) : std::nullopt, high = q.to.given ? std::optional(q.to.text) : std::nullopt;
  return within(text, low, q.from.inclusive, high, q.to.inclusive);
}

bool time_matches(const Query& q, Wall at) { return within(at, q.from.date, q.from.inclusive, q.to.date, q.to.inclusive); }

bool pattern_matches(const Query& q, const Value& v) {
  auto text = value_text(v);
  if (RE2::FullMatch(text, *q.pattern)) return true;
  if (q.field.ends_with(".keyword")) return false;
  bool found = false;
  for_each_token(text, [&](std::string_view t) {
    found = RE2::FullMatch({t.data(), t.size()}, *q.pattern);
    return !found;
  });
  return found;
}

bool bool_matches(const Query& q, DocumentReader& d) {
  for (const auto& part : q.must)
    if (!matches(*part, d)) return false;
  for (const auto& part : q.must_not)
    if (matches(*part, d)) return false;
  if (q.should_min == 0) return true;
  std::size_t hits = 0;
  for (const auto& part : q.should)
    if (matches(*part, d) && ++hits >= q.should_min) return true;
  return false;
}

}  // namespace

bool matches(const Query& q, DocumentReader& d) {
  using Kind = Query::Kind;
  switch (q.kind) {
    case Kind::all: return true;
    case Kind::none: return false;
    case Kind::boolean: return bool_matches(q, d);
    case Kind::ids: return std::find(q.tokens.begin(), q.tokens.end(), d.row().id) != q.tokens.end();
    case Kind::exists: return d.exists(q.field);
    case Kind::match: return match_matches(q, d);
    case Kind::term: return any_value(q, d, [&](const Value& v) { return term_matches(q, v); });
    case Kind::phrase: return !q.tokens.empty() && any_value(q, d, [&](const Value& v) { return phrase_in(q, v.kind == Value::Kind::text ? v.text : std::string_view(value_text(v))); });
    case Kind::range:
      if (q.field == time_field) return time_matches(q, d.row().at);
      return any_value(q, d, [&](const Value& v) { return range_matches(q, v); });
    case Kind::prefix:
      return any_value(q, d, [&](const Value& v) {
        auto text = value_text(v);
        auto cased = q.ignore_case ? lower(text) : text;
        return cased.starts_with(q.text) || (!q.field.ends_with(".keyword") && token_in(text, lower(q.text), true));
      });
    case Kind::wildcard:
    case Kind::regexp: return any_value(q, d, [&](const Value& v) { return pattern_matches(q, v); });
  }
  return false;
}

TimeSpan time_span(const Query& q) {
  TimeSpan span;
  if (q.kind == Query::Kind::range && q.field == time_field) {
    if (q.from.date) span.from = *q.from.date;
    if (q.to.date) span.to = *q.to.date;
  }
  if (q.kind == Query::Kind::boolean)
    for (const auto& part : q.must) {
      auto inner = time_span(*part);
      span.from = std::max(span.from, inner.from);
      span.to = std::min(span.to, inner.to);
    }
  return span;
}

static std::shared_ptr<Query> of_kind(Query::Kind kind) {
  auto q = std::make_shared<Query>();
  q->kind = kind;
  return q;
}

QueryPtr match_all() { return of_kind(Query::Kind::all); }
QueryPtr match_none() { return of_kind(Query::Kind::none); }

QueryPtr make_term(std::string field, std::string text) {
  auto q = of_kind(Query::Kind::term);
  q->field = std::move(field);
  q->number = to_double(text);
  if (text == "true" || text == "false") q->truth = text == "true";
  q->tokens = tokens_of(text);
  q->text = std::move(text);
  return q;
}

QueryPtr make_match(std::string field, std::string_view text, bool all_tokens) {
  auto q = of_kind(Query::Kind::match);
  q->field = std::move(field);
  q->tokens = tokens_of(text);
  q->all_tokens = all_tokens;
  return q;
}

QueryPtr make_phrase(std::string field, std::string_view text, int slop) {
  auto q = of_kind(Query::Kind::phrase);
  q->field = std::move(field);
  q->tokens = tokens_of(text);
  q->slop = slop;
  return q;
}

QueryPtr make_bool(std::vector<QueryPtr> must, std::vector<QueryPtr> should, std::vector<QueryPtr> must_not, std::size_t should_min) {
  auto q = of_kind(Query::Kind::boolean);
  q->must = std::move(must);
  q->should = std::move(should);
  q->must_not = std::move(must_not);
  q->should_min = should_min;
  return q;
}

static Result<std::shared_ptr<const RE2>> compiled(const std::string& pattern, bool ignore_case) {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_case_sensitive(!ignore_case);
  options.set_dot_nl(true);
  options.set_max_mem(1 << 20);
  auto made = std::make_shared<const RE2>(pattern, options);
  if (!made->ok()) return fail(Errc::invalid, "pattern '{}': {}", pattern, made->error());
  return made;
}

Result<QueryPtr> make_wildcard(std::string field, std::string_view pattern, bool ignore_case) {
  std::string re;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '*') re += ".*";
    else if (pattern[i] == '?') re += ".";
    else if (pattern[i] == '\\' && i + 1 < pattern.size()) re += RE2::QuoteMeta(std::string(1, pattern[++i]));
    else re += RE2::QuoteMeta(std::string(1, pattern[i]));
  }
  auto made = compiled(re, ignore_case);
  if (!made) return fail(made.error());
  auto q = of_kind(Query::Kind::wildcard);
  q->field = std::move(field);
  q->pattern = *made;
  return QueryPtr(q);
}

Result<QueryPtr> make_regexp(std::string field, std::string_view pattern) {
  auto made = compiled(std::string(pattern), false);
  if (!made) return fail(made.error());
  auto q = of_kind(Query::Kind::regexp);
  q->field = std::move(field);
  q->pattern = *made;
  return QueryPtr(q);
}

Bound make_bound(std::string_view text, bool inclusive, bool upper, Wall now) {
  Bound b{true, inclusive, std::string(text), to_double(text), std::nullopt};
  b.date = parse_date(text, upper == inclusive, now);
  return b;
}

}  // namespace croft::logs
