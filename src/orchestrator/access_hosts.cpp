// Hosts of the cluster: join tokens, joining, certificates anew, and what hosts without a leader need to check logins themselves.

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "orchestrator/access_face.hpp"
#include "secure/bytes.hpp"
#include "secure/join_token.hpp"

namespace croft::orchestrator {

using net::Request;
using net::Response;
using secure::HostIdentity;

namespace {

constexpr std::size_t names_max = 16, records_max = 20'000;
constexpr std::string_view hosts_prefix = "hosts/", joins_prefix = "joins/";
constexpr Millis wait_max{25'000};

std::expected<secure::Trust, Refusal> trust_in(const Records& records, const secure::KeyRing& ring) {
  auto trust = stored_trust(records, ring);
  if (!trust) return std::unexpected(Refusal{std::move(trust).error(), {}});
  return std::move(*trust);
}

/// A host as it is known to the farm: which names it may bear, and that nobody else gets its name.
struct KnownHost {
  std::string name;
  std::vector<std::string> names;
};
KnownHost known_host(std::string_view key, std::string_view text) {
  auto parsed = json::parse(text);
  return {std::string(key.substr(hosts_prefix.size())), parsed ? json::texts(*parsed, "names") : std::vector<std::string>()};
}

bool is_anybodys(std::string_view name) { return name == "localhost" || name.starts_with("127."); }

/// A name in a certificate is what clients go by: nobody gets one that is another's.
Status check_names(const Records& records, const std::string& host, const std::vector<std::string>& names) {
  if (names.size() > names_max) return fail(Errc::invalid, "names: more than {}", names_max);
  for (auto at = records.lower_bound(std::string(hosts_prefix)); at != records.end() && at->first.starts_with(hosts_prefix); ++at) {
    auto other = known_host(at->first, at->second);
    if (other.name == host) continue;
    for (const auto& name : names)
      if (!is_anybodys(name) && (name == other.name || std::find(other.names.begin(), other.names.end(), name) != other.names.end()))
        return fail(Errc::forbidden, "names: {} is a name of {}", name, other.name);
    if (std::find(other.names.begin(), other.names.end(), host) != other.names.end()) return fail(Errc::forbidden, "host: {} is a name of {}", host, other.name);
  }
  return {};
}

/// Signs, and writes down who got what until when.
std::expected<coordination::Batch, Refusal> signing(const Records& records, const secure::KeyRing& ring, const HostIdentity& who, const std::vector<std::string>& names, const std::string& request,
                                                    Now now, std::string& certificate, std::string& bundle) {
  auto trust = trust_in(records, ring);
  if (!trust) return std::unexpected(trust.error());
  secure::advance(*trust, now.wall);
  // One of the very second, or of a clock that is behind, would be void as well.
  if (auto old = records.find(std::string(secure::revoked_prefix) + who.host); old != records.end())
    if (auto revoked = secure::decode_revocation(old->second); !revoked || std::chrono::floor<Seconds>(now.wall) <= revoked->before)
      return refuse(Errc::unavailable, fmt::format("host {}: was revoked this moment; try again in a second", who.host));
  if (auto ok = check_names(records, who.host, names); !ok) return std::unexpected(Refusal{std::move(ok).error(), {}});
  auto issued = secure::issue(trust->authority(), request, {who, names}, now.wall);
  if (!issued) return std::unexpected(Refusal{std::move(issued).error(), {}});
  auto read = secure::read_certificate(*issued);
  if (!read) return std::unexpected(Refusal{std::move(read).error(), {}});
  secure::note_issued(*trust, read->not_after);
  certificate = std::move(*issued);
  bundle = trust->bundle();
  JsonWriter w;
  w.begin_object().field("format", 1).key("roles").begin_array();
  for (auto role : who.roles) w.value(secure::to_string(role));
  w.end_array().key("names").begin_array();
  for (const auto& name : names) w.value(name);
  w.end_array().field("serial", read->serial).field("not_after", to_iso8601(read->not_after)).end_object();
  coordination::Batch batch;
  batch.put[std::string(hosts_prefix) + who.host] = std::move(w).take();
  batch.put[std::string(trust_key)] = trust_record(*trust, ring);
  return batch;
}

std::optional<std::vector<secure::HostRole>> roles_of(const json::value& body) {
  std::vector<secure::HostRole> out;
  for (const auto& text : json::texts(body, "roles")) {
    auto role = secure::host_role(text);
    if (!role) return std::nullopt;
    if (std::find(out.begin(), out.end(), *role) == out.end()) out.push_back(*role);
  }
  std::sort(out.begin(), out.end());
  return out.empty() ? std::nullopt : std::optional(out);
}

Response certificate_answer(const std::string& cluster, const std::string& certificate, const std::string& bundle, const std::string& secrets) {
  JsonWriter w;
  w.begin_object().field("cluster", cluster).field("certificate", certificate).field("bundle", bundle);
  if (!secrets.empty()) w.key("master").raw(secrets);
  w.end_object();
  auto response = Response::json(std::move(w).take());
  response.headers.set("Cache-Control", "no-store");
  return response;
}

asio::awaitable<Response> read_ca(AccessPtr access, Request) {
  auto seen = access->keeper->records();
  auto trust = seen.records ? stored_trust(*seen.records, access->options.files->seal) : fail(Errc::unavailable, "this master does not lead");
  if (!trust) co_return Response::message(503, trust.error().context);
  auto response = Response::text(trust->bundle());
  response.headers.set("Content-Type", "application/x-pem-file");
  co_return response;
}

/// The CA that the joining host will meet: the one that signed this master's certificate, which for a while after a rotation is not the one that signs.
std::string answering_ca(const secure::Trust& trust, const AccessOptions& o, Wall now) {
  auto own = o.own_certificate ? o.own_certificate() : o.files->host_certificate_pem;
  for (const auto& g : trust.generations)
    if (secure::signed_by(own, g.authority.certificate_pem, now)) return g.authority.certificate_pem;
  return trust.authority().certificate_pem;
}

asio::awaitable<Response> read_rotation(AccessPtr access, Request) {
  auto seen = access->keeper->records();
  auto trust = seen.records ? stored_trust(*seen.records, access->options.files->seal) : fail(Errc::unavailable, "this master does not lead");
  if (!trust) co_return Response::message(503, trust.error().context);
  JsonWriter w;
  w.begin_object().field("rotating", trust->rotating() || trust->signing > 0).key("cas").begin_array();
  for (std::size_t i = 0; i < trust->generations.size(); ++i) {
    const auto& g = trust->generations[i];
    auto anchor = secure::read_bundle(g.authority.certificate_pem);
    w.begin_object().field("sha256", anchor ? anchor->front().fingerprint : "").field("made", to_iso8601(g.made)).field("ends", anchor ? to_iso8601(anchor->front().not_after) : "");
    w.field("state", i < trust->signing ? "trusted" : i == trust->signing ? "signs" : "announced").field("signs_from", to_iso8601(g.signs_from)).field("last_certificate_ends", to_iso8601(g.last_end)).end_object();
  }
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

/// {"hours": 168}: how long the new CA is known to all before it signs.
asio::awaitable<Response> rotate_ca(AccessPtr access, Request r) {
  constexpr std::int64_t hours_max = 24 * 90;
  auto body = object_of(r, {"hours"});
  if (!body) co_return body.error();
  auto hours = whole_number(*body, "hours", 24 * 7, 0, hours_max);
  if (!hours) co_return Response::message(422, hours.error().context);
  secure::TrustOptions options;
  options.announce = std::chrono::hours(*hours);
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto trust = trust_in(records, access->options.files->seal);
    if (!trust) return std::unexpected(trust.error());
    secure::advance(*trust, now.wall);
    if (auto ok = secure::begin_rotation(*trust, now.wall, options); !ok) return std::unexpected(Refusal{std::move(ok).error(), {}});
    secure::advance(*trust, now.wall);
    coordination::Batch batch;
    batch.put[std::string(trust_key)] = trust_record(*trust, access->options.files->seal);
    return batch;
  };
  auto told = asked(r, fmt::format("a new CA is announced, and signs after {} hours", *hours));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  auto job = read_rotation(access, std::move(r));
  co_return co_await std::move(job);
}

asio::awaitable<Response> read_revocations(AccessPtr access, Request) {
  auto seen = access->keeper->records();
  auto accounts = seen.records ? stored_accounts(*seen.records) : fail(Errc::unavailable, "this master does not lead");
  if (!accounts) co_return Response::message(503, accounts.error().context);
  JsonWriter w;
  w.begin_object().key("revoked").begin_array();
  for (const auto& [host, r] : (*accounts)->revocations()) w.begin_object().field("host", host).field("before", to_iso8601(r.before)).field("by", r.by).end_object();
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

/// {"host": "n1"}: every certificate that it has is void from now on, and so are the join tokens made for it. What another token brings it later is good.
asio::awaitable<Response> revoke_host(AccessPtr access, Request r) {
  auto body = object_of(r, {"host"});
  if (!body) co_return body.error();
  auto host = json::text(*body, "host");
  if (auto ok = secure::check_host(host); !ok) co_return Response::message(422, ok.error().context);
  const auto& o = access->options;
  auto own = secure::read_certificate(o.own_certificate ? o.own_certificate() : o.files->host_certificate_pem);
  if (own && own->identity.host == host) co_return Response::message(409, fmt::format("host {}: leads; hand over first (DELETE /v2/leader)", host));
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    if (!records.contains(std::string(hosts_prefix) + host)) return refuse(Errc::not_found, fmt::format("There is no host {}", host));
    auto accounts = stored_accounts(records);
    if (!accounts) return std::unexpected(Refusal{std::move(accounts).error(), {}});
    coordination::Batch batch;
    for (const auto& [name, old] : (*accounts)->revocations())  // nothing that it concerns is still in time
      if (old.before + secure::certificate_life + secure::backdated < now.wall) batch.remove.push_back(std::string(secure::revoked_prefix) + name);
    for (auto at = records.lower_bound(std::string(joins_prefix)); at != records.end() && at->first.starts_with(joins_prefix); ++at)
      if (auto known = json::parse(at->second); known && json::text(*known, "host") == host) batch.remove.push_back(at->first);
    batch.put[std::string(secure::revoked_prefix) + host] = secure::encode_revocation({host, std::chrono::floor<Seconds>(now.wall), r.caller ? r.caller->who.str() : ""});
    std::erase(batch.remove, std::string(secure::revoked_prefix) + host);
    return batch;
  };
  auto told = asked(r, fmt::format("host {}: its certificates are revoked", host));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  auto job = read_revocations(access, std::move(r));
  co_return co_await std::move(job);
}

/// {"roles": ["node"], "host": "n1", "hours": 24}
asio::awaitable<Response> make_join_token(AccessPtr access, Request r) {
  constexpr std::int64_t hours_max = 24 * 31;
  auto body = object_of(r, {"roles", "host", "hours"});
  if (!body) co_return body.error();
  auto roles = roles_of(*body);
  if (!roles) co_return Response::message(422, "roles: must name some of master, node, balancer, dns, log");
  auto hours = whole_number(*body, "hours", 24, 1, hours_max);
  if (!hours) co_return Response::message(422, hours.error().context);
  auto host = text_member(*body, "host");  // of another type it would be a token for any host
  if (!host) co_return Response::message(422, host.error().context);
  auto seen = access->keeper->records();
  auto trust = seen.records ? stored_trust(*seen.records, access->options.files->seal) : fail(Errc::unavailable, "this master does not lead");
  if (!trust) co_return Response::message(503, trust.error().context);
  auto anchors = secure::read_bundle(answering_ca(*trust, access->options, system_now().wall));
  if (!anchors) co_return Response::message(500, anchors.error().context);
  secure::JoinToken token{secure::new_token_id(), anchors->front().fingerprint, *roles, *host, system_now().wall + std::chrono::hours(*hours)};
  auto text = secure::encode_join_token(token, access->options.files->join_key);
  if (!text) co_return Response::message(422, text.error().context);
  // Written down before it is given out, so that who made it stands in the log.
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    coordination::Batch batch;
    std::size_t count = 0;
    for (auto at = records.lower_bound(std::string(joins_prefix)); at != records.end() && at->first.starts_with(joins_prefix); ++at, ++count) {
      auto known = json::parse(at->second);
      auto end = known ? from_iso8601(json::text(*known, "expires")) : std::nullopt;
      if (!end || *end < now.wall) batch.remove.push_back(at->first);
    }
    if (count - batch.remove.size() >= records_max) return refuse(Errc::too_large, "there are too many join tokens");
    JsonWriter w;
    w.begin_object().field("format", 1).field("host", token.host).field("expires", to_iso8601(token.expires)).field("used", "").end_object();
    batch.put[std::string(joins_prefix) + token.id] = std::move(w).take();
    return batch;
  };
  auto told = asked(r, fmt::format("join token {} made", token.id));
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  JsonWriter w;
  w.begin_object().field("id", token.id).field("token", *text).field("expires", to_iso8601(token.expires)).end_object();
  auto response = Response::json(std::move(w).take(), 201);
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

/// Whether the token still serves, and what its record is to say from now on.
std::expected<std::string, Refusal> used_record(const Records& records, const secure::JoinToken& token, const std::string& host) {
  auto known = records.find(std::string(joins_prefix) + token.id);
  if (known == records.end()) return refuse(Errc::forbidden, fmt::format("join token {}: is not known here any more", token.id));
  auto parsed = json::parse(known->second);
  auto used = parsed ? json::text(*parsed, "used") : "?";
  if (!token.host.empty() && !used.empty()) return refuse(Errc::forbidden, fmt::format("join token {}: was used already", token.id));
  JsonWriter w;
  w.begin_object().field("format", 1).field("host", token.host).field("expires", to_iso8601(token.expires)).field("used", host).end_object();
  return std::move(w).take();
}

/// {"token": …, "host": "n1", "roles": ["node"], "names": ["10.0.0.7"], "request": PEM}. The token is all the proof there is.
asio::awaitable<Response> join_host(AccessPtr access, Request r) {
  auto body = object_of(r, {"token", "host", "roles", "names", "request"});
  if (!body) co_return body.error();
  const auto& o = access->options;
  auto token = secure::verify_join_token(json::text(*body, "token"), o.files->join_key, system_now().wall);
  if (!token) co_return Response::message(403, token.error().context);
  auto roles = roles_of(*body);
  HostIdentity who{o.cluster, json::text(*body, "host"), roles ? *roles : token->roles};
  if (auto ok = secure::check_host(who.host); !ok) co_return Response::message(422, ok.error().context);
  if (auto ok = secure::check_join(*token, who); !ok) co_return Response::message(403, ok.error().context);
  auto names = json::texts(*body, "names");
  auto request = json::text(*body, "request");
  std::string certificate, bundle;
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    auto record = used_record(records, *token, who.host);
    if (!record) return std::unexpected(record.error());
    // A token for a group of hosts makes new ones; it does not make anybody one that is there.
    if (token->host.empty() && records.contains(std::string(hosts_prefix) + who.host))
      return refuse(Errc::conflict, fmt::format("host {}: is there already; to join it anew takes a token made for this host", who.host));
    auto batch = signing(records, o.files->seal, who, names, request, now, certificate, bundle);
    if (batch) batch->put[std::string(joins_prefix) + token->id] = std::move(*record);
    return batch;
  };
  AuditRecord told;
  told.who = "join token " + token->id;
  told.from = r.peer;
  told.what = fmt::format("{} joined", who.str());
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  co_return certificate_answer(o.cluster, certificate, bundle, who.is(secure::HostRole::master) ? o.master_secrets : std::string());
}

/// {"names": […], "request": PEM}: a certificate anew, for who shows his present one.
asio::awaitable<Response> renew_certificate(AccessPtr access, Request r) {
  auto body = object_of(r, {"names", "request"});
  if (!body) co_return body.error();
  if (!r.certificate) co_return Response::message(403, "a host renews with its present certificate");
  auto who = r.certificate->identity;
  auto names = json::texts(*body, "names");
  auto request = json::text(*body, "request");
  std::string certificate, bundle;
  const auto& o = access->options;
  RecordKeeper::MakeRecords make = [&](const Records& records, Now now) { return signing(records, o.files->seal, who, names, request, now, certificate, bundle); };
  auto told = asked(r, "its certificate renewed");
  auto done = co_await access->keeper->change_records(make, std::move(told));
  if (!done) co_return access_refused(done.error());
  co_return certificate_answer(o.cluster, certificate, bundle, "");
}

/// All users and tokens with their hashes, and the trust bundle: at once when `after` names another state than the present one, else when it changes.
asio::awaitable<Response> read_access(AccessPtr access, Request r) {
  auto after = r.query.get("after").value_or("");
  auto end = std::chrono::steady_clock::now() + wait_max;
  auto seen = access->keeper->records();
  for (;;) {
    if (!seen.records) co_return Response::message(503, "this master does not lead");
    JsonWriter w;
    w.begin_object();
    for (auto prefix : {secure::users_prefix, secure::tokens_prefix, secure::revoked_prefix}) {
      w.key(prefix.substr(0, prefix.size() - 1)).begin_object();
      for (const auto& [key, value] : *seen.records)
        if (key.starts_with(prefix)) w.field(std::string_view(key).substr(prefix.size()), value);
      w.end_object();
    }
    auto trust = stored_trust(*seen.records, access->options.files->seal);
    w.field("bundle", trust ? trust->bundle() : "").field("signing", trust ? trust->authority().certificate_pem : "").end_object();
    auto content = std::move(w).take();
    auto version = hex(secure::hmac_sha256("access", content)).substr(0, 32);
    auto left = std::chrono::ceil<Millis>(end - std::chrono::steady_clock::now());
    if (version != after || left.count() <= 0) {
      auto response = Response::json(fmt::format(R"({{"format":1,"version":"{}","content":{}}})", version, content));
      response.headers.set("Cache-Control", "no-store");
      co_return response;
    }
    seen = co_await access->keeper->records_changed(seen.turn, left);
  }
}

}  // namespace

std::string trust_record(const secure::Trust& trust, const secure::KeyRing& ring) { return secure::base64url_encode(ring.seal(trust_key, secure::encode_trust(trust))); }

Result<secure::Trust> stored_trust(const Records& records, const secure::KeyRing& ring) {
  auto record = records.find(std::string(trust_key));
  if (record == records.end()) return fail(Errc::not_found, "the store has no CA");
  auto sealed = secure::base64url_decode(record->second);
  if (!sealed) return fail(Errc::corrupt, "{}: not readable", trust_key);
  auto opened = ring.open(trust_key, *sealed);
  if (!opened) return fail(std::move(opened).error().within(std::string(trust_key)));
  return secure::decode_trust(*opened);
}

Result<coordination::Batch> seed_access(const Records& records, const secure::ClusterFiles& files, Wall now) {
  coordination::Batch batch;
  bool anybody = std::any_of(records.begin(), records.end(), [](const auto& r) { return r.first.starts_with(secure::users_prefix) || r.first.starts_with(secure::tokens_prefix); });
  if (!anybody) batch.put[std::string(secure::tokens_prefix) + files.first_operator.id] = secure::encode_token(files.first_operator);
  // The founder's name is taken like that of everybody who joined.
  auto own = secure::read_certificate(files.host_certificate_pem);
  if (own && !records.contains(std::string(hosts_prefix) + own->identity.host)) batch.put[std::string(hosts_prefix) + own->identity.host] = R"({"format":1,"roles":[],"names":[]})";
  auto trust = stored_trust(records, files.seal);
  if (!trust && records.contains(std::string(trust_key))) return fail(std::move(trust).error().within("this master's keys are not the farm's"));
  if (!trust) batch.put[std::string(trust_key)] = trust_record(files.trust, files.seal);
  if (trust && secure::advance(*trust, now)) batch.put[std::string(trust_key)] = trust_record(*trust, files.seal);
  return batch;
}

asio::awaitable<void> tend_trust(std::shared_ptr<RecordKeeper> keeper, std::shared_ptr<const secure::ClusterFiles> files, std::shared_ptr<const std::atomic<bool>> stopping) {
  constexpr int every = 600;  // seconds
  RecordKeeper::MakeRecords make = [files](const Records& records, Now now) -> std::expected<coordination::Batch, Refusal> {
    coordination::Batch batch;
    auto trust = stored_trust(records, files->seal);
    if (trust && secure::advance(*trust, now.wall)) batch.put[std::string(trust_key)] = trust_record(*trust, files->seal);
    return batch;
  };
  for (int second = 1; !*stopping; ++second) {
    (void)co_await net::sleep_for(std::chrono::milliseconds(1000));
    if (second % every != 0 || *stopping || !keeper->records().records) continue;
    AuditRecord told;
    told.who = "croft";
    told.what = "the cluster's CAs went on as time has it";
    auto done = co_await keeper->change_records(make, std::move(told));
    if (!done) log::warn("security", "the cluster's CAs: {}", done.error().error.context);
  }
}

void add_host_routes(const AccessRoutes& on) {
  on("GET", "/croft/v1/ca", read_ca);
  on("GET", "/croft/v1/ca/rotation", read_rotation);
  on("POST", "/croft/v1/ca/rotation", rotate_ca);
  on("GET", "/croft/v1/ca/revocations", read_revocations);
  on("POST", "/croft/v1/ca/revocations", revoke_host);
  on("POST", "/croft/v1/join-tokens", make_join_token);
  on("POST", "/croft/v1/join", join_host);
  on("POST", "/croft/v1/certificates", renew_certificate);
  on("GET", "/croft/v1/access", read_access);
}

}  // namespace croft::orchestrator
