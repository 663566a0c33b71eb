#pragma once
// What each route of each face takes. Pure.

#include <string>
#include <string_view>

#include "net/http.hpp"
#include "secure/access.hpp"

namespace croft::gate {

enum class Face : std::uint8_t { marathon, mesos, agent, bamboo, discovery, logs, console };

struct Need {
  enum class How : std::uint8_t {
    open,     ///< nothing: liveness, and what carries a proof of its own (join tokens)
    login,    ///< a person or script with `verb` on `target`
    host,     ///< a croft host's certificate that may `link`
    either,   ///< the host's or the login
  };
  How how = How::login;
  secure::Verb verb = secure::Verb::administer;
  secure::Target target{secure::Kind::farm, {}};
  secure::Link link{};
};

/// `pattern`: the route that the router found, "" when there is none. `near`: the request came in on loopback or the container bridge.
Need need_of(Face face, const net::Request& request, std::string_view pattern, bool near);

/// The app whose sandbox a file's path names: "/service/fib" of ".../executors/service_fib.1234/runs/latest/stdout"; "" when it names none, or not for sure.
std::string app_of_file(std::string_view path);

}  // namespace croft::gate
