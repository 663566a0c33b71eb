#pragma once
// Runs a query over a view of the store: hits in order, a total, aggregations.

#include <boost/json/value.hpp>

#include <atomic>
#include <string>
#include <vector>

#include "base/json_writer.hpp"
#include "logs/query/query.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

struct SortKey {
  std::string field = "@timestamp";
  bool descending = false, missing_first = false;
};

struct Aggregation;
using AggregationPtr = std::shared_ptr<const Aggregation>;

/// A parsed "aggs" entry. Sub-aggregations nest in buckets.
struct Aggregation {
  enum class Kind : std::uint8_t { date_histogram, terms, max, min, sum, avg, value_count, cardinality, stats, filter, missing } kind = Kind::terms;
  std::string name, field;
  Millis interval{0};                ///< date_histogram, fixed
  char calendar = 0;                 ///< 'M', 'q', 'y' where the length varies; 0 for fixed
  std::size_t size = 10, min_count = 0;
  bool by_key = false, ascending = false;
  std::optional<Wall> bounds_min, bounds_max;
  QueryPtr filter;
  std::vector<AggregationPtr> inner;
};

struct SearchRequest {
  QueryPtr query;
  std::vector<SortKey> sort;
  std::size_t from = 0, size = 10;
  std::uint64_t total_limit = 10'000;   ///< track_total_hits; hits beyond are not counted
  bool count_only = false;
  std::vector<AggregationPtr> aggregations;
  std::vector<boost::json::value> after;  ///< search_after
  Millis limit{10'000};
};

struct Hit {
  std::string index, id, source;
  std::uint64_t seq = 0;
  std::vector<boost::json::value> keys;
};

struct SearchResult {
  std::vector<Hit> hits;
  std::uint64_t total = 0;
  bool total_is_lower_bound = false, timed_out = false;
  std::string aggregations;             ///< JSON object
  std::vector<std::string> failures;    ///< damaged blocks, by name
};

/// Blocks; call it off the I/O threads. `cancelled` ends it early with what it has.
SearchResult search(const StoreView& view, const SearchRequest& request, const std::atomic<bool>* cancelled = nullptr);

/// Errors   invalid, in Elasticsearch's words.
Result<std::vector<AggregationPtr>> parse_aggregations(const boost::json::value& aggs, Wall now);

}  // namespace croft::logs
