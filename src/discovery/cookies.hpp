#pragma once
// DNS cookies: who shows the one that we gave to his address gets his answers there, and is nobody's spoofed name. Pure. Source: RFC 7873, RFC 9018.

#include <array>
#include <cstdint>
#include <string_view>

namespace croft::discovery {

/// Threads  safe from any: nothing changes after the construction.
class CookieJar {
 public:
  static constexpr std::size_t client_size = 8, size = 24;   ///< bytes of a client's part, and of the whole that we give
  using Key = std::array<std::uint64_t, 2>;
  explicit CookieJar(Key key) : key_(key) {}
  static CookieJar random();                                 ///< with a key of the kernel's

  /// `client`: what the asker sent, at least its 8 bytes; `address`: his, 4 or 16 bytes; `now`: seconds since 1970.
  [[nodiscard]] std::array<char, size> bake(std::string_view client, std::string_view address, std::uint32_t now) const;
  /// Whether this whole cookie was given to this address in the last hour (or, by another clock, in the next five minutes).
  [[nodiscard]] bool valid(std::string_view cookie, std::string_view address, std::uint32_t now) const;

 private:
  Key key_;
};

/// SipHash-2-4 of at most 64 bytes.
std::uint64_t siphash(const CookieJar::Key& key, std::string_view bytes);

}  // namespace croft::discovery
