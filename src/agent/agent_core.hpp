#pragma once
// The agent's end of the link, as decisions. Pure: the shell brings records and statuses, and carries out what comes back.

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "model/link.hpp"

namespace croft::agent {

/// What the agent remembers of its farm, on disk before it counts.
struct Membership {
  AgentId id;
  std::string cluster_id;
  std::uint64_t epoch = 0, commit = 0;
  std::uint64_t lives = 0;                ///< processes that have begun with this disk, the present one included
  bool operator==(const Membership&) const = default;
};

struct Decisions {
  std::vector<TaskSpec> start;            ///< record the launch, then start
  std::vector<std::pair<TaskId, link::Goal>> goals;  ///< now drain or kill
  std::vector<TaskId> forget;             ///< terminal and acknowledged: the record may go
  std::vector<std::string> secrets;       ///< known only now, or with another value: launches may wait for them, files in running tasks follow
  std::vector<link::Exec> exec;           ///< commands to run inside tasks, once
  bool persist = false;                   ///< membership changed: to disk before anything else of this is done
  bool report = false;                    ///< the leader should hear from us soon
};

/// Shape    one object for the agent's life. `held` tasks come from the run folders at the start.
/// Errors   conflict: drop this stream and register anew (a gap, another cluster, an older epoch).
class AgentCore {
 public:
  struct Options { Millis resend_first{1000}, resend_max{60'000}; std::uint64_t seed = 0; };
  explicit AgentCore(Membership membership) : AgentCore(std::move(membership), Options()) {}
  AgentCore(Membership membership, Options options) : membership_(std::move(membership)), options_(options), dice_(options.seed) {}

  void adopt(link::HeldTask held);        ///< from disk, before the first registration
  [[nodiscard]] link::Registration registration(const link::AgentInfo& info);
  Result<Decisions> on_down(const link::Down& record, Now now);
  void disconnected();

  /// A status to tell; gets its uuid here. One in flight a task, in order.
  void update(TaskStatus status, Now now);
  void progress(TaskId task, std::string text);
  /// What to send now; nothing when there is nothing. Unacknowledged statuses come again after their back-off.
  std::optional<link::Report> next_report(Now now);
  /// When next_report may have something again.
  [[nodiscard]] Mono next_due(Now now) const;

  [[nodiscard]] const Membership& membership() const { return membership_; }
  [[nodiscard]] const link::HeldTask* task(const TaskId& id) const;
  [[nodiscard]] std::vector<const link::HeldTask*> tasks() const;
  /// Whether the wanted set of the present leader names it; others run on, quarantined.
  [[nodiscard]] bool wanted(const TaskId& id) const { return wanted_.contains(id); }
  /// Values of a task's secrets, in the spec's order. Errors: unavailable (the leader has not told of one yet: after Decisions::secrets it may have),
  /// not_found (there is none of that name).
  [[nodiscard]] Result<std::vector<SecretValue>> secrets_of(const TaskSpec& spec) const;
  /// As last told; null: not told yet.
  [[nodiscard]] const SecretValue* secret(const std::string& name) const;

 private:
  struct Pending { TaskStatus status; Mono due{}; Millis wait{0}; };
  struct Entry { link::HeldTask held; std::deque<Pending> unacked; };
  void work_in(const link::WantedTask& w, Decisions& out);
  std::string new_uuid();

  Membership membership_;
  Options options_;
  std::uint64_t dice_;
  std::map<TaskId, Entry> tasks_;
  std::set<TaskId> wanted_;
  std::string subscription_, life_;
  std::uint64_t epoch_ = 0, n_ = 0, told_n_ = 0, number_ = 0, registrations_ = 0;
  bool in_step_ = false;                  // a snapshot of this subscription was worked in
  Millis heartbeat_{5000};
  Mono last_report_{};
  std::vector<link::Progress> progress_;
  std::map<std::string, SecretValue> secrets_;  // as last told, in whatever stream
};

}  // namespace croft::agent
