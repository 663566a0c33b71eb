#include "secure/old_credentials.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"

namespace croft::secure {

namespace {

Result<OldCredential> from_object(const json::value& v, const std::string& where) {
  OldCredential c{json::text(v, "principal"), json::text(v, "secret")};
  if (c.name.empty()) return fail(Errc::invalid, "{}: 'principal' is missing, or no text", where);
  if (c.password.empty()) return fail(Errc::invalid, "{}: 'secret' is missing, or no text", where);
  return c;
}

Result<std::vector<OldCredential>> from_json(std::string_view text) {
  auto parsed = json::parse(text);
  if (!parsed) return fail(std::move(parsed).error());
  std::vector<OldCredential> out;
  if (parsed->is_object() && !parsed->get_object().contains("credentials")) {
    auto one = from_object(*parsed, "the object");
    if (!one) return fail(std::move(one).error());
    out.push_back(std::move(*one));
    return out;
  }
  std::size_t i = 0;
  for (const auto& v : json::list(*parsed, "credentials")) {
    auto one = from_object(v, fmt::format("credentials({})", i++));
    if (!one) return fail(std::move(one).error());
    out.push_back(std::move(*one));
  }
  return out;
}

/// "principal secret", or "user:password" where there is no blank: a password may hold colons, a name may not.
Result<OldCredential> from_line(std::string_view line, std::size_t number) {
  auto blank = line.find_first_of(" \t");
  auto cut = blank != std::string_view::npos ? blank : line.find(':');
  if (cut == std::string_view::npos || cut == 0) return fail(Errc::invalid, "line {}: neither 'principal secret' nor 'user:password'", number);
  auto password = trim(line.substr(cut + 1));
  if (password.empty()) return fail(Errc::invalid, "line {}: no password", number);
  return OldCredential{std::string(line.substr(0, cut)), std::string(password)};
}

}  // namespace

Result<std::vector<OldCredential>> read_old_credentials(std::string_view text) {
  std::vector<OldCredential> out;
  if (trim(text).starts_with('{')) {
    auto read = from_json(text);
    if (!read) return fail(std::move(read).error());
    out = std::move(*read);
  } else {
    std::size_t number = 0;
    for (const auto& line : split(text, '\n')) {
      ++number;
      if (trim(line).empty()) continue;
      auto one = from_line(trim(line), number);
      if (!one) return fail(std::move(one).error());
      out.push_back(std::move(*one));
    }
  }
  if (out.empty()) return fail(Errc::invalid, "holds no credentials");
  for (auto at = out.begin(); at != out.end(); ++at)
    if (std::any_of(out.begin(), at, [&](const auto& before) { return before.name == at->name; })) return fail(Errc::invalid, "'{}' stands in it twice", at->name);
  return out;
}

}  // namespace croft::secure
