#include "orchestrator/fields.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.hpp"

namespace croft::orchestrator {

std::string Fields::as_decimal(double v) {
  auto text = print_number(v);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

Fields::~Fields() {
  if (asked_.empty()) return;  // given up before it was read
  for (const auto& member : from_)
    if (std::find(asked_.begin(), asked_.end(), std::string_view(member.key())) == asked_.end()) problems_.unknown(at(member.key()));
}

void Fields::pass_over(std::initializer_list<std::string_view> keys) const { asked_.insert(asked_.end(), keys); }

bool Fields::has(std::string_view key) const {
  if (std::find(asked_.begin(), asked_.end(), key) == asked_.end()) asked_.push_back(key);
  const auto* v = from_.if_contains(key);
  return v && !v->is_null();
}

void Fields::text(std::string_view key, std::string& into) const {
  if (!has(key)) return;
  if (raw(key).is_string()) into = std::string(raw(key).get_string());
  else problems_.shape(at(key), "error.expected.jsstring");
}

void Fields::required_text(std::string_view key, std::string& into) const {
  if (!has(key)) problems_.shape(at(key), "error.path.missing");
  else text(key, into);
}

void Fields::boolean(std::string_view key, bool& into) const {
  if (!has(key)) return;
  if (raw(key).is_bool()) into = raw(key).get_bool();
  else problems_.shape(at(key), "error.expected.jsboolean");
}

void Fields::integer(std::string_view key, std::int64_t& into, std::int64_t min, std::int64_t max) const {
  if (!has(key)) return;
  double v = 0;
  if (!raw(key).is_number()) return problems_.shape(at(key), "error.expected.jsnumber");
  v = raw(key).to_number<double>();
  if (std::floor(v) != v) return problems_.shape(at(key), "error.expected.int");
  if (v < static_cast<double>(min)) return problems_.shape(at(key), "error.min");
  if (v > static_cast<double>(max)) return problems_.shape(at(key), "error.max");
  into = static_cast<std::int64_t>(v);
}

void Fields::number(std::string_view key, double& into, double min, double max) const {
  if (!has(key)) return;
  if (!raw(key).is_number()) return problems_.shape(at(key), "error.expected.jsnumber");
  auto v = raw(key).to_number<double>();
  if (!(v >= min)) return problems_.shape(at(key), "error.min");
  if (!(v <= max)) return problems_.shape(at(key), "error.max");
  into = v;
}

void Fields::enumeration(std::string_view key, std::initializer_list<std::string_view> words, std::string& into) const {
  if (!has(key)) return;
  if (!raw(key).is_string()) return problems_.shape(at(key), "error.expected.jsstring");
  std::string_view given = raw(key).get_string();
  for (auto word : words)
    if (iequals(word, given)) {
      into = word;
      return;
    }
  std::vector<std::string> all(words.begin(), words.end());
  problems_.shape(at(key), fmt::format("error.unknown.enum.literal: '{}', expected one of {}", given, join(all, ", ")));
}

std::optional<Fields> Fields::object(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  if (raw(key).is_object()) return std::optional<Fields>(std::in_place, raw(key).get_object(), at(key), problems_);
  problems_.shape(at(key), "error.expected.jsobject");
  return std::nullopt;
}

void Fields::each_object(std::string_view key, const std::function<void(Fields&)>& each) const {
  if (!has(key)) return;
  if (!raw(key).is_array()) return problems_.shape(at(key), "error.expected.jsarray");
  std::size_t i = 0;
  for (const auto& v : raw(key).get_array()) {
    auto path = fmt::format("{}({})", at(key), i++);
    if (!v.is_object()) {
      problems_.shape(path, "error.expected.jsobject");
      continue;
    }
    Fields inner(v.get_object(), path, problems_);
    each(inner);
  }
}

void Fields::each_text(std::string_view key, const std::function<void(std::string)>& each) const {
  if (!has(key)) return;
  if (!raw(key).is_array()) return problems_.shape(at(key), "error.expected.jsarray");
  std::size_t i = 0;
  for (const auto& v : raw(key).get_array()) {
    if (v.is_string()) each(std::string(v.get_string()));
    else problems_.shape(fmt::format("{}({})", at(key), i), "error.expected.jsstring");
    ++i;
  }
}

void Fields::each_integer(std::string_view key, std::int64_t min, std::int64_t max, const std::function<void(std::int64_t)>& each) const {
  if (!has(key)) return;
  if (!raw(key).is_array()) return problems_.shape(at(key), "error.expected.jsarray");
  std::size_t i = 0;
  for (const auto& v : raw(key).get_array()) {
    auto path = fmt::format("{}({})", at(key), i++);
    if (!v.is_int64()) problems_.shape(path, "error.expected.jsnumber");
    else if (v.get_int64() < min || v.get_int64() > max) problems_.shape(path, v.get_int64() < min ? "error.min" : "error.max");
    else each(v.get_int64());
  }
}

void Fields::each_array(std::string_view key, const std::function<void(const std::vector<std::string>&, const std::string&)>& each) const {
  if (!has(key)) return;
  if (!raw(key).is_array()) return problems_.shape(at(key), "error.expected.jsarray");
  std::size_t i = 0;
  for (const auto& v : raw(key).get_array()) {
    auto path = fmt::format("{}({})", at(key), i++);
    if (!v.is_array()) {
      problems_.shape(path, "error.expected.jsarray");
      continue;
    }
    std::vector<std::string> texts;
    bool good = true;
    for (const auto& t : v.get_array()) {
      if (t.is_string()) texts.emplace_back(t.get_string());
      else good = false;
    }
    if (good) each(texts, path);
    else problems_.shape(path, "error.expected.jsstring");
  }
}

void Fields::each_member(std::string_view key, const std::function<void(const std::string&, const json::value&, const std::string&)>& each) const {
  if (!has(key)) return;
  if (!raw(key).is_object()) return problems_.shape(at(key), "error.expected.jsobject");
  for (const auto& member : raw(key).get_object()) each(std::string(member.key()), member.value(), at(key) + "/" + std::string(member.key()));
}

}  // namespace croft::orchestrator
