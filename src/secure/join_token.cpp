#include "secure/join_token.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "secure/bytes.hpp"

namespace croft::secure {

namespace {

constexpr std::string_view prefix = "croft-join-1.";

std::string mac_of(std::string_view key, std::string_view payload) { return hmac_sha256(key, fmt::format("croft join token 1\n{}", payload)); }

Status check(const JoinToken& t) {
  auto is_hex = [](const std::string& s, std::size_t bytes) { return s.size() == 2 * bytes && unhex(s); };
  if (!is_hex(t.id, 8)) return fail(Errc::invalid, "join token: id: must be 16 hex digits");
  if (!is_hex(t.ca_fingerprint, 32)) return fail(Errc::invalid, "join token: the CA's hash: must be 64 hex digits");
  if (t.roles.empty()) return fail(Errc::invalid, "join token: roles: must name at least one");
  if (!t.host.empty())
    if (auto ok = check_host(t.host); !ok) return fail(std::move(ok).error().within("join token"));
  return {};
}

struct Pieces {
  std::string_view payload;
  std::string mac;
};

Result<Pieces> cut(std::string_view text) {
  if (text.size() > join_token_bytes_max) return fail(Errc::too_large, "join token: more than {} bytes", join_token_bytes_max);
  auto dot = text.rfind('.');
  if (!text.starts_with(prefix) || dot < prefix.size()) return fail(Errc::invalid, "join token: must begin with {} and end with its seal; was it cut short?", prefix);
  auto mac = base64url_decode(text.substr(dot + 1));
  if (!mac || mac->size() != 32) return fail(Errc::invalid, "join token: its seal is malformed; was it cut short?");
  return Pieces{text.substr(prefix.size(), dot - prefix.size()), std::move(*mac)};
}

Result<JoinToken> decode(std::string_view payload) {
  auto text = base64url_decode(payload);
  if (!text) return fail(Errc::invalid, "join token: malformed");
  auto doc = json::parse(*text);
  if (!doc) return fail(Errc::invalid, "join token: malformed");
  JoinToken t{json::text(*doc, "id"), json::text(*doc, "ca"), {}, json::text(*doc, "host"), {}};
  for (const auto& name : json::texts(*doc, "roles")) {
    auto role = host_role(name);
    if (!role) return fail(Errc::invalid, "join token: role '{}' is not known here", name.substr(0, 32));
    t.roles.push_back(*role);
  }
  t.expires = Wall(Seconds(std::clamp<std::int64_t>(json::integer(*doc, "expires"), 0, 1ll << 40)));
  if (auto ok = check(t); !ok) return fail(std::move(ok).error());
  return t;
}

}  // namespace

std::string new_token_id() { return hex(random_bytes(8)); }

Result<std::string> encode_join_token(const JoinToken& token, std::string_view key) {
  if (key.size() != join_key_bytes) return fail(Errc::invalid, "join key: must have {} bytes", join_key_bytes);
  if (auto ok = check(token); !ok) return fail(std::move(ok).error());
  JsonWriter w;
  w.begin_object().field("id", token.id).field("ca", token.ca_fingerprint).key("roles").begin_array();
  for (auto role : token.roles) w.value(to_string(role));
  w.end_array();
  if (!token.host.empty()) w.field("host", token.host);
  w.field("expires", std::chrono::floor<Seconds>(token.expires).time_since_epoch().count()).end_object();
  auto payload = base64url_encode(w.str());
  auto out = fmt::format("{}{}.{}", prefix, payload, base64url_encode(mac_of(key, payload)));
  if (out.size() > join_token_bytes_max) return fail(Errc::too_large, "join token: more than {} bytes", join_token_bytes_max);
  return out;
}

Result<JoinToken> read_join_token(std::string_view text) {
  auto pieces = cut(trim(text));
  if (!pieces) return fail(std::move(pieces).error());
  return decode(pieces->payload);
}

Result<JoinToken> verify_join_token(std::string_view text, std::string_view key, Wall now) {
  if (key.size() != join_key_bytes) return fail(Errc::invalid, "join key: must have {} bytes", join_key_bytes);
  auto pieces = cut(trim(text));
  if (!pieces) return fail(std::move(pieces).error());
  // Nothing of the payload is looked at before the MAC is right.
  if (!equal(mac_of(key, pieces->payload), pieces->mac)) return fail(Errc::forbidden, "join token: is not of this cluster");
  auto token = decode(pieces->payload);
  if (token && token->expires <= now) return fail(Errc::forbidden, "join token {}: expired {}", token->id, to_iso8601(token->expires));
  return token;
}

Status check_join(const JoinToken& token, const HostIdentity& wanted) {
  if (!token.host.empty() && token.host != wanted.host) return fail(Errc::forbidden, "join token {}: is for host {}, not for {}", token.id, token.host, wanted.host);
  for (auto role : wanted.roles)
    if (std::find(token.roles.begin(), token.roles.end(), role) == token.roles.end()) return fail(Errc::forbidden, "join token {}: does not give the role {}", token.id, to_string(role));
  if (wanted.roles.empty()) return fail(Errc::forbidden, "join token {}: a host must ask for a role", token.id);
  return {};
}

}  // namespace croft::secure
