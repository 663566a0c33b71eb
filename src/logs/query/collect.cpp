#include "logs/query/collect.hpp"

#include <re2/re2.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::string_view time_field = "@timestamp";
constexpr std::size_t distinct_exact = 40'000, registers = 1u << 14, sample_max = 50'000;
constexpr std::size_t terms_max = 200'000;  // different values that one aggregation looks at; more are counted as others
using Kind = Aggregation::Kind;

/// A value as a moment in milliseconds.
std::optional<Wall> moment_of(const Value& v) {
  if (v.kind == Value::Kind::number) return std::abs(v.number) < 2.5e14 ? std::optional(Wall(Millis(static_cast<std::int64_t>(v.number)))) : std::nullopt;
  return v.kind == Value::Kind::text ? from_iso8601(v.text) : std::nullopt;
}

}  // namespace

std::int64_t interval_start(std::int64_t at, const Aggregation& a) {
  auto zoned = a.zone ? a.zone->local(Wall(Millis(at))) : Wall(Millis(at));
  auto local = (zoned - a.offset).time_since_epoch().count();
  if (!a.calendar) {
    auto step = a.interval.count();
    local = (local / step - (local % step < 0 ? 1 : 0)) * step;
  } else {
    auto day = std::chrono::floor<std::chrono::days>(Wall(Millis(local)));
    std::chrono::year_month_day date(day);
    if (a.calendar == 'w') day -= std::chrono::days((std::chrono::weekday(day).c_encoding() + 6) % 7);
    auto month = a.calendar == 'y' ? std::chrono::month(1) : a.calendar == 'q' ? std::chrono::month((unsigned(date.month()) - 1) / 3 * 3 + 1) : date.month();
    if (a.calendar == 'M' || a.calendar == 'q' || a.calendar == 'y') day = std::chrono::sys_days(date.year() / month / 1);
    local = Wall(day).time_since_epoch().count();
  }
  Wall start = Wall(Millis(local)) + a.offset;
  return (a.zone ? a.zone->utc(start) : start).time_since_epoch().count();
}

std::int64_t interval_next(std::int64_t start, const Aggregation& a) {
  constexpr std::int64_t day = 86'400'000;
  if (!a.calendar && !a.zone) return start + a.interval.count();
  // Somewhere inside the next one, whatever clock changes lie between.
  auto length = a.calendar == 'y' ? 370 * day : a.calendar == 'q' ? 95 * day : a.calendar == 'M' ? 32 * day : a.calendar == 'w' ? 7 * day + day / 8 : a.calendar == 'd' ? day + day / 8 : a.interval.count();
  auto next = interval_start(start + length, a);
  return next > start ? next : start + std::max<std::int64_t>(length, 1);
}

void Distinct::add(std::string_view value) {
  auto hash = XXH3_64bits(value.data(), value.size());
  auto note = [this](std::uint64_t h) {
    auto& r = registers_[h & (registers - 1)];
    r = std::max(r, static_cast<std::uint8_t>(std::countl_zero(h | (registers - 1)) + 1));
  };
  if (!registers_.empty()) return note(hash);
  seen_.insert(hash);
  if (seen_.size() <= distinct_exact) return;
  registers_.assign(registers, 0);
  for (auto h : seen_) note(h);
  seen_.clear();
}

double Distinct::count() const {
  if (registers_.empty()) return static_cast<double>(seen_.size());
  double sum = 0;
  for (auto r : registers_) sum += std::ldexp(1.0, -r);
  auto m = static_cast<double>(registers);
  return std::round(0.7213 / (1 + 1.079 / m) * m * m / sum);
}

void Sample::add(double v) {
  ++seen_;
  sorted_ = false;
  if (values_.size() < sample_max) return values_.push_back(v);
  dice_ ^= dice_ << 13, dice_ ^= dice_ >> 7, dice_ ^= dice_ << 17;
  if (auto at = dice_ % seen_; at < sample_max) values_[at] = v;
}

void Sample::sort() const {
  if (!std::exchange(sorted_, true)) std::sort(values_.begin(), values_.end());
}

std::optional<double> Sample::percentile(double percent) const {
  if (values_.empty()) return std::nullopt;
  sort();
  auto place = percent / 100 * static_cast<double>(values_.size() - 1);
  auto below = static_cast<std::size_t>(place);
  auto above = std::min(below + 1, values_.size() - 1);
  return values_[below] + (values_[above] - values_[below]) * (place - static_cast<double>(below));
}

std::optional<double> Sample::rank(double value) const {
  if (values_.empty()) return std::nullopt;
  sort();
  return 100.0 * static_cast<double>(std::upper_bound(values_.begin(), values_.end(), value) - values_.begin()) / static_cast<double>(values_.size());
}

