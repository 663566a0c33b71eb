#pragma once
// TLS for server and client, as the rest of croft sees it: whom we are, whom we trust. TLS 1.2 and 1.3; OpenSSL stays in tls.cpp and tls_layer.cpp.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "secure/certificate.hpp"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace croft::net {

/// A certificate with its key, PEM; the certificate may be followed by those that lead to its CA.
struct TlsIdentity {
  std::string certificate_pem, key_pem;
};

enum class PeerCertificate : std::uint8_t {
  ignored,   ///< none is asked for
  wanted,    ///< asked for; one that is not trusted ends the handshake, none at all does not
  required,  ///< without one the handshake ends
};

struct TlsServerOptions {
  TlsIdentity identity;
  std::string bundle;                     ///< CAs whose hosts are taken; needed unless certificates are ignored
  PeerCertificate peers = PeerCertificate::ignored;
  std::vector<secure::HostRole> roles;    ///< a certificate that has none of these gets 403 on everything; empty: any
};

/// One context for new connections, shared by listeners.
///
/// Sessions are not resumed: a resumed one would not be judged again by a trust bundle that changed meanwhile.
/// Threads  safe from any.
class TlsServer {
 public:
  /// Errors   invalid (unreadable, key and certificate do not match, no bundle), too_large.
  static Result<std::shared_ptr<TlsServer>> make(TlsServerOptions options);
  /// New connections get this; those that are open go on. On an error what was in force stays.
  Status swap(TlsIdentity identity, std::string bundle);
  [[nodiscard]] std::shared_ptr<ssl_ctx_st> context() const;
  [[nodiscard]] const std::vector<secure::HostRole>& roles() const { return options_.roles; }

 private:
  explicit TlsServer(TlsServerOptions options) : options_(std::move(options)) {}
  mutable std::mutex mutex_;
  std::shared_ptr<ssl_ctx_st> context_;  // mutex_
  TlsServerOptions options_;             // identity and bundle: only what make() needs
};

struct TlsClientOptions {
  std::string bundle;                    ///< "": the system's CAs
  TlsIdentity identity;                  ///< our own, shown when the server asks; empty: none
  bool unproved = false;                 ///< whoever is there is taken: only to ask for a CA that is then known by its hash
};

/// The same for connections that go out.
class TlsClient {
 public:
  static Result<std::shared_ptr<TlsClient>> make(TlsClientOptions options);
  Status swap(TlsIdentity identity, std::string bundle);
  /// Croft hosts whose certificates are void although they are in order. From the next connection on; none that is kept is used again.
  using Refuses = std::function<bool(const secure::Certificate&)>;
  void set_refuses(Refuses refuses);
  [[nodiscard]] Refuses refuses() const;
  [[nodiscard]] std::shared_ptr<ssl_ctx_st> context() const;
  [[nodiscard]] bool unproved() const { return unproved_; }
  /// Another number after each change of whom we trust.
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

 private:
  bool unproved_ = false;
  std::atomic<std::uint64_t> generation_{0};
  mutable std::mutex mutex_;
  Refuses refuses_;                      // mutex_
  std::shared_ptr<ssl_ctx_st> context_;  // mutex_
};

}  // namespace croft::net
