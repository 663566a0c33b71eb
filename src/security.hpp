#pragma once
// What a process has to prove who it is and to check others: certificates, TLS both ways, logins. One a process, shared by its roles.

#include <boost/asio/any_io_executor.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "gate/follower.hpp"
#include "gate/gate.hpp"
#include "net/http_client.hpp"
#include "settings.hpp"

namespace croft {

/// Threads  safe from any after open().
class Security : public std::enable_shared_from_this<Security> {
 public:
  /// Reads the host's certificate. Errors: not_found, io, forbidden, invalid, naming the file and what to do.
  static Result<std::shared_ptr<Security>> open(const Settings& settings, boost::asio::any_io_executor executor);
  ~Security();

  [[nodiscard]] const secure::HostIdentity& self() const { return self_; }
  /// Errors   forbidden: the certificate does not name this role.
  [[nodiscard]] Status check_role(secure::HostRole role) const;
  [[nodiscard]] std::shared_ptr<net::TlsServer> server() const { return server_; }
  /// The same address by TLS, with a croft host of this role at its end.
  [[nodiscard]] net::Origin towards(net::Origin to, secure::HostRole role) const;

  void set_accounts(std::shared_ptr<const secure::Accounts> accounts);
  /// The CAs to trust from now on, on disk too, and the one of them that signs: a certificate of another is renewed. What is unreadable or empty changes nothing.
  void set_bundle(const std::string& pem, const std::string& signing);
  [[nodiscard]] std::string certificate_pem();
  /// Whether this host was put out, as far as it has heard.
  [[nodiscard]] bool is_revoked();
  /// Asked while users and tokens are followed: a leader has them itself. Before start().
  void set_leads(std::function<bool()> leads) { leads_ = std::move(leads); }
  /// Renews the certificate when it is time, takes what another process of this host renewed; follows users and tokens, with a copy in `saved`.
  void start(std::filesystem::path saved);
  [[nodiscard]] gate::GateOptions gate_options() const;

 private:
  Security(const Settings& settings, boost::asio::any_io_executor executor);
  Status read();
  boost::asio::awaitable<void> keep_fresh();
  boost::asio::awaitable<Status> renew();
  /// A master's answer, onto the disk; nothing of it unless it is this host's certificate.
  [[nodiscard]] Status take_renewed(const std::string& answer, const std::string& key, const std::string& bundle) const;

  const Settings settings_;
  boost::asio::any_io_executor executor_;
  secure::HostIdentity self_;
  std::shared_ptr<net::TlsServer> server_;
  std::shared_ptr<net::TlsClient> client_;
  std::shared_ptr<secure::LoginService> logins_;
  std::shared_ptr<gate::Budgets> budgets_;
  std::shared_ptr<std::atomic<bool>> knows_ = std::make_shared<std::atomic<bool>>(false);
  std::function<bool()> leads_;
  std::unique_ptr<gate::AccessFollower> follower_;
  net::HttpClient http_;
  std::mutex mutex_;
  std::string certificate_pem_, key_pem_, bundle_, signing_;  // mutex_
};

}  // namespace croft
