#include "logs/es/bulk.hpp"

#include <simdjson.h>

#include <algorithm>
#include <map>

#include "base/error.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "logs/ship/lines.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t id_max = 512;
constexpr std::size_t depth_max = document_depth_max;
constexpr std::size_t items_max = 1'000'000;  // a body of the largest size holds fewer that are worth anything
constexpr std::int64_t earliest = -62'135'596'800'000, latest = 253'402'300'799'999;  // years 1 to 9999

std::string_view next_line(std::string_view& rest) {
  auto end = rest.find('\n');
  auto line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// A parser of its own for each thread: it keeps its buffers from one document to the next.
simdjson::dom::parser& parser() {
  static thread_local simdjson::dom::parser made = [] {
    simdjson::dom::parser p;
    CROFT_ASSERT(p.allocate(4096, depth_max) == simdjson::SUCCESS);
    return p;
  }();
  return made;
}

Result<simdjson::dom::element> parse(std::string_view text, bool padded) {
  simdjson::dom::element root;
  auto error = parser().parse(text.data(), text.size(), !padded).get(root);
  if (error == simdjson::DEPTH_ERROR) return fail(Errc::invalid, "nested deeper than {} levels", depth_max);
  if (error == simdjson::UTF8_ERROR) return fail(Errc::invalid, "the text is not valid UTF-8");
  if (error) return fail(Errc::invalid, "not JSON: {}", simdjson::error_message(error));
  return root;
}

std::string text_of(simdjson::dom::element e) {
  if (e.is_string()) return std::string(e.get_string().value());
  return simdjson::minify(e);
}

/// Metadata of one action. Unknown keys refuse the whole request, as Elasticsearch does.
Status read_meta(simdjson::dom::object meta, std::size_t line, BulkItem& item) {
  static constexpr std::string_view known[] = {"_index", "_id", "_type", "routing", "_routing", "pipeline", "op_type", "require_alias", "version", "_version", "version_type", "_version_type",
                                               "if_seq_no", "if_primary_term", "retry_on_conflict", "_retry_on_conflict", "_source", "dynamic_templates"};
  for (auto member : meta) {
    if (std::find(std::begin(known), std::end(known), member.key) == std::end(known)) return fail(Errc::invalid, "Action/metadata line [{}] contains an unknown parameter [{}]", line, member.key);
    if (member.value.is_null()) continue;
    if (member.value.is_object() || member.value.is_array()) {
      if (member.key == "_source" || member.key == "dynamic_templates") continue;
      return fail(Errc::invalid, "Malformed action/metadata line [{}], expected a simple value for field [{}] but found [{}]", line, member.key, member.value.is_object() ? "START_OBJECT" : "START_ARRAY");
    }
    if (member.key == "_index") item.document.index = text_of(member.value);
    if (member.key == "_id") {
      item.document.id = text_of(member.value);
      if (item.document.id.empty()) item.problem = "if _id is specified it must not be empty", item.type = "illegal_argument_exception", item.status = 400;
    }
    if (member.key == "op_type" && item.action == "index" && text_of(member.value) == "create") item.action = "create";
  }
  return {};
}

Result<BulkItem> read_action(std::string_view line, bool padded, std::size_t number, const BulkDefaults& defaults) {
  auto root = parse(line, padded);
  if (!root || !root->is_object()) return fail(Errc::invalid, "Malformed action/metadata line [{}], expected START_OBJECT or END_OBJECT but found [{}]", number, root ? "VALUE_STRING" : root.error().context);
  simdjson::dom::object action = root->get_object().value();
  if (action.size() == 0) return fail(Errc::invalid, "Malformed action/metadata line [{}], expected FIELD_NAME but found [END_OBJECT]", number);
  auto member = *action.begin();
  BulkItem item;
  item.action = member.key;
  item.document.index = defaults.index;
  if (item.action != "index" && item.action != "create" && item.action != "delete" && item.action != "update")
    return fail(Errc::invalid, "Malformed action/metadata line [{}], expected field [create], [delete], [index] or [update] but found [{}]", number, item.action);
  if (!member.value.is_object()) return fail(Errc::invalid, "Malformed action/metadata line [{}], expected START_OBJECT but found [VALUE]", number);
  if (item.action == "index" && defaults.create_only) item.action = "create";
  if (auto ok = read_meta(member.value.get_object().value(), number, item); !ok) return fail(ok.error());
  return item;
}

void refuse(BulkItem& item, std::string_view type, std::string problem) {
  if (!item.problem.empty()) return;
  item.status = 400;
  item.type = type;
  item.problem = std::move(problem);
}

/// What is wrong with one item, its source line included; leaves the document complete.
void judge(BulkItem& item, std::string_view source, bool padded, Wall now, const std::optional<Sender>& sender) {
  item.document.create_only = item.action == "create";
  if (item.action == "delete" || item.action == "update") return refuse(item, "illegal_argument_exception", fmt::format("[{}] is not supported: this store only appends, by [index] and [create]", item.action));
  if (item.document.id.size() > id_max)
    return refuse(item, "illegal_argument_exception", fmt::format("id [{}] is too long, must be no longer than 512 bytes but was: {}", item.document.id.substr(0, 64), item.document.id.size()));
  if (!item.problem.empty()) return;
  auto ok = complete_document(source, padded, item.document, now, sender);
  if (ok) return;
  bool forbidden = ok.error().code == Errc::forbidden;
  refuse(item, forbidden ? "security_exception" : "mapper_parsing_exception", ok.error().context);
  if (forbidden) item.status = 403;
}

/// Whether a document says just what its sender may say.
bool is_attributed(simdjson::dom::object document, const Sender& sender) {
  bool named = false;
  for (auto member : document) {
    if (member.key == "host") {
      if (named || !member.value.is_string() || member.value.get_string().value() != sender.host) return false;
      named = true;
    } else if (!sender.runs_tasks && names_task(member.key)) {
      return false;
    }
  }
  return named;
}

std::string attributed(simdjson::dom::object document, const Sender& sender) {
  JsonWriter w;
  w.begin_object();
  std::map<std::string, std::string, std::less<>> said;  // the first of each name
  for (auto member : document) {
    auto text = simdjson::minify(member.value);
    simdjson::dom::object before;
    if (member.key == "host" || (!sender.runs_tasks && names_task(member.key))) said.emplace(member.key, std::move(text));
    else if (member.key == "original" && !member.value.get_object().get(before))
      for (auto old : before) said.emplace(old.key, simdjson::minify(old.value));
    else w.key(member.key).raw(text);
  }
  w.field("host", sender.host);
  if (!said.empty()) w.key("original").begin_object();
  for (const auto& [key, text] : said) w.key(key).raw(text);
  if (!said.empty()) w.end_object();
  w.end_object();
  return std::move(w).take();
}

}  // namespace

