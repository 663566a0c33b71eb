#pragma once
// Aggregations while they are being computed. Private to the search.

#include <map>
#include <memory>
#include <set>

#include "logs/query/search.hpp"

namespace croft::logs {

constexpr std::size_t buckets_max = 65'535;

/// Collects documents into one aggregation; writes its reply.
class Collector {
 public:
  explicit Collector(AggregationPtr what) : what_(std::move(what)) {}
  void add(DocumentReader& d);
  void write(JsonWriter& w) const;            ///< the value under the aggregation's name
  [[nodiscard]] const Aggregation& what() const { return *what_; }
  [[nodiscard]] double value() const;         ///< of a single-valued one, for ordering

 private:
  struct Bucket {
    std::uint64_t count = 0;
    double number = 0;
    bool numeric = false;
    std::vector<Collector> inner;
  };
  Bucket& bucket(const std::string& key);
  void fill(Bucket& b, DocumentReader& d);
  void write_histogram(JsonWriter& w) const;
  void write_terms(JsonWriter& w) const;
  void write_bucket_tail(JsonWriter& w, const Bucket& b) const;

  AggregationPtr what_;
  std::map<std::string, Bucket> buckets_;     // terms: by value
  std::map<std::int64_t, Bucket> times_;      // date_histogram: by start
  std::uint64_t count_ = 0, dropped_ = 0;
  double sum_ = 0, min_ = 0, max_ = 0;
  std::set<std::string> distinct_;
  Bucket whole_;                              // filter, missing
};

void write_collectors(JsonWriter& w, const std::vector<Collector>& collectors);
std::vector<Collector> make_collectors(const std::vector<AggregationPtr>& aggregations);

}  // namespace croft::logs
