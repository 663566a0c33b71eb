#pragma once
// Who a host is, as its certificate says it.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

struct x509_st;  // OpenSSL's X509

namespace croft::secure {

enum class HostRole : std::uint8_t { master, node, balancer, dns, log };
inline constexpr std::array host_roles{HostRole::master, HostRole::node, HostRole::balancer, HostRole::dns, HostRole::log};
std::string_view to_string(HostRole role);
std::optional<HostRole> host_role(std::string_view text);

/// A host of one cluster and what it may act as. In a certificate each role is a URI among the subject's alternative names:
/// "croft://CLUSTER/ROLE/HOST".
struct HostIdentity {
  std::string cluster, host;
  std::vector<HostRole> roles;  ///< in the order of the enumeration, each once
  bool operator==(const HostIdentity&) const = default;
  [[nodiscard]] bool is(HostRole role) const;
  [[nodiscard]] std::string str() const;  ///< "host web1 (node, balancer)", for logs and reasons
};

inline constexpr std::size_t host_bytes_max = 253;
/// Lower-case letters, digits, '-' and '.', as in DNS; so it needs no escape in a URI, a log line or a file's name.
Status check_host(std::string_view host);
/// Letters, digits and '-', at most 64: the store's cluster id.
Status check_cluster(std::string_view cluster);

/// Errors   invalid: a name is malformed, or there is no role.
Result<std::vector<std::string>> uris_of(const HostIdentity& identity);
/// URIs of other schemes are passed over. Errors: invalid (none of ours, malformed, or two that name different hosts).
Result<HostIdentity> identity_of(const std::vector<std::string>& uris);
/// Says nothing about trust: only whose certificate it would be.
Result<HostIdentity> identity_of(const x509_st& certificate);

/// Whom one side of a connection wants to see at the other; what is empty is not asked.
struct Expectation {
  std::string cluster, host;
  std::optional<HostRole> role;
  bool operator==(const Expectation&) const = default;
  [[nodiscard]] bool empty() const { return cluster.empty() && host.empty() && !role; }
};
/// Errors   forbidden, naming what is there and what was wanted.
Status check(const HostIdentity& seen, const Expectation& wanted);

}  // namespace croft::secure
