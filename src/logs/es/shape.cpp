// What clients ask of any answer: only some paths of it, or line breaks.

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/es/face.hpp"
#include "logs/query/document.hpp"

namespace croft::logs {

namespace {

using Path = std::vector<std::string>;
constexpr std::size_t filtered_max = 32u << 20;   // of an answer that is taken apart: as values it is ten times as large
constexpr std::size_t indented_max = 128u << 20;  // line breaks of deep lists alone can make sixty times as much of it
enum class Fit : std::uint8_t { no, partly, whole };

/// Whether a pattern covers what stands at `path`, or something below it.
Fit fit(const Path& pattern, std::size_t p, const Path& path, std::size_t i) {
  if (i == path.size()) return p == pattern.size() ? Fit::whole : Fit::partly;
  if (p == pattern.size()) return Fit::whole;
  if (pattern[p] == "**") {
    auto skipped = fit(pattern, p + 1, path, i), longer = fit(pattern, p, path, i + 1);
    if (skipped == Fit::whole || longer == Fit::whole) return Fit::whole;
    return skipped == Fit::partly || longer == Fit::partly ? Fit::partly : Fit::no;
  }
  return fits(pattern[p], path[i]) ? fit(pattern, p + 1, path, i + 1) : Fit::no;
}

Fit best(const std::vector<Path>& patterns, const Path& path) {
  auto out = Fit::no;
  for (const auto& p : patterns) {
    auto f = fit(p, 0, path, 0);
    if (f == Fit::whole) return f;
    if (f == Fit::partly) out = f;
  }
  return out;
}

struct PathFilter {
  std::vector<Path> wanted, unwanted;
  Path at;

  std::optional<boost::json::value> keep(const boost::json::value& v) {
    if (!unwanted.empty() && !at.empty() && best(unwanted, at) == Fit::whole) return std::nullopt;
    auto here = wanted.empty() ? Fit::whole : at.empty() ? Fit::partly : best(wanted, at);
    if (here == Fit::no) return std::nullopt;
    if (here == Fit::whole && unwanted.empty()) return v;
    if (v.is_object()) {
      boost::json::object out;
      for (const auto& m : v.get_object()) {
        at.emplace_back(m.key());
        if (auto kept = keep(m.value())) out.emplace(m.key(), std::move(*kept));
        at.pop_back();
      }
      return out.empty() && here != Fit::whole ? std::nullopt : std::optional<boost::json::value>(std::move(out));
    }
    if (v.is_array()) {
      boost::json::array out;
      for (const auto& element : v.get_array())
        if (auto kept = keep(element)) out.push_back(std::move(*kept));
      return out.empty() && here != Fit::whole ? std::nullopt : std::optional<boost::json::value>(std::move(out));
    }
    return here == Fit::whole ? std::optional(v) : std::nullopt;
  }
};

}  // namespace

std::string filter_path(std::string_view body, std::string_view paths) {
  if (body.size() > filtered_max) return std::string(body);
  PathFilter filter;
  for (const auto& text : split(paths, ',')) {
    auto one = trim(text);
    if (one.empty()) continue;
    bool minus = one.starts_with('-');
    (minus ? filter.unwanted : filter.wanted).push_back(split(minus ? one.substr(1) : one, '.'));
  }
  auto parsed = json::parse(body);
  if (!parsed || (filter.wanted.empty() && filter.unwanted.empty())) return std::string(body);
  auto kept = filter.keep(*parsed);
  return kept ? json::print(*kept) : "{}";
}

std::string indented(std::string_view body) {
  std::string out;
  std::size_t depth = 0;
  bool text = false;
  auto line = [&] { out.push_back('\n'), out.append(2 * depth, ' '); };
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (out.size() > indented_max) return std::string(body);
    char c = body[i];
    if (text) {
      out.push_back(c);
      if (c == '\\' && i + 1 < body.size()) out.push_back(body[++i]);
      else if (c == '"') text = false;
      continue;
    }
    bool closes_at_once = i + 1 < body.size() && ((c == '{' && body[i + 1] == '}') || (c == '[' && body[i + 1] == ']'));
    if (closes_at_once) {
      out.push_back(c), out.push_back(' '), out.push_back(body[++i]);
    } else if (c == '{' || c == '[') {
      out.push_back(c), ++depth, line();
    } else if (c == '}' || c == ']') {
      depth -= depth > 0, line(), out.push_back(c);
    } else if (c == ',') {
      out.push_back(c), line();
    } else if (c == ':') {
      out += " : ";
    } else if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
      text = c == '"';
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace croft::logs
