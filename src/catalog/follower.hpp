#pragma once
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/catalog.hpp"

namespace croft::catalog {

/// The follower's copy. Pure: records in, content and a list of what changed out.
///
/// A snapshot of a new epoch replaces services, rules, nodes and the endpoints of the agents it names as complete; endpoints of agents
/// not named stay as they were until a delta completes the agent or a node is gone. Within one epoch a second snapshot (after a cut) keeps
/// only what was so kept already: what the epoch had told and the snapshot has not is gone. Once the leader waits for no agent any more nothing is kept.
class Follower {
 public:
  struct Change {                       ///< what a record changed; ids may be of things that are gone now
    bool all = false;                   ///< everything may have changed
    std::vector<AppId> apps;            ///< service, rule, or an endpoint of it
    std::vector<TaskId> endpoints;
    bool nodes = false, masters = false, balancers = false;
  };
  /// Errors: conflict (a gap, an older epoch than seen, another cluster's leader, or one whose store knows less than this copy has heard of: what it serves then
  /// stays; reconnect with index()).
  Result<Change> apply(const Record& record);
  [[nodiscard]] const Content& content() const { return content_; }
  /// What to ask for on (re)connecting; nothing before the first snapshot.
  [[nodiscard]] std::optional<Index> index() const { return at_; }
  [[nodiscard]] const Root& root() const { return root_; }

  /// For who moves a data plane that outlives this copy and may be ahead of it.
  [[nodiscard]] Doubt doubt() const;

  [[nodiscard]] std::string save() const;          ///< for the disk
  Status restore(std::string_view saved);          ///< serve it, but ask for a snapshot

 private:
  Result<Change> take_snapshot(const Snapshot& s);
  Result<Change> take_delta(const Delta& d);
  void drop_endpoint(const TaskId& id, Change& change);
  void drop_kept_of(const AgentId& agent, Change& change);
  void drop_all_kept(Change& change);

  Content content_;
  std::optional<Index> at_;
  std::uint64_t epoch_seen_ = 0;
  Root root_;                          // the farm's store, as far as this copy has heard of it
  std::set<TaskId> kept_;              // endpoints of an earlier epoch, not confirmed in this one
  std::set<TaskId> recalled_;          // of these, those that this process has from the disk only
  std::set<AgentId> whole_;            // agents of which this epoch's leader has told everything
  std::optional<bool> all_heard_;      // whether it waits for none any more; nothing: it does not say
};

}  // namespace croft::catalog
