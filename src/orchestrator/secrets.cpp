#include "orchestrator/secrets.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "orchestrator/app.hpp"
#include "secure/access.hpp"
#include "secure/bytes.hpp"

namespace croft::orchestrator {

namespace {

constexpr std::size_t path_max = 200;
constexpr std::int64_t format = 1;

Result<json::value> record_of(std::string_view record) {
  auto parsed = json::parse(record);
  if (!parsed || !parsed->is_object()) return fail(Errc::corrupt, "not a record of a secret");
  if (json::integer(*parsed, "format", 1) > format) return fail(Errc::invalid, "written by a newer croft (format {})", json::integer(*parsed, "format"));
  return std::move(*parsed);
}

StoredSecret described(const json::value& v) {
  StoredSecret s;
  s.value.version = static_cast<std::uint64_t>(json::integer(v, "version"));
  s.changed = Wall(Millis(json::integer(v, "changed_ms")));
  s.changed_by = json::text(v, "by");
  s.bytes = static_cast<std::size_t>(json::integer(v, "bytes"));
  return s;
}

}  // namespace

std::string secret_path(std::string_view source) {
  while (source.starts_with('/')) source.remove_prefix(1);
  while (source.ends_with('/')) source.remove_suffix(1);
  return "/" + std::string(source);
}

Status check_secret_path(std::string_view path) {
  if (path.size() > path_max) return fail(Errc::invalid, "more than {} bytes", path_max);
  auto good = [](std::string_view part) {
    return !part.empty() && part != "." && part != ".." && std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; });
  };
  auto parts = split(path.substr(path.empty() ? 0 : 1), '/');
  if (!path.starts_with('/') || !std::all_of(parts.begin(), parts.end(), good)) return fail(Errc::invalid, "a secret is named like /group/name, of letters, digits, '.', '_' and '-'");
  return {};
}

std::string group_of_secret(std::string_view path) {
  auto slash = path.rfind('/');
  return slash == 0 || slash == std::string_view::npos ? "/" : std::string(path.substr(0, slash));
}

bool secret_is_for(std::string_view path, const AppId& app) { return secure::covers(group_of_secret(path), app.str()); }

bool uses_secret(const App& app, std::string_view path) {
  return std::any_of(app.secrets.begin(), app.secrets.end(), [&](const auto& s) { return secret_path(s.second) == path; });
}

std::string encode_secret(std::string_view path, const StoredSecret& secret, const secure::KeyRing* ring) {
  JsonWriter w;
  w.begin_object().field("format", format).field("version", secret.value.version).field("changed_ms", secret.changed.time_since_epoch().count()).field("by", secret.changed_by);
  w.field("bytes", secret.value.value.size());
  if (ring) w.field("sealed", secure::base64url_encode(ring->seal(secret_key(path), secret.value.value)));
  else w.field("plain", secure::base64url_encode(secret.value.value));
  w.end_object();
  return std::move(w).take();
}

Result<StoredSecret> describe_secret(std::string_view record) {
  auto parsed = record_of(record);
  if (!parsed) return fail(std::move(parsed).error());
  return described(*parsed);
}

Result<StoredSecret> decode_secret(std::string_view path, std::string_view record, const secure::KeyRing* ring) {
  auto parsed = record_of(record);
  if (!parsed) return fail(std::move(parsed).error());
  auto out = described(*parsed);
  bool sealed = json::find(*parsed, "sealed") != nullptr;
  if (sealed && !ring) return fail(Errc::invalid, "it is sealed, and this farm has no keys: auth = \"none\"");
  auto bytes = secure::base64url_decode(json::text(*parsed, sealed ? "sealed" : "plain"));
  if (!bytes) return fail(Errc::corrupt, "its value is not readable");
  auto value = sealed ? ring->open(secret_key(path), *bytes) : Result<std::string>(std::move(*bytes));
  if (!value) return fail(std::move(value).error());
  out.value.value = std::move(*value);
  return out;
}

}  // namespace croft::orchestrator
