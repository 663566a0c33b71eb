#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/query/collect.hpp"
#include "logs/query/parse.hpp"

namespace croft::logs {

namespace {

constexpr std::string_view time_field = "@timestamp";
constexpr int depth_max = 8;

std::int64_t start_of(std::int64_t at, const Aggregation& a) {
  if (!a.calendar) {
    auto step = a.interval.count();
    auto whole = at / step - (at % step < 0 ? 1 : 0);
    return whole * step;
  }
  auto day = std::chrono::floor<std::chrono::days>(Wall(Millis(at)));
  std::chrono::year_month_day date(day);
  if (a.calendar == 'w') return (Wall(day) - std::chrono::days((std::chrono::weekday(day).c_encoding() + 6) % 7)).time_since_epoch().count();
  auto month = a.calendar == 'y' ? std::chrono::month(1) : a.calendar == 'q' ? std::chrono::month((unsigned(date.month()) - 1) / 3 * 3 + 1) : date.month();
  return Wall(std::chrono::sys_days(date.year() / month / 1)).time_since_epoch().count();
}

std::int64_t next_start(std::int64_t start, const Aggregation& a) {
  if (!a.calendar) return start + a.interval.count();
  auto days = a.calendar == 'w' ? 7 : a.calendar == 'y' ? 370 : a.calendar == 'q' ? 95 : 32;
  auto into = start + static_cast<std::int64_t>(days) * 86'400'000;
  auto next = start_of(into, a);
  return next > start ? next : into;
}

Result<std::pair<Millis, char>> interval_of(const json::value& body) {
  auto text = json::text(body, "fixed_interval", json::text(body, "calendar_interval", json::text(body, "interval")));
  static const std::map<std::string, std::string, std::less<>> words{{"second", "1s"}, {"minute", "1m"}, {"hour", "1h"}, {"day", "1d"}, {"week", "1w"}, {"month", "1M"}, {"quarter", "1q"}, {"year", "1y"}};
  if (auto at = words.find(text); at != words.end()) text = at->second;
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  auto n = to_int(text.substr(0, digits));
  auto unit = text.substr(digits);
  if (!n || *n < 1) return fail(Errc::invalid, "failed to parse setting [date_histogram.interval] with value [{}]", text);
  if (unit == "ms") return std::pair(Millis(*n), '\0');
  if (unit == "s") return std::pair(Millis(*n * 1000), '\0');
  if (unit == "m") return std::pair(Millis(*n * 60'000), '\0');
  if (unit == "h") return std::pair(Millis(*n * 3'600'000), '\0');
  if (unit == "d") return std::pair(Millis(*n * 86'400'000), '\0');
  if ((unit == "w" || unit == "M" || unit == "q" || unit == "y") && *n == 1) return std::pair(Millis(0), unit[0]);
  return fail(Errc::invalid, "The supplied interval [{}] could not be parsed as a calendar interval.", text);
}

Result<AggregationPtr> parse_one(const std::string& name, const json::value& body, Wall now, int depth);

Result<std::vector<AggregationPtr>> parse_all(const json::value& aggs, Wall now, int depth) {
  std::vector<AggregationPtr> out;
  if (depth > depth_max) return fail(Errc::invalid, "aggregations are nested too deeply");
  if (!aggs.is_object()) return fail(Errc::invalid, "[aggs] must be an object");
  for (const auto& member : aggs.get_object()) {
    auto one = parse_one(std::string(member.key()), member.value(), now, depth);
    if (!one) return fail(std::move(one).error());
    out.push_back(*one);
  }
  return out;
}

Result<AggregationPtr> parse_one(const std::string& name, const json::value& body, Wall now, int depth) {
  using Kind = Aggregation::Kind;
  static const std::map<std::string_view, Kind> kinds{{"date_histogram", Kind::date_histogram}, {"terms", Kind::terms}, {"max", Kind::max}, {"min", Kind::min}, {"sum", Kind::sum},
                                                      {"avg", Kind::avg}, {"value_count", Kind::value_count}, {"cardinality", Kind::cardinality}, {"stats", Kind::stats},
                                                      {"filter", Kind::filter}, {"missing", Kind::missing}};
  if (!body.is_object()) return fail(Errc::invalid, "aggregation [{}] must be an object", name);
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
    if (key == "meta") continue;
    auto kind = kinds.find(key);
    if (kind == kinds.end()) return fail(Errc::invalid, "Unknown aggregation type [{}]", key);
    const auto& spec = member.value();
    made->kind = kind->second;
    found = true;
    if (made->kind == Kind::filter) {
      auto q = parse_dsl(spec, now);
      if (!q) return fail(std::move(q).error());
      made->filter = *q;
      continue;
    }
    made->field = json::text(spec, "field");
    if (made->field.empty()) return fail(Errc::invalid, "Required one of fields [field, script], but none were specified. ");
    if (made->kind == Kind::terms) {
      auto size = json::integer(spec, "size", 10);
      if (size < 1) return fail(Errc::invalid, "[size] must be greater than 0. Found [{}] in [{}]", size, name);
      made->size = static_cast<std::size_t>(std::min<std::int64_t>(size, buckets_max));
      made->min_count = static_cast<std::size_t>(std::max<std::int64_t>(1, json::integer(spec, "min_doc_count", 1)));
      for (const auto& order : json::members(spec, "order")) made->by_key = order.key() == "_key" || order.key() == "_term", made->ascending = order.value() == "asc";
    } else if (made->kind == Kind::date_histogram) {
      auto interval = interval_of(spec);
      if (!interval) return fail(std::move(interval).error());
      made->interval = interval->first;
      made->calendar = interval->second;
      made->min_count = static_cast<std::size_t>(std::max<std::int64_t>(0, json::integer(spec, "min_doc_count")));
      if (const auto* bounds = json::find(spec, "extended_bounds")) {
        auto end = [&](std::string_view at) { const auto* v = json::find(*bounds, at); return v ? parse_date(v->is_string() ? std::string(v->get_string()) : json::print(*v), at == "max", now) : std::nullopt; };
        made->bounds_min = end("min");
        made->bounds_max = end("max");
      }
    }
  }
  if (!found) return fail(Errc::invalid, "Missing definition for aggregation [{}]", name);
  return AggregationPtr(made);
}

}  // namespace

Result<std::vector<AggregationPtr>> parse_aggregations(const json::value& aggs, Wall now) { return parse_all(aggs, now, 0); }

std::vector<Collector> make_collectors(const std::vector<AggregationPtr>& aggregations) {
  std::vector<Collector> out;
  for (const auto& a : aggregations) out.emplace_back(a);
  return out;
}

void write_collectors(JsonWriter& w, const std::vector<Collector>& collectors) {
  for (const auto& c : collectors) {
    w.key(c.what().name);
    c.write(w);
  }
}

void Collector::fill(Bucket& b, DocumentReader& d) {
  if (b.count++ == 0) b.inner = make_collectors(what_->inner);
  for (auto& inner : b.inner) inner.add(d);
}

void Collector::add(DocumentReader& d) {
  using Kind = Aggregation::Kind;
  switch (what_->kind) {
    case Kind::filter:
      if (matches(*what_->filter, d)) fill(whole_, d);
      return;
    case Kind::missing:
      if (!d.exists(what_->field)) fill(whole_, d);
      return;
    case Kind::date_histogram: {
      std::optional<Wall> at = d.row().at;
      if (what_->field != time_field) {
        auto v = d.first(what_->field);
        at = !v ? std::nullopt : v->kind == Value::Kind::number ? std::optional(Wall(Millis(static_cast<std::int64_t>(v->number)))) : from_iso8601(v->text);
      }
      if (at && (times_.size() < buckets_max || times_.contains(start_of(at->time_since_epoch().count(), *what_)))) fill(times_[start_of(at->time_since_epoch().count(), *what_)], d);
      return;
    }
    case Kind::terms: {
      std::set<std::string> seen;
      std::vector<std::pair<std::string, Value>> values;
      d.values(what_->field, [&](const Value& v) {
        auto text = value_text(v);
        if (seen.insert(text).second) values.emplace_back(text, v);
        return true;
      });
      for (auto& [text, v] : values) {
        if (buckets_.size() >= buckets_max && !buckets_.contains(text)) {
          ++dropped_;
          continue;
        }
        auto& b = buckets_[text];
        if (v.kind == Value::Kind::number) b.numeric = true, b.number = v.number;
        fill(b, d);
      }
      return;
    }
    case Kind::cardinality:
      d.values(what_->field, [&](const Value& v) {
        if (distinct_.size() < 1'000'000) distinct_.insert(value_text(v));
        return true;
      });
      return;
    default: break;
  }
  d.values(what_->field, [&](const Value& v) {
    double n = v.number;
    if (v.kind == Value::Kind::text) {
      auto date = what_->field == time_field ? std::optional(d.row().at) : from_iso8601(v.text);
      if (!date && what_->kind != Kind::value_count) return true;
      n = date ? static_cast<double>(date->time_since_epoch().count()) : 0;
    } else if (v.kind == Value::Kind::boolean) {
      n = v.truth ? 1 : 0;
    }
    min_ = count_ == 0 ? n : std::min(min_, n);
    max_ = count_ == 0 ? n : std::max(max_, n);
    sum_ += n;
    ++count_;
    return true;
  });
}

double Collector::value() const {
  using Kind = Aggregation::Kind;
  switch (what_->kind) {
    case Kind::max: return max_;
    case Kind::min: return min_;
    case Kind::sum: return sum_;
    case Kind::avg: return count_ ? sum_ / static_cast<double>(count_) : 0;
    case Kind::cardinality: return static_cast<double>(distinct_.size());
    default: return static_cast<double>(count_);
  }
}

void Collector::write_bucket_tail(JsonWriter& w, const Bucket& b) const {
  w.field("doc_count", b.count);
  if (b.count > 0) write_collectors(w, b.inner);
  else write_collectors(w, make_collectors(what_->inner));
  w.end_object();
}

void Collector::write_histogram(JsonWriter& w) const {
  w.begin_object().key("buckets").begin_array();
  std::optional<std::int64_t> first, last;
  if (!times_.empty()) first = times_.begin()->first, last = times_.rbegin()->first;
  if (what_->min_count == 0) {
    if (what_->bounds_min) first = std::min(first.value_or(INT64_MAX), start_of(what_->bounds_min->time_since_epoch().count(), *what_));
    if (what_->bounds_max) last = std::max(last.value_or(INT64_MIN), start_of(what_->bounds_max->time_since_epoch().count(), *what_));
  }
  std::size_t written = 0;
  static const Bucket empty;
  for (auto at = first.value_or(0); first && last && at <= *last && written < buckets_max; at = next_start(at, *what_)) {
    auto b = times_.find(at);
    const auto& bucket = b == times_.end() ? empty : b->second;
    if (bucket.count < what_->min_count) continue;
    w.begin_object().field("key_as_string", to_iso8601(Wall(Millis(at)))).field("key", at);
    write_bucket_tail(w, bucket);
    ++written;
  }
  w.end_array().end_object();
}

void Collector::write_terms(JsonWriter& w) const {
  std::vector<const std::pair<const std::string, Bucket>*> sorted;
  for (const auto& b : buckets_)
    if (b.second.count >= what_->min_count) sorted.push_back(&b);
  std::stable_sort(sorted.begin(), sorted.end(), [&](auto* a, auto* b) {
    if (what_->by_key) {
      if (a->second.numeric && b->second.numeric) return what_->ascending ? a->second.number < b->second.number : a->second.number > b->second.number;
      return what_->ascending ? a->first < b->first : a->first > b->first;
    }
    if (a->second.count != b->second.count) return what_->ascending ? a->second.count < b->second.count : a->second.count > b->second.count;
    return a->second.numeric && b->second.numeric ? a->second.number < b->second.number : a->first < b->first;
  });
  std::uint64_t others = dropped_;
  for (std::size_t i = what_->size; i < sorted.size(); ++i) others += sorted[i]->second.count;
  if (sorted.size() > what_->size) sorted.resize(what_->size);
  w.begin_object().field("doc_count_error_upper_bound", 0).field("sum_other_doc_count", others).key("buckets").begin_array();
  for (const auto* b : sorted) {
    w.begin_object().key("key");
    if (b->second.numeric) w.value(b->second.number);
    else w.value(b->first);
    write_bucket_tail(w, b->second);
  }
  w.end_array().end_object();
}

void Collector::write(JsonWriter& w) const {
  using Kind = Aggregation::Kind;
  auto number = [&](std::string_view key, double v, bool known) {
    w.key(key);
    if (known) w.value(v);
    else w.null();
  };
  switch (what_->kind) {
    case Kind::date_histogram: return write_histogram(w);
    case Kind::terms: return write_terms(w);
    case Kind::filter:
    case Kind::missing:
      w.begin_object();
      return write_bucket_tail(w, whole_);
    case Kind::stats:
      w.begin_object().field("count", count_);
      number("min", min_, count_ > 0), number("max", max_, count_ > 0), number("avg", count_ ? sum_ / static_cast<double>(count_) : 0, count_ > 0);
      w.field("sum", sum_).end_object();
      return;
    default: break;
  }
  bool always = what_->kind == Kind::sum || what_->kind == Kind::value_count || what_->kind == Kind::cardinality;
  w.begin_object();
  number("value", value(), always || count_ > 0);
  if (what_->field == time_field && count_ > 0 && !always) w.field("value_as_string", to_iso8601(Wall(Millis(static_cast<std::int64_t>(value())))));
  w.end_object();
}

}  // namespace croft::logs
