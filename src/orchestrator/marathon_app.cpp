#include "orchestrator/marathon_app.hpp"

#include <algorithm>
#include <cctype>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/constraints.hpp"
#include "orchestrator/fields.hpp"

namespace croft::orchestrator {

namespace {

Artifact artifact_of(const std::string& uri) {
  Artifact a;
  a.uri = uri;
  static constexpr std::string_view archives[] = {".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip"};
  a.extract = std::any_of(std::begin(archives), std::end(archives), [&](auto end) { return uri.ends_with(end); });
  return a;
}

bool is_checksum(const std::string& text) {
  auto colon = text.find(':');
  auto kind = lower(text.substr(0, colon));
  auto digits = colon == std::string::npos ? std::string_view() : std::string_view(text).substr(colon + 1);
  return digits.size() == (kind == "sha256" ? 64u : kind == "sha512" ? 128u : 0u) && !digits.empty() && std::ranges::all_of(digits, [](unsigned char c) { return std::isxdigit(c); });
}

void read_fetch(Fields& f, App& app) {
  bool fetch = f.has("fetch"), uris = f.has("uris");
  std::vector<Artifact> from_fetch, from_uris;
  f.each_object("fetch", [&](Fields& a) {
    Artifact out;
    a.required_text("uri", out.uri);
    a.boolean("extract", out.extract), a.boolean("executable", out.executable), a.boolean("cache", out.cache), a.text("destPath", out.dest_path);
    a.text("checksum", out.checksum);
    if (!out.checksum.empty() && !is_checksum(out.checksum)) a.problems().meaning(a.path() + "/checksum", "must be sha256: with 64 or sha512: with 128 hex digits");
    out.checksum = lower(out.checksum);
    from_fetch.push_back(std::move(out));
  });
  f.each_text("uris", [&](std::string uri) { from_uris.push_back(artifact_of(uri)); });
  if (!fetch && !uris) return;
  if (fetch && uris) {
    auto same = [](const auto& a, const auto& b) { return a.uri == b.uri; };
    bool agree = std::equal(from_fetch.begin(), from_fetch.end(), from_uris.begin(), from_uris.end(), same);
    bool fetch_kept = from_fetch == app.fetch, uris_kept = std::equal(from_uris.begin(), from_uris.end(), app.fetch.begin(), app.fetch.end(), same);
    if (!agree && !fetch_kept && !uris_kept) f.problems().meaning("/uris", "may not be set in conjunction with fetch");
    app.fetch = agree || !fetch_kept ? from_fetch : from_uris;
    return;
  }
  app.fetch = fetch ? from_fetch : from_uris;
}

void read_labels(Fields& f, std::string_view key, Labels& into) {
  if (!f.has(key)) return;
  Labels out;
  f.each_member(key, [&](const std::string& name, const json::value& v, const std::string& path) {
    if (v.is_string()) out[name] = std::string(v.get_string());
    else f.problems().shape(path, "error.expected.jsstring");
  });
  into = std::move(out);
}

void read_env(Fields& f, App& app) {
  if (!f.has("env")) return;
  Labels out, secrets;
  f.each_member("env", [&](const std::string& name, const json::value& v, const std::string& path) {
    if (trim(name).empty()) f.problems().meaning(path, "must not be empty");
    if (v.is_string()) out[name] = std::string(v.get_string());
    else if (const auto* secret = v.is_object() ? json::find(v, "secret") : nullptr; secret && secret->is_string()) secrets[name] = std::string(secret->get_string());
    else if (secret) f.problems().shape(path + "/secret", "error.expected.jsstring");
    else f.problems().shape(path, "error.expected.jsstring");
  });
  app.env = std::move(out);
  app.env_secrets = std::move(secrets);
}

void read_secrets(Fields& f, App& app) {
  if (!f.has("secrets")) return;
  std::map<std::string, std::string> out;
  f.each_member("secrets", [&](const std::string& name, const json::value& v, const std::string& path) {
    const auto* source = v.is_object() ? json::find(v, "source") : nullptr;
    if (!source) f.problems().shape(path + (v.is_object() ? "/source" : ""), v.is_object() ? "error.path.missing" : "error.expected.jsobject");
    else if (!source->is_string()) f.problems().shape(path + "/source", "error.expected.jsstring");
    else out[name] = std::string(source->get_string());
  });
  app.secrets = std::move(out);
}

HealthCheck read_check(Fields& f) {
  HealthCheck c;
  c.protocol_name = "HTTP";
  f.enumeration("protocol", {"HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"}, c.protocol_name);
  auto kind = c.protocol_name.starts_with("MESOS_") ? c.protocol_name.substr(6) : c.protocol_name;
  c.kind = kind == "HTTP" ? CheckKind::http : kind == "HTTPS" ? CheckKind::https : kind == "TCP" ? CheckKind::tcp : CheckKind::command;
  f.text("path", c.path);
  if (auto command = f.object("command")) command->required_text("value", c.command);
  auto seconds = [&](std::string_view key, Millis& into) {
    std::int64_t n = into.count() / 1000;
    f.integer(key, n, 0, 31'536'000);
    into = Millis(n * 1000);
  };
  seconds("gracePeriodSeconds", c.grace), seconds("intervalSeconds", c.interval), seconds("timeoutSeconds", c.timeout), seconds("delaySeconds", c.delay);
  std::int64_t n = c.failures_max;
  f.integer("maxConsecutiveFailures", n, 0, 1'000'000);
  c.failures_max = static_cast<std::uint32_t>(n);
  f.boolean("ignoreHttp1xx", c.ignore_1xx);
  std::string ip = "IPv4";
  f.enumeration("ipProtocol", {"IPv4", "IPv6"}, ip);
  if (ip == "IPv6") f.problems().meaning(f.path() + "/ipProtocol", "checks are made over IPv4 only");
  if (f.has("portIndex")) n = 0, f.integer("portIndex", n, 0, 1000), c.port_index = static_cast<std::uint32_t>(n);
  if (f.has("port")) n = 0, f.integer("port", n, 0, 65535), c.port = static_cast<std::uint16_t>(n);
  if (c.kind == CheckKind::command && c.command.empty()) f.problems().meaning(f.path() + "/command", "must be given for a COMMAND check");
  return c;
}

void read_checks(Fields& f, App& app) {
  if (f.has("healthChecks")) {
    std::vector<HealthCheck> out;
    f.each_object("healthChecks", [&](Fields& c) { out.push_back(read_check(c)); });
    app.health_checks = std::move(out);
  }
  if (!f.has("readinessChecks")) return;
  std::vector<ReadinessCheck> out;
  f.each_object("readinessChecks", [&](Fields& c) {
    ReadinessCheck r;
    c.text("name", r.name), c.text("path", r.path), c.text("portName", r.port_name), c.boolean("preserveLastResponse", r.preserve_last_response);
    c.enumeration("protocol", {"HTTP", "HTTPS"}, r.protocol);
    std::int64_t interval = 30, timeout = 10;
    c.integer("intervalSeconds", interval, 1, 86'400), c.integer("timeoutSeconds", timeout, 1, 86'400);
    r.interval = Millis(interval * 1000), r.timeout = Millis(timeout * 1000);
    if (c.has("httpStatusCodesForReady")) {
      r.ready_statuses.clear();
      c.each_integer("httpStatusCodesForReady", 100, 999, [&](std::int64_t status) { r.ready_statuses.push_back(static_cast<std::uint16_t>(status)); });
    }
    out.push_back(std::move(r));
  });
  app.readiness_checks = std::move(out);
}

void read_strategies(Fields& f, App& app) {
  auto seconds = [](Fields& from, std::string_view key, Seconds& into) {
    std::int64_t n = into.count();
    from.integer(key, n, 0, 315'360'000);
    into = Seconds(n);
  };
  seconds(f, "backoffSeconds", app.backoff), seconds(f, "maxLaunchDelaySeconds", app.max_launch_delay);
  f.number("backoffFactor", app.backoff_factor, 1.0, 1e6);
  if (f.has("taskKillGracePeriodSeconds")) {
    Seconds grace{0};
    seconds(f, "taskKillGracePeriodSeconds", grace);
    app.kill_grace = grace;
  }
  if (auto u = f.object("upgradeStrategy")) {
    app.upgrade = {};
    auto share = [&](std::string_view key, double& into) {
      u->number(key, into, -1e308, 1e308);
      if (into < 0) u->problems().meaning(u->path() + "/" + std::string(key), fmt::format("got {}, expected 0.0 or more", u->as_decimal(into)));
      if (into > 1) u->problems().meaning(u->path() + "/" + std::string(key), fmt::format("got {}, expected 1.0 or less", u->as_decimal(into)));
    };
    share("minimumHealthCapacity", app.upgrade.minimum_health_capacity), share("maximumOverCapacity", app.upgrade.maximum_over_capacity);
  }
  if (f.has("unreachableStrategy")) {
    app.unreachable = {};
    if (f.raw("unreachableStrategy").is_string()) {
      std::string word;
      f.enumeration("unreachableStrategy", {"disabled"}, word);
      app.unreachable.disabled = true;
    } else if (auto u = f.object("unreachableStrategy")) {
      seconds(*u, "inactiveAfterSeconds", app.unreachable.inactive_after), seconds(*u, "expungeAfterSeconds", app.unreachable.expunge_after);
      if (app.unreachable.expunge_after < app.unreachable.inactive_after)
        f.problems().meaning("/unreachableStrategy", "unreachableStrategy.expungeAfterSeconds must be greater or equal to unreachableStrategy.inactiveAfterSeconds");
    }
  }
  std::string selection = app.kill_oldest_first ? "OLDEST_FIRST" : "YOUNGEST_FIRST";
  f.enumeration("killSelection", {"YOUNGEST_FIRST", "OLDEST_FIRST"}, selection);
  app.kill_oldest_first = selection == "OLDEST_FIRST";
}

void read_lists(Fields& f, App& app) {
  if (f.has("constraints")) {
    std::vector<std::vector<std::string>> out;
    f.each_array("constraints", [&](const std::vector<std::string>& c, const std::string& path) {
      if (auto wrong = constraint_problem(c); !wrong.empty()) f.problems().meaning(path, wrong);
      out.push_back(c);
      if (c.size() > 1) std::transform(c[1].begin(), c[1].end(), out.back()[1].begin(), [](char l) { return l >= 'a' && l <= 'z' ? static_cast<char>(l - 32) : l; });
    });
    app.constraints = std::move(out);
  }
  if (f.has("dependencies")) {
    app.dependencies.clear();
    f.each_text("dependencies", [&](std::string id) {
      // "../db" is seen from the app itself, as Marathon's documentation has it; "db" from the root.
      Problems own;
      app.dependencies.push_back(read_app_id(id, id.starts_with('.') ? app.id.str() : "/", own, true));
      if (own.any()) f.problems().meaning(fmt::format("/dependencies({})", app.dependencies.size() - 1), "is not a valid id");
    });
  }
  if (f.has("acceptedResourceRoles")) {
    app.accepted_roles.clear();
    f.each_text("acceptedResourceRoles", [&](std::string role) { app.accepted_roles.push_back(std::move(role)); });
    if (app.accepted_roles.empty()) f.problems().meaning("/acceptedResourceRoles", "must not be empty");
  }
}

void read_resources(Fields& f, App& app) {
  auto amount = [&](std::string_view key, Milli& into, double max) {
    double v = from_milli(into);
    f.number(key, v, 0, max);
    into = to_milli(v);
  };
  amount("cpus", app.resources.cpus, 1e6), amount("mem", app.resources.mem, 1e9), amount("disk", app.resources.disk, 1e12), amount("gpus", app.resources.gpus, 1e4);
  std::int64_t instances = app.instances;
  f.integer("instances", instances, 0, 1'000'000);
  app.instances = static_cast<std::uint32_t>(instances);
  auto limits = f.object("resourceLimits");
  if (!limits) return;
  auto limit = [&](std::string_view key, std::optional<Milli>& into) {
    if (!limits->has(key)) return;
    if (limits->raw(key).is_string() && limits->raw(key).get_string() == "unlimited") into = -1;
    else {
      double v = 0;
      limits->number(key, v, 0, 1e9);
      into = to_milli(v);
    }
  };
  limit("cpus", app.cpus_limit), limit("mem", app.mem_limit);
}

/// Fields that are known and have no effect here: kept, so that they read back as they were sent.
void keep_others(Fields& f, App& app) {
  static constexpr std::string_view keys[] = {"check", "executorResources", "storeUrls", "tty"};
  json::object kept = app.kept.is_object() ? app.kept.get_object() : json::object();
  for (auto key : keys)
    if (f.has(key)) kept[key] = f.raw(key);
  auto shape = [&](std::string_view key, bool good, std::string_view error) {
    if (f.has(key) && !good) f.problems().shape("/" + std::string(key), std::string(error));
  };
  shape("tty", f.has("tty") && f.raw("tty").is_bool(), "error.expected.jsboolean");
  shape("storeUrls", f.has("storeUrls") && f.raw("storeUrls").is_array(), "error.expected.jsarray");
  for (auto key : {"check", "executorResources"}) shape(key, f.has(key) && f.raw(key).is_object(), "error.expected.jsobject");
  // Without persistent volumes, which are refused, it means nothing; what is no residency is none all the same.
  if (auto residency = f.object("residency")) {
    std::int64_t seconds = 0;
    std::string behaviour;
    residency->integer("relaunchEscalationTimeoutSeconds", seconds, 0, INT64_MAX / 1000);
    residency->enumeration("taskLostBehavior", {"WAIT_FOREVER", "RELAUNCH_AFTER_TIMEOUT"}, behaviour);
  }
  app.kept = kept.empty() ? json::value(nullptr) : json::value(std::move(kept));
}

}  // namespace

AppId read_app_id(std::string_view text, std::string_view against, Problems& problems, bool of_group) {
  std::vector<std::string> parts;
  auto add = [&](std::string_view path) {
    for (auto& part : split(path, '/')) {
      if (part.empty() || part == ".") continue;
      if (part == "..") {
        if (!parts.empty()) parts.pop_back();
      } else {
        parts.push_back(std::move(part));
      }
    }
  };
  if (!text.starts_with('/')) add(against);
  add(text);
  auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  auto good_label = [&](std::string_view l) {
    return !l.empty() && plain(l.front()) && plain(l.back()) && std::all_of(l.begin(), l.end(), [&](char c) { return plain(c) || c == '-'; });
  };
  for (const auto& part : parts)
    for (const auto& label : split(part, '.'))
      if (!good_label(label)) {
        problems.meaning("/id", R"(must fully match regular expression '^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$')");
        return AppId("/" + join(parts, "/"));
      }
  if (!of_group && !parts.empty() && (parts.back() == "restart" || parts.back() == "tasks" || parts.back() == "versions"))
    problems.meaning("/id", fmt::format("must not end with any of the following reserved keywords: restart, tasks, versions"));
  return AppId("/" + join(parts, "/"));
}

namespace {

/// A NUL ends a word wherever words go to the kernel: what stands behind it would be read as something else.
void refuse_nul(const json::value& v, const std::string& path, Problems& problems) {
  auto has_nul = [](std::string_view text) { return text.find('\0') != std::string_view::npos; };
  if (v.is_string() && has_nul(v.get_string())) problems.meaning(path, "must not contain a NUL character");
  if (v.is_array())
    for (std::size_t i = 0; i < v.get_array().size(); ++i) refuse_nul(v.get_array()[i], fmt::format("{}({})", path, i), problems);
  if (!v.is_object()) return;
  for (const auto& [name, member] : v.get_object()) {
    if (has_nul(name)) problems.meaning(path, "must not have a name with a NUL character in it");
    else refuse_nul(member, fmt::format("{}/{}", path, std::string_view(name)), problems);
  }
}

}  // namespace

void refuse_nul(const json::value& body, Problems& problems) { refuse_nul(body, "", problems); }

std::vector<std::string> unknown_fields(const json::value& body) {
  Problems problems;
  if (body.is_object()) read_manifest(body, App{}, problems);
  return problems.unknown();
}

App read_manifest(const json::value& body, App app, Problems& problems) {
  if (!body.is_object()) {
    problems.shape("", "error.expected.jsobject");
    return app;
  }
  Fields f(body.get_object(), "", problems);
  std::string id;
  f.text("id", id);
  if (!id.empty()) app.id = read_app_id(id, "/", problems);
  // The one of cmd and args that is sent replaces the other.
  if (f.has("cmd")) {
    std::string cmd;
    f.text("cmd", cmd);
    app.cmd = cmd;
    if (!f.has("args")) app.args.reset();
  }
  if (f.has("args")) {
    std::vector<std::string> args;
    f.each_text("args", [&](std::string a) { args.push_back(std::move(a)); });
    app.args = std::move(args);
    if (!f.has("cmd")) app.cmd.reset();
  }
  f.text("user", app.user), f.text("role", app.role), f.text("executor", app.executor);
  read_env(f, app);
  read_secrets(f, app);
  read_labels(f, "labels", app.labels);
  read_resources(f, app);
  read_lists(f, app);
  read_fetch(f, app);
  read_networking(f, app);
  read_checks(f, app);
  read_strategies(f, app);
  keep_others(f, app);
  // What Marathon and we say of an app beside its definition, which comes back when one is read, edited and sent.
  f.pass_over({"version", "versionInfo", "tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy", "deployments", "tasks", "taskStats", "lastTaskFailure", "readinessCheckResults", "format"});
  // A check without a port means the first one; written down, so that it reads the same however it was sent.
  for (auto& c : app.health_checks)
    if (c.kind != CheckKind::command && !c.port && !c.port_index && !app.ports.empty()) c.port_index = 0;
  return app;
}

}  // namespace croft::orchestrator
