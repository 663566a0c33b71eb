#include "gate/gate.hpp"

#include <algorithm>
#include <mutex>

#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "gate/browser.hpp"
#include "net/async.hpp"
#include "secure/login_service.hpp"

namespace croft::gate {

namespace asio = boost::asio;
using net::Request;
using net::Response;

namespace {

constexpr std::chrono::milliseconds login_limit{20'000};

std::string_view realm(Face face) {
  switch (face) {
    case Face::marathon: return "Mesosphere";
    case Face::mesos: return "mesos-master-readonly";
    case Face::agent: return "mesos-agent-readonly";
    case Face::logs: return "security";
    default: return "croft";
  }
}

/// A verdict on its way from the login service's thread.
struct Pending {
  std::mutex mutex;
  std::optional<secure::Verdict> verdict;  // mutex
  std::shared_ptr<net::Signal> came = net::Signal::make();
};

std::optional<secure::Verdict> taken(Pending& pending) {
  std::lock_guard lock(pending.mutex);
  return std::exchange(pending.verdict, std::nullopt);
}

asio::awaitable<secure::Verdict> judge(std::shared_ptr<secure::LoginService> logins, secure::Credentials credentials, std::string source) {
  auto pending = std::make_shared<Pending>();
  auto ticket = pending->came->ticket();
  logins->check(credentials, source, system_now().wall, [pending](secure::Verdict v) {
    {
      std::lock_guard lock(pending->mutex);
      pending->verdict = std::move(v);
    }
    pending->came->notify();
  });
  // Known already in all but a few cases: no turn of the executor is spent on it.
  if (auto at_once = taken(*pending)) co_return std::move(*at_once);
  (void)co_await pending->came->wait(ticket, login_limit);
  if (auto late = taken(*pending)) co_return std::move(*late);
  co_return secure::Verdict{secure::Verdict::Outcome::busy, {}, Millis(1000), "the login took too long"};
}

Response refused_login(Face face, const secure::Verdict& v) {
  using Outcome = secure::Verdict::Outcome;
  auto seconds = std::max<std::int64_t>(1, (v.retry_after.count() + 999) / 1000);
  if (v.outcome == Outcome::slow_down) return refusal(face, 429, v.reason, seconds);
  if (v.outcome == Outcome::busy) return refusal(face, 503, v.reason, seconds);
  return refusal(face, 401, v.reason);
}

/// For whoever looks for guessing: some lines a minute, so that nobody fills the disk with them, and how many there were.
void tell_refused(std::string_view source, const secure::Verdict& v) {
  constexpr int lines_a_minute = 20;
  static std::mutex mutex;
  static std::chrono::steady_clock::time_point since{};
  static int count = 0;
  if (v.outcome == secure::Verdict::Outcome::busy) return;
  std::lock_guard lock(mutex);
  auto now = std::chrono::steady_clock::now();
  if (now - since > std::chrono::minutes(1)) {
    if (count > lines_a_minute) log::warn("gate", "{} logins were refused within a minute", count);
    since = now, count = 0;
  }
  if (++count <= lines_a_minute) log::warn("gate", "from={} a login was refused: {}", source, v.reason);
}

using Options = std::shared_ptr<const GateOptions>;

asio::awaitable<std::optional<Response>> let_in(Options o, Face face, Request& r, Need need) {
  auto header = r.headers.get("Authorization");
  if (header.empty()) {
    if (r.certificate && !r.headers.has("Via")) co_return refusal(face, 403, fmt::format("{} is a host; this wants a person's or a script's login", r.certificate->identity.str()));
    co_return refusal(face, 401, "a login is needed");
  }
  auto credentials = secure::parse_authorization(header);
  if (!credentials) co_return refusal(face, 401, credentials.error().context);
  if (o->ready && !o->ready()) co_return refusal(face, 503, "this host does not know the farm's users yet", 1);
  auto source = source_of(r, o->cluster);
  auto verdict = co_await judge(o->logins, std::move(*credentials), source);
  if (verdict.outcome != secure::Verdict::Outcome::granted) {
    tell_refused(source, verdict);
    co_return refused_login(face, verdict);
  }
  if (auto wait = o->budgets ? o->budgets->take(secure::account_of(verdict.who.str()), system_now().mono) : std::nullopt)
    co_return refusal(face, 429, "more requests a second than one login may make (requests_per_second)", std::max<std::int64_t>(1, (wait->count() + 999) / 1000));
  auto caller = std::make_shared<const secure::Caller>(std::move(verdict.who), std::move(source), [logins = o->logins] { return logins->accounts(); });
  auto decision = secure::authorize(caller->who, need.verb, need.target);
  if (!decision.allowed) {
    bool placed = need.target.kind == secure::Kind::app || need.target.kind == secure::Kind::secret;
    if (o->denied) o->denied(*caller, r, placed ? need.target.path : "", decision.reason);
    co_return refusal(face, 403, decision.reason);
  }
  r.caller = std::move(caller);
  co_return std::nullopt;
}

/// Nothing: a host that may. The message itself is judged by its handler: whom it speaks for.
std::optional<std::string> host_refused(const GateOptions& o, Request& r, const Need& need) {
  if (!r.certificate) return "only the cluster's own hosts may, each with its certificate";
  const auto& peer = r.certificate->identity;
  auto decision = secure::authorize_link(peer, o.cluster, need.link, peer.host);
  if (!decision.allowed) return decision.reason;
  r.caller = std::make_shared<const secure::Caller>(secure::principal_of(peer), r.peer);
  return std::nullopt;
}

/// A path of the hosts' own. Whoever tries it with a login is somebody, and stands in the audit log.
asio::awaitable<std::optional<Response>> refuse_people(Options o, Face face, Request& r, std::string why) {
  if (!r.headers.get("Authorization").empty()) {
    Need anybody{Need::How::login, secure::Verb::see, {secure::Kind::about, {}}, {}};
    auto refused = co_await let_in(o, face, r, std::move(anybody));
    if (refused) co_return refused;
    if (o->denied && r.caller) o->denied(*r.caller, r, "", why);
    r.caller = nullptr;
  }
  co_return refusal(face, 403, why);
}

asio::awaitable<std::optional<Response>> guard(Options o, Face face, Request& r, std::string_view pattern) {
  if (auto wrong = check_origin(r)) co_return refusal(face, wrong->status, wrong->reason);
  if (!o->host_names.empty())
    if (auto wrong = check_host_name(r, o->host_names)) co_return refusal(face, wrong->status, wrong->reason);
  if (!o->logins) co_return std::nullopt;
  if (r.certificate && o->logins->accounts()->revoked(*r.certificate)) co_return refusal(face, 403, fmt::format("the certificate of {} is revoked", r.certificate->identity.str()));
  auto local = std::string_view(r.local).substr(0, r.local.rfind(':'));
  bool near = std::find(o->near.begin(), o->near.end(), local) != o->near.end();
  // A standby passes requests on over its own connection: its certificate says where they come from, and is nobody's login but for that.
  bool own = r.certificate && !r.headers.has("Via");
  auto need = need_of(face, r, pattern, near);
  switch (need.how) {
    case Need::How::open: co_return std::nullopt;
    case Need::How::host:
      if (!own) co_return co_await refuse_people(o, face, r, "only the cluster's own hosts may, each with its certificate and to the leader itself");
      if (auto why = host_refused(*o, r, need)) co_return co_await refuse_people(o, face, r, std::move(*why));
      co_return std::nullopt;
    case Need::How::either:
      if (own && r.headers.get("Authorization").empty()) {
        if (auto why = host_refused(*o, r, need)) co_return refusal(face, 403, *why);
        co_return std::nullopt;
      }
      break;
    case Need::How::login: break;
  }
  co_return co_await let_in(o, face, r, std::move(need));
}

}  // namespace

std::string source_of(const Request& r, std::string_view cluster) {
  auto passed = r.headers.get("X-Forwarded-For");
  if (passed.empty() || !r.certificate || r.certificate->identity.cluster != cluster) return r.peer;
  const auto& peer = r.certificate->identity;
  using secure::HostRole;
  if (!peer.is(HostRole::master) && !peer.is(HostRole::balancer) && !peer.is(HostRole::log)) return r.peer;
  auto comma = passed.rfind(',');
  return std::string(trim(comma == std::string_view::npos ? passed : passed.substr(comma + 1))).substr(0, 64);
}

Response refusal(Face face, int status, std::string_view reason, std::int64_t retry_after) {
  Response out;
  JsonWriter w;
  if (face == Face::logs) {
    auto type = status == 429 || status == 503 ? "es_rejected_execution_exception" : "security_exception";
    auto cause = [&] { w.field("type", type).field("reason", reason); };
    w.begin_object().key("error").begin_object().key("root_cause").begin_array().begin_object();
    cause();
    w.end_object().end_array();
    cause();
    w.end_object().field("status", status).end_object();
    out = Response::json(std::move(w).take(), status);
    out.headers.set("X-elastic-product", "Elasticsearch");
  } else if (face == Face::marathon) {
    auto message = status == 401 ? std::string_view("Invalid username or password.") : status == 403 ? std::string_view("Not Authorized to perform this action!") : reason;
    w.begin_object().field("message", message).field("details", reason).end_object();
    out = Response::json(std::move(w).take(), status);
  } else {
    out = Response::text(std::string(reason) + "\n", status);
  }
  if (status == 401) out.headers.set("WWW-Authenticate", fmt::format("Basic realm=\"{}\"{}", realm(face), face == Face::logs ? " charset=\"UTF-8\"" : ""));
  if (retry_after > 0) out.headers.set("Retry-After", std::to_string(retry_after));
  return out;
}

void Gate::add(net::Router& router, Face face) const {
  auto options = options_;
  router.guard([options, face](Request& r, std::string_view pattern) { return guard(options, face, r, pattern); }, options->logins != nullptr);
}

}  // namespace croft::gate
