// What clients keep in a cluster and want back: templates, policies, pipelines, cluster settings.

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/es/face.hpp"
#include "logs/query/document.hpp"

namespace croft::logs {

namespace {

/// One kind of thing that is stored under a name.
struct Kind {
  std::string_view path, prefix, missing_type, list_key;  ///< list_key: {"index_templates":[{"name":…,"index_template":…}]}; "" for an object by name
  std::string_view item_key;
};
constexpr Kind kinds[] = {{"/_template", "template/", "index_template_missing_exception", "", ""},
                          {"/_index_template", "index_template/", "resource_not_found_exception", "index_templates", "index_template"},
                          {"/_component_template", "component_template/", "resource_not_found_exception", "component_templates", "component_template"},
                          {"/_ilm/policy", "ilm/", "resource_not_found_exception", "", ""},
                          {"/_ingest/pipeline", "pipeline/", "resource_not_found_exception", "", ""}};

const Kind& kind_of(const std::string& path) {
  for (const auto& k : kinds)
    if (path.starts_with(k.path)) return k;
  return kinds[0];
}

std::string name_param(const Request& r) {
  auto at = r.params.find("name");
  return at == r.params.end() ? "*" : at->second;
}

/// What is kept may do something in a real cluster that this store does not do: then it is refused, not silently ignored.
std::optional<EsError> judge(const Kind& kind, const json::value& body, std::string_view text) {
  if (kind.prefix == "pipeline/" && !json::list(body, "processors").empty())
    return EsError{400, "illegal_argument_exception", "ingest pipelines with processors are not supported by this store: change documents before they are sent", {}, false};
  if ((kind.prefix == "template/" || kind.prefix == "index_template/") && !json::find(body, "index_patterns"))
    return EsError{400, "action_request_validation_exception", "Validation Failed: 1: index patterns are missing;", {}, false};
  if (kind.prefix == "ilm/" && !json::find(body, "policy")) return parsing_error("Required [policy]", text);
  return std::nullopt;
}

asio::awaitable<Response> put(ApiPtr api, Request r) {
  const auto& kind = kind_of(r.path);
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  if (auto wrong = judge(kind, *body, r.body)) co_return error(*wrong);
  auto key = std::string(kind.prefix) + name_param(r);
  if (r.query.flag("create") && api->store.settings(kind.prefix).contains(name_param(r)))
    co_return error(400, "illegal_argument_exception", fmt::format("index_template [{}] already exists", name_param(r)));
  auto result = std::make_shared<Status>();
  auto text = json::print(*body);
  std::function<void()> work = [&] { *result = api->store.put_setting(key, text); };
  co_await api->pool.run(work);
  if (!*result && result->error().code == Errc::too_large) co_return error(400, "illegal_argument_exception", result->error().context);
  if (!*result) co_return error(store_failed(result->error()));
  co_return Response::json(R"({"acknowledged":true})");
}

/// Legacy templates come back with all their members.
json::value as_shown(const Kind& kind, const json::value& stored) {
  auto out = stored;
  if (kind.prefix == "template/" && out.is_object()) {
    auto& o = out.get_object();
    if (!o.contains("order")) o["order"] = 0;
    if (o.contains("index_patterns") && o["index_patterns"].is_string()) o["index_patterns"] = json::array{o["index_patterns"]};
    for (auto key : {"settings", "mappings", "aliases"})
      if (!o.contains(key)) o[key] = json::object();
  }
  if (kind.prefix == "ilm/" && out.is_object()) {
    auto& o = out.get_object();
    o["version"] = 1;
    o["modified_date"] = "2024-01-01T00:00:00.000Z";
  }
  return out;
}

asio::awaitable<Response> get(ApiPtr api, Request r) {
  const auto& kind = kind_of(r.path);
  auto patterns = split(name_param(r), ',');
  std::vector<std::pair<std::string, json::value>> found;
  for (const auto& [name, text] : api->store.settings(kind.prefix)) {
    bool meant = std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return fits(p, name); });
    if (auto parsed = json::parse(text); meant && parsed) found.emplace_back(name, as_shown(kind, *parsed));
  }
  bool plain = name_param(r).find('*') == std::string::npos;
  if (found.empty() && plain) {
    if (kind.list_key.empty() && kind.prefix != "ilm/") co_return Response::json("{}", 404);
    co_return error(404, kind.missing_type, fmt::format("{} matching [{}] not found", kind.item_key.empty() ? "lifecycle policy" : std::string(kind.item_key), name_param(r)));
  }
  JsonWriter w;
  w.begin_object();
  if (!kind.list_key.empty()) {
    w.key(kind.list_key).begin_array();
    for (const auto& [name, v] : found) w.begin_object().field("name", name).key(kind.item_key).value(v).end_object();
    w.end_array();
  } else {
    for (const auto& [name, v] : found) w.key(name).value(v);
  }
  w.end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> remove(ApiPtr api, Request r) {
  const auto& kind = kind_of(r.path);
  auto result = std::make_shared<Status>();
  std::function<void()> work = [&] {
    bool any = false;
    for (const auto& [name, text] : api->store.settings(kind.prefix)) {
      if (!fits(name_param(r), name)) continue;
      any = true;
      if (auto ok = api->store.erase_setting(std::string(kind.prefix) + name); !ok) *result = ok;
    }
    if (!any) *result = fail(Errc::not_found, "{} [{}] missing", kind.prefix.substr(0, kind.prefix.size() - 1), name_param(r));
  };
  co_await api->pool.run(work);
  if (!*result && result->error().code == Errc::not_found) co_return error(404, kind.missing_type, result->error().context);
  if (!*result) co_return error(store_failed(result->error()));
  co_return Response::json(R"({"acknowledged":true})");
}

asio::awaitable<Response> show_cluster_settings(ApiPtr, Request) { co_return Response::json(R"({"persistent":{},"transient":{}})"); }

asio::awaitable<Response> ilm_status(ApiPtr, Request) { co_return Response::json(R"({"operation_mode":"RUNNING"})"); }

asio::awaitable<Response> data_streams(ApiPtr, Request r) {
  auto name = name_param(r);
  if (name.find('*') == std::string::npos) co_return error(no_index(name));
  co_return Response::json(R"({"data_streams":[]})");
}

}  // namespace

void add_admin_routes(const On& on) {
  for (const auto& kind : kinds) {
    std::string path(kind.path);
    on({"GET"}, path, get);
    on({"GET"}, path + "/{name}", get);
    on({"PUT", "POST"}, path + "/{name}", put);
    on({"DELETE"}, path + "/{name}", remove);
  }
  on({"GET"}, "/_cluster/settings", show_cluster_settings);
  on({"GET"}, "/_ilm/status", ilm_status);
  on({"GET"}, "/_data_stream", data_streams);
  on({"GET"}, "/_data_stream/{name}", data_streams);
}

}  // namespace croft::logs
