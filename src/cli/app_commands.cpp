#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <iterator>
#include <set>
#include <thread>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

constexpr std::size_t manifest_max = 4u << 20;

std::string read_manifest(const std::string& file) {
  if (file == "-") {
    std::string text(std::istreambuf_iterator<char>(std::cin), {});
    if (text.size() > manifest_max) throw Ended{usage, "stdin: larger than 4 MiB"};
    return text;
  }
  std::error_code ec;
  if (std::filesystem::is_directory(file, ec)) throw Ended{usage, file + ": is a folder, not a manifest"};
  auto text = read_file(file, manifest_max);
  if (!text) throw Ended{usage, text.error().context};
  return std::move(*text);
}

std::string counts(const json::value& app) {
  return fmt::format("{}/{}", json::integer(app, "tasksRunning"), json::integer(app, "instances"));
}

std::string health(const json::value& app) {
  if (json::list(app, "healthChecks").empty()) return "-";
  return fmt::format("{} healthy", json::integer(app, "tasksHealthy"));
}

}  // namespace

std::string absolute(std::string_view id) {
  if (id.find_first_not_of('/') == std::string_view::npos) throw Ended{usage, fmt::format("'{}' is not an app's id; one is /service/web", id)};
  return id.starts_with('/') ? std::string(id) : "/" + std::string(id);
}

std::string fill_in(std::string text, const std::vector<std::string>& values, const std::string& file) {
  for (const auto& pair : values) {
    auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) throw Ended{usage, "--set " + pair + ": must be name=value"};
    auto name = "{{" + pair.substr(0, equals) + "}}";
    auto quoted = json_quote(pair.substr(equals + 1));
    auto value = quoted.substr(1, quoted.size() - 2);  // the names stand inside JSON strings
    bool used = false;
    for (std::size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += value.size()) {
      text.replace(at, name.size(), value);
      used = true;
    }
    if (!used) throw Ended{usage, file + ": has no " + name};
  }
  auto open = text.find("{{");
  auto close = open == std::string::npos ? open : text.find("}}", open);
  if (close != std::string::npos) throw Ended{usage, fmt::format("{}: {} has no value; give it with --set", file, text.substr(open, close + 2 - open))};
  return text;
}

namespace {

/// What a waiting person sees on stderr: the counts whenever they change, and after a moment the reasons why it takes time.
class ProgressLines {
 public:
  ProgressLines(Session& s, std::string app) : s_(s), app_(std::move(app)) {}

  void look() {
    if (s_.common().quiet) return;
    auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(400);
    auto answer = s_.call("GET", "/v2/apps" + in_url(app_));
    if (answer.status == 200) {
      auto body = answer.json();
      if (const auto* app = json::find(body, "app")) say_once(counts_, fmt::format("{} running{}", counts(*app), json::list(*app, "healthChecks").empty() ? "" : ", " + health(*app)));
    }
    if (now - begun_ < std::chrono::milliseconds(1500)) return;
    auto why = s_.call("GET", "/croft/v1/explain" + in_url(app_));
    auto reasons = why.status == 200 ? json::texts(why.json(), "reasons") : std::vector<std::string>{};
    for (std::size_t i = 1; i < reasons.size(); ++i)  // the first one is the counts again
      if (said_.size() < said_max && said_.insert(without_numbers(reasons[i])).second) std::fprintf(stderr, "  %s\n", reasons[i].c_str());
  }

 private:
  static constexpr std::size_t said_max = 200;

  void say_once(std::string& last, const std::string& text) {
    if (text == last) return;
    last = text;
    std::fprintf(stderr, "  %s: %s\n", app_.c_str(), text.c_str());
  }
  /// A sentence whose figures alone have changed is not said again.
  static std::string without_numbers(std::string text) {
    std::erase_if(text, [](unsigned char c) { return std::isdigit(c) || c == '.' || c == '%'; });
    return text;
  }

