// croft audit: what an auditor asks of a running farm. Items of the CIS benchmark for Docker by their numbers where they have one, and croft's own.

#include <algorithm>
#include <functional>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

/// An app as the farm reads it back.
struct Audited {
  const json::value& app;
  [[nodiscard]] std::string id() const { return json::text(app, "id"); }
  [[nodiscard]] const json::value* docker() const {
    const auto* container = json::find(app, "container");
    return container ? json::find(*container, "docker") : nullptr;
  }
  /// Values of a Docker parameter under any of these names.
  [[nodiscard]] std::vector<std::string> parameter(std::initializer_list<std::string_view> names) const {
    std::vector<std::string> out;
    if (const auto* d = docker())
      for (const auto& p : json::list(*d, "parameters")) {
        auto key = json::text(p, "key");
        while (key.starts_with('-')) key.erase(0, 1);
        if (std::find(names.begin(), names.end(), key) != names.end()) out.push_back(json::text(p, "value"));
      }
    return out;
  }
  [[nodiscard]] bool has(std::initializer_list<std::string_view> names, std::string_view part = {}) const {
    auto values = parameter(names);
    return std::any_of(values.begin(), values.end(), [&](const auto& v) { return v.find(part) != std::string::npos; });
  }
};

bool sensitive(std::string_view path) {
  static constexpr std::string_view folders[] = {"/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/root", "/var/run", "/run", "/var/lib/docker", "/var/lib/croft"};
  return path == "/" || std::any_of(std::begin(folders), std::end(folders), [&](auto f) { return path == f || path.starts_with(std::string(f) + "/"); });
}

std::vector<std::string> host_paths(const Audited& a) {
  std::vector<std::string> out;
  if (const auto* container = json::find(a.app, "container"))
    for (const auto& v : json::list(*container, "volumes")) out.push_back(json::text(v, "hostPath"));
  for (const auto& v : a.parameter({"volume", "v"})) out.push_back(v.substr(0, v.find(':')));
  return out;
}

bool tagged_latest(const json::value& docker) {
  auto image = json::text(docker, "image");
  if (image.find('@') != std::string::npos) return false;
  auto colon = image.find(':', image.rfind('/') == std::string::npos ? 0 : image.rfind('/'));
  return colon == std::string::npos || image.substr(colon + 1) == "latest";
}

/// A variable that by its name should be a secret.
bool names_a_secret(std::string name) {
  name = lower(name);
  static constexpr std::string_view ends[] = {"password", "passwd", "secret", "token", "private_key", "api_key", "apikey"};
  return std::any_of(std::begin(ends), std::end(ends), [&](auto end) { return name.ends_with(end); });
}

bool plain_secret(const Audited& a) {
  for (const auto& e : json::members(a.app, "env"))
    if (e.value().is_string() && !e.value().get_string().empty() && names_a_secret(std::string(e.key()))) return true;
  return false;
}

bool runs_as_root(const Audited& a) {
  auto users = a.parameter({"user", "u"});
  if (users.empty()) return true;
  auto name = users.back().substr(0, users.back().find(':'));
  return name == "root" || to_int(name).value_or(1) == 0;
}

bool is_true(const Audited& a, std::string_view parameter) {
  auto values = a.parameter({parameter});
  return !values.empty() && (values.back().empty() || values.back() == "true" || values.back() == "1");
}

/// What is asked of each app that has an image; true: it is found wanting.
struct Item {
  std::string_view id, what, advice;
  bool images_only;
  std::function<bool(const Audited&)> found;
};

