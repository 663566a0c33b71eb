#pragma once
// How hits are shown: parts of the source, fields as lists, highlights. Private to es/.

#include <boost/json/value.hpp>

#include <string>
#include <vector>

#include "base/json_writer.hpp"
#include "logs/query/search.hpp"
#include "net/http.hpp"

namespace croft::logs {

/// Which members of a document are shown. Names are dotted, with "*".
struct SourceFilter {
  bool enabled = true;
  std::vector<std::string> includes, excludes;
  [[nodiscard]] std::string apply(const std::string& source) const;
};
/// "_source" of a body, and _source, _source_includes, _source_excludes of the URL.
SourceFilter source_filter(const boost::json::value& body, const net::Query& query);

struct Highlight {
  std::vector<std::string> fields;
  std::string before = "<em>", after = "</em>";
  std::size_t fragment_size = 100, fragments = 5;  ///< 0 fragments: the whole field
  bool any_field = false;                           ///< require_field_match is false
  QueryPtr query;                                   ///< instead of the search's own
};

struct HitOptions {
  SourceFilter source;
  struct Field { std::string pattern, format; };
  std::vector<Field> fields;                        ///< of "fields", "docvalue_fields", "stored_fields"
  std::optional<Highlight> highlight;
  bool version = false, seq_no = false, scored = false, sorted = false;
  /// Whether what is shown of a hit can be told from the part of its source that `source` leaves.
  [[nodiscard]] bool source_only() const { return fields.empty() && !highlight; }
};

/// Errors   invalid, in Elasticsearch's words.
Result<HitOptions> hit_options(const boost::json::value& body, const net::Query& query, Wall now);
/// False when it would take more than `room` bytes, which highlights and fields of one document alone can; what was written is then not whole.
bool write_hit(JsonWriter& w, const Hit& hit, const HitOptions& options, const Query& query, std::size_t room);

}  // namespace croft::logs
