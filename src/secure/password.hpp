#pragma once
// Passwords of people and secrets of scripts, as they are kept.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace croft::secure {

inline constexpr std::size_t password_bytes_min = 8, password_bytes_max = 256;

/// What one guess costs: scrypt with N = 2^log_n blocks of 128*r bytes, p times. The default takes 16 MiB and about 0.1 s.
struct PasswordCost {
  std::uint32_t log_n = 14, r = 8, p = 3;
};
inline constexpr std::uint64_t password_memory_max = 64u << 20;  ///< of a stored record: no record may ask for more

/// Errors   invalid: shorter or longer than the bounds, or with a NUL or line break (Basic and the terminal could not carry it).
Status check_new_password(std::string_view password);
/// "$scrypt$ln=14,r=8,p=3$SALT$HASH": says by itself how it was made, so that the cost can be raised.
std::string hash_password(std::string_view password, PasswordCost cost = {});
/// Slow by design: never on a strand. Errors: corrupt (the record; also one whose cost is absurd).
Result<bool> password_matches(std::string_view record, std::string_view password);
/// Whether the record can be tried at all. Errors: corrupt.
Status check_password_record(std::string_view record);
/// Does the work of a try for nobody: an unknown user takes as long as a known one.
void waste_a_try(std::string_view password, PasswordCost cost = {});

/// A bearer token: 256 random bits, shown once. What is kept is the SHA-256 of the whole text; slow hashing would add nothing to 256 bits.
struct BearerToken {
  std::string id;      ///< 16 hex digits, no secret: for lists, logs and revoking
  std::string text;    ///< "croft_" + id + "_" + 43 characters of base64url
  std::string digest;  ///< SHA-256 of `text`, hex
};
BearerToken new_bearer_token();
/// The id in a token's text. Errors: invalid (not of this form; most likely cut when it was pasted).
Result<std::string> bearer_id(std::string_view text);
bool bearer_matches(std::string_view digest, std::string_view text);

}  // namespace croft::secure
