#pragma once
// Mesos's reading side on the master: what clients need to find things. Source: Mesos 1.11's operator endpoints.

#include <functional>
#include <memory>

#include "cluster/farm_view.hpp"
#include "net/http.hpp"

namespace croft::cluster {

struct MesosOptions {
  std::uint16_t port = 5050;
};

/// /state, /master/state, /state-summary, /slaves, /master/slaves, /tasks, /master/tasks, /metrics/snapshot, /health, /version, /redirect, /frameworks.
void add_mesos_routes(net::Router& router, std::function<std::shared_ptr<const FarmView>()> view, MesosOptions options);

}  // namespace croft::cluster
