// Indices: create, read, delete, mappings, settings, aliases, field capabilities, refresh and its like.

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/es/face.hpp"
#include "logs/query/document.hpp"

namespace croft::logs {

namespace {

Response acknowledged() { return Response::json(R"({"acknowledged":true})"); }

EsError change_failed(const Error& e, std::string_view name) {
  switch (e.code) {
    case Errc::not_found: return no_index(name);
    case Errc::conflict: return {400, "resource_already_exists_exception", fmt::format("index [{}/_na_] already exists", name), {{"index_uuid", "\"_na_\""}, {"index", json_quote(name)}}, false};
    case Errc::invalid: return {400, "invalid_index_name_exception", e.context, {{"index_uuid", "\"_na_\""}, {"index", json_quote(name)}}, false};
    case Errc::too_large: return {400, "validation_exception", e.context, {}, false};
    default: return store_failed(e);
  }
}

std::string declared_key(const std::string& index) { return "index/" + index; }

/// What was declared for an index when it was made or later: mappings and settings, kept and shown, not enforced.
json::value declared(Api& api, const std::string& index) {
  auto all = api.store.settings("index/");
  auto at = all.find(index);
  auto parsed = at == all.end() ? Result<json::value>(json::value(json::object())) : json::parse(at->second);
  return parsed && parsed->is_object() ? *parsed : json::value(json::object());
}

/// Fields seen in the documents and fields declared, in one mapping.
void write_mappings(JsonWriter& w, Api& api, const IndexView& index) {
  auto fields = api.fields.of(index);
  auto about = declared(api, index.name);
  const auto* mappings = json::find(about, "mappings");
  const auto* properties = mappings ? json::find(*mappings, "properties") : nullptr;
  JsonWriter seen;
  write_properties(seen, fields);
  auto merged = json::parse(seen.str());
  json::object all = merged && json::find(*merged, "properties") ? json::members(*merged, "properties") : json::object();
  if (properties && properties->is_object())
    for (const auto& p : properties->get_object()) all[p.key()] = p.value();
  w.begin_object();
  if (!all.empty()) w.key("properties").value(json::value(all));
  w.end_object();
}

void write_index_settings(JsonWriter& w, Api& api, const IndexInfo& i) {
  w.begin_object().key("index").begin_object().field("creation_date", std::to_string(i.created.time_since_epoch().count())).field("number_of_shards", "1").field("number_of_replicas", "0");
  w.field("uuid", i.uuid).key("version").begin_object().field("created", "7172899").end_object().field("provided_name", i.name);
  auto about = declared(api, i.name);
  if (const auto* settings = json::find(about, "settings"); settings && settings->is_object()) {
    const auto* inside = json::find(*settings, "index");
    for (const auto& s : inside && inside->is_object() ? inside->get_object() : settings->get_object()) {
      std::string key(s.key());
      if (key.starts_with("index.")) key.erase(0, 6);
      if (key == "index" || key == "number_of_shards" || key == "number_of_replicas" || s.value().is_object()) continue;
      w.field(key, s.value().is_string() ? std::string(s.value().get_string()) : json::print(s.value()));
    }
  }
  w.end_object().end_object();
}

void write_aliases_of(JsonWriter& w, const Aliases& aliases, const std::string& index, std::string_view pattern = "*") {
  w.begin_object();
  for (const auto& [alias, indices] : aliases.by_alias)
    if (auto at = indices.find(index); at != indices.end() && fits(pattern, alias)) w.key(alias).raw(at->second);
  w.end_object();
}

enum class Part_ : std::uint8_t { all, mappings, settings };

asio::awaitable<Response> show(ApiPtr api, Request r, Part_ part) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto text = std::make_shared<std::string>();
  std::function<void(const Cancelled&)> work = [&](const Cancelled&) {
    auto view = api->store.view(std::cref(*target));
    auto infos = api->store.indices();
    auto aliases = aliases_of(*api);
    JsonWriter w;
    w.begin_object();
    for (const auto& index : view.indices) {
      auto info = std::find_if(infos.begin(), infos.end(), [&](const auto& i) { return i.name == index.name; });
      if (info == infos.end()) continue;
      w.key(index.name).begin_object();
      if (part == Part_::all) write_aliases_of(w.key("aliases"), aliases, index.name);
      if (part != Part_::settings) w.key("mappings"), write_mappings(w, *api, index);
      if (part != Part_::mappings) w.key("settings"), write_index_settings(w, *api, *info);
      w.end_object();
    }
    w.end_object();
    *text = std::move(w).take();
  };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  co_return Response::json(std::move(*text));
}

asio::awaitable<Response> show_index(ApiPtr api, Request r) { return show(std::move(api), std::move(r), Part_::all); }
asio::awaitable<Response> show_mapping(ApiPtr api, Request r) { return show(std::move(api), std::move(r), Part_::mappings); }
asio::awaitable<Response> show_settings(ApiPtr api, Request r) { return show(std::move(api), std::move(r), Part_::settings); }

Status put_alias(Api& api, const std::string& alias, const std::string& index, const json::value& about) {
  auto all = aliases_of(api);
  auto& indices = all.by_alias[alias];
  json::object kept;
  for (const auto& m : about.is_object() ? about.get_object() : json::object())
    if (m.key() != "index" && m.key() != "indices" && m.key() != "alias" && m.key() != "aliases" && m.key() != "must_exist") kept.emplace(m.key(), m.value());
  indices[index] = json::print(kept);
  JsonWriter w;
  w.begin_object();
  for (const auto& [name, text] : indices) w.key(name).raw(text);
  w.end_object();
  return api.store.put_setting("alias/" + alias, std::move(w).take());
}

Status remove_alias(Api& api, const std::string& alias, const std::string& index) {
  auto all = aliases_of(api);
  auto at = all.by_alias.find(alias);
  if (at == all.by_alias.end() || at->second.erase(index) == 0) return fail(Errc::not_found, "aliases [{}] missing", alias);
  if (at->second.empty()) return api.store.erase_setting("alias/" + alias);
  JsonWriter w;
  w.begin_object();
  for (const auto& [name, text] : at->second) w.key(name).raw(text);
  w.end_object();
  return api.store.put_setting("alias/" + alias, std::move(w).take());
}

Status create(Api& api, const std::string& name, const json::value& body) {
  if (auto ok = api.store.create_index(name); !ok) return ok;
  json::object kept;
  for (auto key : {"mappings", "settings"})
    if (const auto* v = json::find(body, key)) kept.emplace(key, *v);
  if (!kept.empty())
    if (auto ok = api.store.put_setting(declared_key(name), json::print(kept)); !ok) return ok;
  for (const auto& alias : json::members(body, "aliases"))
    if (auto ok = put_alias(api, alias.key(), name, alias.value()); !ok) return ok;
  return {};
}

asio::awaitable<Response> create_index(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  for (const auto& m : body->get_object())
    if (m.key() != "mappings" && m.key() != "settings" && m.key() != "aliases") co_return error(parsing_error(fmt::format("unknown key [{}] for create index", std::string_view(m.key())), r.body));
  auto dated = date_math_name(index_param(r), system_now().wall);
  if (!dated) co_return error(dated.error());
  auto name = *dated;
  if (aliases_of(*api).by_alias.contains(name)) co_return error(400, "invalid_index_name_exception", fmt::format("Invalid index name [{}], already exists as alias", name));
  auto result = std::make_shared<Status>();
  std::function<void()> work = [&] { *result = create(*api, name, *body); };
  co_await api->pool.run(work);
  if (!*result) co_return error(change_failed(result->error(), name));
  JsonWriter w;
  w.begin_object().field("acknowledged", true).field("shards_acknowledged", true).field("index", name).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> delete_index(ApiPtr api, Request r) {
  auto expression = index_param(r);
  if (expression.find('*') != std::string::npos || expression == "_all") co_return error(400, "illegal_argument_exception", "Wildcard expressions or all indices are not allowed");
  for (const auto& name : split(expression, ','))
    if (aliases_of(*api).by_alias.contains(name))
      co_return error(400, "illegal_argument_exception", fmt::format("The provided expression [{}] matches an alias, specify the corresponding concrete indices instead.", name));
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto result = std::make_shared<Status>();
  std::function<void()> work = [&] {
    for (const auto& i : api->store.indices()) {
      if (!(*target)(i.name)) continue;
      if (auto ok = api->store.drop_index(i.name); !ok) *result = ok;
      (void)api->store.erase_setting(declared_key(i.name));
      for (const auto& [alias, indices] : aliases_of(*api).by_alias)
        if (indices.contains(i.name)) (void)remove_alias(*api, alias, i.name);
    }
  };
  co_await api->pool.run(work);
  if (!*result) co_return error(change_failed(result->error(), expression));
  co_return acknowledged();
}

/// PUT of mappings or settings on indices that are there: kept and shown.
asio::awaitable<Response> declare(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto key = r.path.find("_settings") != std::string::npos ? "settings" : "mappings";
  auto result = std::make_shared<Status>();
  std::function<void()> work = [&] {
    for (const auto& i : api->store.indices()) {
      if (!(*target)(i.name)) continue;
      auto about = declared(*api, i.name);
      auto& inside = about.get_object()[key];
      if (!inside.is_object()) inside = json::object();
      for (const auto& m : body->get_object()) {
        auto& mine = inside.get_object()[m.key()];
        if (mine.is_object() && m.value().is_object())
          for (const auto& p : m.value().get_object()) mine.get_object()[p.key()] = p.value();
        else mine = m.value();
      }
      if (auto ok = api->store.put_setting(declared_key(i.name), json::print(about)); !ok) *result = ok;
    }
  };
  co_await api->pool.run(work);
  if (!*result) co_return error(change_failed(result->error(), index_param(r)));
  co_return acknowledged();
}

// --- aliases ---

asio::awaitable<Response> show_aliases(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto aliases = aliases_of(*api);
  auto named = r.params.find("name");
  std::string pattern = named == r.params.end() || named->second == "_all" ? "*" : named->second;
  bool any = false;
  JsonWriter w;
  w.begin_object();
  for (const auto& i : api->store.indices()) {
    if (!(*target)(i.name)) continue;
    bool mine = std::any_of(aliases.by_alias.begin(), aliases.by_alias.end(), [&](const auto& a) { return a.second.contains(i.name) && fits(pattern, a.first); });
    if (!mine && named != r.params.end()) continue;
    any = any || mine;
    w.key(i.name).begin_object().key("aliases");
    write_aliases_of(w, aliases, i.name, pattern);
    w.end_object();
  }
  w.end_object();
  if (!any && named != r.params.end() && pattern.find('*') == std::string::npos) {
    JsonWriter missing;
    missing.begin_object().field("error", fmt::format("alias [{}] missing", pattern)).field("status", 404).end_object();
    co_return Response::json(std::move(missing).take(), 404);
  }
  co_return Response::json(std::move(w).take());
}

std::vector<std::string> names_in(const json::value& action, std::string_view one, std::string_view many) {
  auto out = json::texts(action, many);
  if (auto text = json::text(action, one); !text.empty()) out.push_back(text);
  if (auto text = json::text(action, many); !text.empty()) out.push_back(text);
  return out;
}

Es<void> alias_action(Api& api, std::string_view verb, const json::value& action) {
  for (const auto& expression : names_in(action, "index", "indices")) {
    auto target = target_of(api, expression, {});
    if (!target) return std::unexpected(std::move(target).error());
    for (const auto& i : api.store.indices()) {
      if (!(*target)(i.name)) continue;
      if (verb == "remove_index") {
        if (auto ok = api.store.drop_index(i.name); !ok) return std::unexpected(change_failed(ok.error(), i.name));
        continue;
      }
      for (const auto& alias : names_in(action, "alias", "aliases")) {
        if (auto ok = check_index_name(alias); !ok) return std::unexpected(EsError{400, "invalid_alias_name_exception", ok.error().context, {}, false});
        if (api.store.has_index(alias)) return std::unexpected(EsError{400, "invalid_alias_name_exception", fmt::format("Invalid alias name [{}]: an index or data stream exists with the same name as the alias", alias), {}, false});
        auto ok = verb == "add" ? put_alias(api, alias, i.name, action) : remove_alias(api, alias, i.name);
        if (!ok && ok.error().code == Errc::not_found) return std::unexpected(EsError{404, "aliases_not_found_exception", ok.error().context, {}, false});
        if (!ok) return std::unexpected(store_failed(ok.error()));
      }
    }
  }
  return {};
}

asio::awaitable<Response> change_aliases(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto result = std::make_shared<Es<void>>();
  std::function<void()> work = [&] {
    for (const auto& entry : json::list(*body, "actions"))
      for (const auto& action : entry.is_object() ? entry.get_object() : json::object()) {
        if (action.key() != "add" && action.key() != "remove" && action.key() != "remove_index") {
          *result = std::unexpected(parsing_error(fmt::format("[alias_action] unknown field [{}]", std::string_view(action.key())), r.body));
          return;
        }
        if (!(*result = alias_action(*api, action.key(), action.value()))) return;
      }
  };
  co_await api->pool.run(work);
  if (!*result) co_return error(result->error());
  co_return acknowledged();
}

asio::awaitable<Response> one_alias(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto action = *body;
  action.get_object()["index"] = index_param(r);
  action.get_object()["alias"] = r.params.at("name");
  auto result = std::make_shared<Es<void>>();
  std::string verb = r.method == "DELETE" ? "remove" : "add";
  std::function<void()> work = [&] { *result = alias_action(*api, verb, action); };
  co_await api->pool.run(work);
  if (!*result) co_return error(result->error());
  co_return acknowledged();
}

// --- what tools ask for fields, and the rest ---

void write_capability(JsonWriter& w, const std::string& name, const std::set<std::string>& types, bool keyword) {
  w.key(keyword ? name + ".keyword" : name).begin_object();
  for (const auto& type : keyword ? std::set<std::string>{"keyword"} : types)
    w.key(type).begin_object().field("type", type).field("metadata_field", false).field("searchable", true).field("aggregatable", type != "text").end_object();
  w.end_object();
}

asio::awaitable<Response> capabilities(ApiPtr api, Request r) {
  auto body = body_of(r);
  if (!body) co_return error(body.error());
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto patterns = split(r.query.get("fields").value_or(""), ',');
  for (const auto& p : json::texts(*body, "fields")) patterns.push_back(p);
  std::erase(patterns, "");
  if (patterns.empty()) co_return error(400, "action_request_validation_exception", "Validation Failed: 1: no fields specified;");
  auto text = std::make_shared<std::string>();
  std::function<void(const Cancelled&)> work = [&](const Cancelled&) {
    auto view = api->store.view(std::cref(*target));
    Fields all;
    JsonWriter w;
    w.begin_object().key("indices").begin_array();
    for (const auto& index : view.indices) {
      w.value(index.name);
      for (const auto& [name, types] : api->fields.of(index)) all[name].insert(types.begin(), types.end());
    }
    w.end_array().key("fields").begin_object();
    auto meant = [&](const std::string& name) { return std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return fits(p, name); }); };
    for (const auto& [name, types] : all) {
      if (meant(name)) write_capability(w, name, types, false);
      if (types.contains("text") && meant(name + ".keyword")) write_capability(w, name, types, true);
    }
    for (const char* meta : {"_id", "_index", "_source"})
      if (meant(meta)) w.key(meta).begin_object().key(meta).begin_object().field("type", meta).field("metadata_field", true).field("searchable", true).field("aggregatable", meta[1] == 'i').end_object().end_object();
    w.end_object().end_object();
    *text = std::move(w).take();
  };
  bool done = co_await on_readers(api, r, work);
  if (!done) co_return busy(*api);
  co_return Response::json(std::move(*text));
}