const std::vector<Item>& items() {
  static const std::vector<Item> all{
      {"CIS 2.14", "containers cannot get new privileges", "parameter security-opt = no-new-privileges", true, [](const auto& a) { return !a.has({"security-opt"}, "no-new-privileges"); }},
      {"CIS 4.1", "containers do not run as root", "parameter user, or USER in the image (which this cannot see)", true, runs_as_root},
      {"CIS 4.6", "instances are checked", "healthChecks", false, [](const auto& a) { return json::list(a.app, "healthChecks").empty(); }},
      {"CIS 5.1", "AppArmor and SELinux are not switched off", "take security-opt apparmor=unconfined or label=disable away", true, [](const auto& a) { return a.has({"security-opt"}, "apparmor=unconfined") || a.has({"security-opt"}, "label=disable") || a.has({"security-opt"}, "label:disable"); }},
      {"CIS 5.3", "no capabilities are added", "take cap-add away", true, [](const auto& a) { return !a.parameter({"cap-add"}).empty(); }},
      {"CIS 5.4", "no container is privileged", "privileged = false", true, [](const auto& a) { return json::boolean(*a.docker(), "privileged") || !a.parameter({"privileged"}).empty(); }},
      {"CIS 5.5", "the host's own folders are not mounted", "another hostPath", true, [](const auto& a) { auto paths = host_paths(a); return std::any_of(paths.begin(), paths.end(), [](const auto& p) { return sensitive(p); }); }},
      {"CIS 5.9", "containers have a network of their own", "networks: container/bridge", true, [](const auto& a) { const auto& nets = json::list(a.app, "networks"); return nets.empty() || json::text(nets[0], "mode") == "host" || a.has({"network", "net"}, "host"); }},
      {"CIS 5.10", "memory and processors are bounded", "mem and cpus above 0", false, [](const auto& a) { return json::number(a.app, "mem") <= 0 || json::number(a.app, "cpus") <= 0; }},
      {"CIS 5.12", "root file systems are read-only", "parameter read-only = true", true, [](const auto& a) { return !is_true(a, "read-only"); }},
      {"CIS 5.15", "the host's process and IPC namespaces are not shared", "take pid, ipc and uts away", true, [](const auto& a) { return a.has({"pid"}, "host") || a.has({"ipc"}, "host") || a.has({"uts"}, "host"); }},
      {"CIS 5.17", "no devices of the host are given", "take device away", true, [](const auto& a) { return !a.parameter({"device"}).empty(); }},
      {"CIS 5.21", "the default seccomp profile is in force", "take security-opt seccomp=unconfined away", true, [](const auto& a) { return a.has({"security-opt"}, "seccomp=unconfined") || a.has({"security-opt"}, "seccomp:unconfined"); }},
      {"CIS 5.28", "processes are bounded (4,096 where the app says nothing)", "parameter pids-limit", true, [](const auto& a) { auto v = a.parameter({"pids-limit"}); return !v.empty() && to_int(v.back()).value_or(0) <= 0; }},
      {"CIS 5.31", "no container has the Engine's socket", "another way", true, [](const auto& a) { auto paths = host_paths(a); return std::any_of(paths.begin(), paths.end(), [](const auto& p) { return p.ends_with("docker.sock"); }); }},
      {"croft 1", "no variable holds a password in plain", "croft secret set, and env {\"secret\": …}", false, plain_secret},
      {"croft 2", "no app runs as root on the host", "another user", false, [](const auto& a) { return !a.docker() && json::text(a.app, "user") == "root"; }},
      {"croft 6", "images are named by version", "a tag other than latest, or a digest", true, [](const auto& a) { return tagged_latest(*a.docker()); }},
  };
  return all;
}

struct Verdict {
  std::string id, what, advice;
  std::vector<std::string> found;
  std::size_t asked = 0;
};

std::vector<Verdict> judge_apps(const json::value& listed) {
  std::vector<Verdict> out;
  for (const auto& item : items()) {
    Verdict v{std::string(item.id), std::string(item.what), std::string(item.advice), {}, 0};
    for (const auto& app : json::list(listed, "apps")) {
      Audited a{app};
      if (item.images_only && !a.docker()) continue;
      ++v.asked;
      if (item.found(a)) v.found.push_back(a.id());
    }
    out.push_back(std::move(v));
  }
  return out;
}

/// How the nodes' Engines are set up, as they say it themselves. Only for who may see the nodes.
void judge_engines(Session& s, std::vector<Verdict>& out) {
  struct Fact { std::string_view id, what, advice, word; bool wanted; };
  static constexpr Fact facts[] = {{"CIS 2.5", "Engines take no image over an unprotected way", "take insecure-registries out of daemon.json", "insecure-registry=", false},
                                   {"CIS 2.6", "Engines do not use aufs", "another storage driver", "aufs", false},
                                   {"CIS 2.9", "containers have a user namespace of their own", "\"userns-remap\": \"default\" in daemon.json (images and volumes are kept apart then)", "userns", true},
                                   {"CIS 2.15", "containers outlive their Engine's restart", "\"live-restore\": true in daemon.json", "live-restore", true},
                                   {"CIS 2.17", "a seccomp profile is in force", "take seccomp-profile: unconfined out of daemon.json", "seccomp", true},
                                   {"CIS 2.18", "no experimental functions", "\"experimental\": false in daemon.json", "experimental", false}};
  auto farm = s.call("GET", "/croft/v1/overview");
  if (farm.status != 200) return;
  auto body = farm.json();
  for (const auto& fact : facts) {
    Verdict v{std::string(fact.id), std::string(fact.what), std::string(fact.advice), {}, 0};
    for (const auto& host : json::list(body, "hosts")) {
      if (!json::boolean(host, "docker") || !json::find(host, "engine")) continue;
      ++v.asked;
      auto words = json::texts(host, "engine");
      bool said = std::any_of(words.begin(), words.end(), [&](const auto& w) { return w.starts_with(fact.word); });
      if (said != fact.wanted) v.found.push_back(json::text(host, "hostname"));
    }
    out.push_back(std::move(v));
  }
}

