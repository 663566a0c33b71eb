#pragma once
// Which askers are near: on this host, or in a network that cannot be reached through the net at large. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace croft::discovery {

struct Network {
  std::string address;   ///< 4 or 16 bytes
  int bits = 0;
  /// "203.0.113.0/24", "2001:db8::/32"; an address alone is a network of its own. Nothing: it is none.
  static std::optional<Network> parse(const std::string& text);
  [[nodiscard]] bool contains(std::string_view address) const;
};

/// Of 4 or 16 bytes, an IPv4 address within IPv6 as itself: loopback, private and link-local ones.
bool is_local(std::string_view address);
bool is_near(std::string_view address, const std::vector<Network>& also);

}  // namespace croft::discovery
