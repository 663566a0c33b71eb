#include <gtest/gtest.h>

#include "balancer/tests/builders.hpp"

namespace croft::balancer {
namespace {

using Lines = std::vector<std::string>;

Lines commands(const catalog::Content& from, const catalog::Content& to) {
  auto has = make_plan(from, {}, {});
  return steps_between(has, make_plan(to, has, {})).commands;
}

TEST(Steps, NothingChangedNeedsNothing) { EXPECT_TRUE(commands(web(3), web(3)).empty()); }

TEST(Steps, AnInstanceComesWithTwoCommandsAndItsTwinAfterIt) {
  EXPECT_EQ(commands(web(1), web(2)), (Lines{"set server web_0/s2 addr 10.0.0.1 port 31001", "set server web_0/s2 state ready", "set server web_0/l2 addr 10.0.0.1 port 31001",
                                             "set server web_0/l2 state ready"}));
}

TEST(Steps, AnInstanceGoesWithOneAndItsTwinBeforeIt) {
  EXPECT_EQ(commands(web(2), web(1)), (Lines{"set server web_0/l2 state maint", "set server web_0/s2 state maint"}));
}

TEST(Steps, WithoutAnHttpCheckThereAreNoTwins) {
  auto from = web(1), to = web(2);
  from.services[AppId("/web")].health_checks = to.services[AppId("/web")].health_checks = {http_check("/", CheckKind::tcp)};
  EXPECT_EQ(commands(from, to), (Lines{"set server web_0/s2 addr 10.0.0.1 port 31001", "set server web_0/s2 state ready"}));
}

TEST(Steps, AHaproxyThatHasNoTwinsYetIsToldOfNone) {
  auto has = make_plan(web(1), {}, {});
  has.backends["web_0"].last_resort = false;  // started by a croft that knew none
  EXPECT_EQ(steps_between(has, make_plan(web(2), has, {})).commands, (Lines{"set server web_0/s2 addr 10.0.0.1 port 31001", "set server web_0/s2 state ready"}));
}

TEST(Steps, ATwinThatWasFoundAstrayIsPutRight) {
  auto has = make_plan(web(1), {}, {});
  has.backends["web_0"].slots[0].agrees = false;
  has.backends["web_0"].slots[5].agrees = false;  // of an instance that is gone
  auto wanted = make_plan(web(1), has, {});
  auto steps = steps_between(has, wanted);
  EXPECT_EQ(steps.commands, (Lines{"set server web_0/l1 state maint", "set server web_0/l1 addr 10.0.0.1 port 31000", "set server web_0/l1 state ready", "set server web_0/l6 state maint"}));
  EXPECT_FALSE(steps.any_leaves);
  EXPECT_TRUE(steps_between(steps.after, wanted).commands.empty());
}

TEST(Steps, ADrainingInstanceIsDrained) {
  auto c = web(2);
  c.endpoints[TaskId("web.1")].draining = true;
  EXPECT_EQ(commands(web(2), c), (Lines{"set server web_0/l2 state maint", "set server web_0/s2 state drain"}));
}

TEST(Steps, AnotherInstanceInAPlaceComesThroughMaintenance) {
  auto has = make_plan(web(1), {}, {});
  auto wanted = has;
  wanted.backends["web_0"].slots[0] = {TaskId("other"), "10.0.0.7", 31007, Slot::State::ready};
  EXPECT_EQ(steps_between(has, wanted).commands,
            (Lines{"set server web_0/l1 state maint", "set server web_0/s1 state maint", "set server web_0/s1 addr 10.0.0.7 port 31007", "set server web_0/s1 state ready",
                   "set server web_0/l1 addr 10.0.0.7 port 31007", "set server web_0/l1 state ready"}));
}

TEST(Steps, CarriedOutTheyGiveWhatWasWanted) {
  auto has = make_plan(web(4), {}, {});
  auto to = web(6);
  to.without("web.2");
  auto wanted = make_plan(to, has, {});
  auto steps = steps_between(has, wanted);
  EXPECT_TRUE(steps.all_placed);
  EXPECT_TRUE(steps_between(steps.after, wanted).commands.empty());
}

TEST(Steps, WhatAReloadBringsIsNotWaitedForUnlessAnInstanceHasNoPlaceYet) {
  auto has = make_plan(web(16), {}, {});
  auto another = web(16);
  another.with(service("/new", 10001));
  EXPECT_TRUE(steps_between(has, make_plan(another, has, {})).all_placed);
  EXPECT_FALSE(steps_between(has, make_plan(web(17), has, {})).all_placed);
}

TEST(Steps, TheInstancesOfARemovedAppLeaveAtOnce) {
  auto has = make_plan(web(2), {}, {});
  EXPECT_EQ(steps_between(has, Plan{}).commands, (Lines{"set server web_0/l1 state maint", "set server web_0/s1 state maint", "set server web_0/l2 state maint", "set server web_0/s2 state maint"}));
}

TEST(Steps, TellWhenAnInstanceLeavesRotation) {
  auto leaves = [](const catalog::Content& from, const catalog::Content& to) {
    auto has = make_plan(from, {}, {});
    return steps_between(has, make_plan(to, has, {})).any_leaves;
  };
  auto draining = web(2), sick = web(2);
  draining.endpoints[TaskId("web.1")].draining = true;
  sick.endpoints[TaskId("web.1")].healthy = false;
  EXPECT_FALSE(leaves(web(2), web(2)));
  EXPECT_FALSE(leaves(web(1), web(2)));
  EXPECT_TRUE(leaves(web(2), web(1)));
  EXPECT_TRUE(leaves(web(2), draining));
  EXPECT_TRUE(leaves(web(2), sick));
  EXPECT_FALSE(leaves(draining, web(1))) << "it has left already";
}

TEST(Seen, PlacesComeBackFromWhatAWorkerSays) {
  auto plan = plan_seen(
      "1\n# be_id be_name srv_id srv_name srv_addr ...\n"
      "3 web_0 1 s1 10.0.0.1 2 4 1 1 9 15 3 4 6 0 0 0 - 31000 - 0 0 - - 0\n"
      "3 web_0 2 s2 10.0.0.1 2 12 1 1 9 15 3 4 6 0 0 0 - 31001 - 0 0 - - 0\n"
      "3 web_0 3 s3 10.0.0.1 0 5 1 1 9 15 3 4 6 0 0 0 - 31002 - 0 0 - - 0\n"
      "3 web_0 4 s4 127.0.0.1 0 5 1 1 9 15 3 4 6 0 0 0 - 1 - 0 0 - - 0\n\n");
  const auto& slots = plan.backends.at("web_0").slots;
  ASSERT_EQ(slots.size(), 4u);
  EXPECT_EQ(slots[0], (Slot{{}, "10.0.0.1", 31000, Slot::State::ready}));
  EXPECT_EQ(slots[1].state, Slot::State::drain);
  EXPECT_EQ(slots[2].state, Slot::State::maint);
  EXPECT_EQ(slots[3], Slot{}) << "never used";
}

TEST(Seen, TwinsAreHeldAgainstTheirPlaces) {
  auto line = [](const char* name, const char* ip, int admin, int port) { return fmt::format("3 web_0 1 {} {} 2 {} 1 1 9 15 3 4 6 0 0 0 - {} - 0 0 - - 0\n", name, ip, admin, port); };
  auto plan = plan_seen("1\n# x\n" + line("s1", "10.0.0.1", 4, 31000) + line("s2", "10.0.0.1", 4, 31001) + line("s3", "10.0.0.1", 12, 31002) + line("s4", "127.0.0.1", 5, 1) +
                        line("s5", "127.0.0.1", 5, 1) + line("l1", "10.0.0.1", 4, 31000) + line("l2", "10.0.0.1", 4, 31009) + line("l3", "10.0.0.1", 5, 31002) +
                        line("l4", "127.0.0.1", 5, 1) + line("l5", "10.0.0.1", 4, 31005));
  const auto& b = plan.backends.at("web_0");
  EXPECT_TRUE(b.last_resort);
  ASSERT_EQ(b.slots.size(), 5u);
  std::vector<bool> agrees;
  for (const auto& s : b.slots) agrees.push_back(s.agrees);
  EXPECT_EQ(agrees, (std::vector<bool>{true, false, true, true, false}));
}

TEST(Seen, NoiseIsNoPlace) {
  for (auto text : {"", "\n\n", "1\n# x", "3 b 1 s1", "3 b 1 sx 10.0.0.1 2 4 1 1 9 15 3 4 6 0 0 0 - 31000", "3 b 1 s0 10.0.0.1 2 4 1 1 9 15 3 4 6 0 0 0 - 31000",
                    "3 b 1 s999999999 10.0.0.1 2 4 1 1 9 15 3 4 6 0 0 0 - 31000", "3 b 1 s1 10.0.0.1 2 x 1 1 9 15 3 4 6 0 0 0 - 31000"})
    EXPECT_TRUE(plan_seen(text).backends.empty()) << text;
}

TEST(Seen, SessionsAreCountedByAddressWithThoseThatQueue) {
  auto open = sessions_seen("# pxname,svname,qcur,qmax,scur,smax,addr,\nweb_0,s1,1,0,3,9,10.0.0.1:31000,\nweb_0,s2,0,0,0,0,10.0.0.1:31001,\nnonsense\n\n");
  EXPECT_EQ(open["web_0/10.0.0.1:31000"], 4u);
  EXPECT_EQ(open.size(), 2u);
  EXPECT_TRUE(sessions_seen("").empty());
}

TEST(Seen, OldWorkersAreThoseBelowTheirHeading) {
  EXPECT_EQ(old_workers_seen("#<PID>          <type>          <reloads>\n43 master 1 [failed: 0] 0d 2.6\n# workers\n95 worker 0 0d 2.6\n# old workers\n45 worker 1 0d 2.6\n46 worker 2 0d 2.6\n# programs\n\n"),
            (std::vector<int>{45, 46}));
  EXPECT_TRUE(old_workers_seen("").empty());
}

}  // namespace
}  // namespace croft::balancer
