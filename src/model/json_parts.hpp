#pragma once
// Pieces of the wire records' JSON that link and catalog share. Private to model.

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "model/task.hpp"

namespace croft::wire {

void write(JsonWriter& w, std::string_view key, const Labels& labels);       ///< absent when empty
void write(JsonWriter& w, std::string_view key, const Resources& r);
void write(JsonWriter& w, std::string_view key, const std::vector<PortSpec>& ports);
void write(JsonWriter& w, const HealthCheck& c);
template <class T>
void write_ids(JsonWriter& w, std::string_view key, const T& ids) {           ///< absent when empty
  if (ids.empty()) return;
  w.key(key).begin_array();
  for (const auto& id : ids) w.value(id);
  w.end_array();
}
inline void write_wall(JsonWriter& w, std::string_view key, Wall at) { w.field(key, at.time_since_epoch().count()); }

Labels labels_from(const json::value& v, std::string_view key);
Resources resources_from(const json::value& v, std::string_view key);
std::vector<PortSpec> ports_from(const json::value& v, std::string_view key);
HealthCheck check_from(const json::value& v);
Wall wall_from(const json::value& v, std::string_view key);
std::optional<Wall> optional_wall_from(const json::value& v, std::string_view key);
std::optional<bool> optional_bool_from(const json::value& v, std::string_view key);
std::optional<int> optional_int_from(const json::value& v, std::string_view key);
/// An enumerator stored as its number; out of range gives the first.
template <class E>
E enum_from(const json::value& v, std::string_view key, E last, E fallback = E{}) {
  auto n = json::integer(v, key, static_cast<std::int64_t>(fallback));
  return n < 0 || n > static_cast<std::int64_t>(last) ? fallback : static_cast<E>(n);
}
template <class Id>
std::vector<Id> ids_from(const json::value& v, std::string_view key) {
  std::vector<Id> out;
  for (auto& text : json::texts(v, key)) out.emplace_back(std::move(text));
  return out;
}

}  // namespace croft::wire
