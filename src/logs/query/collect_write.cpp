// Aggregations' replies.

#include <algorithm>
#include <cmath>

#include "base/text.hpp"
#include "logs/query/collect.hpp"

namespace croft::logs {

namespace {

using Kind = Aggregation::Kind;

void number(JsonWriter& w, std::string_view key, double v, bool known) {
  w.key(key);
  if (known) w.value(v);
  else w.null();
}

/// 50 -> "50.0": keys of percentiles and histograms are doubles.
std::string double_text(double v) {
  auto text = print_number(v);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

}  // namespace

std::string Collector::typed_name() const {
  auto type = [&]() -> std::string_view {
    switch (what_->kind) {
      case Kind::date_histogram: return "date_histogram";
      case Kind::histogram: return "histogram";
      case Kind::terms: {
        if (terms_.empty() || terms_.begin()->second.kind == Value::Kind::text) return "sterms";
        bool whole = std::all_of(terms_.begin(), terms_.end(), [](const auto& t) { return t.second.whole; });
        return whole ? "lterms" : "dterms";
      }
      case Kind::filters: return "filters";
      case Kind::filter: return "filter";
      case Kind::missing: return "missing";
      case Kind::global: return "global";
      case Kind::range: return "range";
      case Kind::date_range: return "date_range";
      case Kind::top_hits: return "top_hits";
      case Kind::max: return "max";
      case Kind::min: return "min";
      case Kind::sum: return "sum";
      case Kind::avg: return "avg";
      case Kind::value_count: return "value_count";
      case Kind::cardinality: return "cardinality";
      case Kind::stats: return "stats";
      case Kind::extended_stats: return "extended_stats";
      case Kind::percentiles: return "tdigest_percentiles";
      case Kind::percentile_ranks: return "tdigest_percentile_ranks";
    }
    return "";
  }();
  return fmt::format("{}#{}", type, what_->name);
}

void write_collectors(JsonWriter& w, const std::vector<Collector>& collectors, bool typed) {
  for (const auto& c : collectors) {
    w.key(typed ? c.typed_name() : c.what().name);
    c.write(w, typed);
  }
}

void Collector::write_tail(JsonWriter& w, const Bucket& b, bool typed) const {
  w.field("doc_count", b.count);
  if (b.count > 0) write_collectors(w, b.inner, typed);
  else write_collectors(w, make_collectors(what_->inner, *budget_), typed);
  w.end_object();
}

void Collector::write_times(JsonWriter& w, bool typed) const {
  w.key("buckets");
  what_->keyed ? w.begin_object() : w.begin_array();
  std::optional<std::int64_t> first, last;
  if (!times_.empty()) first = times_.begin()->first, last = times_.rbegin()->first;
  if (what_->min_count == 0) {
    if (what_->bounds_min) first = std::min(first.value_or(INT64_MAX), interval_start(what_->bounds_min->time_since_epoch().count(), *what_));
    if (what_->bounds_max) last = std::max(last.value_or(INT64_MIN), interval_start(what_->bounds_max->time_since_epoch().count(), *what_));
    if (!first) first = last;
    if (!last) last = first;
  }
  static const Bucket empty;
  auto write_one = [&](std::int64_t at, const Bucket& bucket) {
    auto text = print_date(Wall(Millis(at)), what_->format, what_->zone);
    if (what_->keyed) w.key(text);
    w.begin_object().field("key_as_string", text).field("key", at);
    write_tail(w, bucket, typed);
  };
  std::size_t written = 0;
  if (what_->min_count > 0) {
    for (const auto& [at, bucket] : times_)
      if (bucket.count >= what_->min_count) write_one(at, bucket), ++written;
  } else if (first) {
    for (auto at = *first; at <= *last && written <= buckets_max; at = interval_next(at, *what_), ++written) {
      auto b = times_.find(at);
      write_one(at, b == times_.end() ? empty : b->second);
    }
  }
  if (written > buckets_max) budget_->spent = true;
  what_->keyed ? w.end_object() : w.end_array();
}

void Collector::write_numbers(JsonWriter& w, bool typed) const {
  w.key("buckets");
  what_->keyed ? w.begin_object() : w.begin_array();
  static const Bucket empty;
  auto write_one = [&](double at, const Bucket& bucket) {
    if (what_->keyed) w.key(double_text(at));
    w.begin_object().field("key", at);
    write_tail(w, bucket, typed);
  };
  auto start_of = [&](double v) { return std::floor((v - what_->step_offset) / what_->step) * what_->step + what_->step_offset; };
  std::optional<double> first, last;
  if (!steps_.empty()) first = steps_.begin()->first, last = steps_.rbegin()->first;
  if (what_->min_count == 0 && what_->number_min) first = first ? std::min(*first, start_of(*what_->number_min)) : start_of(*what_->number_min);
  if (what_->min_count == 0 && what_->number_max) last = last ? std::max(*last, start_of(*what_->number_max)) : start_of(*what_->number_max);
  if (first && !last) last = first;
  if (what_->min_count > 0) {
    for (const auto& [at, bucket] : steps_)
      if (bucket.count >= what_->min_count) write_one(at, bucket);
  } else if (first && (*last - *first) / what_->step > static_cast<double>(buckets_max)) {
    budget_->spent = true;
  } else if (first) {
    auto next = steps_.begin();
    for (std::size_t i = 0; *first + static_cast<double>(i) * what_->step <= *last + what_->step / 2; ++i) {
      auto at = *first + static_cast<double>(i) * what_->step;
      bool mine = next != steps_.end() && std::abs(next->first - at) < what_->step / 2;
      write_one(mine ? next->first : at, mine ? next->second : empty);
      if (mine) ++next;
    }
  }
  what_->keyed ? w.end_object() : w.end_array();
}

bool Collector::term_before(const std::pair<const std::string, Term>& a, const std::pair<const std::string, Term>& b) const {
  auto by_key = [&](bool ascending) -> std::optional<bool> {
    bool numbers = a.second.kind != Value::Kind::text && b.second.kind != Value::Kind::text;
    if (numbers && a.second.number != b.second.number) return (a.second.number < b.second.number) == ascending;
    if (a.first == b.first) return std::nullopt;
    return (a.first < b.first) == ascending;
  };
  if (what_->order.empty() && a.second.count != b.second.count) return a.second.count > b.second.count;
  for (const auto& o : what_->order) {
    if (o.path == "_key") {
      if (auto less = by_key(o.ascending)) return *less;
      continue;
    }
    auto x = o.path == "_count" ? static_cast<double>(a.second.count) : order_value(a.second, o.path), y = o.path == "_count" ? static_cast<double>(b.second.count) : order_value(b.second, o.path);
    if (x != y) return (x < y) == o.ascending;
  }
  return by_key(true).value_or(false);
}

void Collector::write_terms(JsonWriter& w, bool typed) const {
  std::vector<const std::pair<const std::string, Term>*> sorted;
  for (const auto& t : terms_)
    if (t.second.count >= what_->min_count) sorted.push_back(&t);
  auto shown = std::min(what_->size, sorted.size());
  std::partial_sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(shown), sorted.end(), [this](auto* a, auto* b) { return term_before(*a, *b); });
  std::uint64_t others = dropped_;
  for (std::size_t i = shown; i < sorted.size(); ++i) others += sorted[i]->second.count;
  w.field("doc_count_error_upper_bound", 0).field("sum_other_doc_count", others).key("buckets").begin_array();
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [key, term] = *sorted[i];
    w.begin_object().key("key");
    if (term.kind == Value::Kind::text) w.value(key);
    else w.value(term.number);
    if (term.kind == Value::Kind::boolean) w.field("key_as_string", key);
    if (dates_) w.field("key_as_string", print_date(Wall(Millis(static_cast<std::int64_t>(term.number))), what_->format, what_->zone));
    write_tail(w, term, typed);
  }
  w.end_array();
}

