// Plans, locks, cancelling, and how deployments end.
#include <gtest/gtest.h>

#include "farm.hpp"
#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator::test {
namespace {

std::string simple(std::string_view id, int instances = 1, std::string_view more = "") {
  return fmt::format(R"({{"id":"{}","cmd":"x","cpus":1,"mem":1,"ports":[],"instances":{}{}}})", id, instances, more);
}

/// "start /a /b; scale /a; scale /b"
std::string plan_of(const Farm& f, const DeploymentId& id) {
  static constexpr std::string_view kinds[] = {"start", "scale", "restart", "stop"};
  auto at = f.core().deployments().find(id);
  if (at == f.core().deployments().end()) return "none";
  std::string out;
  for (const auto& step : at->second->steps) {
    if (!out.empty()) out += "; ";
    for (std::size_t i = 0; i < step.size(); ++i) out += fmt::format("{}{} {}", i ? ", " : "", kinds[static_cast<int>(step[i].kind)], step[i].app);
  }
  return out;
}

DeploymentId put_all(Farm& f, std::initializer_list<std::string> manifests) {
  Intent intent;
  for (const auto& m : manifests) {
    auto app = app_of(m);
    intent.apps[app.id] = std::move(app);
  }
  auto done = f.change(std::move(intent));
  return done ? done->deployment : DeploymentId();
}

std::string told(Farm& f) {
  std::string out;
  for (const auto& e : f.take_events())
    for (const auto& w : wire_events(e)) out += w.type + "\n";
  return out;
}

TEST(Plan, OneAppIsStartedThenScaledUpdatedByARestartAndStopped) {
  Farm f;
  f.agent("h1");
  EXPECT_EQ(plan_of(f, f.put(simple("/a"))), "start /a; scale /a");
  f.settle(AppId("/a"), 3);
  EXPECT_EQ(plan_of(f, f.put(simple("/a", 3))), "scale /a");
  f.settle(AppId("/a"), 3);
  EXPECT_EQ(plan_of(f, f.put(simple("/a", 3, R"(,"env":{"A":"b"})"))), "restart /a");
  f.settle(AppId("/a"), 3);
  EXPECT_EQ(plan_of(f, f.restart(AppId("/a"))), "restart /a");
  f.settle(AppId("/a"), 5);
  EXPECT_EQ(plan_of(f, f.remove(AppId("/a"))), "stop /a");
  f.settle(AppId("/a"), 3);
  EXPECT_FALSE(f.deploying());
  EXPECT_TRUE(f.store.empty() || !f.store.contains("apps/a"));
}

TEST(Plan, DependenciesComeFirstAlsoThroughAppsThatDoNotChangeAndThroughGroups) {
  Farm f;
  f.agent("h1");
  EXPECT_EQ(plan_of(f, put_all(f, {simple("/web", 1, R"(,"dependencies":["/back"])"), simple("/back/api", 1, R"(,"dependencies":["/db"])"), simple("/db"), simple("/cron")})),
            "start /back/api, start /cron, start /db, start /web; scale /cron, scale /db; scale /back/api; scale /web");
  for (int i = 0; i < 5; ++i)
    for (auto id : {"/web", "/back/api", "/db", "/cron"}) f.settle(AppId(id), 1);
  ASSERT_FALSE(f.deploying());
  EXPECT_EQ(plan_of(f, put_all(f, {simple("/web", 2, R"(,"dependencies":["/back"])"), simple("/db", 2)})), "scale /db; scale /web");
}

TEST(Plan, ACircleOfDependenciesIsRefusedAndAnUnknownOneIsNot) {
  Farm f;
  EXPECT_NE(f.put(simple("/a", 1, R"(,"dependencies":["/b"])")), DeploymentId()) << "/b does not exist, which is no mistake";
  EXPECT_EQ(f.put(simple("/b", 1, R"(,"dependencies":["/a"])")), DeploymentId());
  ASSERT_TRUE(f.refusal);
  EXPECT_EQ(f.refusal->error.context, "Dependency graph has cyclic dependencies.");
  EXPECT_EQ(f.put(simple("/self", 1, R"(,"dependencies":["/self"])")), DeploymentId());
  EXPECT_EQ(f.put(simple("/g/one", 1, R"(,"dependencies":["/g"])")), DeploymentId()) << "a group that contains the app itself";
}

TEST(Plan, AnAppAndAGroupCannotHaveTheSameName) {
  Farm f;
  f.put(simple("/prod/web"));
  for (auto id : {"/prod", "/prod/web/inner", "/prod/web/a/b"}) {
    EXPECT_EQ(f.put(simple(id)), DeploymentId()) << id;
    ASSERT_TRUE(f.refusal);
    EXPECT_EQ(f.refusal->error.context, "Groups and Applications may not have the same identifier.");
    EXPECT_EQ(f.refusal->field, "/id");
  }
  EXPECT_NE(f.put(simple("/prod/web2")), DeploymentId()) << "a name that merely begins alike";
  Intent moved;  // the app makes room for the group in the same change
  moved.apps[AppId("/prod/web")] = std::nullopt;
  moved.apps[AppId("/prod/web/inner")] = app_of(simple("/prod/web/inner"));
  moved.force = true;
  EXPECT_TRUE(f.change(moved));
}

TEST(ServicePorts, AreUniqueOverAWholeChangeKeptOverUpdatesAndRunOut) {
  Farm f({.service_port_min = 10000, .service_port_max = 10004});
  auto two = [](std::string_view id, std::string_view ports) { return fmt::format(R"({{"id":"{}","cmd":"x","ports":{},"instances":0}})", id, ports); };
  put_all(f, {two("/a", "[0]"), two("/b", "[0,0]")});
  auto ports_of = [&](std::string_view id) {
    std::vector<int> out;
    for (const auto& p : f.core().app(AppId(id))->ports) out.push_back(p.port);
    return out;
  };
  EXPECT_EQ(ports_of("/a"), std::vector<int>{10000});
  EXPECT_EQ(ports_of("/b"), (std::vector<int>{10001, 10002}));
  f.put(two("/b", "[10002,0,0]"));
  EXPECT_EQ(ports_of("/b"), (std::vector<int>{10002, 10001, 10003})) << "its own number is used again, and never twice";
  EXPECT_EQ(f.put(two("/c", "[0]")), DeploymentId());
  EXPECT_EQ(f.refusal->error.context, "All ports in the range [10000-10004) are already in use");
  EXPECT_NE(f.put(two("/c", "[10000]")), DeploymentId()) << "two apps may name the same one";
}

TEST(Lock, ASecondChangeIsRefusedWithTheNameOfTheFirstUnlessForced) {
  Farm f;
  f.agent("h1");
  auto first = f.put(simple("/a", 2));
  EXPECT_EQ(f.put(simple("/a", 3)), DeploymentId());
  ASSERT_TRUE(f.refusal);
  EXPECT_EQ(f.refusal->error.code, Errc::conflict);
  EXPECT_EQ(f.refusal->locked_by, std::vector<DeploymentId>{first});
  EXPECT_NE(f.put(simple("/b", 1)), DeploymentId()) << "another app is not locked";
  (void)f.take_events();
  auto second = f.put(simple("/a", 1), true);
  EXPECT_NE(second, DeploymentId());
  EXPECT_FALSE(f.core().deployments().contains(first));
  EXPECT_NE(told(f).find("deployment_failed"), std::string::npos);
  f.settle(AppId("/a"), 3);
  EXPECT_EQ(f.running(AppId("/a")), 1u);
}

TEST(Lock, TheHundredAndFirstDeploymentIsForbidden) {
  Farm f({.deployments_max = 3});
  for (auto id : {"/a", "/b", "/c"}) EXPECT_NE(f.put(simple(id)), DeploymentId());
  EXPECT_EQ(f.put(simple("/d")), DeploymentId());
  EXPECT_EQ(f.refusal->error.code, Errc::forbidden);
  Intent stop;
  stop.cancel = f.core().deployments().begin()->first;
  stop.force = true;
  EXPECT_TRUE(f.change(stop));
  EXPECT_NE(f.put(simple("/d")), DeploymentId()) << "a cancelled one frees its place";
}

TEST(Delete, APostOfTheSameIdAtOnceWaitsUntilTheOldTasksAreGone) {
  Farm f;
  f.agent("h1");
  f.put(simple("/a", 3));
  f.settle(AppId("/a"), 3);
  std::set<TaskId> old;
  for (const auto* t : f.tasks(AppId("/a"))) old.insert(t->spec.id);
  f.remove(AppId("/a"));
  auto second = f.put(simple("/a", 3));
  ASSERT_NE(second, DeploymentId()) << "not locked: it waits";
  f.pass(Millis(5000));
  for (const auto* t : f.tasks(AppId("/a"))) EXPECT_TRUE(old.contains(t->spec.id)) << "a new one started beside the old ones";
  (void)f.take_events();
  f.settle(AppId("/a"), 5);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.running(AppId("/a")), 3u);
  for (const auto* t : f.tasks(AppId("/a"))) EXPECT_FALSE(old.contains(t->spec.id));
  EXPECT_NE(told(f).find("app_terminated_event"), std::string::npos);
}

