#pragma once
// What the HTTP faces need of the leader: immutable views to read, and changes to ask for. Implemented by leader_service.

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cow_map.hpp"
#include "cluster/farm_view.hpp"
#include "orchestrator/orchestrator.hpp"

namespace croft::orchestrator {

/// The farm at one moment. Shared and immutable: read it on any thread.
struct View : cluster::FarmView {
  CowMap<AppId, std::shared_ptr<const AppView>> apps;
  std::vector<std::shared_ptr<const Deployment>> deployments;
  std::vector<std::shared_ptr<const catalog::Rule>> rules;
  std::vector<catalog::Balancer> balancers;
  std::string group_version;
};

struct Accepted {
  std::string version;
  DeploymentId deployment;
  std::shared_ptr<const View> after;       ///< a view that has the change
};

/// A line of the audit log.
struct AuditRecord {
  std::uint64_t number = 0;
  Wall when{};
  std::string who, from, what;             ///< "user ann"; an address; "PUT /v2/apps/service/fibonacci"
  std::vector<std::string> paths;          ///< apps concerned
  bool done = true;                        ///< false: it was refused, `reason` says why
  std::string reason = {};
  std::vector<std::string> changes = {};   ///< changes_of() it
};
struct AuditPage {
  std::vector<AuditRecord> records;        ///< oldest first
  std::uint64_t newest = 0;                ///< to go on behind
};

/// Callable from any executor; resumes the caller on its own.
class Leader {
 public:
  virtual ~Leader() = default;
  /// Newest published view (at most 5 ms old). Never null.
  [[nodiscard]] virtual std::shared_ptr<const View> view() const = 0;
  /// A view that has everything acknowledged before this call.
  virtual boost::asio::awaitable<std::shared_ptr<const View>> fresh_view() = 0;

  /// Computes the intent from the newest state on the leader's strand, commits it, applies it. `make` must be quick and must not suspend.
  using Make = std::function<std::expected<Intent, Refusal>(const Orchestrator& state, Now now)>;
  virtual boost::asio::awaitable<std::expected<Accepted, Refusal>> change(Make make) = 0;
  /// The steps of the deployment that this change would be, checked as the change itself; nothing is stored.
  virtual boost::asio::awaitable<std::expected<std::vector<Step>, Refusal>> rehearse(Make make) = 0;
  virtual boost::asio::awaitable<Result<std::vector<cluster::Task>>> kill_tasks(std::vector<TaskId> tasks) = 0;
  virtual boost::asio::awaitable<bool> reset_delay(AppId app) = 0;
  virtual boost::asio::awaitable<std::vector<std::string>> explain(AppId app) = 0;
  /// Any read that needs the core itself (stored versions). Same rules as Make.
  virtual boost::asio::awaitable<void> read(std::function<void(const Orchestrator&, Now)> reader) = 0;

  /// Events after `sequence` (newest_event(): from now on), waiting at most `limit`. A reader more than 4,096 behind gets nothing and should close.
  virtual boost::asio::awaitable<std::optional<std::vector<BusEvent>>> events_after(std::uint64_t sequence, Millis limit) = 0;
  [[nodiscard]] virtual std::uint64_t newest_event() const = 0;

  /// Tells the audit log of what is no change of intent (a task killed), or was refused; stored soon. Where nobody logs in there is no such log.
  virtual void note(AuditRecord) {}
};

/// Records of the store that are none of the orchestrator's: users and tokens, the cluster's CAs, its hosts, join tokens that are used up.
using Records = std::map<std::string, std::string>;

/// What the faces of these need of the leader. Callable from any executor.
class RecordKeeper {
 public:
  virtual ~RecordKeeper() = default;
  struct Seen {
    std::shared_ptr<const Records> records;  ///< nothing while this master does not lead
    std::uint64_t turn = 0;                  ///< raised by each change
  };
  [[nodiscard]] virtual Seen records() const = 0;
  /// The first with another turn than `seen`, or the present ones after `limit`.
  virtual boost::asio::awaitable<Seen> records_changed(std::uint64_t seen, Millis limit) = 0;
  /// Computes what is put and removed from the newest records on the leader's strand, commits it with `audit`. Nothing to change: nothing is stored.
  using MakeRecords = std::function<std::expected<coordination::Batch, Refusal>(const Records& records, Now now)>;
  virtual boost::asio::awaitable<std::expected<void, Refusal>> change_records(MakeRecords make, AuditRecord audit) = 0;
  virtual boost::asio::awaitable<std::optional<AuditPage>> audit(std::uint64_t after, std::size_t limit, bool last, std::function<bool(const AuditRecord&)> shows) = 0;
};

}  // namespace croft::orchestrator