/// Who may do everything, and tokens without an end. Only where there are logins and the caller may see them.
void judge_accounts(Session& s, std::vector<Verdict>& out) {
  auto users = s.call("GET", "/croft/v1/users"), tokens = s.call("GET", "/croft/v1/tokens");
  if (users.status != 200 || tokens.status != 200) return;
  Verdict admins{"croft 4", "few may do everything: three at most", "croft user grant, croft token revoke", {}, 0}, endless{"croft 5", "tokens end", "croft token create --hours", {}, 0};
  auto count = [&](const json::value& one, std::string name) {
    ++admins.asked;
    auto grants = json::texts(one, "grants");
    if (std::find(grants.begin(), grants.end(), "admin:/") != grants.end() || std::find(grants.begin(), grants.end(), "admin") != grants.end()) admins.found.push_back(std::move(name));
  };
  auto people = users.json(), scripts = tokens.json();
  for (const auto& u : json::list(people, "users")) count(u, "user " + json::text(u, "name"));
  for (const auto& t : json::list(scripts, "tokens")) {
    auto name = fmt::format("token {} ({})", json::text(t, "id"), json::text(t, "label"));
    count(t, name);
    ++endless.asked;
    if (json::text(t, "expires").empty()) endless.found.push_back(name);
  }
  if (admins.found.size() <= 3) admins.found.clear();
  out.push_back(std::move(admins));
  out.push_back(std::move(endless));
}

}  // namespace

int farm_audit(Session& s) {
  auto answer = s.must("GET", "/v2/apps");
  auto verdicts = judge_apps(answer.json());
  bool open = answer.headers.get("X-Croft-Auth") == "none" || s.call("GET", "/croft/v1/whoami").status == 404;  // croft dev has no logins and no such path
  verdicts.push_back({"croft 3", "logins are needed", "auth = \"login\" in croft.toml, and croft init", open ? std::vector<std::string>{"the farm"} : std::vector<std::string>(), 1});
  judge_engines(s, verdicts);
  judge_accounts(s, verdicts);
  auto me = s.call("GET", "/croft/v1/whoami");
  auto grants = me.status == 200 ? json::texts(me.json(), "grants") : std::vector<std::string>();
  bool whole = me.status != 200 || std::any_of(grants.begin(), grants.end(), [](const auto& g) { return g.ends_with(":/"); });
  auto wanting = std::count_if(verdicts.begin(), verdicts.end(), [](const auto& v) { return !v.found.empty(); });
  if (s.common().json) {
    JsonWriter w;
    w.begin_object().field("wholeFarm", whole).key("items").begin_array();
    for (const auto& v : verdicts) {
      w.begin_object().field("id", v.id).field("what", v.what).field("asked", v.asked).key("found").begin_array();
      for (const auto& f : v.found) w.value(f);
      w.end_array().field("advice", v.advice).end_object();
    }
    w.end_array().end_object();
    print(w.str() + "\n");
  } else {
    std::vector<std::vector<std::string>> rows{{"ITEM", "WHAT", "", "FOUND AT"}};
    for (const auto& v : verdicts) rows.push_back({v.id, v.what, v.asked == 0 ? "nothing to ask" : v.found.empty() ? "ok" : "found", join(v.found, " ")});
    print(table(rows));
    if (!whole) print("asked were the apps that this login may see: " + join(grants, " ") + "\n");
    for (const auto& v : verdicts)
      if (!v.found.empty()) print(fmt::format("{}: {}\n", v.id, v.advice));
  }
  return wanting > 0 ? failed : ok;
}

}  // namespace croft::cli
