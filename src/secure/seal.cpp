#include "secure/seal.hpp"

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "secure/bytes.hpp"
#include "secure/ossl.hpp"

namespace croft::secure {

namespace {

constexpr std::string_view magic{"CS1\0", 4};
constexpr std::int64_t ring_format = 1;
constexpr std::size_t seal_salt_bytes = 16, nonce_bytes = 12, tag_bytes = 16, head_bytes = 4 + 4 + seal_salt_bytes + nonce_bytes;

const unsigned char* raw(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }
unsigned char* raw(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }

std::string big_endian(std::uint32_t n) {
  std::string out(4, '\0');
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(n >> (24 - 8 * i));
  return out;
}

std::uint32_t number_in(std::string_view head) {
  std::uint32_t n = 0;
  for (int i = 4; i < 8; ++i) n = n << 8 | static_cast<unsigned char>(head[i]);
  return n;
}

/// What is authenticated beside the value: the head without the nonce, and the name.
std::string associated(std::string_view head, std::string_view name) { return std::string(head.substr(0, 8 + seal_salt_bytes)) + std::string(name); }

std::string value_key(std::string_view key, std::string_view salt) { return hmac_sha256(key, "croft seal 1\n" + std::string(salt)); }

}  // namespace

bool is_sealed(std::string_view stored) { return stored.starts_with(magic); }

KeyRing KeyRing::create() {
  KeyRing out;
  out.keys_[1] = random_bytes(key_bytes);
  return out;
}

KeyRing::~KeyRing() {
  for (auto& [number, key] : keys_) wipe(key);
}

std::uint32_t KeyRing::add() {
  CROFT_ASSERT(keys_.size() < keys_max);
  auto number = current() + 1;
  keys_[number] = random_bytes(key_bytes);
  return number;
}

Status KeyRing::drop(std::uint32_t number) {
  auto at = keys_.find(number);
  if (at == keys_.end()) return fail(Errc::not_found, "seal key {}: is not there", number);
  if (number == current()) return fail(Errc::conflict, "seal key {}: is the one that seals", number);
  wipe(at->second);
  keys_.erase(at);
  return {};
}

std::vector<std::uint32_t> KeyRing::numbers() const {
  std::vector<std::uint32_t> out;
  for (const auto& [number, key] : keys_) out.push_back(number);
  return out;
}

std::string KeyRing::encode() const {
  JsonWriter w;
  w.begin_object().field("format", ring_format).key("keys").begin_array();
  for (const auto& [number, key] : keys_) w.begin_object().field("number", number).field("key", hex(key)).end_object();
  w.end_array().end_object();
  return std::move(w).take() + "\n";
}

Result<KeyRing> KeyRing::decode(std::string_view text) {
  if (text.size() > 16384) return fail(Errc::too_large, "seal keys: {} bytes", text.size());
  auto doc = json::parse(text);
  if (!doc) return fail(Errc::corrupt, "seal keys: not JSON");  // the parser's words may quote the text, and that is secret
  if (auto format = json::integer(*doc, "format"); format != ring_format) return fail(format > ring_format ? Errc::invalid : Errc::corrupt, "seal keys: format {} is not known here", format);
  KeyRing out;
  for (const auto& entry : json::list(*doc, "keys")) {
    auto number = json::integer(entry, "number");
    auto key = unhex(json::text(entry, "key"));
    if (number < 1 || number > 0xffffffffll || !key || key->size() != key_bytes) return fail(Errc::corrupt, "seal keys: entry {}", out.keys_.size() + 1);
    if (!out.keys_.emplace(static_cast<std::uint32_t>(number), std::move(*key)).second) return fail(Errc::corrupt, "seal keys: {} stands there twice", number);
  }
  if (out.keys_.empty() || out.keys_.size() > keys_max) return fail(Errc::corrupt, "seal keys: must be 1 to {}", keys_max);
  return out;
}

std::string KeyRing::seal(std::string_view name, std::string_view value) const {
  CROFT_ASSERT(value.size() <= value_bytes_max);
  auto out = std::string(magic) + big_endian(current()) + random_bytes(seal_salt_bytes + nonce_bytes);
  auto key = value_key(keys_.rbegin()->second, std::string_view(out).substr(8, seal_salt_bytes));
  auto beside = associated(out, name);
  out.resize(head_bytes + value.size() + tag_bytes);
  CipherPtr c(EVP_CIPHER_CTX_new());
  int n = 0;
  CROFT_ASSERT(c && EVP_EncryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, raw(key), raw(out) + 8 + seal_salt_bytes) == 1);
  CROFT_ASSERT(EVP_EncryptUpdate(c.get(), nullptr, &n, raw(std::string_view(beside)), static_cast<int>(beside.size())) == 1);
  CROFT_ASSERT(EVP_EncryptUpdate(c.get(), raw(out) + head_bytes, &n, raw(value), static_cast<int>(value.size())) == 1);
  CROFT_ASSERT(EVP_EncryptFinal_ex(c.get(), raw(out) + head_bytes + value.size(), &n) == 1 && n == 0);
  CROFT_ASSERT(EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_GCM_GET_TAG, tag_bytes, raw(out) + head_bytes + value.size()) == 1);
  wipe(key);
  return out;
}

Result<std::string> KeyRing::open(std::string_view name, std::string_view sealed) const {
  if (!is_sealed(sealed)) return fail(Errc::invalid, "{}: is not sealed", name);
  if (sealed.size() < overhead) return fail(Errc::corrupt, "{}: sealed value cut short", name);
  if (sealed.size() > value_bytes_max + overhead) return fail(Errc::too_large, "{}: sealed value of {} bytes", name, sealed.size());
  auto at = keys_.find(number_in(sealed));
  if (at == keys_.end()) return fail(Errc::not_found, "{}: is sealed with key {}, which is not here", name, number_in(sealed));
  auto key = value_key(at->second, sealed.substr(8, seal_salt_bytes));
  auto beside = associated(sealed, name);
  std::string out(sealed.size() - overhead, '\0');
  std::string tag(sealed.substr(sealed.size() - tag_bytes));
  CipherPtr c(EVP_CIPHER_CTX_new());
  int n = 0;
  CROFT_ASSERT(c && EVP_DecryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, raw(key), raw(sealed) + 8 + seal_salt_bytes) == 1);
  CROFT_ASSERT(EVP_DecryptUpdate(c.get(), nullptr, &n, raw(std::string_view(beside)), static_cast<int>(beside.size())) == 1);
  bool ok = EVP_DecryptUpdate(c.get(), raw(out), &n, raw(sealed) + head_bytes, static_cast<int>(out.size())) == 1;
  ok = ok && EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_GCM_SET_TAG, tag_bytes, raw(tag)) == 1 && EVP_DecryptFinal_ex(c.get(), raw(out) + out.size(), &n) == 1;
  wipe(key);
  if (ok) return out;
  ERR_clear_error();
  wipe(out);
  return fail(Errc::corrupt, "{}: does not open: changed, moved from another key, or another cluster's", name);
}

bool KeyRing::needs_reseal(std::string_view stored) const { return !is_sealed(stored) || stored.size() < overhead || number_in(stored) != current(); }

}  // namespace croft::secure
