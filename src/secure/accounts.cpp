#include "secure/accounts.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "secure/access.hpp"
#include "secure/authority.hpp"
#include "secure/bytes.hpp"
#include "secure/password.hpp"

namespace croft::secure {

namespace {

constexpr std::int64_t account_format = 1;
constexpr std::size_t record_bytes_max = 64u << 10;

void put_grants(JsonWriter& w, const std::vector<Grant>& grants) {
  w.key("grants").begin_array();
  for (const auto& g : grants) w.value(to_string(g));
  w.end_array();
}

Result<json::value> open_record(std::string_view text, std::string_view what) {
  if (text.size() > record_bytes_max) return fail(Errc::too_large, "{}: record of {} bytes", what, text.size());
  auto doc = json::parse(text);
  if (!doc) return fail(Errc::corrupt, "{}: not JSON", what);
  if (auto format = json::integer(*doc, "format"); format != account_format)
    return fail(format > account_format ? Errc::invalid : Errc::corrupt, "{}: format {} is not known here", what, format);
  return doc;
}

Result<std::vector<Grant>> grants_in(const json::value& doc) {
  std::vector<Grant> out;
  const auto& list = json::list(doc, "grants");
  if (list.size() > grants_max) return fail(Errc::corrupt, "more than {} grants", grants_max);
  for (const auto& entry : list) {
    // A grant that is not understood is no smaller grant: the record is refused as a whole.
    auto grant = entry.is_string() ? parse_grant(std::string_view(entry.get_string())) : fail(Errc::corrupt, "a grant");
    if (!grant) return fail(Errc::corrupt, "{}", grant.error().context);
    out.push_back(std::move(*grant));
  }
  return out;
}

std::optional<Wall> time_in(const json::value& doc, std::string_view key, Wall otherwise) { return json::find(doc, key) ? from_iso8601(json::text(doc, key)) : std::optional(otherwise); }

bool plain_text(std::string_view text) { return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7f; }); }

bool whole_farm(const std::vector<Grant>& grants) { return std::find(grants.begin(), grants.end(), Grant{Level::admin, "/"}) != grants.end(); }

}  // namespace

std::string_view to_string(Level level) {
  switch (level) {
    case Level::viewer: return "viewer";
    case Level::operator_: return "operator";
    case Level::admin: return "admin";
  }
  return "?";
}

std::optional<Level> level_of(std::string_view text) {
  for (auto level : {Level::viewer, Level::operator_, Level::admin})
    if (to_string(level) == text) return level;
  return std::nullopt;
}

Result<Grant> parse_grant(std::string_view text) {
  auto colon = text.find(':');
  auto level = level_of(text.substr(0, colon));
  if (!level) return fail(Errc::invalid, "grant '{}': must be viewer, operator or admin, and may name a group: operator:/service", text.substr(0, 64));
  auto group = colon == std::string_view::npos ? Result<std::string>("/") : clean_path(text.substr(colon + 1));
  if (!group) return fail(Errc::invalid, "grant '{}': {}", text.substr(0, 64), group.error().context);
  return Grant{*level, std::move(*group)};
}

std::string to_string(const Grant& grant) { return fmt::format("{}:{}", to_string(grant.level), grant.group); }

Status check_user_name(std::string_view name) {
  auto fine = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == '@'; };
  if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), fine) || name.front() == '-' || name.front() == '.')
    return fail(Errc::invalid, "user: must have 1 to 64 letters, digits, '.', '_', '-' or '@', and begin with none of '-' and '.'");
  return {};
}

Status check_label(std::string_view label) {
  if (label.size() > label_bytes_max || !plain_text(label)) return fail(Errc::invalid, "label: must be one line of at most {} bytes", label_bytes_max);
  return {};
}

std::string encode_user(const User& u) {
  JsonWriter w;
  w.begin_object().field("format", account_format).field("name", u.name).field("password", u.password);
  put_grants(w, u.grants);
  w.field("created", to_iso8601(u.created)).field("created_by", u.created_by).end_object();
  return std::move(w).take();
}