  Session& s_;
  std::string app_, counts_;
  std::set<std::string> said_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now(), next_ = begun_ + std::chrono::milliseconds(300);
};

/// True as soon as `done` is, false when the time is over. A farm that does not answer for a while (another master takes over) ends no wait.
bool await(Session& s, const std::string& app, Mono end, const std::function<bool()>& done) {
  constexpr std::chrono::seconds away_max{30};
  auto pause = std::chrono::milliseconds(20);
  ProgressLines progress(s, app);
  std::optional<Mono> away_since;
  for (;;) {
    auto now = std::chrono::steady_clock::now();
    try {
      if (done()) return true;
      away_since.reset();
      if (now > end) return false;
      progress.look();
    } catch (const Ended& e) {
      if (!e.away || (away_since && now - *away_since > away_max)) throw;
      if (now > end) return false;
      if (!away_since && !s.common().quiet) std::fprintf(stderr, "  no answer for the moment, waiting on: %s\n", e.text.c_str());
      if (!away_since) away_since = now;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 3 / 2, std::chrono::milliseconds(500));
  }
}

void await_deployment_until(Session& s, const std::string& deployment, const std::string& app, Mono end, int limit_s) {
  auto over = [&] {
    auto all = s.must("GET", "/v2/deployments").json();
    if (all.is_array())
      for (const auto& d : all.get_array())
        if (json::text(d, "id") == deployment) return false;
    return true;
  };
  if (!await(s, app, end, over))
    throw Ended{timed_out, fmt::format("deployment {} is still under way after {} s; it goes on. Why: croft explain {}", deployment, limit_s, app)};
}

/// Whether `version` was in force once; a change that changed nothing leaves none.
bool was_in_force(Session& s, const std::string& app, const std::string& version) {
  auto answer = s.call("GET", "/v2/apps" + in_url(app) + "/versions");
  if (answer.status != 200) return true;
  auto known = json::texts(answer.json(), "versions");
  return std::find(known.begin(), known.end(), version) != known.end();
}

Ended ended_at_once(const std::string& app, const json::value* failure) {
  if (!failure) return {failed, fmt::format("{}: started, and ended at once: no reason is known", app)};
  return {failed, fmt::format("{0}: started, and ended at once: {1}. Its last words: croft logs {0} --query 'task:\"{2}\"'", app, json::text(*failure, "message"), json::text(*failure, "taskId"))};
}

/// A deployment that is over may have been cancelled by another change, which is said; or its app may still wait, after a change that changed nothing.
void await_running(Session& s, const std::string& app, const std::string& version, Mono end, int limit_s) {
  auto runs = [&] {
    auto answer = s.call("GET", "/v2/apps" + in_url(app));
    if (answer.status == 404) throw Ended{failed, app + ": was removed by somebody else meanwhile"};
    answer = s.good(std::move(answer), "");
    auto body = answer.json();
    const auto* now = json::find(body, "app");
    if (!now) throw Ended{failed, "the farm's answer has no app"};
    auto present = json::text(*now, "version");
    if (!version.empty() && present != version && was_in_force(s, app, version))
      throw Ended{failed, fmt::format("{}: another change took over meanwhile (version {} instead of {})", app, present, version)};
    auto checked = !json::list(*now, "healthChecks").empty();
    auto running = checked ? json::integer(*now, "tasksHealthy") : json::integer(*now, "tasksRunning");
    if (running >= json::integer(*now, "instances")) return true;
    // Its deployment is over: it ran, if only for milliseconds.
    const auto* failure = json::find(*now, "lastTaskFailure");
    if (!checked && failure && !version.empty() && json::text(*failure, "version") == version && json::list(*now, "deployments").empty()) throw ended_at_once(app, failure);
    return false;
  };
  if (!await(s, app, end, runs)) throw Ended{timed_out, fmt::format("{} does not run as wanted after {} s; the farm goes on trying. Why: croft explain {}", app, limit_s, app)};
}

/// Without health checks an instance counts as soon as it runs. One that ends at once did not do what it was deployed for.
void await_settled(Session& s, const std::string& app) {
  constexpr std::chrono::milliseconds settle{500}, pause{100};
  for (auto end = std::chrono::steady_clock::now() + settle; std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(pause)) {
    std::optional<Session::Answer> answer;
    try {
      answer = s.call("GET", "/v2/apps" + in_url(app));
    } catch (const Ended& e) {
      if (!e.away) throw;  // it is deployed: that nobody answers just now changes nothing
    }
    if (!answer || answer->status != 200) return;
    auto body = answer->json();
    const auto* now = json::find(body, "app");
    if (!now || !json::list(*now, "healthChecks").empty() || !json::list(*now, "deployments").empty()) return;
    if (json::integer(*now, "tasksRunning") >= json::integer(*now, "instances")) continue;
    if (const auto* failure = json::find(*now, "lastTaskFailure")) throw ended_at_once(app, failure);
  }
}

/// Waits for the deployment, then prints the farm's answer with --json, else the words.
int finish(Session& s, const Session::Answer& answer, const std::string& app, const std::string& done, const ChangeOptions& o, bool removal = false) {
  auto body = answer.json();
  auto deployment = json::text(body, "deploymentId", answer.headers.get("Marathon-Deployment-Id"));
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(o.limit_s);
  if (!o.no_wait && !deployment.empty()) await_deployment_until(s, deployment, app, end, o.limit_s);
  if (!o.no_wait && !removal) {
    await_running(s, app, json::text(body, "version"), end, o.limit_s);
    await_settled(s, app);
  }
  if (s.common().json) print(answer.body + "\n");
  else if (o.no_wait && !deployment.empty()) print(fmt::format("{}: deployment {} is under way\n", app, deployment));
  else print(fmt::format("{}: {}\n", app, done));
  return ok;
}

}  // namespace

