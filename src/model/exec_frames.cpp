#include "model/exec_frames.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::exec {

namespace {

constexpr std::int64_t side_max = 10'000;  // rows or columns

/// Of the frame that begins here; its head is whole.
std::size_t data_size(std::string_view frame) {
  std::size_t size = 0;
  for (std::size_t i = 4; i < head_size; ++i) size = size << 8 | static_cast<unsigned char>(frame[i]);
  return size;
}

bool is_side(std::string_view text) {
  auto number = to_int(text);
  return number && *number > 0 && *number <= side_max && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::string encode(Kind kind, std::string_view data) {
  std::string out(head_size, '\0');
  out[0] = static_cast<char>(kind);
  for (std::size_t i = 0; i < 4; ++i) out[4 + i] = static_cast<char>(data.size() >> (8 * (3 - i)) & 0xff);
  out += data;
  return out;
}

std::size_t whole_frames(std::string_view frames, std::size_t most) {
  std::size_t at = 0;
  while (frames.size() - at >= head_size) {
    auto end = at + head_size + data_size(frames.substr(at));
    if (end > frames.size() || (at > 0 && end > most)) break;
    at = end;
  }
  return at;
}

bool is_size(std::string_view text) {
  auto space = text.find(' ');
  return space != std::string_view::npos && is_side(text.substr(0, space)) && is_side(text.substr(space + 1));
}

bool is_terminal(std::string_view text) {
  auto cross = text.find('x'), colon = text.find(':');
  if (cross == std::string_view::npos || colon == std::string_view::npos || cross > colon) return false;
  auto type = text.substr(colon + 1);
  constexpr std::string_view fine = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-+._";
  return is_side(text.substr(0, cross)) && is_side(text.substr(cross + 1, colon - cross - 1)) && !type.empty() && type.size() <= 64 && type.find_first_not_of(fine) == std::string_view::npos;
}

Result<std::vector<Frame>> FrameReader::take(std::string_view bytes) {
  held_ += bytes;
  std::vector<Frame> out;
  std::size_t at = 0;
  while (held_.size() - at >= head_size) {
    auto size = data_size(std::string_view(held_).substr(at));
    auto kind = static_cast<unsigned char>(held_[at]);
    if (kind > static_cast<unsigned char>(Kind::end) || size > frame_max) return fail(Errc::invalid, "a frame of kind {} and {} bytes", kind, size);
    if (held_.size() - at - head_size < size) break;
    out.push_back({static_cast<Kind>(kind), held_.substr(at + head_size, size)});
    at += head_size + size;
  }
  held_.erase(0, at);
  return out;
}

}  // namespace croft::exec
