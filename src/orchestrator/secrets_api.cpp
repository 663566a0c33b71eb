#include "orchestrator/secrets_api.hpp"

#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "orchestrator/access_face.hpp"
#include "orchestrator/secrets.hpp"
#include "secure/bytes.hpp"

namespace croft::orchestrator {

using net::Request;
using net::Response;

namespace {

struct SecretFace {
  std::shared_ptr<RecordKeeper> keeper;
  std::shared_ptr<Leader> leader;
  std::shared_ptr<const secure::KeyRing> ring;
};
using FacePtr = std::shared_ptr<const SecretFace>;

std::vector<std::string> users_of(const View& view, const std::string& path) {
  std::vector<std::string> out;
  view.apps.for_each([&](const AppId& id, const std::shared_ptr<const AppView>& app) {
    if (uses_secret(*app->app, path)) out.push_back(id.str());
  });
  return out;
}

void write_secret(JsonWriter& w, const std::string& path, const StoredSecret& s, const std::vector<std::string>& users) {
  w.begin_object().field("name", path).field("version", s.value.version).field("bytes", s.bytes).field("changed", to_iso8601(s.changed)).field("changed_by", s.changed_by);
  w.key("used_by").begin_array();
  for (const auto& app : users) w.value(app);
  w.end_array().end_object();
}

/// Apps that the caller may not see are none of his business either.
std::vector<std::string> shown(std::vector<std::string> apps, const secure::CallerPtr& caller) {
  std::erase_if(apps, [&](const std::string& app) { return !secure::sees(caller, app); });
  return apps;
}

asio::awaitable<Response> list_secrets(FacePtr face, Request r) {
  auto seen = face->keeper->records();
  if (!seen.records) co_return Response::message(503, "this master does not lead");
  auto view = face->leader->view();
  JsonWriter w;
  w.begin_object().key("secrets").begin_array();
  for (auto at = seen.records->lower_bound(std::string(secrets_prefix)); at != seen.records->end() && at->first.starts_with(secrets_prefix); ++at) {
    auto path = at->first.substr(secrets_prefix.size() - 1);
    if (!secure::may(r.caller, secure::Verb::see, {secure::Kind::secret, path}).allowed) continue;
    if (auto s = describe_secret(at->second)) write_secret(w, path, *s, shown(users_of(*view, path), r.caller));
  }
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

std::string path_in(const Request& r) { return "/" + r.params.at("name"); }

asio::awaitable<Response> read_secret(FacePtr face, Request r) {
  auto path = path_in(r);
  auto seen = face->keeper->records();
  if (!seen.records) co_return Response::message(503, "this master does not lead");
  auto at = seen.records->find(secret_key(path));
  if (at == seen.records->end()) co_return Response::message(404, fmt::format("There is no secret {}", path));
  auto s = describe_secret(at->second);
  if (!s) co_return Response::message(500, fmt::format("secret {}: {}", path, s.error().context));
  JsonWriter w;
  write_secret(w, path, *s, shown(users_of(*face->leader->view(), path), r.caller));
  co_return Response::json(std::move(w).take());
}

/// {"value": "text"}, or {"base64": "…"} for any bytes.
Result<std::string> value_in(const json::value& body) {
  const auto *text = json::find(body, "value"), *coded = json::find(body, "base64");
  if ((text == nullptr) == (coded == nullptr)) return fail(Errc::invalid, "value or base64: one of them must be given");
  if (!(text ? text : coded)->is_string()) return fail(Errc::invalid, "{}: must be a text", text ? "value" : "base64");
  auto out = text ? std::optional(json::text(body, "value")) : base64_decode(json::text(body, "base64"));
  if (!out) return fail(Errc::invalid, "base64: is not base64");
  if (out->empty()) return fail(Errc::invalid, "{}: must not be empty", text ? "value" : "base64");
  if (out->size() > secret_bytes_max) return fail(Errc::too_large, "a secret has at most {} bytes", secret_bytes_max);
  return std::move(*out);
}

std::expected<coordination::Batch, Refusal> put_batch(const Records& records, const std::string& path, std::string value, const std::string& who, Now now, const secure::KeyRing* ring, std::uint64_t& version) {
  auto key = secret_key(path);
  std::size_t count = 0, total = value.size();
  StoredSecret next{{1, std::move(value)}, now.wall, who};
  for (auto at = records.lower_bound(std::string(secrets_prefix)); at != records.end() && at->first.starts_with(secrets_prefix); ++at) {
    if (at->first != key) {  // by the records' sizes, which are base64: to read them all would hold the leader's strand
      ++count, total += at->second.size() * 3 / 4;
      continue;
    }
    auto there = describe_secret(at->second);
    if (!there) return refuse(there.error().code, fmt::format("secret {}: {}", path, there.error().context));
    next.value.version = there->value.version + 1;
  }
  if (count >= secrets_max || total > secrets_total_max) return refuse(Errc::too_large, fmt::format("there are at most {} secrets of {} MiB in all", secrets_max, secrets_total_max >> 20));
  version = next.value.version;
  coordination::Batch batch;
  batch.put[key] = encode_secret(path, next, ring);
  secure::wipe(next.value.value);
  return batch;
}

asio::awaitable<Response> put_secret(FacePtr face, Request r) {
  auto path = path_in(r);
  if (auto ok = check_secret_path(path); !ok) co_return Response::message(422, fmt::format("name: {}", ok.error().context));
  auto body = object_of(r, {"value", "base64"});
  secure::wipe(r.body);
  if (!body) co_return body.error();
  auto value = value_in(*body);
  if (!value) co_return Response::message(value.error().code == Errc::too_large ? 413 : 422, value.error().context);
  auto told = asked(r, "");
  auto who = told.who;
  std::uint64_t version = 0;
  // The audit log's words are chosen before the version is known; the number of changes can be counted there.
  told.what = fmt::format("secret {} set", path);
  told.paths = {path};
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) { return put_batch(records, path, *value, who, now, face->ring.get(), version); };
  auto done = co_await face->keeper->change_records(make, std::move(told));
  secure::wipe(*value);
  if (!done) co_return access_refused(done.error());
  JsonWriter w;
  w.begin_object().field("name", path).field("version", version).end_object();
  co_return Response::json(std::move(w).take(), version == 1 ? 201 : 200);
}

asio::awaitable<Response> remove_secret(FacePtr face, Request r) {
  auto path = path_in(r);
  auto view = co_await face->leader->fresh_view();
  auto users = users_of(*view, path);
  RecordKeeper::MakeRecords make = [&](const Records& records, Now) -> std::expected<coordination::Batch, Refusal> {
    if (!records.contains(secret_key(path))) return refuse(Errc::not_found, fmt::format("There is no secret {}", path));
    if (!users.empty()) return refuse(Errc::conflict, fmt::format("secret {} is used by {}", path, join(shown(users, r.caller).empty() ? std::vector<std::string>{"apps that you may not see"} : shown(users, r.caller), ", ")));
    coordination::Batch batch;
    batch.remove.push_back(secret_key(path));
    return batch;
  };
  auto told = asked(r, fmt::format("secret {} removed", path));
  told.paths = {path};
  auto done = co_await face->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  co_return Response::json("{}");
}

}  // namespace

void add_secret_routes(net::Router& router, std::shared_ptr<RecordKeeper> keeper, std::shared_ptr<Leader> leader, std::shared_ptr<const secure::KeyRing> ring) {
  auto face = std::make_shared<const SecretFace>(SecretFace{std::move(keeper), std::move(leader), std::move(ring)});
  auto on = [&](std::string_view method, std::string_view pattern, asio::awaitable<Response> (*handler)(FacePtr, Request)) {
    router.on(method, pattern, [face, handler](Request r) { return handler(face, std::move(r)); });
  };
  on("GET", "/croft/v1/secrets", list_secrets);
  on("GET", "/croft/v1/secrets/{*name}", read_secret);
  on("PUT", "/croft/v1/secrets/{*name}", put_secret);
  on("DELETE", "/croft/v1/secrets/{*name}", remove_secret);
}

}  // namespace croft::orchestrator
