// Marathon's paths as old clients use them.
#include <gtest/gtest.h>

#include "base/text.hpp"
#include "face.hpp"

namespace croft::orchestrator::test {
namespace {

const char* web = R"({"id":"web","cmd":"x","cpus":1,"mem":1,"instances":2})";

struct Running : Face {
  Running() {
    farm.agent("h1");
    ask(201, "POST", "/v2/apps", web);
    farm.settle(AppId("/web"), 3);
  }
};

TEST(Apps, APostAnswersTheStoredAppWithItsDeployment) {
  Face f;
  f.farm.agent("h1");
  auto answer = f.call("POST", "/v2/apps", web);
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.headers.get("Location"), "http://10.0.0.1:8080/v2/apps/web");
  EXPECT_EQ(answer.headers.get("X-Marathon-Leader"), "http://10.0.0.1:8080");
  EXPECT_EQ(answer.headers.get("Cache-Control"), "no-cache, no-store, must-revalidate");
  EXPECT_EQ(answer.headers.get("Content-Type"), "application/json");
  auto app = *json::parse(answer.body);
  EXPECT_EQ(at(app, "id"), "/web");
  EXPECT_EQ(at(app, "deployments.0.id"), answer.headers.get("Marathon-Deployment-Id"));
  EXPECT_EQ(at(app, "tasks"), "[]");
  EXPECT_EQ(at(app, "tasksStaged"), "0") << "although it is being started already";
  EXPECT_EQ(at(app, "portDefinitions.0.port"), "10000");
  EXPECT_EQ(at(app, "ports"), "[10000]");
  EXPECT_EQ(at(app, "version").size(), 24u);
}

TEST(Apps, WhatNobodyKnowsIsNamedAndDoesNoHarm) {
  Face f;
  f.farm.agent("h1");
  auto unknown = [&](const char* method, const char* path, const std::string& body) {
    auto answer = f.call(method, path, body);
    EXPECT_LT(answer.status, 300) << answer.body;
    return std::string(answer.headers.get("Croft-Unknown-Fields"));
  };
  EXPECT_EQ(unknown("POST", "/v2/apps", R"({"id":"web","cmd":"x","instancs":2,"healthChecks":[{"protocol":"HTTP","pathh":"/","portIndex":0}],"container":{"dokcer":{}, "type":"MESOS"},"labels":{"mine":"x"},"env":{"ANY":"y"}})"),
            "/container/dokcer, /healthChecks(0)/pathh, /instancs");
  EXPECT_EQ(unknown("PUT", "/v2/apps/web?force=true", R"({"instances":1,"cmmd":"y"})"), "/cmmd");
  EXPECT_EQ(unknown("PUT", "/v2/apps?force=true", R"([{"id":"a","cmd":"x"},{"id":"b","cmd":"x","depends":[]}])"), "(1)/depends");
  EXPECT_EQ(unknown("PUT", "/v2/groups/g?force=true", R"({"groups":[{"id":"h","apps":[{"id":"c","cmd":"x","upgradeStrategy":{"minimumHealthCapcity":1}}]}]})"), "/groups(0)/apps(0)/upgradeStrategy/minimumHealthCapcity");
  auto wrong = f.call("POST", "/v2/apps", R"({"id":"d","cmd":"x","cpu":1,"instances":-1})");
  EXPECT_EQ(wrong.status, 422);
  EXPECT_EQ(wrong.headers.get("Croft-Unknown-Fields"), "/cpu") << "a mistake beside it does not hide it";
  EXPECT_FALSE(f.call("PUT", "/v2/groups/g?force=true", R"({"scaleBy":-1})").headers.has("Croft-Unknown-Fields"));
  auto read = f.ask(200, "GET", "/v2/apps/web?embed=app.taskStats&embed=app.readiness");
  EXPECT_EQ(unknown("PUT", "/v2/apps/web?force=true", json::print(read.at("app"))), "") << "what was read may be sent";
}

TEST(Apps, ReadinessIsToldOfWhatADeploymentBrings) {
  Face f;
  f.farm.agent("h1");
  f.ask(201, "POST", "/v2/apps", R"({"id":"web","cmd":"x","cpus":1,"mem":1,"portDefinitions":[{"port":0,"name":"http-api"}],"readinessChecks":[{"name":"warm"}]})");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web?embed=app.readiness"), "app.readinessCheckResults"), "[]") << "nothing runs that could have been asked";
  auto task = f.farm.tasks(AppId("/web")).at(0)->spec.id;
  f.farm.report(task, TaskState::running, std::nullopt, {}, {}, false);
  auto not_yet = fmt::format(R"([{{"name":"warm","taskId":"{}","ready":false}}])", task);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web?embed=app.readiness"), "app.readinessCheckResults"), not_yet);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/deployments"), "0.currentActions.0.readinessCheckResults"), not_yet);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web"), "app.readinessCheckResults"), "") << "for those who ask";
  f.farm.report(task, TaskState::running);
  f.farm.settle(AppId("/web"), 2);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/deployments"), "0"), "");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web?embed=app.readiness"), "app.readinessCheckResults"), "[]") << "it is done";
}

