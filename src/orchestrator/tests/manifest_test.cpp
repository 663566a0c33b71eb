#include <gtest/gtest.h>

#include <re2/re2.h>

#include <filesystem>
#include <functional>
#include <set>

#include "base/files.hpp"
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
  refuse_nul(*json::parse(text), problems);
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

TEST(Manifest, ANulCharacterIsRefusedWhereverItStands) {
  EXPECT_NE(problems_of(R"({"id":"a","cmd":"sleep 1\u0000ns=0"})").find(R"("path":"/cmd","errors":["must not contain a NUL)"), std::string::npos);
  EXPECT_NE(problems_of(R"({"id":"a","args":["x","y\u0000z"]})").find("/args(1)"), std::string::npos);
  EXPECT_NE(problems_of(R"({"id":"a","cmd":"x","env":{"A":"b\u0000cgset=/tmp/x=1"}})").find("/env/A"), std::string::npos);
  EXPECT_NE(problems_of(R"({"id":"a","cmd":"x","env":{"A\u0000ns=0":"b"}})").find(R"("path":"/env")"), std::string::npos);
  EXPECT_NE(problems_of(R"({"id":"a","cmd":"x","labels":{"A":"\u0000"}})").find("/labels/A"), std::string::npos);
}

TEST(Manifest, WhatAnEarlierBuildTookCanStillBeLoaded) {
  auto app = read(R"({"id":"a","cmd":"x"})");
  app.version = "2026-01-01T00:00:00.000Z";
  app.cmd = std::string("sleep 1\0ns=0", 12);
  auto stored = decode_app(encode_app(app));
  ASSERT_TRUE(stored) << stored.error().context;
  EXPECT_EQ(stored->cmd, app.cmd);
}

TEST(Manifest, WhatCanNeverBeStartedIsRefused) {
  EXPECT_NE(problems_of(fmt::format(R"({{"id":"/{}","cmd":"x"}})", std::string(220, 'b'))).find("/id"), std::string::npos);
  EXPECT_NE(problems_of(fmt::format(R"({{"id":"a","cmd":"{}"}})", std::string(200'000, 'x'))).find("/cmd"), std::string::npos);
  EXPECT_NE(problems_of(fmt::format(R"({{"id":"a","cmd":"x","env":{{"A":"{}"}}}})", std::string(200'000, 'x'))).find("/env/A"), std::string::npos);
  std::string many;
  for (int i = 0; i < 5000; ++i) many += fmt::format(R"({}"V{}":"x")", i ? "," : "", i);
  EXPECT_NE(problems_of(fmt::format(R"({{"id":"a","cmd":"x","env":{{{}}}}})", many)).find("/env"), std::string::npos);
  EXPECT_NE(problems_of(R"({"id":"a","cmd":"x","healthChecks":[{"path":"/\r\nX: y","portIndex":0}]})").find("/healthChecks(0)/path"), std::string::npos);
}

TEST(Manifest, AnAppsTextsAreAMebibyteTogether) {
  auto fields = [](int n, std::size_t bytes) {
    std::string out;
    for (int i = 0; i < n; ++i) out += fmt::format(R"({}"V{}":"{}")", i ? "," : "", i, std::string(bytes, 'x'));
    return out;
  };
  auto with = [](std::string_view env, std::string_view labels) { return fmt::format(R"({{"id":"a","cmd":"x","env":{{{}}},"labels":{{{}}}}})", env, labels); };
  EXPECT_EQ(problems_of(with(fields(5, 100'000), fields(5, 100'000))), "");
  EXPECT_NE(problems_of(with("", fields(11, 100'000))).find(R"("path":"/labels")"), std::string::npos);
  EXPECT_NE(problems_of(with(fields(8, 100'000), fields(5, 100'000))).find(R"("path":"/")"), std::string::npos);
  EXPECT_NE(problems_of(fmt::format(R"({{"id":"a","cmd":"x","labels":{{"A":"{}"}}}})", [] { std::string out; for (int i = 0; i < 200'000; ++i) out += "\\u0001"; return out; }())).find(R"("path":"/labels")"), std::string::npos);
}

TEST(Manifest, WhatIsReadBackAndPutAgainChangesNothing) {
  for (auto text : {of_2015, R"({"id":"/a/b","cmd":"x","ports":[0,8080],"uris":["http://h/a.tgz","http://h/b"]})",
                    R"({"id":"/c","args":["a","b"],"networks":[{"mode":"container/bridge"}],"container":{"docker":{"image":"i"},"portMappings":[{"containerPort":1,"name":"http"}]}})",
                    R"({"id":"/d","cmd":"x","portDefinitions":[{"port":0,"name":"a"}],"unreachableStrategy":"disabled","killSelection":"oldest_first","resourceLimits":{"cpus":"unlimited","mem":256}})",
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

/// What a client of either age reads back.
json::value written(const App& app) {
  JsonWriter w;
  w.begin_object();
  write_app_fields(w, app, true);
  w.end_object();
  return *json::parse(w.str());
}

std::string print(const json::value* v) { return v ? json::print(*v) : "absent"; }

TEST(Manifest, ReadsBackInTheLatestFormWithTheOldSpellingsBesideIt) {
  auto app = written(read(of_2015));
  EXPECT_EQ(print(json::find(app, "networks")), R"([{"mode":"container/bridge"}])");
  const auto& container = *json::find(app, "container");
  EXPECT_EQ(print(json::find(container, "portMappings")), R"([{"containerPort":80,"hostPort":0,"labels":{},"protocol":"tcp","servicePort":0}])");
  EXPECT_EQ(json::find(app, "portDefinitions"), nullptr);
  const auto& docker = *json::find(container, "docker");
  EXPECT_EQ(json::text(docker, "network"), "BRIDGE");
  EXPECT_EQ(print(json::find(docker, "portMappings")), print(json::find(container, "portMappings")));
  EXPECT_EQ(print(json::find(app, "ports")), "[0]");
  EXPECT_EQ(print(json::find(app, "uris")), "[]");
  const auto& check = json::list(app, "healthChecks")[0];
  EXPECT_EQ(json::integer(check, "delaySeconds"), 15);
  EXPECT_EQ(json::text(check, "ipProtocol"), "IPv4");
  EXPECT_FALSE(json::boolean(check, "ignoreHttp1xx", true));
}

TEST(Manifest, DefaultsAreMarathons) {
  auto app = written(read(R"({"id":"/x","cmd":"x"})"));
  EXPECT_EQ(print(json::find(app, "cpus")), "1");
  EXPECT_EQ(print(json::find(app, "mem")), "128");
  EXPECT_EQ(print(json::find(app, "disk")), "0");
  EXPECT_EQ(print(json::find(app, "instances")), "1");
  EXPECT_EQ(print(json::find(app, "backoffSeconds")), "1");
  EXPECT_EQ(print(json::find(app, "backoffFactor")), "1.15");
  EXPECT_EQ(print(json::find(app, "maxLaunchDelaySeconds")), "300");
  EXPECT_EQ(print(json::find(app, "upgradeStrategy")), R"({"minimumHealthCapacity":1,"maximumOverCapacity":1})");
  EXPECT_EQ(print(json::find(app, "unreachableStrategy")), R"({"inactiveAfterSeconds":0,"expungeAfterSeconds":0})");
  EXPECT_EQ(print(json::find(app, "killSelection")), R"("YOUNGEST_FIRST")");
  EXPECT_EQ(print(json::find(app, "networks")), R"([{"mode":"host"}])");
  EXPECT_EQ(print(json::find(app, "portDefinitions")), R"([{"labels":{},"name":"default","port":0,"protocol":"tcp"}])");
  EXPECT_EQ(print(json::find(app, "container")), "absent");
  auto check = json::list(written(read(R"({"id":"/x","cmd":"x","healthChecks":[{}]})")), "healthChecks")[0];
  EXPECT_EQ(json::print(check), R"({"protocol":"HTTP","path":"/","ignoreHttp1xx":false,"portIndex":0,"ipProtocol":"IPv4","gracePeriodSeconds":300,"intervalSeconds":60,"timeoutSeconds":20,"maxConsecutiveFailures":3,"delaySeconds":15})");
}

TEST(Manifest, TheFormsOfAllAgesSayTheSame) {
  auto same = [](std::string_view old_form, std::string_view new_form) { EXPECT_EQ(read(old_form), read(new_form)) << old_form << "\n" << new_form; };
  same(R"({"id":"/x","cmd":"x","ports":[0,9000]})", R"({"id":"/x","cmd":"x","portDefinitions":[{"port":0},{"port":9000,"protocol":"tcp"}]})");
  same(R"({"id":"/x","cmd":"x","uris":["http://h/a.tgz","http://h/b"]})", R"({"id":"/x","cmd":"x","fetch":[{"uri":"http://h/a.tgz"},{"uri":"http://h/b","extract":false}]})");
  same(R"({"id":"/x","container":{"type":"DOCKER","docker":{"image":"i","network":"BRIDGE","portMappings":[{"containerPort":80}]}}})",
       R"({"id":"/x","networks":[{"mode":"container/bridge"}],"container":{"type":"DOCKER","docker":{"image":"i"},"portMappings":[{"containerPort":80,"hostPort":0}]}})");
  same(R"({"id":"/x","container":{"docker":{"image":"i","network":"host","portMappings":[{"containerPort":80}]}}})", R"({"id":"/x","container":{"docker":{"image":"i"}},"networks":[{"mode":"host"}]})");
  same(R"({"id":"/x","container":{"docker":{"image":"i","network":"USER"}},"ipAddress":{"networkName":"blue","labels":{"a":"b"}}})",
       R"({"id":"/x","container":{"docker":{"image":"i"}},"networks":[{"mode":"container","name":"blue","labels":{"a":"b"}}]})");
  same(R"({"id":"/x","cmd":"x","ipAddress":{"networkName":"blue","discovery":{"ports":[{"number":80,"name":"http","protocol":"tcp"}]}}})",
       R"({"id":"/x","cmd":"x","networks":[{"mode":"container","name":"blue"}],"container":{"type":"MESOS","portMappings":[{"containerPort":80,"name":"http"}]}})");
  same(R"({"id":"/x","container":{"docker":{"image":"i","network":"BRIDGE","portMappings":[{"containerPort":80}]}},"ports":[9000,9001]})",
       R"({"id":"/x","networks":[{"mode":"container/bridge"}],"container":{"docker":{"image":"i"},"portMappings":[{"containerPort":80,"servicePort":9000},{"servicePort":9001}]}})");
  same(R"({"id":"/x","cmd":"x","dependencies":["../db"]})", R"({"id":"/x","cmd":"x","dependencies":["/db"]})");
}

/// GET, one edit by a client that knows only its own age's fields, PUT.
App edited(std::string_view manifest, const std::function<void(json::object&)>& edit, std::string* problems = nullptr) {
  auto stored = read(manifest);
  stored.version = stored.last_config_change = stored.last_scaling = "2024-01-01T00:00:00.000Z";
  for (auto& p : stored.ports) (stored.networks[0].mode == NetworkMode::host ? p.port : p.service_port) = 10000;
  auto body = written(stored);
  edit(body.get_object());
  Problems wrong;
  auto app = read_manifest(body, stored, wrong);
  if (problems) *problems = wrong.any() ? wrong.json() : "";
  else EXPECT_FALSE(wrong.any()) << wrong.json();
  return app;
}

TEST(Manifest, AnEditOfEitherSpellingIsWhatIsMeant) {
  auto bridge = R"({"id":"/x","networks":[{"mode":"container/bridge"}],"container":{"docker":{"image":"i"},"portMappings":[{"containerPort":80}]}})";
  auto host = R"({"id":"/x","cmd":"x","ports":[0],"uris":["http://h/a"]})";
  auto mappings_of = [](json::object& o, bool old_place) -> json::object& {
    auto& container = o["container"].get_object();
    return (old_place ? container["docker"].get_object()["portMappings"] : container["portMappings"]).get_array()[0].get_object();
  };
  for (bool old_place : {true, false}) EXPECT_EQ(edited(bridge, [&](json::object& o) { mappings_of(o, old_place)["containerPort"] = 81; }).ports[0].container_port, 81) << old_place;
  EXPECT_EQ(edited(bridge, [](json::object& o) { o["ports"] = {9999}; }).ports[0].service_port, 9999);
  EXPECT_EQ(edited(host, [](json::object& o) { o["ports"] = {9999}; }).ports[0].port, 9999);
  EXPECT_EQ(edited(host, [](json::object& o) { o["portDefinitions"].get_array()[0].get_object()["port"] = 9998; }).ports[0].port, 9998);
  EXPECT_EQ(edited(host, [](json::object& o) { o["uris"] = {"http://h/c"}; }).fetch[0].uri, "http://h/c");
  EXPECT_EQ(edited(host, [](json::object& o) { o["fetch"].get_array()[0].get_object()["uri"] = "http://h/d"; }).fetch[0].uri, "http://h/d");
  std::string told;
  edited(bridge, [&](json::object& o) { mappings_of(o, true)["containerPort"] = 1, mappings_of(o, false)["containerPort"] = 2; }, &told);
  EXPECT_NE(told.find("/container/docker/portMappings"), std::string::npos) << told;
  edited(host, [](json::object& o) { o["ports"] = {1}, o["portDefinitions"].get_array()[0].get_object()["port"] = 2; }, &told);
  EXPECT_NE(told.find("cannot specify both ports and port definitions"), std::string::npos) << told;
}

TEST(Manifest, EveryRuleHasItsPathAndItsWords) {
  struct Case { const char* fields; const char* path; const char* words; };
  static constexpr Case cases[] = {
      {R"("cmd":null)", "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."},
      {R"("args":["y"])", "/", "AppDefinition must not contain both 'cmd' and 'args'."},
      {R"("executor":"a//b")", "/executor", "must fully match regular expression"},
      {R"("container":{"type":"DOCKER"})", "/container/docker", "not defined"},
      {R"("container":{"docker":{}})", "/container/docker/image", "error.path.missing"},
      {R"("container":{"docker":{"image":"i"},"volumes":[{"containerPath":"/x","mode":"RW"}]})", "/container/volumes(0)/hostPath", "undefined"},
      {R"("container":{"docker":{"image":"i"},"volumes":[{"containerPath":"x","mode":"RW","persistent":{"size":5}}]})", "/container/volumes(0)/persistent", "not supported"},
      {R"("container":{"docker":{"image":"i"},"volumes":[{"containerPath":"x","mode":"RW","external":{"name":"v"}}]})", "/container/volumes(0)/external", "Feature external_volumes is not enabled"},
      {R"("container":{"docker":{"image":"i","network":"NONE"}})", "/container/docker/network", "not supported"},
      {R"("container":{"docker":{"image":"i","network":"BRIDGE"}},"networks":[{"mode":"host"}])", "/", "must not specify both container.docker.network and networks"},
      {R"("networks":[{"mode":"container","name":"a"}],"ipAddress":{})", "/", "must not specify both networks and ipAddress"},
      {R"("ports":[1],"ipAddress":{"networkName":"a"})", "/", "cannot specify both an IP address and port"},
      {R"("container":{"docker":{"image":"i"}},"ipAddress":{"networkName":"a","discovery":{"ports":[{"number":1}]}})", "/ipAddress/discovery", "ipAddress/discovery is not allowed for Docker containers"},
      {R"("networks":[{"mode":"container"}])", "/networks(0)", "Network name must be specified when container network is selected."},
      {R"("networks":[{"mode":"host","name":"a"}])", "/networks(0)/name", "only allowed for container networks"},
      {R"("networks":[{"mode":"host"},{"mode":"host"}])", "/networks", "must not have more than one"},
      {R"("networks":[{"mode":"container","name":"a"},{"mode":"container","name":"a"}])", "/networks(1)/name", "must be unique"},
      {R"("networks":[{"mode":"host"}],"container":{"docker":{"image":"i"},"portMappings":[{"containerPort":80}]})", "/container/portMappings", "portMappings are not allowed with host-networking"},
      {R"("container":{"docker":{"image":"i"},"portMappings":[{"containerPort":80}]})", "/container/portMappings", "portMappings are not allowed with host-networking"},
      {R"("networks":[{"mode":"container/bridge"}],"portDefinitions":[{"port":1}])", "/portDefinitions", "portDefinitions are only allowed with host-networking"},
      {R"("portDefinitions":[{"name":"a"},{"name":"a"}])", "/portDefinitions", "Port names must be unique."},
      {R"("portDefinitions":[{"name":"A_B"}])", "/portDefinitions(0)/name", "must fully match"},
      {R"("ports":[80,80])", "/portDefinitions", "Ports must be unique."},
      {R"("ports":[70000])", "/ports(0)", "error.max"},
      {R"("ports":[1],"portDefinitions":[{"port":2}])", "/", "cannot specify both ports and port definitions"},
      {R"("uris":["a"],"fetch":[{"uri":"b"}])", "/uris", "may not be set in conjunction with fetch"},
      {R"("healthChecks":[{"portIndex":1}])", "/healthChecks(0)/portIndex", "Health check port indices must address an element of the ports array or container port mappings."},
      {R"("ports":[],"healthChecks":[{}])", "/healthChecks(0)/portIndex", "Health check port indices"},
      {R"("healthChecks":[{"protocol":"COMMAND"}])", "/healthChecks(0)/command", "must be given"},
      {R"("healthChecks":[{"protocol":"MESOS_TCP"},{"protocol":"COMMAND","command":{"value":"x"}}])", "/healthChecks", "AppDefinition can contain at most one Mesos health check"},
      {R"("healthChecks":[{},{}])", "/healthChecks", "Elements must be unique"},
      {R"("healthChecks":[{"ipProtocol":"IPv6"}])", "/healthChecks(0)/ipProtocol", "IPv4 only"},
      {R"("readinessChecks":[{"portName":"none"}])", "/readinessChecks(0)/portName", "none"},
      {R"("readinessChecks":[{"portName":"default","timeoutSeconds":30}])", "/readinessChecks(0)/timeoutSeconds", "must be less"},
      {R"("upgradeStrategy":{"maximumOverCapacity":-0.5})", "/upgradeStrategy/maximumOverCapacity", "got -0.5, expected 0.0 or more"},
      {R"("unreachableStrategy":{"inactiveAfterSeconds":5,"expungeAfterSeconds":1})", "/unreachableStrategy", "greater or equal"},
      {R"("unreachableStrategy":"never")", "/unreachableStrategy", "error.unknown.enum.literal"},
      {R"("killSelection":"ANY")", "/killSelection", "error.unknown.enum.literal"},
      {R"("labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"},"instances":2)", "/instances", "Single instance app may only have one instance"},
      {R"("labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"})", "/upgradeStrategy", "Single instance app"},
      {R"("instances":1.5)", "/instances", "error.expected"},
      {R"("cpus":-0.1)", "/cpus", "error.min"},
      {R"("backoffFactor":0.5)", "/backoffFactor", "error.min"},
      {R"("gpus":1,"container":{"docker":{"image":"i"}})", "/", "GPU resources only work with the Mesos containerizer"},
      {R"("gpus":0.5)", "/gpus", "error.expected.int"},
      {R"("resourceLimits":{"mem":1})", "/resourceLimits/mem", "must be at least what is requested, 128"},
      {R"("role":"sales")", "/role", "got sales, expected *"},
      {R"("acceptedResourceRoles":["slave_public"])", "/acceptedResourceRoles", "acceptedResourceRoles can only contain *"},
      {R"("acceptedResourceRoles":[])", "/acceptedResourceRoles", "must not be empty"},
      {R"("secrets":{"a":"b"})", "/secrets/a", "error.expected.jsobject"},
      {R"("secrets":{"a":{}})", "/secrets/a/source", "error.path.missing"},
      {R"("secrets":{"a":{"source":"b/../c"}})", "/secrets/a/source", "a secret is named like"},
      {R"("secrets":{"a":{"source":"/other/b"}})", "/secrets/a/source", "is for apps below /other"},
      {R"("secrets":{"a":{"source":"b"}},"env":{"A=B":{"secret":"a"}})", "/env/A=B", "must not hold '='"},
      {R"("container":{"type":"MESOS","volumes":[{"containerPath":"x","secret":"a"}]})", "/container/volumes(0)/secret", "volume.secret must refer to an existing secret"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"x/../y","secret":"a"}]})", "/container/volumes(0)/containerPath", "must be a path without"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"/run/s/x","secret":"a"}]})", "/container/volumes(0)/containerPath", "must be relative, to the sandbox"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"docker":{"image":"i"},"volumes":[{"containerPath":"/etc/x","secret":"a"}]})", "/container/volumes(0)/containerPath", "take such as /run/secrets"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"docker":{"image":"i"},"volumes":[{"containerPath":"/x","secret":"a"}]})", "/container/volumes(0)/containerPath", "take such as /run/secrets"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"x","secret":"a"},{"containerPath":"x","secret":"a"}]})", "/container/volumes(1)/containerPath", "is the path of another secret"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"x","secret":"a"},{"containerPath":"x/y","secret":"a"}]})", "/container/volumes(1)/containerPath", "cannot be another's folder"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"x/y","secret":"a"},{"containerPath":"x","secret":"a"}]})", "/container/volumes(1)/containerPath", "cannot be another's folder"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"stdout","secret":"a"}]})", "/container/volumes(0)/containerPath", "the task's own output"},
      {R"("secrets":{"a":{"source":"b"}},"container":{"type":"MESOS","volumes":[{"containerPath":"x","secret":"a","hostPath":"/y"}]})", "/container/volumes(0)", "has a secret and a hostPath"},
      {R"("env":{"A":{"secret":5}})", "/env/A/secret", "error.expected.jsstring"},
      {R"("env":{"A":{"secret":"none"}})", "/env/A", "references an undefined secret"},
      {R"("env":{" ":"x"})", "/env/ ", "must not be empty"},
      {R"("constraints":[["hostname","UNIQUE"],["rack","LIKE","("]])", "/constraints(1)", "is not a valid regular expression"},
      {R"("dependencies":["A"])", "/dependencies(0)", "is not a valid id"},
      {R"("tty":"yes")", "/tty", "error.expected.jsboolean"},
  };
  for (const auto& c : cases) {
    auto body = json::parse(fmt::format(R"({{"id":"/x",{}{}}})", std::string_view(c.fields).find("\"cmd\"") == std::string_view::npos ? R"("cmd":"x",)" : "", c.fields));
    ASSERT_TRUE(body) << c.fields;
    Problems problems;
    auto app = read_manifest(*body, App{}, problems);
    if (!problems.any()) validate(app, problems);
    auto told = *json::parse(problems.json());
    bool found = false;
    for (const auto& detail : json::list(told, "details"))
      for (const auto& error : json::texts(detail, "errors")) found = found || (json::text(detail, "path") == c.path && error.find(c.words) != std::string::npos);
    EXPECT_TRUE(found) << c.fields << "\n" << problems.json();
  }
}

TEST(Manifest, WordsAreReadWithoutCaseAndWrittenInMarathons) {
  auto app = written(read(R"({"id":"/x","killSelection":"oldest_first","constraints":[["hostname","unique"]],"container":{"type":"docker","docker":{"image":"i","network":"bridge"},"volumes":[{"containerPath":"/a","hostPath":"/b","mode":"rw"}]},"healthChecks":[{"protocol":"tcp"}]})"));
  EXPECT_EQ(json::text(app, "killSelection"), "OLDEST_FIRST");
  EXPECT_EQ(print(json::find(app, "constraints")), R"([["hostname","UNIQUE"]])");
  EXPECT_EQ(json::text(*json::find(app, "container"), "type"), "DOCKER");
  EXPECT_EQ(json::text(json::list(*json::find(app, "container"), "volumes")[0], "mode"), "RW");
  EXPECT_EQ(json::text(json::list(app, "healthChecks")[0], "protocol"), "TCP");
}

TEST(Manifest, UnknownFieldsAreForgivenAndTheReadBackOfOnesIsIgnored) {
  auto app = read(R"({"id":"/x","cmd":"x","taskRateLimit":5,"version":"2015-01-01T00:00:00.000Z","versionInfo":{},"tasks":[],"tasksRunning":5,"deployments":[],"residency":{"relaunchEscalationTimeoutSeconds":1}})");
  EXPECT_EQ(json::find(written(app), "residency"), nullptr);
  EXPECT_EQ(app.version, "");
}

TEST(Manifest, AHealthCheckWithoutAPauseOrWithoutTimeIsRefused) {
  auto told = problems_of(R"({"id":"/x","cmd":"x","healthChecks":[{},{"protocol":"TCP","intervalSeconds":0,"timeoutSeconds":0}]})");
  EXPECT_NE(told.find(R"({"path":"/healthChecks(1)/intervalSeconds","errors":["got 0, expected 1 or more"]})"), std::string::npos) << told;
  EXPECT_NE(told.find(R"({"path":"/healthChecks(1)/timeoutSeconds","errors":["got 0, expected 1 or more"]})"), std::string::npos) << told;
  EXPECT_EQ(told.find("healthChecks(0)"), std::string::npos) << told;
  EXPECT_EQ(problems_of(R"({"id":"/x","cmd":"x","healthChecks":[{"gracePeriodSeconds":0,"delaySeconds":0,"maxConsecutiveFailures":0,"intervalSeconds":1,"timeoutSeconds":1}]})"), "");
  auto app = read(R"({"id":"/x","cmd":"x","healthChecks":[{}]})");
  app.health_checks[0].interval = app.health_checks[0].timeout = Millis(0);
  EXPECT_TRUE(decode_app(encode_app(app))) << "an earlier build took it";
}

TEST(Manifest, WhatHasNoEffectMustHaveItsShapeAllTheSame) {
  EXPECT_EQ(problems_of(R"({"id":"/x","cmd":"x","storeUrls":["http://h/a.tgz"],"residency":{"relaunchEscalationTimeoutSeconds":3600,"taskLostBehavior":"wait_forever"}})"), "");
  for (auto [manifest, path] : {std::pair{R"("storeUrls":[5])", "/storeUrls(0)"}, {R"("storeUrls":["a",{}])", "/storeUrls(1)"}, {R"("storeUrls":[""])", "/storeUrls(0)"}, {R"("storeUrls":"a")", "/storeUrls"},
                                {R"("residency":5)", "/residency"}, {R"("residency":["x"])", "/residency"}, {R"("residency":{"taskLostBehavior":"SHRUG"})", "/residency/taskLostBehavior"},
                                {R"("residency":{"relaunchEscalationTimeoutSeconds":-1})", "/residency/relaunchEscalationTimeoutSeconds"}}) {
    auto told = problems_of(std::string(R"({"id":"/x","cmd":"x",)") + manifest + "}");
    EXPECT_NE(told.find(std::string("\"path\":\"") + path + "\""), std::string::npos) << manifest << told;
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

TEST(ManifestPage, ItsExamplesAreTakenAndEveryFieldThatReadsBackStandsThere) {
  auto file = (std::filesystem::path(CROFT_TESTDATA) / "../../../../docs/manifest.md").lexically_normal();
  auto page = read_file(file);
  ASSERT_TRUE(page) << page.error().context;
  int examples = 0;
  for (auto at = page->find("```json\n"); at != std::string::npos; at = page->find("```json\n", at + 1), ++examples) {
    auto text = page->substr(at + 8, page->find("```", at + 8) - at - 8);
    if (!text.starts_with('{')) text = R"({"id":"/x",)" + text + "}";
    EXPECT_EQ(problems_of(text), "") << text;
  }
  EXPECT_EQ(examples, 4);
  auto everything = read(R"({"id":"/x","args":["a"],"user":"u","env":{"A":"b","S":{"secret":"s"}},"secrets":{"s":{"source":"s"}},"labels":{"a":"b"},"acceptedResourceRoles":["*"],"resourceLimits":{"cpus":2,"mem":"unlimited"},"constraints":[["hostname","UNIQUE"]],
    "fetch":[{"uri":"http://h/f","destPath":"d"}],"taskKillGracePeriodSeconds":1,"dependencies":["/y"],"check":{},"executorResources":{},"tty":true,"storeUrls":["u"],
    "healthChecks":[{"protocol":"COMMAND","command":{"value":"x"}},{"path":"/"}],"readinessChecks":[{"portName":"http-api"}],
    "networks":[{"mode":"container","name":"n","labels":{"a":"b"}}],"container":{"type":"MESOS","docker":{"image":"i","parameters":[{"key":"init","value":"true"}]},
    "volumes":[{"containerPath":"/c","hostPath":"h"},{"containerPath":"f","secret":"s"}],"portMappings":[{"containerPort":80,"name":"http-api","networkNames":["n"]}]}})");
  std::set<std::string> names;
  std::function<void(const json::value&, bool)> collect = [&](const json::value& v, bool data) {
    if (v.is_array())
      for (const auto& e : v.get_array()) collect(e, data);
    if (!v.is_object()) return;
    for (const auto& [key, member] : v.get_object()) {
      if (!data) names.emplace(key);
      collect(member, data || key == "env" || key == "labels" || key == "versionInfo");
    }
  };
  collect(written(everything), false);
  EXPECT_GT(names.size(), 60u);
  for (const auto& name : names) EXPECT_TRUE(re2::RE2::PartialMatch(*page, "\\b" + name + "\\b")) << name << " is not explained in docs/manifest.md";
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