Collector::Collector(AggregationPtr what, BucketBudget& budget) : what_(std::move(what)), budget_(&budget) {
  auto count = what_->kind == Kind::filters                                         ? what_->filters.size() + (what_->other_key.empty() ? 0 : 1)
               : what_->kind == Kind::range || what_->kind == Kind::date_range      ? what_->ranges.size()
               : what_->kind == Kind::filter || what_->kind == Kind::missing || what_->kind == Kind::global ? 1
                                                                                    : 0;
  fixed_.resize(count);
}

std::vector<Collector> make_collectors(const std::vector<AggregationPtr>& aggregations, BucketBudget& budget) {
  std::vector<Collector> out;
  for (const auto& a : aggregations) out.emplace_back(a, budget);
  return out;
}

bool Collector::may_make(std::size_t key_bytes) {
  if (budget_->left == 0) budget_->spent = true;
  else --budget_->left;
  return !budget_->spent && budget_->take(budget_->text, key_bytes);
}

/// Into a sample or the like, whose growth is counted.
template <class Kept, class V>
void Collector::keep(Kept& kept, const V& value) {
  auto before = kept.bytes();
  kept.add(value);
  if (kept.bytes() > before) budget_->take(budget_->numbers, kept.bytes() - before);
}

void Collector::fill(Bucket& b, DocumentReader& d) {
  if (b.count++ == 0) {
    if (!budget_->take(budget_->numbers, what_->inner.size() * sizeof(Collector))) return;
    b.inner = make_collectors(what_->inner, *budget_);
  }
  for (auto& inner : b.inner) inner.add(d);
}

void Collector::add_term(std::string key, const Value& v, DocumentReader& d) {
  auto listed = [&](const std::vector<std::string>& list) { return std::find(list.begin(), list.end(), key) != list.end(); };
  if (!what_->include.empty() && !listed(what_->include)) return;
  if (listed(what_->exclude)) return;
  if (what_->include_pattern && !RE2::FullMatch(key, *what_->include_pattern)) return;
  if (what_->exclude_pattern && RE2::FullMatch(key, *what_->exclude_pattern)) return;
  auto at = terms_.find(key);
  if (at == terms_.end()) {
    if (terms_.size() >= terms_max) {
      ++dropped_;
      return;
    }
    if (!may_make(key.size())) return;
    at = terms_.emplace(std::move(key), Term{}).first;
    at->second.kind = v.kind;
    at->second.number = v.kind == Value::Kind::boolean ? v.truth : v.number;
    at->second.whole = v.whole || v.kind == Value::Kind::boolean;
  }
  fill(at->second, d);
}

void Collector::add_terms(DocumentReader& d) {
  if (what_->field == time_field) {
    Value v;
    v.kind = Value::Kind::number;
    v.whole = true;
    v.number = static_cast<double>(d.row().at.time_since_epoch().count());
    dates_ = true;
    return add_term(std::to_string(d.row().at.time_since_epoch().count()), v, d);
  }
  std::vector<std::pair<std::string, Value>> values;  // each value of a document counts once
  d.values(what_->field, [&](const Value& v) {
    auto text = value_text(v);
    if (std::none_of(values.begin(), values.end(), [&](const auto& seen) { return seen.first == text; })) values.emplace_back(std::move(text), v);
    return values.size() < 1000;
  });
  if (values.empty() && what_->missing) {
    Value v;
    v.text = *what_->missing;
    values.emplace_back(*what_->missing, v);
  }
  for (auto& [text, v] : values) add_term(std::move(text), v, d);
}

void Collector::add_time(Wall at, DocumentReader& d) {
  if ((what_->hard_min && at < *what_->hard_min) || (what_->hard_max && at > *what_->hard_max)) return;
  auto start = interval_start(at.time_since_epoch().count(), *what_);
  auto bucket = times_.find(start);
  if (bucket == times_.end()) {
    if (!may_make()) return;
    bucket = times_.try_emplace(start).first;
  }
  fill(bucket->second, d);
}

void Collector::add_times(DocumentReader& d) {
  if (what_->field == time_field) return add_time(d.row().at, d);
  std::vector<std::int64_t> seen;  // starts: a document counts once a bucket
  d.values(what_->field, [&](const Value& v) {
    auto at = moment_of(v);
    if (!at) return true;
    auto start = interval_start(at->time_since_epoch().count(), *what_);
    if (std::find(seen.begin(), seen.end(), start) == seen.end()) seen.push_back(start), add_time(*at, d);
    return seen.size() < 1000;
  });
  if (seen.empty() && what_->missing)
    if (auto at = from_iso8601(*what_->missing)) add_time(*at, d);
}

/// Numbers of the field; moments count as milliseconds. False when there is none.
bool Collector::each_number(DocumentReader& d, const std::function<void(double)>& each) {
  bool any = false;
  if (what_->field == time_field) {
    dates_ = any = true;
    each(static_cast<double>(d.row().at.time_since_epoch().count()));
    return any;
  }
  d.values(what_->field, [&](const Value& v) {
    if (v.kind == Value::Kind::number) each(v.number), any = true;
    else if (v.kind == Value::Kind::boolean) each(v.truth ? 1 : 0), any = true;
    else if (auto at = from_iso8601(v.text)) dates_ = any = true, each(static_cast<double>(at->time_since_epoch().count()));
    return true;
  });
  if (!any && what_->missing)
    if (auto n = to_double(*what_->missing)) each(*n), any = true;
  return any;
}

