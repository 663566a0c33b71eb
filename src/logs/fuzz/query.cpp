// Searches as strangers write them, each asked of a document: query strings, the query DSL, sorts and aggregations.
#include <cstdint>
#include <cstdlib>

#include "base/json.hpp"
#include "logs/query/parse.hpp"
#include "logs/query/search.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft;
  using namespace croft::logs;
  if (size == 0) return 0;
  const Wall now{Millis(1'700'000'000'000)};
  static const RowView row{7, now, "id7", R"({"@timestamp":"2023-11-14T22:13:20Z","message":"GET /api/users took 12 ms, \u00fc and \"more\"","n":12,"deep":{"a":[1,2.5,"x"]},"ok":true,"host":"n1"})"};
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  DocumentReader reader;
  reader.set(row, "logstash-2023.11.14");
  auto ask = [&](const Result<QueryPtr>& query) {
    if (query) (void)matches(**query, reader);
  };
  auto kind = static_cast<std::uint8_t>(data[0] - '0') % 5;
  if (kind == 0) ask(parse_query_string(text, {.field = "message"}, now));
  else if (kind == 1) ask(parse_query_string(text, {.and_by_default = true}, now));
  else if (kind == 2) ask(parse_simple_query_string(text, {}));
  else if (auto body = json::parse(text); !body) return 0;
  else if (kind == 3) ask(parse_dsl(*body, now));
  else {
    SearchRequest request;
    request.query = parse_simple_query_string("", {});
    if (auto aggregations = parse_aggregations(*body, now)) request.aggregations = std::move(*aggregations);
    if (auto sort = parse_sort(*body)) request.sort = std::move(*sort);
    (void)sort_keys_of(reader, request.sort);
    StoreView nothing;
    (void)search(nothing, request);
  }
  return 0;
}
