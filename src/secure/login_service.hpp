#pragma once
// LoginCore with its one thread, which runs at the lowest priority there is.

#include <functional>
#include <memory>
#include <string>

#include "secure/login.hpp"

namespace croft::secure {

/// Judges Basic and bearer logins.
///
/// Threads  callable from any. `done` is called at once on the caller's thread when the answer is known (every bearer token, every remembered
///          password), else later on the service's own: it must be quick and must not throw.
class LoginService {
 public:
  explicit LoginService(LoginOptions options = {});
  ~LoginService();  ///< tries that wait are answered busy
  LoginService(const LoginService&) = delete;
  LoginService& operator=(const LoginService&) = delete;

  /// From the next login on.
  void set_accounts(std::shared_ptr<const Accounts> accounts);
  [[nodiscard]] std::shared_ptr<const Accounts> accounts() const;
  void check(const Credentials& credentials, std::string_view source, Wall now, std::function<void(Verdict)> done);
  [[nodiscard]] LoginCore::Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace croft::secure
