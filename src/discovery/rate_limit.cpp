#include "discovery/rate_limit.hpp"

#include <algorithm>

#include "discovery/networks.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

constexpr std::size_t buckets = 4096;

/// The bytes of the network to count, or nothing for one that is trusted.
std::string_view network_of(std::string_view address) {
  static constexpr std::string_view prefix("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  if (address.starts_with(prefix)) return network_of(address.substr(12));
  return is_local(address) ? std::string_view() : address.substr(0, address.size() == 4 ? 3 : 7);
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
