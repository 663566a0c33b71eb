#pragma once
// The leader's shell: campaigns, takes over, owns the cores on one strand, commits, publishes views and serves the link.

#include <boost/asio/any_io_executor.hpp>

#include <functional>
#include <memory>
#include <string>

#include "base/metrics.hpp"
#include "coordination/store.hpp"
#include "model/task_policy.hpp"
#include "net/http.hpp"
#include "orchestrator/leader.hpp"
#include "secure/seal.hpp"

namespace croft::orchestrator {

struct LeaderOptions {
  std::string hostname, ip;                 ///< how agents and people reach this master
  std::uint16_t marathon_port = 8080, mesos_port = 5050;
  std::string version;                      ///< croft's
  struct Other { std::string hostname, ip; };
  std::vector<Other> other_masters;         ///< named in DNS beside this one
  Millis agent_timeout{10'000}, heartbeat{1'000}, balancer_lease{3'000};
  Options orchestrator;
  TaskPolicy policy;                        ///< what of a task makes a command in it an admin's
  /// Records that shall be there from the first term on (the first operator's token, the CAs), worked out of those that are.
  std::function<Result<coordination::Batch>(const Records&)> seed;
  /// The cluster's keys, under which secrets are sealed. Null on a farm without.
  std::shared_ptr<const secure::KeyRing> keys;
  /// Asked before and after an election is won: false where this host was put out. Nothing: it always may.
  std::function<bool()> may_lead;
  /// At the begin of a term and after each change; from the strand, quick.
  std::function<void(std::shared_ptr<const Records>)> records_changed;
};

/// Shape    start(), then campaigns and leads, term after term, until stop(). Leader's calls outside of a term answer `unavailable`.
/// Threads  every method from any executor; the cores only on the service's own strand.
/// Errors   a store that is corrupt, of a newer format or closed to this master is told by `failed`; one that is away is waited for.
class LeaderService final : public Leader, public RecordKeeper, public std::enable_shared_from_this<LeaderService> {
 public:
  static std::shared_ptr<LeaderService> make(boost::asio::any_io_executor pool, std::unique_ptr<coordination::Store> store,
                                             std::unique_ptr<coordination::Election> election, LeaderOptions options, Metrics& metrics);
  ~LeaderService() override;
  /// `failed` is called once, from the pool, when this master can never lead as things are.
  void start(std::function<void(Error)> failed);
  boost::asio::awaitable<void> stop();
  /// Ready when it leads and has loaded the intent.
  [[nodiscard]] bool leading() const;

  /// POST /croft/v1/agents, /croft/v1/agents/{id}/reports, GET /croft/v1/catalog, POST /croft/v1/catalog/confirmations,
  /// GET/PUT/DELETE /croft/v1/rules, DELETE /v2/leader.
  void add_link_routes(net::Router& router);
  /// Commands inside tasks: POST /croft/v1/exec, GET/POST/DELETE /croft/v1/exec/{session}, GET/POST /croft/v1/agents/{id}/exec/{session}.
  void add_exec_routes(net::Router& router);

  [[nodiscard]] std::shared_ptr<const View> view() const override;
  boost::asio::awaitable<std::shared_ptr<const View>> fresh_view() override;
  boost::asio::awaitable<std::expected<Accepted, Refusal>> change(Make make) override;
  boost::asio::awaitable<std::expected<std::vector<Step>, Refusal>> rehearse(Make make) override;
  boost::asio::awaitable<Result<std::vector<cluster::Task>>> kill_tasks(std::vector<TaskId> tasks) override;
  boost::asio::awaitable<bool> reset_delay(AppId app) override;
  boost::asio::awaitable<std::vector<std::string>> explain(AppId app) override;
  boost::asio::awaitable<void> read(std::function<void(const Orchestrator&, Now)> reader) override;
  boost::asio::awaitable<std::optional<std::vector<BusEvent>>> events_after(std::uint64_t sequence, Millis limit) override;
  [[nodiscard]] std::uint64_t newest_event() const override;
  void note(AuditRecord record) override;

  [[nodiscard]] Seen records() const override;
  boost::asio::awaitable<Seen> records_changed(std::uint64_t seen, Millis limit) override;
  boost::asio::awaitable<std::expected<void, Refusal>> change_records(MakeRecords make, AuditRecord audit) override;
  boost::asio::awaitable<std::optional<AuditPage>> audit(std::uint64_t after, std::size_t limit, bool last, std::function<bool(const AuditRecord&)> shows) override;

  struct Impl;

 private:
  LeaderService() = default;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::orchestrator