/// Documents can be searched as soon as they are stored: there is nothing to do.
asio::awaitable<Response> refreshed(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto infos = api->store.indices();
  auto count = std::count_if(infos.begin(), infos.end(), [&](const auto& i) { return (*target)(i.name); });
  JsonWriter w;
  w.begin_object().key("_shards").begin_object().field("total", count).field("successful", count).field("failed", 0).end_object().end_object();
  co_return Response::json(std::move(w).take());
}

void write_index_stats(JsonWriter& w, std::uint64_t documents, std::uint64_t deleted, std::uint64_t bytes) {
  for (auto part : {"primaries", "total"}) {
    w.key(part).begin_object().key("docs").begin_object().field("count", documents).field("deleted", deleted).end_object();
    w.key("store").begin_object().field("size_in_bytes", bytes).field("reserved_in_bytes", 0).end_object().end_object();
  }
}

asio::awaitable<Response> stats(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  std::uint64_t documents = 0, deleted = 0, bytes = 0, count = 0;
  JsonWriter list;
  list.begin_object();
  for (const auto& i : api->store.indices()) {
    if (!(*target)(i.name)) continue;
    documents += i.documents, deleted += i.deleted, bytes += i.bytes, ++count;
    list.key(i.name).begin_object().field("uuid", i.uuid);
    write_index_stats(list, i.documents, i.deleted, i.bytes);
    list.end_object();
  }
  list.end_object();
  JsonWriter w;
  w.begin_object();
  write_shards(w, count, 0);
  w.key("_all").begin_object();
  write_index_stats(w, documents, deleted, bytes);
  w.end_object().key("indices").raw(list.str()).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> resolve_names(ApiPtr api, Request r) {
  auto target = target_of(*api, r);
  if (!target) co_return error(target.error());
  auto aliases = aliases_of(*api);
  JsonWriter w;
  w.begin_object().key("indices").begin_array();
  for (const auto& i : api->store.indices()) {
    if (!(*target)(i.name)) continue;
    w.begin_object().field("name", i.name).key("attributes").begin_array().value("open").end_array().end_object();
  }
  w.end_array().key("aliases").begin_array();
  for (const auto& [alias, indices] : aliases.by_alias) {
    if (!fits(index_param(r), alias)) continue;
    w.begin_object().field("name", alias).key("indices").begin_array();
    for (const auto& [index, about] : indices) w.value(index);
    w.end_array().end_object();
  }
  w.end_array().key("data_streams").begin_array().end_array().end_object();
  co_return Response::json(std::move(w).take());
}

}  // namespace

