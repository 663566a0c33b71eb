#include "model/task_policy.hpp"

#include <algorithm>
#include <filesystem>

#include "base/error.hpp"
#include "base/text.hpp"
#include "model/resources.hpp"

namespace croft {

namespace {

constexpr bool inside = false, beyond = true;

constexpr DockerOption options[] = {
    {"add-host", inside}, {"annotation", inside}, {"blkio-weight", inside}, {"cap-add", beyond}, {"cap-drop", inside}, {"cgroup-parent", beyond}, {"cgroupns", beyond},
    {"cpu-period", inside}, {"cpu-quota", inside}, {"cpu-shares", inside}, {"cpus", inside}, {"cpuset-cpus", inside}, {"cpuset-mems", inside}, {"device", beyond},
    {"device-cgroup-rule", beyond}, {"dns", inside}, {"dns-option", inside}, {"dns-search", inside}, {"domainname", inside}, {"entrypoint", inside}, {"env", inside},
    {"expose", inside}, {"group-add", inside}, {"hostname", inside}, {"init", inside}, {"ip", inside}, {"ipc", beyond}, {"label", inside}, {"log-driver", inside},
    {"log-opt", inside}, {"mac-address", inside}, {"memory-reservation", inside}, {"memory-swap", inside}, {"memory-swappiness", inside}, {"network", beyond},
    {"network-alias", inside}, {"no-healthcheck", inside}, {"oom-kill-disable", beyond}, {"oom-score-adj", beyond}, {"pid", beyond}, {"pids-limit", inside},
    {"privileged", beyond}, {"read-only", inside}, {"runtime", beyond}, {"security-opt", beyond}, {"shm-size", inside}, {"stop-signal", inside}, {"stop-timeout", inside},
    {"sysctl", beyond}, {"tmpfs", inside}, {"ulimit", inside}, {"user", inside}, {"userns", beyond}, {"uts", beyond}, {"volume", beyond}, {"volume-driver", beyond},
    {"volumes-from", beyond}, {"workdir", inside},
};

constexpr std::pair<std::string_view, std::string_view> aliases[] = {{"e", "env"}, {"h", "hostname"}, {"l", "label"}, {"u", "user"}, {"w", "workdir"}, {"v", "volume"},
                                                                     {"net", "network"}, {"net-alias", "network-alias"}, {"dns-opt", "dns-option"}, {"c", "cpu-shares"}};

/// Whoever speaks to the Engine is root on its host, whatever else the policy says: its socket, and the folders whose only use would be the socket.
constexpr std::string_view no_engine = "the container engine's socket is given to nobody";
bool names_engine(std::string_view value) {
  for (auto socket : {"docker.sock", "containerd.sock"})
    if (value.find(socket) != std::string_view::npos) return true;
  auto path = std::filesystem::path(value.substr(0, value.find(':'))).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path == "/run" || path == "/var/run" || path.starts_with("/run/docker") || path.starts_with("/var/run/docker") || path.starts_with("/run/containerd") || path.starts_with("/var/run/containerd");
}

/// What depends on the value: where the Engine sends a container's output, as root and from the host's network, and how much of the host it may fill.
bool reaches_out(std::string_view option, std::string_view value) {
  auto one_of = [](std::string_view what, std::initializer_list<std::string_view> all) { return std::find(all.begin(), all.end(), what) != all.end(); };
  if (option == "log-driver") return !one_of(value, {"json-file", "local", "none"});
  if (option == "log-opt") return !one_of(value.substr(0, value.find('=')), {"max-size", "max-file", "labels", "labels-regex", "env", "env-regex", "tag", "compress", "mode", "max-buffer-size"});
  if (option != "pids-limit") return false;
  auto count = to_int(value);
  return !count || *count < 1 || *count > pids_allowed;
}

/// A name that Docker would not take for one of its modes.
bool is_network_name(std::string_view name) {
  auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  if (name.empty() || !plain(name[0]) || !std::all_of(name.begin(), name.end(), [&](char c) { return plain(c) || c == '_' || c == '.' || c == '-'; })) return false;
  return name != "host" && name != "none" && name != "default" && name != "container";
}

std::string joined(const std::vector<std::string>& all) {
  std::string out;
  for (const auto& one : all) out += (out.empty() ? "" : ", ") + one;
  return out.empty() ? "none" : out;
}

}  // namespace

const DockerOption* find_docker_option(std::string_view key) {
  while (key.starts_with('-')) key.remove_prefix(1);
  for (const auto& [alias, name] : aliases)
    if (key == alias) key = name;
  const auto* at = std::find_if(std::begin(options), std::end(options), [&](const auto& o) { return o.name == key; });
  return at == std::end(options) ? nullptr : at;
}

bool path_within(std::string_view path, const std::vector<std::string>& folders) {
  auto plain = [](std::string_view text) {
    auto out = std::filesystem::path(text).lexically_normal().string();
    while (out.size() > 1 && out.ends_with('/')) out.pop_back();
    return out;
  };
  auto wanted = plain(path);
  if (!wanted.starts_with('/')) return false;
  return std::any_of(folders.begin(), folders.end(), [&](const auto& folder) {
    auto root = plain(folder);
    return root == "/" || wanted == root || (wanted.starts_with(root) && wanted[root.size()] == '/');
  });
}

TaskPolicy policy_at(const TaskPolicy& policy, std::string_view app, bool admin) {
  TaskPolicy out{policy.privileged, policy.host_paths, policy.parameters, policy.users, {}, policy.check_ports};
  if (!admin) return out;
  for (const auto& g : policy.groups) {
    bool covers = g.path == "/" || (app.starts_with(g.path) && (app.size() == g.path.size() || app[g.path.size()] == '/'));
    if (!covers) continue;
    out.privileged = out.privileged || g.privileged;
    out.host_paths.insert(out.host_paths.end(), g.host_paths.begin(), g.host_paths.end());
    out.parameters.insert(out.parameters.end(), g.parameters.begin(), g.parameters.end());
    out.users.insert(out.users.end(), g.users.begin(), g.users.end());
  }
  return out;
}

std::optional<PolicyProblem> check_user(const std::string& user, const TaskPolicy& policy) {
  if (user.empty() || std::any_of(policy.users.begin(), policy.users.end(), [&](const auto& u) { return u == "*" || u == user; })) return std::nullopt;
  return PolicyProblem{"/user", fmt::format("tasks may not run as '{}' on this farm (allow_users): {}", user, joined(policy.users))};
}

std::vector<PolicyProblem> check_probes(const std::vector<HealthCheck>& checks, const std::vector<std::uint16_t>& own, const TaskPolicy& policy) {
  std::vector<PolicyProblem> out;
  if (!policy.check_ports) return out;
  auto allowed = [&](std::uint16_t port) {
    if (std::find(own.begin(), own.end(), port) != own.end()) return true;
    return std::any_of(policy.check_ports->begin(), policy.check_ports->end(), [&](const auto& text) {
      auto ports = PortSet::parse(text);
      return text == "*" || (ports && ports->contains(port));
    });
  };
  for (std::size_t i = 0; i < checks.size(); ++i)
    if (checks[i].port && checks[i].kind != CheckKind::command && !allowed(*checks[i].port))
      out.push_back({fmt::format("/healthChecks({})/port", i), fmt::format("{} is none of the app's own ports; of the node's others checks may ask (allow_check_ports): {}", *checks[i].port, joined(*policy.check_ports))});
  return out;
}

std::vector<std::uint16_t> own_ports(const TaskSpec& spec) {
  std::vector<std::uint16_t> out;
  for (const auto& p : spec.ports)
    if (p.host_port != 0) out.push_back(p.host_port);
  return out;
}

std::vector<PolicyProblem> check_policy(const DockerSpec& docker, const std::vector<Volume>& volumes, const TaskPolicy& policy) {
  std::vector<PolicyProblem> out;
  if (docker.privileged && !policy.privileged) out.push_back({"/container/docker/privileged", "privileged containers are not allowed on this farm (allow_privileged)"});
  if (docker.network == NetworkMode::container && !is_network_name(docker.network_name))
    out.push_back({"/networks(0)/name", fmt::format("'{}' is no network of the Docker Engine's", docker.network_name)});
  for (std::size_t i = 0; i < docker.parameters.size(); ++i) {
    const auto& key = docker.parameters[i].first;
    auto path = fmt::format("/container/docker/parameters({})/key", i);
    const auto* option = find_docker_option(key);
    auto allowed = [&](std::string_view name) { return std::any_of(policy.parameters.begin(), policy.parameters.end(), [&](const auto& p) { return p == "*" || p == name; }); };
    if (!option) out.push_back({path, fmt::format("'{}' is not a parameter that croft can give to Docker", key)});
    else if (option->beyond && names_engine(docker.parameters[i].second)) out.push_back({fmt::format("/container/docker/parameters({})/value", i), std::string(no_engine)});
    else if ((option->beyond || reaches_out(option->name, docker.parameters[i].second)) && !allowed(option->name)) out.push_back({path, fmt::format("'{}' reaches beyond the container and is not allowed on this farm (allow_docker_parameters)", key)});
  }
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    const auto& host = volumes[i].host_path;
    auto path = fmt::format("/container/volumes({})/hostPath", i);
    auto steps = std::filesystem::path(host).lexically_normal();
    if (host.empty()) continue;
    if (!host.starts_with('/') && steps.begin() != steps.end() && *steps.begin() == "..") out.push_back({path, "must not leave the sandbox"});
    if (names_engine(host)) out.push_back({path, std::string(no_engine)});
    else if (host.starts_with('/') && !path_within(host, policy.host_paths))
      out.push_back({path, fmt::format("'{}' is in none of the folders that may be mounted on this farm (allow_host_paths): {}", host, joined(policy.host_paths))});
  }
  return out;
}

}  // namespace croft
