#include <gtest/gtest.h>

#include "base/json.hpp"
#include "orchestrator/app_json.hpp"
#include "orchestrator/marathon_app.hpp"

namespace croft::orchestrator {
namespace {

constexpr const char* of_2015 =
    R"({"id":"web","instances":2,"cpus":0.25,"mem":128,"container":{"type":"DOCKER","docker":{"image":"nginx:1.9","network":"BRIDGE","forcePullImage":true,)"
    R"("portMappings":[{"containerPort":80,"hostPort":0,"servicePort":0,"protocol":"tcp"}],"parameters":[{"key":"hostname","value":"a"}]}},"env":{"A":"1"},)"
    R"("healthChecks":[{"protocol":"HTTP","path":"/","portIndex":0,"gracePeriodSeconds":30,"intervalSeconds":10,"timeoutSeconds":5,"maxConsecutiveFailures":3}],)"
    R"("upgradeStrategy":{"minimumHealthCapacity":0.5,"maximumOverCapacity":0.2},"backoffFactor":1.15,"labels":{"team":"x"}})";

App read(std::string_view text) {
  Problems problems;
  auto app = read_manifest(*json::parse(text), App{}, problems);
  validate(app, problems);
  EXPECT_FALSE(problems.any()) << problems.json();
  return app;
}

std::string problems_of(std::string_view text) {
  Problems problems;
  auto app = read_manifest(*json::parse(text), App{}, problems);
  if (!problems.any()) validate(app, problems);
  return problems.any() ? problems.json() : "";
}

TEST(Manifest, TheFormOf2015BecomesTheLatest) {
  auto app = read(of_2015);
  EXPECT_EQ(app.id, AppId("/web"));
  EXPECT_EQ(app.networks[0].mode, NetworkMode::bridge);
  ASSERT_EQ(app.ports.size(), 1u);
  EXPECT_EQ(app.ports[0].container_port, 80);
  EXPECT_EQ(app.ports[0].host_port, 0);
  EXPECT_TRUE(app.docker->force_pull);
  EXPECT_EQ(app.health_checks[0].grace, Millis(30'000));
}

TEST(Manifest, WhatIsReadBackAndPutAgainChangesNothing) {
  for (auto text : {of_2015, R"({"id":"/a/b","cmd":"x","ports":[0,8080],"uris":["http://h/a.tgz","http://h/b"]})",
                    R"({"id":"/c","args":["a","b"],"networks":[{"mode":"container/bridge"}],"container":{"docker":{"image":"i"},"portMappings":[{"containerPort":1,"name":"http"}]}})",
                    R"({"id":"/d","cmd":"x","portDefinitions":[{"port":0,"name":"a"}],"unreachableStrategy":"disabled","killSelection":"oldest_first","resourceLimits":{"cpus":"unlimited","mem":64}})",
                    R"({"id":"/e","cmd":"x","container":{"docker":{"image":"i","network":"HOST"}}})", R"({"id":"/f","cmd":"x","ports":[]})"}) {
    auto app = read(text);
    app.version = app.last_config_change = app.last_scaling = "2024-01-01T00:00:00.000Z";
    JsonWriter w;
    w.begin_object();
    write_app_fields(w, app, true);
    w.end_object();
    Problems problems;
    auto again = read_manifest(*json::parse(w.str()), app, problems);
    EXPECT_FALSE(problems.any()) << problems.json();
    EXPECT_TRUE(again.same_config(app)) << w.str();
    auto stored = decode_app(encode_app(app));
    ASSERT_TRUE(stored) << stored.error().context;
    EXPECT_EQ(*stored, app) << encode_app(app);
  }
}

TEST(Manifest, AllMistakesAreToldAtOnceWithTheirPaths) {
  auto told = problems_of(R"({"id":"/x","cpus":"many","instances":-1,"env":{"A":5},"healthChecks":[{"protocol":"SMOKE"}],"upgradeStrategy":{"minimumHealthCapacity":2.0}})");
  for (auto path : {"/cpus", "/instances", "/env/A", "/healthChecks(0)/protocol", "/upgradeStrategy/minimumHealthCapacity"}) EXPECT_NE(told.find(path), std::string::npos) << path << told;
  EXPECT_NE(told.find("got 2.0, expected 1.0 or less"), std::string::npos) << told;
}

TEST(Manifest, EveryFieldOfAWrongTypeIsAProblemAndNeverACrash) {
  for (auto field : {"id", "cmd", "args", "user", "env", "instances", "cpus", "mem", "disk", "gpus", "executor", "constraints", "uris", "ports", "portDefinitions", "fetch", "requirePorts", "networks",
                     "container", "healthChecks", "readinessChecks", "dependencies", "backoffSeconds", "backoffFactor", "maxLaunchDelaySeconds", "upgradeStrategy", "labels", "acceptedResourceRoles",
                     "killSelection", "unreachableStrategy", "taskKillGracePeriodSeconds", "resourceLimits", "role"})
    for (auto value : {"5", "-1", "1e308", "0.5", "true", "\"x\"", "[]", "{}", "[5]", "[[5]]", "[{}]", "{\"a\":5}", "null", "[null]", "\"\""}) {
      Problems problems;
      auto parsed = json::parse(std::string("{\"") + field + "\":" + value + "}");
      auto app = read_manifest(*parsed, App{}, problems);
      validate(app, problems);
      EXPECT_TRUE(problems.any()) << field << "=" << value << " leaves an app without a command or an id";
      EXPECT_TRUE(json::parse(problems.json())) << problems.json();
    }
}

TEST(Manifest, IdsAreResolvedAndChecked) {
  Problems none;
  EXPECT_EQ(read_app_id("a//b/", "/", none), AppId("/a/b"));
  EXPECT_EQ(read_app_id("../c", "/a/b", none), AppId("/a/c"));
  EXPECT_FALSE(none.any());
  for (auto bad : {"/A", "/a_b", "/-a", "/a-", "/a b", "/x/restart"}) {
    Problems problems;
    (void)read_app_id(bad, "/", problems);
    EXPECT_TRUE(problems.any()) << bad;
  }
}

}  // namespace
}  // namespace croft::orchestrator
