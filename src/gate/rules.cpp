#include "gate/rules.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::gate {

namespace {

using secure::Kind;
using secure::Link;
using secure::Verb;
using How = Need::How;

/// What a rule's target is.
enum class Of : std::uint8_t { about, app, secret, farm, access, audit };

struct Rule {
  std::string_view method;   ///< "*": any
  std::string_view pattern;
  How how;
  Verb verb = Verb::see;
  Of of = Of::about;
  std::string_view param = {};  ///< of app: the parameter that has its path
  Link link = Link::renew;
};

constexpr Rule open_to_all(std::string_view method, std::string_view pattern) { return {method, pattern, How::open}; }
/// Everybody who is logged in; what is shown or changed is judged where the apps are known.
constexpr Rule logged_in(std::string_view method, std::string_view pattern) { return {method, pattern, How::login}; }
constexpr Rule sees_app(std::string_view pattern, std::string_view param = "id") { return {"GET", pattern, How::login, Verb::see, Of::app, param}; }
constexpr Rule changes_app(std::string_view method, std::string_view pattern, std::string_view param = "id") { return {method, pattern, How::login, Verb::change, Of::app, param}; }
constexpr Rule sees_farm(std::string_view pattern) { return {"GET", pattern, How::login, Verb::see, Of::farm}; }
constexpr Rule hosts(std::string_view method, std::string_view pattern, Link link) { return {method, pattern, How::host, Verb::administer, Of::farm, {}, link}; }
constexpr Rule accounts(std::string_view method, std::string_view pattern) { return {method, pattern, How::login, Verb::administer, Of::access}; }

constexpr Rule page[] = {logged_in("GET", "/"), logged_in("GET", "/croft.css"), logged_in("GET", "/croft.js"), logged_in("GET", "/croft/v1/overview"), logged_in("GET", "/croft/v1/logs"),
                         sees_farm("/metrics")};

constexpr Rule marathon[] = {
    open_to_all("GET", "/ping"),
    logged_in("GET", "/v2/info"), logged_in("GET", "/v2/leader"), {"DELETE", "/v2/leader", How::login, Verb::administer, Of::farm},
    logged_in("GET", "/v2/apps"), logged_in("GET", "/v2/apps/"), logged_in("POST", "/v2/apps"), logged_in("POST", "/v2/apps/"), logged_in("PUT", "/v2/apps"), logged_in("PUT", "/v2/apps/"),
    logged_in("PATCH", "/v2/apps"), logged_in("PATCH", "/v2/apps/"),
    sees_app("/v2/apps/{*id}"), sees_app("/v2/apps/{*id}/versions"), sees_app("/v2/apps/{*id}/versions/{version}"), sees_app("/v2/apps/{*id}/tasks"), sees_app("/croft/v1/explain/{*id}"),
    changes_app("PUT", "/v2/apps/{*id}"), changes_app("PATCH", "/v2/apps/{*id}"), changes_app("DELETE", "/v2/apps/{*id}"), changes_app("POST", "/v2/apps/{*id}/restart"),
    changes_app("DELETE", "/v2/apps/{*id}/tasks"), changes_app("DELETE", "/v2/apps/{*id}/tasks/{task}"), changes_app("DELETE", "/v2/queue/{*id}/delay"),
    logged_in("GET", "/v2/tasks"), logged_in("GET", "/v2/tasks/"), logged_in("POST", "/v2/tasks/delete"),
    logged_in("GET", "/v2/deployments"), logged_in("GET", "/v2/deployments/"), logged_in("DELETE", "/v2/deployments/{id}"), logged_in("GET", "/v2/queue"), logged_in("GET", "/v2/queue/"),
    logged_in("GET", "/v2/groups"), logged_in("GET", "/v2/groups/"), logged_in("GET", "/v2/groups/{*id}"), logged_in("GET", "/v2/groups/apps"),
    sees_app("/v2/groups/{*id}/apps"), sees_app("/v2/groups/{*id}/versions"), sees_app("/v2/groups/{*id}/versions/{version}"),
    sees_farm("/v2/groups/versions"), sees_farm("/v2/groups/versions/{version}"),
    logged_in("POST", "/v2/groups"), logged_in("POST", "/v2/groups/"), logged_in("PUT", "/v2/groups"), logged_in("PUT", "/v2/groups/"),
    changes_app("POST", "/v2/groups/{*id}"), changes_app("PUT", "/v2/groups/{*id}"), changes_app("DELETE", "/v2/groups/{*id}"),
    {"DELETE", "/v2/groups", How::login, Verb::administer, Of::farm}, {"DELETE", "/v2/groups/", How::login, Verb::administer, Of::farm},
    logged_in("GET", "/v2/events"),
    changes_app("PUT", "/croft/v1/rules/{*app}", "app"), changes_app("DELETE", "/croft/v1/rules/{*app}", "app"),
    logged_in("GET", "/croft/v1/secrets"), {"GET", "/croft/v1/secrets/{*name}", How::login, Verb::see, Of::secret, "name"},
    {"PUT", "/croft/v1/secrets/{*name}", How::login, Verb::change, Of::secret, "name"}, {"DELETE", "/croft/v1/secrets/{*name}", How::login, Verb::change, Of::secret, "name"},
    {"POST", "/croft/v1/nodes/{node}", How::login, Verb::administer, Of::farm},
    logged_in("GET", "/croft/v1/whoami"), logged_in("POST", "/croft/v1/login"), logged_in("DELETE", "/croft/v1/login"), logged_in("PUT", "/croft/v1/password"),
    accounts("GET", "/croft/v1/users"), accounts("POST", "/croft/v1/users"), accounts("PUT", "/croft/v1/users/{name}"), accounts("DELETE", "/croft/v1/users/{name}"),
    accounts("GET", "/croft/v1/tokens"), accounts("POST", "/croft/v1/tokens"), accounts("DELETE", "/croft/v1/tokens/{id}"), accounts("POST", "/croft/v1/join-tokens"),
    logged_in("GET", "/croft/v1/audit"),
    accounts("GET", "/croft/v1/ca/rotation"), accounts("POST", "/croft/v1/ca/rotation"), accounts("GET", "/croft/v1/ca/revocations"), accounts("POST", "/croft/v1/ca/revocations"),
    open_to_all("GET", "/croft/v1/ca"), open_to_all("POST", "/croft/v1/join"),
    hosts("POST", "/croft/v1/certificates", Link::renew), hosts("GET", "/croft/v1/access", Link::catalog),
    hosts("POST", "/croft/v1/agents", Link::agent), hosts("POST", "/croft/v1/agents/{id}/reports", Link::agent),
    logged_in("POST", "/croft/v1/exec"), logged_in("GET", "/croft/v1/exec/{session}"), logged_in("POST", "/croft/v1/exec/{session}"), logged_in("DELETE", "/croft/v1/exec/{session}"),
    hosts("POST", "/croft/v1/refusals", Link::catalog),
    hosts("GET", "/croft/v1/agents/{id}/exec/{session}", Link::agent), hosts("POST", "/croft/v1/agents/{id}/exec/{session}", Link::agent),
    hosts("GET", "/croft/v1/catalog", Link::catalog), hosts("POST", "/croft/v1/catalog/confirmations", Link::catalog),
};

/// Without "/master" and ".json", which mean nothing.
constexpr Rule mesos[] = {open_to_all("GET", "/health"), logged_in("GET", "/version"), logged_in("GET", "/redirect"), sees_farm("/state"), sees_farm("/state-summary"), sees_farm("/slaves"),
                          sees_farm("/frameworks"), sees_farm("/tasks"), sees_farm("/roles"), sees_farm("/flags"), sees_farm("/metrics/snapshot"), sees_farm("/system/stats")};

/// Without "/slave(1)" and ".json".
constexpr Rule agent[] = {open_to_all("GET", "/health"), logged_in("GET", "/version"), sees_farm("/state"), sees_farm("/monitor/statistics"), sees_farm("/containers"),
                          sees_farm("/metrics/snapshot"), sees_farm("/flags"), sees_farm("/metrics"), sees_farm("/files/debug")};

constexpr Rule bamboo[] = {open_to_all("GET", "/status"), logged_in("GET", "/api/state"), logged_in("GET", "/api/services"), logged_in("GET", "/api/services/{*id}"),
                           logged_in("POST", "/api/services"), logged_in("PUT", "/api/services"), logged_in("PUT", "/api/services/"), logged_in("DELETE", "/api/services"),
                           logged_in("DELETE", "/api/services/"), changes_app("PUT", "/api/services/{*id}"), changes_app("DELETE", "/api/services/{*id}"),
                           logged_in("POST", "/api/marathon/event_callback")};

constexpr Rule logs[] = {
    // What old shippers ask before they send; they come with a host's certificate or a login.
    {"GET", "/", How::either, Verb::see, Of::about, {}, Link::log_write}, {"GET", "/_license", How::either, Verb::see, Of::about, {}, Link::log_write},
    {"GET", "/_xpack", How::either, Verb::see, Of::about, {}, Link::log_write}, {"GET", "/_cluster/health", How::either, Verb::see, Of::about, {}, Link::log_write},
    logged_in("GET", "/_security/_authenticate"),
    logged_in("*", "/_search"), logged_in("*", "/{index}/_search"), logged_in("*", "/{index}/{rest}/_search"), logged_in("*", "/_count"), logged_in("*", "/{index}/_count"),
    logged_in("*", "/{index}/{rest}/_count"), logged_in("*", "/_msearch"), logged_in("*", "/{index}/_msearch"), logged_in("*", "/{index}/{rest}/_msearch"),
    logged_in("GET", "/_search/scroll"), logged_in("POST", "/_search/scroll"), sees_farm("/metrics"),
};

template <std::size_t n>
const Rule* find(const Rule (&rules)[n], std::string_view method, std::string_view pattern) {
  const auto* at = std::find_if(rules, rules + n, [&](const Rule& r) { return r.pattern == pattern && (r.method == "*" || r.method == method); });
  return at == rules + n ? nullptr : at;
}

const Rule* find(Face face, std::string_view method, std::string_view pattern) {
  const Rule* found = nullptr;
  switch (face) {
    case Face::marathon: found = find(marathon, method, pattern); break;
    case Face::mesos: found = find(mesos, method, pattern); break;
    case Face::agent: return find(agent, method, pattern);
    case Face::bamboo: found = find(bamboo, method, pattern); break;
    case Face::logs: return find(logs, method, pattern);
    case Face::discovery: return nullptr;
    case Face::console: break;
  }
  return found ? found : find(page, method, pattern);
}

/// Mesos has its paths under several spellings.
std::string_view plain(Face face, std::string_view pattern) {
  if (face == Face::mesos && pattern.starts_with("/master/")) pattern.remove_prefix(7);
  if (face == Face::agent && pattern.starts_with("/slave(1)/")) pattern.remove_prefix(9);
  if ((face == Face::mesos || face == Face::agent) && pattern.ends_with(".json")) pattern.remove_suffix(5);
  return pattern;
}

Need needing(Verb verb, Kind kind, std::string path = {}) { return {How::login, verb, {kind, std::move(path)}, {}}; }

/// Appending is for hosts, and for operators of the whole farm: who writes lines could write them in an app's name.
Need need_of_logs(std::string_view method, std::string_view pattern) {
  bool reads = method == "GET";
  bool appends = pattern.ends_with("/_bulk") || ((pattern == "/{index}/_doc" || pattern == "/{index}/_doc/{id}" || pattern == "/{index}/_create/{id}") && !reads && method != "DELETE");
  if (appends) return {How::either, Verb::change, {Kind::app, "/"}, Link::log_write};
  if (reads || pattern.ends_with("/_field_caps") || pattern == "/_mget" || pattern == "/{index}/_mget" || pattern.ends_with("/_validate/query") || pattern == "/{index}/_pit") return needing(Verb::see, Kind::farm);
  return needing(Verb::administer, Kind::farm);
}

Need need_of_files(const net::Request& request, std::string_view pattern) {
  if (pattern == "/files/debug") return needing(Verb::see, Kind::farm);
  auto app = app_of_file(request.query.get("path").value_or(""));
  return app.empty() ? needing(Verb::see, Kind::farm) : needing(Verb::see, Kind::app, std::move(app));
}

}  // namespace

