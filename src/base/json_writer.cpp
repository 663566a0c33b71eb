#include "base/json_writer.hpp"

#include <boost/json/value.hpp>

#include <charconv>
#include <cmath>

#include "base/text.hpp"
#include "base/utf8.hpp"

namespace croft {

namespace {

void append_quoted(std::string& out, std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  out.push_back('"');
  std::size_t plain = 0, i = 0;
  auto flush = [&] { out.append(text.substr(plain, i - plain)); };
  while (i < text.size()) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    if (c >= 0x80) {
      if (auto n = utf8_length(text.substr(i)); n) {
        i += n;
        continue;
      }
      flush();
      out.append("\xEF\xBF\xBD");
    } else {
      flush();
      switch (c) {
        case '"': out.append("\\\""); break;
        case '\\': out.append("\\\\"); break;
        case '\n': out.append("\\n"); break;
        case '\r': out.append("\\r"); break;
        case '\t': out.append("\\t"); break;
        default: out.append("\\u00").push_back(digits[c >> 4]), out.push_back(digits[c & 15]);
      }
    }
    plain = ++i;
  }
  flush();
  out.push_back('"');
}

}  // namespace

void JsonWriter::separate() {
  if (comma_) out_.push_back(',');
  comma_ = true;
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  out_.push_back(bracket);
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  out_.push_back(bracket);
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  append_quoted(out_, name);
  out_.push_back(':');
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  separate();
  append_quoted(out_, text);
  return *this;
}

JsonWriter& JsonWriter::value(bool truth) {
  separate();
  out_.append(truth ? "true" : "false");
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  separate();
  out_.append(print_number(number));
  return *this;
}

JsonWriter& JsonWriter::integer(std::int64_t number) {
  separate();
  char text[24];
  auto end = std::to_chars(text, text + sizeof text, number).ptr;
  out_.append(text, end);
  return *this;
}

JsonWriter& JsonWriter::natural(std::uint64_t number) {
  separate();
  char text[24];
  auto end = std::to_chars(text, text + sizeof text, number).ptr;
  out_.append(text, end);
  return *this;
}

JsonWriter& JsonWriter::null() {
  separate();
  out_.append("null");
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_.append(json);
  return *this;
}

JsonWriter& JsonWriter::value(const boost::json::value& v) {
  switch (v.kind()) {
    case boost::json::kind::null: return null();
    case boost::json::kind::bool_: return value(v.get_bool());
    case boost::json::kind::int64: return integer(v.get_int64());
    case boost::json::kind::uint64: return natural(v.get_uint64());
    case boost::json::kind::double_: return value(v.get_double());
    case boost::json::kind::string: return value(std::string_view(v.get_string()));
    case boost::json::kind::array:
      begin_array();
      for (const auto& e : v.get_array()) value(e);
      return end_array();
    case boost::json::kind::object:
      begin_object();
      for (const auto& e : v.get_object()) key(e.key()).value(e.value());
      return end_object();
  }
  return *this;
}

std::string json_quote(std::string_view text) {
  std::string out;
  append_quoted(out, text);
  return out;
}

}  // namespace croft