void Collector::write_fixed(JsonWriter& w, bool typed) const {
  bool ranges = what_->kind == Kind::range || what_->kind == Kind::date_range;
  w.key("buckets");
  what_->keyed ? w.begin_object() : w.begin_array();
  for (std::size_t i = 0; i < fixed_.size(); ++i) {
    auto key = ranges ? what_->ranges[i].key : i < what_->filters.size() ? what_->filters[i].first : what_->other_key;
    if (what_->keyed) w.key(key);
    w.begin_object();
    if (ranges) {
      if (!what_->keyed) w.field("key", key);
      auto end = [&](std::string_view name, const std::optional<double>& v) {
        if (!v) return;
        w.field(name, *v);
        if (what_->kind == Kind::date_range) w.field(fmt::format("{}_as_string", name), print_date(Wall(Millis(static_cast<std::int64_t>(*v))), what_->format, what_->zone));
      };
      end("from", what_->ranges[i].from);
      end("to", what_->ranges[i].to);
    }
    write_tail(w, fixed_[i], typed);
  }
  what_->keyed ? w.end_object() : w.end_array();
}

void Collector::write_stats(JsonWriter& w) const {
  bool known = count_ > 0;
  auto n = static_cast<double>(std::max<std::uint64_t>(1, count_));
  w.field("count", count_);
  number(w, "min", min_, known), number(w, "max", max_, known), number(w, "avg", sum_ / n, known);
  w.field("sum", sum_);
  if (what_->kind == Kind::stats) return;
  auto mean = sum_ / n, variance = std::max(0.0, squares_ / n - mean * mean), deviation = std::sqrt(variance);
  auto sampling = count_ > 1 ? variance * n / (n - 1) : 0;
  number(w, "sum_of_squares", squares_, known), number(w, "variance", variance, known), number(w, "variance_population", variance, known), number(w, "variance_sampling", sampling, known);
  number(w, "std_deviation", deviation, known), number(w, "std_deviation_population", deviation, known), number(w, "std_deviation_sampling", std::sqrt(sampling), known);
  w.key("std_deviation_bounds").begin_object();
  number(w, "upper", mean + 2 * deviation, known), number(w, "lower", mean - 2 * deviation, known);
  w.end_object();
}