Status complete_document(std::string_view source, bool padded, Document& d, Wall now, const std::optional<Sender>& sender) {
  if (source.size() > document_max) return fail(Errc::invalid, "the document has {} bytes, more than {}", source.size(), document_max);
  auto root = parse(source, padded);
  if (!root) return fail(Errc::invalid, "failed to parse: {}", root.error().context);
  if (!root->is_object()) return fail(Errc::invalid, "failed to parse: the document must be an object");
  // By such an id a source's later lines would count as known.
  if (sender && !sender->runs_tasks && d.id.starts_with("c1:")) return fail(Errc::forbidden, "ids of the form c1:SOURCE:OFFSET belong to hosts that run tasks, and {} does not", sender->host);
  simdjson::dom::element at;
  std::optional<Wall> time;
  bool given = !root->get_object().value()["@timestamp"].get(at) && !at.is_null();
  if (given && at.is_string()) {
    time = from_iso8601(at.get_string().value());
    if (!time)
      if (auto millis = to_int(at.get_string().value()); millis && *millis >= earliest && *millis <= latest) time = Wall(Millis(*millis));
  } else if (given && at.is_int64()) {
    auto millis = at.get_int64().value();
    if (millis >= earliest && millis <= latest) time = Wall(Millis(millis));
  }
  if (given && !time)
    return fail(Errc::invalid, "failed to parse field [@timestamp] of type [date] in document with id '{}'. Preview of field's value: '{}'", d.id, text_of(at).substr(0, 80));
  d.at = time.value_or(now);
  std::string rewritten;
  if (sender && !is_attributed(root->get_object().value(), *sender)) {
    source = rewritten = attributed(root->get_object().value(), *sender);
    if (auto deeper = parse(source, false); !deeper) return fail(Errc::invalid, "failed to parse: {}", deeper.error().context);  // by one level, under "original"
  }
  if (!time) {
    auto brace = source.find('{') + 1;
    auto empty = source.find_first_not_of(" \t\r\n", brace);
    d.source = fmt::format("{{\"@timestamp\":\"{}\"{}{}", to_iso8601(now), empty != std::string_view::npos && source[empty] == '}' ? "" : ",", source.substr(brace));
  } else {
    d.source = source;
  }
  return {};
}

Status complete_document(Document& d, Wall now, const std::optional<Sender>& sender) {
  // One line without spaces, as bulk sources are.
  std::string flat(d.source.size(), '\0');
  std::size_t size = 0;
  if (simdjson::minify(d.source.data(), d.source.size(), flat.data(), size)) return fail(Errc::invalid, "failed to parse: not JSON");
  flat.resize(size);
  return complete_document(flat, false, d, now, sender);
}

Result<std::vector<BulkItem>> parse_bulk(std::string_view body, const BulkDefaults& defaults, Wall now) {
  if (!body.ends_with('\n')) return fail(Errc::invalid, "The bulk request must be terminated by a newline [\\n]");
  const auto* end = body.data() + body.size();
  auto padded = [end](std::string_view line) { return end - (line.data() + line.size()) >= static_cast<std::ptrdiff_t>(simdjson::SIMDJSON_PADDING); };
  std::vector<BulkItem> items;
  std::size_t number = 0;
  std::string_view before;            // most bulks repeat one action line again and again
  BulkItem like_before;
  while (!body.empty()) {
    auto line = next_line(body);
    ++number;
    if (trim(line).empty()) continue;
    if (items.size() >= items_max) return fail(Errc::invalid, "more than {} actions in one request", items_max);
    BulkItem item;
    if (line == before) {
      item = like_before;
    } else {
      auto read = read_action(line, padded(line), number, defaults);
      if (!read) return fail(std::move(read).error());
      item = std::move(*read);
      before = line;
      like_before = item;
    }
    if (item.document.index.empty()) return fail(Errc::invalid, "Validation Failed: {}: index is missing;", items.size() + 1);
    std::string_view source;
    if (item.action != "delete") {
      if (body.empty()) return fail(Errc::invalid, "Validation Failed: {}: the source line is missing;", items.size() + 1);
      source = next_line(body);
      ++number;
    }
    judge(item, source, padded(source), now, defaults.sender);
    items.push_back(std::move(item));
  }
  if (items.empty()) return fail(Errc::invalid, "Validation Failed: 1: no requests added;");
  return items;
}

}  // namespace croft::logs
