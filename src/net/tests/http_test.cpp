#include "net/http.hpp"

#include <gtest/gtest.h>

#include "net/gzip.hpp"
#include "net/http_client.hpp"
#include "wire.hpp"

namespace croft::net {
namespace {

TEST(Headers, NamesAreComparedWithoutCaseAndMayRepeat) {
  Headers h;
  h.add("Set-Cookie", "a");
  h.add("set-cookie", "b");
  h.add("Other", "c");
  EXPECT_EQ(h.get("SET-COOKIE"), "a");
  EXPECT_EQ(h.all().size(), 3u);
  h.set("Set-cookie", "d");
  ASSERT_EQ(h.all().size(), 2u);
  EXPECT_EQ(h.get("set-cookie"), "d");
  EXPECT_EQ(h.get("absent"), "");
  EXPECT_FALSE(h.has("absent"));
}

TEST(Query, DecodesAndKeepsTheOrder) {
  Query q("a=1&b=x%20y+z&a=2&&flag&empty=&no=false&%7a=%26");
  EXPECT_EQ(q.get("a"), "1");
  EXPECT_EQ(q.all("a"), (std::vector<std::string>{"1", "2"}));
  EXPECT_EQ(q.get("b"), "x y z");
  EXPECT_EQ(q.get("z"), "&");
  EXPECT_TRUE(q.flag("flag"));
  EXPECT_TRUE(q.flag("empty"));
  EXPECT_FALSE(q.flag("no", true));
  EXPECT_TRUE(q.flag("absent", true));
  EXPECT_EQ(Query("bad=%zz&good=1").fields().size(), 1u);
}

TEST(UrlTest, TakesUrlsApart) {
  auto url = Url::parse("HTTP://user:pw@h.example:8080/a/b?c=d#e");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->scheme, "http");
  EXPECT_EQ(url->host, "h.example");
  EXPECT_EQ(url->port, 8080);
  EXPECT_EQ(url->target, "/a/b?c=d");
  EXPECT_EQ(Url::parse("https://h")->port, 443);
  EXPECT_EQ(Url::parse("http://h?x=1")->target, "/?x=1");
  EXPECT_EQ(Url::parse("http://[::1]:81/")->host, "::1");
  EXPECT_EQ(Url::parse("http://[::1]:81/")->port, 81);
  EXPECT_EQ(Url::parse("http://[::1]/")->port, 80);
  for (auto bad : {"", "h:80/", "http://", "http://:80/", "http://h:0/", "http://h:65536/", "http://h:8o/", "http://[::1/"}) EXPECT_FALSE(Url::parse(bad)) << bad;
}

TEST(Gzip, GoesThereAndBackWithinItsBound) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i) + "\n";
  auto packed = gzip(text);
  EXPECT_LT(packed.size(), text.size() / 2);
  EXPECT_EQ(gunzip(packed, text.size()), text);
  EXPECT_EQ(gunzip(packed, text.size() - 1), std::nullopt);
  EXPECT_EQ(gunzip(gzip(""), 10), "");
}

TEST(Gzip, RefusesWhatIsNotWhole) {
  auto packed = gzip(std::string(5000, 'x'));
  for (std::size_t n = 0; n < packed.size(); ++n) EXPECT_EQ(gunzip(std::string_view(packed).substr(0, n), 1 << 20), std::nullopt) << n;
  auto bent = packed;
  bent[bent.size() - 6] ^= 1;  // the checksum
  EXPECT_EQ(gunzip(bent, 1 << 20), std::nullopt);
  EXPECT_EQ(gunzip("plain text", 1 << 20), std::nullopt);
}

class RouterTest : public ::testing::Test {
 protected:
  /// A handler that tells which pattern it was and what its parameters are.
  static Handler tells(std::string name) {
    return [name](Request r) -> asio::awaitable<Response> {
      auto text = name;
      for (const auto& [k, v] : r.params) text += " " + k + "=" + v;
      co_return Response::text(text);
    };
  }
  Response ask(const Router& router, std::string method, std::string path) {
    Request r;
    r.method = std::move(method);
    r.path = std::move(path);
    return loop_.run(router.handle(std::move(r)));
  }
  std::string at(const Router& router, std::string path) {
    auto response = ask(router, "GET", std::move(path));
    return response.status == 200 ? response.body : std::to_string(response.status);
  }
  Loop loop_;
};

TEST_F(RouterTest, TakesParametersFromThePath) {
  Router router;
  router.on("GET", "/", tells("root"));
  router.on("GET", "/apps", tells("apps"));
  router.on("GET", "/apps/{id}", tells("one"));
  router.on("GET", "/apps/{id}/tasks/{task}", tells("task"));
  router.on("GET", "/files/{*rest}", tells("files"));
  EXPECT_EQ(at(router, "/"), "root");
  EXPECT_EQ(at(router, "//"), "root");
  EXPECT_EQ(at(router, "/apps"), "apps");
  EXPECT_EQ(at(router, "//apps"), "apps");
  EXPECT_EQ(at(router, "/apps/a b"), "one id=a b");
  EXPECT_EQ(at(router, "/apps//x"), "one id=x");
  EXPECT_EQ(at(router, "/apps/a/tasks/t"), "task id=a task=t");
  EXPECT_EQ(at(router, "/apps/"), "404");
  EXPECT_EQ(at(router, "/apps/a/tasks"), "404");
  EXPECT_EQ(at(router, "/apps/a/tasks/t/u"), "404");
  EXPECT_EQ(at(router, "/files/a"), "files rest=a");
  EXPECT_EQ(at(router, "/files/a/b//c"), "files rest=a/b/c");
  EXPECT_EQ(at(router, "/files/a/"), "files rest=a/");
  EXPECT_EQ(at(router, "/files/"), "404");
  EXPECT_EQ(at(router, "/files"), "404");
}