TEST(Delete, TasksBehindADeadAgentAreKilledWhenItComesBackAndHoldNothingUp) {
  Farm f;
  f.agent("h1"), f.agent("h2");
  f.put(simple("/a", 2));
  f.settle(AppId("/a"), 3);
  f.silent("h2");
  f.pass(Millis(11'000));
  f.remove(AppId("/a"));
  f.settle(AppId("/a"), 3);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.tasks(AppId("/a")).size(), 1u);
  f.back("h2");
  f.settle(AppId("/a"), 3);
  EXPECT_TRUE(f.tasks(AppId("/a")).empty());
}

TEST(Cancel, ARollbackPutsBackWhatTheDeploymentChangedAndLeavesTheRest) {
  Farm f;
  f.agent("h1");
  f.put(simple("/a", 2));
  f.settle(AppId("/a"), 3);
  auto change = put_all(f, {simple("/a", 5), simple("/new", 1)});
  f.put(simple("/other", 1));
  Intent back;
  back.cancel = change;
  auto done = f.change(back);
  ASSERT_TRUE(done);
  EXPECT_EQ(f.core().app(AppId("/a"))->instances, 2u);
  EXPECT_EQ(f.core().app(AppId("/new")), nullptr);
  EXPECT_NE(f.core().app(AppId("/other")), nullptr);
  for (auto id : {"/a", "/new", "/other"}) f.settle(AppId(id), 4);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.running(AppId("/a")), 2u);
  EXPECT_FALSE(f.change(back)) << "the deployment is no more";
  EXPECT_EQ(f.refusal->error.code, Errc::not_found);
}

