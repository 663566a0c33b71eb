#pragma once
// What the files of the Marathon face share. Private to them.

#include <memory>

#include "orchestrator/marathon_api.hpp"

namespace croft::orchestrator {

namespace asio = boost::asio;

struct Face {
  std::shared_ptr<Leader> leader;
  MarathonOptions options;
};
using FacePtr = std::shared_ptr<Face>;

/// Registers handlers, and puts on every answer what Marathon put on it.
struct FaceRoutes {
  net::Router& router;
  FacePtr face;
  using Handler = asio::awaitable<net::Response> (*)(FacePtr, net::Request);
  void operator()(std::string_view method, std::string_view pattern, Handler handler) const;
};

void add_task_routes(const FaceRoutes& on);   ///< marathon_tasks.cpp
void add_farm_routes(const FaceRoutes& on);   ///< marathon_farm.cpp: deployments, queue, groups, info, leader, events, ping, croft's own

}  // namespace croft::orchestrator