TEST(Errors, WhatNoHandlerAnswersIsMarkedAsMarathonsAll) {
  Running f;
  for (auto [method, path, status] : {std::tuple{"GET", "/v2/nonsense", 404}, {"DELETE", "/v2/info", 405}, {"OPTIONS", "/v2/apps", 200}, {"GET", "/v2/apps/web", 200}, {"HEAD", "/v2/apps", 200}}) {
    auto answer = f.call(method, path);
    EXPECT_EQ(answer.status, status) << path;
    EXPECT_EQ(answer.headers.get("X-Marathon-Leader"), "http://10.0.0.1:8080") << method << path;
    EXPECT_EQ(answer.headers.get("Cache-Control"), "no-cache, no-store, must-revalidate") << method << path;
  }
}

TEST(Apps, AnIdThatExistsIsAConflictInMarathonsWords) {
  Running f;
  EXPECT_EQ(at(f.ask(409, "POST", "/v2/apps", web), "message"), "An app with id [/web] already exists.");
}

TEST(Apps, TheListFiltersByCommandIdAndLabels) {
  Face f;
  f.ask(201, "POST", "/v2/apps", R"({"id":"/one","cmd":"sleep 5","labels":{"tier":"front","zone":"a"}})");
  f.ask(201, "POST", "/v2/apps", R"({"id":"/two","cmd":"SERVE","labels":{"tier":"back"}})");
  auto found = [&](std::string query) {
    std::string out;
    auto answer = f.ask(200, "GET", "/v2/apps?" + query);
    for (const auto& app : json::list(answer, "apps")) out += json::text(app, "id");
    return out;
  };
  EXPECT_EQ(found(""), "/one/two");
  EXPECT_EQ(found("cmd=serve"), "/two");
  EXPECT_EQ(found("id=ONE"), "/one");
  EXPECT_EQ(found("cmd=&id="), "/one/two") << "an empty filter is none";
  EXPECT_EQ(found("label=tier"), "/one/two");
  EXPECT_EQ(found("label=tier%3D%3Dback"), "/two");
  EXPECT_EQ(found("label=zone!%3Db"), "/one") << "only apps that have the label at all";
  EXPECT_EQ(found("label=tier+in+(front,back),zone"), "/one");
  EXPECT_EQ(found("label=tier+notin+(front)"), "/two");
  EXPECT_EQ(found("cmd=sleep&label=tier%3D%3Dback"), "") << "filters combine";
  for (auto bad : {"a==", "in(", "tier in front", "==b", "a b"}) {
    if (std::string_view(bad) == "a==") continue;  // an empty value is a value
    auto answer = f.ask(422, "GET", "/v2/apps?label=" + url_encode(bad));
    EXPECT_TRUE(at(answer, "message").starts_with("Can not parse label selector")) << bad;
  }
}

TEST(Apps, WhatIsEmbeddedIsWhatWasAskedFor) {
  Running f;
  auto plain = f.ask(200, "GET", "/v2/apps");
  EXPECT_EQ(at(plain, "apps.0.tasks"), "");
  EXPECT_EQ(at(plain, "apps.0.tasksRunning"), "2");
  EXPECT_EQ(at(plain, "apps.0.deployments"), "[]");
  for (auto word : {"apps.tasks", "app.tasks", "tasks", "group.apps.tasks", "apps.failures"})
    EXPECT_NE(at(f.ask(200, "GET", std::string("/v2/apps?embed=") + word), "apps.0.tasks.1.id"), "") << word;
  auto stats = f.ask(200, "GET", "/v2/apps?embed=apps.taskStats&embed=nonsense");
  EXPECT_EQ(at(stats, "apps.0.taskStats.totalSummary.stats.counts.running"), "2");
  EXPECT_EQ(at(stats, "apps.0.taskStats.withOutdatedConfig"), "") << "absent when empty";
  auto one = f.ask(200, "GET", "/v2/apps/web?embed=nothing");
  EXPECT_NE(at(one, "app.tasks.0.id"), "");
  EXPECT_EQ(at(one, "app.lastTaskFailure"), "");
}

TEST(Apps, SlashesInTheIdAreForgiven) {
  Running f;
  for (auto path : {"/v2/apps//web", "/v2/apps///web", "/v2/apps/web/", "/v2/apps//web//"}) EXPECT_EQ(at(f.ask(200, "GET", path), "app.id"), "/web") << path;
  f.ask(200, "GET", "/v2/apps/");
  f.ask(200, "GET", "/v2/apps//web/tasks");
  f.ask(200, "GET", "/v2/apps//web/versions");
  EXPECT_EQ(f.call("POST", "/v2/apps//web/restart").status, 200);
}

