#pragma once
// Small text and encoding helpers that more than one module wants.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace croft {

std::vector<std::string> split(std::string_view text, char at);  ///< empty pieces kept; "" gives one empty piece
std::string_view trim(std::string_view text);
std::string lower(std::string_view text);
bool iequals(std::string_view a, std::string_view b);  ///< ASCII case ignored
std::string join(const std::vector<std::string>& parts, std::string_view with);
/// Whole text, decimal, in range; anything else is nothing.
std::optional<std::int64_t> to_int(std::string_view text);
std::optional<double> to_double(std::string_view text);
/// Shortest decimal form: 0.1, 128, 1e+30.
std::string print_number(double v);

/// %xx decoded; nothing on a malformed escape or a NUL, decoded or not. '+' stays '+' unless `form`.
std::optional<std::string> url_decode(std::string_view text, bool form = false);
std::string url_encode(std::string_view text);

std::string base64_encode(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);  ///< nothing when a character is not of the alphabet
std::string hex(std::string_view bytes);
std::string sha256(std::string_view bytes);  ///< 32 raw bytes
std::string sha1(std::string_view bytes);    ///< 20 raw bytes

/// Random, from the kernel. 16 bytes in UUID form, version 4.
std::string random_uuid();
std::uint64_t random_u64();

}  // namespace croft
