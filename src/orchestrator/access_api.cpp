#include "orchestrator/access_api.hpp"

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "orchestrator/access_face.hpp"
#include "orchestrator/audit_log.hpp"
#include "orchestrator/marathon_json.hpp"
#include "secure/bytes.hpp"
#include "secure/password.hpp"

namespace croft::orchestrator {

using net::Request;
using net::Response;
using secure::users_prefix;
using secure::tokens_prefix;

net::Response access_refused(const Refusal& refusal) { return refused(refusal); }

std::expected<json::value, Response> object_of(const Request& r, std::initializer_list<std::string_view> known) {
  auto parsed = json::parse(r.body);
  if (!parsed) return std::unexpected(Response::message(400, "the body must be JSON: " + parsed.error().context));
  if (!parsed->is_object()) return std::unexpected(Response::message(400, "the body must be a JSON object"));
  for (const auto& member : parsed->get_object())
    if (std::find(known.begin(), known.end(), std::string_view(member.key())) == known.end()) return std::unexpected(Response::message(422, fmt::format("{}: is not known here", std::string_view(member.key()))));
  return std::move(*parsed);
}

Result<std::int64_t> whole_number(const json::value& body, std::string_view key, std::int64_t otherwise, std::int64_t min, std::int64_t max) {
  const auto* given = json::find(body, key);
  if (!given) return otherwise;
  if (!given->is_int64() || given->get_int64() < min || given->get_int64() > max) return fail(Errc::invalid, "{}: must be a whole number from {} to {}", key, min, max);
  return given->get_int64();
}

Result<std::string> text_member(const json::value& body, std::string_view key) {
  const auto* given = json::find(body, key);
  if (given && !given->is_string()) return fail(Errc::invalid, "{}: must be a text", key);
  return given ? std::string(given->get_string()) : std::string();
}

AuditRecord asked(const Request& r, std::string what) {
  AuditRecord out;
  out.who = r.caller ? r.caller->who.str() : "nobody";
  out.from = r.caller ? r.caller->source : r.peer;
  out.what = std::move(what);
  return out;
}

namespace {

Result<std::vector<secure::Grant>> grants_of(const json::value& body) {
  std::vector<secure::Grant> out;
  const auto* given = json::find(body, "grants");
  if (!given || !given->is_array()) return fail(Errc::invalid, "grants: must be a list such as [\"operator:/service\"]");
  for (const auto& one : given->get_array()) {
    auto grant = one.is_string() ? secure::parse_grant(std::string_view(one.get_string())) : fail(Errc::invalid, "grants: must be texts such as \"operator:/service\"");
    if (!grant) return fail(std::move(grant).error());
    out.push_back(std::move(*grant));
  }
  if (out.size() > secure::grants_max) return fail(Errc::invalid, "grants: more than {}", secure::grants_max);
  return out;
}

std::string in_words(const std::vector<secure::Grant>& grants) {
  std::vector<std::string> out;
  for (const auto& grant : grants) out.push_back(secure::to_string(grant));
  return out.empty() ? "none" : join(out, " ");
}

void write_grants(JsonWriter& w, const std::vector<secure::Grant>& grants) {
  w.key("grants").begin_array();
  for (const auto& grant : grants) w.value(secure::to_string(grant));
  w.end_array();
}

std::expected<std::shared_ptr<const secure::Accounts>, Refusal> accounts_in(const Records& records) {
  auto accounts = stored_accounts(records);
  if (!accounts) return std::unexpected(Refusal{std::move(accounts).error(), {}});
  return std::move(*accounts);
}

asio::awaitable<Result<std::string>> hashed(AccessPtr access, std::string password) {
  if (auto ok = secure::check_new_password(password); !ok) co_return fail(std::move(ok).error());
  auto record = std::make_shared<std::string>();
  std::function<void()> work = [record, password = std::move(password)]() mutable {
    *record = secure::hash_password(password);
    secure::wipe(password);
  };
  co_await access->options.blocking->run(std::move(work));
  co_return std::move(*record);
}

Response invalid(const Error& e) { return Response::message(e.code == Errc::invalid ? 422 : 500, e.context); }

asio::awaitable<Response> whoami(AccessPtr, Request r) {
  JsonWriter w;
  const auto who = r.caller ? r.caller->who : secure::Principal{};
  w.begin_object().field("kind", who.kind == secure::Principal::Kind::user ? "user" : who.kind == secure::Principal::Kind::token ? "token" : "nobody").field("name", who.name).field("label", who.label);
  write_grants(w, who.grants);
  w.end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> list_users(AccessPtr access, Request) {
  auto seen = access->keeper->records();
  auto accounts = seen.records ? accounts_in(*seen.records) : refuse(Errc::unavailable, "this master does not lead");
  if (!accounts) co_return access_refused(accounts.error());
  JsonWriter w;
  w.begin_object().key("users").begin_array();
  for (const auto& [name, user] : (*accounts)->users()) {
    w.begin_object().field("name", name);
    write_grants(w, user.grants);
    w.field("created", to_iso8601(user.created)).field("created_by", user.created_by).end_object();
  }
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

std::string login_label(std::string_view user) { return fmt::format("login of {}", user); }

/// Tokens that a user got by logging in say what he might do then: they go when that changes.
void end_logins(const secure::Accounts& accounts, const std::string& user, coordination::Batch& batch) {
  for (const auto& [id, token] : accounts.tokens())
    if (token.label == login_label(user) && token.created_by == "user " + user) batch.remove.push_back(std::string(tokens_prefix) + id);
}

/// Makes, or with `must_exist` changes: what is not given stays.
asio::awaitable<Response> put_user(AccessPtr access, Request r, std::string name, json::value body, bool must_exist) {
  if (auto ok = secure::check_user_name(name); !ok) co_return invalid(ok.error());
  std::optional<std::vector<secure::Grant>> grants;
  if (json::find(body, "grants") || !must_exist) {
    auto read = grants_of(body);
    if (!read) co_return invalid(read.error());
    grants = std::move(*read);
  }
  std::string record;
  if (json::find(body, "password") || !must_exist) {
    auto password = json::text(body, "password");
    auto job = hashed(access, std::move(password));
    auto made = co_await std::move(job);
    if (!made) co_return invalid(made.error());
    record = std::move(*made);
  }
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto accounts = accounts_in(records);
    if (!accounts) return std::unexpected(accounts.error());
    const auto* known = (*accounts)->user(name);
    if (must_exist && !known) return refuse(Errc::not_found, fmt::format("There is no user {}", name));
    if (!must_exist && known) return refuse(Errc::conflict, fmt::format("There is a user {} already", name));
    if ((*accounts)->users().size() + (*accounts)->tokens().size() >= secure::accounts_max) return refuse(Errc::too_large, "there are too many users and tokens");
    secure::User user = known ? *known : secure::User{name, {}, {}, now.wall, r.caller ? r.caller->who.str() : ""};
    if (grants) user.grants = *grants;
    if (!record.empty()) user.password = record;
    bool still = std::find(user.grants.begin(), user.grants.end(), secure::Grant{secure::Level::admin, "/"}) != user.grants.end();
    if (known && !still && !(*accounts)->admin_without(name, "", now.wall)) return refuse(Errc::conflict, "then nobody would be admin of the whole farm");
    coordination::Batch batch;
    batch.put[std::string(users_prefix) + name] = secure::encode_user(user);
    end_logins(**accounts, name, batch);
    return batch;
  };
  auto told = asked(r, fmt::format("user {} {}{}{}", name, must_exist ? "changed" : "made", grants ? ", grants " + in_words(*grants) : "", record.empty() ? "" : ", password"));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  JsonWriter w;
  w.begin_object().field("name", name).end_object();
  co_return Response::json(std::move(w).take(), must_exist ? 200 : 201);
}

asio::awaitable<Response> add_user(AccessPtr access, Request r) {
  auto body = object_of(r, {"name", "password", "grants"});
  if (!body) co_return body.error();
  auto name = json::text(*body, "name");
  auto job = put_user(access, std::move(r), std::move(name), std::move(*body), false);
  co_return co_await std::move(job);
}

asio::awaitable<Response> change_user(AccessPtr access, Request r) {
  auto body = object_of(r, {"password", "grants"});
  if (!body) co_return body.error();
  if (body->get_object().empty()) co_return Response::message(422, "grants or password: one must be given");
  auto name = r.params["name"];
  auto job = put_user(access, std::move(r), std::move(name), std::move(*body), true);
  co_return co_await std::move(job);
}

asio::awaitable<Response> own_password(AccessPtr access, Request r) {
  auto body = object_of(r, {"password"});
  if (!body) co_return body.error();
  if (!r.caller || r.caller->who.kind != secure::Principal::Kind::user) co_return Response::message(409, "only users have a password");
  auto name = r.caller->who.name;
  if (!json::find(*body, "password")) co_return Response::message(422, "password: must be given");
  auto job = put_user(access, std::move(r), std::move(name), std::move(*body), true);
  co_return co_await std::move(job);
}

/// A token with the caller's own rights, for a command line that shall not keep a password.
asio::awaitable<Response> log_in(AccessPtr access, Request r) {
  constexpr std::chrono::hours life{24 * 30};
  constexpr std::size_t logins_max = 20, logins_a_minute = 10;
  if (!r.caller || r.caller->who.kind != secure::Principal::Kind::user) co_return Response::message(409, "a user logs in for a token; this is one already");
  auto name = r.caller->who.name;
  auto made = secure::new_bearer_token();
  bool too_often = false;
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto accounts = accounts_in(records);
    if (!accounts) return std::unexpected(accounts.error());
    const auto* user = (*accounts)->user(name);
    if (!user) return refuse(Errc::not_found, fmt::format("There is no user {}", name));
    coordination::Batch batch;
    std::map<Wall, std::string> mine;
    for (const auto& [id, token] : (*accounts)->tokens())
      if (token.label == login_label(name) && token.created_by == "user " + name) mine.emplace(token.created, id);
    too_often = static_cast<std::size_t>(std::count_if(mine.begin(), mine.end(), [&](const auto& m) { return now.wall - m.first < std::chrono::minutes(1); })) >= logins_a_minute;
    if (too_often) return refuse(Errc::unavailable, "more logins a minute than one user may make");
    if (mine.size() >= logins_max) batch.remove.push_back(std::string(tokens_prefix) + mine.begin()->second);
    batch.put[std::string(tokens_prefix) + made.id] = secure::encode_token({made.id, made.digest, login_label(name), user->grants, now.wall, now.wall + life, "user " + name});
    return batch;
  };
  auto told = asked(r, fmt::format("logged in, token {}", made.id));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (too_often) {
    auto response = Response::message(429, done.error().error.context);
    response.headers.set("Retry-After", "60");
    co_return response;
  }
  if (!done) co_return access_refused(done.error());
  JsonWriter w;
  w.begin_object().field("id", made.id).field("token", made.text).field("user", name).end_object();
  auto response = Response::json(std::move(w).take(), 201);
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

/// The token of `croft login` by which this very request came, ended.
asio::awaitable<Response> log_out(AccessPtr access, Request r) {
  if (!r.caller || r.caller->who.kind != secure::Principal::Kind::token || !r.caller->who.label.starts_with(login_label(""))) co_return Response::message(409, "only a token of croft login ends itself; others are revoked");
  auto id = r.caller->who.name;
  RecordKeeper::MakeRecords make = [&](const Records&, Now) -> std::expected<coordination::Batch, Refusal> {
    coordination::Batch batch;
    batch.remove.push_back(std::string(tokens_prefix) + id);
    return batch;
  };
  auto told = asked(r, fmt::format("logged out, token {}", id));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  co_return Response::json("{}");
}

asio::awaitable<Response> remove_user(AccessPtr access, Request r) {
  auto name = r.params["name"];
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto accounts = accounts_in(records);
    if (!accounts) return std::unexpected(accounts.error());
    if (!(*accounts)->user(name)) return refuse(Errc::not_found, fmt::format("There is no user {}", name));
    if (!(*accounts)->admin_without(name, "", now.wall)) return refuse(Errc::conflict, "then nobody would be admin of the whole farm");
    coordination::Batch batch;
    batch.remove.push_back(std::string(users_prefix) + name);
    end_logins(**accounts, name, batch);
    return batch;
  };
  auto told = asked(r, fmt::format("user {} removed", name));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  co_return Response::json("{}");
}

asio::awaitable<Response> list_tokens(AccessPtr access, Request) {
  auto seen = access->keeper->records();
  auto accounts = seen.records ? accounts_in(*seen.records) : refuse(Errc::unavailable, "this master does not lead");
  if (!accounts) co_return access_refused(accounts.error());
  JsonWriter w;
  w.begin_object().key("tokens").begin_array();
  for (const auto& [id, token] : (*accounts)->tokens()) {
    w.begin_object().field("id", id).field("label", token.label);
    write_grants(w, token.grants);
    w.field("created", to_iso8601(token.created)).field("created_by", token.created_by).key("expires");
    if (token.expires == Wall::max()) w.null();
    else w.value(to_iso8601(token.expires));
    w.end_object();
  }
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

/// {"label": …, "grants": […], "hours": 720}: the token's text is in the answer and nowhere else.
asio::awaitable<Response> add_token(AccessPtr access, Request r) {
  constexpr std::int64_t hours_max = 24 * 366 * 10;
  auto body = object_of(r, {"label", "grants", "hours"});
  if (!body) co_return body.error();
  auto grants = grants_of(*body);
  if (!grants) co_return invalid(grants.error());
  auto label = json::text(*body, "label");
  if (auto ok = secure::check_label(label); !ok) co_return invalid(ok.error());
  if (label.starts_with(login_label(""))) co_return Response::message(422, "label: such ones are made by croft login, and count as their user");
  auto hours = whole_number(*body, "hours", 0, 0, hours_max);
  if (!hours) co_return invalid(std::move(hours).error().within("without it the token does not expire"));
  auto made = secure::new_bearer_token();
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto accounts = accounts_in(records);
    if (!accounts) return std::unexpected(accounts.error());
    if ((*accounts)->users().size() + (*accounts)->tokens().size() >= secure::accounts_max) return refuse(Errc::too_large, "there are too many users and tokens");
    secure::Token token{made.id, made.digest, label, *grants, now.wall, *hours ? now.wall + std::chrono::hours(*hours) : Wall::max(), r.caller ? r.caller->who.str() : ""};
    coordination::Batch batch;
    batch.put[std::string(tokens_prefix) + made.id] = secure::encode_token(token);
    return batch;
  };
  auto told = asked(r, fmt::format("token {} ({}) made, grants {}{}", made.id, label, in_words(*grants), *hours ? fmt::format(", for {} hours", *hours) : ""));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  JsonWriter w;
  w.begin_object().field("id", made.id).field("token", made.text).end_object();
  auto response = Response::json(std::move(w).take(), 201);
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

asio::awaitable<Response> remove_token(AccessPtr access, Request r) {
  auto id = r.params["id"];
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto accounts = accounts_in(records);
    if (!accounts) return std::unexpected(accounts.error());
    if (!(*accounts)->token(id)) return refuse(Errc::not_found, fmt::format("There is no token {}", id));
    if (!(*accounts)->admin_without("", id, now.wall)) return refuse(Errc::conflict, "then nobody would be admin of the whole farm");
    coordination::Batch batch;
    batch.remove.push_back(std::string(tokens_prefix) + id);
    return batch;
  };
  auto told = asked(r, fmt::format("token {} revoked", id));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  co_return Response::json("{}");
}

/// ?after=N goes on behind a record, ?last=N gives the newest; ?path=/service only what concerns apps there, ?who=… whose name holds it.
asio::awaitable<Response> read_audit(AccessPtr access, Request r) {
  constexpr std::int64_t limit_max = 1000;
  auto number = [&](std::string_view name, std::int64_t otherwise) { return std::max<std::int64_t>(0, to_int(r.query.get(name).value_or("")).value_or(otherwise)); };
  auto last = number("last", 0);
  auto limit = std::clamp<std::int64_t>(last > 0 ? last : number("limit", 100), 1, limit_max);
  auto path = r.query.get("path").value_or(""), who = r.query.get("who").value_or("");
  auto caller = r.caller;
  std::function<bool(const AuditRecord&)> shows = [caller, path, who](const AuditRecord& a) {
    if (!who.empty() && a.who.find(who) == std::string::npos) return false;
    if (!path.empty() && std::none_of(a.paths.begin(), a.paths.end(), [&](const auto& p) { return secure::covers(path, p); })) return false;
    if (secure::may(caller, secure::Verb::see, {secure::Kind::audit, {}}).allowed) return true;
    return !a.paths.empty() && a.paths.size() < AuditLog::paths_max && std::all_of(a.paths.begin(), a.paths.end(), [&](const auto& p) { return secure::may(caller, secure::Verb::see, {secure::Kind::audit, p}).allowed; });
  };
  auto page = co_await access->keeper->audit(static_cast<std::uint64_t>(number("after", 0)), static_cast<std::size_t>(limit), last > 0, std::move(shows));
  if (!page) co_return Response::message(503, "this master does not lead");
  JsonWriter w;
  w.begin_object().key("records").begin_array();
  for (const auto& a : page->records) {
    w.begin_object().field("number", a.number).field("when", to_iso8601(a.when)).field("who", a.who).field("from", a.from).field("what", a.what).key("paths").begin_array();
    for (const auto& p : a.paths) w.value(p);
    w.end_array().field("done", a.done);
    if (!a.reason.empty()) w.field("reason", a.reason);
    w.key("changes").begin_array();
    for (const auto& change : a.changes) w.value(change);
    w.end_array().end_object();
  }
  w.end_array().field("newest", page->newest).end_object();
  co_return Response::json(std::move(w).take());
}

}  // namespace

Result<std::shared_ptr<const secure::Accounts>> stored_accounts(const Records& records) {
  std::map<std::string, std::string> users, tokens, revoked;
  for (const auto& [key, value] : records)
    if (key.starts_with(users_prefix)) users.emplace(key, value);
    else if (key.starts_with(tokens_prefix)) tokens.emplace(key, value);
    else if (key.starts_with(secure::revoked_prefix)) revoked.emplace(key, value);
  return secure::Accounts::load(users, tokens, revoked);
}

void add_access_routes(net::Router& router, std::shared_ptr<RecordKeeper> keeper, AccessOptions options) {
  AccessRoutes on{router, std::make_shared<Access>(Access{std::move(keeper), std::move(options)})};
  on("GET", "/croft/v1/whoami", whoami);
  on("POST", "/croft/v1/login", log_in);
  on("DELETE", "/croft/v1/login", log_out);
  on("PUT", "/croft/v1/password", own_password);
  on("GET", "/croft/v1/users", list_users);
  on("POST", "/croft/v1/users", add_user);
  on("PUT", "/croft/v1/users/{name}", change_user);
  on("DELETE", "/croft/v1/users/{name}", remove_user);
  on("GET", "/croft/v1/tokens", list_tokens);
  on("POST", "/croft/v1/tokens", add_token);
  on("DELETE", "/croft/v1/tokens/{id}", remove_token);
  on("GET", "/croft/v1/audit", read_audit);
  if (on.access->options.files) add_host_routes(on);
}

}  // namespace croft::orchestrator