TEST(Apps, AStarGivesAllBelowAGroup) {
  Running f;
  f.ask(201, "PUT", "/v2/apps/prod/db", R"({"cmd":"x"})");
  EXPECT_EQ(json::list(f.ask(200, "GET", "/v2/apps/*"), "*").size(), 2u);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/prod/*"), "*.0.id"), "/prod/db");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/nowhere/*"), "*"), "[]");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/apps/nowhere/*/tasks"), "message"), "Group '/nowhere' does not exist");
  EXPECT_EQ(json::list(f.ask(200, "GET", "/v2/apps/*/tasks"), "tasks").size(), 2u + 1u);
}

TEST(Apps, WhatIsReadAndPutBackChangesNothing) {
  Running f;
  auto app = f.ask(200, "GET", "/v2/apps/web");
  auto answer = f.ask(200, "PUT", "/v2/apps/web", json::print(*json::find(app, "app")));
  EXPECT_NE(at(answer, "deploymentId"), "");
  EXPECT_FALSE(f.farm.deploying());
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web"), "app.version"), at(app, "app.version"));
}

TEST(Apps, APutMergesFieldsAndReplacesThemWhole) {
  Running f;
  f.ask(200, "PUT", "/v2/apps/web?force=true", R"({"env":{"A":"1","B":"2"},"mem":null})");
  f.ask(200, "PUT", "/v2/apps/web?force=true", R"({"env":{"B":"3"}})");
  auto app = f.ask(200, "GET", "/v2/apps/web");
  EXPECT_EQ(at(app, "app.env"), R"({"B":"3"})");
  EXPECT_EQ(at(app, "app.mem"), "1") << "null keeps what is stored";
  EXPECT_EQ(at(app, "app.instances"), "2");
  f.ask(200, "PUT", "/v2/apps/web?force=true&partialUpdate=false", R"({"cmd":"y"})");
  app = f.ask(200, "GET", "/v2/apps/web");
  EXPECT_EQ(at(app, "app.env"), "{}");
  EXPECT_EQ(at(app, "app.mem"), "128");
  EXPECT_EQ(at(app, "app.instances"), "1");
  f.ask(200, "PATCH", "/v2/apps/web?force=true", R"({"args":["a","b"]})");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web"), "app.cmd"), "") << "args take the place of cmd";
}

TEST(Apps, APutMakesWhatIsNotThereAndAPatchDoesNot) {
  Face f;
  auto made = f.call("PUT", "/v2/apps/new/one", R"({"id":"/other/name","cmd":"x"})");
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(made.headers.get("Location"), "http://10.0.0.1:8080/v2/apps/new/one");
  EXPECT_NE(at(*json::parse(made.body), "version"), "");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/new/one"), "app.id"), "/new/one") << "the path's id counts";
  EXPECT_EQ(at(f.ask(404, "PATCH", "/v2/apps/gone", R"({"instances":1})"), "message"), "App '/gone' does not exist");
}

TEST(Apps, AVersionAloneRollsBack) {
  Running f;
  auto first = at(f.ask(200, "GET", "/v2/apps/web"), "app.version");
  f.ask(200, "PUT", "/v2/apps/web", R"({"cmd":"y","instances":3})");
  f.farm.settle(AppId("/web"), 5);
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/apps/web", fmt::format(R"({{"version":"{}","instances":1}})", first)), "message"), "The 'version' field may only be combined with the 'id' field.");
  EXPECT_EQ(at(f.ask(404, "PUT", "/v2/apps/web", R"({"version":"2015-01-01T00:00:00.000Z"})"), "message"), "App '/web' does not exist in version 2015-01-01T00:00:00.000Z");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/apps/web", R"({"version":"yesterday"})"), "message"), "Invalid timestamp provided 'yesterday'. Expecting ISO-8601 datetime string.");
  f.ask(200, "PUT", "/v2/apps/web", fmt::format(R"({{"id":"web","version":"{}"}})", first));
  auto app = f.ask(200, "GET", "/v2/apps/web");
  EXPECT_EQ(at(app, "app.cmd"), "x");
  EXPECT_EQ(at(app, "app.instances"), "2");
  EXPECT_GT(at(app, "app.version"), first);
  EXPECT_EQ(json::list(f.ask(200, "GET", "/v2/apps/web/versions"), "versions").size(), 3u);
  auto old = f.ask(200, "GET", "/v2/apps/web/versions/" + first);
  EXPECT_EQ(at(old, "cmd"), "x") << "bare, without a wrapper";
  EXPECT_EQ(at(old, "tasksRunning"), "") << "and without what runs";
  f.ask(422, "GET", "/v2/apps/web/versions/never");
  f.ask(404, "GET", "/v2/apps/web/versions/2015-01-01T00:00:00.000Z");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/apps/none/versions/2015-01-01T00:00:00.000Z"), "message"), "App '/none' does not exist");
}

