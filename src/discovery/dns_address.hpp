#pragma once
// Addresses as people write them and as sockets want them.

#include <sys/socket.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::discovery {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] bool wildcard() const;
  [[nodiscard]] std::uint16_t port() const;
  void set_port(std::uint16_t port);
  [[nodiscard]] std::string_view bytes() const;   ///< of the address: 4 or 16
  [[nodiscard]] std::string str() const;          ///< "10.0.0.1:53", "[fd01::2]:53"
};

/// An IPv4 or IPv6 address. Errors: invalid.
Result<SocketAddress> socket_address(const std::string& address, std::uint16_t port);
/// "10.0.0.1", "10.0.0.1:5353", "fd01::2", "[fd01::2]:5353"; port 53 where none is given. Errors: invalid.
Result<SocketAddress> resolver_address(const std::string& text);
/// The name servers of a resolv.conf, in order; what is not an address is passed over.
std::vector<std::string> system_resolvers(const std::filesystem::path& file = "/etc/resolv.conf");
/// This host's addresses, loopback left out.
std::vector<std::string> host_addresses();

}  // namespace croft::discovery
