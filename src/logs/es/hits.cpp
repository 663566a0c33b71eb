#include "logs/es/hits.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/query/parse.hpp"

namespace croft::logs {

namespace {

/// "a.b" is meant by "a.b", "a.*" and "a"; and a parent of what is meant must be walked into.
bool means(std::string_view pattern, std::string_view name) { return fits(pattern, name) || (name.size() > pattern.size() && name[pattern.size()] == '.' && name.starts_with(pattern)) || fits(std::string(pattern) + ".*", name); }

bool any_means(const std::vector<std::string>& patterns, std::string_view name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return means(p, name); });
}

std::optional<json::value> filtered(const json::value& v, const SourceFilter& f, const std::string& name) {
  if (!name.empty() && any_means(f.excludes, name)) return std::nullopt;
  if (v.is_object()) {
    json::object out;
    for (const auto& m : v.get_object())
      if (auto kept = filtered(m.value(), f, name.empty() ? std::string(m.key()) : name + "." + std::string(m.key()))) out.emplace(m.key(), std::move(*kept));
    bool meant = f.includes.empty() || (!name.empty() && any_means(f.includes, name));
    return out.empty() && !meant && !name.empty() ? std::nullopt : std::optional<json::value>(std::move(out));
  }
  if (v.is_array()) {
    json::array out;
    for (const auto& e : v.get_array())
      if (auto kept = filtered(e, f, name)) out.push_back(std::move(*kept));
    bool meant = f.includes.empty() || any_means(f.includes, name);
    return out.empty() && !meant ? std::nullopt : std::optional<json::value>(std::move(out));
  }
  return f.includes.empty() || any_means(f.includes, name) ? std::optional(v) : std::nullopt;
}

std::vector<std::string> texts_or_one(const json::value& v) {
  std::vector<std::string> out;
  if (v.is_string()) return split(std::string_view(v.get_string()), ',');
  if (v.is_array())
    for (const auto& e : v.get_array())
      if (e.is_string()) out.emplace_back(e.get_string());
  return out;
}

void read_fields(const json::value& list, std::vector<HitOptions::Field>& into) {
  if (list.is_string()) return into.push_back({std::string(list.get_string()), {}});
  if (!list.is_array()) return;
  for (const auto& f : list.get_array()) {
    if (f.is_string()) into.push_back({std::string(f.get_string()), {}});
    else if (auto name = json::text(f, "field"); !name.empty()) into.push_back({name, json::text(f, "format")});
  }
}

Result<Highlight> read_highlight(const json::value& spec, Wall now) {
  Highlight h;
  auto common = [&](const json::value& from) {
    if (auto tags = json::texts(from, "pre_tags"); !tags.empty()) h.before = tags[0];
    if (auto tags = json::texts(from, "post_tags"); !tags.empty()) h.after = tags[0];
    h.fragment_size = static_cast<std::size_t>(std::clamp<std::int64_t>(json::integer(from, "fragment_size", static_cast<std::int64_t>(h.fragment_size)), 0, INT32_MAX));
    h.fragments = static_cast<std::size_t>(std::clamp<std::int64_t>(json::integer(from, "number_of_fragments", static_cast<std::int64_t>(h.fragments)), 0, 1000));
    h.any_field = !json::boolean(from, "require_field_match", !h.any_field);
  };
  common(spec);
  const auto* fields = json::find(spec, "fields");
  auto take = [&](const json::value& from) {
    if (!from.is_object()) return;
    for (const auto& f : from.get_object()) h.fields.emplace_back(f.key()), common(f.value());
  };
  if (fields && fields->is_array()) {
    for (const auto& f : fields->get_array()) take(f);
  } else if (fields) {
    take(*fields);
  }
  if (h.fields.empty()) return fail(Errc::invalid, "[highlight] names no [fields]");
  if (const auto* query = json::find(spec, "highlight_query")) {
    auto q = parse_dsl(*query, now);
    if (!q) return fail(std::move(q).error());
    h.query = *q;
  }
  return h;
}

/// The parts of a query that words of a field can fit.
void leaves_for(const Query& q, std::string_view field, bool any_field, std::vector<const Query*>& out) {
  if (q.kind == Query::Kind::boolean) {
    for (const auto* list : {&q.must, &q.should})
      for (const auto& part : *list) leaves_for(*part, field, any_field, out);
    return;
  }
  std::string_view of = q.field;
  if (of.ends_with(".keyword")) of.remove_suffix(8);
  if (any_field || of.empty() || of == field || fits(of, field)) out.push_back(&q);
}

