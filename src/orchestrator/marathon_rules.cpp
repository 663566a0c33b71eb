// What must hold between the fields of a manifest, in Marathon's words where it had them.

#include <re2/re2.h>

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/secrets.hpp"

namespace croft::orchestrator {

namespace {

bool mapped(const App& app) { return !app.networks.empty() && app.networks[0].mode != NetworkMode::host; }

void check_command(const App& app, Problems& problems) {
  if (app.cmd && app.args) problems.meaning("", "AppDefinition must not contain both 'cmd' and 'args'.");
  bool command = (app.cmd && !app.cmd->empty()) || (app.args && !app.args->empty());
  if (!command && !app.docker) problems.meaning("", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.");
  static const re2::RE2 executor("(//cmd)|(/?[^/]+(/[^/]+)*)|");
  if (!re2::RE2::FullMatch(app.executor, executor)) problems.meaning("/executor", "must fully match regular expression '^(//cmd)|(/?[^/]+(/[^/]+)*)|$'");
  for (std::size_t i = 0; i < app.fetch.size(); ++i)
    if (app.fetch[i].uri.empty()) problems.meaning(fmt::format("/fetch({})/uri", i), "must not be empty");
}

constexpr std::size_t id_max = 200;          // a task's name is this and a UUID, and is a folder's name
constexpr std::size_t env_max = 4000;        // entries; the executor holds 4,096 words of all kinds
constexpr std::size_t texts_max = 1u << 20;  // bytes of cmd, args, env and labels together: versions, deployments, events and tasks all hold them
constexpr std::size_t word_max = 128u << 10; // bytes: Linux takes no longer argument or variable

void check_sizes(const App& app, Problems& problems) {
  if (app.id.str().size() > id_max) problems.meaning("/id", fmt::format("must not be longer than {} characters", id_max));
  if (app.env.size() + (app.args ? app.args->size() : 0) > env_max) problems.meaning(app.env.size() > env_max / 2 ? "/env" : "/args", fmt::format("env and args must not have more than {} entries together", env_max));
  if (app.cmd && app.cmd->size() >= word_max) problems.meaning("/cmd", fmt::format("must be shorter than {} bytes", word_max));
  for (std::size_t i = 0; app.args && i < app.args->size(); ++i)
    if ((*app.args)[i].size() >= word_max) problems.meaning(fmt::format("/args({})", i), fmt::format("must be shorter than {} bytes", word_max));
  for (const auto& [name, value] : app.env)
    if (name.size() + value.size() + 1 >= word_max) problems.meaning("/env/" + name, fmt::format("must be shorter than {} bytes", word_max));
  // As encoded: quotes, and signs that need a backslash or six.
  std::size_t labels = 0, others = 0;
  auto encoded = [](std::string_view text) { return std::move(JsonWriter().value(text)).take().size() + 1; };
  for (const auto& [name, value] : app.labels) labels += encoded(name) + encoded(value);
  for (const auto& [name, value] : app.env) others += encoded(name) + encoded(value);
  for (const auto& word : app.args.value_or(std::vector<std::string>())) others += encoded(word);
  others += encoded(app.cmd.value_or(""));
  if (labels + others > texts_max) problems.meaning(labels > others ? "/labels" : "", fmt::format("cmd, args, env and labels must not have more than {} bytes together", texts_max));
}

void check_networks(const App& app, Problems& problems) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < app.networks.size(); ++i) {
    const auto& n = app.networks[i];
    auto path = fmt::format("/networks({})", i);
    if (n.mode != app.networks[0].mode) problems.meaning("/networks", "networks of different modes cannot be combined");
    if (n.mode != NetworkMode::container) {
      if (!n.name.empty()) problems.meaning(path + "/name", "is only allowed for container networks");
      if (i > 0) problems.meaning("/networks", "must not have more than one host or bridge network");
    } else if (!names.insert(n.name).second) {
      problems.meaning(path + "/name", "Network names must be unique.");
    }
  }
  if (!mapped(app)) return;
  for (std::size_t i = 0; i < app.ports.size(); ++i)
    for (const auto& name : app.ports[i].network_names)
      if (!names.contains(name)) problems.meaning(fmt::format("/container/portMappings({})/networkNames", i), fmt::format("{} is none of the app's networks", name));
}

void check_ports(const App& app, Problems& problems) {
  static const re2::RE2 good_name("[a-z][a-z0-9-]*");
  std::string list = mapped(app) ? "/container/portMappings" : "/portDefinitions";
  std::set<std::string> names;
  std::set<int> numbers;
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    const auto& p = app.ports[i];
    if (!p.name.empty() && !re2::RE2::FullMatch(p.name, good_name)) problems.meaning(fmt::format("{}({})/name", list, i), "must fully match regular expression '^[a-z][a-z0-9-]*$'");
    if (!p.name.empty() && !names.insert(p.name).second) problems.meaning(list, "Port names must be unique.");
    int port = mapped(app) ? p.host_port.value_or(0) : p.port;
    if (port != 0 && !numbers.insert(port).second) problems.meaning(list, "Ports must be unique.");
  }
}