TEST(Cancel, ByForceOnlyStopsTheDefinitionStaysWhatWasWanted) {
  Farm f;
  f.agent("h1");
  f.put(simple("/a", 1));
  f.settle(AppId("/a"), 3);
  auto change = f.put(simple("/a", 2, R"(,"env":{"A":"b"})"));
  Intent stop;
  stop.cancel = change;
  stop.force = true;
  auto done = f.change(stop);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->deployment, DeploymentId());
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.core().app(AppId("/a"))->instances, 2u);
  EXPECT_EQ(f.core().app(AppId("/a"))->env.at("A"), "b");
}

TEST(KillAndScale, TakesTheNamedOnesAndNoOthers) {
  Farm f;
  f.agent("h1");
  f.put(simple("/a", 3));
  f.settle(AppId("/a"), 3);
  auto all = f.tasks(AppId("/a"));
  auto victim = all[0]->spec.id, other = all[1]->spec.id;
  Intent intent;
  auto app = *f.core().app(AppId("/a"));
  app.instances = 2;
  intent.apps[app.id] = app;
  intent.victims[app.id] = {victim};
  ASSERT_TRUE(f.change(intent));
  f.settle(AppId("/a"), 3);
  EXPECT_EQ(f.cluster().task(victim), nullptr);
  EXPECT_NE(f.cluster().task(other), nullptr);
  EXPECT_EQ(f.running(AppId("/a")), 2u);
}

TEST(KillSelection, TheYoungestGoFirstOrTheOldestWhereThatIsAskedFor) {
  for (bool oldest : {false, true}) {
    Farm f;
    f.agent("h1");
    std::string more = oldest ? R"(,"killSelection":"OLDEST_FIRST")" : "";
    f.put(simple("/a", 1, more));
    f.settle(AppId("/a"), 3);
    auto first = f.tasks(AppId("/a"))[0]->spec.id;
    f.put(simple("/a", 2, more));
    f.settle(AppId("/a"), 3);
    f.put(simple("/a", 1, more));
    f.settle(AppId("/a"), 3);
    EXPECT_EQ(f.cluster().task(first) == nullptr, oldest);
  }
}

