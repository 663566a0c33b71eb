#pragma once
// A whole store as one file, for `croft store save` and `croft store restore`; the same for both implementations.

#include <filesystem>
#include <string>
#include <string_view>

#include "coordination/store.hpp"

namespace croft::coordination {

/// Shape   a line of JSON (format, cluster id, epoch, head, count of keys, when), the values compressed, and a line with the SHA-256
///         of all that stands before it.
/// Errors  decode: corrupt (damaged or cut short), invalid (no backup, or written by a newer croft).
std::string encode_backup(const Snapshot& snapshot, Wall taken);
struct Backup {
  Snapshot snapshot;
  Wall taken;
};
Result<Backup> decode_backup(std::string_view bytes);

inline constexpr std::size_t backup_bytes_max = 2u << 30;

/// Mode 0600, written aside and renamed. Errors name the file.
Status write_backup(const std::filesystem::path& file, const Snapshot& snapshot);
Result<Backup> read_backup(const std::filesystem::path& file);

}  // namespace croft::coordination
