#pragma once
// The write-ahead log: what was acknowledged and is not yet in a part.
//
//   record: FF 'c' 'w' '2', payload length u32, xxh3 of the payload u64, payload
//   payload: index name length u16, name, seq u64, time i64 ms, replaces seq u64 (0: nothing), id length u32, source length u32, id, source
//
// The mark holds a byte that no UTF-8 text has, so a reader finds the next whole record behind a damaged one. What is damaged at the end is
// a torn tail: it was never acknowledged.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.hpp"
#include "base/files.hpp"
#include "logs/store/row.hpp"

namespace croft::logs {

struct WalRecord {
  std::string index;
  Row row;
  std::uint64_t replaces = 0;
};

void append_wal_record(std::string& out, const WalRecord& record);

/// The error of a failed system call on the store's disk: unavailable when it is full (try again when there is room), else io.
Error disk_error(std::string_view what, int number);

/// One file of the log, open for appending.
/// Threads  append and sync may run at the same time; each of them one at a time.
class WalFile {
 public:
  static Result<WalFile> create(const fs::path& file);
  /// Errors   unavailable, io; the file is cut back to what it was, so that a later append is not behind half a record.
  Status append(std::string_view bytes);
  Status sync();
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  Fd fd_;
  std::uint64_t size_ = 0;
};

struct Replayed {
  std::uint64_t records = 0;
  std::uint64_t damaged = 0;  ///< bytes between whole records that are none
  std::uint64_t torn = 0;     ///< bytes behind the last whole record
};
/// Gives every whole record in order, also those behind damaged bytes. Errors: io.
Result<Replayed> replay_wal(const fs::path& file, const std::function<void(WalRecord)>& each);

}  // namespace croft::logs
