#pragma once
// The agent's shell: finds the leader, keeps the link, runs tasks through the runtimes, probes them, keeps their folders.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/agent_core.hpp"
#include "agent/runtime.hpp"
#include "base/metrics.hpp"
#include "net/async.hpp"
#include "net/http.hpp"
#include "net/http_client.hpp"

namespace croft::agent {

struct AgentOptions {
  std::filesystem::path work_dir;             ///< agent.json, runs/, slaves/, cache/
  std::filesystem::path executor;             ///< the croft-executor program
  std::vector<net::Origin> masters;
  link::AgentInfo info;                       ///< hostname, ip, port, attributes, resources, ports
  std::string dns_url;                        ///< CROFT_DNS_URL of native tasks: "http://127.0.0.1:8123"
  std::string bridge;                         ///< the container bridge's address; "": none
  std::string bridge_dns_url;                 ///< of containers: "http://172.17.42.1:8123"
  std::vector<std::string> fetch_paths{"/"};  ///< folders of this host that artifacts may come from
  Millis sandbox_age{7L * 24 * 3600 * 1000};
  std::function<bool(const std::filesystem::path& sandbox)> shipped;  ///< whether logs of a sandbox are safe to collect; none: always
};

/// What this host has, or the kernel lets its tasks' cgroup have, less a reserve: cpus and MiB that stay for the host itself.
Resources discover_resources(const std::filesystem::path& work_dir, const std::string& cgroup_parent, double reserve_cpus, double reserve_mem);

/// Shape    start() recovers what runs, then follows the leader until stop(); tasks go on after stop().
/// Threads  its own strand; public methods from anywhere. Errors: start: io, corrupt (work_dir).
class AgentService : public std::enable_shared_from_this<AgentService> {
 public:
  static std::shared_ptr<AgentService> make(boost::asio::any_io_executor pool, AgentOptions options, std::unique_ptr<Runtime> native,
                                            std::unique_ptr<Runtime> docker, Metrics& metrics);
  ~AgentService();
  Status start();
  boost::asio::awaitable<void> stop();
  /// Mesos's agent paths on 5051 and /metrics.
  void add_routes(net::Router& router);
  /// Sandboxes of all runs, ended ones included, and those of the last ten seconds that are forgotten already: for the log shipper.
  struct SandboxInfo { TaskId task; AppId app; std::string path; bool ended = false; };
  boost::asio::awaitable<std::vector<SandboxInfo>> sandboxes();

  struct Impl;

 private:
  AgentService() = default;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::agent
