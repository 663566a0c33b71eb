#pragma once
// Runs a query over a view of the store: hits in order, a total, aggregations.

#include <boost/json/value.hpp>

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/json_writer.hpp"
#include "logs/query/query.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

struct SortKey {
  std::string field = "@timestamp";
  bool descending = false, missing_first = false;
  std::string format;                   ///< of dates in the reply; "": milliseconds
};

struct Aggregation;
using AggregationPtr = std::shared_ptr<const Aggregation>;

/// A parsed "aggs" entry. Sub-aggregations nest in buckets.
struct Aggregation {
  enum class Kind : std::uint8_t {
    date_histogram, histogram, terms, filters, filter, missing, global, range, date_range, top_hits,
    max, min, sum, avg, value_count, cardinality, stats, extended_stats, percentiles, percentile_ranks
  } kind = Kind::terms;
  std::string name, field, meta;        ///< meta: JSON, echoed
  Millis interval{0}, offset{0};        ///< date_histogram, fixed
  char calendar = 0;                    ///< 'd', 'w', 'M', 'q', 'y' where the length varies; 0 for fixed
  double step = 1, step_offset = 0;     ///< histogram
  std::size_t size = 10, from = 0, min_count = 0;
  struct Order { std::string path; bool ascending = false; };
  std::vector<Order> order;             ///< terms: "_count", "_key" or a sub-aggregation's value
  std::string format;
  ZonePtr zone;
  bool keyed = false;
  std::optional<Wall> bounds_min, bounds_max, hard_min, hard_max;
  std::optional<double> number_min, number_max;
  std::optional<std::string> missing;   ///< taken for documents without the field
  std::vector<std::string> include, exclude;       ///< terms, when lists
  std::shared_ptr<const RE2> include_pattern, exclude_pattern;
  struct Range { std::string key; std::optional<double> from, to; };
  std::vector<Range> ranges;            ///< dates in milliseconds
  std::vector<double> percents;         ///< or the values of percentile_ranks
  std::vector<std::pair<std::string, QueryPtr>> filters;  ///< one for filter
  std::string other_key;                ///< filters: "" for none
  std::vector<SortKey> sort;            ///< top_hits
  std::vector<AggregationPtr> inner;
};

struct SearchRequest {
  QueryPtr query = match_all(), post_filter;  ///< post_filter: for hits only, aggregations do not see it
  std::vector<SortKey> sort;
  std::size_t from = 0, size = 10;
  std::uint64_t total_limit = 10'000;   ///< track_total_hits; hits beyond are not counted
  std::uint64_t terminate_after = 0;    ///< 0: no
  bool count_only = false, typed_keys = false;
  std::vector<AggregationPtr> aggregations;
  std::vector<boost::json::value> after;      ///< search_after
  std::optional<std::uint64_t> after_seq;     ///< with the same keys only rows behind this one (scrolling)
  Millis limit{10'000};
  std::size_t bytes_max = SIZE_MAX;           ///< of hits that are held, and of texts that aggregations hold: each
  std::function<std::string(const std::string&)> shorten;  ///< what of a source is shown, asked for when whole ones are too much; nothing: all of it
};

struct Hit {
  std::string index, id, source;
  std::uint64_t seq = 0;
  Wall at{};
  std::vector<boost::json::value> keys;
};
/// What a hit takes in memory.
std::size_t bytes_of(const Hit& hit);

struct SearchResult {
  std::vector<Hit> hits;
  std::uint64_t total = 0;
  bool total_is_lower_bound = false, timed_out = false, terminated_early = false, too_many_buckets = false;
  bool too_large = false;               ///< hits or what aggregations hold went past a bound: nothing here is whole
  std::size_t bytes = 0;                ///< of the hits
  std::string aggregations;             ///< JSON object
  std::vector<std::string> failures;    ///< damaged blocks, by name
};

/// Blocks; call it off the I/O threads. `cancelled` ends it early with what it has.
SearchResult search(const StoreView& view, const SearchRequest& request, const std::atomic<bool>* cancelled = nullptr);

/// Sort keys of a document, as the reply shows them, and how two of them stand to each other.
std::vector<boost::json::value> sort_keys_of(DocumentReader& d, const std::vector<SortKey>& sort);
int compare_keys(const std::vector<boost::json::value>& a, const std::vector<boost::json::value>& b, const std::vector<SortKey>& sort);

/// Errors   invalid, in Elasticsearch's words.
Result<std::vector<SortKey>> parse_sort(const boost::json::value& sort);
Result<std::vector<AggregationPtr>> parse_aggregations(const boost::json::value& aggs, Wall now);

}  // namespace croft::logs
