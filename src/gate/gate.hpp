#pragma once
// The guard of a router: who asks, and may he?

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gate/budgets.hpp"
#include "gate/rules.hpp"
#include "secure/caller.hpp"

namespace croft::secure {
class LoginService;
}

namespace croft::gate {

struct GateOptions {
  std::string cluster;                                       ///< whose hosts may speak to us
  std::shared_ptr<secure::LoginService> logins;              ///< nothing: nobody logs in, only browsers are judged
  std::function<bool()> ready;                               ///< whether users and tokens are known; until then logins get 503
  std::shared_ptr<Budgets> budgets;                          ///< of those who log in; nothing: as many requests as they like
  std::vector<std::string> host_names;                       ///< of this host; empty: Host is not looked at
  std::vector<std::string> near;                             ///< addresses of loopback and the container bridge
  /// Somebody who had logged in was refused; for the audit log. `path`: of the app or group that it was about, or "". From any thread; quick.
  std::function<void(const secure::Caller& caller, const net::Request& request, const std::string& path, const std::string& reason)> denied;
};

/// Threads  add() before the router serves; the guard works on the caller's executor, passwords are tried on the login service's thread.
class Gate {
 public:
  explicit Gate(GateOptions options) : options_(std::make_shared<const GateOptions>(std::move(options))) {}
  void add(net::Router& router, Face face) const;

 private:
  std::shared_ptr<const GateOptions> options_;
};

/// The address that counts: the peer's, or what one of the cluster's own hosts says that it passes on for.
std::string source_of(const net::Request& request, std::string_view cluster);

/// A refusal in the face's own shape. `retry_after`: seconds, 0 for none.
net::Response refusal(Face face, int status, std::string_view reason, std::int64_t retry_after = 0);

}  // namespace croft::gate
