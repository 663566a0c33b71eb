#include "discovery/cookies.hpp"

#include <sys/random.h>

#include <bit>
#include <cstdlib>
#include <cstring>

#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

constexpr std::int32_t age_max = 3600, ahead_max = 300;

std::uint64_t little_endian(const char* at, std::size_t n) {
  std::uint64_t v = 0;
  for (std::size_t i = 0; i < n; ++i) v |= std::uint64_t{static_cast<unsigned char>(at[i])} << (8 * i);
  return v;
}

/// Time of the cookie, with version and reserved bytes before it, and the hash behind.
void write_server_part(char* out, std::string_view client, std::uint32_t head, std::string_view address, std::uint32_t when, const CookieJar::Key& key) {
  put32(out, head);
  put32(out + 4, when);
  char hashed[CookieJar::client_size + 8 + 16];
  std::memcpy(hashed, client.data(), CookieJar::client_size);
  std::memcpy(hashed + CookieJar::client_size, out, 8);
  std::memcpy(hashed + CookieJar::client_size + 8, address.data(), address.size());
  auto hash = siphash(key, {hashed, CookieJar::client_size + 8 + address.size()});
  for (int i = 0; i < 8; ++i) out[8 + i] = static_cast<char>(hash >> (8 * i));
}

}  // namespace

std::uint64_t siphash(const CookieJar::Key& key, std::string_view bytes) {
  std::uint64_t v0 = 0x736f6d6570736575 ^ key[0], v1 = 0x646f72616e646f6d ^ key[1], v2 = 0x6c7967656e657261 ^ key[0], v3 = 0x7465646279746573 ^ key[1];
  auto round = [&] {
    v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
  };
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    auto word = little_endian(bytes.data() + at, 8);
    v3 ^= word, round(), round(), v0 ^= word;
  }
  auto last = std::uint64_t{bytes.size() & 255} << 56 | little_endian(bytes.data() + at, bytes.size() - at);
  v3 ^= last, round(), round(), v0 ^= last;
  v2 ^= 255;
  for (int i = 0; i < 4; ++i) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

CookieJar CookieJar::random() {
  Key key{};
  if (::getrandom(key.data(), sizeof key, 0) != static_cast<ssize_t>(sizeof key)) std::abort();
  return CookieJar(key);
}

std::array<char, CookieJar::size> CookieJar::bake(std::string_view client, std::string_view address, std::uint32_t now) const {
  std::array<char, size> out;
  std::memcpy(out.data(), client.data(), client_size);
  write_server_part(out.data() + client_size, client, 0x01000000, address, now, key_);
  return out;
}

bool CookieJar::valid(std::string_view cookie, std::string_view address, std::uint32_t now) const {
  if (cookie.size() != size || cookie[client_size] != 1 || address.size() > 16) return false;
  const char* server = cookie.data() + client_size;
  auto head = static_cast<std::uint32_t>(get16(server)) << 16 | get16(server + 2), when = static_cast<std::uint32_t>(get16(server + 4)) << 16 | get16(server + 6);
  auto age = static_cast<std::int32_t>(now - when);  // serial arithmetic: the counter wraps in 2106
  if (age > age_max || age < -ahead_max) return false;
  char right[16];
  write_server_part(right, cookie, head, address, when, key_);
  unsigned different = 0;
  for (int i = 8; i < 16; ++i) different |= static_cast<unsigned char>(right[i] ^ server[i]);
  return different == 0;
}

}  // namespace croft::discovery
