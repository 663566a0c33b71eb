#include "discovery/rate_limit.hpp"

#include <algorithm>

#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

constexpr std::size_t buckets = 4096;

bool trusted_v4(std::string_view a) {
  auto b = [&](std::size_t i) { return static_cast<unsigned char>(a[i]); };
  return b(0) == 127 || b(0) == 10 || (b(0) == 172 && (b(1) & 0xF0) == 16) || (b(0) == 192 && b(1) == 168) || (b(0) == 169 && b(1) == 254);
}

/// The bytes of the network to count, or nothing for one that is trusted.
std::string_view network_of(std::string_view address) {
  if (address.size() == 4) return trusted_v4(address) ? std::string_view() : address.substr(0, 3);
  static constexpr std::string_view mapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12), loopback("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
  if (address.starts_with(mapped)) return network_of(address.substr(12));
  auto first = static_cast<unsigned char>(address[0]), second = static_cast<unsigned char>(address[1]);
  bool trusted = address == loopback || (first & 0xFE) == 0xFC || (first == 0xFE && (second & 0xC0) == 0x80);
  return trusted ? std::string_view() : address.substr(0, 7);
}

}  // namespace

RateLimit::RateLimit(std::uint32_t per_second) : per_second_(per_second), buckets_(per_second ? buckets : 0) {}

RateLimit::Verdict RateLimit::ask(std::string_view address, Mono now) {
  if (buckets_.empty() || (address.size() != 4 && address.size() != 16)) return Verdict::answer;
  auto network = network_of(address);
  if (network.empty()) return Verdict::answer;
  auto& b = buckets_[hash_name(network) % buckets];
  auto most = static_cast<float>(per_second_);
  auto passed = std::chrono::duration<float>(now - b.filled).count();
  b.left = b.filled == Mono{} ? most : std::min(most, b.left + passed * most);
  b.filled = now;
  if (b.left >= 1) {
    b.left -= 1;
    return Verdict::answer;
  }
  return ++b.refused % 2 == 0 ? Verdict::truncate : Verdict::drop;
}

}  // namespace croft::discovery
