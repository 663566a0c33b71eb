#pragma once
// Sealing of what is stored: whoever reads ZooKeeper's disk, its wire or a backup learns the keys' names and the values' sizes, no more, and
// cannot change or swap a value unseen.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::secure {

/// Keys by number; the highest seals, all open.
///
/// Rotation   add() a new key on every master, then seal anew what needs_reseal() names, then drop() the old one.
class KeyRing {
 public:
  static constexpr std::size_t key_bytes = 32, keys_max = 32;

  static KeyRing create();  ///< with key 1
  std::uint32_t add();      ///< its number
  /// Errors   not_found, conflict (it is the one that seals).
  Status drop(std::uint32_t number);
  [[nodiscard]] std::uint32_t current() const { return keys_.rbegin()->first; }
  [[nodiscard]] std::vector<std::uint32_t> numbers() const;

  /// The file's text, for mode 0600. Errors: corrupt, invalid (a newer format), too_large.
  [[nodiscard]] std::string encode() const;
  static Result<KeyRing> decode(std::string_view text);

  /// Shape   "CS1" 0, key number (4, big-endian), salt (16), nonce (12), AES-256-GCM of the value, tag (16). Each value has a key of its own,
  ///         derived from the ring's and the salt, so that the number of values under one key needs no count.
  ///         `name` (the store's key) is authenticated with it: a value moved to another place does not open.
  [[nodiscard]] std::string seal(std::string_view name, std::string_view value) const;
  /// Errors   invalid (not sealed), not_found (the ring has not this key), corrupt (changed, moved, or another cluster's), too_large.
  [[nodiscard]] Result<std::string> open(std::string_view name, std::string_view sealed) const;
  /// Whether it is plain or under an older key.
  [[nodiscard]] bool needs_reseal(std::string_view stored) const;

  static constexpr std::size_t overhead = 4 + 4 + 16 + 12 + 16;
  static constexpr std::size_t value_bytes_max = 64u << 20;

  KeyRing(KeyRing&&) = default;
  KeyRing& operator=(KeyRing&&) = default;
  KeyRing(const KeyRing&) = delete;
  ~KeyRing();

 private:
  KeyRing() = default;
  std::map<std::uint32_t, std::string> keys_;
};

/// Whether these bytes begin as sealed ones do.
bool is_sealed(std::string_view stored);

}  // namespace croft::secure
