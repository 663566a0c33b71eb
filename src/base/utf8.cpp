#include "base/utf8.hpp"

#include <fmt/format.h>

namespace croft {

std::size_t utf8_length(std::string_view s) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  auto tail = [&](std::size_t i) { return i < s.size() && (byte(i) & 0xC0) == 0x80; };
  unsigned char a = byte(0);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return tail(1) ? 2 : 0;
  if ((a & 0xF0) == 0xE0) {
    if (!tail(1) || !tail(2)) return 0;
    if (a == 0xE0 && byte(1) < 0xA0) return 0;
    if (a == 0xED && byte(1) > 0x9F) return 0;  // surrogates
    return 3;
  }
  if (a >= 0xF0 && a <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (a == 0xF0 && byte(1) < 0x90) return 0;
    if (a == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

std::string inert(std::string_view text, bool lines) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) {
      bool stays = (c >= 0x20 && c != 0x7f) || (lines && (c == '\t' || c == '\n'));
      if (stays) out.push_back(text[i]);
      else out += fmt::format("\\x{:02x}", c);
      ++i;
      continue;
    }
    auto size = utf8_length(text.substr(i));
    if (size == 0) {
      out += fmt::format("\\x{:02x}", c);
      ++i;
      continue;
    }
    auto tail = [&](std::size_t at) { return static_cast<unsigned>(static_cast<unsigned char>(text[i + at])) & 0x3f; };
    unsigned point = size == 2 ? (c & 0x1fu) << 6 | tail(1) : size == 3 ? (c & 0x0fu) << 12 | tail(1) << 6 | tail(2) : 0x10000;
    if (point < 0xa0 || (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069)) out += fmt::format("\\u{:04x}", point);
    else out += text.substr(i, size);
    i += size;
  }
  return out;
}

}  // namespace croft