TEST(Apps, ABulkPutIsOneDeploymentAndNamesTheElementThatIsWrong) {
  Face f;
  f.farm.agent("h1");
  auto done = f.ask(200, "PUT", "/v2/apps", R"([{"id":"/a","cmd":"x"},{"id":"/b","cmd":"x"}])");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/deployments"), "0.affectedApps"), R"(["/a","/b"])");
  EXPECT_NE(at(done, "deploymentId"), "");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/apps?force=true", R"([{"id":"/a"},{"id":"/b","cpus":"many"}])"), "details.0.path"), "(1)/cpus");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/apps", R"([{"cmd":"x"}])"), "details.0.path"), "(0)/id");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/apps", R"([{"id":"/a"},{"id":"a"}])"), "details.0.path"), "(1)/id");
  EXPECT_EQ(at(f.ask(404, "PATCH", "/v2/apps?force=true", R"([{"id":"/a","instances":2},{"id":"/none","instances":2}])"), "message"), "App '/none' does not exist");
}

TEST(BadInput, BodiesHaveTheirStatusAndWords) {
  Running f;
  EXPECT_EQ(at(f.ask(400, "POST", "/v2/apps", "{"), "message"), "Invalid JSON");
  EXPECT_NE(at(f.ask(400, "POST", "/v2/apps", "{"), "details"), "");
  for (auto body : {"", "   ", "[]", "5", "\"x\"", "null"}) EXPECT_EQ(at(f.ask(400, "POST", "/v2/apps", body), "message"), "Please specify data in JSON format") << body;
  EXPECT_EQ(at(f.ask(400, "PUT", "/v2/apps", "{}"), "message"), "Please specify data in JSON format");
  EXPECT_EQ(at(f.ask(400, "PUT", "/v2/apps/web", "[]"), "message"), "Please specify data in JSON format");
  auto missing = f.ask(422, "POST", "/v2/apps", R"({"cmd":"x"})");
  EXPECT_EQ(at(missing, "message"), "Invalid JSON");
  EXPECT_EQ(at(missing, "details.0.path"), "/id");
  EXPECT_EQ(at(missing, "details.0.errors.0"), "error.path.missing");
  auto wrong = f.ask(422, "PUT", "/v2/apps/web", R"({"cmd":5,"upgradeStrategy":{"minimumHealthCapacity":"all"}})");
  EXPECT_EQ(at(wrong, "details.0.errors.0"), "error.expected.jsstring");
  EXPECT_EQ(at(wrong, "details.1.path"), "/upgradeStrategy/minimumHealthCapacity");
  EXPECT_EQ(at(wrong, "details.1.errors.0"), "error.expected.jsnumber");
  auto senseless = f.ask(422, "PUT", "/v2/apps/web", R"({"upgradeStrategy":{"minimumHealthCapacity":2}})");
  EXPECT_EQ(at(senseless, "message"), "Object is not valid");
  EXPECT_EQ(at(senseless, "details.0.errors.0"), "got 2.0, expected 1.0 or less");
  for (auto id : {"/v2/apps/Upper", "/v2/apps/under_score", "/v2/apps/web/restart", "/v2/apps/-x", "/v2/apps/a/tasks"})
    EXPECT_EQ(at(f.ask(422, "PUT", id, R"({"cmd":"x"})"), "details.0.path"), "/id") << id;
}

TEST(BadInput, UnknownThingsAreNamed) {
  Running f;
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/apps/none"), "message"), "App '/none' does not exist");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/apps/a/b/tasks"), "message"), "App '/a/b' does not exist");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/apps/none"), "message"), "App '/none' does not exist");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/apps/web/restart"), "message"), "App '/web/restart' does not exist") << "a segment of an id, not a verb";
  EXPECT_EQ(at(f.ask(404, "POST", "/v2/apps/none/restart"), "message"), "App '/none' does not exist");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/apps/none/versions"), "message"), "App '/none' does not exist");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/apps/web/tasks/web.none"), "message"), "Task 'web.none' does not exist");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/deployments/none"), "message"), "DeploymentPlan none does not exist");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/groups/none"), "message"), "Group '/none' does not exist");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/queue//web/delay"), "message"), "Application /web not found in tasks queue.");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/nonsense"), "message"), "URI not found: /v2/nonsense");
  for (auto [method, path] : {std::pair{"DELETE", "/v2/apps"}, {"POST", "/v2/deployments"}, {"PUT", "/v2/info"}, {"POST", "/v2/apps/web"}}) {
    auto answer = f.call(method, path, "{}");
    EXPECT_EQ(answer.status, 405) << method << path;
    EXPECT_NE(answer.headers.get("Allow"), "");
  }
}

