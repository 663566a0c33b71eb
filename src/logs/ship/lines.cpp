#include "logs/ship/lines.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <optional>

#include "base/json_writer.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "logs/store/row.hpp"

namespace croft::logs {

namespace {

constexpr auto ahead_max = std::chrono::days(2);
constexpr auto behind_max = std::chrono::days(30);  // every day of a line is an index of the store, of which there may be so many

/// The line as a JSON object, parsed in a buffer of this thread's that stays as it is until the next call.
std::optional<simdjson::dom::object> object_of(std::string_view text) {
  static thread_local simdjson::dom::parser parser = [] {
    simdjson::dom::parser p;
    CROFT_ASSERT(p.allocate(4096, document_depth_max) == simdjson::SUCCESS);
    return p;
  }();
  simdjson::dom::object out;
  if (parser.parse(text.data(), text.size(), true).get_object().get(out)) return std::nullopt;
  return out;
}

std::string mended_utf8(std::string_view text) {
  auto quoted = json_quote(text);
  return quoted.substr(1, quoted.size() - 2);
}

/// The line's own time; nothing when it is none or cannot be true.
std::optional<Wall> own_time(simdjson::dom::element value, Wall at) {
  std::optional<Wall> given;
  if (value.is_string()) given = from_iso8601(value.get_string().value());
  else if (value.is_int64()) given = Wall(Millis(std::clamp<std::int64_t>(value.get_int64().value(), -1, 253'402'300'799'999)));
  return given && may_be_true(*given, at) ? given : std::nullopt;
}

/// Writes the members of a JSON line, those that the context overrules aside.
class Merger {
 public:
  Merger(JsonWriter& w, const LineContext& context) : w_(w), context_(context) {}

  void merge(simdjson::dom::object line) {
    for (auto member : line) {
      std::string_view key = member.key;
      if (key == "@timestamp") {
        if (time_) continue;
        time_ = own_time(member.value, context_.at);
        if (!time_ && !member.value.is_null()) w_.key("_@timestamp").raw(simdjson::minify(member.value)), bad_time_ = true;
        continue;
      }
      if (overruled(key)) {
        originals_.emplace_back(key, simdjson::minify(member.value));
        continue;
      }
      if (key == "tags") {
        read_tags(member.value);
        continue;
      }
      has_message_ = has_message_ || key == "message";
      has_host_ = has_host_ || key == "host";
      w_.key(key).raw(simdjson::minify(member.value));
    }
  }

  std::optional<Wall> time_;
  std::vector<std::string> tags_;  // JSON
  std::vector<std::pair<std::string, std::string>> originals_;
  bool has_message_ = false, has_host_ = false, bad_time_ = false;

 private:
  bool overruled(std::string_view key) const {
    if (key == "offset" && context_.offset >= 0) return true;
    if (context_.stranger && names_task(key)) return true;
    return std::any_of(context_.fields.begin(), context_.fields.end(), [&](const auto& f) { return f.first == key; });
  }
  void read_tags(simdjson::dom::element value) {
    simdjson::dom::array list;
    if (value.get_array().get(list)) {
      tags_.push_back(simdjson::minify(value));
      return;
    }
    for (auto tag : list) tags_.push_back(simdjson::minify(tag));
  }

  JsonWriter& w_;
  const LineContext& context_;
};

}  // namespace

bool may_be_true(Wall own, Wall at) { return own >= Wall{} && own >= at - behind_max && own <= at + ahead_max; }

bool names_task(std::string_view key) { return key == "app" || key == "task" || key.starts_with("app.") || key.starts_with("task."); }

void LineSplitter::feed(std::string_view bytes, const std::function<void(std::string_view, bool)>& each) {
  while (!bytes.empty()) {
    auto newline = bytes.find('\n');
    auto piece = bytes.substr(0, newline);
    bytes.remove_prefix(newline == std::string_view::npos ? bytes.size() : newline + 1);
    if (!dropping_) {
      bool over = held_.size() + piece.size() > line_max_;
      held_.append(piece.substr(0, std::min(piece.size(), line_max_ - held_.size())));
      if (over) {
        each(held_, true);
        held_.clear();
        dropping_ = true;
      }
    }
    if (newline == std::string_view::npos) return;
    if (!std::exchange(dropping_, false)) each(held_, false);
    held_.clear();
  }
}

void LineSplitter::finish(const std::function<void(std::string_view, bool)>& each) {
  if (!held_.empty()) each(held_, false);
  held_.clear();
  dropping_ = false;
}

void LineSplitter::cut_now(const std::function<void(std::string_view, bool)>& each) {
  if (held_.empty()) return;
  each(held_, true);
  held_ = std::string();
  dropping_ = true;
}

LineDocument document_of(std::string_view line, const LineContext& context) {
  LineDocument out;
  auto text = trim(line);
  bool looks_like_json = text.starts_with('{');
  auto parsed = looks_like_json ? object_of(text) : std::nullopt;
  JsonWriter w;
  w.begin_object();
  Merger merger(w, context);
  if (parsed) merger.merge(*parsed);
  out.at = merger.time_.value_or(context.at);
  w.field("@timestamp", to_iso8601(out.at));
  if (!parsed) w.key("message").raw("\"" + mended_utf8(line) + "\"");
  for (const auto& [key, value] : context.fields) w.field(key, value);
  if (context.offset >= 0) w.field("offset", context.offset);
  if (!merger.has_host_ && !context.fallback_host.empty()) w.field("host", context.fallback_host);
  if (!merger.originals_.empty()) {
    w.key("original").begin_object();
    for (const auto& [key, value] : merger.originals_) w.key(key).raw(value);
    w.end_object();
  }
  auto& tags = merger.tags_;
  if (context.cut) tags.emplace_back("\"_truncated\"");
  if (merger.bad_time_) tags.emplace_back("\"_timestampparsefailure\"");
  if (looks_like_json && !parsed) tags.emplace_back("\"_jsonparsefailure\"");
  if (!parsed && !simdjson::validate_utf8(line.data(), line.size())) tags.emplace_back("\"_invalid_utf8\"");
  if (!tags.empty()) {
    w.key("tags").begin_array();
    for (const auto& tag : tags) w.raw(tag);
    w.end_array();
  }
  w.end_object();
  out.json = std::move(w).take();
  return out;
}

std::string index_for(Wall at) {
  std::chrono::year_month_day date(std::chrono::floor<std::chrono::days>(at));
  return fmt::format("logstash-{:04}.{:02}.{:02}", int(date.year()), unsigned(date.month()), unsigned(date.day()));
}

void append_create(std::string& out, std::string_view index, std::string_view id) {
  JsonWriter w(std::move(out));
  w.begin_object().key("create").begin_object().field("_index", index).field("_id", id).end_object().end_object();
  out = std::move(w).take();
  out += '\n';
}

}  // namespace croft::logs
