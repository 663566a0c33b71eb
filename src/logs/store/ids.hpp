#pragma once
// Ids of documents: those of our shippers' lines, those that the store makes, and everybody else's.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace croft::logs {

/// "c1:<source>:<offset>": the id of a line from one of our shippers. `offset` grows within a source.
struct ShippedId { std::string source; std::uint64_t offset; };
std::optional<ShippedId> shipped_id(std::string_view id);
std::string make_shipped_id(std::string_view source, std::uint64_t offset);

/// Ids for documents that come without one: 20 URL-safe characters that hold the row's sequence number and a check over it, the index and the
/// store. So the store knows its own again without keeping a list of them: of a stranger's 20 characters one in 2^56 looks like one.
class OwnIds {
 public:
  OwnIds() = default;
  explicit OwnIds(std::string_view store_uuid);
  [[nodiscard]] std::string make(std::string_view index, std::uint64_t seq) const;
  /// The sequence number; nothing when this store did not make the id for this index.
  [[nodiscard]] std::optional<std::uint64_t> read(std::string_view index, std::string_view id) const;

 private:
  [[nodiscard]] std::uint64_t check(std::string_view index, std::uint64_t seq) const;
  std::uint64_t seed_ = 0;
};

bool valid_utf8(std::string_view text);

/// Elasticsearch's rules for names. Errors: invalid, with its words.
Status check_index_name(std::string_view name);

}  // namespace croft::logs
