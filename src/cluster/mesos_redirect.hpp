#pragma once
// What Mesos's face answers on a master that does not lead.

#include <functional>
#include <memory>

#include "coordination/store.hpp"
#include "net/http.hpp"

namespace croft::cluster {

/// Diverts what only a leader knows: 307 to the same path at the leader, in the scheme-relative form that Mesos's clients expect; `/redirect` to the
/// leader without a path; 503 while nobody leads. `/health`, `/version`, `/metrics…` and pages stay this master's own.
void redirect_to_leader(net::Router& router, std::function<bool()> leading, std::shared_ptr<coordination::Detector> detector);

}  // namespace croft::cluster