TEST(Locked, AChangeIsAConflictThatNamesTheDeployment) {
  Face f;
  f.farm.agent("h1");
  auto first = f.call("POST", "/v2/apps", web);
  auto locked = f.ask(409, "PUT", "/v2/apps/web", R"({"instances":5})");
  EXPECT_EQ(at(locked, "message"), "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.");
  EXPECT_EQ(at(locked, "deployments.0.id"), first.headers.get("Marathon-Deployment-Id"));
  f.ask(409, "POST", "/v2/apps/web/restart");
  f.ask(200, "PUT", "/v2/apps/web?force=true", R"({"instances":5})");
  f.ask(200, "DELETE", "/v2/apps/web");  // forced unless it says otherwise
}

TEST(Tasks, HaveMarathonsFieldsAndNoOthers) {
  Running f;
  static const std::set<std::string> known = {"id", "appId", "host", "ports", "servicePorts", "ipAddresses", "slaveId", "state", "stagedAt", "startedAt", "version", "healthCheckResults", "localVolumes", "role", "region", "zone"};
  auto list = f.ask(200, "GET", "/v2/tasks");
  ASSERT_EQ(json::list(list, "tasks").size(), 2u);
  for (const auto& task : json::list(list, "tasks"))
    for (const auto& field : task.get_object()) EXPECT_TRUE(known.contains(std::string(field.key()))) << field.key();
  EXPECT_EQ(at(list, "tasks.0.state"), "TASK_RUNNING");
  EXPECT_EQ(at(list, "tasks.0.appId"), "/web");
  EXPECT_EQ(at(list, "tasks.0.servicePorts"), "[10000]");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/tasks?status=staging"), "tasks"), "[]");
  EXPECT_EQ(json::list(f.ask(200, "GET", "/v2/tasks?status[]=running&status[]=staging"), "tasks").size(), 2u);
}

TEST(Tasks, AsTextAreOneLineAServicePort) {
  Running f;
  net::Headers plain;
  plain.set("Accept", "text/plain");
  auto text = f.call("GET", "/v2/tasks", {}, plain).body;
  ASSERT_EQ(split(text, '\n').size(), 2u) << text;
  auto words = split(split(text, '\n')[0], '\t');
  ASSERT_EQ(words.size(), 5u) << text;
  EXPECT_EQ(words[0], "web");
  EXPECT_EQ(words[1], "10000");
  EXPECT_TRUE(words[2].starts_with("h1:31")) << text;
  f.ask(201, "PUT", "/v2/apps/a/b", R"({"cmd":"x","ports":[]})");
  EXPECT_NE(f.call("GET", "/v2/apps/a/b/tasks", {}, plain).body.find("a_b\t \t"), std::string::npos);
}

TEST(Tasks, AKillAnswersTheKilledAndTheyAreReplaced) {
  Running f;
  auto id = f.farm.tasks(AppId("/web"))[0]->spec.id.str();
  EXPECT_EQ(at(f.ask(200, "DELETE", "/v2/apps/web/tasks/" + id), "task.id"), id);
  f.farm.settle(AppId("/web"), 3);
  EXPECT_EQ(f.farm.running(AppId("/web")), 2u);
  EXPECT_EQ(json::list(f.ask(200, "DELETE", "/v2/apps/web/tasks?host=h1"), "tasks").size(), 2u);
  f.farm.settle(AppId("/web"), 3);
  EXPECT_EQ(json::list(f.ask(200, "DELETE", "/v2/apps/web/tasks?host=elsewhere"), "tasks").size(), 0u);
  id = f.farm.tasks(AppId("/web"))[0]->spec.id.str();
  EXPECT_EQ(json::list(f.ask(200, "POST", "/v2/tasks/delete", fmt::format(R"({{"ids":["{}","web.unknown"]}})", id)), "tasks").size(), 1u) << "unknown ones are passed over";
  EXPECT_TRUE(at(f.ask(400, "POST", "/v2/tasks/delete", R"({"ids":["nonsense"]})"), "message").starts_with("Invalid task id 'nonsense'"));
  EXPECT_EQ(at(f.ask(422, "POST", "/v2/tasks/delete", R"({"ids":[5]})"), "details.0.path"), "/ids(0)");
  EXPECT_EQ(at(f.ask(422, "POST", "/v2/tasks/delete", "{}"), "details.0.errors.0"), "error.path.missing");
}

TEST(Tasks, AKillWithScaleLowersTheInstances) {
  Running f;
  auto id = f.farm.tasks(AppId("/web"))[0]->spec.id.str();
  EXPECT_EQ(at(f.ask(400, "DELETE", "/v2/apps/web/tasks/" + id + "?scale=true&wipe=true"), "message"), "You cannot use scale and wipe at the same time.");
  EXPECT_NE(at(f.ask(200, "DELETE", "/v2/apps/web/tasks/" + id + "?scale=true"), "deploymentId"), "");
  f.farm.settle(AppId("/web"), 3);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web"), "app.instances"), "1");
  f.ask(200, "DELETE", "/v2/apps/web/tasks?scale=true");
  f.farm.settle(AppId("/web"), 3);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web"), "app.instances"), "0");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/apps/web/tasks?scale=true"), "message"), "Path '/web' does not exist");
}

