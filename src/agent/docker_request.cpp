#include "agent/docker_request.hpp"

#include <boost/json/serialize.hpp>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "agent/secret_files.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "model/task_policy.hpp"

namespace croft::agent {

namespace bj = boost::json;

ImageName parse_image(std::string_view image) {
  ImageName out;
  auto slash = image.find('/');
  auto first = image.substr(0, slash);
  bool has_registry = slash != std::string_view::npos && (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  out.registry = has_registry ? std::string(first) : "docker.io";
  auto at = image.find('@');
  auto colon = image.rfind(':');
  if (at != std::string_view::npos) {
    out.tag = image.substr(at + 1);
    image = image.substr(0, at);
    colon = image.rfind(':');
    auto last_slash = image.rfind('/');
    if (colon != std::string_view::npos && (last_slash == std::string_view::npos || colon > last_slash)) image = image.substr(0, colon);  // the digest says more than the tag
  } else if (colon != std::string_view::npos && image.find('/', colon) == std::string_view::npos) {
    out.tag = image.substr(colon + 1);
    image = image.substr(0, colon);
  } else {
    out.tag = "latest";
  }
  out.name = image;
  return out;
}

namespace {

Result<std::int64_t> bytes_of(std::string_view key, std::string_view text) {
  auto digits = text;
  std::int64_t unit = 1;
  auto last = digits.empty() ? '\0' : digits.back();
  if (last == 'b' || last == 'B') digits.remove_suffix(1), last = digits.empty() ? '\0' : digits.back();
  static constexpr std::string_view units = "kmgt";
  if (auto at = units.find(static_cast<char>(std::tolower(static_cast<unsigned char>(last)))); last && at != std::string_view::npos) {
    digits.remove_suffix(1);
    for (std::size_t i = 0; i <= at; ++i) unit *= 1024;
  }
  auto number = to_int(digits);
  if (!number || (*number < 0 && *number != -1) || *number > (1ll << 52) / unit) return fail(Errc::invalid, "parameter {}: '{}' is no size", key, text);
  return *number == -1 ? -1 : *number * unit;
}

Result<std::int64_t> whole(std::string_view key, std::string_view text) {
  auto number = to_int(text);
  if (!number) return fail(Errc::invalid, "parameter {}: '{}' is no number", key, text);
  return *number;
}

bool truth(std::string_view text) { return text.empty() || text == "true" || text == "1"; }

/// Parameters into the Engine's fields.
class Fields {
 public:
  bj::object body, host;
  Labels env, labels;

  Status take(std::string_view key, const std::string& value) {
    const auto* option = find_docker_option(key);
    if (!option) return fail(Errc::invalid, "parameter {}: not known", key);
    auto name = option->name;
    if (lists(name, value) || texts(name, value)) return {};
    if (auto done = numbers(name, value); !done || *done) return done ? Status{} : fail(std::move(done).error());
    return others(name, value);
  }

 private:
  static void push(bj::object& into, std::string_view field, std::string_view value) {
    auto& list = into[field];
    if (!list.is_array()) list = bj::array{};
    list.as_array().push_back(bj::string(value));
  }

  bool lists(std::string_view name, const std::string& value) {
    static constexpr std::pair<std::string_view, std::string_view> all[] = {{"add-host", "ExtraHosts"}, {"cap-add", "CapAdd"}, {"cap-drop", "CapDrop"}, {"dns", "Dns"},
                                                                            {"dns-option", "DnsOptions"}, {"dns-search", "DnsSearch"}, {"group-add", "GroupAdd"},
                                                                            {"security-opt", "SecurityOpt"}, {"volume", "Binds"}, {"volumes-from", "VolumesFrom"},
                                                                            {"device-cgroup-rule", "DeviceCgroupRules"}};
    for (const auto& [key, field] : all)
      if (name == key) return push(host, field, value), true;
    return false;
  }

  bool texts(std::string_view name, const std::string& value) {
    static constexpr std::pair<std::string_view, std::string_view> of_host[] = {{"cgroup-parent", "CgroupParent"}, {"cgroupns", "CgroupnsMode"}, {"cpuset-cpus", "CpusetCpus"},
                                                                                {"cpuset-mems", "CpusetMems"}, {"ipc", "IpcMode"}, {"network", "NetworkMode"}, {"pid", "PidMode"},
                                                                                {"runtime", "Runtime"}, {"userns", "UsernsMode"}, {"uts", "UTSMode"}, {"volume-driver", "VolumeDriver"}};
    static constexpr std::pair<std::string_view, std::string_view> of_body[] = {{"domainname", "Domainname"}, {"hostname", "Hostname"}, {"mac-address", "MacAddress"},
                                                                                {"stop-signal", "StopSignal"}, {"user", "User"}, {"workdir", "WorkingDir"}};
    for (const auto& [key, field] : of_host)
      if (name == key) return host[field] = value, true;
    for (const auto& [key, field] : of_body)
      if (name == key) return body[field] = value, true;
    return false;
  }

  Result<bool> numbers(std::string_view name, const std::string& value) {
    static constexpr std::pair<std::string_view, std::string_view> sizes[] = {{"memory-reservation", "MemoryReservation"}, {"memory-swap", "MemorySwap"}, {"shm-size", "ShmSize"}};
    static constexpr std::pair<std::string_view, std::string_view> counts[] = {{"blkio-weight", "BlkioWeight"}, {"cpu-period", "CpuPeriod"}, {"cpu-quota", "CpuQuota"},
                                                                               {"cpu-shares", "CpuShares"}, {"memory-swappiness", "MemorySwappiness"}, {"oom-score-adj", "OomScoreAdj"},
                                                                               {"pids-limit", "PidsLimit"}};
    for (const auto& [key, field] : sizes)
      if (name == key) {
        auto n = bytes_of(key, value);
        if (!n) return fail(std::move(n).error());
        host[field] = *n;
        return true;
      }
    for (const auto& [key, field] : counts)
      if (name == key) {
        auto n = whole(key, value);
        if (!n) return fail(std::move(n).error());
        host[field] = *n;
        return true;
      }
    return false;
  }

  Status others(std::string_view name, const std::string& value) {
    auto equals = value.find('=');
    auto key = value.substr(0, equals), rest = equals == std::string::npos ? std::string() : value.substr(equals + 1);
    if (name == "env") env[key] = rest;
    else if (name == "label" || name == "annotation") labels[key] = rest;
    else if (name == "log-opt") object(host, "LogConfig", "Config")[key] = rest;
    else if (name == "log-driver") object(host, "LogConfig")["Type"] = value;
    else if (name == "sysctl") object(host, "Sysctls")[key] = rest;
    else if (name == "tmpfs") object(host, "Tmpfs")[value.substr(0, value.find(':'))] = value.find(':') == std::string::npos ? "" : value.substr(value.find(':') + 1);
    else if (name == "entrypoint") body["Entrypoint"] = bj::array{bj::string(value)};
    else if (name == "expose") object(body, "ExposedPorts")[value.find('/') == std::string::npos ? value + "/tcp" : value] = bj::object{};
    else if (name == "init") host["Init"] = truth(value);
    else if (name == "privileged") host["Privileged"] = truth(value);
    else if (name == "read-only") host["ReadonlyRootfs"] = truth(value);
    else if (name == "oom-kill-disable") host["OomKillDisable"] = truth(value);
    else if (name == "no-healthcheck") body["Healthcheck"] = bj::object{{"Test", bj::array{"NONE"}}};
    else if (name == "stop-timeout") return stop_timeout(value);
    else if (name == "cpus") return cpus(value);
    else if (name == "ulimit") return ulimit(key, rest, value);
    else if (name == "device") device(value);
    else if (name == "ip") endpoint("IPAMConfig", bj::object{{"IPv4Address", value}});
    else if (name == "network-alias") aliases_.push_back(bj::string(value)), endpoint("Aliases", aliases_);
    return {};
  }

  static bj::object& object(bj::object& into, std::string_view field, std::string_view inner = {}) {
    auto& v = into[field];
    if (!v.is_object()) v = bj::object{};
    return inner.empty() ? v.as_object() : object(v.as_object(), inner);
  }

  void endpoint(std::string_view field, bj::value value) { object(body, "NetworkingConfig", "EndpointsConfig")[""].emplace_object()[field] = std::move(value); }

  Status stop_timeout(const std::string& value) {
    auto n = whole("stop-timeout", value);
    if (!n) return fail(std::move(n).error());
    body["StopTimeout"] = *n;
    return {};
  }

  Status cpus(const std::string& value) {
    auto n = to_double(value);
    if (!n || !(*n > 0) || *n > 1e6) return fail(Errc::invalid, "parameter cpus: '{}' is no number", value);
    host["NanoCpus"] = static_cast<std::int64_t>(std::llround(*n * 1e9));
    return {};
  }

  Status ulimit(const std::string& key, const std::string& rest, const std::string& value) {
    auto colon = rest.find(':');
    auto soft = to_int(rest.substr(0, colon)), hard = colon == std::string::npos ? soft : to_int(rest.substr(colon + 1));
    if (key.empty() || !soft || !hard) return fail(Errc::invalid, "parameter ulimit: '{}' is not NAME=SOFT[:HARD]", value);
    auto& list = host["Ulimits"];
    if (!list.is_array()) list = bj::array{};
    list.as_array().push_back(bj::object{{"Name", key}, {"Soft", *soft}, {"Hard", *hard}});
    return {};
  }

  void device(const std::string& value) {
    auto parts = split(value, ':');
    auto& list = host["Devices"];
    if (!list.is_array()) list = bj::array{};
    list.as_array().push_back(bj::object{{"PathOnHost", std::string(parts[0])}, {"PathInContainer", std::string(parts.size() > 1 ? parts[1] : parts[0])},
                                         {"CgroupPermissions", std::string(parts.size() > 2 ? parts[2] : "rwm")}});
  }

  bj::array aliases_;
};

void limits(bj::object& host, const TaskSpec& spec) {
  static constexpr std::int64_t smallest = 6 << 20;  // the Engine takes no less
  auto bytes = [](Milli mib) { return std::max(mib * 1024 * 1024 / 1000, smallest); };
  host["CpuShares"] = std::max<std::int64_t>(spec.resources.cpus * 1024 / 1000, 2);
  if (spec.cpus_limit && *spec.cpus_limit > 0) {
    host["CpuPeriod"] = 100'000;
    host["CpuQuota"] = std::max<std::int64_t>(*spec.cpus_limit * 100, 1000);
  }
  host["PidsLimit"] = pids_default;
  auto memory = spec.mem_limit.value_or(spec.resources.mem);
  if (memory > 0) host["Memory"] = host["MemorySwap"] = bytes(memory);
  if (spec.mem_limit) host["MemoryReservation"] = bytes(spec.resources.mem);
}

void ports(Fields& f, const TaskSpec& spec, const DockerHost& host) {
  bj::object exposed, bindings;
  for (const auto& p : spec.ports) {
    if (!p.container_port) continue;
    for (auto protocol : {Protocol::tcp, Protocol::udp}) {
      if (p.protocol != Protocol::both && p.protocol != protocol) continue;
      auto key = fmt::format("{}/{}", p.container_port, to_string(protocol));
      exposed[key] = bj::object{};
      if (!p.host_port) continue;
      auto& list = bindings[key];
      if (!list.is_array()) list = bj::array{};
      auto addresses = host.publish.empty() ? std::vector<std::string>{""} : host.publish;
      for (const auto& address : addresses) list.as_array().push_back(bj::object{{"HostIp", address}, {"HostPort", std::to_string(p.host_port)}});
    }
  }
  if (!exposed.empty()) f.body["ExposedPorts"] = std::move(exposed);
  if (!bindings.empty()) f.host["PortBindings"] = std::move(bindings);
}

bj::array volumes(const Launch& launch) {
  bj::array binds{bj::string(launch.sandbox.string() + ":/mnt/mesos/sandbox")};
  for (const auto& v : launch.spec.volumes) {
    auto from = v.host_path.starts_with('/') ? v.host_path : (launch.sandbox / v.host_path).string();
    auto to = v.container_path.starts_with('/') ? v.container_path : "/mnt/mesos/sandbox/" + v.container_path;
    binds.push_back(bj::string(fmt::format("{}:{}:{}", from, to, lower(v.mode))));
  }
  return binds;
}

void network(Fields& f, const TaskSpec& spec, const DockerHost& host) {
  const auto& d = *spec.docker;
  if (d.network == NetworkMode::host) f.host["NetworkMode"] = "host", f.host["CapDrop"] = bj::array{"NET_RAW"};  // there it would hear the host's own traffic
  else if (d.network == NetworkMode::none) f.host["NetworkMode"] = "none";
  else f.host["NetworkMode"] = d.network == NetworkMode::container ? d.network_name : "bridge";
  if (d.network == NetworkMode::bridge || d.network == NetworkMode::container) ports(f, spec, host);
  if (!host.hostname.empty() && host.hostname != "localhost" && d.network != NetworkMode::none) f.host["ExtraHosts"] = bj::array{bj::string(host.hostname + ":" + host.address)};
}

bj::array array_of(const std::vector<std::string>& words) {
  bj::array out;
  for (const auto& word : words) out.push_back(bj::string(word));
  return out;
}

std::vector<std::string> words_in(const bj::object& body, std::string_view key) {
  std::vector<std::string> out;
  if (const auto* list = body.if_contains(key); list && list->is_array())
    for (const auto& word : list->get_array())
      if (word.is_string()) out.emplace_back(word.get_string());
  return out;
}

void add_mount(bj::object& host, const std::string& from, std::string_view to) {
  auto& mounts = host["Mounts"];
  if (!mounts.is_array()) mounts = bj::array{};
  mounts.as_array().push_back(bj::object{{"Type", "bind"}, {"Source", from}, {"Target", to}, {"ReadOnly", true}});
}

/// Files as mounts; variables by a wrapped command, since what stands in a container's definition the Engine writes on its disk and shows to all who ask it.
Status secrets(Fields& f, const Launch& launch, const DockerHost& host, const ImageCommand& own) {
  if (launch.spec.secrets.empty()) return {};
  auto plan = plan_secrets(launch.spec, std::string(secrets_inside));
  for (const auto& m : plan.mounts) add_mount(f.host, (launch.secrets / m.folder).string(), m.target);
  auto& limits = f.host["Ulimits"];
  if (!limits.is_array()) limits = bj::array{};
  auto& all = limits.as_array();
  all.erase(std::remove_if(all.begin(), all.end(), [](const bj::value& l) { return json::text(l, "Name") == "core"; }), all.end());
  all.push_back(bj::object{{"Name", "core"}, {"Soft", 1}, {"Hard", 1}});  // 1 and not 0: with 0 the kernel still writes into a pipe, where core_pattern names one
  if (plan.env.empty()) return {};
  add_mount(f.host, host.executor, executor_inside);
  // As the Engine does: an entry point that is given takes the image's words with it.
  auto entrypoint = words_in(f.body, "Entrypoint"), words = words_in(f.body, "Cmd");
  if (entrypoint.empty()) {
    entrypoint = own.entrypoint;
    if (words.empty()) words = own.cmd;
  }
  if (entrypoint.empty() && words.empty()) return fail(Errc::invalid, "the image {} has no command, and the app gives none", launch.spec.docker->image);
  f.body["Entrypoint"] = array_of(with_secrets(std::move(entrypoint)));
  f.body["Cmd"] = array_of(words);
  return {};
}

}  // namespace

ImageCommand image_command(const bj::value& image) {
  const auto* config = json::find(image, "Config");
  if (!config || !config->is_object()) return {};
  return {words_in(config->get_object(), "Entrypoint"), words_in(config->get_object(), "Cmd")};
}

std::vector<std::string> with_secrets(std::vector<std::string> words) {
  std::vector<std::string> before{std::string(executor_inside), "--env", std::string(secrets_inside) + "/.env", "--"};
  words.insert(words.begin(), before.begin(), before.end());
  return words;
}

Result<bj::object> create_request(const Launch& launch, const DockerHost& host, const ImageCommand& own_command) {
  const auto& spec = launch.spec;
  Fields f;
  f.env = spec.env;
  f.labels = {{"croft.farm", host.farm}, {"croft.node", host.node}, {"croft.task", spec.id.str()}, {"croft.app", spec.app.str()}, {"MESOS_TASK_ID", spec.id.str()}};
  auto own = f.labels;
  f.body["Image"] = spec.docker->image;
  if (spec.cmd && !spec.cmd->empty()) {
    f.body["Entrypoint"] = bj::array{"/bin/sh"};
    f.body["Cmd"] = bj::array{"-c", bj::string(*spec.cmd)};
    if (host.init) f.host["Init"] = true;  // a shell as pid 1 would not hear TERM
  } else if (spec.args) {
    bj::array words;
    for (const auto& word : *spec.args) words.push_back(bj::string(word));
    f.body["Cmd"] = std::move(words);
  }
  limits(f.host, spec);
  network(f, spec, host);
  f.host["Binds"] = volumes(launch);
  f.host["Privileged"] = spec.docker->privileged;
  f.host["RestartPolicy"] = bj::object{{"Name", "no"}};
  bool own_log = false;
  for (const auto& [key, value] : spec.docker->parameters) {
    if (auto ok = f.take(key, value); !ok) return fail(std::move(ok).error());
    own_log = own_log || key.find("log-driver") != std::string::npos;
  }
  if (auto ok = secrets(f, launch, host, own_command); !ok) return fail(std::move(ok).error());
  auto& log = f.host["LogConfig"];
  if (!log.is_object()) log = bj::object{};
  if (!own_log) {
    log.as_object()["Type"] = "json-file";
    auto& settings = log.as_object()["Config"];
    if (!settings.is_object()) settings = bj::object{};
    settings.as_object().insert({{"max-size", "20m"}, {"max-file", "3"}});  // keeps what the app has set
  }
  // An endpoint's settings are filed under the network's name, which is known only now.
  if (auto* networking = f.body.if_contains("NetworkingConfig")) {
    auto& endpoints = networking->as_object()["EndpointsConfig"].as_object();
    auto settings = std::move(endpoints[""]);
    endpoints.erase("");
    endpoints[f.host["NetworkMode"].as_string()] = std::move(settings);
  }
  bj::array env;
  for (const auto& [k, v] : f.env) env.push_back(bj::string(k + "=" + v));
  f.body["Env"] = std::move(env);
  for (const auto& [k, v] : own) f.labels[k] = v;  // ours say whose it is, whatever the manifest says
  bj::object labels;
  for (const auto& [k, v] : f.labels) labels[k] = v;
  f.body["Labels"] = std::move(labels);
  f.body["HostConfig"] = std::move(f.host);
  return std::move(f.body);
}

namespace {

std::string base64url(std::string_view bytes) {
  auto out = base64_encode(bytes);
  for (auto& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

/// "https://index.docker.io/v1/" and "docker.io" mean the same; else scheme and path do not count.
std::string registry_key(std::string_view key) {
  if (auto scheme = key.find("://"); scheme != std::string_view::npos) key.remove_prefix(scheme + 3);
  key = key.substr(0, key.find('/'));
  return key == "index.docker.io" || key == "registry-1.docker.io" ? "docker.io" : std::string(key);
}

constexpr std::size_t config_max = 1 << 20;

/// A file that an artifact may have brought: no link is followed to it. Nothing: there is none.
Result<std::optional<std::string>> read_in_sandbox(const std::filesystem::path& sandbox, const char* name) {
  Fd folder(::open(sandbox.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_how how{};
  how.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  Fd fd(folder.valid() ? static_cast<int>(::syscall(SYS_openat2, folder.get(), name, &how, sizeof how)) : -1);
  if (!fd.valid() && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  struct stat st{};
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) return fail_errno(name);
  if (!S_ISREG(st.st_mode)) return std::nullopt;
  if (st.st_size > static_cast<off_t>(config_max)) return fail(Errc::too_large, "{}: larger than {} bytes", name, config_max);
  std::string text(static_cast<std::size_t>(st.st_size), '\0');
  auto n = ::pread(fd.get(), text.data(), text.size(), 0);
  if (n < 0) return fail_errno(name);
  text.resize(static_cast<std::size_t>(n));
  return text;
}

/// What one docker configuration says of a registry; errors call it `name`. `old`: the form of .dockercfg.
Result<std::optional<std::string>> auth_in(std::string_view text, const std::string& name, bool old, const std::string& registry) {
  auto parsed = json::parse(text);
  if (!parsed || !parsed->is_object()) return fail(Errc::invalid, "{}: not a docker configuration{}", name, parsed ? "" : ": " + parsed.error().context);
  const auto* auths = old ? &*parsed : json::find(*parsed, "auths");
  if (!auths || !auths->is_object()) return std::nullopt;
  for (const auto& [key, entry] : auths->get_object()) {
    if (registry_key(key) != registry || !entry.is_object()) continue;
    bj::object out{{"serveraddress", std::string(key)}};
    auto user = json::text(entry, "username"), password = json::text(entry, "password");
    if (auto joined = json::text(entry, "auth"); !joined.empty()) {
      while (joined.size() % 4 != 0) joined.push_back('=');  // docker leaves the padding out at times
      auto plain = base64_decode(joined);
      auto colon = plain ? plain->find(':') : std::string::npos;
      if (colon == std::string::npos) return fail(Errc::invalid, "{}: auth of {} is not base64 of user:password", name, std::string(key));
      user = plain->substr(0, colon);
      password = plain->substr(colon + 1);
    }
    out["username"] = user;
    out["password"] = password;
    if (auto token = json::text(entry, "identitytoken"); !token.empty()) out["identitytoken"] = token;
    return base64url(bj::serialize(out));
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<std::string>> registry_auth(const std::filesystem::path& sandbox, const ImageName& image, const std::filesystem::path& own) {
  for (const char* name : {".docker/config.json", ".dockercfg"}) {
    auto text = read_in_sandbox(sandbox, name);
    if (!text) return fail(std::move(text).error());
    if (!*text) continue;
    if (auto found = auth_in(**text, name, std::string_view(name) == ".dockercfg", image.registry); !found || *found) return found;
  }
  auto text = own.empty() ? Result<std::string>(fail(Errc::not_found, "")) : read_file(own, config_max);
  if (!text) return std::nullopt;  // told at the start
  auto found = auth_in(*text, own.string(), own.filename() == ".dockercfg", image.registry);
  if (found) return found;
  // The node's own: what it spoils is a login, not every pull of an image that needs none.
  log::warn("agent", "{}", found.error().context);
  return std::nullopt;
}

Status PullProgress::take(const bj::value& line) {
  if (auto error = json::text(line, "error"); !error.empty()) return fail(Errc::invalid, "{}", error);
  auto id = json::text(line, "id"), status = json::text(line, "status");
  if (id.empty() || status.starts_with("Pulling from")) return {};
  auto& layer = layers_[id];
  if (const auto* detail = json::find(line, "progressDetail"); detail && status == "Downloading") {
    layer.done = json::integer(*detail, "current");
    layer.total = json::integer(*detail, "total");
  }
  layer.over = layer.over || status == "Pull complete" || status == "Already exists" || status == "Download complete";
  if (layer.over) layer.done = layer.total;
  return {};
}

std::string PullProgress::text(std::string_view image) const {
  std::int64_t done = 0, total = 0, over = 0;
  for (const auto& [id, layer] : layers_) done += layer.done, total += layer.total, over += layer.over;
  auto mb = [](std::int64_t bytes) { return fmt::format("{:.1f}", static_cast<double>(bytes) / 1e6); };
  if (layers_.empty()) return fmt::format("pulling {}", image);
  return fmt::format("pulling {}: {} of {} MB, {} of {} layers done", image, mb(done), mb(total), over, layers_.size());
}

}  // namespace croft::agent
