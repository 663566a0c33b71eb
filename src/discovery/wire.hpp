#pragma once
// DNS names and numbers as they travel. Pure. Source: RFC 1035 sections 2.3.4, 3.1.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace croft::discovery {

constexpr std::size_t name_max = 255;   ///< bytes of a name on the wire, the root's zero byte included
constexpr std::size_t label_max = 63;

/// "Web.marathon.mesos." as length-prefixed lower-case labels and a zero byte; the final dot may be missing. Nothing for an empty or
/// over-long label or name.
std::optional<std::string> to_wire(std::string_view dotted);
/// Back again, without the final dot; bytes that are not printable come as "\ddd", a dot inside a label as "\.".
std::string from_wire(std::string_view wire);
std::uint64_t hash_name(std::string_view wire);

inline void put16(char* at, std::uint16_t v) { at[0] = static_cast<char>(v >> 8), at[1] = static_cast<char>(v & 255); }
inline void put32(char* at, std::uint32_t v) { put16(at, static_cast<std::uint16_t>(v >> 16)), put16(at + 2, static_cast<std::uint16_t>(v & 0xFFFF)); }
inline std::uint16_t get16(const char* at) {
  return static_cast<std::uint16_t>(static_cast<unsigned char>(at[0]) << 8 | static_cast<unsigned char>(at[1]));
}
inline void append16(std::string& to, std::uint16_t v) { to.push_back(static_cast<char>(v >> 8)), to.push_back(static_cast<char>(v & 255)); }
inline void append32(std::string& to, std::uint32_t v) { append16(to, static_cast<std::uint16_t>(v >> 16)), append16(to, static_cast<std::uint16_t>(v & 0xFFFF)); }

}  // namespace croft::discovery
