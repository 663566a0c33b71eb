#pragma once
// A leader's real cores with agents that a test moves by hand, under a clock that it owns.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "catalog/publisher.hpp"
#include "cluster/cluster.hpp"
#include "orchestrator/orchestrator.hpp"

namespace croft::orchestrator::test {

/// An app from a manifest, checked; over `app` as an update is.
App app_of(std::string_view manifest, App over = {});

/// The app of most tests, with one port; `more` are further fields.
inline const AppId a("/a");
std::string manifest(int instances, std::string_view more = "", std::string_view cmd = "x");

class Farm {
 public:
  explicit Farm(Options options = {});

  // --- agents ---
  void agent(const std::string& name, double cpus = 1000, double mem = 1'000'000, Labels attributes = {}, PortSet ports = *PortSet::parse("31000-32000"));
  void silent(const std::string& name);        ///< from now on nothing is heard of it
  void back(const std::string& name);          ///< registers with all that it ran when it fell silent, or with what a test made of it
  void without(const std::string& name, const TaskId& task);

  // --- what users do ---
  std::expected<Proposal, Refusal> change(Intent intent);
  /// PUT of a manifest over what is stored. The deployment's id, "" when refused (see `refusal`).
  DeploymentId put(std::string_view manifest, bool force = false);
  DeploymentId remove(const AppId& app, bool force = true);
  DeploymentId restart(const AppId& app);

  // --- what tasks do ---
  void report(const TaskId& task, TaskState state, std::optional<bool> healthy = std::nullopt, std::string reason = {}, std::string message = {}, bool ready = true);
  void start(const AppId& app);                ///< what is staging runs, and is healthy where it has checks
  void run_only(const AppId& app);             ///< what is staging runs, without a verdict yet
  void obey();                                 ///< what was told to end has ended
  void crash(const AppId& app);                ///< every running one fails
  void settle(const AppId& app, int rounds = 50);  ///< start and obey until nothing moves

  void pass(Millis time);                      ///< time goes by; agents that are not silent are heard of
  void take_over();                            ///< the leader dies, another loads what is stored; agents have to come back()
  void turn();

  // --- looking ---
  [[nodiscard]] std::vector<const cluster::Task*> tasks(const AppId& app) const;  ///< live, by id
  /// "2 staging 3 running 1 draining": live tasks by state and goal; of the present configuration, or of earlier ones.
  [[nodiscard]] std::string of_present(const AppId& app) const;
  [[nodiscard]] std::string of_earlier(const AppId& app) const;
  [[nodiscard]] std::size_t running(const AppId& app) const;
  [[nodiscard]] std::string host_of(const cluster::Task& task) const;
  [[nodiscard]] std::map<std::string, int> spread(const AppId& app) const;  ///< live tasks by host
  [[nodiscard]] bool deploying() const { return !core().deployments().empty(); }
  [[nodiscard]] std::string explained(const AppId& app) const;
  [[nodiscard]] Orchestrator& core() const { return leader_->core; }
  [[nodiscard]] cluster::Cluster& cluster() const { return leader_->cluster; }
  [[nodiscard]] catalog::Publisher& catalog() const { return leader_->catalog; }
  std::vector<BusEvent> take_events();

  Now now;
  std::map<std::string, std::string> store;
  std::optional<Refusal> refusal;
  bool keep_progress = true;                   ///< false: background progress does not reach the store

 private:
  struct Agent {
    link::Registration registration;
    AgentId id;
    std::string subscription;
    bool silent = false;
    std::uint64_t number = 0;
  };
  struct Leader {
    Leader(std::uint64_t epoch, const Options& o) : cluster({.cluster_id = "test", .epoch = epoch}), catalog({.epoch = epoch}), core(cluster, catalog, o) {}
    cluster::Cluster cluster;
    catalog::Publisher catalog;
    Orchestrator core;
  };
  void write(const coordination::Batch& batch);
  [[nodiscard]] std::string census(const AppId& app, bool present) const;
  Agent& agent_of(const AgentId& id);

  Options options_;
  std::uint64_t epoch_ = 1, updates_ = 0;
  std::unique_ptr<Leader> leader_;
  std::map<std::string, Agent> agents_;
  std::vector<BusEvent> events_;
};

/// Hosts h1, h2 and so on with /a running on them.
Farm on_hosts(int hosts, int instances, std::string_view more = "");

}  // namespace croft::orchestrator::test
