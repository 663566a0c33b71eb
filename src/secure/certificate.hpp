#pragma once
// Reading and judging certificates. Every function takes the time; none looks at a clock.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/identity.hpp"

namespace croft::secure {

inline constexpr std::size_t pem_bytes_max = 64u << 10;   ///< of one certificate, key or request
inline constexpr std::size_t bundle_bytes_max = 256u << 10;
inline constexpr std::size_t bundle_count_max = 16;

/// What a host's certificate says, whoever signed it.
struct Certificate {
  HostIdentity identity;
  std::string serial;        ///< hex
  std::string fingerprint;   ///< SHA-256 of the certificate, hex
  Wall not_before{}, not_after{};
};

/// What a CA's certificate says.
struct Anchor {
  std::string name;          ///< its subject, for people
  std::string fingerprint;   ///< SHA-256 of the certificate, hex: the hash that join tokens carry
  Wall not_before{}, not_after{};
};

/// Errors   too_large, invalid.
Result<Certificate> read_certificate(std::string_view pem);
Result<Certificate> read_certificate(const x509_st& certificate);
/// Every CA of a trust bundle. Errors: too_large, invalid (none, not a CA, twice the same).
Result<std::vector<Anchor>> read_bundle(std::string_view pem);

enum class Use : std::uint8_t { server, client };

/// Judges as a TLS peer would: signed by one of the bundle, in time at `now`, for this use; then who it is.
/// Errors   too_large, invalid (unreadable), forbidden (expired, not valid yet, another CA, tampered with, wrong use, host or role).
Result<Certificate> verify_certificate(std::string_view pem, std::string_view bundle, Wall now, Use use, const Expectation& wanted = {});

/// Whether the key belongs to the certificate. Errors: invalid.
Status check_pair(std::string_view certificate_pem, std::string_view key_pem);

}  // namespace croft::secure
