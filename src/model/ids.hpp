#pragma once
#include "base/named.hpp"

namespace croft {

using AppId = Named<struct AppIdTag>;                ///< absolute path: "/service/fibonacci"
using TaskId = Named<struct TaskIdTag>;              ///< "service_fibonacci.<uuid>"; never used twice
using AgentId = Named<struct AgentIdTag>;            ///< "<cluster id>-<epoch>-S12", given by the leader, kept on the agent's disk
using DeploymentId = Named<struct DeploymentIdTag>;  ///< a UUID
using BalancerId = Named<struct BalancerIdTag>;      ///< host name and port of a balancer's API, unique in a farm

/// The task name of an app, by which discovery names it: "/service/fibonacci" -> "fibonacci.service".
std::string task_name_of(const AppId& app);

}  // namespace croft
