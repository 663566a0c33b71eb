#include "secure/certificate.hpp"

#include <algorithm>
#include <ctime>

#include "base/text.hpp"
#include "secure/ossl.hpp"

namespace croft::secure {

std::string ossl_words() {
  std::string out;
  if (auto code = ERR_peek_last_error(); code != 0) {
    const char* reason = ERR_reason_error_string(code);
    out = reason ? reason : fmt::format("error {:x}", code);
  }
  ERR_clear_error();
  return out.empty() ? "unknown error" : out;
}

std::unexpected<Error> fail_ossl(Errc code, std::string_view what) { return fail(code, "{}: {}", what, ossl_words()); }

namespace {

/// A key that is encrypted must not make OpenSSL ask on the terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

/// One PEM block and nothing but blanks around it.
template <class Ptr, class Read>
Result<Ptr> parse_one(std::string_view pem, std::string_view what, Read read) {
  if (pem.size() > pem_bytes_max) return fail(Errc::too_large, "{}: more than {} bytes", what, pem_bytes_max);
  if (!trim(pem).starts_with("-----BEGIN ")) return fail(Errc::invalid, "{}: not PEM", what);
  auto bio = reading(pem);
  Ptr out(read(bio.get(), nullptr, no_passphrase, nullptr));
  if (!out) return fail_ossl(Errc::invalid, what);
  auto used = pem.size() - static_cast<std::size_t>(BIO_pending(bio.get()));
  if (!trim(pem.substr(used)).empty()) return fail(Errc::invalid, "{}: more than one PEM block", what);
  return out;
}

Result<Wall> wall_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return fail_ossl(Errc::invalid, "certificate: a date");
  return Wall(Seconds(::timegm(&parts)));
}

Result<std::string> fingerprint_of(const X509* cert) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (X509_digest(cert, EVP_sha256(), digest, &size) != 1) return fail_ossl(Errc::invalid, "certificate");
  return hex({reinterpret_cast<const char*>(digest), size});
}

std::string serial_of(const X509* cert) {
  std::unique_ptr<BIGNUM, Freed<BN_free>> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), nullptr));
  if (!number) return {};
  std::string bytes(static_cast<std::size_t>(BN_num_bytes(number.get())), '\0');
  BN_bn2bin(number.get(), reinterpret_cast<unsigned char*>(bytes.data()));
  return hex(bytes);
}

}  // namespace

std::string why_untrusted(long code) {
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return "it has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID: return "it is not valid yet; one of the two clocks is wrong";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return "no CA that is trusted here has signed it";
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: return "its signature is wrong";
    default: return X509_verify_cert_error_string(code);
  }
}

Result<CertPtr> parse_certificate(std::string_view pem) { return parse_one<CertPtr>(pem, "certificate", PEM_read_bio_X509); }
Result<KeyPtr> parse_key(std::string_view pem) { return parse_one<KeyPtr>(pem, "key", PEM_read_bio_PrivateKey); }
Result<RequestPtr> parse_request(std::string_view pem) { return parse_one<RequestPtr>(pem, "certificate request", PEM_read_bio_X509_REQ); }