std::string encode_token(const Token& t) {
  JsonWriter w;
  w.begin_object().field("format", account_format).field("id", t.id).field("digest", t.digest).field("label", t.label);
  put_grants(w, t.grants);
  w.field("created", to_iso8601(t.created)).field("created_by", t.created_by);
  if (t.expires != Wall::max()) w.field("expires", to_iso8601(t.expires));
  w.end_object();
  return std::move(w).take();
}

Result<User> decode_user(std::string_view text) {
  auto doc = open_record(text, "user");
  if (!doc) return fail(std::move(doc).error());
  User u;
  u.name = json::text(*doc, "name");
  if (!check_user_name(u.name)) return fail(Errc::corrupt, "user: name");
  u.password = json::text(*doc, "password");
  if (auto ok = check_password_record(u.password); !ok) return fail(std::move(ok).error().within("user " + u.name));
  auto grants = grants_in(*doc);
  if (!grants) return fail(std::move(grants).error().within("user " + u.name));
  u.grants = std::move(*grants);
  auto created = time_in(*doc, "created", Wall{});
  if (!created) return fail(Errc::corrupt, "user {}: created", u.name);
  u.created = *created;
  u.created_by = json::text(*doc, "created_by");
  return u;
}

Result<Token> decode_token(std::string_view text) {
  auto doc = open_record(text, "token");
  if (!doc) return fail(std::move(doc).error());
  Token t;
  t.id = json::text(*doc, "id");
  if (t.id.size() != 16 || !unhex(t.id)) return fail(Errc::corrupt, "token: id");
  t.digest = json::text(*doc, "digest");
  if (t.digest.size() != 64 || !unhex(t.digest)) return fail(Errc::corrupt, "token {}: digest", t.id);
  t.label = json::text(*doc, "label");
  if (!check_label(t.label)) return fail(Errc::corrupt, "token {}: label", t.id);
  auto grants = grants_in(*doc);
  if (!grants) return fail(std::move(grants).error().within("token " + t.id));
  t.grants = std::move(*grants);
  auto created = time_in(*doc, "created", Wall{}), expires = time_in(*doc, "expires", Wall::max());
  if (!created || !expires) return fail(Errc::corrupt, "token {}: a date", t.id);
  t.created = *created;
  t.expires = *expires;
  t.created_by = json::text(*doc, "created_by");
  return t;
}

std::string encode_revocation(const Revocation& r) {
  JsonWriter w;
  w.begin_object().field("format", account_format).field("host", r.host).field("before", to_iso8601(r.before)).field("by", r.by).end_object();
  return std::move(w).take();
}

Result<Revocation> decode_revocation(std::string_view text) {
  auto doc = open_record(text, "revocation");
  if (!doc) return fail(std::move(doc).error());
  Revocation r;
  r.host = json::text(*doc, "host");
  if (!check_host(r.host)) return fail(Errc::corrupt, "revocation: host");
  auto before = from_iso8601(json::text(*doc, "before"));
  if (!before) return fail(Errc::corrupt, "revocation of {}: before", r.host);
  r.before = *before;
  r.by = json::text(*doc, "by");
  return r;
}

std::string Principal::str() const {
  switch (kind) {
    case Kind::anonymous: return "nobody";
    case Kind::user: return "user " + name;
    case Kind::token: return label.empty() ? "token " + name : fmt::format("token {} ({})", name, label);
    case Kind::host: return host ? host->str() : "host " + name;
  }
  return "?";
}

std::string account_of(std::string_view who) {
  constexpr std::string_view login = " (login of ";
  auto at = who.find(login);
  if (!who.starts_with("token ") || at == std::string_view::npos || !who.ends_with(")")) return std::string(who);
  return fmt::format("user {}", who.substr(at + login.size(), who.size() - at - login.size() - 1));
}

Principal principal_of(const User& user) { return {Principal::Kind::user, user.name, user.grants, {}, {}}; }
Principal principal_of(const Token& token) { return {Principal::Kind::token, token.id, token.grants, {}, token.label}; }
Principal principal_of(const HostIdentity& host) { return {Principal::Kind::host, host.host, {}, host, {}}; }

