#include <gtest/gtest.h>

#include "balancer/tests/builders.hpp"

namespace croft::balancer {
namespace {

using Lines = std::vector<std::string>;
const Mono start_of_time{Millis(1'000'000)};

struct KeeperTest : testing::Test {
  KeeperTest() { make(); }
  void make(Millis gather = Millis(0)) {
    KeeperOptions o;
    o.gather = gather;
    o.rendering.run_dir = "/run/x";
    o.own_ip = "10.0.0.1";
    keeper = std::make_unique<Keeper>(o, proxy);
  }
  Keeper::Outcome apply(const catalog::Content& c) { return keeper->apply(c, true, now); }
  /// Until nothing is left to do.
  void settle(const catalog::Content& c) {
    for (int i = 0; i < 10; ++i) {
      auto outcome = apply(c);
      if (!outcome.again) return;
      now += *outcome.again;
    }
    FAIL() << "it does not settle";
  }
  FakeProxy proxy;
  std::unique_ptr<Keeper> keeper;
  Mono now = start_of_time;
};

TEST_F(KeeperTest, StartsHaproxyWithWhatIsKnown) {
  auto outcome = apply(web(2));
  EXPECT_TRUE(outcome.in_force) << outcome.trouble;
  EXPECT_EQ(proxy.starts, 1);
  EXPECT_EQ(proxy.serving("web_0"), (Lines{"10.0.0.1:31000", "10.0.0.1:31001"}));
}

TEST_F(KeeperTest, InstancesComeAndGoWithoutAReload) {
  apply(web(1));
  for (int n : {3, 7, 2, 0, 5}) {
    auto outcome = apply(web(n));
    EXPECT_TRUE(outcome.in_force);
    EXPECT_EQ(proxy.serving("web_0").size(), static_cast<std::size_t>(n));
  }
  EXPECT_EQ(proxy.reloads, 0);
}

TEST_F(KeeperTest, TheConfigurationOnDiskIsAlwaysWhatIsWanted) {
  apply(web(1));
  apply(web(2));
  EXPECT_NE(proxy.disk.find("10.0.0.1:31001"), std::string::npos);
}

TEST_F(KeeperTest, ANewAppReloadsOnceAndNothingElseDoes) {
  apply(web(1));
  auto c = web(1);
  c.with(service("/new", 10001));
  EXPECT_EQ(apply(c).reloads, 1u);
  EXPECT_EQ(apply(c).reloads, 0u);
  EXPECT_EQ(proxy.reloads, 1);
}

TEST_F(KeeperTest, ADrainNeedNotWaitForAnotherAppsReload) {
  auto c = web(2);
  apply(c);
  c.with(service("/one", 10001));
  apply(c);
  c.with(service("/two", 10002));
  c.endpoints[TaskId("web.0")].draining = true;
  auto outcome = apply(c);
  EXPECT_TRUE(outcome.in_force) << "the instance is out of rotation";
  EXPECT_FALSE(outcome.whole) << "the other app's back end is still to come";
  EXPECT_EQ(proxy.serving("web_0"), (Lines{"10.0.0.1:31001"}));
  EXPECT_EQ(outcome.reloads, 0u) << "one has just been";
  settle(c);
  EXPECT_EQ(proxy.reloads, 2);
}

TEST_F(KeeperTest, ABurstOfNewAppsIsFewReloads) {
  auto c = web(1);
  apply(c);
  for (int i = 0; i < 50; ++i) {
    c.with(service(fmt::format("/app{}", i), static_cast<std::uint16_t>(11000 + i)));
    apply(c);
    now += Millis(1);
  }
  settle(c);
  EXPECT_LE(proxy.reloads, 3);
  EXPECT_NE(proxy.disk.find("backend app49_0"), std::string::npos);
}

TEST_F(KeeperTest, AReloadThatBringsNobodyWaitsForOthersToComeAlong) {
  make(Millis(50));
  auto c = web(1);
  apply(c);
  EXPECT_EQ(apply(c.with(service("/one", 10001))).again, Millis(50));
  now += Millis(20);
  auto outcome = apply(c.with(service("/two", 10002)));
  EXPECT_EQ(outcome.again, Millis(30)) << "of the first one's time";
  EXPECT_TRUE(outcome.in_force);
  now += Millis(30);
  EXPECT_EQ(apply(c).reloads, 1u);
  now += Millis(200);
  EXPECT_FALSE(apply(c).again) << "both came with it";
  EXPECT_EQ(apply(c.with(service("/three", 10003))).reloads, 0u);
  auto e = endpoint("three.0", "/three", 31030);
  e.healthy = true;
  EXPECT_EQ(apply(c.with(e)).reloads, 1u) << "somebody waits for it";
  EXPECT_EQ(proxy.serving("three_0"), (Lines{"10.0.0.1:31030"}));
}

TEST_F(KeeperTest, AnInstanceWithoutAPlaceIsNotSaidToBeInForce) {
  auto c = web(16);
  apply(c);
  proxy.reload_fails = "no";
  auto outcome = apply(web(17));
  EXPECT_FALSE(outcome.in_force);
  EXPECT_EQ(outcome.trouble, "no");
  proxy.reload_fails.clear();
  now += Millis(500);
  EXPECT_TRUE(apply(web(17)).in_force);
  EXPECT_EQ(proxy.serving("web_0").size(), 17u);
}

TEST_F(KeeperTest, AfterARestartOfCroftHaproxyIsAdoptedWithoutAReload) {
  apply(web(3));
  const auto told = proxy.told.size();
  make();
  auto outcome = apply(web(3));
  EXPECT_TRUE(outcome.in_force);
  EXPECT_EQ(proxy.starts, 1);
  EXPECT_EQ(proxy.reloads, 0);
  EXPECT_EQ(proxy.told.size(), told) << "everybody stands where they stood";
}

TEST_F(KeeperTest, WhatChangedWhileCroftWasAwayIsMendedByCommands) {
  apply(web(3));
  make();
  auto c = web(3);
  c.without("web.1");
  auto e = endpoint("web.9", "/web", 31009);
  e.healthy = true;
  apply(c.with(e));
  EXPECT_EQ(proxy.serving("web_0"), (Lines{"10.0.0.1:31000", "10.0.0.1:31002", "10.0.0.1:31009"}));
  EXPECT_EQ(proxy.reloads, 0);
}

TEST_F(KeeperTest, ARunningHaproxyIsNotSetBackByAnOldCopyOfTheCatalog) {
  apply(web(3));
  make();
  auto outcome = keeper->apply(web(1), false, now);
  EXPECT_FALSE(outcome.in_force);
  EXPECT_EQ(proxy.serving("web_0").size(), 3u);
  EXPECT_TRUE(apply(web(2)).in_force) << "the leader's word counts";
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
}

TEST_F(KeeperTest, TheLastResortIsWhatIsInRotationAndNothingElse) {
  auto c = web(3);
  apply(c);
  EXPECT_EQ(proxy.last_resort("web_0"), proxy.serving("web_0"));
  c.endpoints[TaskId("web.0")].draining = true;
  c.without("web.1");
  apply(c);
  EXPECT_EQ(proxy.last_resort("web_0"), (Lines{"10.0.0.1:31002"}));
  proxy.worker(0).servers["web_0/l7"] = {{}, "10.0.0.1", 31099, Slot::State::ready};  // a croft that was killed between two commands
  make();
  apply(c);
  EXPECT_EQ(proxy.last_resort("web_0"), (Lines{"10.0.0.1:31002"}));
}

/// What a leader that has heard no agent adds to a copy that is older than HAProxy: nothing.
struct KeeperInDoubt : KeeperTest {
  KeeperInDoubt() {
    old = web(2);
    for (const auto& [id, e] : old.endpoints) unheard.recalled.insert(id);
    unheard.some_unheard = true;
    present = web(0);
    for (int i = 0; i < 2; ++i) {
      auto e = endpoint(fmt::format("new.{}", i), "/web", static_cast<std::uint16_t>(31010 + i));
      e.healthy = true;
      present.with(e);
    }
  }
  Keeper::Outcome apply_in_doubt() { return keeper->apply(old, true, now, unheard); }
  ContentOf old, present;
  catalog::Doubt unheard;
  const Lines have{"10.0.0.1:31010", "10.0.0.1:31011"};
};

TEST_F(KeeperInDoubt, AnAdoptedHaproxyKeepsWhatItHasUntilTheAgentsAreHeard) {
  apply(old);
  apply(present);
  const auto told = proxy.told.size();
  make();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(apply_in_doubt().in_force);
  EXPECT_EQ(proxy.serving("web_0"), have);
  EXPECT_EQ(proxy.told.size(), told) << "not even for a moment";
  EXPECT_TRUE(apply(present).in_force);
  EXPECT_EQ(proxy.serving("web_0"), have);
  EXPECT_EQ(proxy.told.size(), told);
}

TEST_F(KeeperInDoubt, WhatHasGoneMeanwhileLeavesOnceItsAgentIsHeard) {
  apply(present);
  make();
  apply_in_doubt();
  unheard.recalled.clear();
  unheard.heard = {"10.0.0.1"};
  present.without("new.1");
  EXPECT_TRUE(keeper->apply(present, true, now, unheard).in_force) << "another agent is still missing";
  EXPECT_EQ(proxy.serving("web_0"), (Lines{"10.0.0.1:31010"}));
}

TEST_F(KeeperInDoubt, AHeardAgentsNewsIsObeyedMeanwhile) {
  apply(old);
  make();
  apply_in_doubt();
  auto e = endpoint("new.7", "/web", 31007, "10.0.0.2");
  e.healthy = true;
  old.with(e);
  unheard.heard = {"10.0.0.2"};
  apply_in_doubt();
  EXPECT_EQ(proxy.serving("web_0").size(), 3u);
  old.endpoints[TaskId("new.7")].draining = true;
  EXPECT_TRUE(apply_in_doubt().in_force);
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
}

TEST_F(KeeperInDoubt, ADrainThatTheCopyDoesNotKnowGoesOn) {
  apply(old);
  auto draining = old;
  draining.endpoints[TaskId("web.1")].draining = true;
  apply(draining);
  make();
  apply_in_doubt();
  EXPECT_EQ(proxy.serving("web_0"), (Lines{"10.0.0.1:31000"}));
  apply(old);
  EXPECT_EQ(proxy.serving("web_0").size(), 2u) << "its agent says that nobody told it to go";
}

TEST_F(KeeperInDoubt, WithoutHaproxyTheCopyIsWhatThereIs) {
  EXPECT_TRUE(apply_in_doubt().in_force);
  EXPECT_EQ(proxy.serving("web_0"), (Lines{"10.0.0.1:31000", "10.0.0.1:31001"}));
  EXPECT_TRUE(apply_in_doubt().in_force);
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
}

TEST_F(KeeperInDoubt, AReloadMeanwhileTakesNobodyOut) {
  apply(old);
  apply(present);
  make();
  old.with(service("/another", 10001));
  EXPECT_EQ(apply_in_doubt().reloads, 1u);
  EXPECT_EQ(proxy.serving("web_0"), have);
}

TEST_F(KeeperTest, WithoutALeaderAndWithoutHaproxyTheOldCopyIsWhatThereIs) {
  EXPECT_TRUE(keeper->apply(web(2), false, now).in_force);
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
}

TEST_F(KeeperTest, AnAdoptedHaproxyWithAnotherConfigurationIsReloaded) {
  apply(web(3));
  make();
  auto c = web(3);
  c.rule("/web", "path_beg /elsewhere");
  auto outcome = apply(c);
  EXPECT_EQ(outcome.reloads, 1u);
  EXPECT_EQ(proxy.starts, 1);
}

TEST_F(KeeperTest, WhenHaproxyDiesItIsStartedWithTheNewestInstances) {
  apply(web(1));
  EXPECT_FALSE(keeper->lost());
  EXPECT_EQ(keeper->pid(), proxy.workers.front().pid);
  proxy.workers.clear();
  
  EXPECT_TRUE(keeper->lost());
  EXPECT_TRUE(apply(web(2)).in_force);
  EXPECT_EQ(proxy.starts, 2);
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
}

TEST_F(KeeperTest, AWorkerThatWeDidNotStartIsLookedAtAnew) {
  apply(web(2));
  proxy.workers.push_back(proxy.workers.back());
  proxy.workers.back().pid = 777;
  proxy.workers.back().servers["web_0/s2"] = {{}, "127.0.0.1", 1, Slot::State::maint};
  EXPECT_TRUE(keeper->lost());
  apply(web(2));
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
  EXPECT_FALSE(keeper->lost());
}

TEST_F(KeeperTest, ItIsNotStartedBesideAnUnknownListener) {
  proxy.taken = {5000};
  auto outcome = apply(web(1));
  EXPECT_TRUE(outcome.trouble.starts_with("port 5000 is taken by another program")) << outcome.trouble;
  EXPECT_FALSE(outcome.in_force);
  EXPECT_EQ(proxy.starts, 0);
  proxy.taken.clear();
  EXPECT_TRUE(apply(web(1)).in_force) << "tried again";
}

TEST_F(KeeperTest, AnOptionalPortIsLeftOutWhereItIsTaken) {
  proxy.taken = {80};
  EXPECT_TRUE(apply(web(1)).in_force);
  EXPECT_EQ(proxy.disk.find(":80\n"), std::string::npos);
  EXPECT_NE(proxy.disk.find(":5000\n"), std::string::npos);
}

TEST_F(KeeperTest, ATakenServicePortCostsOnlyItsFrontEndAndIsHadOnceItIsFree) {
  apply(web(1));
  proxy.taken = {10007};
  auto c = web(1);
  c.with(service("/late", 10007));
  auto outcome = apply(c);
  EXPECT_EQ(proxy.disk.find(":10007\n"), std::string::npos);
  EXPECT_NE(proxy.disk.find("backend late_0"), std::string::npos);
  ASSERT_EQ(keeper->left_out().size(), 1u);
  EXPECT_NE(keeper->left_out()[0].find("10007 is taken"), std::string::npos);
  ASSERT_TRUE(outcome.again);
  proxy.taken.clear();
  now += *outcome.again;
  settle(c);
  EXPECT_NE(proxy.disk.find(":10007\n"), std::string::npos);
}

TEST_F(KeeperTest, OurOwnPortsDoNotCountAsTaken) {
  apply(web(1));
  proxy.taken = {5000, 80, 10000};  // as they look from outside once HAProxy has them
  auto c = web(1);
  c.with(service("/new", 10001));
  apply(c);
  EXPECT_NE(proxy.disk.find(":10000\n"), std::string::npos);
  make();
  c.with(service("/newer", 10002));
  now += Millis(10'000);
  apply(c);
  EXPECT_NE(proxy.disk.find(":10000\n"), std::string::npos) << "also after an adoption";
  EXPECT_NE(proxy.disk.find(":10002\n"), std::string::npos);
}

TEST_F(KeeperTest, OnlyWordsOfUsersAreJudgedBeforeAReload) {
  apply(web(1));
  auto checks = proxy.checks;
  auto c = web(1);
  c.with(service("/plain", 10001));
  EXPECT_EQ(apply(c).reloads, 1u);
  EXPECT_EQ(proxy.checks, checks) << "nothing in it that HAProxy could refuse";
  c.rule("/plain", "path /x");
  now += Millis(10'000);
  EXPECT_EQ(apply(c).reloads, 1u);
  EXPECT_EQ(proxy.checks, checks + 1);
  now += Millis(10'000);
  c.with(service("/second", 10002));
  EXPECT_EQ(apply(c).reloads, 1u);
  EXPECT_EQ(proxy.checks, checks + 1) << "that rule was accepted before";
}

TEST_F(KeeperTest, AfterARefusedReloadAllIsJudged) {
  apply(web(1));
  auto c = web(1);
  c.with(service("/plain", 10001));
  proxy.reload_fails = "a port was taken";
  EXPECT_FALSE(apply(c).trouble.empty());
  auto checks = proxy.checks;
  proxy.reload_fails.clear();
  now += Millis(10'000);
  EXPECT_EQ(apply(c).reloads, 1u);
  EXPECT_EQ(proxy.checks, checks + 1);
}

TEST_F(KeeperTest, ABadRuleIsLeftOutAndEverythingElseGoesOn) {
  apply(web(1));
  proxy.refuses = {"no_such_fetch"};
  auto c = web(2);
  c.with(service("/bad", 10001)).with(service("/good", 10002)).rule("/bad", "no_such_fetch x").rule("/good", "path /good");
  settle(c);
  EXPECT_EQ(proxy.disk.find("no_such_fetch"), std::string::npos);
  EXPECT_NE(proxy.disk.find("use_backend good_0"), std::string::npos);
  EXPECT_NE(proxy.disk.find("backend bad_0"), std::string::npos) << "its app has its service port all the same";
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
  auto checks = proxy.checks;
  apply(c);
  EXPECT_EQ(proxy.checks, checks) << "it is not judged again and again";
  c.rule("/bad", "path /mended");
  now += Millis(10'000);
  settle(c);
  EXPECT_NE(proxy.disk.find("use_backend bad_0"), std::string::npos);
}

TEST_F(KeeperTest, AnAppThatHaproxyRefusesIsLeftOutUntilItChanges) {
  apply(web(1));
  proxy.refuses = {"weird_0"};
  auto c = web(1);
  c.with(service("/weird", 10001)).with(service("/fine", 10002));
  settle(c);
  EXPECT_EQ(proxy.disk.find("weird_0"), std::string::npos);
  EXPECT_NE(proxy.disk.find("backend fine_0"), std::string::npos);
  proxy.refuses.clear();
  c.services[AppId("/weird")].instances = 2;
  now += Millis(10'000);
  settle(c);
  EXPECT_NE(proxy.disk.find("backend weird_0"), std::string::npos);
}

TEST_F(KeeperTest, ACheckThatCouldNotBeMadeSaysNothingAgainstARule) {
  apply(web(1));
  proxy.check_breaks = "write check.cfg: No space left on device";
  auto c = web(1);
  c.rule("/web", "path_beg /changed");
  auto outcome = apply(c);
  EXPECT_EQ(outcome.trouble, proxy.check_breaks);
  EXPECT_TRUE(outcome.again);
  proxy.check_breaks.clear();
  now += *outcome.again;
  settle(c);
  EXPECT_NE(proxy.disk.find("path_beg /changed"), std::string::npos);
}

TEST_F(KeeperTest, AFullDiskKeepsNobodyFromLeavingRotation) {
  apply(web(2));
  proxy.write_fails = "write haproxy.cfg.new: No space left on device";
  auto outcome = apply(web(1));
  EXPECT_TRUE(outcome.in_force);
  EXPECT_EQ(outcome.trouble, proxy.write_fails);
  EXPECT_EQ(proxy.serving("web_0").size(), 1u);
  proxy.write_fails.clear();
  now += *outcome.again;
  EXPECT_TRUE(apply(web(1)).trouble.empty());
  EXPECT_EQ(proxy.disk.find("31001"), std::string::npos) << "written once it can be";
}

TEST_F(KeeperTest, AReloadThatFailsIsTriedAgain) {
  apply(web(1));
  auto c = web(1);
  c.with(service("/new", 10001));
  proxy.reload_fails = "a port was taken";
  EXPECT_EQ(apply(c).trouble, "a port was taken");
  proxy.reload_fails.clear();
  now += Millis(500);
  settle(c);
  EXPECT_EQ(proxy.workers.back().servers.count("new_0/s1"), 1u);
}

TEST_F(KeeperTest, WhenHaproxyDoesNotKnowWhatWeSpeakOfItGetsAllOfItAnew) {
  apply(web(1));
  proxy.workers.back().servers.clear();
  EXPECT_FALSE(apply(web(2)).trouble.empty());
  now += Millis(500);
  settle(web(2));
  EXPECT_EQ(proxy.reloads, 1);
  EXPECT_EQ(proxy.serving("web_0").size(), 2u);
}

TEST_F(KeeperTest, AnOldWorkerThatKnowsInstancesThatLeftEndsOnceItHasNoRequestOpen) {
  auto c = web(2);
  apply(c);
  proxy.workers.back().open["web_0/s2"] = 1;
  c.with(service("/new", 10001));
  apply(c);
  ASSERT_EQ(proxy.workers.size(), 2u);
  auto outcome = apply(c);
  EXPECT_FALSE(outcome.again) << "all that it knows is still there: its clients keep their connections";
  c.without("web.0");
  outcome = apply(c);
  EXPECT_EQ(proxy.workers.size(), 2u) << "a request is open";
  EXPECT_TRUE(outcome.in_force);
  ASSERT_TRUE(outcome.again);
  proxy.workers.front().open.clear();
  now += *outcome.again;
  settle(c);
  EXPECT_EQ(proxy.workers.size(), 1u) << "an idle client connects anew, and is not sent to a task that is gone";
}

TEST_F(KeeperTest, WhileTheMasterLoadsItselfAnewAnOldWorkerMayAskWhoLeft) {
  auto c = web(2);
  apply(c);
  c.with(service("/new", 10001));
  apply(c);
  proxy.master_away = true;
  c.endpoints[TaskId("web.0")].draining = true;
  auto outcome = apply(c);
  EXPECT_FALSE(outcome.in_force);
  EXPECT_EQ(outcome.again, Millis(10));
  EXPECT_EQ(keeper->open_requests().at(TaskId("web.0")), 1u);
  now += Millis(2000);
  outcome = apply(c);
  EXPECT_TRUE(outcome.in_force) << "one that stays away holds nobody up";
  EXPECT_EQ(outcome.again, Millis(200));
  proxy.master_away = false;
  outcome = apply(c);
  EXPECT_TRUE(outcome.in_force);
  EXPECT_EQ(proxy.workers.size(), 1u);
  EXPECT_EQ(keeper->open_requests().at(TaskId("web.0")), 0u);
}

TEST_F(KeeperTest, OpenRequestsAreThoseOfOldWorkersToo) {
  auto c = web(2);
  apply(c);
  proxy.workers.back().open["web_0/s1"] = 2;
  c.with(service("/new", 10001));
  apply(c);
  c.endpoints[TaskId("web.0")].draining = true;
  apply(c);
  proxy.workers.back().open["web_0/s1"] = 1;
  EXPECT_EQ(keeper->open_requests(), (std::map<TaskId, std::uint32_t>{{TaskId("web.0"), 3}}));
}

TEST_F(KeeperTest, WhenHaproxyDoesNotSayARequestMayBeOpen) {
  auto c = web(1);
  apply(c);
  c.endpoints[TaskId("web.0")].draining = true;
  apply(c);
  EXPECT_EQ(keeper->open_requests().at(TaskId("web.0")), 0u);
  proxy.workers.clear();
  EXPECT_EQ(keeper->open_requests().at(TaskId("web.0")), 1u);
}

}  // namespace
}  // namespace croft::balancer