std::string app_of_file(std::string_view path) {
  // Steps upwards could lead from one sandbox into another.
  for (const auto& step : split(path, '/'))
    if (step == "." || step == "..") return {};
  constexpr std::string_view before = "/executors/";
  auto at = path.find(before);
  if (at == std::string_view::npos) return {};
  auto task = path.substr(at + before.size());
  task = task.substr(0, task.find('/'));
  auto dot = task.rfind('.');
  if (dot == 0 || dot == std::string_view::npos || dot + 1 == task.size()) return {};
  std::string app(task.substr(0, dot));
  std::replace(app.begin(), app.end(), '_', '/');
  return "/" + app;
}

Need need_of(Face face, const net::Request& request, std::string_view pattern, bool near) {
  std::string_view method = request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
  pattern = plain(face, pattern);
  // What is not there, and OPTIONS: who is logged in hears so.
  if (pattern.empty()) return needing(Verb::see, Kind::about);
  if (face == Face::discovery && pattern.starts_with("/v1/") && method == "GET") return near ? Need{How::open, Verb::see, {Kind::about, {}}, {}} : needing(Verb::see, Kind::about);
  if (face == Face::discovery && pattern == "/metrics") return needing(Verb::see, Kind::farm);
  if (face == Face::agent && pattern.starts_with("/files/")) return need_of_files(request, pattern);
  const auto* rule = find(face, method, pattern);
  if (!rule) return face == Face::logs ? need_of_logs(method, pattern) : Need{};
  Need need{rule->how, rule->verb, {Kind::farm, {}}, rule->link};
  switch (rule->of) {
    case Of::about: need.target.kind = Kind::about; break;
    case Of::farm: break;
    case Of::access: need.target.kind = Kind::access; break;
    case Of::audit: need.target.kind = Kind::audit; break;
    case Of::app: case Of::secret: {
      auto param = request.params.find(std::string(rule->param));
      need.target = {rule->of == Of::app ? Kind::app : Kind::secret, param == request.params.end() ? "" : "/" + param->second};
      break;
    }
  }
  return need;
}

}  // namespace croft::gate