TEST(Tasks, ThatDrainAreToldAsKilledSoThatNobodySendsThemRequests) {
  Running f;
  f.farm.catalog().confirm({{BalancerId("b:8000"), "b", ""}, f.farm.catalog().index(), {}}, f.farm.now);
  auto id = f.farm.tasks(AppId("/web"))[0]->spec.id.str();
  f.ask(200, "DELETE", "/v2/apps/web/tasks/" + id);
  auto app = f.ask(200, "GET", "/v2/apps/web");
  EXPECT_EQ(at(app, "app.tasksRunning"), "1");
  std::map<std::string, std::string> states;
  for (const auto& task : json::list(*json::find(app, "app"), "tasks")) states[json::text(task, "id")] = json::text(task, "state");
  EXPECT_EQ(states.at(id), "TASK_KILLING");
}

TEST(Queue, SaysHowManyWaitAndWhy) {
  Face f;
  f.farm.agent("small", 0.5);
  f.ask(201, "POST", "/v2/apps", web);
  auto queue = f.ask(200, "GET", "/v2/queue?embed=lastUnusedOffers");
  EXPECT_EQ(at(queue, "queue.0.count"), "2");
  EXPECT_EQ(at(queue, "queue.0.delay.overdue"), "true");
  EXPECT_EQ(at(queue, "queue.0.app.id"), "/web");
  EXPECT_EQ(at(queue, "queue.0.app.tasksRunning"), "");
  EXPECT_EQ(at(queue, "queue.0.processedOffersSummary.unusedOffersCount"), "1");
  EXPECT_EQ(at(queue, "queue.0.processedOffersSummary.rejectSummaryLastOffers.4.reason"), "InsufficientCpus");
  EXPECT_EQ(at(queue, "queue.0.processedOffersSummary.rejectSummaryLastOffers.4.declined"), "1");
  EXPECT_EQ(at(queue, "queue.0.processedOffersSummary.rejectSummaryLastOffers.5.processed"), "0");
  EXPECT_EQ(at(queue, "queue.0.lastUnusedOffers.0.offer.hostname"), "small");
  EXPECT_EQ(at(queue, "queue.0.lastUnusedOffers.0.reason"), R"(["InsufficientCpus"])");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/queue"), "queue.0.lastUnusedOffers"), "");
}

TEST(Queue, ADelayIsShownAndTakenAway) {
  Running f;
  f.ask(200, "PUT", "/v2/apps/web", R"({"backoffSeconds":90})");
  f.farm.settle(AppId("/web"), 5);
  f.farm.crash(AppId("/web"));
  auto queue = f.ask(200, "GET", "/v2/queue");
  EXPECT_EQ(at(queue, "queue.0.delay.overdue"), "false");
  EXPECT_NE(at(queue, "queue.0.delay.timeLeftSeconds"), "0");
  auto failure = f.ask(200, "GET", "/v2/apps/web");
  EXPECT_EQ(at(failure, "app.lastTaskFailure.state"), "TASK_FAILED");
  EXPECT_EQ(at(failure, "app.lastTaskFailure.message"), "exited with status 1");
  EXPECT_EQ(f.call("DELETE", "/v2/queue//web/delay").status, 204);
  EXPECT_EQ(f.farm.of_present(AppId("/web")), "2 staging");
}

TEST(Deployments, AreListedAndEndedInBothWays) {
  Face f;
  f.farm.agent("h1");
  f.ask(201, "POST", "/v2/apps", web);
  auto list = f.ask(200, "GET", "/v2/deployments");
  EXPECT_EQ(at(list, "0.affectedApps"), R"(["/web"])");
  EXPECT_EQ(at(list, "0.steps.0.actions.0.action"), "StartApplication");
  EXPECT_EQ(at(list, "0.currentActions.0.action"), "ScaleApplication");
  EXPECT_EQ(at(list, "0.currentStep"), "2");
  EXPECT_EQ(at(list, "0.totalSteps"), "2");
  auto forced = f.call("DELETE", "/v2/deployments/" + at(list, "0.id") + "?force=true");
  EXPECT_EQ(forced.status, 202);
  EXPECT_EQ(forced.body, "");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/deployments"), "0.id"), "");
  f.ask(200, "GET", "/v2/apps/web");
  f.farm.settle(AppId("/web"), 3);
  auto change = at(f.ask(200, "PUT", "/v2/apps/web", R"({"instances":7})"), "deploymentId");
  auto back = f.ask(200, "DELETE", "/v2/deployments/" + change);
  EXPECT_NE(at(back, "deploymentId"), change);
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/web"), "app.instances"), "2");
}