/// Begin and end of the words that fit, neighbours joined.
std::vector<std::pair<std::size_t, std::size_t>> marks_in(std::string_view text, const std::vector<const Query*>& leaves) {
  std::vector<std::pair<std::size_t, std::size_t>> marks;
  auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80; };
  for (std::size_t i = 0; i < text.size();) {
    if (!in_word(text[i])) {
      ++i;
      continue;
    }
    auto end = i;
    while (end < text.size() && in_word(text[end])) ++end;
    auto word = lower(text.substr(i, end - i));
    if (std::any_of(leaves.begin(), leaves.end(), [&](const Query* q) { return word_matches(*q, word); })) marks.emplace_back(i, end);
    i = end;
  }
  return marks;
}

/// No piece is much longer than `most`: tags are as long as who asks wants them, and every word may be marked.
std::vector<std::string> fragments_of(std::string_view text, const std::vector<std::pair<std::size_t, std::size_t>>& marks, const Highlight& h, std::size_t most) {
  std::vector<std::string> out;
  auto render = [&](std::size_t from, std::size_t to) {
    std::string piece;
    auto at = from;
    for (auto [begin, end] : marks) {
      if (begin < from || end > to) continue;
      if (piece.size() > most) return piece;
      piece += text.substr(at, begin - at);
      piece += h.before;
      piece += text.substr(begin, end - begin);
      piece += h.after;
      at = end;
    }
    return piece + std::string(text.substr(at, to - at));
  };
  if (h.fragments == 0 || text.size() <= h.fragment_size) return {render(0, text.size())};
  std::size_t done = 0;
  auto letter_begins = [&](std::size_t at) { return at >= text.size() || (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80; };
  for (auto [begin, end] : marks) {
    if (begin < done) continue;
    if (out.size() == h.fragments) break;
    auto room = h.fragment_size > end - begin ? (h.fragment_size - (end - begin)) / 2 : 0;
    auto from = std::max(done, begin > room ? begin - room : 0), to = std::min(text.size(), std::max(end, from + h.fragment_size));
    while (from < begin && !letter_begins(from)) ++from;
    while (to > end && !letter_begins(to)) --to;
    out.push_back(render(from, to));
    done = to;
  }
  return out;
}

bool write_highlight(JsonWriter& w, const Hit& hit, const Highlight& h, const Query& query, std::size_t room) {
  DocumentReader reader;
  std::size_t taken = 0;
  reader.set({hit.seq, hit.at, hit.id, hit.source}, hit.index);
  std::map<std::string, std::vector<std::string>> found;
  reader.leaves_by_name([&](std::string_view name, const Value& v) {
    if (v.kind != Value::Kind::text || std::none_of(h.fields.begin(), h.fields.end(), [&](const auto& f) { return fits(f, name); })) return true;
    std::vector<const Query*> leaves;
    leaves_for(h.query ? *h.query : query, name, h.any_field, leaves);
    auto marks = marks_in(v.text, leaves);
    if (marks.empty()) return true;
    auto& into = found[std::string(name)];
    for (auto& piece : fragments_of(v.text, marks, h, room - taken)) {
      if (h.fragments > 0 && into.size() >= h.fragments) break;
      taken += piece.size();
      if (taken > room) return false;
      into.push_back(std::move(piece));
    }
    return true;
  });
  if (taken > room) return false;
  if (found.empty()) return true;
  w.key("highlight").begin_object();
  for (const auto& [name, pieces] : found) {
    w.key(name).begin_array();
    for (const auto& piece : pieces) w.value(piece);
    w.end_array();
  }
  w.end_object();
  return true;
}

bool write_fields(JsonWriter& w, const Hit& hit, const std::vector<HitOptions::Field>& wanted, std::size_t room) {
  DocumentReader reader;
  std::size_t taken = 0;
  reader.set({hit.seq, hit.at, hit.id, hit.source}, hit.index);
  std::map<std::string, std::string> found;  // name to the inside of a JSON list
  auto add = [&](const std::string& name, const std::string& format, const Value& v) {
    JsonWriter one;
    if (name == "@timestamp") one.value(print_date(hit.at, format));
    else if (v.kind == Value::Kind::text) one.value(v.text);
    else if (v.kind == Value::Kind::boolean) one.value(v.truth);
    else one.value(v.number);
    auto& into = found[name];
    into += (into.empty() ? "" : ",") + one.str();
    taken += name.size() + one.size();
  };
  reader.leaves_by_name([&](std::string_view name, const Value& v) {
    auto meant = [&](const HitOptions::Field& f) { return fits(f.pattern, name); };
    if (auto f = std::find_if(wanted.begin(), wanted.end(), meant); f != wanted.end()) add(std::string(name), f->format, v);
    for (const auto& f : wanted)
      if (f.pattern.ends_with(".keyword") && f.pattern.size() - 8 == name.size() && f.pattern.starts_with(name) && taken <= room) add(f.pattern, f.format, v);
    return taken <= room;
  });
  if (taken > room) return false;
  if (found.empty()) return true;
  w.key("fields").begin_object();
  for (const auto& [name, list] : found) w.key(name).raw("[" + list + "]");
  w.end_object();
  return true;
}

}  // namespace

