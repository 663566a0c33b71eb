// What HAProxy is given: golden files under testdata, each judged by HAProxy itself where it is installed. CROFT_REWRITE=1 writes them anew.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "balancer/tests/builders.hpp"
#include "base/files.hpp"

namespace croft::balancer {
namespace {

RenderOptions options() {
  RenderOptions o;
  o.run_dir = "/tmp/croft-balancer";
  o.address = "127.0.0.1";
  o.shared_ports = {5000, 80};
  return o;
}

/// HAProxy's own word on a configuration; "" when it is fine or not installed.
std::string judged(const std::string& text) {
  if (::access("/usr/sbin/haproxy", X_OK) != 0) return "";
  char dir[] = "/tmp/croft-render-XXXXXX";
  if (!::mkdtemp(dir)) return "mkdtemp failed";
  auto verdict = Haproxy({dir, "/usr/sbin/haproxy"}).check(text);
  std::filesystem::remove_all(dir);
  return verdict ? "" : verdict.error().context;
}

void expect_golden(const std::string& name, const Plan& plan) {
  auto text = render(plan, options());
  auto file = std::filesystem::path(CROFT_TESTDATA) / (name + ".cfg");
  if (std::getenv("CROFT_REWRITE")) {
    ASSERT_TRUE(write_file_atomic(file, text));
  }
  EXPECT_EQ(text, read_file(file).value_or("")) << "CROFT_REWRITE=1 writes " << file;
  EXPECT_EQ(judged(text), "");
}

TEST(Render, AnEmptyFarm) { expect_golden("empty", {}); }

TEST(Render, AWebAppBehindARule) {
  auto c = web(3);
  c.endpoints[TaskId("web.1")].draining = true;
  expect_golden("rule", make_plan(c, {}, {}));
}

TEST(Render, ProtocolsAndChecks) {
  ContentOf c;
  auto tls = service("/tls", 10001), redis = service("/db/redis", 10002), mixed = service("/mixed", 10003);
  tls.health_checks = {http_check("/up", CheckKind::https)};
  tls.health_checks[0].timeout = Millis(20'000);
  redis.health_checks = {http_check("/", CheckKind::tcp)};
  mixed.health_checks = {http_check("no-slash?a=b")};
  mixed.ports.push_back(mixed.ports[0]);
  mixed.ports[1].service_port = 10004;
  c.with(tls).with(redis).with(mixed).rule("/tls", "hdr(host) -i tls.example.com");
  auto e = endpoint("redis.1", "/db/redis", 31000, "fd00::1");
  e.healthy = true;
  expect_golden("protocols", make_plan(c.with(e), {}, {}));
}

TEST(Render, HostsPathsAndTheOtherLabels) {
  ContentOf c;
  auto a = service("/a", 10001), b = service("/b", 10002), d = service("/d", 10003);
  a.labels = {{"HAPROXY_0_VHOST", "www.example.com,example.com"}, {"HAPROXY_0_BALANCE", "source"}, {"HAPROXY_0_STICKY", "true"}};
  b.labels = {{"HAPROXY_0_VHOST", "www.example.com"}, {"HAPROXY_0_PATH", "-i /b /c%20d"}, {"HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8 127.0.0.1"}};
  d.labels = {{"HAPROXY_0_PORT", "9999"}, {"HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8"}, {"HAPROXY_0_BALANCE", "random"}};
  auto plan = make_plan(c.with(a).with(b).with(d), {}, {});
  expect_golden("labels", plan);
  auto text = render(plan, options());
  EXPECT_LT(text.find("use_backend b_0"), text.find("use_backend a_0")) << "a path makes a rule more special";
}

/// Text from strangers, wherever it can come from: HAProxy must still see what we wrote and nothing else.
TEST(Render, NoTextFromAManifestBecomesConfiguration) {
  const std::string evil = "/x\n    bind *:9999 \"'\\ #${HOME} %[env(HOME)]";
  ContentOf c;
  auto s = service("/web");
  s.health_checks = {http_check(evil)};
  s.ports[0].name = evil;
  for (auto name : {"MODE", "VHOST", "PATH", "BALANCE", "PORT", "STICKY", "BACKEND_NETWORK_ALLOWED_ACL", "BACKEND_WEIGHT", "BACKEND_HEAD", "FRONTEND_HEAD"}) s.labels[fmt::format("HAPROXY_0_{}", name)] = evil;
  auto e = endpoint("t", "/web");
  e.healthy = true;
  e.ip = "10.0.0.1 \n bind";
  c.with(s).with(e).rule("/web", "path " + evil);
  auto odd = service("/odd\n bind *:9998", 10001);
  c.with(odd);
  auto text = render(make_plan(c, {}, {}), options());
  for (auto port : {"9999", "9998"}) {
    auto at = text.find(port);
    if (at == std::string::npos) continue;
    auto line = text.substr(text.rfind('\n', at) + 1, 12);
    EXPECT_EQ(line.find("    bind"), std::string::npos) << text;
  }
  e.ip = "10.0.0.1";
  EXPECT_EQ(judged(render(make_plan(c.with(e), {}, {}), options())), "");
}

TEST(Render, WordsKeepTheirBytes) {
  EXPECT_EQ(word("/health?x=1"), "/health?x=1");
  EXPECT_EQ(word("a b"), "a\\x20b");
  EXPECT_EQ(word("\"'\\#$\n"), "\\x22\\x27\\x5c\\x23\\x24\\x0a");
  EXPECT_EQ(word("\xc3\xa9"), "\\xc3\\xa9");
}

TEST(Shape, DoesNotDependOnWhoStandsWhere) {
  auto one = make_plan(web(1), {}, {});
  EXPECT_EQ(shape_of(one, options()), shape_of(make_plan(web(3), one, {}), options()));
}

TEST(Shape, DependsOnEverythingThatOnlyAReloadChanges) {
  auto base = shape_of(make_plan(web(1), {}, {}), options());
  std::set<std::string> shapes{base};
  auto with = [&](auto change) {
    auto c = web(1);
    change(c, c.services[AppId("/web")]);
    shapes.insert(shape_of(make_plan(c, {}, {}), options()));
  };
  with([](auto& c, auto&) { c.rule("/web", "path_beg -i /other"); });
  with([](auto& c, auto&) { c.rules.clear(); });
  with([](auto&, auto& s) { s.ports[0].service_port = 10009; });
  with([](auto&, auto& s) { s.health_checks[0].path = "/up"; });
  with([](auto&, auto& s) { s.health_checks[0].timeout = Millis(9000); });
  with([](auto&, auto& s) { s.labels["HAPROXY_0_VHOST"] = "a.b"; });
  with([](auto&, auto& s) { s.labels["HAPROXY_0_STICKY"] = "true"; });
  with([](auto&, auto& s) { s.instances = 20; });
  with([](auto& c, auto&) { c.with(service("/new", 10001)); });
  EXPECT_EQ(shapes.size(), 10u);
  auto other = options();
  other.shared_ports = {5000};
  EXPECT_NE(shape_of(make_plan(web(1), {}, {}), other), base);
}

TEST(Probe, IsWhatHaproxyJudgesARuleBy) {
  if (::access("/usr/sbin/haproxy", X_OK) != 0) GTEST_SKIP() << "no HAProxy here";
  EXPECT_EQ(judged(probe_config("hdr(host) -i www.example.com")), "");
  auto words = judged(probe_config("no_such_fetch -i x"));
  EXPECT_NE(words.find("no_such_fetch"), std::string::npos) << words;
  EXPECT_NE(judged(probe_config("path_beg \"unbalanced")), "");
}

TEST(Render, ARequestIsSentASecondTimeAtMostAndNotAtAllWhereTheAppSaysSo) {
  auto plan = make_plan(web(3), {}, {});
  auto text = render(plan, options());
  EXPECT_NE(text.find("    retries 1\n    retry-on conn-failure empty-response\n"), std::string::npos) << text;
  EXPECT_NE(text.find("disable-l7-retry if METH_POST"), std::string::npos);
  plan.backends.begin()->second.labels.resend = false;
  text = render(plan, options());
  EXPECT_NE(text.find("    retry-on conn-failure\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("empty-response"), std::string::npos);
  EXPECT_EQ(judged(text), "");
}

}  // namespace
}  // namespace croft::balancer