void check_checks(const App& app, Problems& problems) {
  int of_mesos = 0;
  for (std::size_t i = 0; i < app.health_checks.size(); ++i) {
    const auto& c = app.health_checks[i];
    auto path = fmt::format("/healthChecks({})", i);
    if (std::find(app.health_checks.begin(), app.health_checks.begin() + static_cast<std::ptrdiff_t>(i), c) != app.health_checks.begin() + static_cast<std::ptrdiff_t>(i))
      problems.meaning("/healthChecks", "Elements must be unique");
    if (std::any_of(c.path.begin(), c.path.end(), [](unsigned char ch) { return ch < 0x20 || ch == 0x7f; })) problems.meaning(path + "/path", "must not contain control characters");
    // Marathon took 0 and asked without a pause, or gave no answer the time to come.
    for (auto [key, value] : {std::pair{"/intervalSeconds", c.interval}, std::pair{"/timeoutSeconds", c.timeout}})
      if (value < Millis(1000)) problems.meaning(path + key, fmt::format("got {}, expected 1 or more", value.count() / 1000));
    of_mesos += c.kind == CheckKind::command || c.protocol_name.starts_with("MESOS_");
    if (c.kind == CheckKind::command) continue;
    if (c.port_index && c.port) problems.meaning(path, "must not specify both portIndex and port");
    if (!c.port && (app.ports.empty() || c.port_index.value_or(0) >= app.ports.size()))
      problems.meaning(path + "/portIndex", "Health check port indices must address an element of the ports array or container port mappings.");
  }
  if (of_mesos > 1) problems.meaning("/healthChecks", "AppDefinition can contain at most one Mesos health check");
  if (app.readiness_checks.size() > 1) problems.meaning("/readinessChecks", "AppDefinition can contain at most one readiness check");
  for (std::size_t i = 0; i < app.readiness_checks.size(); ++i) {
    const auto& r = app.readiness_checks[i];
    auto path = fmt::format("/readinessChecks({})", i);
    if (r.timeout >= r.interval) problems.meaning(path + "/timeoutSeconds", "must be less than intervalSeconds");
    if (r.ready_statuses.empty()) problems.meaning(path + "/httpStatusCodesForReady", "must not be empty");
    if (std::none_of(app.ports.begin(), app.ports.end(), [&](const PortDefinition& p) { return p.name == r.port_name; }))
      problems.meaning(path + "/portName", fmt::format("No port definition reference for portName {}", r.port_name));
  }
}

void check_resources(const App& app, Problems& problems) {
  if (app.resources.gpus % 1000 != 0) problems.shape("/gpus", "error.expected.int");
  if (app.resources.gpus > 0 && app.container == ContainerType::docker) problems.meaning("", "GPU resources only work with the Mesos containerizer");
  auto limit = [&](std::string_view key, const std::optional<Milli>& most, Milli least) {
    if (most && *most >= 0 && *most < least)
      problems.meaning("/resourceLimits/" + std::string(key), fmt::format("must be at least what is requested, {}", print_number(from_milli(least))));
  };
  limit("cpus", app.cpus_limit, app.resources.cpus), limit("mem", app.mem_limit, app.resources.mem);
  auto top = app.id.str().substr(0, app.id.str().find('/', 1));
  bool in_group = top.size() > 1 && top.size() < app.id.str().size();
  if (app.role != "*" && !(in_group && app.role == top.substr(1)))
    problems.meaning("/role", fmt::format("got {}, expected {}", app.role, in_group ? fmt::format("one of: *, {}", top.substr(1)) : "*"));
  for (const auto& role : app.accepted_roles)
    if (role != "*" && role != app.role)
      problems.meaning("/acceptedResourceRoles", app.role == "*" ? "acceptedResourceRoles can only contain *" : fmt::format("acceptedResourceRoles can only contain * and {}", app.role));
}

/// An image's folder that would be hidden as a whole must be one that it can do without.
bool hides_too_much(std::string_view folder) {
  static constexpr std::string_view needed[] = {"",      "/bin", "/boot", "/dev", "/etc",  "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/mnt/mesos", "/mnt/mesos/sandbox",
                                                "/opt", "/root", "/run",  "/sbin", "/srv", "/tmp",  "/usr", "/usr/bin", "/usr/lib", "/var"};
  for (std::string_view above : {"/proc/", "/sys/", "/dev/", "/mnt/mesos/"})
    if ((std::string(folder) + "/").starts_with(above)) return true;
  return std::find(std::begin(needed), std::end(needed), folder) != std::end(needed);
}

