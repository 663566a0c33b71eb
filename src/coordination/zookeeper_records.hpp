#pragma once
// What croft writes into ZooKeeper, as pure functions: the election's nodes in Mesos's form and the store's records.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "coordination/store.hpp"

namespace croft::coordination::records {

// --- the election ---

inline constexpr std::string_view election_prefix = "json.info_";

/// The number of "json.info_0000000007"; nothing for any other name (log_replicas and the like live beside them).
std::optional<std::uint64_t> election_number(std::string_view name);
/// The candidates among a path's children; the first one leads.
std::vector<std::string> candidates(const std::vector<std::string>& children);

/// Mesos's MasterInfo. `ip` is the address's four bytes in network order read as a native integer, as old clients expect.
/// Marathon's port travels under "croft", which they ignore. Errors: invalid (no IPv4 address).
Result<std::string> encode_leader(const Leader& leader);
/// Also of a real Mesos master. Errors: invalid.
Result<Leader> decode_leader(std::string_view json);

// --- the store ---
//
//   <root>/store            {"format":1,"cluster_id":…,"restoring":false}   format: the highest that any record below has
//   <root>/store/epoch      {"format":1,"epoch":7,"by":"<random>"}          its version is the fence
//   <root>/store/head       {"format":1,"head":17[,"pending":{"blob":…,"chunks":3}]}
//   <root>/store/kv/<2 hex digits of the key's hash>/<key, url-encoded>     a value record
//   <root>/store/chunks/<id>.<n>                                            pieces of a large value or batch

inline constexpr int format_version = 1;
inline constexpr int shards = 256;
inline constexpr std::size_t chunk_bytes = 480u << 10;
/// ZooKeeper drops the connection at 1 MiB a request; half of that leaves room for what it adds.
inline constexpr std::size_t request_bytes_max = 512u << 10;

std::string shard_name(int shard);              ///< "00" to "ff"
std::string key_path(std::string_view key);     ///< "3f/apps%2Fweb"
Result<std::string> key_of(std::string_view node);  ///< "apps%2Fweb" to "apps/web"

struct Meta {
  std::string cluster_id;
  bool restoring = false;  ///< a restore was begun and not finished: nobody may lead on this
};
struct Epoch {
  std::uint64_t number = 0;
  std::string by;          ///< who raised it: tells one's own raise after a lost connection
};
/// A stored thing too large for a node.
struct Blob {
  std::string id;
  std::uint32_t chunks = 0;
  [[nodiscard]] std::string chunk(std::uint32_t n) const;  ///< "<id>.<n>"
};
struct Head {
  std::uint64_t number = 0;
  std::optional<Blob> pending;  ///< this commit's changes, not yet all carried over into kv
};

std::string encode(const Meta& meta);
std::string encode(const Epoch& epoch);
std::string encode(const Head& head);
// Errors: corrupt; invalid when the format is newer than this croft.
Result<Meta> decode_meta(std::string_view text);
Result<Epoch> decode_epoch(std::string_view text);
Result<Head> decode_head(std::string_view text);

/// A value as it is stored: format, kind, and the bytes as they are or compressed, with a checksum.
std::string encode_value(std::string_view value);
std::string encode_reference(const Blob& blob);  ///< a record that says: the record is in these chunks
struct Value {
  std::string bytes;
  std::optional<Blob> elsewhere;  ///< then bytes is empty
};
Result<Value> decode_value(std::string_view record);

/// A whole batch as one compressed text.
std::string encode_batch(const Batch& batch);
Result<Batch> decode_batch(std::string_view bytes);

/// zstd with a checksum. unpack: corrupt, or too_large beyond `max`.
std::string pack(std::string_view bytes);
Result<std::string> unpack(std::string_view packed, std::size_t max);

/// Length and bytes, one after the other. take_text: nothing when `from` is cut short.
void put_text(std::string& out, std::string_view text);
std::optional<std::string_view> take_text(std::string_view& from);

std::vector<std::string> cut(std::string_view bytes, std::size_t piece);

}  // namespace croft::coordination::records
