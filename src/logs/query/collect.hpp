#pragma once
// Aggregations while they are being computed. Private to the search.

#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "logs/query/search.hpp"

namespace croft::logs {

constexpr std::size_t buckets_max = 65'535;   ///< in a reply, as Elasticsearch's default

/// How many buckets one search may still make, over all its aggregations, and what memory they may still take.
struct BucketBudget {
  std::size_t left = 500'000;
  std::size_t text = SIZE_MAX;                 ///< bytes of keys and top hits, which may come to stand in the answer
  std::size_t numbers = 256u << 20;            ///< bytes of samples, of values that are told apart, and of collectors within buckets
  bool spent = false, too_large = false;
  [[nodiscard]] bool exceeded() const { return spent || too_large; }
  bool take(std::size_t& from, std::size_t bytes) {
    if (bytes > from) return too_large = true, false;
    from -= bytes;
    return true;
  }
};

/// How many different values there are: exact up to some ten thousand, then estimated (HyperLogLog, about 1 %).
class Distinct {
 public:
  void add(std::string_view value);
  [[nodiscard]] std::size_t bytes() const { return seen_.size() * 40 + registers_.size(); }  ///< about
  [[nodiscard]] double count() const;

 private:
  std::unordered_set<std::uint64_t> seen_;
  std::vector<std::uint8_t> registers_;
};

/// Values for percentiles: all of them up to a bound, then an even sample.
class Sample {
 public:
  void add(double v);
  [[nodiscard]] std::size_t bytes() const { return values_.capacity() * sizeof(double); }
  [[nodiscard]] std::optional<double> percentile(double percent) const;
  [[nodiscard]] std::optional<double> rank(double value) const;

 private:
  void sort() const;
  mutable std::vector<double> values_;
  mutable bool sorted_ = true;
  std::uint64_t seen_ = 0, dice_ = 88172645463325252ull;
};

/// Collects documents into one aggregation; writes its reply.
class Collector {
 public:
  Collector(AggregationPtr what, BucketBudget& budget);
  void add(DocumentReader& d);
  void write(JsonWriter& w, bool typed) const;             ///< the value under the aggregation's name
  [[nodiscard]] std::string typed_name() const;            ///< "sterms#hosts"
  [[nodiscard]] const Aggregation& what() const { return *what_; }
  /// Of a metric, for ordering: "" or "value", or "max" of stats.
  [[nodiscard]] double metric(std::string_view which) const;

 private:
  struct Bucket {
    std::uint64_t count = 0;
    std::vector<Collector> inner;
  };
  struct Term : Bucket { Value::Kind kind = Value::Kind::text; double number = 0; bool whole = true; };

  void fill(Bucket& b, DocumentReader& d);
  bool may_make(std::size_t key_bytes = 0);
  template <class Kept, class V>
  void keep(Kept& kept, const V& value);
  void add_term(std::string key, const Value& v, DocumentReader& d);
  void add_terms(DocumentReader& d);
  void add_time(Wall at, DocumentReader& d);
  void add_times(DocumentReader& d);
  void add_to_ranges(double v, DocumentReader& d);
  void add_number(double v);
  void add_top(DocumentReader& d);
  bool each_number(DocumentReader& d, const std::function<void(double)>& each);
  void write_times(JsonWriter& w, bool typed) const;
  void write_numbers(JsonWriter& w, bool typed) const;
  void write_terms(JsonWriter& w, bool typed) const;
  void write_fixed(JsonWriter& w, bool typed) const;
  void write_stats(JsonWriter& w) const;
  void write_percentiles(JsonWriter& w) const;
  void write_top(JsonWriter& w) const;
  void write_tail(JsonWriter& w, const Bucket& b, bool typed) const;
  [[nodiscard]] bool term_before(const std::pair<const std::string, Term>& a, const std::pair<const std::string, Term>& b) const;
  [[nodiscard]] double order_value(const Bucket& b, std::string_view path) const;

  AggregationPtr what_;
  BucketBudget* budget_;
  std::unordered_map<std::string, Term> terms_;
  std::map<std::int64_t, Bucket> times_;      // date_histogram: by start
  std::map<double, Bucket> steps_;            // histogram
  std::vector<Bucket> fixed_;                 // filter(s), ranges, missing, global
  std::uint64_t count_ = 0, dropped_ = 0;
  double sum_ = 0, squares_ = 0, min_ = 0, max_ = 0;
  bool dates_ = false;                        // the values are moments
  Distinct distinct_;
  Sample sample_;
  std::vector<Hit> top_;
};

void write_collectors(JsonWriter& w, const std::vector<Collector>& collectors, bool typed);
std::vector<Collector> make_collectors(const std::vector<AggregationPtr>& aggregations, BucketBudget& budget);

/// Start of the interval that a moment lies in, and of the one after.
std::int64_t interval_start(std::int64_t at, const Aggregation& a);
std::int64_t interval_next(std::int64_t start, const Aggregation& a);

}  // namespace croft::logs
