#pragma once
// The cluster's own CA: P-256, because every TLS stack that people have takes it (Ed25519 is refused by the older Java and Python clients
// which speak the old APIs).

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/certificate.hpp"

namespace croft::secure {

inline constexpr std::chrono::hours authority_life{24 * 3653};  ///< ten years
inline constexpr std::chrono::hours certificate_life{24 * 90};
/// A certificate begins this long before it is issued, for hosts whose clocks are behind.
inline constexpr std::chrono::minutes backdated{10};

/// A CA with its key. Whoever has the key can be any host of the cluster: masters only, mode 0600.
struct Authority {
  std::string certificate_pem, key_pem;
};
/// Errors   invalid (the cluster's name).
Result<Authority> create_authority(std::string_view cluster, Wall now, Wall::duration life = authority_life);
/// Errors   invalid: unreadable, no CA, or another's key.
Status check_authority(const Authority& authority);

/// A private key, made where it will be used, and the request that carries its public half to a master. The request says nothing of names: who
/// the host is, is decided by its join token or its present certificate.
struct KeyAndRequest {
  std::string key_pem, request_pem;
};
KeyAndRequest make_key_and_request();

/// A request for a key that is there: a certificate anew, which then is one file to replace. Errors: invalid.
Result<std::string> make_request(std::string_view key_pem);

/// What goes into a certificate beside the public key.
struct Subject {
  HostIdentity identity;
  std::vector<std::string> names;  ///< further DNS names and IP addresses by which clients reach the host; its own name is always there
};

/// Signs. The certificate never outlives the CA.
/// Errors   invalid (the request, its signature, a name), too_large, forbidden (a key type or size that is too weak, a CA that has expired).
Result<std::string> issue(const Authority& authority, std::string_view request_pem, const Subject& subject, Wall now, Wall::duration life = certificate_life);

}  // namespace croft::secure