namespace {

/// Into a map by the name that each record has in it, which must be the one in its key.
template <class Record>
Status load_all(const std::map<std::string, std::string>& records, std::string_view prefix, Result<Record> (*decode)(std::string_view), std::string Record::*name, std::map<std::string, Record, std::less<>>& into) {
  for (const auto& [key, value] : records) {
    auto record = decode(value);
    if (!record) return fail(std::move(record).error().within(key));
    auto own = (*record).*name;
    if (key != std::string(prefix) + own) return fail(Errc::corrupt, "{}: holds the record of {}", key, own);
    into[own] = std::move(*record);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const Accounts>> Accounts::load(const std::map<std::string, std::string>& users, const std::map<std::string, std::string>& tokens, const std::map<std::string, std::string>& revoked) {
  auto out = std::make_shared<Accounts>();
  if (users.size() > accounts_max || tokens.size() > accounts_max || revoked.size() > accounts_max) return fail(Errc::too_large, "accounts: more than {}", accounts_max);
  if (auto ok = load_all(users, users_prefix, decode_user, &User::name, out->users_); !ok) return fail(std::move(ok).error());
  if (auto ok = load_all(tokens, tokens_prefix, decode_token, &Token::id, out->tokens_); !ok) return fail(std::move(ok).error());
  if (auto ok = load_all(revoked, revoked_prefix, decode_revocation, &Revocation::host, out->revoked_); !ok) return fail(std::move(ok).error());
  return out;
}

const User* Accounts::user(std::string_view name) const {
  auto at = users_.find(name);
  return at == users_.end() ? nullptr : &at->second;
}

const Token* Accounts::token(std::string_view id) const {
  auto at = tokens_.find(id);
  return at == tokens_.end() ? nullptr : &at->second;
}

bool Accounts::admin_without(std::string_view user_name, std::string_view token_id, Wall now) const {
  for (const auto& [name, u] : users_)
    if (name != user_name && whole_farm(u.grants)) return true;
  for (const auto& [id, t] : tokens_)
    if (id != token_id && t.expires > now && whole_farm(t.grants)) return true;
  return false;
}

bool Accounts::revoked(const Certificate& certificate) const {
  if (revoked_.empty()) return false;
  auto at = revoked_.find(certificate.identity.host);
  return at != revoked_.end() && certificate.not_before + backdated <= at->second.before;
}

std::shared_ptr<const Accounts> Accounts::with(User user) const {
  auto out = std::make_shared<Accounts>(*this);
  auto name = user.name;
  out->users_[name] = std::move(user);
  return out;
}

std::shared_ptr<const Accounts> Accounts::with(Token token) const {
  auto out = std::make_shared<Accounts>(*this);
  auto id = token.id;
  out->tokens_[id] = std::move(token);
  return out;
}

std::shared_ptr<const Accounts> Accounts::without_user(std::string_view name) const {
  auto out = std::make_shared<Accounts>(*this);
  out->users_.erase(std::string(name));
  return out;
}

std::shared_ptr<const Accounts> Accounts::without_token(std::string_view id) const {
  auto out = std::make_shared<Accounts>(*this);
  out->tokens_.erase(std::string(id));
  return out;
}

std::optional<Principal> Accounts::present(const Principal& who, Wall now) const {
  if (who.kind == Principal::Kind::user) {
    const auto* found = user(who.name);
    return found ? std::optional(principal_of(*found)) : std::nullopt;
  }
  if (who.kind == Principal::Kind::token) {
    const auto* found = token(who.name);
    return found && found->expires > now ? std::optional(principal_of(*found)) : std::nullopt;
  }
  return who;
}

Result<Principal> Accounts::bearer(std::string_view text, Wall now) const {
  auto id = bearer_id(text);
  if (!id) return fail(Errc::forbidden, "{}", id.error().context);
  const auto* found = token(*id);
  if (!found || !bearer_matches(found->digest, text)) return fail(Errc::forbidden, "token: is not known");
  if (found->expires <= now) return fail(Errc::forbidden, "token {}: expired {}", found->id, to_iso8601(found->expires));
  return principal_of(*found);
}

}  // namespace croft::secure
