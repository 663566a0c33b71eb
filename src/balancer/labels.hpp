#pragma once
// What an app says about one of its ports to the balancer, by marathon-lb's HAPROXY_* labels. Pure. Values are data: what could not stand in a
// configuration as one plain word is left out, with the reason.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "model/task.hpp"

namespace croft::balancer {

struct PortLabels {
  std::optional<bool> http;                     ///< HAPROXY_{n}_MODE
  std::optional<std::uint16_t> port;            ///< HAPROXY_{n}_PORT: instead of the service port
  std::vector<std::string> hosts;               ///< HAPROXY_{n}_VHOST, lower case
  std::vector<std::string> paths;               ///< HAPROXY_{n}_PATH: path_beg's arguments
  bool paths_ignore_case = false;
  int weight = 0;                               ///< HAPROXY_{n}_BACKEND_WEIGHT: larger is asked first; 1 where there is a path
  std::string balance;                          ///< HAPROXY_{n}_BALANCE, "" for our choice
  bool sticky = false;                          ///< HAPROXY_{n}_STICKY
  bool resend = true;                           ///< HAPROXY_{n}_RESEND: a request whose instance ended without a word goes to another one
  std::vector<std::string> networks;            ///< HAPROXY_{n}_BACKEND_NETWORK_ALLOWED_ACL
  std::vector<std::string> problems;            ///< "HAPROXY_0_VHOST: 'a b' is not a host name"; those labels count as not given
  bool operator==(const PortLabels&) const = default;
};

PortLabels port_labels(const Labels& labels, std::size_t port_index);

}  // namespace croft::balancer
