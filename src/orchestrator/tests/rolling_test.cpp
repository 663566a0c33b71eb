// Rolling updates: the arithmetic of minimumHealthCapacity and maximumOverCapacity, as transcripts.
#include <gtest/gtest.h>

#include <cmath>

#include "farm.hpp"

namespace croft::orchestrator::test {
namespace {

std::string capacity_manifest(int instances, double least, double over, std::string_view what, bool with_checks = false) {
  return fmt::format(R"({{"id":"/a","cmd":"{}","cpus":1,"mem":1,"ports":[0],"instances":{},"upgradeStrategy":{{"minimumHealthCapacity":{},"maximumOverCapacity":{}}}{}}})", what, instances, least, over,
                     with_checks ? R"(,"healthChecks":[{"protocol":"HTTP","gracePeriodSeconds":1}])" : "");
}

Farm with_running(int instances, double least, double over, bool with_checks = false) {
  Farm f;
  f.agent("h1");
  f.put(capacity_manifest(instances, least, over, "old", with_checks));
  f.settle(a, 3);
  EXPECT_EQ(f.running(a), static_cast<std::size_t>(instances));
  EXPECT_FALSE(f.deploying());
  return f;
}

/// One line a round: what there is of old and of new, after what was told to end has ended and before what started runs.
std::vector<std::string> transcript(Farm& f) {
  std::vector<std::string> lines;
  auto note = [&] { lines.push_back(f.of_earlier(a) + " | " + f.of_present(a)); };
  note();
  for (int round = 0; round < 40 && f.deploying(); ++round) {
    f.obey();
    f.pass(Millis(250));
    f.start(a);
    note();
  }
  return lines;
}

TEST(RollingUpdate, TenInstancesWithHalfAndAFifthGoAsMarathonsDocumentationWorksItOut) {
  auto f = with_running(10, 0.5, 0.2);
  f.put(capacity_manifest(10, 0.5, 0.2, "new"));
  EXPECT_EQ(transcript(f), (std::vector<std::string>{
      "5 ending, 5 running | 2 staging",   // five may go at once, and two more fit
      "5 ending | 7 running",              // as the five end five more start; each that runs lets one old go
      "none | 10 running",
  }));
}

TEST(RollingUpdate, OneInstanceThatMayNeverBeMissingBorrowsOneMorePlace) {
  auto f = with_running(1, 1, 0);
  f.put(capacity_manifest(1, 1, 0, "new"));
  EXPECT_EQ(transcript(f), (std::vector<std::string>{"1 running | 1 staging", "1 ending | 1 running", "none | 1 running"}));
}

TEST(RollingUpdate, WithoutAMinimumAndWithoutRoomAllStopBeforeTheFirstStarts) {
  auto f = with_running(3, 0, 0);
  f.put(capacity_manifest(3, 0, 0, "new"));
  EXPECT_EQ(transcript(f), (std::vector<std::string>{"3 ending | none", "none | 3 running"}));
}

TEST(RollingUpdate, TwiceTheRoomStartsAllNewOnesAtOnce) {
  auto f = with_running(4, 1, 1);
  f.put(capacity_manifest(4, 1, 1, "new"));
  EXPECT_EQ(transcript(f), (std::vector<std::string>{"4 running | 4 staging", "4 ending | 4 running", "none | 4 running"}));
}

TEST(RollingUpdate, TheMinimumAndTheCapacityHoldAtEveryMomentForEveryStrategy) {
  for (int n : {1, 2, 3, 5, 10})
    for (double least : {0.0, 0.3, 0.5, 0.99, 1.0})
      for (double over : {0.0, 0.2, 0.5, 1.0}) {
        auto f = with_running(n, least, over, true);
        f.put(capacity_manifest(n, least, over, "new", true));
        auto floor = static_cast<int>(std::ceil(n * least - 1e-9)), ceiling = static_cast<int>(std::floor(n * (1 + over) + 1e-9));
        if (floor == ceiling) ++ceiling;
        for (int round = 0; round < 200 && f.deploying(); ++round) {
          auto all = f.tasks(a);
          auto serving = std::count_if(all.begin(), all.end(), [](const auto* t) { return t->status.healthy == true && t->goal == link::Goal::run; });
          ASSERT_GE(serving, floor) << n << " " << least << " " << over << " round " << round;
          ASSERT_LE(static_cast<int>(all.size()), ceiling) << n << " " << least << " " << over << " round " << round;
          // One thing at a time: what starts runs first without a verdict, then one is healthy, then one ends.
          f.run_only(a);
          for (const auto* t : f.tasks(a))
            if (t->status.state == TaskState::running && !t->status.healthy) {
              f.report(t->spec.id, TaskState::running, true);
              break;
            }
          for (const auto* t : f.tasks(a))
            if (t->goal == link::Goal::kill) {
              f.report(t->spec.id, TaskState::killed);
              break;
            }
          f.pass(Millis(250));
        }
        EXPECT_FALSE(f.deploying()) << n << " " << least << " " << over << " never ends";
        EXPECT_EQ(f.of_earlier(a), "none");
        EXPECT_EQ(f.running(a), static_cast<std::size_t>(n));
      }
}

TEST(RollingUpdate, AnUpdateWhoseTasksNeverBecomeHealthyKeepsTheOldOnes) {
  auto f = with_running(4, 0.5, 0.25, true);
  f.put(capacity_manifest(4, 0.5, 0.25, "new", true));
  for (int i = 0; i < 20; ++i) f.obey(), f.run_only(a), f.pass(Millis(5000));
  EXPECT_TRUE(f.deploying());
  EXPECT_EQ(f.of_earlier(a), "2 running");
  EXPECT_EQ(f.of_present(a), "3 running");  // 5 fit, two of them serve and stay
}

TEST(RollingUpdate, OldTasksThatAreUnhealthyGoFirst) {
  auto f = with_running(4, 0.75, 0, true);
  auto sick = f.tasks(a)[2]->spec.id;
  f.report(sick, TaskState::running, false);
  f.put(capacity_manifest(4, 0.75, 0, "new", true));
  EXPECT_EQ(f.cluster().task(sick)->goal, link::Goal::kill);
  EXPECT_EQ(f.of_earlier(a), "1 ending, 3 running");
}

TEST(RollingUpdate, AnOldTaskBehindADeadAgentHoldsNothingUp) {
  Farm f;
  f.agent("h1", 4), f.agent("h2", 4), f.agent("h3", 4);
  f.put(capacity_manifest(3, 1, 0, "old"));
  f.settle(a, 3);
  f.silent("h2");
  f.pass(Millis(11'000));
  f.put(capacity_manifest(3, 1, 0, "new"));
  f.settle(a, 20);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.running(a), 3u);
  f.back("h2");
  f.settle(a, 3);
  EXPECT_EQ(f.of_earlier(a), "none") << "what the agent brings back of the old configuration is ended";
  EXPECT_EQ(f.running(a), 3u);
}

TEST(RollingUpdate, ToNoInstancesIsAPlainScaleDown) {
  auto f = with_running(3, 1, 1);
  f.put(capacity_manifest(0, 1, 1, "new"));
  ASSERT_EQ(f.core().deployments().size(), 1u);
  EXPECT_EQ(f.core().deployments().begin()->second->steps[0][0].kind, ActionKind::scale);
  f.settle(a, 3);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.tasks(a).size(), 0u);
}

TEST(RollingUpdate, ALabelAloneRestartsAndTheSameManifestDoesNot) {
  auto f = with_running(2, 1, 1);
  auto before = f.tasks(a)[0]->spec.id;
  f.put(capacity_manifest(2, 1, 1, "old"));
  EXPECT_FALSE(f.deploying());
  f.put(R"({"id":"/a","labels":{"x":"y"}})");
  ASSERT_TRUE(f.deploying());
  f.settle(a, 5);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.cluster().task(before), nullptr);
}

}  // namespace
}  // namespace croft::orchestrator::test
