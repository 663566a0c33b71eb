#pragma once
#include "agent/docker_request.hpp"
#include "agent/runtime.hpp"

namespace croft::net { class BlockingPool; }

namespace croft::agent {

struct DockerOptions {
  std::string socket = "/var/run/docker.sock";
  std::string config;                    ///< a docker configuration with this node's logins at registries; "": none
  DockerHost host;
  TaskPolicy policy;
  Millis pull_limit{600'000};
};

/// Containers of a Docker Engine; each is held by a croft-executor, as native tasks are.
std::unique_ptr<Runtime> make_docker_runtime(asio::any_io_executor executor, DockerOptions options);

}  // namespace croft::agent
