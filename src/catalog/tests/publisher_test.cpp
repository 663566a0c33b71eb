#include <gtest/gtest.h>

#include <random>

#include "builders.hpp"

namespace croft::catalog {
namespace {

TEST(Publisher, StartsEmptyAtZeroOfItsEpoch) {
  auto p = publisher(7);
  EXPECT_EQ(p.index(), (Index{7, 0}));
  EXPECT_EQ(p.flush(), (Index{7, 0}));
}

TEST(Publisher, CollectsChangesIntoOneDelta) {
  auto p = publisher();
  p.set(service());
  p.set(endpoint("t1"));
  p.set(endpoint("t2"));
  EXPECT_EQ(p.flush(), (Index{1, 1}));
  auto lines = p.since(Index{1, 0});
  ASSERT_EQ(lines.size(), 1u);
  auto record = decode_record(*lines[0]);
  ASSERT_TRUE(record);
  const auto& d = std::get<Delta>(*record);
  EXPECT_EQ(d.services.size(), 1u);
  EXPECT_EQ(d.endpoints.size(), 2u);
}

TEST(Publisher, SettingWhatIsSoAlreadyIsNothing) {
  auto p = publisher();
  p.set(endpoint("t1"));
  p.set(service());
  p.set(node("c-S1"));
  p.set_masters({Master{}});
  p.complete(AgentId("c-S1"));
  auto at = p.flush();
  p.set(endpoint("t1"));
  p.set(service());
  p.set(node("c-S1"));
  p.set_masters({Master{}});
  p.complete(AgentId("c-S1"));
  p.remove_endpoint(TaskId("other"));
  p.remove_service(AppId("/other"));
  p.remove_rule(AppId("/other"));
  EXPECT_EQ(p.flush(), at);
}

TEST(Publisher, TheLastValueBeforeTheFlushCounts) {
  auto p = publisher();
  auto e = endpoint("t1");
  p.set(e);
  e.draining = true;
  p.set(e);
  p.set(endpoint("t2"));
  p.remove_endpoint(TaskId("t2"));
  p.flush();
  auto d = std::get<Delta>(*decode_record(*p.since(Index{1, 0}).at(0)));
  ASSERT_EQ(d.endpoints.size(), 1u);
  EXPECT_TRUE(d.endpoints[0].draining);
  EXPECT_EQ(d.endpoints_gone, std::vector<TaskId>{TaskId("t2")});
}

TEST(Publisher, GivesDeltasToThoseWhoAreNearAndASnapshotToTheRest) {
  auto p = publisher(3);
  for (int i = 0; i < 4; ++i) p.set(endpoint("t" + std::to_string(i))), p.flush();
  EXPECT_EQ(p.since(Index{3, 4}).size(), 0u);
  EXPECT_EQ(p.since(Index{3, 2}).size(), 2u);
  EXPECT_EQ(p.since(Index{3, 0}).size(), 4u);
  for (std::optional<Index> after : {std::optional<Index>(), std::optional<Index>(Index{2, 4}), std::optional<Index>(Index{4, 1}), std::optional<Index>(Index{3, 9})}) {
    auto lines = p.since(after);
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_TRUE(std::holds_alternative<Snapshot>(*decode_record(*lines[0])));
  }
}

TEST(Publisher, KeepsABoundedBacklog) {
  auto p = publisher(1, 4096);
  for (int i = 0; i < 100; ++i) p.set(endpoint("t" + std::to_string(i))), p.flush();
  EXPECT_TRUE(std::holds_alternative<Snapshot>(*decode_record(*p.since(Index{1, 0}).at(0))));
  auto near = p.since(Index{1, 98});
  ASSERT_EQ(near.size(), 2u);
  EXPECT_EQ(std::get<Delta>(*decode_record(*near[0])).at, (Index{1, 99}));
}

TEST(Publisher, ADeltaLargerThanTheBacklogMeansASnapshot) {
  auto p = publisher(1, 100);
  p.set(endpoint("t1"));
  p.flush();
  EXPECT_TRUE(std::holds_alternative<Snapshot>(*decode_record(*p.since(Index{1, 0}).at(0))));
}

TEST(Publisher, SharesTheBytesBetweenFollowers) {
  auto p = publisher();
  p.set(endpoint("t1"));
  p.flush();
  EXPECT_EQ(p.since(std::nullopt)[0].get(), p.since(std::nullopt)[0].get());
  EXPECT_EQ(p.since(Index{1, 0})[0].get(), p.since(Index{1, 0})[0].get());
}

TEST(Publisher, NamesTheCompleteAgentsAndTheLostOnesInASnapshot) {
  auto p = publisher();
  p.complete(AgentId("c-S1"));
  p.remove_node(AgentId("c-S2"));  // never seen in this epoch
  p.flush();
  auto s = std::get<Snapshot>(*decode_record(*p.since(std::nullopt)[0]));
  EXPECT_EQ(s.complete, (std::vector<AgentId>{AgentId("c-S1"), AgentId("c-S2")}));
  auto at = p.index();
  p.remove_node(AgentId("c-S2"));
  EXPECT_EQ(p.flush(), at);  // said once is enough
}

TEST(Publisher, CountsWhoServesAsALookAtAllWould) {
  auto p = publisher();
  std::mt19937 dice(5);
  const std::vector<AppId> apps = {AppId("/a"), AppId("/b"), AppId("/none")};
  for (int step = 0; step < 3000; ++step) {
    auto e = endpoint(fmt::format("t{}", dice() % 12));
    e.app = apps[dice() % apps.size()];
    e.state = dice() % 5 == 0 ? TaskState::staging : TaskState::running;
    e.healthy = dice() % 3 == 0 ? std::nullopt : std::optional(dice() % 2 == 0);
    e.draining = dice() % 6 == 0;
    if (dice() % 4 == 0) p.remove_endpoint(e.task);
    else p.set(e);
    if (dice() % 20 == 0) {
      auto s = service();
      s.app = apps[dice() % 2];
      s.health_checks.resize(dice() % 2);
      p.set(s);
    }
    for (const auto& app : apps) {
      std::size_t serving = 0;
      std::set<TaskId> failing;
      auto known = p.content().services.find(app);
      for (const auto& [id, one] : p.content().endpoints) {
        if (one.app != app) continue;
        if (known != p.content().services.end()) serving += one.serves(!known->second.health_checks.empty());
        if (one.last_resort()) failing.insert(id);
      }
      ASSERT_EQ(p.serving(app), serving) << step << app;
      ASSERT_EQ(p.last_resort(app), failing) << step << app;
    }
  }
}

TEST(DrainLedger, WaitsForEveryLiveBalancer) {
  auto p = publisher();
  p.confirm(confirmation("b1", {1, 0}), at_ms(0));
  p.confirm(confirmation("b2", {1, 0}), at_ms(0));
  auto e = endpoint("t1");
  e.draining = true;
  p.set(e);
  auto at = p.flush();
  auto wait_for = p.live();
  EXPECT_EQ(wait_for.size(), 2u);
  EXPECT_FALSE(p.confirmed(wait_for, at));
  p.confirm(confirmation("b1", at), at_ms(100));
  EXPECT_FALSE(p.confirmed(wait_for, at));
  p.confirm(confirmation("b2", at), at_ms(200));
  EXPECT_TRUE(p.confirmed(wait_for, at));
}

TEST(DrainLedger, ABalancerWhoseLeaseEndsLeavesTheSet) {
  auto p = publisher();
  p.confirm(confirmation("b1", {1, 0}), at_ms(0));
  p.confirm(confirmation("b2", {1, 0}), at_ms(2000));
  p.set(endpoint("t1"));
  auto at = p.flush();
  auto wait_for = p.live();
  p.confirm(confirmation("b2", at), at_ms(2500));
  p.tick(at_ms(2999));
  EXPECT_FALSE(p.confirmed(wait_for, at));
  p.tick(at_ms(3000));
  EXPECT_TRUE(p.confirmed(wait_for, at));
  EXPECT_EQ(p.live(), std::vector<BalancerId>{BalancerId("b2")});
  p.flush();
  EXPECT_EQ(p.content().balancers.size(), 1u);
}

TEST(DrainLedger, TimeInWhichTheLeaderWasAwayDoesNotEndALease) {
  auto p = publisher();
  p.confirm(confirmation("b1", {1, 0}), at_ms(0));
  p.tick(at_ms(500));
  p.tick(at_ms(2900));  // frozen for 2.4 s
  p.tick(at_ms(3400));
  EXPECT_EQ(p.live().size(), 1u);
  for (int ms = 3900; ms <= 5400; ms += 500) p.tick(at_ms(ms));
  EXPECT_EQ(p.live().size(), 0u) << "three seconds of its own silence";
}

TEST(DrainLedger, ASilentBalancerIsNotNamedAndStillWaitedFor) {
  auto p = publisher();
  p.confirm(confirmation("b1", {1, 0}), at_ms(0));
  p.confirm(confirmation("b2", {1, 0}), at_ms(300));
  p.set(endpoint("t1"));
  auto at = p.flush();
  p.tick(at_ms(599));
  EXPECT_EQ(p.content().balancers.size(), 2u);
  p.tick(at_ms(600));
  EXPECT_GT(p.flush(), at);
  EXPECT_EQ(p.content().balancers.size(), 1u);
  EXPECT_TRUE(p.content().balancers.contains(BalancerId("b2")));
  EXPECT_EQ(p.live().size(), 2u);
  p.tick(at_ms(1000));
  EXPECT_EQ(p.content().balancers.size(), 1u);  // the last one stays until its lease ends
  p.confirm(confirmation("b1", {1, 0}), at_ms(1100));
  EXPECT_EQ(p.content().balancers.size(), 2u);
  p.tick(at_ms(1101));
  EXPECT_FALSE(p.content().balancers.contains(BalancerId("b2")));
}

TEST(DrainLedger, AConfirmationOfAnotherEpochOnlyRenewsTheLease) {
  auto p = publisher(5);
  p.set(endpoint("t1"));
  auto at = p.flush();
  auto c = confirmation("b1", {4, 900});
  c.open[TaskId("t1")] = 0;
  p.confirm(c, at_ms(0));
  EXPECT_EQ(p.live().size(), 1u);
  EXPECT_FALSE(p.confirmed(p.live(), at));
  EXPECT_EQ(p.open_requests(TaskId("t1")), 0u);
  c.applied = {6, 0};
  p.confirm(c, at_ms(1));
  EXPECT_FALSE(p.confirmed(p.live(), at));
}

TEST(DrainLedger, NobodyCanConfirmWhatWasNotSaidYet) {
  auto p = publisher();
  p.confirm(confirmation("b1", {1, 1000}), at_ms(0));
  p.set(endpoint("t1"));
  auto at = p.flush();
  EXPECT_FALSE(p.confirmed(p.live(), at));
}

TEST(DrainLedger, AnOlderConfirmationDoesNotTakeBackANewerOne) {
  auto p = publisher();
  p.set(endpoint("t1"));
  auto at = p.flush();
  p.confirm(confirmation("b1", at), at_ms(0));
  p.confirm(confirmation("b1", {1, 0}), at_ms(1));  // overtaken on its way
  EXPECT_TRUE(p.confirmed(p.live(), at));
}

TEST(DrainLedger, AddsUpTheOpenRequestsThatWereTold) {
  auto p = publisher();
  EXPECT_EQ(p.open_requests(TaskId("t1")), 0u);  // nobody balances
  auto one = confirmation("b1", {1, 0}), two = confirmation("b2", {1, 0});
  one.open[TaskId("t1")] = 3;
  p.confirm(one, at_ms(0));
  p.confirm(two, at_ms(0));
  EXPECT_EQ(p.open_requests(TaskId("t1")), 3u);  // b2 does not route to it
  two.open[TaskId("t1")] = 4;
  p.confirm(two, at_ms(1));
  EXPECT_EQ(p.open_requests(TaskId("t1")), 7u);
}

}  // namespace
}  // namespace croft::catalog
