#pragma once
// Lines that came over the network and have no other copy: kept in files until the log host has them.
//
// One file holds lines "<index> <document>\n". A process's lines make one stream, named by a random word, with offsets that count on over its
// files "<word>-<offset of the first byte, hex>"; a new process begins a new stream and first reads what older ones left. So an offset never
// means two lines, also when a crash of the machine cut a file's end.

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.hpp"

namespace croft::logs {

struct InputLine {
  std::string source, index, document;
  std::uint64_t end = 0;
};

/// Threads  safe from any.
class InputSpool {
 public:
  explicit InputSpool(std::filesystem::path dir, std::size_t file_bytes = 8u << 20);
  /// Finds what earlier processes left; `shipped` are the offsets that are known to be stored.
  Status open(const std::map<std::string, std::uint64_t>& shipped);

  /// Errors   unavailable (disk full), io: the line is not kept.
  Status add(std::string_view index, std::string_view document);
  /// Next lines behind what was read last, about `bytes` of them.
  std::vector<InputLine> read(std::size_t bytes);
  /// Reads again from what was acknowledged last.
  void back();
  /// Everything up to here is stored: files that hold nothing else go.
  void release(const std::string& source, std::uint64_t end);

  [[nodiscard]] bool holds(const std::string& source) const;  ///< any file of this stream

  struct Dropped { std::string source; std::uint64_t from = 0, to = 0; };
  /// Gives up the oldest file; nothing when there is none.
  std::optional<Dropped> drop_oldest();
  [[nodiscard]] std::uint64_t bytes() const;
  [[nodiscard]] std::uint64_t waiting() const;   ///< bytes that are not acknowledged
  [[nodiscard]] std::optional<std::int64_t> oldest() const;  ///< when its oldest file began, ms since 1970

 private:
  struct Segment { std::string word; std::uint64_t from = 0, size = 0, released = 0; std::int64_t at = 0; };  // released: stream offset
  [[nodiscard]] std::filesystem::path file_of(const Segment& s) const;
  [[nodiscard]] std::string source_of(const Segment& s) const { return "input/" + s.word; }
  void close_active();

  std::filesystem::path dir_;
  std::size_t file_bytes_;
  mutable std::mutex mutex_;
  std::vector<Segment> segments_;       // oldest first; the last one is written to while active_ is valid
  std::string word_;
  Fd active_;
  std::uint64_t total_ = 0;             // bytes of this process's stream
  std::size_t reading_ = 0;             // segment
  std::uint64_t read_ = 0;              // stream offset in it
};

}  // namespace croft::logs