void check_secret_file(const App& app, std::string_view file, const std::string& at, std::set<std::string_view>& taken, Problems& problems) {
  bool inside = file.starts_with('/');
  auto steps = split(file.substr(inside ? 1 : 0), '/');
  bool odd = std::any_of(steps.begin(), steps.end(), [](const auto& s) { return s.empty() || s == "." || s == ".." || s.size() > 255 || s.find('\0') != std::string::npos; });
  bool below = std::any_of(taken.begin(), taken.end(), [&](auto other) { return file.starts_with(std::string(other) + "/") || other.starts_with(std::string(file) + "/"); });
  bool output = !inside && steps.size() == 1 && (file == "stdout" || file == "stderr" || file.starts_with("stdout.") || file.starts_with("stderr."));
  if (odd || file.size() > 1024) problems.meaning(at, "must be a path without empty, '.' or '..' parts, of at most 1024 bytes, each part of at most 255");
  else if (below) problems.meaning(at, "one secret's file cannot be another's folder");
  else if (output) problems.meaning(at, "is where the task's own output goes");
  else if (inside && !app.docker) problems.meaning(at, "must be relative, to the sandbox: without an image a task sees the host's own folders");
  else if (inside && hides_too_much(file.substr(0, file.rfind('/')))) problems.meaning(at, fmt::format("the file's whole folder is the secrets' then; {} is not one that an image can do without: take such as /run/secrets", file.substr(0, std::max<std::size_t>(file.rfind('/'), 1))));
  if (!taken.insert(file).second) problems.meaning(at, "is the path of another secret, too");
}

void check_secrets(const App& app, Problems& problems) {
  for (const auto& [name, source] : app.secrets) {
    auto path = secret_path(source);
    auto at = "/secrets/" + name + "/source";
    if (auto ok = check_secret_path(path); !ok) problems.meaning(at, ok.error().context);
    else if (!secret_is_for(path, app.id)) problems.meaning(at, fmt::format("secret {} is for apps below {}", path, group_of_secret(path)));
  }
  if (app.env_secrets.size() + app.secret_files.size() > secrets_of_app_max) problems.meaning("/secrets", fmt::format("at most {} may be used", secrets_of_app_max));
  for (const auto& [variable, secret] : app.env_secrets) {
    if (!app.secrets.contains(secret)) problems.meaning("/env/" + variable, "references an undefined secret");
    if (variable.find('=') != std::string::npos) problems.meaning("/env/" + variable, "must not hold '='");
  }
  std::set<std::string_view> taken;
  for (std::size_t i = 0; i < app.secret_files.size(); ++i) {
    auto at = fmt::format("/container/volumes({})", app.volumes.size() + i);
    if (!app.secrets.contains(app.secret_files[i].second)) problems.meaning(at + "/secret", "volume.secret must refer to an existing secret");
    check_secret_file(app, app.secret_files[i].first, at + "/containerPath", taken, problems);
  }
}

void check_store_urls(const App& app, Problems& problems) {
  const auto* urls = app.kept.is_object() ? app.kept.get_object().if_contains("storeUrls") : nullptr;
  if (!urls || !urls->is_array()) return;
  for (std::size_t i = 0; i < urls->get_array().size(); ++i) {
    const auto& url = urls->get_array()[i];
    auto path = fmt::format("/storeUrls({})", i);
    if (!url.is_string()) problems.shape(path, "error.expected.jsstring");
    else if (url.get_string().empty()) problems.meaning(path, "must not be empty");
  }
}

void check_single_instance(const App& app, Problems& problems) {
  auto label = app.labels.find("MARATHON_SINGLE_INSTANCE_APP");
  if (label == app.labels.end() || label->second != "true") return;
  if (app.instances > 1) problems.meaning("/instances", "Single instance app may only have one instance");
  if (app.upgrade.minimum_health_capacity != 0 || app.upgrade.maximum_over_capacity != 0)
    problems.meaning("/upgradeStrategy", "Single instance app must have minimumHealthCapacity and maximumOverCapacity of 0");
}

}  // namespace

void validate(const App& app, Problems& problems) {
  if (app.id.empty() || app.id.str() == "/") problems.shape("/id", "error.path.missing");
  check_command(app, problems);
  check_sizes(app, problems);
  check_networks(app, problems);
  check_ports(app, problems);
  check_checks(app, problems);
  check_resources(app, problems);
  check_secrets(app, problems);
  check_store_urls(app, problems);
  check_single_instance(app, problems);
  for (std::size_t i = 0; i < app.volumes.size(); ++i)
    if (app.volumes[i].host_path.empty()) problems.meaning(fmt::format("/container/volumes({})/hostPath", i), "undefined");
}

}  // namespace croft::orchestrator
