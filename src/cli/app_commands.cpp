#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <set>
#include <thread>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
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
  auto text = read_file(file, manifest_max);
  if (!text) throw Ended{usage, text.error().context};
  return std::move(*text);
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

/// Prints the farm's answer with --json, else the words, and waits for the deployment.
int finish(Session& s, const Session::Answer& answer, const std::string& app, const std::string& done, bool no_wait, std::chrono::seconds limit) {
  auto body = answer.json();
  auto deployment = json::text(body, "deploymentId", answer.headers.get("Marathon-Deployment-Id"));
  if (!no_wait && !deployment.empty()) await_deployment(s, deployment, app, limit);
  if (s.common().json) print(answer.body + "\n");
  else if (no_wait && !deployment.empty()) print(fmt::format("{}: deployment {} is under way\n", app, deployment));
  else print(fmt::format("{}: {}\n", app, done));
  return ok;
}

std::string counts(const json::value& app) {
  return fmt::format("{}/{}", json::integer(app, "tasksRunning"), json::integer(app, "instances"));
}

std::string health(const json::value& app) {
  if (json::list(app, "healthChecks").empty()) return "-";
  return fmt::format("{} healthy", json::integer(app, "tasksHealthy"));
}

}  // namespace

std::string absolute(std::string_view id) { return id.starts_with('/') ? std::string(id) : "/" + std::string(id); }

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

void await_deployment(Session& s, const std::string& deployment, const std::string& app, std::chrono::seconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  std::set<std::string> said;
  auto pause = std::chrono::milliseconds(20);
  auto next_words = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  for (;;) {
    bool under_way = false;
    auto all = s.must("GET", "/v2/deployments").json();
    if (all.is_array())
      for (const auto& d : all.get_array()) under_way |= json::text(d, "id") == deployment;
    if (!under_way) return;
    if (std::chrono::steady_clock::now() > end)
      throw Ended{timed_out, fmt::format("deployment {} is still under way after {} s; it goes on. croft explain {}", deployment, limit.count(), app)};
    if (!s.common().quiet && std::chrono::steady_clock::now() > next_words) {
      next_words = std::chrono::steady_clock::now() + std::chrono::seconds(2);
      auto why = s.call("GET", "/croft/v1/explain" + app);
      if (why.status == 200)
        for (const auto& reason : json::texts(why.json(), "reasons"))
          if (said.insert(reason).second) std::fprintf(stderr, "  %s\n", reason.c_str());
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 3 / 2, std::chrono::milliseconds(500));
  }
}

int app_deploy(Session& s, const DeployOptions& o) {
  auto text = fill_in(read_manifest(o.file), o.values, o.file);
  auto manifest = json::parse(text);
  if (!manifest) throw Ended{usage, o.file + ": " + manifest.error().context};
  auto id = json::text(*manifest, "id");
  if (id.empty()) throw Ended{usage, o.file + ": 'id' must be given"};
  id = absolute(id);
  auto force = o.force ? "&force=true" : "";
  auto answer = s.must("PUT", fmt::format("/v2/apps{}?partialUpdate=false{}", id, force), text);
  return finish(s, answer, id, "deployed", o.no_wait, o.limit);
}

int app_list(Session& s) {
  auto answer = s.must("GET", "/v2/apps");
  if (s.common().json) return print(answer.body + "\n"), ok;
  std::vector<std::vector<std::string>> rows{{"APP", "RUNNING", "HEALTH", "CPUS", "MEM", "STATE"}};
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
  auto answer = s.must("GET", "/v2/apps" + absolute(id));
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto body = answer.json();
  const auto* app = json::find(body, "app");
  if (!app) throw Ended{failed, "the farm's answer has no app"};
  print(fmt::format("{}  {} running, {}  version {}\n", json::text(*app, "id"), counts(*app), health(*app), json::text(*app, "version")));
  std::vector<std::vector<std::string>> rows{{"TASK", "HOST", "PORTS", "STATE", "SINCE"}};
  for (const auto& task : json::list(*app, "tasks")) {
    std::vector<std::string> ports;
    for (const auto& port : json::list(task, "ports"))
      if (port.is_int64()) ports.push_back(std::to_string(port.get_int64()));
    rows.push_back({json::text(task, "id"), json::text(task, "host"), join(ports, ","), json::text(task, "state"), json::text(task, "startedAt", "-")});
  }
  print(table(rows));
  if (const auto* failure = json::find(*app, "lastTaskFailure"))
    print(fmt::format("last failure  {}  {} on {}: {}\n", json::text(*failure, "timestamp"), json::text(*failure, "state"), json::text(*failure, "host"),
                      json::text(*failure, "message")));
  return ok;
}

int app_scale(Session& s, const std::string& id, int instances, bool force, bool no_wait) {
  auto app = absolute(id);
  (void)s.must("GET", "/v2/apps" + app);
  auto answer = s.must("PUT", "/v2/apps" + app + (force ? "?force=true" : ""), fmt::format(R"({{"instances":{}}})", instances));
  return finish(s, answer, app, fmt::format("scaled to {}", instances), no_wait, std::chrono::seconds(300));
}

int app_restart(Session& s, const std::string& id, bool force, bool no_wait) {
  auto app = absolute(id);
  auto answer = s.must("POST", "/v2/apps" + app + "/restart" + (force ? "?force=true" : ""));
  return finish(s, answer, app, "restarted", no_wait, std::chrono::seconds(300));
}

int app_remove(Session& s, const std::string& id, bool no_wait) {
  auto app = absolute(id);
  auto answer = s.must("DELETE", "/v2/apps" + app);
  return finish(s, answer, app, "removed", no_wait, std::chrono::seconds(300));
}

}  // namespace croft::cli
