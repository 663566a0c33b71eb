#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <optional>
#include <set>
#include <thread>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

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

constexpr int page = 1000;
constexpr std::size_t seen_max = 50'000;

/// The query that `croft logs` sends: newest lines of one app first, or with `after` all that are not much older than it, oldest first.
std::string logs_query(const std::string& app, int lines, const std::string& query, const std::optional<Wall>& after, std::size_t from) {
  JsonWriter w;
  w.begin_object().field("size", lines).field("from", static_cast<std::int64_t>(from)).key("sort").begin_array();
  for (auto field : {"@timestamp", "offset"}) w.begin_object().key(field).begin_object().field("order", after ? "asc" : "desc").end_object().end_object();
  w.end_array().key("query").begin_object().key("bool").begin_object().key("filter").begin_array();
  w.begin_object().key("term").begin_object().field("app", app).end_object().end_object();
  if (after) w.begin_object().key("range").begin_object().key("@timestamp").begin_object().field("gte", to_iso8601(*after - Seconds(3))).end_object().end_object().end_object();
  if (!query.empty()) w.begin_object().key("query_string").begin_object().field("query", query).end_object().end_object();
  w.end_array().end_object().end_object().end_object();
  return std::move(w).take();
}

/// Nobody reads our stdout any more (`croft logs -f … | head`).
bool reader_is_gone() {
  pollfd out{STDOUT_FILENO, 0, 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

/// Lines printed already; those of other hosts may come a little late, so that each look goes back a few seconds.
class Seen {
 public:
  bool first_time(const std::string& id) {
    if (!ids_.insert(id).second) return false;
    order_.push_back(id);
    if (order_.size() > seen_max) ids_.erase(order_.front()), order_.pop_front();
    return true;
  }

 private:
  std::set<std::string> ids_;
  std::deque<std::string> order_;
};

/// What a line says: its message; of one that was JSON without a message, the fields that it brought along.
std::string said(const json::value& source) {
  if (const auto* message = json::find(source, "message"); !source.is_object() || (message && message->is_string())) return json::text(source, "message");
  static const std::set<std::string_view> ours{"@timestamp", "app", "task", "host", "stream", "offset", "original", "tags"};
  json::object rest;
  for (const auto& [key, value] : source.get_object())
    if (!ours.contains(std::string_view(key))) rest.emplace(key, value);
  return json::print(rest);
}

void print_line(const json::value& source, bool as_json) {
  if (as_json) print(json::print(source) + "\n");
  else print(fmt::format("{} {} {} {}\n", json::text(source, "@timestamp"), json::text(source, "host"), json::text(source, "stream"), said(source)));
}

}  // namespace

int task_list(Session& s, const std::string& app) {
  auto answer = s.must("GET", app.empty() ? "/v2/tasks" : "/v2/apps" + in_url(absolute(app)) + "/tasks");
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto body = answer.json();
  std::vector<std::vector<std::string>> rows{{"TASK", "APP", "HOST", "PORTS", "STATE", "HEALTH", "STARTED"}};
  for (const auto& task : json::list(body, "tasks"))
    rows.push_back({json::text(task, "id"), json::text(task, "appId", app), json::text(task, "host"), ports_of(task), json::text(task, "state"),
                    health_of(task), json::text(task, "startedAt", "-")});
  print(rows.size() > 1 ? table(rows) : "No tasks.\n");
  return ok;
}

int task_kill(Session& s, const std::vector<std::string>& given) {
  std::set<std::string> ids(given.begin(), given.end());
  JsonWriter w;
  w.begin_object().key("ids").begin_array();
  for (const auto& id : ids) w.value(id);
  w.end_array().end_object();
  auto answer = s.must("POST", "/v2/tasks/delete", std::move(w).take());
  if (s.common().json) print(answer.body + "\n");
  auto body = answer.json();
  std::vector<std::string> missing(ids.begin(), ids.end());
  for (const auto& task : json::list(body, "tasks")) {
    auto id = json::text(task, "id");
    std::erase(missing, id);
    if (!s.common().json) print(fmt::format("{}: told to end\n", id));
  }
  if (!missing.empty()) throw Ended{not_found, "no such task runs: " + join(missing, ", ")};
  return ok;
}

static std::string state_of(const json::value& host) {
  if (!json::boolean(host, "reachable", true)) return "unreachable";
  if (!json::boolean(host, "draining", false)) return "reachable";
  return json::integer(host, "tasks") == 0 ? "drained" : "draining";
}

int node_list(Session& s) {
  auto answer = s.must("GET", "/croft/v1/overview");
  auto body = answer.json();
  if (s.common().json) {
    const auto* hosts = json::find(body, "hosts");
    return print((hosts ? json::print(*hosts) : "[]") + "\n"), ok;
  }
  std::vector<std::vector<std::string>> rows{{"NODE", "HOST", "ADDRESS", "STATE", "CPUS", "MEM (MiB)", "TASKS"}};
  for (const auto& host : json::list(body, "hosts")) {
    auto used = [&](std::string_view kind) {
      const auto* r = json::find(host, "resources");
      const auto* u = json::find(host, "used");
      return fmt::format("{} of {}", u ? print_number(json::number(*u, kind)) : "0", r ? print_number(json::number(*r, kind)) : "0");
    };
    rows.push_back({json::text(host, "id"), json::text(host, "hostname"), fmt::format("{}:{}", json::text(host, "ip"), json::integer(host, "port")),
                    state_of(host), used("cpus"), used("mem"), std::to_string(json::integer(host, "tasks"))});
  }
  std::stable_sort(rows.begin() + 1, rows.end(), [](const auto& a, const auto& b) { return a[1] < b[1]; });  // by host: the ids tell in which order they joined
  print(rows.size() > 1 ? table(rows) : "No nodes have registered yet, or none that you may see.\n");
  return ok;
}

namespace {

/// What the farm says of one node; nothing once it has forgotten it.
std::optional<json::value> host_of(Session& s, const std::string& id) {
  auto body = s.must("GET", "/croft/v1/overview").json();
  for (const auto& host : json::list(body, "hosts"))
    if (json::text(host, "id") == id) return host;
  return std::nullopt;
}

/// Until the last task has left it. Says how many are left whenever that changes.
int await_empty(Session& s, const std::string& node, const std::string& id, int limit_s) {
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(limit_s);
  for (std::int64_t left = -1;;) {  // -1: not known yet
    auto before = left;
    try {
      if (auto host = host_of(s, id)) left = json::integer(*host, "tasks");  // one that a new leader has not heard yet is not empty for that
    } catch (const Ended& e) {
      if (!e.away || std::chrono::steady_clock::now() > end) throw;  // another master takes over, perhaps
    }
    if (left != before && !s.common().quiet) std::fprintf(stderr, left ? "%s: %lld tasks are left\n" : "%s is empty\n", node.c_str(), static_cast<long long>(left));
    if (left == 0) return ok;
    if (std::chrono::steady_clock::now() > end)
      throw Ended{timed_out, fmt::format("{} {} after {} s; it goes on draining. Why one stays: croft explain APP", node, left < 0 ? "has not been heard of" : fmt::format("still has {} tasks", left), limit_s)};
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace

int node_change(Session& s, const std::string& node, const std::string& mode, const ChangeOptions& o) {
  auto answer = s.must("POST", "/croft/v1/nodes/" + in_url(node), json::print(json::object{{"mode", mode}}));
  auto id = json::text(answer.json(), "id");
  if (s.common().json) print(answer.body + "\n");
  if (mode == "draining" && !o.no_wait) return await_empty(s, node, id, o.limit_s);
  if (!s.common().json) print(mode == "active" ? fmt::format("{} takes tasks again\n", node) : mode == "down" ? fmt::format("{} is forgotten; its tasks are replaced\n", node) : fmt::format("{} is draining\n", node));
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

int deployment_rollback(Session& s, const std::string& id, const ChangeOptions& o) {
  std::string app = "/";
  auto all = s.must("GET", "/v2/deployments").json();
  if (all.is_array())
    for (const auto& d : all.get_array())
      if (auto apps = json::texts(d, "affectedApps"); json::text(d, "id") == id && !apps.empty()) app = apps[0];
  auto answer = s.call("DELETE", "/v2/deployments/" + url_encode(id));
  if (answer.status == 404)
    throw Ended{not_found, fmt::format("deployment {} is not under way: it is over, or never was\n  an app's versions:         croft app versions APP\n  back to one of them:       croft app rollback APP [VERSION]", id)};
  if (auto locked = words_of_lock(answer); !locked.empty()) throw Ended{conflict, fmt::format("deployment {} cannot be rolled back: {}", id, locked.substr(0, locked.find('\n')))};
  if (answer.status >= 400) throw Ended{failed, words_of(answer)};
  auto body = answer.json();
  auto rollback = json::text(body, "deploymentId");
  if (!o.no_wait && !rollback.empty()) await_deployment(s, rollback, app, o.limit_s);
  if (s.common().json) print(answer.body + "\n");
  else print(fmt::format("{}: rolled back by deployment {}\n", id, rollback));
  return ok;
}

namespace {

/// What `croft logs` has shown and where it goes on.
struct LogTail {
  Seen seen;
  std::optional<Wall> after;

  /// One search; prints what is new, of the first one only the newest `lines`. The number of lines found.
  std::size_t look(Session& s, const std::string& app, const std::string& query, int size, std::size_t from, std::size_t lines) {
    auto answer = s.logs("POST", "/logstash-*/_search", logs_query(app, size, query, after, from));
    // Lines that are too long together: fewer at a time; the next look goes on behind them.
    if (answer.status == 413 && from > 0) return 0;
    while (answer.status == 413 && size > 1) {
      size /= 2;
      answer = s.logs("POST", "/logstash-*/_search", logs_query(app, size, query, after, from));
    }
    if (answer.status >= 400) throw Ended{answer.status == 400 ? usage : failed, words_of(answer)};
    auto body = answer.json();
    const auto* hits = json::find(body, "hits");
    std::vector<json::value> found;
    if (hits)
      for (const auto& hit : json::list(*hits, "hits")) found.push_back(hit);
    if (first) std::reverse(found.begin(), found.end());
    for (std::size_t i = 0; i < found.size(); ++i) {
      const auto* source = json::find(found[i], "_source");
      if (!source || !seen.first_time(json::text(found[i], "_id"))) continue;
      auto at = from_iso8601(json::text(*source, "@timestamp"));
      if (at) newest = std::max(newest, std::min(*at, system_now().wall));  // a clock that runs ahead must not hide the others
      if (i + lines >= found.size()) print_line(*source, s.common().json);
    }
    return found.size();
  }

  bool first = true;
  Wall newest{};
};

}  // namespace

int logs(Session& s, const std::string& app_given, bool follow, int lines, const std::string& query) {
  auto app = absolute(app_given);
  LogTail tail;
  // Following looks back a little each time, so that older lines than those asked for must be known too.
  auto count = tail.look(s, app, query, follow ? std::max(lines, 5 * page) : lines, 0, static_cast<std::size_t>(lines));
  // Of an app that is gone there may be lines; where there are none, a wrong name should not look like a silent app.
  if (count == 0 && s.call("GET", "/v2/apps" + in_url(app)).status == 404) throw Ended{not_found, app + ": there is no such app, and no line of it"};
  if (count == 0 && !follow && !s.common().quiet) std::fprintf(stderr, "%s: no line of it is stored%s\n", app.c_str(), query.empty() ? "" : " that the query finds");
  tail.first = false;
  while (follow) {
    for (int i = 0; i < 5; ++i) {
      if (reader_is_gone()) return ok;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    tail.after = tail.newest == Wall{} ? system_now().wall - Seconds(1) : tail.newest;
    for (std::size_t from = 0; from + page <= 10'000; from += page)
      if (tail.look(s, app, query, page, from, page) < page) break;
  }
  return ok;
}

int explain(Session& s, const std::string& app) {
  auto answer = s.call("GET", "/croft/v1/explain" + in_url(absolute(app)));
  if (answer.status >= 400 && answer.status != 404) throw Ended{failed, words_of(answer)};
  auto body = answer.json();
  auto reasons = json::texts(body, "reasons");
  if (s.common().json) print(answer.body + "\n");
  else for (const auto& reason : reasons) print(reason + "\n");
  return answer.status == 404 ? not_found : ok;
}

}  // namespace croft::cli
