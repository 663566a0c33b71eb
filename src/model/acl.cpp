#include "model/acl.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "model/regex_cost.hpp"

namespace croft {

namespace {

constexpr std::size_t acl_max = 4096;

/// Names of samples and converters that reach beyond the request: maps and key files, variables of the environment, Lua; and one with an expression of its own.
bool reaches_beyond(std::string_view name) { return name == "map" || name.starts_with("map_") || name.starts_with("lua.") || name == "env" || name.starts_with("jwt_verify") || name == "regsub" || name.starts_with("proc") || name == "nbproc"; }

/// A front end is shared: no rule's expression may keep it from others.
Status check_expressions(std::string_view acl) {
  auto words = split(acl, ' ');
  bool any = acl.find(" -m reg") != std::string_view::npos || std::ranges::any_of(words, [](const auto& w) { return lower(w.substr(0, w.find('('))).ends_with("_reg"); });
  for (const auto& word : words) {
    if (!any || word.empty() || word[0] == '-') continue;
    if (auto ok = check_regex_cost(word); !ok) return ok;
  }
  return {};
}

}  // namespace

Status check_acl(std::string_view acl) {
  if (trim(acl).empty()) return fail(Errc::invalid, "must be given and not empty");
  if (acl.size() > acl_max) return fail(Errc::invalid, "must be one line of at most {} bytes", acl_max);
  if (std::any_of(acl.begin(), acl.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) return fail(Errc::invalid, "must be one line of at most {} bytes", acl_max);
  for (auto sign : {"\"", "'", "#", "${"})
    if (acl.find(sign) != std::string_view::npos) return fail(Errc::invalid, "must not hold {}", sign);
  // Before these letters HAProxy takes a backslash for a quoting of its own; before others it stands in a regular expression.
  for (auto at = acl.find('\\'); at != std::string_view::npos; at = acl.find('\\', at + 2))
    if (at + 1 == acl.size() || std::string_view(" #\\nrtx").find(acl[at + 1]) != std::string_view::npos) return fail(Errc::invalid, "must not hold a backslash there");
  for (const auto& word : split(acl, ' ')) {
    if (word == "-u") return fail(Errc::invalid, "'-u' is not for rules: two with the same number would break each other");
    if (word == "-f" || word == "-M") return fail(Errc::invalid, "'{}' would read a file of the balancer's host", word);
    if (word.size() > 2 && word[0] == '-' && word[1] != '-' && word.find_first_of("fMu") != std::string_view::npos && word.find_first_not_of("imnuMf", 1) == std::string_view::npos)
      return fail(Errc::invalid, "'{}' would read a file of the balancer's host, or is a number for all rules", word);
    for (std::size_t at = 0; at < word.size();) {
      auto end = word.find_first_of(",()", at);
      auto name = lower(word.substr(at, end == std::string_view::npos ? std::string_view::npos : end - at));
      if (reaches_beyond(name)) return fail(Errc::invalid, "'{}' is not for rules", name);
      at = end == std::string_view::npos ? word.size() : end + 1;
    }
  }
  return check_expressions(acl);
}

}  // namespace croft
