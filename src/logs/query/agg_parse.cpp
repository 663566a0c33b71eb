// "aggs" of a search body, into trees.

#include <re2/re2.h>

#include <algorithm>
#include <map>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/query/collect.hpp"
#include "logs/query/parse.hpp"

namespace croft::logs {

namespace {

using json::value;
using Kind = Aggregation::Kind;
constexpr int depth_max = 8;

std::string scalar(const value& v) { return v.is_string() ? std::string(v.get_string()) : json::print(v); }

std::optional<double> number_of(const value& from, std::string_view key) {
  const auto* v = json::find(from, key);
  return !v ? std::nullopt : v->is_number() ? std::optional(json::number(from, key)) : v->is_string() ? to_double(std::string_view(v->get_string())) : std::nullopt;
}

/// "30s", "1d", "-3h": nothing when it is none.
std::optional<Millis> duration_of(std::string_view text) {
  bool minus = text.starts_with('-');
  if (minus || text.starts_with('+')) text.remove_prefix(1);
  auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  auto n = to_int(text.substr(0, digits));
  auto unit = text.substr(digits);
  if (!n || *n > 100'000'000) return std::nullopt;
  std::int64_t each = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "m" ? 60'000 : unit == "h" ? 3'600'000 : unit == "d" ? 86'400'000 : 0;
  if (each == 0) return std::nullopt;
  return Millis(*n * each * (minus ? -1 : 1));
}

Status read_interval(const value& body, Aggregation& a) {
  static const std::map<std::string_view, std::string_view> words{{"second", "1s"}, {"minute", "1m"}, {"hour", "1h"}, {"day", "1d"}, {"week", "1w"}, {"month", "1M"}, {"quarter", "1q"}, {"year", "1y"}};
  const auto *fixed = json::find(body, "fixed_interval"), *calendar = json::find(body, "calendar_interval"), *legacy = json::find(body, "interval");
  const auto* given = fixed ? fixed : calendar ? calendar : legacy;
  if (!given) return fail(Errc::invalid, "Invalid interval specified, must be non-null and non-empty");
  if (fixed && calendar) return fail(Errc::invalid, "Cannot use [fixed_interval] with [calendar_interval] configuration option.");
  auto text = given->is_int64() ? std::to_string(given->get_int64()) + "ms" : scalar(*given);
  if (!fixed)
    if (auto word = words.find(text); word != words.end()) text = word->second;
  bool one = text == "1s" || text == "1m" || text == "1h";
  bool varies = text == "1d" || text == "1w" || text == "1M" || text == "1q" || text == "1y";
  if (!fixed && varies) return a.calendar = text[1], Status{};
  if (calendar && !one) return fail(Errc::invalid, "The supplied interval [{}] could not be parsed as a calendar interval.", text);
  auto length = duration_of(text);
  if (!length || *length <= Millis(0)) return fail(Errc::invalid, "failed to parse setting [date_histogram.{}] with value [{}] as a time value", fixed ? "fixedInterval" : "interval", text);
  a.interval = *length;
  return {};
}

Status read_date_histogram(const value& body, Aggregation& a, Wall now) {
  if (auto ok = read_interval(body, a); !ok) return ok;
  a.min_count = static_cast<std::size_t>(std::max<std::int64_t>(0, json::integer(body, "min_doc_count")));
  auto offset = duration_of(json::text(body, "offset", "0s"));
  if (!offset) return fail(Errc::invalid, "failed to parse [offset] with value [{}]", json::text(body, "offset"));
  a.offset = *offset;
  DateOptions dates{a.format, a.zone};
  auto bound = [&](std::string_view of, std::string_view end) -> std::optional<Wall> {
    const auto* bounds = json::find(body, of);
    const auto* v = bounds ? json::find(*bounds, end) : nullptr;
    if (!v) return std::nullopt;
    auto at = parse_date(scalar(*v), end == "max", now, dates);
    return at ? at : parse_date(scalar(*v), end == "max", now);
  };
  a.bounds_min = bound("extended_bounds", "min");
  a.bounds_max = bound("extended_bounds", "max");
  a.hard_min = bound("hard_bounds", "min");
  a.hard_max = bound("hard_bounds", "max");
  return {};
}

Status read_histogram(const value& body, Aggregation& a) {
  auto step = number_of(body, "interval");
  if (!step || *step <= 0) return fail(Errc::invalid, "[interval] must be >0 for histogram aggregation [{}]", a.name);
  a.step = *step;
  a.step_offset = number_of(body, "offset").value_or(0);
  a.min_count = static_cast<std::size_t>(std::max<std::int64_t>(0, json::integer(body, "min_doc_count")));
  if (const auto* bounds = json::find(body, "extended_bounds")) a.number_min = number_of(*bounds, "min"), a.number_max = number_of(*bounds, "max");
  return {};
}

Status read_filter_of_terms(const value& body, std::string_view key, std::vector<std::string>& list, std::shared_ptr<const RE2>& pattern) {
  const auto* given = json::find(body, key);
  if (!given) return {};
  if (given->is_array()) {
    for (const auto& v : given->get_array()) list.push_back(scalar(v));
    return {};
  }
  if (!given->is_string()) return fail(Errc::invalid, "[{}] of a terms aggregation is a pattern or a list of values", key);
  auto q = make_regexp("", std::string_view(given->get_string()));
  if (!q) return fail(std::move(q).error());
  pattern = (*q)->pattern;
  return {};
}

Status read_terms(const value& body, Aggregation& a) {
  auto size = json::integer(body, "size", 10);
  if (size < 1) return fail(Errc::invalid, "[size] must be greater than 0. Found [{}] in [{}]", size, a.name);
  a.size = static_cast<std::size_t>(std::min<std::int64_t>(size, buckets_max));
  a.min_count = static_cast<std::size_t>(std::max<std::int64_t>(1, json::integer(body, "min_doc_count", 1)));
  auto take = [&](const value& order) -> Status {
    if (!order.is_object()) return fail(Errc::invalid, "[order] of a terms aggregation must be an object or a list of them");
    for (const auto& o : order.get_object()) {
      auto way = lower(scalar(o.value()));
      if (way != "asc" && way != "desc") return fail(Errc::invalid, "Unknown terms order direction [{}]", way);
      a.order.push_back({o.key() == "_term" ? "_key" : std::string(o.key()), way == "asc"});
    }
    return {};
  };
  if (const auto* order = json::find(body, "order")) {
    if (!order->is_array()) {
      if (auto ok = take(*order); !ok) return ok;
    } else {
      for (const auto& o : order->get_array())
        if (auto ok = take(o); !ok) return ok;
    }
  }
  if (auto ok = read_filter_of_terms(body, "include", a.include, a.include_pattern); !ok) return ok;
  return read_filter_of_terms(body, "exclude", a.exclude, a.exclude_pattern);
}

std::string range_text(const std::optional<double>& v, const Aggregation& a) {
  if (!v) return "*";
  if (a.kind == Kind::date_range) return print_date(Wall(Millis(static_cast<std::int64_t>(*v))), a.format, a.zone);
  auto text = print_number(*v);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

Status read_ranges(const value& body, Aggregation& a, Wall now) {
  if (json::list(body, "ranges").empty()) return fail(Errc::invalid, "No [ranges] specified for the [{}] aggregation", a.name);
  for (const auto& r : json::list(body, "ranges")) {
    Aggregation::Range range;
    for (auto [key, into] : {std::pair("from", &range.from), std::pair("to", &range.to)}) {
      const auto* v = json::find(r, key);
      if (!v) continue;
      if (a.kind == Kind::range) {
        *into = number_of(r, key);
      } else if (auto at = parse_date(scalar(*v), false, now, {a.format, a.zone})) {
        *into = static_cast<double>(at->time_since_epoch().count());
      }
      if (!*into) return fail(Errc::invalid, "failed to parse [{}] of a range with value [{}]", key, scalar(*v));
    }
    range.key = json::text(r, "key", range_text(range.from, a) + "-" + range_text(range.to, a));
    a.ranges.push_back(std::move(range));
  }
  return {};
}

Status read_filters(const value& body, Aggregation& a, Wall now) {
  const auto* filters = json::find(body, "filters");
  if (!filters || (!filters->is_object() && !filters->is_array())) return fail(Errc::invalid, "[filters] of [{}] must be an object or a list of queries", a.name);
  auto add = [&](std::string name, const value& query) -> Status {
    auto q = parse_dsl(query, now);
    if (!q) return fail(std::move(q).error());
    a.filters.emplace_back(std::move(name), *q);
    return {};
  };
  a.keyed = filters->is_object();
  if (a.keyed) {
    for (const auto& f : filters->get_object())
      if (auto ok = add(f.key(), f.value()); !ok) return ok;
  } else {
    for (const auto& f : filters->get_array())
      if (auto ok = add("", f); !ok) return ok;
  }
  if (json::boolean(body, "other_bucket") || json::find(body, "other_bucket_key")) a.other_key = json::text(body, "other_bucket_key", "_other_");
  return {};
}

Status read_top_hits(const value& body, Aggregation& a) {
  a.size = static_cast<std::size_t>(std::clamp<std::int64_t>(json::integer(body, "size", 3), 0, 100));
  a.from = static_cast<std::size_t>(std::clamp<std::int64_t>(json::integer(body, "from"), 0, 1000));
  if (const auto* sort = json::find(body, "sort")) {
    auto keys = parse_sort(*sort);
    if (!keys) return fail(std::move(keys).error());
    a.sort = std::move(*keys);
  }
  return {};
}

Status read_percents(const value& body, Aggregation& a) {
  bool ranks = a.kind == Kind::percentile_ranks;
  a.keyed = json::boolean(body, "keyed", true);
  for (const auto& p : json::list(body, ranks ? "values" : "percents"))
    if (p.is_number()) a.percents.push_back(p.to_number<double>());
  if (ranks && a.percents.empty()) return fail(Errc::invalid, "[values] must not be empty: [{}]", a.name);
  if (a.percents.empty()) a.percents = {1, 5, 25, 50, 75, 95, 99};
  for (double p : a.percents)
    if (!ranks && (p < 0 || p > 100)) return fail(Errc::invalid, "percent must be in [0,100], got [{}]: [{}]", p, a.name);
  return {};
}

Status read_spec(const value& spec, Aggregation& a, Wall now) {
  if (a.kind == Kind::filter) {
    auto q = parse_dsl(spec, now);
    if (!q) return fail(std::move(q).error());
    a.filters.emplace_back("", *q);
    return {};
  }
  if (!spec.is_object()) return fail(Errc::invalid, "aggregation [{}] must hold an object", a.name);
  if (a.kind == Kind::global) return {};
  if (a.kind == Kind::filters) return read_filters(spec, a, now);
  if (a.kind == Kind::top_hits) return read_top_hits(spec, a);
  a.field = json::text(spec, "field");
  if (a.field.empty()) return fail(Errc::invalid, "Required one of fields [field, script], but none were specified. ");
  a.format = json::text(spec, "format");
  auto zone = find_zone(json::text(spec, "time_zone"));
  if (!zone) return fail(std::move(zone).error());
  a.zone = *zone;
  a.keyed = json::boolean(spec, "keyed");
  if (const auto* missing = json::find(spec, "missing")) a.missing = scalar(*missing);
  switch (a.kind) {
    case Kind::date_histogram: return read_date_histogram(spec, a, now);
    case Kind::histogram: return read_histogram(spec, a);
    case Kind::terms: return read_terms(spec, a);
    case Kind::range:
    case Kind::date_range: return read_ranges(spec, a, now);
    case Kind::percentiles:
    case Kind::percentile_ranks: return read_percents(spec, a);
    default: return {};
  }
}

Result<std::vector<AggregationPtr>> parse_all(const value& aggs, Wall now, int depth);

Result<AggregationPtr> parse_one(const std::string& name, const value& body, Wall now, int depth) {
  static const std::map<std::string_view, Kind> kinds{
      {"date_histogram", Kind::date_histogram}, {"histogram", Kind::histogram}, {"terms", Kind::terms}, {"filters", Kind::filters}, {"filter", Kind::filter}, {"missing", Kind::missing}, {"global", Kind::global},
      {"range", Kind::range}, {"date_range", Kind::date_range}, {"top_hits", Kind::top_hits}, {"max", Kind::max}, {"min", Kind::min}, {"sum", Kind::sum}, {"avg", Kind::avg}, {"value_count", Kind::value_count},
      {"cardinality", Kind::cardinality}, {"stats", Kind::stats}, {"extended_stats", Kind::extended_stats}, {"percentiles", Kind::percentiles}, {"percentile_ranks", Kind::percentile_ranks}};
  if (!body.is_object()) return fail(Errc::invalid, "Expected [START_OBJECT] under aggregation [{}]", name);
  auto made = std::make_shared<Aggregation>();
  made->name = name;
  bool found = false;
  for (const auto& member : body.get_object()) {
    std::string_view key = member.key();
    if (key == "aggs" || key == "aggregations") {
      auto inner = parse_all(member.value(), now, depth + 1);
      if (!inner) return fail(std::move(inner).error());
      made->inner = std::move(*inner);
      continue;
    }
    if (key == "meta") {
      made->meta = json::print(member.value());
      continue;
    }
    auto kind = kinds.find(key);
    if (kind == kinds.end()) return fail(Errc::invalid, "Unknown aggregation type [{}]", key);
    if (found) return fail(Errc::invalid, "Found two aggregation type definitions in [{}]: the second is [{}]", name, key);
    made->kind = kind->second;
    found = true;
    if (auto ok = read_spec(member.value(), *made, now); !ok) return fail(ok.error());
  }
  if (!found) return fail(Errc::invalid, "Missing definition for aggregation [{}]", name);
  bool bucket = made->kind < Kind::top_hits;
  if (!bucket && !made->inner.empty()) return fail(Errc::invalid, "Aggregator [{}] cannot accept sub-aggregations", name);
  for (const auto& o : made->order) {
    auto sub = o.path.substr(0, o.path.find_first_of(".>["));
    bool known = o.path == "_count" || o.path == "_key" || std::any_of(made->inner.begin(), made->inner.end(), [&](const auto& i) { return i->name == sub; });
    if (!known) return fail(Errc::invalid, "Invalid aggregation order path [{}]. The provided aggregation [{}] either does not exist, or is a pipeline aggregation and cannot be used to sort the buckets.", o.path, sub);
  }
  return AggregationPtr(made);
}

Result<std::vector<AggregationPtr>> parse_all(const value& aggs, Wall now, int depth) {
  std::vector<AggregationPtr> out;
  if (depth > depth_max) return fail(Errc::invalid, "aggregations are nested too deeply");
  if (!aggs.is_object()) return fail(Errc::invalid, "Expected [START_OBJECT] under [aggs]");
  for (const auto& member : aggs.get_object()) {
    auto one = parse_one(std::string(member.key()), member.value(), now, depth);
    if (!one) return fail(std::move(one).error());
    if ((*one)->kind == Kind::global && depth > 0) return fail(Errc::invalid, "Aggregation [{}] cannot have a global sub-aggregation: only at the top", (*one)->name);
    out.push_back(*one);
  }
  return out;
}

}  // namespace

Result<std::vector<AggregationPtr>> parse_aggregations(const value& aggs, Wall now) { return parse_all(aggs, now, 0); }

}  // namespace croft::logs
