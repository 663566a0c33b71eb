#pragma once
// What runs in the world: one leader (killed and reborn), agents with simulated tasks, a balancer. Private to the simulation.

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "agent/agent_core.hpp"
#include "catalog/follower.hpp"
#include "catalog/publisher.hpp"
#include "cluster/cluster.hpp"
#include "model/catalog_json.hpp"
#include "orchestrator/orchestrator.hpp"
#include "sim/sim.hpp"
#include "sim/world.hpp"

namespace croft::sim {

using orchestrator::App;

struct Leader {
  Leader(const coordination::Term& term, std::uint64_t seed);
  cluster::Cluster cluster;
  catalog::Publisher catalog;
  orchestrator::Orchestrator core;
  bool committing = false, storing = false;
  coordination::Batch background;
};

/// A host with an agent on it. `disk` survives the agent's death, `alive` only the host's.
struct HostSim {
  std::string name, subscription;
  agent::Membership disk_membership;
  std::map<TaskId, link::HeldTask> disk;
  std::map<TaskId, TaskSpec> alive;          ///< processes
  std::map<TaskId, TaskStatus> ends;         ///< exit files
  std::optional<agent::AgentCore> core;      ///< nothing while the agent is down
  std::uint64_t life = 0, connection = 0;    ///< raised at each death and reconnect: late messages of an older one are dropped
  bool connected = false, cut_off = false;
};

class Farm {
 public:
  explicit Farm(const RunOptions& options);
  RunResult run();

 private:
  // --- leader ---
  void take_over();
  void leader_ticks(std::uint64_t life);
  void kill_leader();
  void turn();
  void commit(coordination::Batch batch, std::function<void(bool)> then);
  void user_acts();
  void propose(orchestrator::Intent intent, std::string what);
  // --- hosts ---
  void boot_agent(std::size_t host);
  void agent_loop(std::size_t host, std::uint64_t life);
  void kill_agent(std::size_t host);
  void reboot(std::size_t host);
  void connect(std::size_t host);
  void deliver(std::size_t host, std::uint64_t connection, link::Down record);
  void carry_out(std::size_t host, agent::Decisions decisions);
  void start_task(std::size_t host, const TaskSpec& spec);
  void end_task(std::size_t host, TaskId task, TaskState state, std::string message);
  void tell(std::size_t host, const TaskId& task, TaskState state, std::optional<bool> healthy);
  void report(std::size_t host);
  void balance();
  void faults();
  // --- judgement ---
  void fail(std::string why);
  void note(std::string what);
  void check_step();
  void check_end();
  [[nodiscard]] link::AgentInfo info(std::size_t host) const;

  RunOptions options_;
  World world_;
  std::map<std::string, std::string> store_;
  std::uint64_t head_ = 0, epoch_ = 0;
  std::unique_ptr<Leader> leader_;
  std::uint64_t leader_life_ = 0;
  std::vector<HostSim> hosts_;
  catalog::Follower follower_;
  std::map<AppId, std::optional<App>> acknowledged_;   ///< what users were told is so
  std::set<AppId> unsure_;                             ///< asked for, and never answered
  bool quiet_ = false;                                 ///< the faults have ended
  RunResult result_;
};

}  // namespace croft::sim