void add_index_routes(const On& on) {
  on({"GET"}, "/{index}", show_index);
  on({"PUT"}, "/{index}", create_index);
  on({"DELETE"}, "/{index}", delete_index);
  on({"GET"}, "/{index}/{rest}", show_index);
  on({"PUT"}, "/{index}/{rest}", create_index);
  for (const char* p : {"", "/{index}"}) {
    std::string prefix(p);
    on({"GET"}, prefix + "/_mapping", show_mapping);
    on({"GET"}, prefix + "/_mappings", show_mapping);
    on({"GET"}, prefix + "/_settings", show_settings);
    on({"PUT"}, prefix + "/_settings", declare);
    on({"GET", "POST"}, prefix + "/_field_caps", capabilities);
    for (const char* verb : {"/_refresh", "/_flush", "/_forcemerge", "/_cache/clear"}) on({"GET", "POST"}, prefix + verb, refreshed);
    on({"GET"}, prefix + "/_stats", stats);
    on({"GET"}, prefix + "/_alias", show_aliases);
    on({"GET"}, prefix + "/_alias/{name}", show_aliases);
  }
  on({"PUT", "POST"}, "/{index}/_mapping", declare);
  on({"PUT", "POST"}, "/{index}/_mapping/{type}", declare);
  on({"POST"}, "/_aliases", change_aliases);
  on({"PUT", "POST", "DELETE"}, "/{index}/_alias/{name}", one_alias);
  on({"PUT", "POST", "DELETE"}, "/{index}/_aliases/{name}", one_alias);
  on({"GET"}, "/_resolve/index/{index}", resolve_names);
}

}  // namespace croft::logs
