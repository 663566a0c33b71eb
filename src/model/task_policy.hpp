#pragma once
// What a manifest may ask of a host: of its Docker Engine, and whose processes its own may be. The master refuses what breaks it when it is posted,
// the agent once more at the start.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/task.hpp"

namespace croft {

/// An option of `docker run` that a manifest may give as a parameter.
struct DockerOption {
  std::string_view name;      ///< the long form, without dashes
  bool beyond = false;        ///< gives something outside of the container: only where the policy names it
};
/// By any spelling: "env", "--env", "-e", "e". Null: not known, or not a manifest's business (ports, names, restarts are croft's).
const DockerOption* find_docker_option(std::string_view key);

/// What gives root on a host is refused unless the farm's operator allows it.
struct TaskPolicy {
  bool privileged = false;
  std::vector<std::string> host_paths;   ///< folders that may be mounted, with what is below; "/" allows all
  std::vector<std::string> parameters;   ///< long names of options beyond the container; "*" allows all
  /// Users of the host that a task without an image may run as, beside the node's own choice for those that name none; "*" allows all.
  std::vector<std::string> users;
  struct Group;
  std::vector<Group> groups;             ///< what more is allowed to admins, for apps at or below a group
  /// Ports of the node, beside an app's own, that health checks may ask ("9000-9100"; "*": all). Nothing: all.
  std::optional<std::vector<std::string>> check_ports;
};
struct TaskPolicy::Group {
  std::string path;                      ///< "/infra"
  bool privileged = false;
  std::vector<std::string> host_paths, parameters, users;
};
/// What holds for an app: the farm's part, and for `admin` that of every group above it.
TaskPolicy policy_at(const TaskPolicy& policy, std::string_view app, bool admin);

struct PolicyProblem {
  std::string path;           ///< in the manifest: "/container/docker/parameters(0)/key"
  std::string words;
};
std::vector<PolicyProblem> check_policy(const DockerSpec& docker, const std::vector<Volume>& volumes, const TaskPolicy& policy);
/// `user` is a manifest's for a task without an image; "": none.
std::optional<PolicyProblem> check_user(const std::string& user, const TaskPolicy& policy);
/// A check's own `port` reaches whatever listens there on the node: it must be one of `own`, or one that policy names.
std::vector<PolicyProblem> check_probes(const std::vector<HealthCheck>& checks, const std::vector<std::uint16_t>& own, const TaskPolicy& policy);
/// Those on the node that were given to it.
std::vector<std::uint16_t> own_ports(const TaskSpec& spec);
/// Processes and threads of a container: without a word from the manifest, and as many as it may ask for.
constexpr std::int64_t pids_default = 4096, pids_allowed = 32'768;
/// Whether `path` lies in one of `folders`, after "." and ".." are resolved on paper. Links are the agent's to look at.
bool path_within(std::string_view path, const std::vector<std::string>& folders);

}  // namespace croft
