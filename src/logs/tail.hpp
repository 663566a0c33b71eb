#pragma once
// One stream of a task, as its executor writes it: files with rotation, times beside them. Blocking reads; no threads of its own.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "base/time.hpp"

namespace croft::logs {

struct Line {
  std::string text;
  std::uint64_t end = 0;       ///< offset behind it in the whole stream
  Wall at{};
  bool cut = false;            ///< longer than the bound: this is a piece of it
};

struct Gap { std::uint64_t from = 0, to = 0; };  ///< bytes that rotation took before they were read

class Tail {
 public:
  Tail(std::filesystem::path sandbox, std::string stream, std::uint64_t offset) : sandbox_(std::move(sandbox)), stream_(std::move(stream)), offset_(offset) {}
  /// At most `bytes` more of whole lines (with `to_the_end` also a last one without a newline).
  std::vector<Line> read(std::size_t bytes, bool to_the_end, std::vector<Gap>& gaps);
  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  void back_to(std::uint64_t offset) { offset_ = offset; }

 private:
  struct Stamp { std::uint64_t offset; std::int64_t at; };
  struct Piece { std::filesystem::path file; std::uint64_t from = 0, size = 0; std::vector<Stamp> stamps; };
  std::vector<Piece> pieces() const;

  std::filesystem::path sandbox_;
  std::string stream_;
  std::uint64_t offset_;
};

}  // namespace croft::logs
