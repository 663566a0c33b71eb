#pragma once
// From what clients send to query trees. Source: Elasticsearch 7.17's query DSL and Lucene's query syntax; NOT binds tighter than AND, AND than OR.

#include <boost/json/value.hpp>

#include <string>
#include <string_view>

#include "logs/query/query.hpp"

namespace croft::logs {

struct QueryStringOptions {
  std::string field;              ///< default field; "" or "*": all
  bool and_by_default = false;
  ZonePtr zone;                   ///< of dates that name none
};

/// Errors   invalid, with the column: "Failed to parse query [foo(]: column 4: …".
Result<QueryPtr> parse_query_string(std::string_view text, const QueryStringOptions& options, Wall now);

/// The simple syntax: + | - " * ( ) ~ only, and nothing is ever an error.
QueryPtr parse_simple_query_string(std::string_view text, const QueryStringOptions& options);

/// The value of "query". Errors: invalid, in Elasticsearch's words: "unknown query [x]", "[range] query does not support [y]".
Result<QueryPtr> parse_dsl(const boost::json::value& query, Wall now);

}  // namespace croft::logs