TEST_F(RouterTest, PrefersTheMoreLiteralPatternWhateverTheOrder) {
  std::vector<std::string> patterns{"/v2/apps/{*id}", "/v2/apps/{*id}/versions", "/v2/apps/{*id}/versions/{ts}", "/v2/apps/{id}/fixed", "/v2/{any}/x"};
  for (int i = 0; i < 2; ++i, std::reverse(patterns.begin(), patterns.end())) {
    Router router;
    for (const auto& p : patterns) router.on("GET", p, tells(p.substr(3)));
    EXPECT_EQ(at(router, "/v2/apps/a/b"), "/apps/{*id} id=a/b");
    EXPECT_EQ(at(router, "/v2/apps/a/b/versions"), "/apps/{*id}/versions id=a/b");
    EXPECT_EQ(at(router, "/v2/apps/a/b/versions/1"), "/apps/{*id}/versions/{ts} id=a/b ts=1");
    EXPECT_EQ(at(router, "/v2/apps/versions/versions/versions"), "/apps/{*id}/versions/{ts} id=versions ts=versions") << "two literals beat the order of patterns";
    EXPECT_EQ(at(router, "/v2/apps/a/fixed"), "/apps/{id}/fixed id=a");
    EXPECT_EQ(at(router, "/v2/apps/x"), "/{any}/x any=apps") << "as many literals, and no rest";
    EXPECT_EQ(at(router, "/v2/other/x"), "/{any}/x any=other");
  }
}

TEST_F(RouterTest, AFailedTryLeavesNoParameters) {
  Router router;
  router.on("GET", "/a/{*first}/end", tells("ends"));
  router.on("GET", "/a/{*second}", tells("rest"));
  EXPECT_EQ(at(router, "/a/b/c"), "rest second=b/c");
  EXPECT_EQ(at(router, "/a/b/end"), "ends first=b");
}

TEST_F(RouterTest, TellsTheMethodsThereAre) {
  Router router;
  router.on("GET", "/a", tells("get"));
  router.on("PUT", "/a", tells("put"));
  router.on("DELETE", "/b", tells("delete"));
  router.on("*", "/c", tells("any"));
  auto wrong = ask(router, "POST", "/a");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.get("Allow"), "GET, HEAD, PUT, OPTIONS");
  auto options = ask(router, "OPTIONS", "/b");
  EXPECT_EQ(options.status, 200);
  EXPECT_EQ(options.headers.get("Allow"), "DELETE, OPTIONS");
  EXPECT_EQ(options.body, "");
  EXPECT_EQ(ask(router, "HEAD", "/a").body, "get");
  EXPECT_EQ(ask(router, "HEAD", "/b").status, 405);
  EXPECT_EQ(ask(router, "PATCH", "/c").body, "any");
  EXPECT_EQ(ask(router, "OPTIONS", "/none").status, 404);
  auto none = ask(router, "GET", "/none\"x");
  EXPECT_EQ(none.status, 404);
  EXPECT_EQ(none.body, R"({"message":"URI not found: /none\"x"})");
}

TEST_F(RouterTest, AMethodIsLookedForInEveryPatternThatMatches) {
  Router router;
  router.on("GET", "/apps/fixed", tells("fixed"));
  router.on("DELETE", "/apps/{id}", tells("delete"));
  EXPECT_EQ(ask(router, "DELETE", "/apps/fixed").body, "delete id=fixed");
  EXPECT_EQ(ask(router, "PUT", "/apps/fixed").headers.get("Allow"), "GET, HEAD, DELETE, OPTIONS");
}

TEST_F(RouterTest, FallsBack) {
  Router router;
  router.on("GET", "/a", tells("a"));
  router.fallback(tells("fallback"));
  EXPECT_EQ(at(router, "/b"), "fallback");
  EXPECT_EQ(ask(router, "POST", "/a").status, 405);
}

TEST_F(RouterTest, BodyLimitsArePerPattern) {
  Router router;
  router.on("POST", "/small/{id}", tells("small"));
  router.on("POST", "/{*rest}", tells("rest"));
  router.body_limit("/small/{id}", 10);
  EXPECT_EQ(router.limit_for("POST", "/small/x", 100), 10u);
  EXPECT_EQ(router.limit_for("POST", "/small/x/y", 100), 100u);
  EXPECT_EQ(router.limit_for("POST", "/", 100), 100u);
}

}  // namespace
}  // namespace croft::net
