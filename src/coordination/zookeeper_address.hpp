#pragma once
// "zk://[user:password@]host[:port][,host…]/path", as Mesos's --zk and --master take it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::coordination {

/// Shape   a value. The path has a leading and no trailing slash and is not "/".
/// Source  Mesos's flags --zk (masters) and --master (agents). Credentials are a digest identity.
struct ZookeeperAddress {
  struct Server {
    std::string host;
    std::uint16_t port = 2181;
    bool operator==(const Server&) const = default;
  };
  std::string user, password;  ///< both empty, or neither
  std::vector<Server> servers;
  std::string path;

  [[nodiscard]] std::string servers_text() const;  ///< "h1:2181,h2:2181"
  [[nodiscard]] std::string shown() const;         ///< the whole, without the password: for logs
  bool operator==(const ZookeeperAddress&) const = default;
};

/// Errors: invalid, one sentence that says what is wrong, never with the password in it.
Result<ZookeeperAddress> parse_zookeeper_address(std::string_view text);

/// Whether `path` is an absolute ZooKeeper path that croft can own: "/croft", "/a/b".
Status check_zookeeper_path(std::string_view path);

}  // namespace croft::coordination
