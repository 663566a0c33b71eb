#include "logs/query/document.hpp"

#include <simdjson.h>

#include "base/text.hpp"

namespace croft::logs {

namespace {

bool token_char(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c >= 0x80; }

std::string_view without_keyword(std::string_view field) {
  constexpr std::string_view suffix = ".keyword";
  return field.ends_with(suffix) ? field.substr(0, field.size() - suffix.size()) : field;
}

bool leaves(simdjson::dom::element e, const std::function<bool(const Value&)>& each) {
  using Type = simdjson::dom::element_type;
  Value v;
  switch (e.type()) {
    case Type::STRING: v.text = e.get_string().value(); return each(v);
    case Type::INT64: v.kind = Value::Kind::number, v.whole = true, v.number = static_cast<double>(e.get_int64().value()); return each(v);
    case Type::UINT64: v.kind = Value::Kind::number, v.whole = true, v.number = static_cast<double>(e.get_uint64().value()); return each(v);
    case Type::DOUBLE: v.kind = Value::Kind::number, v.number = e.get_double().value(); return each(v);
    case Type::BOOL: v.kind = Value::Kind::boolean, v.truth = e.get_bool().value(); return each(v);
    case Type::ARRAY: {
      simdjson::dom::array children = e.get_array().value();  // named: a loop over the temporary would outlive it
      for (auto child : children)
        if (!leaves(child, each)) return false;
      return true;
    }
    case Type::OBJECT: {
      simdjson::dom::object members = e.get_object().value();
      for (auto child : members)
        if (!leaves(child.value, each)) return false;
      return true;
    }
    default: return true;
  }
}

/// A dotted name may be written as nested objects, as one dotted key, or as any mix.
bool find(simdjson::dom::element e, std::string_view field, const std::function<bool(const Value&)>& each) {
  if (e.is_array()) {
    simdjson::dom::array children = e.get_array().value();
    for (auto child : children)
      if (!find(child, field, each)) return false;
    return true;
  }
  if (!e.is_object()) return true;
  simdjson::dom::object members = e.get_object().value();
  for (auto child : members) {
    if (child.key == field) {
      if (!leaves(child.value, each)) return false;
    } else if (field.size() > child.key.size() && field[child.key.size()] == '.' && field.starts_with(child.key)) {
      if (!find(child.value, field.substr(child.key.size() + 1), each)) return false;
    }
  }
  return true;
}

bool walk(simdjson::dom::element e, std::string& name, const std::function<bool(std::string_view, const Value&)>& each) {
  if (e.is_object()) {
    simdjson::dom::object members = e.get_object().value();
    for (auto child : members) {
      auto size = name.size();
      if (size > 0) name += '.';
      name += child.key;
      bool go_on = walk(child.value, name, each);
      name.resize(size);
      if (!go_on) return false;
    }
    return true;
  }
  if (e.is_array()) {
    simdjson::dom::array children = e.get_array().value();
    for (auto child : children)
      if (!walk(child, name, each)) return false;
    return true;
  }
  return leaves(e, [&](const Value& v) { return each(name, v); });
}

}  // namespace

struct DocumentReader::Parsed {
  simdjson::dom::parser parser;
  std::string buffer;
  simdjson::dom::element root;
};

DocumentReader::DocumentReader() : parsed_source_(std::make_unique<Parsed>()) {}
DocumentReader::~DocumentReader() = default;

bool DocumentReader::parse() {
  if (parsed_) return good_;
  parsed_ = true;
  auto& p = *parsed_source_;
  // simdjson wants room behind the text; the copy is cheaper than the parse it allows.
  p.buffer.assign(row_.source);
  p.buffer.reserve(p.buffer.size() + simdjson::SIMDJSON_PADDING);
  auto result = p.parser.parse(p.buffer.data(), p.buffer.size(), false);
  good_ = result.get(p.root) == simdjson::SUCCESS && p.root.is_object();
  return good_;
}

bool DocumentReader::leaves_by_name(const std::function<bool(std::string_view, const Value&)>& each) {
  std::string name;
  return !parse() || walk(parsed_source_->root, name, each);
}

bool DocumentReader::values(std::string_view field, const std::function<bool(const Value&)>& each) {
  if (field == "_id" || field == "_index") {
    Value v;
    v.text = field == "_id" ? row_.id : index_;
    return each(v);
  }
  if (!parse()) return true;
  if (field.empty() || field == "*") return leaves(parsed_source_->root, each);
  field = without_keyword(field);
  if (field.find('*') == std::string_view::npos) return find(parsed_source_->root, field, each);
  return leaves_by_name([&](std::string_view name, const Value& v) { return !fits(field, name) || each(v); });
}

bool DocumentReader::exists(std::string_view field) {
  return !values(field, [](const Value&) { return false; });
}

std::optional<Value> DocumentReader::first(std::string_view field) {
  std::optional<Value> out;
  values(field, [&](const Value& v) {
    out = v;
    return false;
  });
  return out;
}

bool fits(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] == name[n] && pattern[p] != '*'))) ++p, ++n;
    else if (p < pattern.size() && pattern[p] == '*') star = p++, retry = n;
    else if (star != std::string_view::npos) p = star + 1, n = ++retry;
    else return false;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

void for_each_token(std::string_view text, const std::function<bool(std::string_view)>& each) {
  std::string word;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && token_char(static_cast<unsigned char>(text[i]))) {
      char c = text[i];
      word.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    } else if (!word.empty()) {
      if (!each(word)) return;
      word.clear();
    }
  }
}

std::vector<std::string> tokens_of(std::string_view text) {
  std::vector<std::string> out;
  for_each_token(text, [&](std::string_view t) {
    out.emplace_back(t);
    return true;
  });
  return out;
}

std::string value_text(const Value& v) {
  switch (v.kind) {
    case Value::Kind::text: return std::string(v.text);
    case Value::Kind::number: return print_number(v.number);
    case Value::Kind::boolean: return v.truth ? "true" : "false";
  }
  return {};
}

}  // namespace croft::logs
