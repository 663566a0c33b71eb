#include "secure/password.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <optional>
#include <vector>

#include "base/text.hpp"
#include "secure/bytes.hpp"

namespace croft::secure {

namespace {

constexpr std::size_t salt_bytes = 16, hash_bytes = 32, record_bytes_max = 256;
constexpr std::string_view bearer_prefix = "croft_";
constexpr std::size_t bearer_bytes = 6 + 16 + 1 + 43;

struct Record {
  PasswordCost cost;
  std::string salt, hash;
};

std::string derive(std::string_view password, std::string_view salt, PasswordCost cost) {
  std::string out(hash_bytes, '\0');
  auto memory = password_memory_max + (1u << 20);  // OpenSSL's own bound, above ours
  CROFT_ASSERT(EVP_PBE_scrypt(password.data(), password.size(), reinterpret_cast<const unsigned char*>(salt.data()), salt.size(), 1ull << cost.log_n, cost.r, cost.p, memory,
                              reinterpret_cast<unsigned char*>(out.data()), out.size()) == 1);
  return out;
}

std::optional<std::uint32_t> setting(std::string_view text, std::string_view name, std::uint32_t min, std::uint32_t max) {
  if (!text.starts_with(name)) return std::nullopt;
  auto n = to_int(text.substr(name.size()));
  if (!n || *n < min || *n > max) return std::nullopt;
  return static_cast<std::uint32_t>(*n);
}

std::optional<Record> parse(std::string_view record) {
  if (record.size() > record_bytes_max) return std::nullopt;
  auto parts = split(record, '$');
  if (parts.size() != 5 || !parts[0].empty() || parts[1] != "scrypt") return std::nullopt;
  auto costs = split(parts[2], ',');
  if (costs.size() != 3) return std::nullopt;
  auto log_n = setting(costs[0], "ln=", 4, 20), r = setting(costs[1], "r=", 1, 32), p = setting(costs[2], "p=", 1, 16);
  auto salt = base64url_decode(parts[3]), hash = base64url_decode(parts[4]);
  if (!log_n || !r || !p || !salt || salt->size() != salt_bytes || !hash || hash->size() != hash_bytes) return std::nullopt;
  if ((128ull * *r << *log_n) + 128ull * *r * *p > password_memory_max) return std::nullopt;
  return Record{{*log_n, *r, *p}, std::move(*salt), std::move(*hash)};
}

}  // namespace

Status check_new_password(std::string_view password) {
  if (password.size() < password_bytes_min || password.size() > password_bytes_max) return fail(Errc::invalid, "password: must have {} to {} bytes", password_bytes_min, password_bytes_max);
  if (password.find_first_of(std::string_view("\0\r\n", 3)) != std::string_view::npos) return fail(Errc::invalid, "password: must not have line breaks");
  return {};
}

std::string hash_password(std::string_view password, PasswordCost cost) {
  auto salt = random_bytes(salt_bytes);
  return fmt::format("$scrypt$ln={},r={},p={}${}${}", cost.log_n, cost.r, cost.p, base64url_encode(salt), base64url_encode(derive(password, salt, cost)));
}

Result<bool> password_matches(std::string_view record, std::string_view password) {
  auto parsed = parse(record);
  if (!parsed) return fail(Errc::corrupt, "password record: malformed");
  if (password.size() > password_bytes_max) return false;
  return equal(derive(password, parsed->salt, parsed->cost), parsed->hash);
}

Status check_password_record(std::string_view record) {
  if (!parse(record)) return fail(Errc::corrupt, "password record: malformed");
  return {};
}

void waste_a_try(std::string_view password, PasswordCost cost) {
  static const std::string salt = random_bytes(salt_bytes);
  (void)derive(password.substr(0, password_bytes_max), salt, cost);
}

BearerToken new_bearer_token() {
  BearerToken out;
  out.id = hex(random_bytes(8));
  out.text = fmt::format("{}{}_{}", bearer_prefix, out.id, base64url_encode(random_bytes(32)));
  out.digest = hex(sha256(out.text));
  return out;
}

Result<std::string> bearer_id(std::string_view text) {
  bool whole = text.size() == bearer_bytes && text.starts_with(bearer_prefix) && text[22] == '_' && base64url_decode(text.substr(23));
  auto id = whole ? text.substr(6, 16) : std::string_view();
  if (!whole || !unhex(id)) return fail(Errc::invalid, "token: is not one of croft's; was it cut when it was pasted?");
  return std::string(id);
}

bool bearer_matches(std::string_view digest, std::string_view text) { return equal(digest, hex(sha256(text))); }

}  // namespace croft::secure
