// What clients ask a cluster about itself: root, health, nodes, licence, and the tables of _cat.

#include <sys/statvfs.h>

#include <algorithm>
#include <ctime>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/es/face.hpp"
#include "logs/query/document.hpp"

namespace croft::logs {

namespace {

constexpr std::string_view cluster = "farm-logs", build_hash = "c70f7c70f7c70f7c70f7c70f7c70f7c70f7c70f7", node_id = "croftLogNode0000000000";

asio::awaitable<Response> root(ApiPtr api, Request) {
  auto uuid = base64_encode(api->store.uuid()).substr(0, 22);
  JsonWriter w;
  w.begin_object().field("name", api->options.node).field("cluster_name", cluster).field("cluster_uuid", uuid).key("version").begin_object();
  w.field("number", api->options.version).field("build_flavor", "default").field("build_type", "deb").field("build_hash", build_hash).field("build_date", "2025-02-20T09:05:31.349013687Z");
  w.field("build_snapshot", false).field("lucene_version", "8.11.3").field("minimum_wire_compatibility_version", "6.8.0").field("minimum_index_compatibility_version", "6.0.0-beta1");
  w.end_object().field("tagline", "You Know, for Search").end_object();
  co_return Response::json(std::move(w).take());
}

std::string_view status_of(Api& api) { return api.store.damaged().empty() ? "green" : "yellow"; }

asio::awaitable<Response> health(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto infos = api->store.indices();
  std::erase_if(infos, [&](const auto& i) { return !(*target)(i.name); });
  auto status = status_of(*api);
  auto rank = [](std::string_view s) { return s == "green" ? 0 : s == "yellow" ? 1 : 2; };
  auto wanted = r.query.get("wait_for_status");
  if (wanted && *wanted != "green" && *wanted != "yellow" && *wanted != "red") co_return error(400, "illegal_argument_exception", fmt::format("unknown cluster health status [{}]", *wanted));
  bool timed_out = wanted && rank(status) > rank(*wanted);
  auto shards = infos.size();
  auto counts = [&](JsonWriter& w, std::size_t n) {
    w.field("active_primary_shards", n).field("active_shards", n).field("relocating_shards", 0).field("initializing_shards", 0).field("unassigned_shards", 0);
  };
  JsonWriter w;
  w.begin_object().field("cluster_name", cluster).field("status", status).field("timed_out", timed_out).field("number_of_nodes", 1).field("number_of_data_nodes", 1);
  counts(w, shards);
  w.field("delayed_unassigned_shards", 0).field("number_of_pending_tasks", 0).field("number_of_in_flight_fetch", 0).field("task_max_waiting_in_queue_millis", 0).field("active_shards_percent_as_number", 100.0);
  if (r.query.get("level").value_or("cluster") != "cluster") {
    w.key("indices").begin_object();
    for (const auto& i : infos) {
      w.key(i.name).begin_object().field("status", "green").field("number_of_shards", 1).field("number_of_replicas", 0);
      counts(w, 1);
      w.end_object();
    }
    w.end_object();
  }
  w.end_object();
  co_return Response::json(std::move(w).take(), timed_out ? 408 : 200);
}

std::string address_of(const Request& r) { return r.local.empty() ? "127.0.0.1:9200" : r.local; }

asio::awaitable<Response> nodes(ApiPtr api, Request r) {
  auto address = address_of(r);
  auto host = address.substr(0, address.rfind(':'));
  JsonWriter w;
  w.begin_object().key("_nodes").begin_object().field("total", 1).field("successful", 1).field("failed", 0).end_object().field("cluster_name", cluster).key("nodes").begin_object().key(node_id).begin_object();
  w.field("name", api->options.node).field("transport_address", host + ":9300").field("host", host).field("ip", host).field("version", api->options.version);
  w.field("build_flavor", "default").field("build_type", "deb").field("build_hash", build_hash).key("roles").begin_array().value("data").value("ingest").value("master").end_array();
  w.key("http").begin_object().key("bound_address").begin_array().value(address).end_array().field("publish_address", address).field("max_content_length_in_bytes", 104857600).end_object();
  w.end_object().end_object().end_object();
  co_return Response::json(std::move(w).take());
}

struct Totals { std::uint64_t documents = 0, deleted = 0, bytes = 0, indices = 0; };
Totals totals_of(Api& api) {
  Totals t;
  for (const auto& i : api.store.indices()) t.documents += i.documents, t.deleted += i.deleted, t.bytes += i.bytes, ++t.indices;
  return t;
}

asio::awaitable<Response> node_stats(ApiPtr api, Request r) {
  auto address = address_of(r);
  auto t = totals_of(*api);
  JsonWriter w;
  w.begin_object().key("_nodes").begin_object().field("total", 1).field("successful", 1).field("failed", 0).end_object().field("cluster_name", cluster).key("nodes").begin_object().key(node_id).begin_object();
  w.field("timestamp", system_now().wall.time_since_epoch().count()).field("name", api->options.node).field("host", address.substr(0, address.rfind(':')));
  w.key("roles").begin_array().value("data").value("ingest").value("master").end_array().key("indices").begin_object();
  w.key("docs").begin_object().field("count", t.documents).field("deleted", t.deleted).end_object().key("store").begin_object().field("size_in_bytes", t.bytes).end_object();
  w.key("indexing").begin_object().field("index_total", api->indexed.load()).end_object().key("search").begin_object().field("query_total", api->searches.load()).field("open_contexts", api->cursors.count()).end_object();
  w.end_object().end_object().end_object().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> cluster_stats(ApiPtr api, Request) {
  auto t = totals_of(*api);
  JsonWriter w;
  w.begin_object().field("cluster_name", cluster).field("status", status_of(*api)).key("indices").begin_object().field("count", t.indices);
  w.key("docs").begin_object().field("count", t.documents).field("deleted", t.deleted).end_object().key("store").begin_object().field("size_in_bytes", t.bytes).end_object().end_object();
  w.key("nodes").begin_object().key("count").begin_object().field("total", 1).field("data", 1).field("master", 1).end_object().key("versions").begin_array().value(api->options.version).end_array().end_object().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> license(ApiPtr, Request) {
  co_return Response::json(R"({"license":{"status":"active","uid":"c70f7c70-f7c7-4f7c-8f7c-70f7c70f7c70","type":"basic","issue_date":"2024-01-01T00:00:00.000Z","issue_date_in_millis":1704067200000,"max_nodes":1000,"max_resource_units":null,"issued_to":"farm","issuer":"elasticsearch","start_date_in_millis":-1}})");
}

asio::awaitable<Response> xpack(ApiPtr, Request) {
  co_return Response::json(R"({"build":{"hash":"c70f7c70f7c70f7c70f7c70f7c70f7c70f7c70f7","date":"2025-02-20T09:05:31.349013687Z"},"license":{"uid":"c70f7c70-f7c7-4f7c-8f7c-70f7c70f7c70","type":"basic","mode":"basic","status":"active"},)"
                           R"("features":{"ilm":{"available":true,"enabled":true},"security":{"available":false,"enabled":false}},"tagline":"You know, for X"})");
}

asio::awaitable<Response> whoami(ApiPtr, Request) {
  co_return Response::json(R"({"username":"anonymous","roles":["superuser"],"full_name":null,"email":null,"metadata":{},"enabled":true,"authentication_type":"anonymous"})");
}

// --- _cat ---

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

/// h= chooses columns, s= sorts, v= shows the header, format=json gives objects of strings.
Response table_reply(Table t, const Request& r) {
  if (r.query.has("help")) {
    std::string text;
    for (const auto& c : t.columns) text += fmt::format("{:<32} | |\n", c);
    return Response::text(std::move(text));
  }
  auto column = [&](std::string_view name) { return static_cast<std::size_t>(std::find(t.columns.begin(), t.columns.end(), name) - t.columns.begin()); };
  if (auto keys = r.query.get("s")) {
    auto list = split(*keys, ',');
    for (auto key = list.rbegin(); key != list.rend(); ++key) {
      auto colon = key->find(':');
      auto at = column(key->substr(0, colon));
      if (at == t.columns.size()) return error(400, "illegal_argument_exception", fmt::format("Unable to sort by unknown sort key `{}`", key->substr(0, colon)));
      bool descending = colon != std::string::npos && key->substr(colon + 1) == "desc";
      std::stable_sort(t.rows.begin(), t.rows.end(), [&](const auto& a, const auto& b) {
        auto x = to_double(a[at]), y = to_double(b[at]);
        if (x && y) return descending ? *x > *y : *x < *y;
        return descending ? a[at] > b[at] : a[at] < b[at];
      });
    }
  }
  std::vector<std::size_t> shown;
  if (auto names = r.query.get("h")) {
    static const std::map<std::string_view, std::string_view> short_names{{"i", "index"}, {"idx", "index"}, {"dc", "docs.count"}, {"docsCount", "docs.count"}, {"ss", "store.size"}, {"storeSize", "store.size"}, {"h", "health"}, {"s", "status"}};
    for (const auto& name : split(*names, ',')) {
      auto at = column(short_names.contains(name) ? short_names.at(name) : std::string_view(name));
      if (at < t.columns.size()) shown.push_back(at);
    }
  } else {
    for (std::size_t i = 0; i < t.columns.size(); ++i) shown.push_back(i);
  }
  auto format = r.query.get("format").value_or(r.headers.get("Accept").find("json") != std::string_view::npos ? "json" : "text");
  if (format == "json") {
    JsonWriter w;
    w.begin_array();
    for (const auto& row : t.rows) {
      w.begin_object();
      for (auto i : shown) w.field(t.columns[i], row[i]);
      w.end_object();
    }
    w.end_array();
    return Response::json(std::move(w).take());
  }
  if (format != "text") return error(400, "illegal_argument_exception", fmt::format("format [{}] is not supported: text or json", format));
  if (r.query.flag("v")) t.rows.insert(t.rows.begin(), t.columns);
  std::vector<std::size_t> width(t.columns.size(), 0);
  for (const auto& row : t.rows)
    for (auto i : shown) width[i] = std::max(width[i], row[i].size());
  std::string text;
  for (const auto& row : t.rows) {
    std::string line;
    for (std::size_t k = 0; k < shown.size(); ++k) line += (k ? " " : "") + fmt::format("{:<{}}", row[shown[k]], width[shown[k]]);
    text += std::string(line.substr(0, line.find_last_not_of(' ') + 1)) + "\n";
  }
  return Response::text(std::move(text));
}

std::string size_text(std::uint64_t bytes, const std::optional<std::string>& unit) {
  static constexpr const char* units[] = {"b", "kb", "mb", "gb", "tb"};
  auto v = static_cast<double>(bytes);
  int u = 0;
  if (unit) {
    static constexpr std::string_view short_units = "bkmgt";
    auto at = short_units.find(unit->empty() ? 'b' : (*unit)[0]);
    for (std::size_t i = 0; i < (at == std::string_view::npos ? 0 : at); ++i) v /= 1024;
    return std::to_string(static_cast<std::uint64_t>(v));
  }
  while (v >= 1024 && u < 4) v /= 1024, ++u;
  if (u == 0) return fmt::format("{}b", bytes);
  auto text = fmt::format("{:.1f}", v);
  return (text.ends_with(".0") ? text.substr(0, text.size() - 2) : text) + units[u];
}

asio::awaitable<Response> cat_indices(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  Table t{{"health", "status", "index", "uuid", "pri", "rep", "docs.count", "docs.deleted", "store.size", "pri.store.size"}, {}};
  for (const auto& i : api->store.indices()) {
    if (!(*target)(i.name)) continue;
    auto size = size_text(i.bytes, r.query.get("bytes"));
    t.rows.push_back({"green", "open", i.name, i.uuid, "1", "0", std::to_string(i.documents), std::to_string(i.deleted), size, size});
  }
  co_return table_reply(std::move(t), r);
}

std::pair<std::string, std::string> clock_now() {
  auto seconds = std::time(nullptr);
  std::tm tm{};
  ::gmtime_r(&seconds, &tm);
  return {std::to_string(seconds), fmt::format("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec)};
}

asio::awaitable<Response> cat_health(ApiPtr api, Request r) {
  auto [epoch, time] = clock_now();
  auto shards = std::to_string(api->store.indices().size());
  Table t{{"epoch", "timestamp", "cluster", "status", "node.total", "node.data", "shards", "pri", "relo", "init", "unassign", "pending_tasks", "max_task_wait_time", "active_shards_percent"}, {}};
  t.rows.push_back({epoch, time, std::string(cluster), std::string(status_of(*api)), "1", "1", shards, shards, "0", "0", "0", "0", "-", "100.0%"});
  co_return table_reply(std::move(t), r);
}

asio::awaitable<Response> cat_count(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  std::uint64_t count = 0;
  for (const auto& i : api->store.indices())
    if ((*target)(i.name)) count += i.documents;
  auto [epoch, time] = clock_now();
  co_return table_reply({{"epoch", "timestamp", "count"}, {{epoch, time, std::to_string(count)}}}, r);
}

asio::awaitable<Response> cat_shards(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto address = address_of(r);
  Table t{{"index", "shard", "prirep", "state", "docs", "store", "ip", "node"}, {}};
  for (const auto& i : api->store.indices())
    if ((*target)(i.name)) t.rows.push_back({i.name, "0", "p", "STARTED", std::to_string(i.documents), size_text(i.bytes, r.query.get("bytes")), address.substr(0, address.rfind(':')), api->options.node});
  co_return table_reply(std::move(t), r);
}

asio::awaitable<Response> cat_nodes(ApiPtr api, Request r) {
  auto address = address_of(r);
  co_return table_reply({{"ip", "heap.percent", "ram.percent", "cpu", "load_1m", "load_5m", "load_15m", "node.role", "master", "name"}, {{address.substr(0, address.rfind(':')), "0", "0", "0", "0", "0", "0", "dim", "*", api->options.node}}}, r);
}

asio::awaitable<Response> cat_aliases(ApiPtr api, Request r) {
  Table t{{"alias", "index", "filter", "routing.index", "routing.search", "is_write_index"}, {}};
  for (const auto& [alias, indices] : aliases_of(*api).by_alias)
    for (const auto& [index, about] : indices) t.rows.push_back({alias, index, "-", "-", "-", about.find("\"is_write_index\":true") != std::string::npos ? "true" : "-"});
  co_return table_reply(std::move(t), r);
}

asio::awaitable<Response> cat_templates(ApiPtr api, Request r) {
  Table t{{"name", "index_patterns", "order", "version", "composed_of"}, {}};
  for (auto prefix : {"template/", "index_template/"})
    for (const auto& [name, text] : api->store.settings(prefix)) {
      auto parsed = json::parse(text);
      if (!parsed) continue;
      if (auto wanted = r.params.find("name"); wanted != r.params.end() && !fits(wanted->second, name)) continue;
      t.rows.push_back({name, "[" + join(json::texts(*parsed, "index_patterns"), ", ") + "]", std::to_string(json::integer(*parsed, "order", json::integer(*parsed, "priority"))), "", ""});
    }
  co_return table_reply(std::move(t), r);
}

asio::awaitable<Response> cat_nothing(ApiPtr, Request r) { co_return table_reply({{"name", "component", "version"}, {}}, r); }

}  // namespace

void add_cluster_routes(const On& on) {
  on({"GET"}, "/", root);
  on({"GET"}, "/_cluster/health", health);
  on({"GET"}, "/_cluster/health/{index}", health);
  on({"GET"}, "/_cluster/stats", cluster_stats);
  for (const char* path : {"/_nodes", "/_nodes/http", "/_nodes/_local", "/_nodes/_all/http", "/_nodes/_local/http"}) on({"GET"}, path, nodes);
  for (const char* path : {"/_nodes/stats", "/_nodes/_local/stats", "/_nodes/_all/stats"}) on({"GET"}, path, node_stats);
  on({"GET"}, "/_license", license);
  on({"GET"}, "/_xpack", xpack);
  on({"GET"}, "/_security/_authenticate", whoami);
  for (auto [name, face] : std::initializer_list<std::pair<const char*, Face>>{{"/_cat/indices", cat_indices}, {"/_cat/count", cat_count}, {"/_cat/shards", cat_shards}}) {
    on({"GET"}, name, face);
    on({"GET"}, std::string(name) + "/{index}", face);
  }
  on({"GET"}, "/_cat/health", cat_health);
  on({"GET"}, "/_cat/nodes", cat_nodes);
  on({"GET"}, "/_cat/aliases", cat_aliases);
  on({"GET"}, "/_cat/templates", cat_templates);
  on({"GET"}, "/_cat/templates/{name}", cat_templates);
  on({"GET"}, "/_cat/plugins", cat_nothing);
}

}  // namespace croft::logs
