#include "model/acl.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "base/text.hpp"
#include "model/regex_cost.hpp"

namespace croft {

namespace {

constexpr std::size_t acl_max = 4096, expressions_max = 8;

/// Names of samples and converters that reach beyond the request: maps and key files, variables of the environment, Lua; and one with an expression of its own.
bool reaches_beyond(std::string_view name) { return name == "map" || name.starts_with("map_") || name.starts_with("lua.") || name == "env" || name.starts_with("jwt_verify") || name == "regsub" || name.starts_with("proc") || name == "nbproc"; }

/// Whether values are expressions: `path_reg`, also with converters behind it, or `-m` with another kind of match than these.
bool takes_expressions(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    auto word = lower(words[i]);
    if (std::string_view(word).substr(0, word.find_first_of("(,")).ends_with("_reg")) return true;
    if (!word.starts_with("-m")) continue;
    static constexpr std::string_view plain[] = {"found", "bool", "int", "ip", "bin", "len", "str", "beg", "sub", "dir", "dom", "end"};
    if (word != "-m" || i + 1 == words.size() || std::ranges::find(plain, lower(words[i + 1])) == std::end(plain)) return true;
  }
  return false;
}

/// A front end is shared: no rule's expression may keep it from others.
Status check_expressions(const std::vector<std::string>& words) {
  if (!takes_expressions(words)) return {};
  // Flags stand before the first value; behind that, or behind --, the same words are values.
  std::size_t at = 1;
  for (bool flags = true; flags && at < words.size();) {
    if (words[at] == "-m") at = std::min(at + 2, words.size());
    else if (words[at] == "-i" || words[at] == "-n") ++at;
    else flags = false;
  }
  if (at < words.size() && words[at] == "--") ++at;
  if (words.size() - std::min(at, words.size()) > expressions_max) return fail(Errc::invalid, "must not hold more than {} expressions", expressions_max);
  for (; at < words.size(); ++at)
    if (auto ok = check_regex_cost(words[at]); !ok) return ok;
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
  std::vector<std::string> words;
  for (const auto& word : split(acl, ' '))
    if (!word.empty()) words.emplace_back(word);
  for (const auto& word : words) {
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
  return check_expressions(words);
}

}  // namespace croft
