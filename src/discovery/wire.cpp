#include "discovery/wire.hpp"

#include <fmt/format.h>

namespace croft::discovery {

std::optional<std::string> to_wire(std::string_view dotted) {
  if (dotted.ends_with('.')) dotted.remove_suffix(1);
  std::string out;
  while (!dotted.empty()) {
    auto dot = dotted.find('.');
    auto label = dotted.substr(0, dot);
    if (label.empty() || label.size() > label_max || dot + 1 == dotted.size()) return std::nullopt;
    out.push_back(static_cast<char>(label.size()));
    for (char c : label) out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    dotted = dot == std::string_view::npos ? std::string_view() : dotted.substr(dot + 1);
  }
  out.push_back('\0');
  if (out.size() > name_max) return std::nullopt;
  return out;
}

std::string from_wire(std::string_view wire) {
  std::string out;
  for (std::size_t at = 0; at < wire.size() && wire[at] != 0;) {
    auto length = static_cast<unsigned char>(wire[at++]);
    if (!out.empty()) out.push_back('.');
    for (std::size_t i = 0; i < length && at < wire.size(); ++i, ++at) {
      auto c = static_cast<unsigned char>(wire[at]);
      if (c == '.' || c == '\\') out.push_back('\\');
      if (c < 0x21 || c > 0x7E) out += fmt::format("\\{:03}", c);
      else out.push_back(static_cast<char>(c));
    }
  }
  return out;
}

std::uint64_t hash_name(std::string_view wire) {  // FNV-1a: names are short, and only the zone's own decide the shape of the table
  std::uint64_t h = 0xcbf29ce484222325ull;
  for (char c : wire) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return h ^ (h >> 32);
}

}  // namespace croft::discovery
