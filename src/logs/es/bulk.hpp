#pragma once
// Bulk bodies: two lines an action. And what makes a JSON text a document of this store.

#include <optional>
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

/// A croft host that sends documents with its certificate. It says of none that it comes from elsewhere, and only one that runs tasks says whose they are.
struct Sender {
  std::string host;
  bool runs_tasks = false;
};

struct BulkDefaults {
  std::string index;                ///< of the path; "": each item must name one
  bool create_only = false;         ///< op_type=create
  std::optional<Sender> sender;     ///< nothing: somebody with a login, or a farm without; he says what he likes
};

/// One NDJSON bulk body taken apart. Errors: invalid, in Elasticsearch's words (the whole request is refused).
Result<std::vector<BulkItem>> parse_bulk(std::string_view body, const BulkDefaults& defaults, Wall now);

/// Checks a document and finds its time: @timestamp as ISO text or epoch milliseconds; added where it is missing. `padded`: at least 64
/// readable bytes follow the source in memory. Of a `sender` it gets the name as `host`; what it said itself about that, and about tasks where it may not, then stands under
/// "original". Errors: invalid, in Elasticsearch's words; forbidden: an id of shippers from who ships nothing.
Status complete_document(Document& document, Wall now, const std::optional<Sender>& sender = std::nullopt);
Status complete_document(std::string_view source, bool padded, Document& document, Wall now, const std::optional<Sender>& sender = std::nullopt);

}  // namespace croft::logs
