// Names of what can be planted and of what is counted.

#include "sim/sim.hpp"

namespace croft::sim {

namespace {

constexpr BugInfo all_bugs[] = {
    {Bug::ack_before_commit, "ack-before-commit", "a change is acknowledged before the store has it", 1},
    {Bug::unknown_is_done, "unknown-is-done", "a commit whose outcome is unknown counts as done", 1},
    {Bug::launch_not_recorded, "launch-not-recorded", "a launch is started without its record on disk", 1},
    {Bug::agents_not_stored, "agents-not-stored", "a new leader does not know which agents there were", 1},
    {Bug::lost_kill_record, "lost-kill-record", "the store drops the kills that users asked for", 148},
    {Bug::fence_open, "fence-open", "a deposed leader's commit is let through", 6},
    {Bug::lease_ignored, "lease-ignored", "a leader gives commands although its lease has run out", 6},
    {Bug::epoch_forgotten, "epoch-forgotten", "an agent does not look at the epoch", 9},
    {Bug::epoch_not_synced, "epoch-not-synced", "an agent's epoch is not on disk when it counts", 49},
    {Bug::old_store_accepted, "old-store-accepted", "an agent does not look at cluster id and commit", 5},
    {Bug::partial_snapshot, "partial-snapshot", "a new leader calls agents complete that have not come back", 1},
    {Bug::old_confirmation_taken, "old-confirmation-taken", "a balancer's confirmation of another epoch counts", 7},
    {Bug::confirmed_too_early, "confirmed-too-early", "a balancer confirms before its data plane follows", 1},
    {Bug::status_acked_unprocessed, "status-acked-unprocessed", "a status is acknowledged and then lost", 1},
    {Bug::held_not_listed, "held-not-listed", "a registration leaves out what has not started: it is launched again after a fail-over", 6},
    {Bug::drain_not_listed, "drain-not-listed", "a registration leaves out that a task drains: it is in rotation again", 1},
    {Bug::reservation_leaked, "reservation-leaked", "room is reserved and never used nor given back", 1},
    {Bug::exit_lost, "exit-lost", "an end while the agent was down is not told", 4},
    {Bug::drain_taken_as_kill, "drain-taken-as-kill", "an agent kills what it was told to drain", 1},
    {Bug::doubt_ignored, "doubt-ignored", "a balancer that was restarted sets its data plane back to an old copy of the catalog", 96},
    {Bug::secret_files_forgotten, "secret-files-forgotten", "an agent that was restarted does not write a secret anew that changed meanwhile", 28},
    {Bug::drained_nodes_forgotten, "drained-nodes-forgotten", "a new leader does not know which nodes were to be empty", 1},
};

constexpr std::string_view probe_names[] = {
    "leader killed", "leader frozen", "leader kept in office by force", "leader hands over", "session lost", "commit fenced", "unknown outcome was applied", "unknown outcome was not applied", "late commit refused",
    "lease ran out", "registration refused: epoch", "registration refused: commit", "registration refused: cluster id", "stale report refused", "overtaken registration refused",
    "gap in a stream", "agent too far behind", "launch begun again", "launch cut off by the agent's death", "killed before its start", "agent unreachable", "agent back with tasks it was given up with", "surplus after a return", "host rebooted",
    "disk lost", "unsynced writes lost", "drain ended by confirmations", "drain ended by its time", "drain ended by a lease's end", "drain without a balancer", "drain adopted after a fail-over", "kill adopted after a fail-over",
    "removed while its agent was away, reaped", "instances charged to absent agents", "mass-loss brake", "task quarantined", "end points kept over a fail-over", "follower resumed by deltas", "follower got a snapshot again",
    "follower restored from disk", "confirmation of an old epoch", "deployment resumed after a fail-over", "deployment forced", "deployment rolled back", "deployment waits behind another", "back-off grew", "killed by its health check", "store refused a commit",
    "progress stored at the second try", "request arrived twice", "request arrived after a cut", "leader, agent and balancer killed at once",
    "kept in an adopted HAProxy until its agent was heard", "launch failed for want of a secret", "launch of a former life waited for its secrets", "secret changed under a running task",
    "moved from a node that is drained", "drained node was empty", "drained node taken back", "silent node called down",
};
static_assert(std::size(probe_names) == probe_count);

}  // namespace

std::span<const BugInfo> bugs() { return all_bugs; }

std::optional<Bug> bug_named(std::string_view name) {
  if (name.empty()) return Bug::none;
  for (const auto& b : all_bugs)
    if (b.name == name) return b.bug;
  return std::nullopt;
}

std::string_view probe_name(Probe p) { return probe_names[static_cast<std::size_t>(p)]; }

}  // namespace croft::sim
