#pragma once
// A subset of Elasticsearch 7.17's HTTP API over the store.

#include <memory>
#include <string>

#include "logs/store/store.hpp"
#include "net/async.hpp"
#include "net/http.hpp"

namespace croft::logs {

struct EsOptions {
  std::string node = "log1", version = "7.17.28";
};

/// GET /, /_bulk, /{index}/_bulk, /{index}/_doc, /_search, /_count, /_cat/indices, /_cluster/health, /_license, index create, read, delete.
/// `pool` carries the blocking work; `store` and `pool` must outlive the router.
void add_es_routes(net::Router& router, Store& store, net::BlockingPool& pool, EsOptions options);

/// One NDJSON bulk body taken apart. Exposed for tests. Errors: invalid, in Elasticsearch's words (the whole request is refused).
struct BulkItem {
  Document document;
  std::string action;               ///< index, create, delete, update
  std::string problem;              ///< why this item alone is refused
  int status = 201;
};
Result<std::vector<BulkItem>> parse_bulk(std::string_view body, std::string_view default_index, Wall now);

/// Checks a document and finds its time: @timestamp as ISO text or epoch milliseconds; added where it is missing.
Status complete_document(Document& document, Wall now);

}  // namespace croft::logs
