#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "gate/browser.hpp"
#include "gate/follower.hpp"
#include "gate/gate.hpp"
#include "secure/accounts.hpp"
#include "secure/login_service.hpp"
#include "secure/password.hpp"

namespace croft::gate {
namespace {

using net::Request;
using net::Response;
using secure::Kind;
using secure::Level;
using secure::Verb;
using How = Need::How;

Request request(std::string method, std::string path, std::map<std::string, std::string> params = {}) {
  Request r;
  r.method = std::move(method);
  r.path = std::move(path);
  r.params = std::move(params);
  return r;
}

TEST(Rules, WhatNoRuleNamesIsTheAdmins) {
  auto need = need_of(Face::marathon, request("GET", "/v2/something"), "/v2/something/new", false);
  EXPECT_EQ(need.how, How::login);
  EXPECT_EQ(need.verb, Verb::administer);
  EXPECT_EQ(need.target.kind, Kind::farm);
  EXPECT_EQ(need_of(Face::marathon, request("TRACE", "/v2/apps"), "/v2/apps", false).target.kind, Kind::farm);
}

TEST(Rules, LivenessIsOpenAndNothingElse) {
  EXPECT_EQ(need_of(Face::marathon, request("GET", "/ping"), "/ping", false).how, How::open);
  EXPECT_EQ(need_of(Face::mesos, request("GET", "/master/health"), "/master/health", false).how, How::open);
  EXPECT_EQ(need_of(Face::agent, request("GET", "/slave(1)/health"), "/slave(1)/health", false).how, How::open);
  EXPECT_EQ(need_of(Face::bamboo, request("GET", "/status"), "/status", false).how, How::open);
  for (auto [face, path] : {std::pair{Face::marathon, "/v2/info"}, {Face::marathon, "/"}, {Face::marathon, "/metrics"}, {Face::mesos, "/state.json"}, {Face::agent, "/state"},
                            {Face::bamboo, "/api/state"}, {Face::logs, "/_cat/indices"}, {Face::console, "/croft/v1/logs"}, {Face::discovery, "/metrics"}})
    EXPECT_NE(need_of(face, request("GET", path), path, true).how, How::open) << path;
}

TEST(Rules, AnAppIsTheRoutersAndNotThePathsEnd) {
  auto tasks = need_of(Face::marathon, request("GET", "/v2/apps/a/b/tasks", {{"id", "a/b"}}), "/v2/apps/{*id}/tasks", false);
  EXPECT_EQ(tasks.target.path, "/a/b") << "who may see an app named tasks below /a/b may not see the tasks of /a/b";
  auto kill = need_of(Face::marathon, request("DELETE", "/v2/apps/a/tasks/t", {{"id", "a"}, {"task", "t"}}), "/v2/apps/{*id}/tasks/{task}", false);
  EXPECT_EQ(kill.verb, Verb::change);
  EXPECT_EQ(kill.target.path, "/a");
  EXPECT_EQ(need_of(Face::marathon, request("HEAD", "/v2/apps/a", {{"id", "a"}}), "/v2/apps/{*id}", false).verb, Verb::see);
}

TEST(Rules, S13_ASecretIsItsGroupsAdminsToChange) {
  auto put = need_of(Face::marathon, request("PUT", "/croft/v1/secrets/a/b", {{"name", "a/b"}}), "/croft/v1/secrets/{*name}", false);
  EXPECT_EQ(put.verb, Verb::change);
  EXPECT_EQ(put.target.kind, Kind::secret);
  EXPECT_EQ(put.target.path, "/a/b");
  EXPECT_EQ(need_of(Face::marathon, request("GET", "/croft/v1/secrets/a/b", {{"name", "a/b"}}), "/croft/v1/secrets/{*name}", true).target.kind, Kind::secret);
}

TEST(Rules, HostsLinksAreForHosts) {
  for (auto [method, pattern] : {std::pair{"POST", "/croft/v1/agents"}, {"POST", "/croft/v1/agents/{id}/reports"}, {"GET", "/croft/v1/catalog"}, {"GET", "/croft/v1/access"}, {"POST", "/croft/v1/certificates"}})
    EXPECT_EQ(need_of(Face::marathon, request(method, pattern), pattern, false).how, How::host) << pattern;
  EXPECT_EQ(need_of(Face::logs, request("POST", "/_bulk"), "/_bulk", false).how, How::either);
  EXPECT_EQ(need_of(Face::logs, request("DELETE", "/x"), "/{index}", false).verb, Verb::administer);
}

TEST(Rules, NamesAreReadWithoutALoginFromNearbyOnly) {
  EXPECT_EQ(need_of(Face::discovery, request("GET", "/v1/hosts/a"), "/v1/hosts/{host}", true).how, How::open);
  EXPECT_EQ(need_of(Face::discovery, request("GET", "/v1/hosts/a"), "/v1/hosts/{host}", false).how, How::login);
}

TEST(Rules, AFileIsItsAppsUnlessItsPathClimbs) {
  EXPECT_EQ(app_of_file("/var/lib/croft/node/slaves/S/frameworks/F/executors/service_fib.0a-1/runs/latest/stdout"), "/service/fib");
  EXPECT_EQ(app_of_file("/frameworks/F/executors/a.b_c.1234/runs/latest"), "/a.b/c");
  for (auto path : {"/frameworks/F/executors/mine.1/runs/latest/../../../other.2/runs/latest/stdout", "/frameworks/F/executors", "/frameworks/F/executors/noid", "/frameworks/F/executors/.x", ""})
    EXPECT_EQ(app_of_file(path), "") << path;
}

TEST(Browser, AnotherPagesChangesAreRefused) {
  auto r = request("POST", "/v2/apps");
  r.headers.set("Host", "master1:8080");
  r.body = "{}";
  EXPECT_FALSE(check_origin(r)) << "a program";
  r.headers.set("Origin", "http://evil.example");
  EXPECT_EQ(check_origin(r).value().status, 403);
  r.headers.set("Origin", "null");
  EXPECT_EQ(check_origin(r).value().status, 403);
  r.headers.set("Origin", "http://master1:8080");
  EXPECT_EQ(check_origin(r).value().status, 415) << "a form of our own page is no JSON either";
  r.headers.set("Content-Type", "application/json; charset=utf-8");
  EXPECT_FALSE(check_origin(r));
  r.tls = true;
  EXPECT_EQ(check_origin(r).value().status, 403) << "a page that came without TLS";
  r.headers.erase("Origin");
  r.headers.set("Cookie", "a=b");
  r.headers.set("Content-Type", "text/plain");
  EXPECT_EQ(check_origin(r).value().status, 415);
  r.method = "GET";
  EXPECT_FALSE(check_origin(r));
}

TEST(Browser, HostMustNameThisHost) {
  auto refused = [](const char* host) {
    auto r = request("GET", "/");
    r.headers.set("Host", host);
    return check_host_name(r, {"master1", ".mesos"}).has_value();
  };
  for (auto good : {"127.0.0.1:8080", "[::1]:8080", "10.1.2.3", "localhost:8080", "MASTER1:8080", "leader.mesos", "leader.mesos.:80"}) EXPECT_FALSE(refused(good)) << good;
  for (auto bad : {"evil.example", "master1.evil.example:8080", "mesos.evil", "x.xmesos", "127.0.0.1.evil.example"}) EXPECT_TRUE(refused(bad)) << bad;
}

/// The guard with a router behind it, without sockets.
class GateTest : public ::testing::Test {
 protected:
  static constexpr secure::PasswordCost cheap{4, 1, 1};
  // Outlives the logins: their thread may still be on its way out of the word that it brought.
  boost::asio::io_context io_;
  void SetUp() override {
    token_ = secure::new_bearer_token();
    auto accounts = secure::Accounts().with(secure::User{"ann", secure::hash_password("correct horse", cheap), {{Level::operator_, "/service"}}, Wall{}, ""});
    accounts = accounts->with(secure::Token{token_.id, token_.digest, "ci", {{Level::viewer, "/"}}, Wall{}, Wall::max(), ""});
    logins_->set_accounts(accounts);
    GateOptions o;
    o.cluster = "c-1";
    o.logins = logins_;
    o.near = {"127.0.0.1"};
    o.budgets = std::make_shared<Budgets>(Budgets::Options{.per_second = 0.001, .burst = 50});
    o.denied = [this](const secure::Caller& caller, const Request&, const std::string& path, const std::string& reason) { denied_.push_back(caller.who.str() + ": " + path + ": " + reason); };
    Gate gate(std::move(o));
    auto handler = [this](Request r) -> boost::asio::awaitable<Response> {
      caller_ = r.caller;
      co_return Response::text("in");
    };
    router_.on("GET", "/ping", handler);
    router_.on("GET", "/v2/apps/{*id}", handler);
    router_.on("PUT", "/v2/apps/{*id}", handler);
    router_.on("POST", "/croft/v1/agents", handler);
    gate.add(router_, Face::marathon);
  }
  Response ask(Request r) {
    r.local = "10.0.0.1:8080";
    if (r.peer.empty()) r.peer = "10.0.0.9";
    auto answer = boost::asio::co_spawn(io_, router_.handle(std::move(r)), boost::asio::use_future);
    io_.restart();
    io_.run();
    return answer.get();
  }
  Response ask(std::string method, std::string path, std::string authorization) {
    auto r = request(std::move(method), std::move(path));
    if (!authorization.empty()) r.headers.set("Authorization", authorization);
    return ask(std::move(r));
  }
  std::shared_ptr<const secure::Certificate> host(std::vector<secure::HostRole> roles, std::string cluster = "c-1") {
    auto c = std::make_shared<secure::Certificate>();
    c->identity = {std::move(cluster), "n1", std::move(roles)};
    return c;
  }
  std::shared_ptr<secure::LoginService> logins_ = std::make_shared<secure::LoginService>();
  secure::BearerToken token_;
  net::Router router_;
  std::vector<std::string> denied_;
  std::shared_ptr<const secure::Caller> caller_;
};

// --- budgets ---

TEST(Budgets, S17_EachHasItsOwnAndItFillsAgain) {
  Budgets b({.per_second = 10, .burst = 20});
  Mono now{std::chrono::hours(1)};
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(b.take("user ann", now)) << i;
  auto wait = b.take("user ann", now);
  ASSERT_TRUE(wait);
  EXPECT_EQ(*wait, Millis(100));
  EXPECT_FALSE(b.take("token ci", now)) << "another's is another's";
  EXPECT_FALSE(b.take("user ann", now + *wait));
  EXPECT_TRUE(b.take("user ann", now + *wait));
  EXPECT_EQ(b.size(), 2u);
  (void)b.take("user eve", now + Millis(120'000));
  EXPECT_EQ(b.size(), 1u) << "full ones are not kept";
}

TEST(Budgets, NoneIsNoBound) {
  Budgets b({.per_second = 0, .burst = 0});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(b.take("user ann", Mono{}));
}

const char* const ann = "Basic YW5uOmNvcnJlY3QgaG9yc2U=";
const char* const wrong = "Basic YW5uOndyb25nIGhvcnNl";

TEST_F(GateTest, StrangersGetLivenessAndNothingElse) {
  EXPECT_EQ(ask("GET", "/ping", "").status, 200);
  auto refused = ask("GET", "/v2/apps/service/a", "");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.headers.get("WWW-Authenticate"), "Basic realm=\"Mesosphere\"");
  EXPECT_NE(refused.body.find("\"message\":\"Invalid username or password.\""), std::string::npos) << refused.body;
  EXPECT_EQ(ask("GET", "/nothing/here", "").status, 401) << "not even what is not there";
  EXPECT_EQ(ask("OPTIONS", "/v2/apps/a", "").status, 401);
  EXPECT_EQ(ask("GET", "/v2/apps/a", "Digest x").status, 401);
}

TEST_F(GateTest, BasicAndBearerByGroup) {
  EXPECT_EQ(ask("GET", "/v2/apps/service/a", ann).status, 200);
  ASSERT_TRUE(caller_);
  EXPECT_EQ(caller_->who.str(), "user ann");
  EXPECT_EQ(ask("PUT", "/v2/apps/service/a", ann).status, 200);
  EXPECT_EQ(ask("PUT", "/v2/apps/services/a", ann).status, 403);
  EXPECT_EQ(ask("GET", "/v2/apps/other", ann).status, 403);
  EXPECT_EQ(ask("GET", "/v2/apps/other", "Bearer " + token_.text).status, 200);
  EXPECT_EQ(ask("PUT", "/v2/apps/other", "Bearer " + token_.text).status, 403);
  EXPECT_EQ(ask("PUT", "/v2/apps/service/../other", ann).status, 403) << "no step upwards has rights";
  EXPECT_EQ(ask("GET", "/v2/apps/service/a", wrong).status, 401);
  EXPECT_EQ(denied_.size(), 4u) << "who has logged in and is refused is told of; who has not is not";
  EXPECT_EQ(ask("GET", "/nothing/here", ann).status, 404);
}

TEST_F(GateTest, S17_TooManyRequestsOfOneLoginAreRefused) {
  for (int i = 0; i < 50; ++i) EXPECT_EQ(ask("GET", "/v2/apps/service/a", ann).status, 200) << i;
  auto refused = ask("GET", "/v2/apps/service/a", ann);
  EXPECT_EQ(refused.status, 429);
  EXPECT_FALSE(refused.headers.get("Retry-After").empty());
  EXPECT_EQ(ask("GET", "/v2/apps/other", "Bearer " + token_.text).status, 200);
  EXPECT_EQ(ask("GET", "/ping", "").status, 200);
}

TEST_F(GateTest, HostsSpeakToEachOtherOnly) {
  auto r = request("POST", "/croft/v1/agents");
  EXPECT_EQ(ask(r).status, 403);
  r.headers.set("Authorization", ann);
  EXPECT_EQ(ask(r).status, 403) << "a person is no agent";
  r.headers.erase("Authorization");
  r.certificate = host({secure::HostRole::node});
  EXPECT_EQ(ask(r).status, 200);
  r.certificate = host({secure::HostRole::balancer});
  EXPECT_EQ(ask(r).status, 403);
  r.certificate = host({secure::HostRole::node}, "c-2");
  EXPECT_EQ(ask(r).status, 403) << "of another cluster";
  auto app = request("PUT", "/v2/apps/service/a");
  app.certificate = host({secure::HostRole::master});
  EXPECT_EQ(ask(app).status, 403) << "a host's certificate is no person's login";
}

TEST_F(GateTest, S3_ARevokedHostIsTakenForNothing) {
  logins_->set_accounts(secure::Accounts::load({}, {}, {{"revoked/n1", secure::encode_revocation({"n1", Wall(std::chrono::hours(24)), ""})}}).value());
  auto r = request("POST", "/croft/v1/agents");
  r.certificate = host({secure::HostRole::node});
  auto refused = ask(r);
  EXPECT_EQ(refused.status, 403);
  EXPECT_NE(refused.body.find("the certificate of host n1 (node) is revoked"), std::string::npos) << refused.body;
  EXPECT_EQ(ask([&] { return r.path = "/ping", r.method = "GET", r; }()).status, 403) << "not even that";
}

TEST_F(GateTest, OnlyTheClustersOwnHostsPassAddressesOn) {
  auto r = request("GET", "/v2/apps/service/a");
  r.headers.set("Authorization", ann);
  r.headers.set("X-Forwarded-For", "1.1.1.1, 192.0.2.7");
  ASSERT_EQ(ask(r).status, 200);
  EXPECT_EQ(caller_->source, "10.0.0.9") << "anybody could say so";
  r.certificate = host({secure::HostRole::node});
  ASSERT_EQ(ask(r).status, 200);
  EXPECT_EQ(caller_->source, "10.0.0.9");
  r.certificate = host({secure::HostRole::master});
  ASSERT_EQ(ask(r).status, 200);
  EXPECT_EQ(caller_->source, "192.0.2.7");
}

TEST(Refusal, InEachFacesShape) {
  auto es = refusal(Face::logs, 401, "a login is needed");
  EXPECT_EQ(es.headers.get("WWW-Authenticate"), "Basic realm=\"security\" charset=\"UTF-8\"");
  EXPECT_NE(es.body.find("\"type\":\"security_exception\""), std::string::npos) << es.body;
  EXPECT_EQ(refusal(Face::mesos, 401, "x").headers.get("WWW-Authenticate"), "Basic realm=\"mesos-master-readonly\"");
  EXPECT_NE(refusal(Face::marathon, 403, "why").body.find("Not Authorized to perform this action!"), std::string::npos);
  EXPECT_EQ(refusal(Face::marathon, 429, "slower", 3).headers.get("Retry-After"), "3");
}

TEST(AccessCopy, WhatIsDamagedOrNewerIsRefused) {
  EXPECT_FALSE(read_access_copy("")) << "empty";
  EXPECT_FALSE(read_access_copy("[]"));
  EXPECT_FALSE(read_access_copy(R"({"format":2,"version":"x","content":{}})"));
  EXPECT_FALSE(read_access_copy(R"({"format":1,"version":"x","content":{"users":{"ann":"{}"},"tokens":{}}})"));
  auto empty = read_access_copy(R"({"format":1,"version":"x","content":{"users":{},"tokens":{},"bundle":"b"}})");
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->bundle, "b");
}

}  // namespace
}  // namespace croft::gate
