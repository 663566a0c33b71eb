#pragma once
// What a browser could be made to send by somebody else's page. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http.hpp"

namespace croft::gate {

struct BrowserRefusal {
  int status = 403;
  std::string reason;
};

/// Changes that carry an Origin or a cookie come from a browser: they must come from a page of this very host, and their body must be JSON, which no
/// form can send. Programs send neither and are not concerned.
std::optional<BrowserRefusal> check_origin(const net::Request& request);

/// Whether Host names this host: by address, without a domain (as localhost), by one of `names`, or by a name below one that begins with a dot (".mesos"). A page whose
/// name was made to point here (DNS rebinding) names itself instead.
std::optional<BrowserRefusal> check_host_name(const net::Request& request, const std::vector<std::string>& names);

}  // namespace croft::gate
