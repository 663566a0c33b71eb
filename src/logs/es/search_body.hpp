#pragma once
// A search as clients send it, body and URL together. Private to es/.

#include "logs/es/face.hpp"
#include "logs/es/hits.hpp"
#include "secure/caller.hpp"

namespace croft::logs {

struct SearchBody {
  SearchRequest request;
  HitOptions hits;
  std::optional<std::string> pit;                      ///< id of a point in time
  std::optional<std::chrono::milliseconds> pit_keep;
  bool total_as_number = false;                        ///< rest_total_hits_as_int
};

/// `text`: the body as it came, for places in errors.
Es<SearchBody> read_search(const boost::json::value& body, std::string_view text, const net::Query& url, Wall now);
/// Leaves the caller what he may see: lines of the apps in his groups. Errors: a form of search that would look past them.
std::optional<EsError> restrict_to(SearchBody& body, const secure::CallerPtr& caller);
/// "1m", "30s", "500ms"; nothing when it is none.
std::optional<std::chrono::milliseconds> read_duration(std::string_view text);

}  // namespace croft::logs
