#include "secure/authority.hpp"

#include <arpa/inet.h>

#include <algorithm>

#include "base/text.hpp"
#include "secure/bytes.hpp"
#include "secure/ossl.hpp"

namespace croft::secure {

namespace {

constexpr std::size_t names_max = 32;

KeyPtr new_key() {
  KeyPtr key(EVP_EC_gen("P-256"));
  CROFT_ASSERT(key != nullptr);
  return key;
}

template <class Write, class... Args>
std::string to_pem(Write write, Args... args) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  CROFT_ASSERT(bio && write(bio.get(), args...) == 1);
  char* data = nullptr;
  auto size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::string key_pem(EVP_PKEY* key) { return to_pem(PEM_write_bio_PrivateKey, key, nullptr, nullptr, 0, nullptr, nullptr); }

void put_name(X509_NAME* name, const char* field, const std::string& value) {
  CROFT_ASSERT(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()), static_cast<int>(value.size()), -1, 0) == 1);
}

/// Everything but names and extensions: version, a random serial (positive, 127 bits), the time, the key.
void begin(X509* cert, EVP_PKEY* key, Wall from, Wall until) {
  auto serial = random_bytes(16);
  serial[0] = static_cast<char>((serial[0] & 0x3f) | 0x40);
  std::unique_ptr<BIGNUM, Freed<BN_free>> number(BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()), static_cast<int>(serial.size()), nullptr));
  auto seconds = [](Wall w) { return static_cast<time_t>(std::chrono::floor<Seconds>(w).time_since_epoch().count()); };
  CROFT_ASSERT(X509_set_version(cert, 2) == 1 && number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(cert)) != nullptr);
  CROFT_ASSERT(ASN1_TIME_set(X509_getm_notBefore(cert), seconds(from)) != nullptr && ASN1_TIME_set(X509_getm_notAfter(cert), seconds(until)) != nullptr);
  CROFT_ASSERT(X509_set_pubkey(cert, key) == 1);
}

/// Values are ours or checked by the caller: they are OpenSSL's little language, in which a comma begins another name.
void extend(X509* cert, X509* issuer, int what, const std::string& value) {
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, cert, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>> extension(X509V3_EXT_conf_nid(nullptr, &ctx, what, value.c_str()));
  CROFT_ASSERT(extension && X509_add_ext(cert, extension.get(), -1) == 1);
}

Result<std::string> alternative_names(const Subject& subject) {
  auto uris = uris_of(subject.identity);
  if (!uris) return fail(std::move(uris).error());
  if (subject.names.size() > names_max) return fail(Errc::too_large, "names: more than {}", names_max);
  std::string out;
  for (const auto& uri : *uris) out += fmt::format("{}URI:{}", out.empty() ? "" : ",", uri);
  unsigned char address[16];
  out += (::inet_pton(AF_INET, subject.identity.host.c_str(), address) == 1 ? ",IP:" : ",DNS:") + subject.identity.host;
  for (const auto& name : subject.names) {
    if (::inet_pton(AF_INET, name.c_str(), address) == 1 || ::inet_pton(AF_INET6, name.c_str(), address) == 1) out += ",IP:" + name;
    else if (auto ok = check_host(name); !ok) return fail(Errc::invalid, "names: '{}' is neither a name in DNS nor an address", name);
    else if (name != subject.identity.host) out += ",DNS:" + name;
  }
  return out;
}

/// Keys are made by us or by an operator's own tool: EC on a curve of 256 bits or more, Ed25519, or RSA from 2048.
Status strong_enough(EVP_PKEY* key) {
  auto bits = EVP_PKEY_get_bits(key);
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC: if (bits >= 256) return {}; break;
    case EVP_PKEY_ED25519: return {};
    case EVP_PKEY_RSA: if (bits >= 2048 && bits <= 8192) return {}; break;
    default: break;
  }
  return fail(Errc::forbidden, "certificate request: a key of this type or size ({} bits) is not taken", bits);
}

}  // namespace