TEST(Groups, AreReadAsATreeByEmbedAndByVersion) {
  Face f;
  f.ask(201, "PUT", "/v2/apps/top", R"({"cmd":"x"})");
  auto put = f.ask(201, "PUT", "/v2/apps/prod/web/front", R"({"cmd":"x"})");
  auto root = f.ask(200, "GET", "/v2/groups");
  EXPECT_EQ(at(root, "id"), "/");
  EXPECT_EQ(at(root, "apps.0.id"), "/top");
  EXPECT_EQ(at(root, "groups.0.groups.0.apps.0.id"), "/prod/web/front");
  EXPECT_EQ(at(root, "pods"), "[]");
  EXPECT_EQ(at(root, "version"), at(put, "version"));
  auto only_groups = f.ask(200, "GET", "/v2/groups//prod?embed=group.groups");
  EXPECT_EQ(at(only_groups, "groups.0.id"), "/prod/web");
  EXPECT_EQ(at(only_groups, "groups.0.apps"), "");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/groups/prod/apps"), "0.id"), "/prod/web/front");
  f.ask(200, "PUT", "/v2/apps/prod/web/front?force=true", R"({"cmd":"y"})");
  auto versions = f.ask(200, "GET", "/v2/groups/prod/versions");
  ASSERT_EQ(versions.get_array().size(), 2u);
  auto then = f.ask(200, "GET", "/v2/groups/prod/versions/" + at(versions, "1"));
  EXPECT_EQ(at(then, "groups.0.apps.0.cmd"), "x");
  f.ask(404, "GET", "/v2/groups/prod/versions/2015-01-01T00:00:00.000Z");
  f.ask(422, "GET", "/v2/groups/prod/versions/never");
}

TEST(Groups, AreMadeChangedScaledAndRemovedAsOneDeployment) {
  Face f;
  f.farm.agent("h1");
  auto settle = [&] {
    for (int i = 0; i < 8; ++i)
      for (const auto& [id, app] : std::map(f.farm.core().apps())) f.farm.settle(id, 1);
    f.farm.settle(AppId("/none"), 4);
  };
  auto body = R"({"id":"product","groups":[{"id":"db","apps":[{"id":"mongo","cmd":"x","instances":2}]},
                  {"id":"service","dependencies":["/product/db"],"apps":[{"id":"/product/service/web","cmd":"x","dependencies":["../../db"]}]}]})";
  auto made = f.call("POST", "/v2/groups", body);
  EXPECT_EQ(made.status, 201) << made.body;
  EXPECT_EQ(made.headers.get("Location"), "http://10.0.0.1:8080/v2/groups/product");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/deployments"), "0.steps"),
            R"([{"actions":[{"action":"StartApplication","app":"/product/db/mongo"},{"action":"StartApplication","app":"/product/service/web"}]},)"
            R"({"actions":[{"action":"ScaleApplication","app":"/product/db/mongo"}]},{"actions":[{"action":"ScaleApplication","app":"/product/service/web"}]}])");
  EXPECT_EQ(at(f.ask(409, "POST", "/v2/groups", body), "message"), "Group /product is already created. Use PUT to change this group.");
  settle();
  ASSERT_FALSE(f.farm.deploying());
  auto first = at(f.ask(200, "GET", "/v2/groups/product/versions"), "0");
  auto dry = f.ask(200, "PUT", "/v2/groups/product?dryRun=true", R"({"groups":[{"id":"db"}]})");
  EXPECT_EQ(at(dry, "steps.0.actions.0.action"), "StopApplication");
  EXPECT_EQ(at(dry, "steps.0.actions.0.app"), "/product/service/web");
  EXPECT_FALSE(f.farm.deploying());
  f.ask(200, "PUT", "/v2/groups/product", R"({"scaleBy":1.5})");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/product/db/mongo"), "app.instances"), "3");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/product/service/web"), "app.instances"), "2") << "rounded up";
  EXPECT_EQ(at(f.ask(409, "PUT", "/v2/groups/product", R"({"scaleBy":2})"), "deployments.0.id").size(), 36u);
  settle();
  f.ask(200, "PUT", "/v2/groups/product", fmt::format(R"({{"version":"{}"}})", first));
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/apps/product/db/mongo"), "app.instances"), "2");
  settle();
  f.ask(200, "PUT", "/v2/groups/product", R"({"groups":[{"id":"db"}]})");
  f.ask(404, "GET", "/v2/apps/product/service/web");
  f.ask(200, "GET", "/v2/apps/product/db/mongo");
  settle();
  f.ask(200, "DELETE", "/v2/groups/product");
  EXPECT_EQ(at(f.ask(404, "DELETE", "/v2/groups/product"), "message"), "Group '/product' does not exist");
  settle();
  EXPECT_FALSE(f.farm.deploying());
}

