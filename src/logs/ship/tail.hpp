#pragma once
// One stream of a task, as its executor writes it: files with rotation, times beside them (src/executor/output.hpp). Blocking reads; no threads of its own.

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "base/time.hpp"

namespace croft::logs {

struct Line {
  std::string text;
  std::uint64_t end = 0;       ///< offset behind it in the whole stream
  Wall at{};
  bool cut = false;            ///< longer than the bound, or at the edge of a gap: this may be a piece of it
};

struct Gap { std::uint64_t from = 0, to = 0; };  ///< bytes that were gone before they could be read

/// Reads a stream from an offset on over all its files. Files that rotation would take before they are shipped are kept by a second name in
/// `spool` (a hard link: no byte is copied), until they are released or the spool's owner drops them.
///
/// Offsets  count over the whole stream, rotations included; each file's first time stamp tells where it begins.
class Tail {
 public:
  /// `spool`: a folder of this stream's own, made when needed; "" for none.
  Tail(std::filesystem::path sandbox, std::string stream, std::filesystem::path spool, std::uint64_t offset);

  /// At most about `bytes` more of whole lines (with `to_the_end` also a last one without a newline).
  std::vector<Line> read(std::size_t bytes, bool to_the_end, std::vector<Gap>& gaps);
  /// Gives rotated files a second name in the spool where they hold anything behind `shipped`. Cheap when nothing rotated.
  void keep(std::uint64_t shipped);
  /// Takes those second names away that hold nothing behind `shipped`.
  void release(std::uint64_t shipped);

  struct Kept { std::uint64_t from = 0, end = 0, bytes = 0; std::int64_t at = 0; };
  [[nodiscard]] std::uint64_t kept_bytes() const;
  [[nodiscard]] std::optional<Kept> oldest_kept() const;
  void drop_oldest_kept();

  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }  ///< second names that could not be made

 private:
  struct Piece { Fd data, times; std::uint64_t from = 0, size = 0, stamp = 0; std::int64_t at = 0; ino_t inode = 0; };
  enum class Opened : std::uint8_t { yes, absent, moving };  // moving: a rotation is under way, look again later
  Opened open_piece(const std::filesystem::path& file, Piece& piece) const;
  void see_truncation(ino_t inode, std::uint64_t size);
  bool open_all(std::vector<Piece>& out, bool present_is_enough);
  bool believe(const Gap& gap);
  void keep_piece(const std::filesystem::path& file, const Piece& piece);
  void find_kept();
  [[nodiscard]] std::filesystem::path kept_name(std::uint64_t from) const;
  std::vector<Line> cut_lines(const std::string& data, std::uint64_t from, std::vector<Piece>& pieces, bool to_the_end, bool more);

  std::filesystem::path sandbox_;
  std::string stream_;
  std::filesystem::path spool_;
  std::uint64_t offset_;
  std::map<std::uint64_t, Kept> kept_;            // by the offset of the first byte
  ino_t seen_inode_ = 0, kept_inode_ = 0;         // of the present file when we last read it to its end; when we last looked for rotation
  std::uint64_t seen_size_ = 0, seen_from_ = 0, seen_stamp_ = 0, errors_ = 0;
  ino_t cut_inode_ = 0;                           // a file that somebody cut to nothing, and which offset its first byte has since
  std::uint64_t cut_from_ = 0, cut_stamp_ = 0;
  bool seen_all_ = false, after_gap_ = false;
  Gap doubted_;
  int doubts_ = 0, unstamped_ = 0;
};

}  // namespace croft::logs