TEST(KillSelection, WhatDoesNotServeGoesBeforeWhatDoes) {
  Farm f;
  f.agent("h1");
  f.put(simple("/a", 3));
  f.pass(Millis(250));
  auto all = f.tasks(AppId("/a"));
  ASSERT_EQ(all.size(), 3u);
  f.report(all[1]->spec.id, TaskState::running);
  f.put(simple("/a", 1), true);
  f.settle(AppId("/a"), 3);
  ASSERT_EQ(f.tasks(AppId("/a")).size(), 1u);
  EXPECT_NE(f.cluster().task(all[1]->spec.id), nullptr);
}

TEST(Events, ADeploymentIsToldInMarathonsOrder) {
  Farm f;
  f.agent("h1");
  Intent intent;
  intent.announce = true;
  intent.path = "/v2/apps";
  intent.apps[AppId("/a")] = app_of(R"({"id":"/a","cmd":"x","cpus":1,"mem":1,"healthChecks":[{"protocol":"TCP"}]})");
  ASSERT_TRUE(f.change(intent));
  f.settle(AppId("/a"), 3);
  EXPECT_EQ(told(f),
            "api_post_event\nadd_health_check_event\ngroup_change_success\ndeployment_info\ndeployment_step_success\ndeployment_info\n"
            "status_update_event\ninstance_changed_event\nstatus_update_event\ninstance_changed_event\nhealth_status_changed_event\ninstance_health_changed_event\n"
            "deployment_step_success\ndeployment_success\n");
  f.remove(AppId("/a"));
  f.settle(AppId("/a"), 3);
  auto words = told(f);
  auto at = [&](std::string_view w) { return words.find(w); };
  EXPECT_EQ(words.find("api_post_event"), std::string::npos) << words;
  EXPECT_LT(at("group_change_success"), at("deployment_info"));
  EXPECT_LT(at("deployment_info"), at("status_update_event"));
  EXPECT_LT(at("status_update_event"), at("remove_health_check_event")) << words;
  EXPECT_LT(at("remove_health_check_event"), at("app_terminated_event"));
  EXPECT_LT(at("app_terminated_event"), at("deployment_step_success"));
  EXPECT_LT(at("deployment_step_success"), at("deployment_success"));
}

TEST(Versions, AreStrictlyIncreasingAndScalingKeepsTheConfigurationsOwn) {
  Farm f;
  f.agent("h1");
  f.put(simple("/a", 1));
  auto first = *f.core().app(AppId("/a"));
  EXPECT_EQ(first.version, first.last_config_change);
  EXPECT_EQ(first.version, first.last_scaling);
  f.settle(AppId("/a"), 3);
  f.put(simple("/a", 2));
  auto scaled = *f.core().app(AppId("/a"));
  EXPECT_GT(scaled.version, first.version);
  EXPECT_EQ(scaled.last_scaling, scaled.version);
  EXPECT_EQ(scaled.last_config_change, first.version);
  EXPECT_EQ(f.core().version(AppId("/a"), first.version)->instances, 1u);
  f.now.wall -= std::chrono::hours(1);  // the clock was set back
  f.settle(AppId("/a"), 3);
  f.put(simple("/a", 2, R"(,"env":{"A":"b"})"));
  EXPECT_GT(f.core().app(AppId("/a"))->version, scaled.version);
}

TEST(Versions, OnlyTheNewestAreKept) {
  Farm f({.versions_max = 3});
  for (int i = 0; i < 6; ++i) f.put(simple("/a", 0, fmt::format(R"(,"env":{{"N":"{}"}})", i)), true);
  f.turn();
  auto view = f.core().view(AppId("/a"), f.now);
  EXPECT_EQ(view.versions.size(), 3u);
  EXPECT_TRUE(std::is_sorted(view.versions.rbegin(), view.versions.rend())) << "newest first";
  EXPECT_EQ(std::count_if(f.store.begin(), f.store.end(), [](const auto& e) { return e.first.starts_with("versions/"); }), 3);
}

}  // namespace
}  // namespace croft::orchestrator::test
