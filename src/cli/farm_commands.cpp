#include <cstdio>
#include <algorithm>
#include <set>
#include <thread>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string ports_of(const json::value& task) {
  std::vector<std::string> ports;
  for (const auto& port : json::list(task, "ports"))
    if (port.is_int64()) ports.push_back(std::to_string(port.get_int64()));
  return ports.empty() ? "-" : join(ports, ",");
}

std::string health_of(const json::value& task) {
  const auto* results = json::find(task, "healthCheckResults");
  if (!results || !results->is_array() || results->get_array().empty()) return "-";
  for (const auto& r : results->get_array())
    if (!json::boolean(r, "alive")) return "unhealthy";
  return "healthy";
}

/// The query that `croft logs` sends: newest lines of one app, and with `after` only those past it.
std::string logs_query(const std::string& app, int lines, const std::string& query, const std::string& after, bool oldest_first) {
  JsonWriter w;
  w.begin_object().field("size", lines).key("sort").begin_array();
  for (auto field : {"@timestamp", "offset"}) w.begin_object().key(field).begin_object().field("order", oldest_first ? "asc" : "desc").end_object().end_object();
  w.end_array().key("query").begin_object().key("bool").begin_object().key("filter").begin_array();
  w.begin_object().key("term").begin_object().field("app", app).end_object().end_object();
  if (!after.empty()) w.begin_object().key("range").begin_object().key("@timestamp").begin_object().field("gte", after).end_object().end_object().end_object();
  if (!query.empty()) w.begin_object().key("query_string").begin_object().field("query", query).end_object().end_object();
  w.end_array().end_object().end_object().end_object();
  return std::move(w).take();
}

}  // namespace

int task_list(Session& s, const std::string& app) {
  auto answer = s.must("GET", app.empty() ? "/v2/tasks" : "/v2/apps" + absolute(app) + "/tasks");
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto body = answer.json();
  std::vector<std::vector<std::string>> rows{{"TASK", "APP", "HOST", "PORTS", "STATE", "HEALTH", "STARTED"}};
  for (const auto& task : json::list(body, "tasks"))
    rows.push_back({json::text(task, "id"), json::text(task, "appId", app), json::text(task, "host"), ports_of(task), json::text(task, "state"),
                    health_of(task), json::text(task, "startedAt", "-")});
  print(rows.size() > 1 ? table(rows) : "No tasks.\n");
  return ok;
}

int node_list(Session& s) {
  auto answer = s.must("GET", "/croft/v1/overview");
  auto body = answer.json();
  if (s.common().json) {
    const auto* hosts = json::find(body, "hosts");
    return print((hosts ? json::print(*hosts) : "[]") + "\n"), ok;
  }
  std::vector<std::vector<std::string>> rows{{"NODE", "HOST", "ADDRESS", "STATE", "CPUS", "MEM", "TASKS"}};
  for (const auto& host : json::list(body, "hosts")) {
    auto used = [&](std::string_view kind) {
      const auto* r = json::find(host, "resources");
      const auto* u = json::find(host, "used");
      return fmt::format("{} of {}", u ? print_number(json::number(*u, kind)) : "0", r ? print_number(json::number(*r, kind)) : "0");
    };
    rows.push_back({json::text(host, "id"), json::text(host, "hostname"), fmt::format("{}:{}", json::text(host, "ip"), json::integer(host, "port")),
                    json::boolean(host, "reachable", true) ? "reachable" : "unreachable", used("cpus"), used("mem"), std::to_string(json::integer(host, "tasks"))});
  }
  print(rows.size() > 1 ? table(rows) : "No nodes have registered yet.\n");
  return ok;
}

int deployment_list(Session& s) {
  auto answer = s.must("GET", "/v2/deployments");
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto body = answer.json();
  std::vector<std::vector<std::string>> rows{{"DEPLOYMENT", "STEP", "ACTION", "APPS", "VERSION"}};
  if (body.is_array())
    for (const auto& d : body.get_array()) {
      std::vector<std::string> actions;
      for (const auto& a : json::list(d, "currentActions")) actions.push_back(json::text(a, "action"));
      rows.push_back({json::text(d, "id"), fmt::format("{} of {}", json::integer(d, "currentStep"), json::integer(d, "totalSteps")), join(actions, ","),
                      join(json::texts(d, "affectedApps"), ","), json::text(d, "version")});
    }
  print(rows.size() > 1 ? table(rows) : "No deployment is under way.\n");
  return ok;
}

int deployment_rollback(Session& s, const std::string& id, bool no_wait) {
  auto answer = s.must("DELETE", "/v2/deployments/" + url_encode(id));
  auto body = answer.json();
  auto rollback = json::text(body, "deploymentId");
  if (!no_wait && !rollback.empty()) await_deployment(s, rollback, "/", std::chrono::seconds(300));
  if (s.common().json) print(answer.body + "\n");
  else print(fmt::format("{}: rolled back by deployment {}\n", id, rollback));
  return ok;
}

int logs(Session& s, const std::string& app_given, bool follow, int lines, const std::string& query) {
  auto app = absolute(app_given);
  std::string after;
  std::set<std::string> seen;  // ids of lines with the newest time stamp, which the next round finds again
  for (bool first = true; first || follow; first = false) {
    auto answer = s.logs("POST", "/logstash-*/_search", logs_query(app, first ? lines : 1000, query, after, !first));
    if (answer.status >= 400) throw Ended{failed, words_of(answer)};
    auto body = answer.json();
    const auto* hits = json::find(body, "hits");
    std::vector<json::value> found;
    if (hits)
      for (const auto& hit : json::list(*hits, "hits")) found.push_back(hit);
    if (first) std::reverse(found.begin(), found.end());
    for (const auto& hit : found) {
      const auto* source = json::find(hit, "_source");
      if (!source) continue;
      auto at = json::text(*source, "@timestamp");
      if (at != after) seen.clear();
      if (!seen.insert(json::text(hit, "_id")).second) continue;
      after = at;
      if (s.common().json) print(json::print(*source) + "\n");
      else print(fmt::format("{} {} {} {}\n", at, json::text(*source, "host"), json::text(*source, "stream"), json::text(*source, "message")));
    }
    if (follow) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  return ok;
}

int explain(Session& s, const std::string& app) {
  auto answer = s.must("GET", "/croft/v1/explain" + absolute(app));
  if (s.common().json) return print(answer.body + "\n"), ok;
  for (const auto& reason : json::texts(answer.json(), "reasons")) print(reason + "\n");
  return ok;
}

}  // namespace croft::cli