void Collector::add_to_ranges(double v, DocumentReader& d) {
  for (std::size_t i = 0; i < fixed_.size(); ++i) {
    const auto& r = what_->ranges[i];
    if ((!r.from || v >= *r.from) && (!r.to || v < *r.to)) fill(fixed_[i], d);
  }
}

void Collector::add_number(double v) {
  min_ = count_ == 0 ? v : std::min(min_, v);
  max_ = count_ == 0 ? v : std::max(max_, v);
  sum_ += v;
  squares_ += v * v;
  ++count_;
  if (what_->kind == Kind::percentiles || what_->kind == Kind::percentile_ranks) keep(sample_, v);
}

void Collector::add_top(DocumentReader& d) {
  ++count_;
  auto want = what_->from + what_->size;
  if (want == 0) return;
  Hit hit{std::string(d.index()), std::string(d.row().id), {}, d.row().seq, d.row().at, sort_keys_of(d, what_->sort)};
  auto before = [&](const Hit& a, const Hit& b) {
    if (int c = compare_keys(a.keys, b.keys, what_->sort)) return c < 0;
    return what_->sort.empty() ? a.seq > b.seq : a.seq < b.seq;
  };
  auto place = std::upper_bound(top_.begin(), top_.end(), hit, before);
  if (place == top_.end() && top_.size() >= want) return;
  hit.source = d.row().source;
  if (!budget_->take(budget_->text, bytes_of(hit))) return;
  top_.insert(place, std::move(hit));
  if (top_.size() <= want) return;
  budget_->text += bytes_of(top_.back());
  top_.pop_back();
}

void Collector::add(DocumentReader& d) {
  if (budget_->exceeded()) return;
  switch (what_->kind) {
    case Kind::global: return fill(fixed_[0], d);
    case Kind::filter:
      if (matches(*what_->filters[0].second, d)) fill(fixed_[0], d);
      return;
    case Kind::filters: {
      bool any = false;
      for (std::size_t i = 0; i < what_->filters.size(); ++i)
        if (matches(*what_->filters[i].second, d)) any = true, fill(fixed_[i], d);
      if (!any && !what_->other_key.empty()) fill(fixed_.back(), d);
      return;
    }
    case Kind::missing:
      if (!d.exists(what_->field)) fill(fixed_[0], d);
      return;
    case Kind::terms: return add_terms(d);
    case Kind::date_histogram: return add_times(d);
    case Kind::histogram:
      each_number(d, [&](double v) {
        auto start = std::floor((v - what_->step_offset) / what_->step) * what_->step + what_->step_offset;
        if (steps_.contains(start) || may_make()) fill(steps_[start], d);
      });
      return;
    case Kind::range:
    case Kind::date_range: each_number(d, [&](double v) { add_to_ranges(v, d); }); return;
    case Kind::top_hits: return add_top(d);
    case Kind::cardinality:
      d.values(what_->field, [&](const Value& v) {
        keep(distinct_, value_text(v));
        return true;
      });
      return;
    case Kind::value_count:
      d.values(what_->field, [&](const Value&) {
        ++count_;
        return true;
      });
      return;
    default: each_number(d, [&](double v) { add_number(v); });
  }
}

double Collector::metric(std::string_view which) const {
  auto n = static_cast<double>(count_);
  if (which.empty() || which == "value") {
    switch (what_->kind) {
      case Kind::max: return max_;
      case Kind::min: return min_;
      case Kind::sum: return sum_;
      case Kind::avg: return count_ ? sum_ / n : 0;
      case Kind::cardinality: return distinct_.count();
      case Kind::filter:
      case Kind::missing: return static_cast<double>(fixed_[0].count);
      default: return n;
    }
  }
  if (which == "max") return max_;
  if (which == "min") return min_;
  if (which == "sum") return sum_;
  if (which == "avg") return count_ ? sum_ / n : 0;
  if (which == "std_deviation") return count_ ? std::sqrt(std::max(0.0, squares_ / n - (sum_ / n) * (sum_ / n))) : 0;
  if (auto percent = to_double(which)) return sample_.percentile(*percent).value_or(0);
  return n;
}

double Collector::order_value(const Bucket& b, std::string_view path) const {
  auto dot = path.find_first_of(".>[");
  auto name = path.substr(0, dot);
  auto rest = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  if (rest.ends_with(']')) rest.remove_suffix(1);
  for (const auto& c : b.inner) {
    if (c.what().name != name) continue;
    bool inside = dot != std::string_view::npos && path[dot] == '>' && !c.fixed_.empty();
    return inside ? c.order_value(c.fixed_[0], rest) : c.metric(rest);
  }
  return 0;
}

}  // namespace croft::logs
