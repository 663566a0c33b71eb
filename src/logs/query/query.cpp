#include "logs/query/query.hpp"

#include <re2/re2.h>

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

/// Levenshtein distance of at most `edits`, a swap of neighbours counting as one.
bool within_edits(std::string_view a, std::string_view b, int edits) {
  auto limit = static_cast<std::size_t>(edits);
  if (a.size() > b.size() + limit || b.size() > a.size() + limit || a.size() > 256) return false;
  std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before.swap(row);
    row.swap(next);
  }
  return row[b.size()] <= limit;
}

bool match_matches(const Query& q, DocumentReader& d) {
  if (q.tokens.empty()) return false;
  std::vector<bool> seen(q.tokens.size(), false);
  std::size_t left = q.tokens.size(), enough = q.all_tokens ? 0 : q.tokens.size() - std::min(q.tokens_min, q.tokens.size());
  d.values(q.field, [&](const Value& v) {
    if (v.kind == Value::Kind::number && q.number && *q.number == v.number) left = 0;
    if (v.kind == Value::Kind::boolean && q.truth && *q.truth == v.truth) left = 0;
    if (v.kind != Value::Kind::text) return left > enough;
    for_each_token(v.text, [&](std::string_view word) {
      for (std::size_t i = 0; i < q.tokens.size(); ++i) {
        bool last = q.last_is_prefix && i + 1 == q.tokens.size();
        if (!seen[i] && (last ? word.starts_with(q.tokens[i]) : word == q.tokens[i])) seen[i] = true, --left;
      }
      return left > enough;
    });
    return left > enough;
  });
  return left <= enough;
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
  if (v.kind == Value::Kind::number) {
    // A number beside a date is a moment in milliseconds.
    auto as_number = [](const Bound& b) { return b.number || !b.date ? b.number : std::optional(static_cast<double>(b.date->time_since_epoch().count())); };
    auto low = as_number(q.from), high = as_number(q.to);
    if ((q.from.given && !low) || (q.to.given && !high)) return false;
    return within(v.number, low, q.from.inclusive, high, q.to.inclusive);
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
    case Kind::fuzzy: return any_value(q, d, [&](const Value& v) {
        bool found = false;
        for_each_token(value_text(v), [&](std::string_view t) { return !(found = within_edits(t, q.text, q.slop)); });
        return found;
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
  q->number = to_double(trim(text));
  if (text == "true" || text == "false") q->truth = text == "true";
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

constexpr std::size_t pattern_max = 1000;  // as Elasticsearch has it for regular expressions

static std::unexpected<Error> too_long(std::size_t size) {
  return fail(Errc::invalid, "The length of the pattern [{}] used in the query has exceeded the allowed maximum of [{}]", size, pattern_max);
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
  if (pattern.size() > pattern_max) return too_long(pattern.size());
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
  if (pattern.size() > pattern_max) return too_long(pattern.size());
  auto made = compiled(std::string(pattern), false);
  if (!made) return fail(made.error());
  auto q = of_kind(Query::Kind::regexp);
  q->field = std::move(field);
  q->pattern = *made;
  return QueryPtr(q);
}

QueryPtr make_fuzzy(std::string field, std::string_view text, int edits) {
  auto q = of_kind(Query::Kind::fuzzy);
  q->field = std::move(field);
  q->text = lower(text);
  // Elasticsearch's AUTO: short words must be right.
  q->slop = edits >= 0 ? std::min(edits, 2) : text.size() < 3 ? 0 : text.size() < 6 ? 1 : 2;
  return q;
}

QueryPtr make_exists(std::string field) {
  auto q = of_kind(Query::Kind::exists);
  q->field = std::move(field);
  return q;
}

QueryPtr make_range(std::string field, Bound from, Bound to) {
  auto q = of_kind(Query::Kind::range);
  q->field = std::move(field);
  q->from = std::move(from);
  q->to = std::move(to);
  return q;
}

QueryPtr make_term_or_date(std::string field, std::string text, Wall now) {
  if (field != time_field) return make_term(std::move(field), std::move(text));
  auto from = make_bound(text, true, false, now), to = make_bound(text, true, true, now);
  return from.date ? make_range(std::move(field), std::move(from), std::move(to)) : match_none();
}

bool word_matches(const Query& q, std::string_view word) {
  using Kind = Query::Kind;
  switch (q.kind) {
    case Kind::term:
    case Kind::match:
    case Kind::phrase:
      for (std::size_t i = 0; i < q.tokens.size(); ++i)
        if (q.last_is_prefix && i + 1 == q.tokens.size() ? word.starts_with(q.tokens[i]) : word == q.tokens[i]) return true;
      return false;
    case Kind::prefix: return word.starts_with(lower(q.text));
    case Kind::fuzzy: return within_edits(word, q.text, q.slop);
    case Kind::wildcard:
    case Kind::regexp: return RE2::FullMatch({word.data(), word.size()}, *q.pattern);
    default: return false;
  }
}

/// "gte" and "lt" round down, "gt" and "lte" up.
Bound make_bound(std::string_view text, bool inclusive, bool upper, Wall now, const DateOptions& options) {
  Bound b{true, inclusive, std::string(text), to_double(text), std::nullopt};
  b.date = parse_date(text, upper == inclusive, now, options);
  return b;
}

}  // namespace croft::logs
