#pragma once
// OpenSSL's objects with owners, for the sources of this module and of net's TLS only: no public header includes this.

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::secure {

template <auto free_it>
struct Freed {
  template <class T>
  void operator()(T* what) const { free_it(what); }
};

using BioPtr = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using CertPtr = std::unique_ptr<X509, Freed<X509_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, Freed<X509_REQ_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreCtxPtr = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;
using CipherPtr = std::unique_ptr<EVP_CIPHER_CTX, Freed<EVP_CIPHER_CTX_free>>;

inline BioPtr reading(std::string_view bytes) { return BioPtr(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size()))); }

/// The newest of OpenSSL's errors in words; the thread's queue is empty afterwards.
std::string ossl_words();
std::unexpected<Error> fail_ossl(Errc code, std::string_view what);

/// A verification's result (X509_V_ERR_…) in words that say what is wrong, where OpenSSL's do not.
std::string why_untrusted(long code);

/// Errors   too_large (above what a certificate or key can be), invalid (no PEM of this kind, or more behind it).
Result<CertPtr> parse_certificate(std::string_view pem);
Result<KeyPtr> parse_key(std::string_view pem);
Result<RequestPtr> parse_request(std::string_view pem);
Result<std::vector<CertPtr>> parse_bundle(std::string_view pem);

}  // namespace croft::secure
