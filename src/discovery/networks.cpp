#include "discovery/networks.hpp"

#include <arpa/inet.h>

#include <algorithm>

#include "base/text.hpp"

namespace croft::discovery {

namespace {

constexpr std::string_view mapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12), loopback("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);

std::string_view plain(std::string_view address) { return address.size() == 16 && address.starts_with(mapped) ? address.substr(12) : address; }

}  // namespace

std::optional<Network> Network::parse(const std::string& text) {
  auto slash = text.find('/');
  auto name = text.substr(0, slash);
  char bytes[16];
  Network out;
  if (::inet_pton(AF_INET, name.c_str(), bytes) == 1) out.address.assign(bytes, 4);
  else if (::inet_pton(AF_INET6, name.c_str(), bytes) == 1) out.address.assign(bytes, 16);
  else return std::nullopt;
  auto most = static_cast<int>(out.address.size()) * 8;
  auto bits = slash == std::string::npos ? std::optional<std::int64_t>(most) : to_int(std::string_view(text).substr(slash + 1));
  if (!bits || *bits < 0 || *bits > most) return std::nullopt;
  out.bits = static_cast<int>(*bits);
  return out;
}

bool Network::contains(std::string_view other) const {
  other = plain(other);
  if (other.size() != address.size()) return false;
  auto whole = static_cast<std::size_t>(bits / 8);
  if (other.substr(0, whole) != std::string_view(address).substr(0, whole)) return false;
  if (bits % 8 == 0) return true;
  auto rest = [&](std::string_view a) { return static_cast<unsigned char>(a[whole]) >> (8 - bits % 8); };
  return rest(other) == rest(address);
}

bool is_local(std::string_view address) {
  address = plain(address);
  auto b = [&](std::size_t i) { return static_cast<unsigned char>(address[i]); };
  if (address.size() == 4) return b(0) == 127 || b(0) == 10 || (b(0) == 172 && (b(1) & 0xF0) == 16) || (b(0) == 192 && b(1) == 168) || (b(0) == 169 && b(1) == 254);
  return address.size() == 16 && (address == loopback || (b(0) & 0xFE) == 0xFC || (b(0) == 0xFE && (b(1) & 0xC0) == 0x80));
}

bool is_near(std::string_view address, const std::vector<Network>& also) {
  return is_local(address) || std::any_of(also.begin(), also.end(), [&](const Network& n) { return n.contains(address); });
}

}  // namespace croft::discovery
