#include <gtest/gtest.h>

#include "farm.hpp"
#include "orchestrator/constraints.hpp"

namespace croft::orchestrator::test {
namespace {

using Spread = std::map<std::string, int>;

std::string with(std::string_view constraints, int instances, std::string_view what = "x", std::string_view more = "") {
  return fmt::format(R"({{"id":"/a","cmd":"{}","cpus":1,"mem":1,"ports":[],"instances":{},"constraints":{}{}}})", what, instances, constraints, more);
}

Farm racks() {
  Farm f;
  f.agent("h1", 100, 1000, {{"rack", "a"}, {"disks", "2"}});
  f.agent("h2", 100, 1000, {{"rack", "a"}});
  f.agent("h3", 100, 1000, {{"rack", "b"}, {"disks", "4.0004"}});
  f.agent("h4", 100, 1000, {});
  return f;
}

Spread placed(std::string_view constraints, int instances) {
  auto f = racks();
  f.put(with(constraints, instances));
  return f.spread(a);
}

TEST(Constraint, UniqueGivesEachHostOneAndSaysWhyTheRestWaits) {
  auto f = racks();
  f.put(with(R"([["hostname","UNIQUE"]])", 5));
  EXPECT_EQ(f.spread(a), (Spread{{"h1", 1}, {"h2", 1}, {"h3", 1}, {"h4", 1}}));
  auto view = f.core().view(a, f.now);
  ASSERT_TRUE(view.queue);
  EXPECT_EQ(view.queue->count, 1u);
  EXPECT_EQ(view.queue->by_reason[static_cast<std::size_t>(cluster::Refusal::constraint)], 4u);
  EXPECT_NE(f.explained(a).find("h1 cannot take one: it has hostname h1 with 1 instance already, and the constraint is hostname UNIQUE (UnfulfilledConstraint)."), std::string::npos) << f.explained(a);
}

TEST(Constraint, ClusterKeepsAllTogether) {
  EXPECT_EQ(placed(R"([["hostname","CLUSTER","h3"]])", 3), (Spread{{"h3", 3}}));
  EXPECT_EQ(placed(R"([["hostname","CLUSTER"]])", 3).size(), 1u) << "with whichever came first";
  auto by_rack = placed(R"([["rack","CLUSTER","a"]])", 4);
  EXPECT_EQ(by_rack, (Spread{{"h1", 2}, {"h2", 2}}));
}

TEST(Constraint, LikeAndUnlikeMatchTheWholeValueAndOnlyUnlikeTakesHostsWithoutTheAttribute) {
  EXPECT_EQ(placed(R"([["rack","LIKE","[bc]"]])", 2), (Spread{{"h3", 2}}));
  EXPECT_EQ(placed(R"([["hostname","LIKE","h"]])", 2), Spread{}) << "a part of the name is no match";
  EXPECT_EQ(placed(R"([["rack","UNLIKE","a"]])", 2), (Spread{{"h3", 1}, {"h4", 1}}));
}

TEST(Constraint, MaxPerBoundsEachValue) {
  EXPECT_EQ(placed(R"([["rack","MAX_PER","2"]])", 9), (Spread{{"h1", 1}, {"h2", 1}, {"h3", 2}}));
  EXPECT_EQ(placed(R"([["hostname","MAX_PER","0"]])", 1), Spread{});
}

TEST(Constraint, IsComparesTextAndNumbersToThreeDecimals) {
  EXPECT_EQ(placed(R"([["rack","IS","b"]])", 1), (Spread{{"h3", 1}}));
  EXPECT_EQ(placed(R"([["disks","IS","4"]])", 1), (Spread{{"h3", 1}}));
  EXPECT_EQ(placed(R"([["disks","IS","2.0"]])", 1), (Spread{{"h1", 1}}));
}

TEST(Constraint, GroupByFillsTheGroupsAlikeWithAndWithoutTheirNumber) {
  for (auto constraint : {R"([["rack","GROUP_BY"]])", R"([["rack","GROUP_BY","2"]])"}) {
    auto got = placed(constraint, 6);
    EXPECT_EQ(got["h1"] + got["h2"], 3) << constraint;
    EXPECT_EQ(got["h3"], 3) << constraint;
    EXPECT_EQ(got["h4"], 0) << "no rack";
  }
  auto one = placed(R"([["rack","GROUP_BY","1"]])", 4);
  EXPECT_TRUE(one["h3"] == 4 || one["h1"] + one["h2"] == 4) << "one group at most";
}

TEST(Constraint, ScalingDownTakesFromTheBiggestGroup) {
  auto f = racks();
  f.put(with(R"([["rack","GROUP_BY"]])", 6));
  f.settle(a, 3);
  f.put(with(R"([["rack","GROUP_BY"]])", 4));
  f.settle(a, 3);
  auto got = f.spread(a);
  EXPECT_EQ(got["h1"] + got["h2"], 2);
  EXPECT_EQ(got["h3"], 2);
}

TEST(Constraint, SeveralHoldTogether) {
  EXPECT_EQ(placed(R"([["rack","LIKE","a"],["hostname","UNIQUE"]])", 4), (Spread{{"h1", 1}, {"h2", 1}}));
}

TEST(Constraint, TheEarlierConfigurationDoesNotCountSoThatAnUpdateCanGoOnTheSameHosts) {
  auto f = racks();
  f.put(with(R"([["hostname","UNIQUE"]])", 4));
  f.settle(a, 3);
  f.put(with(R"([["hostname","UNIQUE"]])", 4, "y"));
  f.settle(a, 10);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.spread(a), (Spread{{"h1", 1}, {"h2", 1}, {"h3", 1}, {"h4", 1}}));
}

TEST(Constraint, ARetiredInstanceMakesRoomForTheNext) {
  auto f = racks();
  f.put(with(R"([["hostname","UNIQUE"]])", 4, "x", R"(,"backoffSeconds":0)"));
  f.settle(a, 3);
  const auto* one = f.tasks(a)[1];
  auto host = f.host_of(*one);
  f.report(one->spec.id, TaskState::failed);
  f.pass(Millis(500));
  EXPECT_EQ(f.spread(a)[host], 1);
}

TEST(Constraint, EveryMistakeHasMarathonsWords) {
  EXPECT_EQ(constraint_problem({"hostname"}), "Each constraint must have either 2 or 3 fields");
  EXPECT_EQ(constraint_problem({"hostname", "UNIQUE", "x", "y"}), "Each constraint must have either 2 or 3 fields");
  EXPECT_EQ(constraint_problem({"hostname", "NEAR"}), "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS");
  EXPECT_EQ(constraint_problem({"hostname", "UNIQUE", "x"}), "UNIQUE does not accept a value");
  EXPECT_EQ(constraint_problem({"rack", "GROUP_BY", "two"}), "GROUP BY must define an integer value or else no value at all");
  EXPECT_EQ(constraint_problem({"rack", "MAX_PER"}), "MAX_PER requires an integer value");
  EXPECT_EQ(constraint_problem({"rack", "LIKE"}), "LIKE and UNLIKE require a non-empty, regular expression value");
  EXPECT_EQ(constraint_problem({"rack", "UNLIKE", "("}), "'(' is not a valid regular expression");
  for (const auto& good : std::vector<std::vector<std::string>>{{"hostname", "unique"}, {"rack", "GROUP_BY"}, {"rack", "GROUP_BY", "3"}, {"rack", "CLUSTER"}, {"rack", "LIKE", "a|b"}, {"rack", "IS", "a"}})
    EXPECT_EQ(constraint_problem(good), "") << good[1];
}

}  // namespace
}  // namespace croft::orchestrator::test
