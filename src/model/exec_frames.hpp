#pragma once
// What a command inside a task reads and writes, as it goes between a person's `croft exec`, the leader and the agent: frames of one byte of kind, three
// zeros, four bytes of size (big-endian) and so many bytes. Source: the shape of Docker's multiplexed streams.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::exec {

enum class Kind : std::uint8_t {
  input,     ///< to the command; empty: there is no more
  output,    ///< its stdout, or all of a terminal's
  error,     ///< its stderr
  size,      ///< "ROWS COLUMNS": the terminal's now
  end,       ///< {"code":N}, or {"error":"…"} where it could not be run to its end; the last one
};

struct Frame {
  Kind kind = Kind::output;
  std::string data;
  bool operator==(const Frame&) const = default;
};

constexpr std::size_t frame_max = 64u << 10;   ///< bytes of data in one frame
constexpr std::size_t head_size = 8;
constexpr std::size_t words_max = 64, command_max = 32u << 10;  ///< of one command: words, bytes

/// data: at most frame_max.
std::string encode(Kind kind, std::string_view data);
/// How many bytes at the begin of `frames` are whole frames of together at most `most`, but one frame at least. They are as encode() made them.
std::size_t whole_frames(std::string_view frames, std::size_t most);
/// What a terminal's size reads like. False: it is none.
bool is_size(std::string_view text);
/// "24x80:xterm-256color", or "": no terminal. What stands in it becomes part of a program's words.
bool is_terminal(std::string_view text);

/// Puts frames together from bytes as they come. Errors: invalid, and everything after it too.
class FrameReader {
 public:
  Result<std::vector<Frame>> take(std::string_view bytes);

 private:
  std::string held_;
};

}  // namespace croft::exec
