// Which indices a name means: patterns, aliases, dates.

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/es/face.hpp"
#include "logs/query/dates.hpp"
#include "logs/query/document.hpp"

namespace croft::logs {

namespace {

bool plain(std::string_view name) { return name.find('*') == std::string_view::npos && name != "_all" && !name.starts_with('-'); }

/// Commas inside "<…{now/d}…>" part nothing.
std::vector<std::string> pieces_of(std::string_view expression) {
  std::vector<std::string> out(1);
  int depth = 0;
  for (char c : expression) {
    if (c == '<' || c == '{') ++depth;
    if (c == '>' || c == '}') --depth;
    if (c == ',' && depth <= 0) out.emplace_back();
    else out.back().push_back(c);
  }
  std::erase(out, "");
  return out;
}

}  // namespace

bool Target::operator()(const std::string& name) const {
  bool in = patterns.empty();
  for (const auto& p : patterns) {
    if (p.starts_with('-') && p.size() > 1) in = in && !fits(std::string_view(p).substr(1), name);
    else in = in || p == "_all" || fits(p, name);
  }
  return in;
}

std::string index_param(const Request& r) {
  auto at = r.params.find("index");
  return at == r.params.end() ? "" : at->second;
}

TargetOptions target_options(const Request& r) { return {r.query.flag("ignore_unavailable"), r.query.flag("allow_no_indices", true)}; }

Es<std::string> date_math_name(std::string_view name, Wall now) {
  if (!name.starts_with('<') || !name.ends_with('>')) return std::string(name);
  auto wrong = [&](std::string_view why) { return std::unexpected(EsError{400, "parse_exception", fmt::format("invalid dynamic name expression [{}]: {}", name, why), {}, false}); };
  auto rest = name.substr(1, name.size() - 2);
  std::string out;
  while (!rest.empty()) {
    auto open = rest.find('{');
    out += rest.substr(0, open);
    if (open == std::string_view::npos) break;
    rest.remove_prefix(open + 1);
    std::size_t end = 0;
    for (int depth = 1; end < rest.size(); ++end) {
      if (rest[end] == '{') ++depth;
      if (rest[end] == '}' && --depth == 0) break;
    }
    if (end == rest.size()) return wrong("a } is missing");
    auto inside = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    std::string format = "yyyy.MM.dd";
    DateOptions dates;
    auto math = inside.substr(0, inside.find('{'));
    if (auto form = inside.find('{'); form != std::string_view::npos && inside.ends_with('}')) {
      auto text = inside.substr(form + 1, inside.size() - form - 2);
      if (auto bar = text.find('|'); bar != std::string_view::npos) {
        auto zone = find_zone(text.substr(bar + 1));
        if (!zone) return wrong(zone.error().context);
        dates.zone = *zone;
        text = text.substr(0, bar);
      }
      format = text;
    }
    auto at = parse_date(math, false, now, dates);
    if (!at) return wrong("no date math");
    out += print_date(*at, format, dates.zone);
  }
  return out;
}

Aliases aliases_of(Api& api) {
  Aliases out;
  for (const auto& [alias, text] : api.store.settings("alias/"))
    if (auto parsed = json::parse(text); parsed && parsed->is_object())
      for (const auto& m : parsed->get_object()) out.by_alias[alias][m.key()] = json::print(m.value());
  return out;
}

Es<Target> target_of(Api& api, std::string_view expression, const TargetOptions& options) {
  Target target;
  auto known = api.store.indices();
  auto now = system_now().wall;
  auto aliases = aliases_of(api);
  for (auto& piece : pieces_of(expression)) {
    auto name = date_math_name(piece, now);
    if (!name) return std::unexpected(std::move(name).error());
    bool any = std::any_of(known.begin(), known.end(), [&](const auto& i) { return *name == "_all" || fits(*name, i.name); });
    for (const auto& [alias, indices] : aliases.by_alias)
      if (*name != "_all" && fits(*name, alias))
        for (const auto& [index, about] : indices) any = true, target.patterns.push_back(index);
    if (plain(*name) && !any && !options.ignore_unavailable) return std::unexpected(no_index(*name));
    if (!any && !name->starts_with('-') && !options.allow_no_indices) return std::unexpected(no_index(*name));
    target.patterns.push_back(std::move(*name));
  }
  return target;
}

Es<Target> target_of(Api& api, const Request& r) { return target_of(api, index_param(r), target_options(r)); }

Es<std::string> write_index(Api& api, const std::string& name, Wall now) {
  auto dated = date_math_name(name, now);
  if (!dated) return dated;
  auto aliases = aliases_of(api);
  auto at = aliases.by_alias.find(*dated);
  if (at == aliases.by_alias.end()) return dated;
  for (const auto& [index, about] : at->second)
    if (at->second.size() == 1 || about.find("\"is_write_index\":true") != std::string::npos) return index;
  return std::unexpected(EsError{400, "illegal_argument_exception",
                                 fmt::format("no write index is defined for alias [{}]. The write index may be explicitly disabled using is_write_index=false or the alias points to multiple indices without one being designated as a write index", *dated),
                                 {}, false});
}

}  // namespace croft::logs
