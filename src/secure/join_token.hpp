#pragma once
// What a new host is given to join: whom to trust (the CA's hash), what it may become, until when, and a MAC by which a master knows its own.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/identity.hpp"

namespace croft::secure {

/// Shape   text for a command line: "croft-join-1." + payload + "." + MAC, both base64url; at most `join_token_bytes_max` bytes.
///
/// The joining host reads the CA's hash from it before it says a word to anybody, and takes only a master whose CA has that hash; the master
/// checks the MAC, the expiry, the roles, and that the token's id was not used up or revoked (its own record).
struct JoinToken {
  std::string id;                ///< 16 hex digits
  std::string ca_fingerprint;    ///< SHA-256 of the CA's certificate, hex
  std::vector<HostRole> roles;   ///< the most that a host gets with it
  std::string host;              ///< the one host that it is for; "": any, which suits a group of nodes installed by one script
  Wall expires{};
  bool operator==(const JoinToken&) const = default;
};

inline constexpr std::size_t join_token_bytes_max = 1024;
inline constexpr std::size_t join_key_bytes = 32;

/// Errors   invalid: a field is malformed, or the key has not `join_key_bytes`.
Result<std::string> encode_join_token(const JoinToken& token, std::string_view key);
/// For the joining host, which has no key. Errors: invalid, too_large.
Result<JoinToken> read_join_token(std::string_view text);
/// For the master. Errors: invalid, too_large, forbidden (not ours or tampered with, expired).
Result<JoinToken> verify_join_token(std::string_view text, std::string_view key, Wall now);
/// Whether the token gives this identity. Errors: forbidden.
Status check_join(const JoinToken& token, const HostIdentity& wanted);

std::string new_token_id();

}  // namespace croft::secure
