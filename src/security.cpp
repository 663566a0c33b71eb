#include "security.hpp"

#include <fcntl.h>

#include <algorithm>
#include <sys/file.h>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "net/async.hpp"
#include "secure/cluster_files.hpp"
#include "secure/login_service.hpp"
#include "secure/renewal.hpp"

namespace croft {

namespace asio = boost::asio;

namespace {

constexpr Millis look_every{60'000};
constexpr std::size_t masters_asked_max = 16;

}  // namespace

Security::Security(const Settings& settings, asio::any_io_executor executor)
    : settings_(settings), executor_(executor), logins_(std::make_shared<secure::LoginService>()),
      budgets_(std::make_shared<gate::Budgets>(gate::Budgets::Options{settings.requests_per_second, std::max(1.0, 2 * settings.requests_per_second)})), http_(executor) {}
Security::~Security() = default;

Result<std::shared_ptr<Security>> Security::open(const Settings& settings, asio::any_io_executor executor) {
  std::shared_ptr<Security> out(new Security(settings, std::move(executor)));
  if (auto ok = out->read(); !ok)
    return fail(ok.error().code, "{}\nauth: this host needs its certificate: croft init makes a cluster, croft join brings a host into one (auth = \"none\" does without, for closed networks)", ok.error().context);
  return out;
}

/// From disk into force. Called again when the files have changed: what is wrong then changes nothing.
Status Security::read() {
  auto certificate = read_file(settings_.certificate_file(), secure::bundle_bytes_max);
  if (!certificate) return fail(std::move(certificate).error());
  auto key = secure::read_secret(settings_.key_file(), secure::pem_bytes_max);
  if (!key) return fail(std::move(key).error());
  auto bundle = read_file(settings_.bundle_file(), secure::bundle_bytes_max);
  if (!bundle) return fail(std::move(bundle).error());
  auto read = secure::read_certificate(*certificate);
  if (!read) return fail(std::move(read).error().within(settings_.certificate_file().string()));
  std::lock_guard guard(mutex_);
  if (!server_) {
    self_ = read->identity;
    auto server = net::TlsServer::make({{*certificate, *key}, *bundle, net::PeerCertificate::wanted, {}});
    if (!server) return fail(std::move(server).error().within(settings_.certificate_file().string()));
    auto client = net::TlsClient::make({*bundle, {*certificate, *key}});
    if (!client) return fail(std::move(client).error().within(settings_.certificate_file().string()));
    server_ = std::move(*server), client_ = std::move(*client);
  } else {
    if (read->identity.host != self_.host || read->identity.cluster != self_.cluster) return fail(Errc::invalid, "{}: is another host's now: {}", settings_.certificate_file().string(), read->identity.str());
    if (auto ok = server_->swap({*certificate, *key}, *bundle); !ok) return ok;
    if (auto ok = client_->swap({*certificate, *key}, *bundle); !ok) return ok;
  }
  certificate_pem_ = std::move(*certificate), key_pem_ = std::move(*key), bundle_ = std::move(*bundle);
  return {};
}

Status Security::check_role(secure::HostRole role) const {
  if (self_.is(role)) return {};
  return fail(Errc::forbidden, "{}: its certificate does not name the role {}; a join token for it brings it", self_.str(), secure::to_string(role));
}

net::Origin Security::towards(net::Origin to, secure::HostRole role) const {
  to.tls = client_;
  to.expect = {.cluster = self_.cluster, .host = {}, .role = role};
  return to;
}

void Security::set_accounts(std::shared_ptr<const secure::Accounts> accounts) {
  auto same = [](const auto& a, const auto& b) { return a.first == b.first && a.second.before == b.second.before; };
  const auto known = logins_->accounts();
  if (!std::equal(known->revocations().begin(), known->revocations().end(), accounts->revocations().begin(), accounts->revocations().end(), same))
    client_->set_refuses([accounts](const secure::Certificate& c) { return accounts->revoked(c); });
  logins_->set_accounts(std::move(accounts));
  *knows_ = true;
}

bool Security::is_revoked() {
  auto own = secure::read_certificate(certificate_pem());
  return own && logins_->accounts()->revoked(*own);
}

std::string Security::certificate_pem() {
  std::lock_guard guard(mutex_);
  return certificate_pem_;
}

void Security::set_bundle(const std::string& pem, const std::string& signing) {
  {
    std::lock_guard guard(mutex_);
    if (!signing.empty()) signing_ = signing;
    if (pem.empty() || pem == bundle_) return;
  }
  if (auto anchors = secure::read_bundle(pem); !anchors) return log::warn("security", "the CAs that a master told of: {}", anchors.error().context);
  if (auto ok = write_file_atomic(settings_.bundle_file(), pem, 0644); !ok) return log::warn("security", "{}", ok.error().context);
  if (auto ok = read(); !ok) log::warn("security", "{}", ok.error().context);
  else log::info("security", "the cluster's CAs have changed");
}

gate::GateOptions Security::gate_options() const {
  gate::GateOptions o;
  o.cluster = self_.cluster;
  o.logins = logins_;
  o.ready = [knows = knows_] { return knows->load(); };
  o.budgets = budgets_;
  return o;
}

void Security::start(std::filesystem::path saved) {
  gate::FollowerOptions o;
  for (auto& master : settings_.master_origins()) o.masters.push_back(towards(std::move(master), secure::HostRole::master));
  o.saved = std::move(saved);
  o.idle = leads_;
  std::weak_ptr<Security> weak = weak_from_this();
  o.changed = [weak, leads = leads_](const gate::AccessCopy& copy) {
    auto self = weak.lock();
    if (!self || (leads && leads())) return;
    self->set_accounts(copy.accounts);
    self->set_bundle(copy.bundle, copy.signing);
  };
  follower_ = std::make_unique<gate::AccessFollower>(executor_, std::move(o));
  follower_->start();
  auto life = keep_fresh();
  net::spawn(executor_, "certificate", std::move(life), shared_from_this());
}

asio::awaitable<void> Security::keep_fresh() {
  auto self = shared_from_this();
  std::uint32_t failures = 0;
  Wall tried{};
  std::optional<Wall> superseded;
  Millis within = Seconds(std::clamp<std::int64_t>(settings_.renew_within_s, 1, 86'400));
  for (;;) {
    (void)co_await net::sleep_for(std::clamp(within / 2, Millis(200), look_every));
    std::string present, signing;
    {
      std::lock_guard guard(mutex_);
      present = certificate_pem_, signing = signing_;
    }
    auto on_disk = read_file(settings_.certificate_file(), secure::bundle_bytes_max);
    if (on_disk && *on_disk != present) {
      if (auto ok = read(); !ok) log::warn("security", "{}", ok.error().context);
      else log::info("security", "another process has renewed this host's certificate");
      continue;
    }
    auto certificate = secure::read_certificate(present);
    auto now = system_now().wall;
    if (signing.empty() || secure::signed_by(present, signing, now)) superseded.reset();
    else if (!superseded) superseded = now;
    if (!certificate || secure::plan_renewal(*certificate, now, failures, tried, superseded, within).at > now) continue;
    // Of a host's processes one is enough. The folder itself is locked: a file for it would be of the user who made it.
    auto folder = settings_.certificate_file().parent_path();
    Fd lock(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock.valid() || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) continue;
    tried = now;
    auto job = renew();
    auto done = co_await std::move(job);
    failures = done ? 0 : failures + 1;
    if (done) log::info("security", "this host's certificate is renewed");
    else log::warn("security", "the certificate (until {}) could not be renewed: {}", to_iso8601(certificate->not_after), done.error().context);
  }
}

Status Security::take_renewed(const std::string& text, const std::string& key, const std::string& bundle) const {
  auto body = json::parse(text);
  auto certificate = body ? json::text(*body, "certificate") : std::string(), trusted = body ? json::text(*body, "bundle") : std::string();
  if (auto ok = secure::check_pair(certificate, key); !ok) return ok;
  auto verified = secure::verify_certificate(certificate, trusted, system_now().wall, secure::Use::server, {.cluster = self_.cluster, .host = self_.host, .role = {}});
  if (!verified) return fail(std::move(verified).error());
  if (trusted != bundle)
    if (auto ok = write_file_atomic(settings_.bundle_file(), trusted, 0644); !ok) return ok;
  return write_file_atomic(settings_.certificate_file(), certificate, 0644);
}

asio::awaitable<Status> Security::renew() {
  std::string key, bundle;
  {
    std::lock_guard guard(mutex_);
    key = key_pem_, bundle = bundle_;
  }
  auto request_pem = secure::make_request(key);
  if (!request_pem) co_return fail(std::move(request_pem).error());
  JsonWriter w;
  w.begin_object().key("names").begin_array();
  for (const auto& name : certificate_names(settings_)) w.value(name);
  w.end_array().field("request", *request_pem).end_object();
  net::Request request;
  request.method = "POST";
  request.target = "/croft/v1/certificates";
  request.headers.set("Content-Type", "application/json");
  request.body = std::move(w).take();
  std::string words = "no master is configured";
  auto masters = settings_.master_origins();
  for (std::size_t i = 0; i < masters.size() && i < masters_asked_max; ++i) {
    auto to = towards(masters[i], secure::HostRole::master);
    auto answer = co_await http_.request(to, request);
    if (!answer || answer->status != 200) {
      words = answer ? fmt::format("{} answered {}: {}", to.str(), answer->status, answer->body.substr(0, 200)) : answer.error().context;
      if (auto there = answer ? net::leader_in(*answer) : std::nullopt; there && std::find(masters.begin(), masters.end(), *there) == masters.end()) masters.push_back(*there);
      continue;
    }
    auto done = take_renewed(answer->body, key, bundle);
    if (done) co_return read();
    words = fmt::format("{}: {}", to.str(), done.error().context);
  }
  co_return fail(Errc::unavailable, "{}", words);
}

}  // namespace croft