Result<Authority> create_authority(std::string_view cluster, Wall now, Wall::duration life) {
  if (auto ok = check_cluster(cluster); !ok) return fail(std::move(ok).error());
  auto key = new_key();
  CertPtr cert(X509_new());
  CROFT_ASSERT(cert != nullptr);
  begin(cert.get(), key.get(), now - backdated, now + life);
  auto* name = X509_get_subject_name(cert.get());
  put_name(name, "O", "croft " + std::string(cluster.substr(0, 36)));
  // Generations of one cluster's CA differ in name, so that a chain is never tried against the wrong one.
  put_name(name, "CN", "croft CA " + hex(random_bytes(4)));
  CROFT_ASSERT(X509_set_issuer_name(cert.get(), name) == 1);
  extend(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  extend(cert.get(), cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  extend(cert.get(), cert.get(), NID_subject_key_identifier, "hash");
  CROFT_ASSERT(X509_sign(cert.get(), key.get(), EVP_sha256()) > 0);
  return Authority{to_pem(PEM_write_bio_X509, cert.get()), key_pem(key.get())};
}

Status check_authority(const Authority& authority) {
  auto bundle = parse_bundle(authority.certificate_pem);
  if (!bundle) return fail(std::move(bundle).error().within("the CA's certificate"));
  return check_pair(authority.certificate_pem, authority.key_pem);
}

namespace {

std::string request_for(EVP_PKEY* key) {
  RequestPtr request(X509_REQ_new());
  CROFT_ASSERT(request && X509_REQ_set_version(request.get(), 0) == 1 && X509_REQ_set_pubkey(request.get(), key) == 1);
  // Ed25519 hashes by itself.
  CROFT_ASSERT(X509_REQ_sign(request.get(), key, EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256()) > 0);
  return to_pem(PEM_write_bio_X509_REQ, request.get());
}

}  // namespace

KeyAndRequest make_key_and_request() {
  auto key = new_key();
  return {key_pem(key.get()), request_for(key.get())};
}

Result<std::string> make_request(std::string_view pem) {
  auto key = parse_key(pem);
  if (!key) return fail(std::move(key).error());
  return request_for(key->get());
}

Result<std::string> issue(const Authority& authority, std::string_view request_pem, const Subject& subject, Wall now, Wall::duration life) {
  auto names = alternative_names(subject);
  if (!names) return names;
  auto request = parse_request(request_pem);
  if (!request) return fail(std::move(request).error());
  auto* theirs = X509_REQ_get0_pubkey(request->get());
  if (!theirs) return fail_ossl(Errc::invalid, "certificate request: its key");
  if (auto ok = strong_enough(theirs); !ok) return fail(std::move(ok).error());
  if (X509_REQ_verify(request->get(), theirs) != 1) {
    ERR_clear_error();
    return fail(Errc::invalid, "certificate request: its signature is wrong");
  }
  if (auto ok = check_authority(authority); !ok) return fail(std::move(ok).error());
  auto ca = parse_certificate(authority.certificate_pem);
  auto ca_key = parse_key(authority.key_pem);
  auto ca_end = read_bundle(authority.certificate_pem)->front().not_after;
  if (ca_end <= now) return fail(Errc::forbidden, "the CA has expired ({})", to_iso8601(ca_end));

  CertPtr cert(X509_new());
  CROFT_ASSERT(cert != nullptr);
  begin(cert.get(), theirs, now - backdated, std::min<Wall>(now + life, ca_end));
  auto* name = X509_get_subject_name(cert.get());
  put_name(name, "O", "croft");
  if (subject.identity.host.size() <= 64) put_name(name, "CN", subject.identity.host);  // X.509 takes no longer one; the names below count
  CROFT_ASSERT(X509_set_issuer_name(cert.get(), X509_get_subject_name(ca->get())) == 1);
  extend(cert.get(), ca->get(), NID_basic_constraints, "critical,CA:FALSE");
  extend(cert.get(), ca->get(), NID_key_usage, "critical,digitalSignature");
  extend(cert.get(), ca->get(), NID_ext_key_usage, "serverAuth,clientAuth");
  extend(cert.get(), ca->get(), NID_subject_key_identifier, "hash");
  extend(cert.get(), ca->get(), NID_authority_key_identifier, "keyid");
  extend(cert.get(), ca->get(), NID_subject_alt_name, *names);
  if (X509_sign(cert.get(), ca_key->get(), EVP_sha256()) <= 0) return fail_ossl(Errc::invalid, "signing");
  return to_pem(PEM_write_bio_X509, cert.get());
}

}  // namespace croft::secure
