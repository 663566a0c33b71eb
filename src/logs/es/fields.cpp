#include "logs/es/fields.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "logs/query/document.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t fields_max = 2'000, cached_max = 5'000, memory_rows = 2'000, blocks_a_part = 4;

std::string type_of(std::string_view name, const Value& v) {
  if (name == "@timestamp") return "date";
  if (v.kind == Value::Kind::boolean) return "boolean";
  if (v.kind == Value::Kind::number) return v.whole ? "long" : "float";
  bool dated = v.text.size() >= 10 && v.text.size() <= 35 && v.text[4] == '-' && from_iso8601(v.text).has_value();
  return dated ? "date" : "text";
}

void look_at(DocumentReader& reader, const RowView& row, Fields& into) {
  reader.set(row, "");
  reader.leaves_by_name([&](std::string_view name, const Value& v) {
    auto at = into.find(std::string(name));
    if (at == into.end()) {
      if (into.size() >= fields_max) return true;
      at = into.try_emplace(std::string(name)).first;
    }
    at->second.insert(type_of(name, v));
    return true;
  });
}

Fields fields_of(const Part& part) {
  Fields out;
  DocumentReader reader;
  auto count = part.blocks().size();
  auto step = std::max<std::size_t>(1, count / blocks_a_part);
  for (std::size_t b = 0; b < count; b += step)
    (void)part.read_block(b, [&](const RowView& row) {
      look_at(reader, row, out);
      return true;
    });
  return out;
}

/// Properties below one name, nested objects inside.
void write_level(JsonWriter& w, Fields::const_iterator& at, const Fields::const_iterator& end, const std::string& prefix) {
  w.key("properties").begin_object();
  while (at != end && at->first.starts_with(prefix)) {
    auto rest = std::string_view(at->first).substr(prefix.size());
    auto dot = rest.find('.');
    std::string name(rest.substr(0, dot));
    w.key(name).begin_object();
    if (dot != std::string_view::npos) {
      write_level(w, at, end, prefix + name + ".");
    } else {
      const auto& types = at->second;
      // What was seen in several forms is found as text.
      auto type = types.size() == 1 ? *types.begin() : types == std::set<std::string>{"float", "long"} ? "float" : "text";
      w.field("type", type);
      if (type == "text") w.key("fields").begin_object().key("keyword").begin_object().field("type", "keyword").field("ignore_above", 256).end_object().end_object();
      auto self = at->first;
      ++at;
      // "a" and "a.b" both seen: the deeper one is shown, as an object, elsewhere it would be a conflict.
      while (at != end && at->first.starts_with(self + ".")) ++at;
    }
    w.end_object();
  }
  w.end_object();
}

}  // namespace

Fields FieldCache::of(const IndexView& index) {
  Fields out;
  auto join = [&](const Fields& more) {
    for (const auto& [name, types] : more)
      if (out.size() < fields_max || out.contains(name)) out[name].insert(types.begin(), types.end());
  };
  for (const auto& part : index.parts) {
    std::shared_ptr<const Fields> known;
    {
      std::lock_guard lock(mutex_);
      if (auto at = parts_.find(part.get()); at != parts_.end() && at->second.first.lock() == part) known = at->second.second;
    }
    if (!known) {
      known = std::make_shared<const Fields>(fields_of(*part));
      std::lock_guard lock(mutex_);
      std::erase_if(parts_, [](const auto& p) { return p.second.first.expired(); });
      if (parts_.size() < cached_max) parts_[part.get()] = {part, known};
    }
    join(*known);
  }
  Fields fresh;
  DocumentReader reader;
  std::size_t left = memory_rows;
  for (auto piece = index.memory.pieces.rbegin(); piece != index.memory.pieces.rend() && left > 0; ++piece)
    for (std::size_t i = piece->count; i-- > 0 && left > 0; --left) {
      const auto& row = piece->chunk->rows[i];
      look_at(reader, {row.seq, row.at, row.id, row.source}, fresh);
    }
  join(fresh);
  return out;
}

void write_properties(JsonWriter& w, const Fields& fields) {
  auto at = fields.begin();
  w.begin_object();
  if (!fields.empty()) write_level(w, at, fields.end(), "");
  w.end_object();
}

}  // namespace croft::logs
