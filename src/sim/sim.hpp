#pragma once
// The farm under a virtual clock: what can be run, what can be planted, what is counted. README.md says what is in it.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace croft::sim {

/// Mistakes that can be planted, each at a seam of the simulation: in one of its own shells, its store, or between them and a core. A
/// simulation that does not find them proves nothing.
enum class Bug : std::uint8_t {
  none, ack_before_commit, unknown_is_done, launch_not_recorded, agents_not_stored, lost_kill_record, fence_open, lease_ignored, epoch_forgotten,
  epoch_not_synced, old_store_accepted, partial_snapshot, old_confirmation_taken, confirmed_too_early, status_acked_unprocessed, held_not_listed, drain_not_listed,
  reservation_leaked, exit_lost, drain_taken_as_kill, doubt_ignored, secret_files_forgotten,
  drained_nodes_forgotten,
};
struct BugInfo {
  Bug bug;
  std::string_view name, what;
  std::uint64_t seed = 0;           ///< one that finds it within five minutes
};
std::span<const BugInfo> bugs();                      ///< all but none
std::optional<Bug> bug_named(std::string_view name);  ///< "" is none

/// Rare branches: a run that never comes there says little about them.
enum class Probe : std::uint8_t {
  leader_killed, leader_frozen, leader_rogue, leader_handed_over, session_lost, fenced_commit, unknown_applied, unknown_dropped, late_commit_refused, lease_ran_out,
  registration_refused_epoch, registration_refused_commit, registration_refused_cluster, stale_report_refused, old_registration_refused, stream_gap, stream_behind,
  unstored_launch_again, launch_cut_off, killed_before_start, agent_unreachable, agent_back_with_tasks, surplus_after_return, host_rebooted, disk_lost, unsynced_lost,
  drain_confirmed, drain_time_over, drain_lease_ended, drain_without_balancer, drain_adopted, kill_adopted, removed_reaped, held_back, brake_on, quarantined,
  catalog_kept_over_failover, catalog_delta_resumed, catalog_snapshot_again, follower_restored, confirmation_of_old_epoch, deployment_resumed, deployment_forced, deployment_rolled_back,
  deployment_waits_behind, backoff_grew, health_killed, store_refused, background_retried, duplicate_delivered, late_delivered, machine_killed, unheard_kept, launch_without_secret, launch_waited_for_secret, secret_rotated,
  moved_from_drained, node_emptied, node_taken_back, node_called_down,
  count_,
};
inline constexpr std::size_t probe_count = static_cast<std::size_t>(Probe::count_);
std::string_view probe_name(Probe p);
using Probes = std::array<std::uint64_t, probe_count>;

struct RunOptions {
  std::uint64_t seed = 1;
  double minutes = 10;
  Bug bug = Bug::none;
  std::string check;                ///< the only check that counts; "": all
  std::size_t log_max = 400;        ///< lines kept of what happened
};

struct RunResult {
  std::string failure;              ///< "" when every check held; else its id and words: "C5: …"
  std::uint64_t steps = 0, trace = 0;  ///< trace: a hash over everything that happened, equal for equal runs
  std::int64_t converged_ms = 0;    ///< virtual time from the end of the faults until everything was as wanted
  Probes probes{};
  std::vector<std::string> log;     ///< the last events before the failure
};

RunResult run(const RunOptions& options);

/// A fail-over at size, with the real cores and as many agents: what it costs.
struct ScaleOptions {
  std::uint32_t agents = 10'000, tasks = 100'000, apps = 1'000;
};
struct ScaleResult {
  std::string failure;
  std::uint32_t agents = 0, tasks = 0;
  double launch_seconds = 0;        ///< CPU of the leader's cores until everything ran the first time
  double load_seconds = 0;          ///< of the new leader: intent from the store
  double adopt_seconds = 0;         ///< until every task is accounted for; registrations already decoded
  double decode_seconds = 0;        ///< reading the registrations' JSON
  double longest_turn_seconds = 0;  ///< the longest hold of the strand meanwhile
  double bytes_a_task = 0;          ///< resident memory of the new leader's cores, a task
  double registration_bytes = 0;    ///< on the wire, all agents
};
ScaleResult run_scale(const ScaleOptions& options);

}  // namespace croft::sim
