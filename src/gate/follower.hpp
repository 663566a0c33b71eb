#pragma once
// Users, tokens and the trust bundle on a host that has no leader: a copy that follows, so that no request asks a master.

#include <boost/asio/any_io_executor.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/http_client.hpp"

namespace croft::secure {
class Accounts;
}

namespace croft::gate {

struct AccessCopy {
  std::string version, bundle;
  std::string signing;                               ///< PEM of the CA that signs; "": a master of an earlier build does not say
  std::shared_ptr<const secure::Accounts> accounts;
};
/// Errors   invalid (a newer format), corrupt, too_large.
Result<AccessCopy> read_access_copy(std::string_view text);

struct FollowerOptions {
  std::vector<net::Origin> masters;
  std::filesystem::path saved;                       ///< mode 0600; read at the start
  std::function<bool()> idle;                        ///< this very process leads: nobody is asked
  std::function<void(const AccessCopy&)> changed;    ///< on the executor
};

/// Shape   start(), then follows until the process ends or stop().
class AccessFollower {
 public:
  AccessFollower(boost::asio::any_io_executor executor, FollowerOptions options);
  ~AccessFollower();
  /// Reads the copy on disk, where there is one, before it returns.
  void start();
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::gate