Result<std::vector<CertPtr>> parse_bundle(std::string_view pem) {
  if (pem.size() > bundle_bytes_max) return fail(Errc::too_large, "trust bundle: more than {} bytes", bundle_bytes_max);
  std::vector<CertPtr> out;
  auto bio = reading(pem);
  for (;;) {
    CertPtr cert(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
    if (!cert) break;
    if (out.size() == bundle_count_max) return fail(Errc::too_large, "trust bundle: more than {} certificates", bundle_count_max);
    if (X509_check_ca(cert.get()) == 0) return fail(Errc::invalid, "trust bundle: certificate {} is not a CA's", out.size() + 1);
    for (const auto& other : out)
      if (X509_cmp(other.get(), cert.get()) == 0) return fail(Errc::invalid, "trust bundle: certificate {} stands there twice", out.size() + 1);
    out.push_back(std::move(cert));
  }
  if (auto code = ERR_peek_last_error(); ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE) return fail_ossl(Errc::invalid, "trust bundle");
  ERR_clear_error();
  if (out.empty()) return fail(Errc::invalid, "trust bundle: has no certificate");
  return out;
}

Result<Certificate> read_certificate(std::string_view pem) {
  auto cert = parse_certificate(pem);
  if (!cert) return fail(std::move(cert).error());
  return read_certificate(**cert);
}

Result<Certificate> read_certificate(const x509_st& certificate) {
  const auto* cert = &certificate;
  auto identity = identity_of(certificate);
  if (!identity) return fail(std::move(identity).error());
  auto from = wall_of(X509_get0_notBefore(cert)), until = wall_of(X509_get0_notAfter(cert));
  auto print = fingerprint_of(cert);
  if (!from || !until || !print) return fail(!from ? from.error() : !until ? until.error() : print.error());
  return Certificate{std::move(*identity), serial_of(cert), std::move(*print), *from, *until};
}

Result<std::vector<Anchor>> read_bundle(std::string_view pem) {
  auto certs = parse_bundle(pem);
  if (!certs) return fail(std::move(certs).error());
  std::vector<Anchor> out;
  for (const auto& cert : *certs) {
    auto from = wall_of(X509_get0_notBefore(cert.get())), until = wall_of(X509_get0_notAfter(cert.get()));
    auto print = fingerprint_of(cert.get());
    if (!from || !until || !print) return fail(!from ? from.error() : !until ? until.error() : print.error());
    char name[256];
    X509_NAME_oneline(X509_get_subject_name(cert.get()), name, sizeof name);
    out.push_back({name, std::move(*print), *from, *until});
  }
  return out;
}

Result<Certificate> verify_certificate(std::string_view pem, std::string_view bundle, Wall now, Use use, const Expectation& wanted) {
  auto cert = parse_certificate(pem);
  if (!cert) return fail(std::move(cert).error());
  auto anchors = parse_bundle(bundle);
  if (!anchors) return fail(std::move(anchors).error());
  StorePtr store(X509_STORE_new());
  StoreCtxPtr ctx(X509_STORE_CTX_new());
  CROFT_ASSERT(store && ctx);
  for (const auto& anchor : *anchors) CROFT_ASSERT(X509_STORE_add_cert(store.get(), anchor.get()) == 1);
  CROFT_ASSERT(X509_STORE_CTX_init(ctx.get(), store.get(), cert->get(), nullptr) == 1);
  auto* how = X509_STORE_CTX_get0_param(ctx.get());
  X509_VERIFY_PARAM_set_time(how, std::chrono::floor<Seconds>(now).time_since_epoch().count());
  X509_VERIFY_PARAM_set_flags(how, X509_V_FLAG_X509_STRICT);
  X509_VERIFY_PARAM_set_purpose(how, use == Use::server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT);
  if (X509_verify_cert(ctx.get()) != 1) {
    auto code = X509_STORE_CTX_get_error(ctx.get());
    ERR_clear_error();
    return fail(Errc::forbidden, "certificate: {}", why_untrusted(code));
  }
  auto facts = read_certificate(**cert);
  if (!facts) return facts;
  if (auto ok = check(facts->identity, wanted); !ok) return fail(std::move(ok).error());
  return facts;
}

Status check_pair(std::string_view certificate_pem, std::string_view key_pem) {
  auto cert = parse_certificate(certificate_pem);
  if (!cert) return fail(std::move(cert).error());
  auto key = parse_key(key_pem);
  if (!key) return fail(std::move(key).error());
  if (X509_check_private_key(cert->get(), key->get()) != 1) {
    ERR_clear_error();
    return fail(Errc::invalid, "key: is not that of the certificate");
  }
  return {};
}

}  // namespace croft::secure
