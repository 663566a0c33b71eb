#pragma once
// Bulk bodies: two lines an action. And what makes a JSON text a document of this store.

#include <string>
#include <string_view>
#include <vector>

#include "logs/store/store.hpp"

namespace croft::logs {

struct BulkItem {
  Document document;
  std::string action;               ///< index, create, delete, update
  std::string problem, type;        ///< why this item alone is refused, and Elasticsearch's name for it
  int status = 201;
};

struct BulkDefaults {
  std::string index;                ///< of the path; "": each item must name one
  bool create_only = false;         ///< op_type=create
};

/// One NDJSON bulk body taken apart. Errors: invalid, in Elasticsearch's words (the whole request is refused).
Result<std::vector<BulkItem>> parse_bulk(std::string_view body, const BulkDefaults& defaults, Wall now);

/// Checks a document and finds its time: @timestamp as ISO text or epoch milliseconds; added where it is missing. `padded`: at least 64
/// readable bytes follow the source in memory. Errors: invalid, in Elasticsearch's words.
Status complete_document(Document& document, Wall now);
Status complete_document(std::string_view source, bool padded, Document& document, Wall now);

}  // namespace croft::logs
