// What is lost and comes back, what balancers may still send requests to, and what a new leader must not count: found by the simulation.
#include <gtest/gtest.h>

#include "farm.hpp"

namespace croft::orchestrator::test {
namespace {

constexpr std::string_view checked = R"(,"healthChecks":[{"protocol":"HTTP","gracePeriodSeconds":1}])";
constexpr std::string_view patient = R"(,"unreachableStrategy":"disabled")";

TaskId task_on(const Farm& f, const std::string& host) {
  for (const auto* t : f.tasks(a))
    if (f.host_of(*t) == host) return t->spec.id;
  return {};
}

void balancer_confirms(Farm& f) { f.catalog().confirm({{BalancerId("b:8000"), "b", "10.0.0.9"}, f.catalog().index(), {}}, f.now), f.turn(); }

std::size_t told_to_go(const Farm& f) {
  auto all = f.tasks(a);
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const auto* t) { return t->goal != link::Goal::run; }));
}

// --- quarantine ---

TEST(Quarantine, EndsWhenAnOperatorSaysSo) {
  auto f = on_hosts(1, 1);
  auto task = task_on(f, "h1");
  f.store.clear();
  f.take_over();
  f.back("h1");
  f.pass(Millis(60'000));
  ASSERT_EQ(f.tasks(a).size(), 1u) << "what the store does not know is not killed";
  EXPECT_NE(f.explained(a).find("of it runs all the same, on h1"), std::string::npos) << f.explained(a);
  EXPECT_EQ(f.core().kill_tasks({task}, f.now).size(), 1u);
  f.turn();
  f.pass(Millis(15'000));
  f.obey();
  EXPECT_TRUE(f.tasks(a).empty());
}

// --- lost nodes and the brake ---

TEST(LostNodes, WhatWasReplacedDoesNotCountAgainWhenTheBrakeComesOn) {
  auto f = on_hosts(5, 5);
  f.silent("h1");
  f.pass(Millis(11'000));
  f.start(a);
  ASSERT_EQ(f.running(a), 5u) << "replaced";
  f.silent("h2"), f.silent("h3");
  f.pass(Millis(11'000));
  ASSERT_NE(f.explained(a).find("Too many nodes were lost"), std::string::npos) << f.explained(a);
  EXPECT_EQ(told_to_go(f), 0u);
}

TEST(LostNodes, ALeadersSilenceOrAnotherInstancesCrashDoesNotMakeTheLossForgotten) {
  auto lost = [] {
    auto f = on_hosts(4, 4, R"(,"unreachableStrategy":{"inactiveAfterSeconds":300,"expungeAfterSeconds":600})");
    f.silent("h1");
    f.pass(Millis(11'000));
    EXPECT_EQ(f.running(a), 3u);
    return f;
  };
  auto f = lost();
  f.now.mono += Millis(5'000), f.now.wall += Millis(5'000);  // nothing is heard, and no time runs out
  f.turn();
  f.pass(Millis(320'000));
  f.start(a);
  EXPECT_EQ(f.running(a), 4u) << "replaced, five seconds later than without";

  auto g = lost();
  g.report(task_on(g, "h2"), TaskState::failed);
  g.turn();
  g.pass(Millis(5'000));
  g.start(a);
  EXPECT_EQ(g.running(a), 3u);
  g.pass(Millis(320'000));
  g.start(a);
  EXPECT_EQ(g.running(a), 4u) << "the crash had its own time";
}

TEST(LostNodes, ThoseThatAreAwayAreNoReasonToEndOneThatIsThere) {
  auto f = on_hosts(5, 5);
  f.silent("h1");
  f.pass(Millis(11'000));
  f.start(a);
  f.silent("h2"), f.silent("h3");
  f.pass(Millis(11'000));
  f.back("h1");  // with the task that was replaced: six by name, of which three or four are there
  f.pass(Millis(1000));
  EXPECT_LT(f.running(a), 5u);
  EXPECT_EQ(told_to_go(f), 0u);
  f.back("h2"), f.back("h3");
  f.settle(a, 12);
  EXPECT_EQ(f.running(a), 5u) << "now one is too many";
}

TEST(LostNodes, TheBrakeEndsByItselfAfterAMinute) {
  auto f = on_hosts(4, 4);
  f.silent("h2"), f.silent("h3"), f.silent("h4");
  f.pass(Millis(12'000));
  EXPECT_EQ(f.of_present(a), "1 running, 3 unreachable");
  f.pass(Millis(60'000));
  EXPECT_EQ(f.of_present(a), "1 running, 3 staging, 3 unreachable");
}

TEST(LostNodes, WhatNoLongerCountsLeavesTheCatalog) {
  auto f = on_hosts(3, 3, R"(,"unreachableStrategy":{"inactiveAfterSeconds":30,"expungeAfterSeconds":60})");
  auto lost = task_on(f, "h2");
  f.silent("h2");
  f.pass(Millis(20'000));
  EXPECT_TRUE(f.catalog().content().endpoints.contains(lost)) << "it may well serve still";
  f.pass(Millis(25'000));
  EXPECT_FALSE(f.catalog().content().endpoints.contains(lost));
}

TEST(LostNodes, ANewOneThatIsBackAfterItsPlaceWasTakenGoesAlsoInTheMiddleOfAnUpdate) {
  auto f = on_hosts(5, 3, std::string(checked) + R"(,"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":1})");
  f.put(manifest(3, std::string(checked) + R"(,"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":1})", "new"));
  f.run_only(a);  // three new ones beside the three, without a verdict yet
  ASSERT_EQ(f.of_present(a), "3 running");
  std::string host;
  for (const auto* t : f.tasks(a))
    if (t->spec.app_version >= f.core().app(a)->last_config_change) host = f.host_of(*t);
  f.silent(host);
  f.pass(Millis(11'000));
  f.run_only(a);
  f.back(host);
  f.pass(Millis(500));
  std::size_t stay = 0;
  for (const auto* t : f.tasks(a)) stay += t->spec.app_version >= f.core().app(a)->last_config_change && t->goal == link::Goal::run;
  EXPECT_EQ(stay, 3u);
  EXPECT_TRUE(f.deploying());
}

// --- who may still get requests ---

TEST(Routed, ATaskOnASilentNodeIsDrainedAsAnyOtherWhetherItOrItsAppIsToGo) {
  for (bool app_goes : {false, true}) {
    SCOPED_TRACE(app_goes);
    auto f = on_hosts(3, 3, patient);
    balancer_confirms(f);
    auto task = task_on(f, "h2");
    f.silent("h2");
    for (int i = 0; i < 11; ++i) f.pass(Millis(1000)), balancer_confirms(f);
    ASSERT_EQ(f.cluster().task(task)->status.state, TaskState::unreachable);
    if (app_goes) f.remove(a);
    else f.core().kill_tasks({task}, f.now), f.turn();
    EXPECT_EQ(f.cluster().task(task)->goal, link::Goal::drain) << "the balancer sends it requests";
    if (!app_goes) {
      EXPECT_TRUE(f.catalog().content().endpoints.at(task).draining);
      f.back("h2");
    }
    EXPECT_EQ(f.cluster().task(task)->goal, link::Goal::drain);
    balancer_confirms(f);
    EXPECT_EQ(f.cluster().task(task)->goal, link::Goal::kill);
  }
}

TEST(Routed, OneThatHasJustFailedItsChecksEndsWhenTheBalancersKnow) {
  auto f = on_hosts(3, 3, checked);
  balancer_confirms(f);
  auto task = task_on(f, "h1");
  f.report(task, TaskState::running, false);
  f.core().kill_tasks({task}, f.now);
  f.turn();
  EXPECT_EQ(f.cluster().task(task)->goal, link::Goal::drain) << "the balancer has not heard of it yet";
  balancer_confirms(f);
  EXPECT_EQ(f.cluster().task(task)->goal, link::Goal::kill);
  auto other = task_on(f, "h2");
  f.report(other, TaskState::running, false);
  balancer_confirms(f);
  f.core().kill_tasks({other}, f.now);
  f.turn();
  EXPECT_EQ(f.cluster().task(other)->goal, link::Goal::kill) << "out of rotation everywhere: nothing to wait for";
}

TEST(Routed, OneThatIsAskedAsALastResortIsDrained) {
  auto f = on_hosts(2, 2, checked);
  auto one = task_on(f, "h1"), other = task_on(f, "h2");
  for (const auto& task : {one, other}) f.report(task, TaskState::running, false);
  balancer_confirms(f);
  f.core().kill_tasks({one}, f.now);
  f.turn();
  EXPECT_EQ(f.cluster().task(one)->goal, link::Goal::drain) << "nobody serves, so balancers ask it";
}

TEST(Routed, OneThatWasALastResortEndsWhenTheBalancersKnowOfABetterOne) {
  for (bool confirmed : {false, true}) {
    auto f = on_hosts(2, 2, checked);
    auto one = task_on(f, "h1"), other = task_on(f, "h2");
    for (const auto& task : {one, other}) f.report(task, TaskState::running, false);
    balancer_confirms(f);
    f.report(other, TaskState::running, true);
    if (confirmed) balancer_confirms(f);
    f.core().kill_tasks({one}, f.now);
    f.turn();
    EXPECT_EQ(f.cluster().task(one)->goal, confirmed ? link::Goal::kill : link::Goal::drain);
  }
}

}  // namespace
}  // namespace croft::orchestrator::test
