// Bulk bodies: two lines an action.

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "logs/es_api.hpp"
#include "logs/query/query.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t id_max = 512;

std::string_view next_line(std::string_view& rest) {
  auto end = rest.find('\n');
  auto line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// Metadata of one action. Unknown keys refuse the whole request, as Elasticsearch does.
Status read_meta(const json::value& meta, std::size_t line, BulkItem& item) {
  static constexpr std::string_view known[] = {"_index", "_id", "_type", "routing", "_routing", "pipeline", "op_type", "require_alias", "version", "version_type", "if_seq_no",
                                               "if_primary_term", "retry_on_conflict", "_source"};
  for (const auto& member : meta.get_object()) {
    if (std::find(std::begin(known), std::end(known), member.key()) == std::end(known))
      return fail(Errc::invalid, "Action/metadata line [{}] contains an unknown parameter [{}]", line, std::string_view(member.key()));
  }
  if (auto index = json::text(meta, "_index"); !index.empty()) item.document.index = index;
  if (const auto* id = json::find(meta, "_id")) item.document.id = id->is_string() ? std::string(id->get_string()) : json::print(*id);
  if (json::text(meta, "op_type") == "create") item.action = "create";
  return {};
}

}  // namespace

Status complete_document(Document& d, Wall now) {
  auto parsed = json::parse(d.source);
  if (!parsed) return fail(Errc::invalid, "failed to parse: {}", parsed.error().context);
  if (!parsed->is_object()) return fail(Errc::invalid, "failed to parse: the document must be an object");
  const auto* at = json::find(*parsed, "@timestamp");
  std::optional<Wall> time;
  if (at && at->is_string()) time = from_iso8601(std::string_view(at->get_string()));
  else if (at && at->is_int64()) time = Wall(Millis(at->get_int64()));
  if (at && !time) return fail(Errc::invalid, "failed to parse field [@timestamp] of type [date]. Preview of field's value: '{}'", at->is_string() ? std::string_view(at->get_string()) : "?");
  d.at = time.value_or(now);
  if (!time) {
    parsed->get_object()["@timestamp"] = to_iso8601(now);
    d.source = json::print(*parsed);
  } else if (d.source.find('\n') != std::string::npos) {
    d.source = json::print(*parsed);
  }
  return {};
}

Result<std::vector<BulkItem>> parse_bulk(std::string_view body, std::string_view default_index, Wall now) {
  if (!body.ends_with('\n')) return fail(Errc::invalid, "The bulk request must be terminated by a newline [\\n]");
  std::vector<BulkItem> items;
  std::size_t line_number = 0;
  while (!body.empty()) {
    auto line = next_line(body);
    ++line_number;
    if (trim(line).empty()) continue;
    auto action = json::parse(line);
    if (!action || !action->is_object() || action->get_object().empty())
      return fail(Errc::invalid, "Malformed action/metadata line [{}], expected START_OBJECT or END_OBJECT but found something else", line_number);
    const auto& member = *action->get_object().begin();
    BulkItem item;
    item.action = member.key();
    item.document.index = default_index;
    if (item.action != "index" && item.action != "create" && item.action != "delete" && item.action != "update")
      return fail(Errc::invalid, "Malformed action/metadata line [{}], expected field [create], [delete], [index] or [update] but found [{}]", line_number, item.action);
    if (!member.value().is_object()) return fail(Errc::invalid, "Malformed action/metadata line [{}], expected START_OBJECT", line_number);
    if (auto ok = read_meta(member.value(), line_number, item); !ok) return fail(ok.error());
    if (item.document.index.empty()) return fail(Errc::invalid, "Validation Failed: {}: index is missing;", items.size() + 1);
    if (item.action != "delete") {
      if (body.empty()) return fail(Errc::invalid, "Validation Failed: {}: the source line is missing;", items.size() + 1);
      item.document.source = next_line(body);
      ++line_number;
    }
    item.document.create_only = item.action == "create";
    auto name = check_index_name(item.document.index);
    if (item.action == "delete" || item.action == "update") item.problem = "this store is append-only: only [index] and [create] are supported", item.status = 400;
    else if (!name) item.problem = name.error().context, item.status = 400;
    else if (item.document.id.size() > id_max) item.problem = fmt::format("id is too long, must be no longer than 512 bytes but was: {}", item.document.id.size()), item.status = 400;
    else if (auto ok = complete_document(item.document, now); !ok) item.problem = ok.error().context, item.status = 400;
    items.push_back(std::move(item));
  }
  if (items.empty()) return fail(Errc::invalid, "Validation Failed: 1: no requests added;");
  return items;
}

}  // namespace croft::logs
