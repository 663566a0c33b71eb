#pragma once
// An immutable part: rows sorted by time in compressed blocks with checksums, a block index and the hashes of foreign ids.
//
//   "CROFTLP2"                                  8 bytes
//   block*     zstd frame of rows               row: seq u64, time i64 ms, id length u32, source length u32, id, source
//   index      per block: offset u64, size u32, raw size u32, xxh3 u64, rows u32, first i64, last i64
//   ids        count u64, then by hash: xxh3 u64 of an id that a stranger gave, seq u64 of its row
//   footer     index offset u64, blocks u32, rows u64, first and last seq u64, xxh3 of all from the index to here u64, "CROFTLPE"
//
// All numbers little-endian. A part is written aside, synced and renamed; a file without a whole footer is not a part.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "logs/store/row.hpp"

namespace croft::logs {

/// Errors   unavailable (the disk is full), io; with the path, and nothing is left behind then.
Status write_part(const fs::path& file, std::vector<const Row*> rows, const std::function<bool(const Row&)>& foreign_id);

/// Threads  reading is safe from any number of threads.
class Part {
 public:
  struct Block {
    std::uint64_t offset = 0, checksum = 0;
    std::uint32_t size = 0, raw_size = 0, rows = 0;
    Wall first{}, last{};
  };
  /// Errors   corrupt (checksum, footer), io; both name the file.
  static Result<std::shared_ptr<const Part>> open(const fs::path& file);

  /// Calls `each` for every row of one block until it gives false. Errors: corrupt, naming file and block.
  Status read_block(std::size_t index, const std::function<bool(const RowView&)>& each) const;
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  [[nodiscard]] std::uint64_t rows() const { return rows_; }
  [[nodiscard]] Wall first() const { return blocks_.empty() ? Wall{} : blocks_.front().first; }
  [[nodiscard]] Wall last() const;
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t first_seq() const { return first_seq_; }
  [[nodiscard]] std::uint64_t last_seq() const { return last_seq_; }
  /// The row that has this id, among those whose ids strangers gave.
  [[nodiscard]] std::optional<std::uint64_t> find(std::string_view foreign_id) const;
  [[nodiscard]] const fs::path& file() const { return file_; }

 private:
  Part() = default;
  fs::path file_;
  Fd fd_;
  std::vector<Block> blocks_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ids_;  // hash, seq; sorted
  std::uint64_t rows_ = 0, bytes_ = 0, first_seq_ = 0, last_seq_ = 0;
};

}  // namespace croft::logs