std::string SourceFilter::apply(const std::string& source) const {
  if (includes.empty() && excludes.empty()) return source;
  auto parsed = json::parse(source);
  if (!parsed) return source;
  auto kept = filtered(*parsed, *this, "");
  return kept ? json::print(*kept) : "{}";
}

SourceFilter source_filter(const json::value& body, const net::Query& query) {
  SourceFilter out;
  const auto* given = json::find(body, "_source");
  if (given && given->is_bool()) out.enabled = given->get_bool();
  else if (given && given->is_object()) {
    for (auto key : {"includes", "include"})
      if (const auto* v = json::find(*given, key)) out.includes = texts_or_one(*v);
    for (auto key : {"excludes", "exclude"})
      if (const auto* v = json::find(*given, key)) out.excludes = texts_or_one(*v);
  } else if (given) {
    out.includes = texts_or_one(*given);
  }
  if (auto text = query.get("_source")) {
    if (*text == "true" || text->empty()) out.enabled = true;
    else if (*text == "false") out.enabled = false;
    else out.includes = split(*text, ',');
  }
  for (auto key : {"_source_includes", "_source_include"})
    if (auto text = query.get(key)) out.includes = split(*text, ',');
  for (auto key : {"_source_excludes", "_source_exclude"})
    if (auto text = query.get(key)) out.excludes = split(*text, ',');
  return out;
}

Result<HitOptions> hit_options(const json::value& body, const net::Query& query, Wall now) {
  HitOptions out;
  out.source = source_filter(body, query);
  for (auto key : {"fields", "docvalue_fields", "stored_fields"}) {
    const auto* list = json::find(body, key);
    if (!list) continue;
    bool stored = std::string_view(key) == "stored_fields";
    auto before = out.fields.size();
    read_fields(*list, out.fields);
    if (!stored) continue;
    // Nothing is stored but the source: "*" and "_none_" only say whether that is wanted.
    bool source = std::any_of(out.fields.begin() + static_cast<std::ptrdiff_t>(before), out.fields.end(), [](const auto& f) { return f.pattern == "_source" || f.pattern == "*"; });
    if (!source && !json::find(body, "_source")) out.source.enabled = false;
    out.fields.resize(before);
  }
  if (auto list = query.get("docvalue_fields"))
    for (const auto& name : split(*list, ',')) out.fields.push_back({name, {}});
  if (const auto* spec = json::find(body, "highlight")) {
    auto h = read_highlight(*spec, now);
    if (!h) return fail(std::move(h).error());
    out.highlight = std::move(*h);
  }
  out.version = json::boolean(body, "version") || query.flag("version");
  out.seq_no = json::boolean(body, "seq_no_primary_term") || query.flag("seq_no_primary_term");
  return out;
}

bool write_hit(JsonWriter& w, const Hit& hit, const HitOptions& options, const Query& query, std::size_t room) {
  auto end = w.size() + std::min(room, SIZE_MAX - w.size());
  auto left = [&] { return end - std::min(end, w.size()); };
  w.begin_object().field("_index", hit.index).field("_type", "_doc").field("_id", hit.id);
  if (options.version) w.field("_version", 1);
  if (options.seq_no) w.field("_seq_no", hit.seq).field("_primary_term", 1);
  w.key("_score");
  if (options.scored) w.value(1.0);
  else w.null();
  if (options.source.enabled) w.key("_source").raw(options.source.apply(hit.source));
  if (!options.fields.empty() && !write_fields(w, hit, options.fields, left())) return false;
  if (options.highlight && !write_highlight(w, hit, *options.highlight, query, left())) return false;
  if (options.sorted) {
    w.key("sort").begin_array();
    for (const auto& key : hit.keys) w.value(key);
    w.end_array();
  }
  w.end_object();
  return w.size() <= end;
}

}  // namespace croft::logs
