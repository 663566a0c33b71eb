#pragma once
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "model/catalog.hpp"

namespace croft::catalog {

/// What changed since the last flush, by name: the delta takes the values that hold then.
struct Unflushed {
  std::set<AppId> services, rules;
  std::set<TaskId> endpoints;
  std::set<AgentId> nodes;
  std::set<BalancerId> balancers;
  std::vector<AgentId> complete;
  bool masters = false, all_heard = false;
};

/// The leader's end of the catalog: holds the content of its epoch, turns changes into numbered deltas, and keeps the drain ledger of which
/// balancers have confirmed what. Pure; on the leader's strand.
class Publisher {
 public:
  /// Balancers confirm every 250 ms. One that is silent is no longer named to clients; drains go on waiting for it until its lease ends, since its
  /// HAProxy may well serve on.
  struct Options { std::uint64_t epoch = 0; Millis lease{3000}, silent{600}; std::size_t backlog_max = 1u << 20; /* bytes of deltas kept */ Root root{}; };
  explicit Publisher(Options options);

  // Changes are collected and become one delta at flush(). Setting what is already so is nothing.
  void set(Service s);             void remove_service(const AppId& app);
  void set(Endpoint e);            void remove_endpoint(const TaskId& task);
  void set(Rule r);                void remove_rule(const AppId& app);
  void set(Node n);                void remove_node(const AgentId& id);  ///< lost for good: followers forget what they kept of it
  void set_masters(std::vector<Master> masters);
  void committed(std::uint64_t commit);  ///< the store's newest one
  [[nodiscard]] const Root& root() const { return options_.root; }
  void complete(const AgentId& agent);   ///< all of this agent's endpoints are in
  void all_heard();                      ///< no agent of an earlier epoch is waited for any more: followers forget what they kept
  /// Ends the collection: the new index if anything changed. Everything set before has an index <= it.
  Index flush();
  [[nodiscard]] Index index() const { return at_; }
  /// The index that has everything set until now: the next one while there is something to flush.
  [[nodiscard]] Index pending() const { return {at_.epoch, at_.n + (dirty_ ? 1 : 0)}; }
  [[nodiscard]] const Content& content() const { return content_; }
  /// How many of an app's endpoints are in rotation; 0 when its service is not there.
  [[nodiscard]] std::size_t serving(const AppId& app) const;
  /// Those that run and fail their check.
  [[nodiscard]] const std::set<TaskId>& last_resort(const AppId& app) const;

  /// What a follower at `after` gets next, as encoded lines (no newline): the missing deltas, or one snapshot when it is of
  /// another epoch, too old, or ahead. Shared: all followers send the same bytes.
  [[nodiscard]] std::vector<std::shared_ptr<const std::string>> since(std::optional<Index> after) const;

  // --- leases and confirmations ---
  void confirm(const Confirmation& c, Now now);     ///< of another epoch: renews the lease only
  void tick(Now now);                               ///< ends leases, and names no balancer that has fallen silent unless it is the last
  /// The live balancers at this moment: the set that a drain waits for.
  [[nodiscard]] std::vector<BalancerId> live() const;
  /// Whether every balancer of `wait_for` that still has a lease has confirmed `at` or later.
  [[nodiscard]] bool confirmed(const std::vector<BalancerId>& wait_for, Index at) const;
  /// Sum of the open requests of a task that balancers have told. One that confirmed the drain and tells none has none.
  [[nodiscard]] std::uint32_t open_requests(const TaskId& task) const;

 private:
  struct Lease { Balancer balancer; Index applied; Mono heard; std::map<TaskId, std::uint32_t> open; };
  /// Of one app: what its endpoints say, counted, because it is asked at every change of any of them.
  struct Tally { std::size_t serve_checked = 0, serve_unchecked = 0, endpoints = 0; std::set<TaskId> last_resort; };
  void count(const Endpoint& e, bool comes);
  struct Kept { Index at; std::shared_ptr<const std::string> line; };
  [[nodiscard]] Delta delta_of(const Unflushed& dirty) const;

  Options options_;
  Index at_;
  Content content_;
  std::map<AppId, Tally> tallies_;     // of content_.endpoints
  std::optional<Unflushed> dirty_;
  std::set<AgentId> complete_;         // agents of which every endpoint is in content_; those removed too (they have none)
  bool all_heard_ = false;
  std::deque<Kept> backlog_;
  std::size_t backlog_bytes_ = 0;
  mutable std::shared_ptr<const std::string> snapshot_;   // of at_, made on demand
  std::map<BalancerId, Lease> leases_;
  Mono ticked_{};
};

}  // namespace croft::catalog