TEST(Groups, NameWhatIsWrongWithItsPlace) {
  Face f;
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/groups/g", R"({"apps":[{"id":"a","cmd":"x"},{"id":"b","cmd":"x","cpus":"many"}]})"), "details.0.path"), "/apps(1)/cpus");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/groups/g", R"({"groups":[{"id":"h","apps":[{"cmd":"x"}]}]})"), "details.0.path"), "/groups(0)/apps(0)/id");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/groups/g", R"({"apps":[{"id":"/elsewhere","cmd":"x"}]})"), "details.0.errors.0"), "Identifier is not child of '/g'");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/groups/g", R"({"apps":{}})"), "details.0.path"), "/apps");
  EXPECT_EQ(at(f.ask(422, "PUT", "/v2/groups/g", R"({"scaleBy":2,"apps":[]})"), "details.0.errors.0"), "not allowed in conjunction with other properties.");
  f.ask(404, "PUT", "/v2/groups/g", R"({"version":"2015-01-01T00:00:00.000Z"})");
  f.ask(400, "PUT", "/v2/groups/g", "[]");
}

TEST(Rest, WithoutALeaderNothingIsAnsweredThatLooksLikeAnEmptyFarm) {
  Face f;
  f.leader->leads = false;
  EXPECT_EQ(at(f.ask(502, "GET", "/v2/apps"), "message"), "Could not determine the current leader");
  EXPECT_EQ(at(f.ask(404, "GET", "/v2/leader"), "message"), "There is no leader");
  EXPECT_EQ(f.call("GET", "/ping").status, 200);
}

TEST(Rest, InfoLeaderAndPingAnswerAsClientsExpect) {
  Face f;
  auto info = f.ask(200, "GET", "/v2/info");
  EXPECT_EQ(at(info, "name"), "marathon");
  EXPECT_EQ(at(info, "leader"), "10.0.0.1:8080");
  EXPECT_EQ(at(info, "http_config.http_port"), "8080");
  EXPECT_EQ(at(info, "marathon_config.local_port_min"), "10000");
  EXPECT_EQ(at(f.ask(200, "GET", "/v2/leader"), "leader"), "10.0.0.1:8080");
  auto ping = [&](std::string_view accept) {
    net::Headers h;
    if (!accept.empty()) h.set("Accept", accept);
    auto answer = f.call("GET", "/ping", {}, h);
    return fmt::format("{} {}", answer.status, answer.body);
  };
  EXPECT_EQ(ping(""), "200 pong");
  EXPECT_EQ(ping("*/*"), "200 pong");
  EXPECT_EQ(ping("text/html"), "200 pong");
  EXPECT_EQ(ping("application/json"), "200 \"pong\"");
  EXPECT_EQ(ping("image/png"), "204 ");
}

TEST(Events, AreFramedFilteredAndRefusedWithoutTheRightAccept) {
  Face f;
  f.farm.agent("h1");
  f.ask(201, "POST", "/v2/apps", web);
  f.leader->events = f.farm.take_events();
  auto all = f.stream("/v2/events");
  EXPECT_TRUE(all.starts_with("event: event_stream_attached\r\ndata: {\"eventType\":\"event_stream_attached\"")) << all;
  EXPECT_NE(all.find("\"remoteAddress\":\"192.0.2.1\"}\r\n\r\n"), std::string::npos);
  auto post = all.substr(all.find("event: api_post_event"));
  auto data = *json::parse(post.substr(post.find("data: ") + 6, post.find("\r\n\r\n") - post.find("data: ") - 6));
  EXPECT_EQ(at(data, "clientIp"), "192.0.2.1");
  EXPECT_EQ(at(data, "uri"), "/v2/apps");
  EXPECT_EQ(at(data, "appDefinition.id"), "/web");
  auto info = all.substr(all.find("event: deployment_info"));
  data = *json::parse(info.substr(info.find("data: ") + 6, info.find("\r\n\r\n") - info.find("data: ") - 6));
  EXPECT_EQ(at(data, "plan.steps.0.actions.0.action"), "StartApplication");
  EXPECT_EQ(at(data, "plan.steps.0.actions.0.type"), "StartApplication");
  EXPECT_EQ(at(data, "currentStep.actions.0.app"), "/web");
  f.farm.start(AppId("/web"));
  f.leader->events = f.farm.take_events();
  auto some = f.stream("/v2/events?event_type=deployment_success&event_type=nonsense");
  EXPECT_EQ(some.find("event_stream_attached"), std::string::npos);
  EXPECT_TRUE(some.starts_with("event: deployment_success\r\n")) << some;
  EXPECT_EQ(f.call("GET", "/v2/events").status, 405);
}

}  // namespace
}  // namespace croft::orchestrator::test
