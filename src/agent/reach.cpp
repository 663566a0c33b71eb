#include "agent/reach.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace croft::agent {

Reach reach_of(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    auto ip = ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
    auto in = [&](std::uint32_t net, int bits) { return (ip >> (32 - bits)) == (net >> (32 - bits)); };
    if (in(0xa9fe0000, 16) || ip == 0x646464c8 || ip == 0xc00000c0 || ip == 0xa83f8110) return Reach::link_local;  // with the clouds' metadata that has other addresses
    return in(0, 8) || in(0x7f000000, 8) || in(0x0a000000, 8) || in(0xac100000, 12) || in(0xc0a80000, 16) || in(0x64400000, 10) ? Reach::inside : Reach::anywhere;
  }
  const auto& ip = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  auto inner_at = [&](int at) {
    sockaddr_in inner{};
    inner.sin_family = AF_INET;
    std::memcpy(&inner.sin_addr, ip.s6_addr + at, 4);
    return reach_of(reinterpret_cast<const sockaddr*>(&inner));
  };
  static constexpr unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b}, metadata[3][16] = {{0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54}, {0xfd, 0x20, 0, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54},
                                                                                          {0xfd, 0, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe}};
  if (IN6_IS_ADDR_V4MAPPED(&ip) || (IN6_IS_ADDR_V4COMPAT(&ip)) || std::memcmp(ip.s6_addr, nat64, sizeof nat64) == 0) return inner_at(12);
  if (ip.s6_addr[0] == 0x20 && ip.s6_addr[1] == 0x02) return inner_at(2);  // 6to4
  if (IN6_IS_ADDR_LINKLOCAL(&ip) || std::any_of(std::begin(metadata), std::end(metadata), [&](const auto& m) { return std::memcmp(ip.s6_addr, m, sizeof m) == 0; })) return Reach::link_local;
  return IN6_IS_ADDR_LOOPBACK(&ip) || IN6_IS_ADDR_UNSPECIFIED(&ip) || (ip.s6_addr[0] & 0xfe) == 0xfc ? Reach::inside : Reach::anywhere;
}

bool may_reach(Reach first, Reach next) { return next != Reach::link_local && !(next == Reach::inside && first == Reach::anywhere); }

}  // namespace croft::agent