void await_deployment(Session& s, const std::string& deployment, const std::string& app, int limit_s) {
  await_deployment_until(s, deployment, app, std::chrono::steady_clock::now() + std::chrono::seconds(limit_s), limit_s);
}

int app_deploy(Session& s, const DeployOptions& o) {
  auto text = fill_in(read_manifest(o.file), o.values, o.file);
  auto manifest = json::parse(text);
  if (!manifest) throw Ended{usage, o.file + ": " + manifest.error().context};
  if (!manifest->is_object()) throw Ended{usage, o.file + ": must be one app, a JSON object"};
  auto id = json::text(*manifest, "id");
  if (id.empty()) throw Ended{usage, o.file + ": 'id' must be given, as text such as \"/service/web\""};
  id = absolute(id);
  auto force = o.change.force ? "&force=true" : "";
  auto target = fmt::format("/v2/apps{}?partialUpdate=false{}", in_url(id), force);
  auto answer = s.call("PUT", target, text);
  if (auto unknown = answer.headers.get("Croft-Unknown-Fields"); !unknown.empty())
    std::fprintf(stderr, "warning: %s: not known, and without effect: %s\n", o.file.c_str(), std::string(unknown).c_str());
  answer = s.good(std::move(answer), target);
  return finish(s, answer, id, "deployed", o.change);
}

int app_list(Session& s) {
  auto answer = s.must("GET", "/v2/apps");
  if (s.common().json) return print(answer.body + "\n"), ok;
  std::vector<std::vector<std::string>> rows{{"APP", "RUNNING", "HEALTH", "CPUS", "MEM (MiB)", "STATE"}};
  auto body = answer.json();
  for (const auto& app : json::list(body, "apps")) {
    auto state = !json::list(app, "deployments").empty() ? "deploying" : json::integer(app, "instances") == 0 ? "suspended"
                 : json::integer(app, "tasksRunning") < json::integer(app, "instances") ? "waiting" : "running";
    rows.push_back({json::text(app, "id"), counts(app), health(app), print_number(json::number(app, "cpus")), print_number(json::number(app, "mem")), state});
  }
  print(rows.size() > 1 ? table(rows) : "No apps yet. croft app deploy FILE starts one.\n");
  return ok;
}

int app_show(Session& s, const std::string& id) {
  auto answer = s.must("GET", "/v2/apps" + in_url(absolute(id)));
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto body = answer.json();
  const auto* app = json::find(body, "app");
  if (!app) throw Ended{failed, "the farm's answer has no app"};
  print(fmt::format("{}  {} running, health {}, version {}\n", json::text(*app, "id"), counts(*app), health(*app), json::text(*app, "version")));
  for (const auto& d : json::list(*app, "deployments")) print(fmt::format("deployment {} is under way\n", json::text(d, "id")));
  std::vector<std::vector<std::string>> rows{{"TASK", "HOST", "PORTS", "STATE", "SINCE"}};
  for (const auto& task : json::list(*app, "tasks")) {
    std::vector<std::string> ports;
    for (const auto& port : json::list(task, "ports"))
      if (port.is_int64()) ports.push_back(std::to_string(port.get_int64()));
    rows.push_back({json::text(task, "id"), json::text(task, "host"), join(ports, ","), json::text(task, "state"), json::text(task, "startedAt", "-")});
  }
  print(rows.size() > 1 ? table(rows) : "No tasks. croft explain says why.\n");
  if (const auto* failure = json::find(*app, "lastTaskFailure"))
    print(fmt::format("last failure  {}  {} on {}: {}\n", json::text(*failure, "timestamp"), json::text(*failure, "state"), json::text(*failure, "host"),
                      json::text(*failure, "message")));
  return ok;
}

