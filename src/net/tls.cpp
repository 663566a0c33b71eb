#include "net/tls.hpp"

#include <openssl/ssl.h>

#include <string_view>

#include "secure/ossl.hpp"

namespace croft::net {

namespace {

using secure::CertPtr;
using ContextPtr = std::shared_ptr<SSL_CTX>;

/// Forward secrecy and authenticated encryption only; these are TLS 1.2's, all of 1.3's are so.
constexpr const char* ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* groups = "X25519:P-256:P-384";

/// Of what a client offers we speak one; a client that offers other things only (h2 without http/1.1) hears so in the handshake.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered, unsigned size, void*) {
  static constexpr std::string_view ours[] = {"http/1.1", "http/1.0"};
  for (auto want : ours)
    for (unsigned at = 0; at < size; at += 1u + offered[at]) {
      if (at + 1 + offered[at] > size) return SSL_TLSEXT_ERR_ALERT_FATAL;
      if (std::string_view(reinterpret_cast<const char*>(offered + at + 1), offered[at]) != want) continue;
      *out = offered + at + 1;
      *out_size = offered[at];
      return SSL_TLSEXT_ERR_OK;
    }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

ContextPtr new_context(const SSL_METHOD* method) {
  ContextPtr out(SSL_CTX_new(method), SSL_CTX_free);
  auto* c = out.get();
  CROFT_ASSERT(c && SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(c, ciphers) == 1 && SSL_CTX_set1_groups_list(c, groups) == 1);
  SSL_CTX_set_options(c, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(c, 0);
  // Buffers of idle connections go back; a write takes what the socket takes and may go on from a buffer that has moved.
  // The chain is what the identity says: OpenSSL would add the CA itself from the trust bundle, which the peer must have anyway.
  SSL_CTX_set_mode(c, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_max_cert_list(c, 32 << 10);
  return out;
}

Status use_identity(SSL_CTX* c, const TlsIdentity& identity) {
  if (auto bytes = identity.certificate_pem.size(); bytes > secure::bundle_bytes_max) return fail(Errc::too_large, "certificate: {} bytes", bytes);
  auto end = identity.certificate_pem.find("-----END CERTIFICATE-----");
  auto first = identity.certificate_pem.substr(0, end == std::string::npos ? end : end + 25);
  auto rest = identity.certificate_pem.substr(first.size());
  auto cert = secure::parse_certificate(first);
  if (!cert) return fail(std::move(cert).error());
  auto key = secure::parse_key(identity.key_pem);
  if (!key) return fail(std::move(key).error());
  if (SSL_CTX_use_certificate(c, cert->get()) != 1) return secure::fail_ossl(Errc::invalid, "certificate");
  if (X509_check_private_key(cert->get(), key->get()) != 1 || SSL_CTX_use_PrivateKey(c, key->get()) != 1) {
    ERR_clear_error();
    return fail(Errc::invalid, "key: is not that of the certificate");
  }
  if (rest.find("-----BEGIN") == std::string::npos) return {};
  auto chain = secure::parse_bundle(rest);
  if (!chain) return fail(std::move(chain).error().within("what follows the certificate"));
  for (auto& link : *chain) CROFT_ASSERT(SSL_CTX_add1_chain_cert(c, link.get()) == 1);
  return {};
}

Status trust(SSL_CTX* c, const std::string& bundle, bool name_to_clients) {
  auto anchors = secure::parse_bundle(bundle);
  if (!anchors) return fail(std::move(anchors).error());
  auto* store = SSL_CTX_get_cert_store(c);
  for (auto& anchor : *anchors) {
    CROFT_ASSERT(X509_STORE_add_cert(store, anchor.get()) == 1);
    if (name_to_clients) CROFT_ASSERT(SSL_CTX_add_client_CA(c, anchor.get()) == 1);
  }
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c), X509_V_FLAG_X509_STRICT);
  return {};
}

Result<ContextPtr> server_context(const TlsIdentity& identity, const std::string& bundle, PeerCertificate peers) {
  auto out = new_context(TLS_server_method());
  auto* c = out.get();
  if (auto ok = use_identity(c, identity); !ok) return fail(std::move(ok).error());
  SSL_CTX_set_alpn_select_cb(c, choose_protocol, nullptr);
  // Clients that leave without a word are common, and a request says its own length. A client must notice: its answer may end with the connection.
  SSL_CTX_set_options(c, SSL_OP_IGNORE_UNEXPECTED_EOF);
  if (peers == PeerCertificate::ignored) return out;
  if (auto ok = trust(c, bundle, true); !ok) return fail(std::move(ok).error());
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | (peers == PeerCertificate::required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
  return out;
}

Result<ContextPtr> client_context(const TlsIdentity& identity, const std::string& bundle) {
  auto out = new_context(TLS_client_method());
  auto* c = out.get();
  if (!identity.certificate_pem.empty() || !identity.key_pem.empty())
    if (auto ok = use_identity(c, identity); !ok) return fail(std::move(ok).error());
  if (bundle.empty()) {
    if (SSL_CTX_set_default_verify_paths(c) != 1) return secure::fail_ossl(Errc::io, "the system's CAs");
  } else if (auto ok = trust(c, bundle, false); !ok) {
    return fail(std::move(ok).error());
  }
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
  static constexpr unsigned char offer[] = "\x08http/1.1";
  CROFT_ASSERT(SSL_CTX_set_alpn_protos(c, offer, sizeof offer - 1) == 0);  // of all functions, this one has 0 for success
  return out;
}

}  // namespace

Result<std::shared_ptr<TlsServer>> TlsServer::make(TlsServerOptions options) {
  std::shared_ptr<TlsServer> out(new TlsServer(std::move(options)));
  auto context = server_context(out->options_.identity, out->options_.bundle, out->options_.peers);
  if (!context) return fail(std::move(context).error());
  out->context_ = std::move(*context);
  out->options_.identity = {};
  out->options_.bundle.clear();
  return out;
}

Status TlsServer::swap(TlsIdentity identity, std::string bundle) {
  auto context = server_context(identity, bundle, options_.peers);
  if (!context) return fail(std::move(context).error());
  std::lock_guard lock(mutex_);
  context_ = std::move(*context);
  return {};
}

std::shared_ptr<ssl_ctx_st> TlsServer::context() const {
  std::lock_guard lock(mutex_);
  return context_;
}

Result<std::shared_ptr<TlsClient>> TlsClient::make(TlsClientOptions options) {
  auto out = std::make_shared<TlsClient>();
  out->unproved_ = options.unproved;
  auto done = out->swap(std::move(options.identity), std::move(options.bundle));
  if (!done) return fail(std::move(done).error());
  return out;
}

Status TlsClient::swap(TlsIdentity identity, std::string bundle) {
  auto context = client_context(identity, bundle);
  if (!context) return fail(std::move(context).error());
  std::lock_guard lock(mutex_);
  context_ = std::move(*context);
  ++generation_;
  return {};
}

void TlsClient::set_refuses(Refuses refuses) {
  std::lock_guard lock(mutex_);
  refuses_ = std::move(refuses);
  ++generation_;
}

TlsClient::Refuses TlsClient::refuses() const {
  std::lock_guard lock(mutex_);
  return refuses_;
}

std::shared_ptr<ssl_ctx_st> TlsClient::context() const {
  std::lock_guard lock(mutex_);
  return context_;
}

}  // namespace croft::net
