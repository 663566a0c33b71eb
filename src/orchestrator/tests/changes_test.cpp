// What the audit log says of a change.
#include <gtest/gtest.h>

#include "farm.hpp"
#include "orchestrator/changes.hpp"

namespace croft::orchestrator::test {
namespace {

using Lines = std::vector<std::string>;

Intent to(std::string_view manifest, const Farm& f) {
  Intent intent;
  const auto* stored = f.core().app(a);
  auto app = app_of(manifest, stored ? *stored : App{});
  intent.apps[app.id] = app;
  return intent;
}

TEST(Changes, S18_NumbersWithTheirValuesAndTheRestByName) {
  Farm f;
  f.agent("h1");
  EXPECT_EQ(changes_of(to(manifest(1), f), f.core()), Lines{"/a: new"});
  f.put(manifest(1));
  f.settle(a);
  EXPECT_EQ(changes_of(to(manifest(1), f), f.core()), Lines{"/a: nothing"});
  EXPECT_EQ(changes_of(to(manifest(3), f), f.core()), Lines{"/a: instances 1 -> 3"});
  EXPECT_EQ(changes_of(to(manifest(1, R"(,"env":{"PW":"hunter2"})", "y"), f), f.core()), Lines{"/a: cmd, env"});
  Intent intent;
  intent.apps[a] = std::nullopt;
  EXPECT_EQ(changes_of(intent, f.core()), Lines{"/a: removed"});
}

TEST(Changes, S18_TheImageIsSeenByName) {
  Farm f;
  f.agent("h1");
  std::string before = R"({"id":"/a","container":{"type":"DOCKER","docker":{"image":"web:1","network":"BRIDGE"}}})", after = before;
  after.replace(after.find("web:1"), 5, "web:2");
  f.put(before);
  EXPECT_EQ(changes_of(to(after, f), f.core()), Lines{"/a: docker.image"});
}

TEST(Changes, S18_ManyAreCountedAndLongOnesCut) {
  Farm f;
  Intent intent;
  for (int i = 0; i < 50; ++i) intent.apps[AppId(fmt::format("/x{:02}", i))] = std::nullopt;
  auto lines = changes_of(intent, f.core());
  ASSERT_EQ(lines.size(), apps_told + 1);
  EXPECT_EQ(lines.front(), "/x00: removed");
  EXPECT_EQ(lines.back(), "and 30 more");
  Farm g;
  g.agent("h1");
  Intent large;
  for (auto id : {"/a", "/b", "/c"}) {
    auto body = fmt::format(R"({{"id":"{}","cmd":"x","instances":0,"labels":{{"l":"{}"}}}})", id, std::string(600'000, 'x'));
    g.put(body);
    large.apps[AppId(id)] = app_of(fmt::format(R"({{"id":"{}","cmd":"y","instances":0}})", id), *g.core().app(AppId(id)));
  }
  EXPECT_EQ(changes_of(large, g.core()), (Lines{"/a: cmd", "/b: changed", "/c: changed"})) << "the leader's time has a bound";
  Intent rule;
  rule.rules[a] = catalog::Rule{a, std::string(1000, 'x')};
  EXPECT_LT(changes_of(rule, f.core())[0].size(), 310u);
  Intent drop;
  drop.cancel = DeploymentId("d1");
  drop.nodes[AgentId("A1")] = NodeMode::draining;
  EXPECT_EQ(changes_of(drop, f.core()), (Lines{"A1: drained", "deployment d1: rolled back"}));
}

}  // namespace
}  // namespace croft::orchestrator::test
