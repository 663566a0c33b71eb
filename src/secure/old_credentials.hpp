#pragma once
// Passwords as Mesos and Marathon keep them. Source: --credentials of a Mesos master ({"credentials":[{"principal":…,"secret":…}]}, of an agent one such object alone, in old
// files a line each: "principal secret"), --http_credentials of Marathon ("user:password").

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::secure {

struct OldCredential {
  std::string name, password;
  bool operator==(const OldCredential&) const = default;
};

/// In the file's order. Errors: invalid, with the line or the place in the list; never with a password.
Result<std::vector<OldCredential>> read_old_credentials(std::string_view text);

}  // namespace croft::secure
