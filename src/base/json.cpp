#include "base/json.hpp"

#include <boost/json/stream_parser.hpp>

#include "base/json_writer.hpp"

namespace croft::json {

Result<value> parse(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = 64;
  boost::system::error_code ec;
  boost::json::stream_parser parser({}, options);
  auto used = parser.write_some(text.data(), text.size(), ec);
  if (!ec && used < text.size()) {
    auto rest = text.find_first_not_of(" \t\r\n", used);
    if (rest != std::string_view::npos) {
      ec = boost::json::error::extra_data;
      used = rest;
    }
  }
  if (!ec) parser.finish(ec);
  if (ec) {
    std::size_t line = 1, column = 1;
    for (char c : text.substr(0, used)) {
      ++column;
      if (c == '\n') ++line, column = 1;
    }
    return fail(Errc::invalid, "not JSON: {} at line {}, column {}", ec.message(), line, column);
  }
  return parser.release();
}

const value* find(const value& from, std::string_view key) {
  if (!from.is_object()) return nullptr;
  const auto* found = from.get_object().if_contains(key);
  return found && !found->is_null() ? found : nullptr;
}

std::string text(const value& from, std::string_view key, std::string_view fallback) {
  const auto* v = find(from, key);
  return v && v->is_string() ? std::string(v->get_string()) : std::string(fallback);
}

std::int64_t integer(const value& from, std::string_view key, std::int64_t fallback) {
  const auto* v = find(from, key);
  if (!v) return fallback;
  if (v->is_int64()) return v->get_int64();
  if (v->is_uint64()) return static_cast<std::int64_t>(v->get_uint64());
  if (v->is_double() && v->get_double() > -9e18 && v->get_double() < 9e18) return static_cast<std::int64_t>(v->get_double());
  return fallback;
}

double number(const value& from, std::string_view key, double fallback) {
  const auto* v = find(from, key);
  if (!v || !v->is_number()) return fallback;
  return v->is_double() ? v->get_double() : v->is_int64() ? double(v->get_int64()) : double(v->get_uint64());
}

bool boolean(const value& from, std::string_view key, bool fallback) {
  const auto* v = find(from, key);
  return v && v->is_bool() ? v->get_bool() : fallback;
}

const array& list(const value& from, std::string_view key) {
  static const array none;
  const auto* v = find(from, key);
  return v && v->is_array() ? v->get_array() : none;
}

const object& members(const value& from, std::string_view key) {
  static const object none;
  const auto* v = find(from, key);
  return v && v->is_object() ? v->get_object() : none;
}

std::vector<std::string> texts(const value& from, std::string_view key) {
  std::vector<std::string> out;
  for (const auto& v : list(from, key))
    if (v.is_string()) out.emplace_back(v.get_string());
  return out;
}

std::string print(const value& v) {
  JsonWriter w;
  w.value(v);
  return std::move(w).take();
}

}  // namespace croft::json
