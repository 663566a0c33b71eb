#pragma once
// Random bytes, MACs, and comparing without telling how far the texts agree.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace croft::secure {

/// From the kernel; ends the process when there are none (nothing may go on with guessable secrets).
std::string random_bytes(std::size_t n);
/// The time it takes depends on the lengths only. Lengths are no secret here: everything compared is a hash or a MAC.
bool equal(std::string_view a, std::string_view b);
std::string hmac_sha256(std::string_view key, std::string_view data);  ///< 32 raw bytes
/// URL-safe alphabet, no padding: for tokens that people paste.
std::string base64url_encode(std::string_view bytes);
/// Strict: nothing for another alphabet, padding, or bits left over that are not zero, so that one value has one spelling.
std::optional<std::string> base64url_decode(std::string_view text);
std::optional<std::string> unhex(std::string_view text);  ///< lower case only
/// Overwrites before the memory goes back; the text is empty afterwards.
void wipe(std::string& secret);

}  // namespace croft::secure
