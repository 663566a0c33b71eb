#pragma once
// The orchestrator's core: intent in, deployments carried out over the cluster's tasks. Pure; on the leader's strand.

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "catalog/publisher.hpp"
#include "cluster/cluster.hpp"
#include "coordination/store.hpp"
#include "orchestrator/deployment.hpp"

namespace croft::secure {
struct Caller;
}

namespace croft::orchestrator {

/// What an operator wants of a node.
enum class NodeMode : std::uint8_t {
  active,
  draining,   ///< no new tasks; those that it has are replaced elsewhere, each before it goes
  down,       ///< it is gone and does not come back as it was: its tasks are counted lost at once
};

/// A change that a user wants, as edits of whole apps. Everything that the Marathon paths write comes down to this.
struct Intent {
  std::map<AppId, std::optional<App>> apps;             ///< new definition, or nothing to remove it
  std::set<AppId> restart;                              ///< new tasks although nothing changed
  std::map<AppId, std::vector<TaskId>> victims;         ///< kill-and-scale
  std::map<AppId, std::optional<catalog::Rule>> rules;  ///< Bamboo's
  std::map<AgentId, NodeMode> nodes;                    ///< goes alone, as rules do
  std::optional<DeploymentId> cancel;                   ///< with force: just dropped; else rolled back
  bool force = false;
  bool announce = false;                                ///< tell each app's definition by an api_post_event, as Marathon did for single writes
  std::string origin, path;                             ///< from where and by which path it was asked, for api_post_event
  std::shared_ptr<const secure::Caller> caller;         ///< must be allowed all of it; nothing: nobody logs in here
  std::string what;                                     ///< for the audit log: "PUT /v2/apps/service/fibonacci"
};

/// What policy refused, and in which words it stands in the audit log.
struct Attempt {
  Intent intent;
  std::string reason;
};

/// Why an intent is not taken. code conflict with `locked_by` filled is Marathon's "App is locked by …".
struct Refusal {
  Error error;
  std::vector<DeploymentId> locked_by;
  std::string field = {};                               ///< of the definition, when one is at fault: "/id"; "/" is the whole
  bool of_rights = false;                               ///< the caller may not; the error says why
  std::shared_ptr<const Attempt> attempt = {};          ///< it breaks policy: to be written down where somebody is logged in
};
inline std::unexpected<Refusal> refuse(Errc code, std::string text, std::string field = {}) { return std::unexpected(Refusal{{code, std::move(text)}, {}, std::move(field)}); }

/// A change checked against the present state, not yet in force: commit `batch`, then apply().
struct Proposal {
  coordination::Batch batch;
  std::string version;                                  ///< the change's time stamp
  DeploymentId deployment;                              ///< "" when nothing is deployed (rules)
  std::vector<Step> steps;                              ///< of the deployment
  struct Body;
  std::shared_ptr<const Body> body;
};

struct Options {
  std::uint16_t service_port_min = 10000, service_port_max = 20000;
  Millis drain_time{10'000}, dns_ttl{1'000}, balancer_lease{3'000};
  std::size_t deployments_max = 100, versions_max = 50;
  std::uint64_t seed = 0;                               ///< for ids in the simulator; 0: random
  std::string env_host_ip, env_dns_url;                 ///< CROFT_HOST_IP / CROFT_DNS_URL are set by the agent, not here
};

/// Shape    propose -> (shell commits) -> apply; on_events and tick after every turn; results are read, not called back.
/// Threads  one strand. Errors  Refusal for what users can cause.
class Orchestrator {
 public:
  Orchestrator(cluster::Cluster& cluster, catalog::Publisher& catalog, Options options);
  ~Orchestrator();
  Orchestrator(const Orchestrator&) = delete;
  Orchestrator& operator=(const Orchestrator&) = delete;

  /// From the store's keys (all that start with "apps/", "versions/", "deployments/", "rules/", "kills/", "removed/", "agents/", "nodes/"), once, before anything else.
  Status load(const std::map<std::string, std::string>& stored, Now now);

  std::expected<Proposal, Refusal> propose(const Intent& intent, Now now) const;
  void apply(const Proposal& proposal, Now now);
  /// Plain kill (without scale): tasks are drained and killed, and replaced. Gives those found.
  std::vector<TaskId> kill_tasks(const std::vector<TaskId>& tasks, Now now);
  void reset_delay(const AppId& app);                   ///< DELETE /v2/queue/{id}/delay

  void on_events(const std::vector<cluster::Event>& events, Now now);
  /// Carries deployments, back-off, drains and replacements forward. Calls the cluster and the catalog. Returns when it wants
  /// to be called again at the latest.
  Mono tick(Now now);
  /// Progress that has to be stored (finished deployments, kills seen done): commit at leisure; lost ones are found again.
  coordination::Batch take_background_batch();
  std::vector<BusEvent> take_bus_events();

  // --- reading ---
  [[nodiscard]] const std::map<AppId, App>& apps() const;
  [[nodiscard]] const App* app(const AppId& id) const;
  /// A stored version of an app; nothing when unknown.
  [[nodiscard]] std::optional<App> version(const AppId& id, const std::string& version) const;
  /// The newest version of an app that is not newer than `stamp`; nothing when it did not exist yet, or is forgotten.
  [[nodiscard]] std::optional<App> version_at(const AppId& id, const std::string& stamp) const;
  [[nodiscard]] const std::map<DeploymentId, std::shared_ptr<const Deployment>>& deployments() const;
  [[nodiscard]] const std::map<AppId, catalog::Rule>& rules() const;
  /// By id or host name. Of several with one name the one that answers, or with `dead` one that does not.
  [[nodiscard]] std::optional<AgentId> node(const std::string& name, bool dead = false) const;
  [[nodiscard]] std::vector<QueueItem> queue(Now now) const;
  [[nodiscard]] AppView view(const AppId& id, Now now, const AppView* before = nullptr) const;  ///< shares with `before` what has not changed
  /// Apps whose view changed since the last call.
  std::set<AppId> take_changed_apps();
  /// Plain sentences, most important first: why is this app not (fully) running, which field to change.
  [[nodiscard]] std::vector<std::string> explain(const AppId& id, Now now) const;
  [[nodiscard]] std::string group_version() const;
  [[nodiscard]] std::string audit(Now now) const;       ///< "" or the first broken invariant; for tests and the simulator

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace croft::orchestrator