void Collector::write_percentiles(JsonWriter& w) const {
  w.key("values");
  what_->keyed ? w.begin_object() : w.begin_array();
  for (double p : what_->percents) {
    auto v = what_->kind == Kind::percentiles ? sample_.percentile(p) : sample_.rank(p);
    if (what_->keyed) {
      number(w, double_text(p), v.value_or(0), v.has_value());
      continue;
    }
    w.begin_object().field("key", p);
    number(w, "value", v.value_or(0), v.has_value());
    w.end_object();
  }
  what_->keyed ? w.end_object() : w.end_array();
}

void Collector::write_top(JsonWriter& w) const {
  w.key("hits").begin_object().key("total").begin_object().field("value", count_).field("relation", "eq").end_object().key("max_score");
  if (what_->sort.empty() && count_ > 0) w.value(1.0);
  else w.null();
  w.key("hits").begin_array();
  for (std::size_t i = what_->from; i < top_.size(); ++i) {
    const auto& hit = top_[i];
    w.begin_object().field("_index", hit.index).field("_type", "_doc").field("_id", hit.id).key("_score");
    if (what_->sort.empty()) w.value(1.0);
    else w.null();
    w.key("_source").raw(hit.source);
    if (!what_->sort.empty()) {
      w.key("sort").begin_array();
      for (const auto& key : hit.keys) w.value(key);
      w.end_array();
    }
    w.end_object();
  }
  w.end_array().end_object();
}

void Collector::write(JsonWriter& w, bool typed) const {
  w.begin_object();
  if (!what_->meta.empty()) w.key("meta").raw(what_->meta);
  switch (what_->kind) {
    case Kind::date_histogram: write_times(w, typed); break;
    case Kind::histogram: write_numbers(w, typed); break;
    case Kind::terms: write_terms(w, typed); break;
    case Kind::filters:
    case Kind::range:
    case Kind::date_range: write_fixed(w, typed); break;
    case Kind::filter:
    case Kind::missing:
    case Kind::global: return write_tail(w, fixed_[0], typed);
    case Kind::top_hits: write_top(w); break;
    case Kind::stats:
    case Kind::extended_stats: write_stats(w); break;
    case Kind::percentiles:
    case Kind::percentile_ranks: write_percentiles(w); break;
    default: {
      bool always = what_->kind == Kind::sum || what_->kind == Kind::value_count || what_->kind == Kind::cardinality;
      number(w, "value", metric(""), always || count_ > 0);
      if (dates_ && count_ > 0 && !always) w.field("value_as_string", print_date(Wall(Millis(static_cast<std::int64_t>(metric("")))), what_->format, what_->zone));
    }
  }
  w.end_object();
}

}  // namespace croft::logs
