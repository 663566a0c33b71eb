#pragma once
// Marathon's HTTP face, and the few paths of croft's own beside it. Source: Marathon's v2 API; errors in its shapes.

#include <memory>
#include <string>

#include "model/task_policy.hpp"
#include "net/http.hpp"
#include "orchestrator/leader.hpp"

namespace croft::orchestrator {

struct MarathonOptions {
  std::string base_url;                 ///< "http://127.0.0.1:8080", for Location and X-Marathon-Leader
  std::string leader;                   ///< "127.0.0.1:8080"
  TaskPolicy policy;                  ///< what manifests may ask of a host
  Millis leader_wait{2'500};            ///< how long a request waits for this master to lead
  std::uint16_t service_port_min = 10000, service_port_max = 20000;  ///< shown by /v2/info
};

/// /v2/apps, /v2/deployments, /v2/tasks, /v2/queue, /v2/groups (read), /v2/info, /v2/leader, /v2/events, /ping;
/// /croft/v1/explain/{app}, /croft/v1/overview.
void add_marathon_routes(net::Router& router, std::shared_ptr<Leader> leader, MarathonOptions options);

/// What no handler answers below /v2 (an unknown path, a wrong method, OPTIONS) looks like Marathon's as well. The last diversion to be set up: those
/// before it, to another leader, stay before it.
void mark_refusals(net::Router& router, const MarathonOptions& options);

}  // namespace croft::orchestrator
