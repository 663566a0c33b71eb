// Apps held at what they should be: back-off, crash loops, lost agents, drains, a new leader, explain.
#include <gtest/gtest.h>

#include "farm.hpp"

namespace croft::orchestrator::test {
namespace {

std::string simple(int instances = 1, std::string_view more = "") {
  return fmt::format(R"({{"id":"/a","cmd":"x","cpus":1,"mem":1,"ports":[],"instances":{}{}}})", instances, more);
}

Farm running_on(std::initializer_list<std::string> hosts, int instances, std::string_view more = "") {
  Farm f;
  for (const auto& h : hosts) f.agent(h);
  f.put(simple(instances, more));
  f.settle(a, 3);
  EXPECT_EQ(f.running(a), static_cast<std::size_t>(instances));
  return f;
}

/// How long the app waits after each of a row of crashes, in seconds.
std::vector<std::int64_t> delays(Farm& f, int crashes) {
  std::vector<std::int64_t> out;
  for (int i = 0; i < crashes; ++i) {
    f.start(a);
    f.crash(a);
    auto view = f.core().view(a, f.now);
    out.push_back(view.queue ? view.queue->delay_left.count() / 1000 : 0);
    f.pass(Millis(out.back() * 1000 + 500));
  }
  return out;
}

TEST(BackOff, GrowsByItsFactorUpToItsLimit) {
  auto f = running_on({"h1"}, 1, R"(,"backoffSeconds":2,"backoffFactor":3,"maxLaunchDelaySeconds":60)");
  EXPECT_EQ(delays(f, 6), (std::vector<std::int64_t>{2, 6, 18, 54, 60, 60}));
  EXPECT_NE(f.explained(a).find("Last failure"), std::string::npos) << f.explained(a);
}

TEST(Explain, ACheckOfAWrongPathIsNoMatterOfGrace) {
  Farm f;
  f.agent("h1");
  f.put(manifest(1, R"(,"healthChecks":[{"protocol":"HTTP","path":"/health","gracePeriodSeconds":7}])"));
  f.settle(a, 3);
  f.report(f.tasks(a)[0]->spec.id, TaskState::killed, std::nullopt, "REASON_TASK_HEALTH_CHECK_KILLED", "health check HTTP on port 31000 failed 4 times in a row: GET /health: HTTP 404");
  EXPECT_NE(f.explained(a).find("It answered, but not with a status of 200 to 399: see healthChecks.path."), std::string::npos) << f.explained(a);
  f.pass(Millis(2'000));
  f.settle(a, 3);
  f.report(f.tasks(a)[0]->spec.id, TaskState::killed, std::nullopt, "REASON_TASK_HEALTH_CHECK_KILLED", "health check HTTP on port 31000 failed 4 times in a row: no answer within 20 s");
  EXPECT_EQ(f.explained(a).find("see healthChecks.path"), std::string::npos) << f.explained(a);
  EXPECT_NE(f.explained(a).find("raise healthChecks.gracePeriodSeconds: it is 7."), std::string::npos) << f.explained(a);
}

TEST(Explain, ATaskThatLostAProcessToItsMemoryLimitSaysSo) {
  auto f = running_on({"h1"}, 1);
  f.report(f.tasks(a)[0]->spec.id, TaskState::running, std::nullopt, "", "the kernel killed a process of it for using more than its 1 MiB of mem");
  EXPECT_NE(f.explained(a).find("runs on, but the kernel killed a process of it"), std::string::npos) << f.explained(a);
}

TEST(BackOff, IsVisibleInTheQueueAndInWords) {
  auto f = running_on({"h1"}, 1, R"(,"backoffSeconds":30,"backoffFactor":2)");
  f.crash(a);
  auto view = f.core().view(a, f.now);
  ASSERT_TRUE(view.queue);
  EXPECT_EQ(view.queue->count, 1u);
  EXPECT_EQ(view.queue->delay_left, Millis(30'000));
  EXPECT_NE(f.explained(a).find("1 instance is held back for 30 s more after 1 failure in a row (backoffSeconds 30, backoffFactor 2, maxLaunchDelaySeconds 300)"), std::string::npos) << f.explained(a);
  EXPECT_EQ(f.explained(a).find("croft logs"), std::string::npos) << "it did not exit by itself";
  f.pass(Millis(29'000));
  EXPECT_TRUE(f.tasks(a).empty());
  f.pass(Millis(1'500));
  EXPECT_EQ(f.of_present(a), "1 staging");
}

TEST(BackOff, IsForgottenAfterALongCalmByANewConfigurationByARestartAndByHand) {
  auto loop = R"(,"backoffSeconds":5,"backoffFactor":2,"maxLaunchDelaySeconds":20)";
  {
    auto f = running_on({"h1"}, 1, loop);
    EXPECT_EQ(delays(f, 3), (std::vector<std::int64_t>{5, 10, 20}));
    f.start(a);
    f.pass(Millis(41'000));  // the delay and maxLaunchDelaySeconds
    EXPECT_EQ(delays(f, 1), std::vector<std::int64_t>{5}) << "calm";
  }
  for (int how = 0; how < 3; ++how) {
    auto f = running_on({"h1"}, 1, loop);
    EXPECT_EQ(delays(f, 3), (std::vector<std::int64_t>{5, 10, 20}));
    f.start(a);
    f.crash(a);
    EXPECT_GT(f.core().view(a, f.now).queue->delay_left.count(), 0);
    if (how == 0) f.put(simple(1, std::string(loop) + R"(,"env":{"A":"b"})"));
    else if (how == 1) f.restart(a);
    else f.core().reset_delay(a), f.turn();
    EXPECT_EQ(f.of_present(a), "1 staging") << how;
  }
}

TEST(BackOff, IsNeitherResetNorPassedByByScaling) {
  auto f = running_on({"h1"}, 1, R"(,"backoffSeconds":60,"backoffFactor":1)");
  f.crash(a);
  f.put(simple(3, R"(,"backoffSeconds":60,"backoffFactor":1)"));
  f.pass(Millis(30'000));
  EXPECT_TRUE(f.tasks(a).empty());
  f.pass(Millis(31'000));
  EXPECT_EQ(f.of_present(a), "3 staging");
}

TEST(BackOff, GrowsForWhatEndsByItselfAndNotForWhatIsKilled) {
  for (auto [state, grows] : {std::pair{TaskState::failed, true}, {TaskState::finished, true}, {TaskState::error, true}, {TaskState::killed, false}}) {
    auto f = running_on({"h1"}, 1, R"(,"backoffSeconds":60)");
    f.report(f.tasks(a)[0]->spec.id, state);
    EXPECT_EQ(f.tasks(a).empty(), grows) << wire_name(state);
    EXPECT_EQ(f.core().view(a, f.now).last_failure.has_value(), state == TaskState::failed || state == TaskState::error) << wire_name(state);
  }
}

TEST(Unreachable, ByDefaultReplacedAtOnceAndTheReplacementGoesWhenTheOldIsBackFirst) {
  auto f = running_on({"h1", "h2", "h3"}, 3);
  f.silent("h2");
  f.pass(Millis(11'000));
  EXPECT_EQ(f.of_present(a), "2 running, 1 staging, 1 unreachable");
  f.back("h2");
  EXPECT_EQ(f.of_present(a), "1 ending, 3 running") << "what serves stays, what only starts goes";
}

TEST(Unreachable, OnceItsReplacementServesTheLostOneIsTheOneToGo) {
  auto f = running_on({"h1", "h2", "h3"}, 3);
  TaskId lost;
  for (const auto* t : f.tasks(a))
    if (f.host_of(*t) == "h2") lost = t->spec.id;
  f.silent("h2");
  f.pass(Millis(11'000));
  f.start(a);
  f.back("h2");
  EXPECT_EQ(f.cluster().task(lost)->goal, link::Goal::kill);
  f.settle(a, 3);
  EXPECT_EQ(f.running(a), 3u);
}

TEST(Unreachable, WaitsAsLongAsItsStrategySaysAndForEverWhenThatIsDisabled) {
  auto f = running_on({"h1", "h2", "h3"}, 3, R"(,"unreachableStrategy":{"inactiveAfterSeconds":60,"expungeAfterSeconds":120})");
  f.silent("h2");
  f.pass(Millis(60'000));
  EXPECT_EQ(f.of_present(a), "2 running, 1 unreachable");
  f.pass(Millis(15'000));
  EXPECT_EQ(f.of_present(a), "2 running, 1 staging, 1 unreachable");
  auto g = running_on({"h1", "h2", "h3"}, 3, R"(,"unreachableStrategy":"disabled")");
  g.silent("h2");
  g.pass(Millis(600'000));
  EXPECT_EQ(g.of_present(a), "2 running, 1 unreachable");
  EXPECT_NE(g.explained(a).find("is on a node that does not answer"), std::string::npos);
}

TEST(Brake, WhenTooManyNodesAreLostAtOnceNothingIsReplaced) {
  auto f = running_on({"h1", "h2", "h3", "h4"}, 4);
  f.silent("h2"), f.silent("h3"), f.silent("h4");
  f.pass(Millis(12'000));
  EXPECT_EQ(f.of_present(a), "1 running, 3 unreachable");
  EXPECT_NE(f.explained(a).find("Too many nodes were lost within a minute"), std::string::npos) << f.explained(a);
  f.back("h2");
  EXPECT_EQ(f.of_present(a), "2 running, 2 unreachable") << "still too many";
  f.back("h3"), f.back("h4");
  f.obey();
  EXPECT_EQ(f.of_present(a), "4 running");
}

TEST(Brake, ANodeThatComesAndGoesIsOneLoss) {
  auto f = running_on({"h1", "h2", "h3", "h4"}, 4);
  for (int i = 0; i < 2; ++i) {
    f.silent("h2");
    f.pass(Millis(12'000));
    EXPECT_EQ(f.of_present(a), "3 running, 1 staging, 1 unreachable") << i;
    if (i == 1) break;
    f.back("h2");
    f.settle(a, 10);
    EXPECT_EQ(f.of_present(a), "4 running");
  }
}

// --- drains ---

const char* balanced = R"({"id":"/a","cmd":"x","cpus":1,"mem":1,"ports":[0],"instances":2})";

catalog::Confirmation confirmation(const Farm& f, std::map<TaskId, std::uint32_t> open = {}) {
  return {{BalancerId("b:8000"), "b", "10.0.0.9"}, f.catalog().index(), std::move(open)};
}

/// Two instances behind one balancer, of which one was told to go.
struct Draining {
  Farm f{Options{.drain_time = Millis(10'000)}};
  TaskId task;
  Draining() {
    f.agent("h1");
    f.put(balanced);
    f.settle(a, 3);
    f.catalog().confirm(confirmation(f), f.now);
    task = f.tasks(a)[0]->spec.id;
    f.core().kill_tasks({task}, f.now);
    f.turn();
  }
  link::Goal goal() { return f.cluster().task(task)->goal; }
  void confirm(std::uint32_t open) { f.catalog().confirm(confirmation(f, {{task, open}}), f.now), f.turn(); }
  std::string why() {
    std::string out;
    for (const auto& e : f.take_events())
      if (e.kind == BusEvent::Kind::drain_ended) out += e.text;
    return out;
  }
};

TEST(Drain, WaitsForTheBalancersWordAndForTheOpenRequests) {
  Draining d;
  EXPECT_EQ(d.goal(), link::Goal::drain);
  EXPECT_TRUE(d.f.catalog().content().endpoints.at(d.task).draining);
  d.f.pass(Millis(1000));
  EXPECT_EQ(d.goal(), link::Goal::drain);
  d.confirm(2);
  EXPECT_EQ(d.goal(), link::Goal::drain) << "confirmed, and two requests are under way";
  d.confirm(0);
  EXPECT_EQ(d.goal(), link::Goal::kill);
  EXPECT_EQ(d.why(), "all balancers confirmed and its requests ended");
}

TEST(Drain, EndsWhenItsTimeIsOverAlthoughARequestGoesOn) {
  Draining d;
  d.confirm(1);
  for (int i = 0; i < 9; ++i) d.f.pass(Millis(1000)), d.confirm(1);
  EXPECT_EQ(d.goal(), link::Goal::drain);
  for (int i = 0; i < 3 && d.goal() == link::Goal::drain; ++i) d.f.pass(Millis(1000)), d.confirm(1);
  EXPECT_EQ(d.goal(), link::Goal::kill);
  EXPECT_EQ(d.why(), "the drain time is over");
}

TEST(Drain, ABalancerThatDiesDoesNotHoldItLongerThanItsLease) {
  Draining d;
  d.f.pass(Millis(5000));  // the lease is 3 s
  EXPECT_EQ(d.goal(), link::Goal::kill);
  EXPECT_EQ(d.why(), "the leases of the balancers ended");
}

TEST(Drain, WithoutABalancerItEndsAtOnceAndWithoutAPortThereIsNone) {
  Farm f;
  f.agent("h1");
  f.put(balanced);
  f.settle(a, 3);
  f.core().kill_tasks({f.tasks(a)[0]->spec.id}, f.now);
  f.turn();
  EXPECT_EQ(f.of_present(a), "1 ending, 1 running, 1 staging") << "and the next is on its way";
  auto g = running_on({"h1"}, 1);
  g.core().kill_tasks({g.tasks(a)[0]->spec.id}, g.now);
  g.turn();
  for (const auto& e : g.take_events()) EXPECT_NE(e.kind, BusEvent::Kind::drain_started);
}

TEST(Drain, ThatAnEarlierLeaderBeganGoesOnAndEnds) {
  Draining d;
  d.f.report(d.task, TaskState::running);  // the agent has the drain in its record by now
  d.f.take_over();
  d.f.back("h1");
  EXPECT_NE(d.goal(), link::Goal::run);
  d.f.pass(Millis(15'000));
  EXPECT_EQ(d.goal(), link::Goal::kill);
}

// --- a new leader ---

TEST(TakeOver, WhatRunsIsKeptAndNothingIsStartedTwice) {
  auto f = running_on({"h1", "h2"}, 4);
  std::set<TaskId> before;
  for (const auto* t : f.tasks(a)) before.insert(t->spec.id);
  f.take_over();
  f.back("h1");
  f.pass(Millis(2000));
  EXPECT_EQ(f.of_present(a), "2 running") << "the others are charged to h2";
  EXPECT_NE(f.explained(a).find("2 instances are charged to nodes that have not come back"), std::string::npos) << f.explained(a);
  f.back("h2");
  f.pass(Millis(20'000));
  EXPECT_EQ(f.of_present(a), "4 running");
  for (const auto* t : f.tasks(a)) EXPECT_TRUE(before.contains(t->spec.id));
}

TEST(TakeOver, WhatDoesNotComeBackInTimeIsReplaced) {
  auto f = running_on({"h1", "h2"}, 4);
  f.take_over();
  f.back("h1");
  f.pass(Millis(11'000));
  EXPECT_EQ(f.of_present(a), "2 running, 2 staging");
}

TEST(TakeOver, WhatAnAgentLostMeanwhileIsReplacedAtOnceWhenAllAreBack) {
  auto f = running_on({"h1", "h2"}, 4);
  TaskId lost;
  for (const auto* t : f.tasks(a))
    if (f.host_of(*t) == "h2") lost = t->spec.id;
  f.take_over();
  f.without("h2", lost);
  f.back("h1"), f.back("h2");
  EXPECT_EQ(f.of_present(a), "3 running, 1 staging");
}

TEST(TakeOver, ADeploymentGoesOnWithWhatIsDoneAlready) {
  auto f = running_on({"h1"}, 4, R"(,"upgradeStrategy":{"minimumHealthCapacity":0.5,"maximumOverCapacity":0})");
  f.put(simple(4, R"(,"env":{"A":"b"},"upgradeStrategy":{"minimumHealthCapacity":0.5,"maximumOverCapacity":0})"));
  f.obey();
  f.start(a);
  auto done = f.of_present(a);
  ASSERT_EQ(done, "2 running");
  f.take_over();
  f.back("h1");
  EXPECT_EQ(f.of_present(a), "2 running");
  f.settle(a, 8);
  EXPECT_FALSE(f.deploying());
  EXPECT_EQ(f.running(a), 4u);
  EXPECT_EQ(f.of_earlier(a), "none");
}

TEST(TakeOver, ADeploymentThatHadEndedIsNotCarriedOutAgainstALaterChange) {
  auto f = running_on({"h1"}, 1);
  f.keep_progress = false;  // the end of the next deployments does not reach the store
  f.put(simple(2));
  f.settle(a, 3);
  f.put(simple(5));
  f.settle(a, 3);
  f.take_over();
  f.keep_progress = true;
  f.back("h1");
  f.settle(a, 5);
  EXPECT_EQ(f.core().app(a)->instances, 5u);
  EXPECT_EQ(f.running(a), 5u);
  EXPECT_FALSE(f.deploying());
}

TEST(TakeOver, ARemovedAppsTasksAreKilledWhenTheirAgentComesBackToTheNextLeader) {
  auto f = running_on({"h1", "h2"}, 2);
  f.take_over();
  f.back("h1");
  f.remove(a);
  f.settle(a, 5);
  f.pass(Millis(11'000));
  f.take_over();
  f.back("h1"), f.back("h2");
  f.settle(a, 5);
  EXPECT_TRUE(f.tasks(a).empty()) << f.of_earlier(a);
}

/// Removed, and made anew under the same id; a leader dies at each moment of it, and the nodes come back before or after the new one is asked for.
TEST(TakeOver, AnAppMadeAnewUnderItsIdHasNoTaskOfTheOneBefore) {
  for (int when = 0; when < 6; ++when) {
    auto f = running_on({"h1", "h2"}, 2);
    std::set<TaskId> old;
    for (const auto* t : f.tasks(a)) old.insert(t->spec.id);
    auto next = [&] { f.take_over(); };
    auto both = [&] { f.back("h1"), f.back("h2"); };
    f.remove(a);
    if (when == 0) next(), both(), f.put(manifest(2, "", "new"));
    if (when == 1) next(), f.put(manifest(2, "", "new")), both();
    if (when == 2) f.put(manifest(2, "", "new")), next(), both();
    if (when == 3) f.turn(), f.put(manifest(2, "", "new")), f.turn(), next(), f.back("h1"), f.pass(Millis(500)), f.back("h2");
    if (when == 4) next(), f.back("h1"), f.put(manifest(2, "", "new")), f.pass(Millis(500)), f.back("h2");
    if (when == 5) next(), f.put(manifest(2, "", "new")), next(), both();
    for (int i = 0; i < 4; ++i) f.settle(a, 10), f.pass(Millis(5000));
    EXPECT_FALSE(f.deploying()) << when;
    EXPECT_EQ(f.running(a), 2u) << when;
    for (const auto* t : f.tasks(a)) EXPECT_FALSE(old.contains(t->spec.id)) << "at moment " << when << ": " << f.explained(a);
  }
}

/// The new one is changed by force while the removal still waits for a node that fell silent: that drops the removal, and nothing but the store remembers it.
TEST(TakeOver, ARemovalDroppedByForceForTheNewAppsSakeIsCarriedOutAllTheSame) {
  for (bool progress_stored : {true, false}) {
    auto f = running_on({"h1", "h2"}, 2);
    std::set<TaskId> old;
    for (const auto* t : f.tasks(a)) old.insert(t->spec.id);
    f.silent("h2");  // and not yet found out
    f.remove(a);
    f.turn();
    f.put(manifest(2, "", "new"));
    f.turn();
    f.keep_progress = progress_stored;
    ASSERT_FALSE(f.put(manifest(3, "", "new"), true).empty());
    f.turn();
    f.take_over();
    f.keep_progress = true;
    f.back("h1"), f.back("h2");
    for (int i = 0; i < 6; ++i) f.settle(a, 10), f.pass(Millis(5000));
    EXPECT_FALSE(f.deploying()) << f.explained(a);
    EXPECT_EQ(f.running(a), 3u) << f.explained(a);
    for (const auto* t : f.tasks(a)) EXPECT_FALSE(old.contains(t->spec.id)) << f.explained(a);
    for (const auto& [key, value] : f.store) EXPECT_FALSE(key.starts_with("kills/") || key.starts_with("removed/")) << key;
  }
}

TEST(TakeOver, ARemovalDroppedMidwayIsCarriedOutByTheNextLeaderOnANodeThatWasSilent) {
  auto f = running_on({"h1", "h2"}, 2);
  f.silent("h2");  // and not yet found out
  auto removal = f.remove(a);
  f.turn();
  Intent drop;
  drop.cancel = removal;
  drop.force = true;
  ASSERT_TRUE(f.change(drop));
  f.turn();
  f.take_over();
  f.back("h1"), f.back("h2");
  f.settle(a, 10);
  EXPECT_TRUE(f.tasks(a).empty()) << f.explained(a);
}

TEST(TakeOver, AKillThatAUserAskedForIsCarriedOutByTheNextLeader) {
  auto f = running_on({"h1", "h2"}, 2);
  f.silent("h2");
  TaskId there;
  for (const auto* t : f.tasks(a))
    if (f.host_of(*t) == "h2") there = t->spec.id;
  EXPECT_EQ(f.core().kill_tasks({there, TaskId("a.unknown")}, f.now), std::vector<TaskId>{there});
  f.turn();
  f.take_over();
  f.back("h1"), f.back("h2");
  EXPECT_EQ(f.cluster().task(there)->goal, link::Goal::kill);
}

TEST(TakeOver, ABrokenRecordIsNamed) {
  Farm f;
  f.put(simple(1));
  for (auto broken : {"{", R"({"id":5})", R"({"format":99,"id":"/a","cmd":"x"})"}) {
    auto stored = f.store;
    stored["apps/a"] = broken;
    cluster::Cluster cluster({.cluster_id = "test", .epoch = 9});
    catalog::Publisher catalog({.epoch = 9});
    Orchestrator core(cluster, catalog, {});
    auto loaded = core.load(stored, f.now);
    ASSERT_FALSE(loaded) << broken;
    EXPECT_NE(loaded.error().context.find("apps/a"), std::string::npos) << loaded.error().context;
  }
}

// --- explain ---

TEST(Explain, SaysWhatIsMissingWhereAndWhichFieldToChange) {
  Farm f;
  EXPECT_EQ(f.explained(a), "There is no app /a.\n");
  f.put(simple(2));
  EXPECT_NE(f.explained(a).find("No node has registered, so there is nowhere to run it."), std::string::npos) << f.explained(a);
  f.agent("small", 0.5, 1000);
  EXPECT_NE(f.explained(a).find("2 instances wait for room:\nsmall cannot take one: it needs 1 cpus, 0.5 are free of 0.5 (InsufficientCpus)."), std::string::npos) << f.explained(a);
  f.agent("big");
  f.settle(a, 3);
  EXPECT_EQ(f.explained(a), "It runs as wanted: 2 of 2 instances.\n");
  f.report(f.tasks(a)[0]->spec.id, TaskState::failed, std::nullopt, "REASON_CONTAINER_LIMITATION_MEMORY", "memory limit exceeded");
  EXPECT_NE(f.explained(a).find("Raise mem: it is 1 MiB."), std::string::npos) << f.explained(a);
  f.put(simple(0), true);
  f.settle(a, 3);
  EXPECT_NE(f.explained(a).find("It is suspended: instances is 0."), std::string::npos) << f.explained(a);
}

TEST(Explain, AFailingUpdateTellsTheNewFromTheOldAndHowToUndoIt) {
  constexpr std::string_view slow = R"(,"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":0.5})";
  auto f = running_on({"h1"}, 2, slow);
  auto id = f.put(fmt::format(R"({{"id":"/a","cmd":"broken","cpus":1,"mem":1,"instances":2{}}})", slow));
  EXPECT_NE(f.explained(a).find("An update is under way: 0 of 2 instances of the new version run, 1 is starting; 2 of the version before still serve."), std::string::npos) << f.explained(a);
  EXPECT_EQ(f.explained(a).find("To undo it"), std::string::npos) << "nothing is wrong with it yet";
  for (const auto* t : f.tasks(a))
    if (t->status.state == TaskState::staging) f.report(t->spec.id, TaskState::failed, std::nullopt, "REASON_COMMAND_EXECUTOR_FAILED", "exited with status 1");
  auto told = f.explained(a);
  EXPECT_NE(told.find("0 of 2 instances of the new version run, 0 are starting; 2 of the version before still serve."), std::string::npos) << told;
  EXPECT_NE(told.find("after 1 failure in a row"), std::string::npos) << told;
  EXPECT_NE(told.find("It goes on until it succeeds. To undo it: croft deployment rollback " + id.str()), std::string::npos) << told;
}

TEST(Explain, AKillByAHealthCheckNamesTheGracePeriod) {
  auto f = running_on({"h1"}, 1, R"(,"healthChecks":[{"protocol":"COMMAND","command":{"value":"true"},"gracePeriodSeconds":5}])");
  f.report(f.tasks(a)[0]->spec.id, TaskState::killed, std::nullopt, "REASON_TASK_HEALTH_CHECK_KILLED", "4 checks failed");
  EXPECT_NE(f.explained(a).find("raise healthChecks.gracePeriodSeconds: it is 5."), std::string::npos) << f.explained(a);
  EXPECT_EQ(f.of_present(a), "1 staging") << "replaced without a delay";
}

}  // namespace
}  // namespace croft::orchestrator::test
