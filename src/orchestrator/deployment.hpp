#pragma once
// Deployments as plain data: what a change is carried out by, what waits, what failed.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "cluster/cluster.hpp"
#include "model/catalog.hpp"
#include "orchestrator/app.hpp"

namespace croft::orchestrator {

enum class ActionKind : std::uint8_t { start, scale, restart, stop };  ///< StartApplication, ScaleApplication …
struct Action {
  ActionKind kind;
  AppId app;
  bool operator==(const Action&) const = default;
};
using Step = std::vector<Action>;

struct Deployment {
  DeploymentId id;
  std::string version;                                  ///< of the change that made it
  std::vector<Step> steps;
  std::size_t current = 0;                              ///< index into steps; == size when done
  std::map<AppId, std::optional<App>> original, target; ///< of the affected apps; nothing: did not exist / shall not exist
  std::map<AppId, std::vector<TaskId>> victims;         ///< kill-and-scale: these first
  std::vector<DeploymentId> behind;                     ///< waits until these are finished (a POST behind a DELETE of the same id)
  Wall started{};
};

/// Marathon's lastTaskFailure.
struct TaskFailure {
  AppId app; TaskId task; AgentId agent;
  std::string host, message, reason, version;
  TaskState state = TaskState::failed;
  Wall at{};
};

/// An app that has instances to launch, and why they are not there yet.
struct QueueItem {
  AppId app;
  std::string version;
  std::uint32_t count = 0;
  Wall since{};
  Millis delay_left{0};                                 ///< > 0: back-off applies ("Delayed"); 0: waits for room ("Waiting")
  std::uint32_t failures = 0;                           ///< consecutive, behind the present delay
  std::uint32_t agents_considered = 0;
  std::vector<cluster::Refused> refused;
  std::array<std::uint32_t, 11> by_reason{};            ///< of all agents that could not take one more, by cluster::Refusal
};

/// A task that is draining, and what decided when TERM came. Shown by explain and the events.
enum class DrainEnd : std::uint8_t { none, no_balancer, confirmed_idle, drain_time_over, lease_ended };

/// What happened, for the event streams; faces give it its wire form.
struct BusEvent {
  enum class Kind : std::uint8_t {
    api_post,                 // app: an app definition was accepted (text: the path, origin: who asked)
    deployment_info, deployment_step_success, deployment_success, deployment_failed, group_change_success,
    status_update, instance_changed, instance_health_changed, health_status_changed, failed_health_check, unhealthy_kill,
    app_terminated, add_health_check /* definition */, remove_health_check, drain_started, drain_ended, progress, rule_changed,
  };
  Kind kind;
  std::uint64_t sequence = 0;
  Wall at{};
  AppId app;
  std::shared_ptr<const App> definition;                // api_post
  std::shared_ptr<const Deployment> deployment;
  std::shared_ptr<const cluster::Task> task;            // as it was at that moment
  std::string text, origin;
};

/// An app with everything the faces show of it. Immutable once published.
struct AppView {
  std::shared_ptr<const App> app;                       ///< never null in a view that is published
  cluster::TaskCounts counts;
  std::vector<DeploymentId> deployments;
  std::optional<TaskFailure> last_failure;
  std::shared_ptr<const std::vector<TaskId>> tasks = std::make_shared<const std::vector<TaskId>>();  ///< never null
  std::optional<QueueItem> queue;
  std::vector<std::string> versions;                    ///< newest first
};

}  // namespace croft::orchestrator