int app_scale(Session& s, const std::string& id, int instances, const ChangeOptions& o) {
  auto app = absolute(id);
  (void)s.must("GET", "/v2/apps" + in_url(app));  // a PUT would try to create it
  auto answer = s.must("PUT", "/v2/apps" + in_url(app) + (o.force ? "?force=true" : ""), fmt::format(R"({{"instances":{}}})", instances));
  return finish(s, answer, app, fmt::format("scaled to {}", instances), o);
}

int app_restart(Session& s, const std::string& id, const ChangeOptions& o) {
  auto app = absolute(id);
  auto answer = s.must("POST", "/v2/apps" + in_url(app) + "/restart" + (o.force ? "?force=true" : ""));
  return finish(s, answer, app, "restarted", o);
}

namespace {

constexpr std::size_t versions_shown = 20;

/// Newest first, and which is in force.
struct Versions { std::vector<std::string> all; std::string present; };

Versions versions_of(Session& s, const std::string& app) {
  auto body = s.must("GET", "/v2/apps" + in_url(app)).json();
  const auto* now = json::find(body, "app");
  return {json::texts(s.must("GET", "/v2/apps" + in_url(app) + "/versions").json(), "versions"), now ? json::text(*now, "version") : ""};
}

/// What an app runs, in short: its image or its command.
std::string what_runs(const json::value& app) {
  const auto* container = json::find(app, "container");
  const auto* docker = container ? json::find(*container, "docker") : nullptr;
  auto text = docker ? json::text(*docker, "image") : json::text(app, "cmd", join(json::texts(app, "args"), " "));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

}  // namespace

int app_versions(Session& s, const std::string& id) {
  auto app = absolute(id);
  if (s.common().json) return print(s.must("GET", "/v2/apps" + in_url(app) + "/versions").body + "\n"), ok;
  auto versions = versions_of(s, app);
  std::vector<std::vector<std::string>> rows{{"VERSION", "", "INSTANCES", "CPUS", "MEM (MiB)", "RUNS"}};
  for (std::size_t i = 0; i < std::min(versions.all.size(), versions_shown); ++i) {
    const auto& version = versions.all[i];
    auto answer = s.call("GET", "/v2/apps" + in_url(app) + "/versions/" + url_encode(version));
    if (answer.status >= 400) continue;  // so many newer ones came meanwhile that it is forgotten
    auto was = answer.json();
    rows.push_back({version, version == versions.present ? "present" : "", std::to_string(json::integer(was, "instances")), print_number(json::number(was, "cpus")),
                    print_number(json::number(was, "mem")), what_runs(was)});
  }
  print(table(rows));
  if (versions.all.size() > versions_shown) print(fmt::format("and {} older ones: --json lists all\n", versions.all.size() - versions_shown));
  return ok;
}

int app_rollback(Session& s, const std::string& id, const std::string& given, const ChangeOptions& o) {
  auto app = absolute(id);
  auto version = given;
  if (version.empty()) {
    auto versions = versions_of(s, app);
    auto present = std::find(versions.all.begin(), versions.all.end(), versions.present);
    auto before = present == versions.all.end() ? versions.all.begin() : present + 1;
    if (before == versions.all.end()) throw Ended{failed, fmt::format("{}: there is no version before the present one, {}", app, versions.present)};
    version = *before;
  }
  auto answer = s.must("PUT", "/v2/apps" + in_url(app) + (o.force ? "?force=true" : ""), fmt::format(R"({{"version":{}}})", json_quote(version)));
  return finish(s, answer, app, "is as it was in version " + version, o);
}

int app_remove(Session& s, const std::string& id, const ChangeOptions& o) {
  auto app = absolute(id);
  auto answer = s.must("DELETE", "/v2/apps" + in_url(app) + (o.force ? "?force=true" : ""));
  return finish(s, answer, app, "removed", o, true);
}

}  // namespace croft::cli
