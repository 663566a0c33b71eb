#pragma once
// Mesos's reading side on the master: what clients need to find things. Source: Mesos 1.11's operator endpoints; docs/api/mesos.md.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cluster/farm_view.hpp"
#include "net/http.hpp"

namespace croft::cluster {

struct MesosOptions {
  std::uint16_t port = 5050;
  /// "host:port" of the leader's Mesos face while another master leads; then what only a leader knows is answered by 307 to there. "" while nobody
  /// leads (503), nothing while this one does.
  std::function<std::optional<std::string>()> elsewhere;
};

/// GET, with and without /master in front and .json behind: /state, /state-summary, /slaves, /frameworks, /tasks, /roles, /flags, /version, /health,
/// /metrics/snapshot, /system/stats, /redirect.
void add_mesos_routes(net::Router& router, std::function<std::shared_ptr<const FarmView>()> view, MesosOptions options);

}  // namespace croft::cluster
