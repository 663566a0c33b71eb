// Nodes that an operator wants empty, or gives up.
#include <gtest/gtest.h>

#include "farm.hpp"

namespace croft::orchestrator::test {
namespace {

bool set(Farm& f, const std::string& host, NodeMode mode) {
  auto node = f.core().node(host, mode == NodeMode::down);
  if (!node) return false;
  Intent intent;
  intent.nodes[*node] = mode;
  return f.change(std::move(intent)).has_value();
}

int count_on(const Farm& f, const std::string& host) {
  auto spread = f.spread(a);
  return spread.contains(host) ? spread[host] : 0;
}

TEST(DrainedNode, ItsTasksMoveAndNeverFewerServe) {
  auto f = on_hosts(3, 6);
  ASSERT_EQ(count_on(f, "h1"), 2);
  ASSERT_TRUE(set(f, "h1", NodeMode::draining));
  for (int round = 0; round < 20; ++round) {
    EXPECT_GE(f.running(a), 6u) << round;
    f.start(a);
    f.obey();
    f.pass(Millis(1000));
  }
  EXPECT_EQ(count_on(f, "h1"), 0);
  EXPECT_EQ(f.running(a), 6u);
  f.put(manifest(9));
  f.settle(a, 5);
  EXPECT_EQ(f.running(a), 9u);
  EXPECT_EQ(count_on(f, "h1"), 0) << "nothing new goes there";
}

TEST(DrainedNode, OneGoesOnlyOnceAnotherIsHealthy) {
  auto f = on_hosts(2, 2, R"(,"healthChecks":[{"protocol":"HTTP","gracePeriodSeconds":1}])");
  ASSERT_TRUE(set(f, "h1", NodeMode::draining));
  f.run_only(a);
  f.pass(Millis(1000));
  EXPECT_EQ(count_on(f, "h1"), 1) << "nobody has said yet that the new one is well";
  for (const auto* t : f.tasks(a)) f.report(t->spec.id, TaskState::running, true);
  f.pass(Millis(1000));
  f.obey();
  EXPECT_EQ(count_on(f, "h1"), 0);
  EXPECT_EQ(f.running(a), 2u);
}

TEST(DrainedNode, WhatADroppedUpdateLeftOnOtherNodesStaysThere) {
  auto f = on_hosts(2, 4);
  Intent drop;
  drop.cancel = f.put(manifest(4, "", "y"));
  drop.force = true;
  ASSERT_TRUE(f.change(drop)) << "the update goes no further, and nothing is undone";
  f.settle(a, 10);
  ASSERT_NE(f.of_earlier(a), "");
  std::set<TaskId> elsewhere;
  for (const auto* t : f.tasks(a))
    if (f.host_of(*t) == "h2") elsewhere.insert(t->spec.id);
  ASSERT_TRUE(set(f, "h1", NodeMode::draining));
  f.settle(a, 20);
  EXPECT_EQ(count_on(f, "h1"), 0);
  EXPECT_EQ(f.running(a), 4u);
  for (const auto& id : elsewhere) EXPECT_TRUE(f.cluster().task(id) && f.cluster().task(id)->goal == link::Goal::run) << id.str();
}

TEST(DrainedNode, WithoutRoomElsewhereItsTasksStayAndItIsSaid) {
  auto f = on_hosts(2, 2, R"(,"constraints":[["hostname","UNIQUE"]])");
  ASSERT_TRUE(set(f, "h1", NodeMode::draining));
  f.settle(a, 10);
  EXPECT_EQ(f.running(a), 2u);
  EXPECT_EQ(count_on(f, "h1"), 1);
  auto said = f.explained(a);
  EXPECT_NE(said.find("h1 is draining: 1 of the instances stays there"), std::string::npos) << said;
  f.agent("h3");
  f.settle(a, 10);
  EXPECT_EQ(count_on(f, "h1"), 0);
  EXPECT_EQ(count_on(f, "h3"), 1);
}

TEST(DrainedNode, AnAppThatAllowsNoSecondOneAtOnceIsMovedByItsOwnStrategy) {
  auto f = on_hosts(2, 1, R"(,"upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0})");
  auto home = count_on(f, "h1") ? "h1" : "h2";
  ASSERT_TRUE(set(f, home, NodeMode::draining));
  for (int round = 0; round < 10; ++round) {
    EXPECT_LE(f.tasks(a).size(), 1u) << "never two at once";
    f.obey();
    f.start(a);
    f.pass(Millis(1000));
  }
  EXPECT_EQ(f.running(a), 1u);
  EXPECT_EQ(count_on(f, home), 0);
}

TEST(DrainedNode, ItOutlivesTheLeader) {
  auto f = on_hosts(3, 3, R"(,"constraints":[["hostname","UNIQUE"]])");
  ASSERT_TRUE(set(f, "h1", NodeMode::draining));
  f.take_over();
  for (auto host : {"h1", "h2", "h3"}) f.back(host);
  f.agent("h4");
  f.settle(a, 15);
  EXPECT_EQ(count_on(f, "h1"), 0);
  EXPECT_EQ(f.running(a), 3u);
  ASSERT_TRUE(set(f, "h1", NodeMode::active));
  f.put(manifest(4, R"(,"constraints":[["hostname","UNIQUE"]])"));
  f.settle(a, 10);
  EXPECT_EQ(count_on(f, "h1"), 1) << "it takes tasks again";
}

TEST(DrainedNode, TakenBackItKeepsWhatIsThere) {
  auto f = on_hosts(2, 2);
  ASSERT_TRUE(set(f, "h1", NodeMode::draining));
  ASSERT_TRUE(set(f, "h1", NodeMode::active));
  f.settle(a, 10);
  EXPECT_EQ(f.running(a), 2u);
  EXPECT_EQ(f.tasks(a).size(), 2u) << "what was started meanwhile and is too many has gone";
}

/// The host is silent beyond its time; a task that it has.
TaskId task_of_lost(Farm& f, const std::string& host) {
  TaskId task;
  for (const auto* t : f.tasks(a))
    if (f.host_of(*t) == host) task = t->spec.id;
  f.silent(host);
  f.pass(Millis(11'000));
  return task;
}

TEST(NodeDown, ItsTasksAreReplacedAtOnceAndItIsForgotten) {
  auto f = on_hosts(3, 3, R"(,"unreachableStrategy":"disabled")");
  f.silent("h1");
  f.pass(Millis(11'000));
  EXPECT_EQ(f.running(a), 2u) << "the strategy waits for ever";
  ASSERT_TRUE(set(f, "h1", NodeMode::down));
  f.settle(a, 5);
  EXPECT_EQ(f.running(a), 3u);
  EXPECT_FALSE(f.core().node("h1"));
  f.take_over();
  f.back("h2"), f.back("h3");
  f.settle(a, 5);
  EXPECT_EQ(f.running(a), 3u) << "a later leader does not wait for it either";
  f.back("h1");
  f.settle(a, 10);
  EXPECT_EQ(f.running(a), 3u) << "what it still ran is too many";
}

TEST(NodeDown, ThatItsTasksLiveAfterAllIsTold) {
  auto f = on_hosts(2, 2, R"(,"unreachableStrategy":"disabled")");
  auto victim = task_of_lost(f, "h1");
  ASSERT_TRUE(set(f, "h1", NodeMode::down));
  f.pass(Millis(1'000));
  auto told_of = [&] {
    std::string out;
    for (const auto& e : f.take_events())
      if (e.kind == BusEvent::Kind::status_update && e.task && e.task->spec.id == victim) out += std::string(wire_name(e.task->status.state)) + " ";
    return out;
  };
  EXPECT_NE(told_of().find("TASK_GONE_BY_OPERATOR"), std::string::npos);
  f.back("h1");
  EXPECT_EQ(told_of(), "TASK_RUNNING ");
}

TEST(NodeDown, AKillOfOneOfItsTasksWaitsForIt) {
  auto f = on_hosts(2, 2, R"(,"unreachableStrategy":"disabled")");
  auto victim = task_of_lost(f, "h1");
  f.core().kill_tasks({victim}, f.now);
  f.turn();
  ASSERT_TRUE(set(f, "h1", NodeMode::down));
  f.settle(a, 5);
  f.take_over();
  f.back("h2");
  f.settle(a, 5);
  EXPECT_TRUE(f.store.contains("kills/" + victim.str())) << "every node that is known is back, that one may live";
  f.take_over();
  f.back("h1");
  const auto* task = f.cluster().task(victim);
  EXPECT_TRUE(!task || task->goal != link::Goal::run) << "nothing else runs yet, and still it is to go";
  f.back("h2");
  f.settle(a, 10);
  EXPECT_EQ(f.running(a), 2u);
  EXPECT_FALSE(f.cluster().task(victim));
  EXPECT_FALSE(f.store.contains("kills/" + victim.str()));
}

TEST(NodeDown, WhatWasToldToGoBeforeGoesWhenItComesBackAfterAll) {
  auto f = on_hosts(2, 2);
  f.silent("h1");  // and its leader does not know yet
  f.remove(a);
  f.pass(Millis(15'000));
  f.obey();
  ASSERT_TRUE(set(f, "h1", NodeMode::down));
  f.settle(a, 5);
  ASSERT_TRUE(f.tasks(a).empty());
  EXPECT_FALSE(f.deploying()) << "the app is gone";
  f.take_over();
  f.back("h2"), f.back("h1");
  f.pass(Millis(2'000));
  auto left = f.tasks(a);
  EXPECT_TRUE(std::all_of(left.begin(), left.end(), [](const auto* t) { return t->goal != link::Goal::run; })) << "nobody else would ever end it";
  f.obey();
  f.settle(a, 5);
  EXPECT_TRUE(f.tasks(a).empty());
  EXPECT_TRUE(std::none_of(f.store.begin(), f.store.end(), [](const auto& e) { return e.first.starts_with("kills/"); }));
}

TEST(NodeDown, OneThatComesBackWhileItIsStoredStays) {
  auto f = on_hosts(2, 2, R"(,"unreachableStrategy":"disabled")");
  task_of_lost(f, "h1");
  Intent intent;
  intent.nodes[*f.core().node("h1", true)] = NodeMode::down;
  auto proposal = f.core().propose(intent, f.now);
  ASSERT_TRUE(proposal);
  f.back("h1");
  for (const auto& key : proposal->batch.remove) f.store.erase(key);
  f.core().apply(*proposal, f.now);
  f.turn();
  f.pass(Millis(2'000));
  EXPECT_EQ(f.running(a), 2u) << "its tasks are nobody's loss";
  EXPECT_TRUE(f.core().node("h1"));
  auto stored = std::any_of(f.store.begin(), f.store.end(), [](const auto& e) { return e.first.starts_with("agents/") && e.second.find("h1") != std::string::npos; });
  EXPECT_TRUE(stored) << "and the next leader knows it";
}

TEST(NodeDown, OneThatAnswersIsRefused) {
  auto f = on_hosts(2, 2);
  EXPECT_FALSE(set(f, "h1", NodeMode::down));
  ASSERT_TRUE(f.refusal);
  EXPECT_EQ(f.refusal->error.code, Errc::conflict);
  EXPECT_FALSE(f.core().node("nobody"));
}

}  // namespace
}  // namespace croft::orchestrator::test
