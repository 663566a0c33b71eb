#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.hpp"

namespace croft::logs {

constexpr std::size_t document_max = 10u << 20;        ///< bytes; a search reads a document as a whole, and looks at its deadline between two of them
constexpr std::size_t document_depth_max = 64;  ///< of nesting; deeper JSON is no document

/// One stored document. `source` is the JSON object as it came (with @timestamp filled in where it was missing).
struct Row {
  std::uint64_t seq = 0;   ///< order of arrival, unique in a store, never used twice
  Wall at{};               ///< of @timestamp; decides the index's day and the order
  std::string id;
  std::string source;
};

/// The same without ownership, valid while the part or block it came from is.
struct RowView {
  std::uint64_t seq = 0;
  Wall at{};
  std::string_view id, source;
};

}  // namespace croft::logs
