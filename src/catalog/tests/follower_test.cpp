#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "builders.hpp"

namespace croft::catalog {
namespace {

TEST(Follower, TakesASnapshotThenDeltas) {
  auto p = publisher();
  p.set(service());
  p.set(endpoint("t1"));
  p.flush();
  Follower f;
  EXPECT_EQ(f.index(), std::nullopt);
  ASSERT_TRUE(catch_up(f, p));
  EXPECT_EQ(f.content(), p.content());
  p.set(endpoint("t2", "/b"));
  p.remove_endpoint(TaskId("t1"));
  p.flush();
  auto d = f.apply(*decode_record(*p.since(f.index())[0]));
  ASSERT_TRUE(d);
  EXPECT_FALSE(d->all);
  EXPECT_EQ(d->endpoints, (std::vector<TaskId>{TaskId("t2"), TaskId("t1")}));
  EXPECT_EQ(d->apps, (std::vector<AppId>{AppId("/b"), AppId("/a")}));
  EXPECT_EQ(f.content(), p.content());
  EXPECT_EQ(f.index(), p.index());
}

TEST(Follower, RefusesAGapAndGoesOnWithItsCopy) {
  auto p = publisher();
  p.flush();
  Follower f;
  ASSERT_TRUE(catch_up(f, p));
  p.set(endpoint("t1")), p.flush();
  p.set(endpoint("t2")), p.flush();
  auto second = *decode_record(*p.since(Index{1, 1})[0]);
  auto refused = f.apply(second);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::conflict);
  EXPECT_TRUE(f.content().endpoints.empty());
  EXPECT_TRUE(catch_up(f, p));
  EXPECT_EQ(f.content(), p.content());
}

TEST(Follower, RefusesADeltaOfAnotherEpochARepeatAndAnythingBeforeASnapshot) {
  Follower f;
  Delta d;
  d.at = {1, 1};
  EXPECT_FALSE(f.apply(Record(d)));
  EXPECT_FALSE(f.apply(Record(Heartbeat{{1, 0}})));
  ASSERT_TRUE(f.apply(Record(Snapshot{{1, 5}, {}, {}, {}})));
  d.at = {2, 6};
  EXPECT_FALSE(f.apply(Record(d)));
  d.at = {1, 5};
  EXPECT_FALSE(f.apply(Record(d)));
  EXPECT_TRUE(f.apply(Record(Heartbeat{{1, 5}})));
  EXPECT_FALSE(f.apply(Record(Heartbeat{{1, 6}})));  // something was lost before it
}

TEST(Follower, RefusesALeaderOfAnEarlierEpoch) {
  Follower f;
  ASSERT_TRUE(f.apply(Record(Snapshot{{5, 0}, {}, {}, {}})));
  auto refused = f.apply(Record(Snapshot{{4, 100}, {}, {}}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::conflict);
}

TEST(Follower, RefusesALeaderOnAStoreThatIsNotTheFarms) {
  auto words = [](const auto& result) { return result ? std::string("taken") : result.error().context; };
  Follower f;
  ASSERT_TRUE(f.apply(Record(Snapshot{{5, 0}, {}, {}, {}, {"farm", 100}})));
  ASSERT_TRUE(f.apply(Record(Heartbeat{{5, 0}, 120})));
  EXPECT_THAT(words(f.apply(Record(Snapshot{{9, 0}, {}, {}, true, {"other", 900}}))), testing::HasSubstr("cluster other, this copy of farm"));
  EXPECT_THAT(words(f.apply(Record(Snapshot{{6, 0}, {}, {}, true, {"farm", 119}}))), testing::HasSubstr("ends at commit 119, this copy has heard of 120"));
  EXPECT_EQ(f.index(), (Index{5, 0}));
  Follower again;
  ASSERT_TRUE(again.restore(f.save()));
  EXPECT_FALSE(again.apply(Record(Snapshot{{6, 0}, {}, {}, true, {"farm", 119}}))) << "over a restart too";
  EXPECT_TRUE(again.apply(Record(Snapshot{{6, 0}, {}, {}, {}, {"farm", 120}})));
  EXPECT_TRUE(again.apply(Record(Snapshot{{7, 0}, {}, {}, {}, {}}))) << "a leader of an older version says nothing";
}

TEST(Follower, OfOneLeaderASnapshotIsNeverOlderThanWhatItToldBefore) {
  Publisher p({.epoch = 1, .root = {"farm", 10}});
  Follower f, late;
  ASSERT_TRUE(catch_up(late, p));  // a snapshot is made now
  p.committed(11);
  ASSERT_TRUE(f.apply(Record(Snapshot{{1, 0}, {}, {}, {}, {"farm", 10}})));
  ASSERT_TRUE(f.apply(Record(Heartbeat{{1, 0}, 11})));
  auto lines = p.since(std::nullopt);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(f.apply(*decode_record(*lines[0])));
}

/// A follower that has two instances on S1 and one on S2 from epoch 1.
Follower before_fail_over() {
  auto p = publisher(1);
  for (auto a : {"c-S1", "c-S2"}) p.set(node(a)), p.complete(AgentId(a));
  p.set(endpoint("t1", "/a", "c-S1"));
  p.set(endpoint("t2", "/a", "c-S1"));
  p.set(endpoint("t3", "/a", "c-S2"));
  p.flush();
  Follower f;
  EXPECT_TRUE(catch_up(f, p));
  return f;
}

TEST(Follower, AFailOverEmptiesNothing) {
  auto f = before_fail_over();
  auto next = publisher(2);
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_EQ(f.content().endpoints.size(), 3u);
}

TEST(Follower, AnAgentThatIsCompleteLosesWhatItDoesNotRun) {
  auto f = before_fail_over();
  auto next = publisher(2);
  ASSERT_TRUE(catch_up(f, next));
  next.set(endpoint("t1", "/a", "c-S1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_EQ(f.content().endpoints.size(), 3u);  // S1 is still coming in
  next.complete(AgentId("c-S1"));
  next.flush();
  auto change = f.apply(*decode_record(*next.since(f.index())[0]));
  ASSERT_TRUE(change);
  EXPECT_EQ(change->endpoints, std::vector<TaskId>{TaskId("t2")});
  EXPECT_EQ(change->apps, std::vector<AppId>{AppId("/a")});
  EXPECT_TRUE(f.content().endpoints.contains(TaskId("t3")));  // S2 has not come back yet
}

TEST(Follower, ASnapshotThatNamesTheAgentSaysTheSame) {
  auto f = before_fail_over();
  auto next = publisher(2);
  next.set(endpoint("t1", "/a", "c-S1"));
  next.complete(AgentId("c-S1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_FALSE(f.content().endpoints.contains(TaskId("t2")));
  EXPECT_TRUE(f.content().endpoints.contains(TaskId("t1")));
  EXPECT_TRUE(f.content().endpoints.contains(TaskId("t3")));
}

TEST(Follower, ForgetsAnAgentThatTheLeaderDeclaresLost) {
  for (bool heard_live : {true, false}) {
    auto f = before_fail_over();
    auto next = publisher(2);
    if (heard_live) { EXPECT_TRUE(catch_up(f, next)); }
    next.remove_node(AgentId("c-S2"));
    next.flush();
    ASSERT_TRUE(catch_up(f, next));
    EXPECT_FALSE(f.content().endpoints.contains(TaskId("t3"))) << heard_live;
    EXPECT_TRUE(f.content().endpoints.contains(TaskId("t1"))) << heard_live;
  }
}

TEST(Follower, AKeptEndpointThatEndsIsGone) {
  auto f = before_fail_over();
  auto next = publisher(2);
  ASSERT_TRUE(catch_up(f, next));
  next.set(endpoint("t2", "/a", "c-S1"));
  next.flush();
  next.remove_endpoint(TaskId("t2"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_FALSE(f.content().endpoints.contains(TaskId("t2")));
}

TEST(Follower, ASecondSnapshotOfTheEpochDropsWhatWasRemovedMeanwhile) {
  auto f = before_fail_over();
  auto next = publisher(2, 1);  // no backlog: every lag means a snapshot
  next.set(endpoint("t1", "/a", "c-S1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  next.remove_endpoint(TaskId("t1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_FALSE(f.content().endpoints.contains(TaskId("t1")));
  EXPECT_TRUE(f.content().endpoints.contains(TaskId("t2")));  // still kept from epoch 1
}

TEST(Follower, SavesAndRestoresButAsksForASnapshot) {
  auto f = before_fail_over();
  Follower again;
  ASSERT_TRUE(again.restore(f.save()));
  EXPECT_EQ(again.content(), f.content());
  EXPECT_EQ(again.index(), std::nullopt);
  EXPECT_FALSE(again.apply(Record(Snapshot{{0, 0}, {}, {}, {}})));  // the epoch it has seen counts on
  ASSERT_TRUE(again.apply(Record(Snapshot{{2, 0}, {}, {}, {}})));
  EXPECT_EQ(again.content().endpoints.size(), 3u);
  // Saved before a snapshot came, the epoch is not forgotten either.
  Follower third;
  Follower copy;
  ASSERT_TRUE(copy.restore(f.save()));
  ASSERT_TRUE(third.restore(copy.save()));
  EXPECT_FALSE(third.apply(Record(Snapshot{{0, 0}, {}, {}, {}})));
}

TEST(Follower, RefusesASavedFileThatIsNoSnapshot) {
  Follower f;
  EXPECT_FALSE(f.restore(""));
  EXPECT_FALSE(f.restore("{\"type\":"));
  auto no_snapshot = f.restore(encode(Record(Heartbeat{{1, 1}})));
  ASSERT_FALSE(no_snapshot);
  EXPECT_EQ(no_snapshot.error().code, Errc::corrupt);
}

TEST(Follower, ACopyFromTheDiskIsInDoubtUntilAgentsAreHeard) {
  Follower f;
  ASSERT_TRUE(f.restore(before_fail_over().save()));
  auto next = publisher(2);
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_EQ(f.doubt().recalled.size(), 3u);
  EXPECT_TRUE(f.doubt().may_serve_at("192.168.99.21"));
  EXPECT_TRUE(f.doubt().may_serve_at("172.17.0.5"));
  next.set(node("c-S1", "10.0.0.1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_TRUE(f.doubt().may_serve_at("10.0.0.1")) << "it has come, and has not told everything";
  next.set(endpoint("t1", "/a", "c-S1"));
  next.complete(AgentId("c-S1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_EQ(f.doubt().recalled, std::set<TaskId>{TaskId("t3")});
  EXPECT_FALSE(f.doubt().may_serve_at("10.0.0.1"));
  EXPECT_TRUE(f.doubt().may_serve_at("10.0.0.2"));
  // Who comes to this leader later learns the same from a snapshot.
  Follower late;
  ASSERT_TRUE(late.restore(before_fail_over().save()));
  ASSERT_TRUE(catch_up(late, next));
  EXPECT_EQ(late.doubt().recalled, f.doubt().recalled);
  EXPECT_EQ(late.doubt().heard, f.doubt().heard);
}

TEST(Follower, TwoAgentsAtOneAddressAreBothToBeHeard) {
  Follower f;
  auto next = publisher(2);
  for (auto a : {"c-S1", "c-S2"}) next.set(node(a, "10.0.0.1"));
  next.complete(AgentId("c-S1"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_TRUE(f.doubt().may_serve_at("10.0.0.1"));
  next.complete(AgentId("c-S2"));
  next.flush();
  ASSERT_TRUE(catch_up(f, next));
  EXPECT_FALSE(f.doubt().may_serve_at("10.0.0.1"));
}

TEST(Follower, NothingIsKeptOfAnAgentThatNoLeaderKnowsOnceTheWaitIsOver) {
  for (bool from_disk : {false, true})
    for (bool heard_live : {false, true}) {
      auto f = before_fail_over();
      Follower restored;
      ASSERT_TRUE(restored.restore(f.save()));
      if (from_disk) f = restored;
      auto next = publisher(2);
      next.complete(AgentId("c-S1"));
      next.flush();
      if (heard_live) { ASSERT_TRUE(catch_up(f, next)); }
      next.all_heard();
      EXPECT_GT(next.pending(), next.index()) << "followers are told";
      next.flush();
      ASSERT_TRUE(catch_up(f, next));
      EXPECT_TRUE(f.content().endpoints.empty());
      EXPECT_FALSE(f.doubt().some_unheard);
      next.all_heard();
      EXPECT_EQ(next.pending(), next.index()) << "once";
    }
}

TEST(Follower, ALeaderOfAnOlderVersionLeavesDoubtOnlyWhereTheDiskDoes) {
  Follower f;
  ASSERT_TRUE(f.apply(Record(Snapshot{{1, 0}, {}, {}, {}})));
  EXPECT_FALSE(f.doubt().some_unheard);
  ASSERT_TRUE(f.restore(before_fail_over().save()));
  ASSERT_TRUE(f.apply(Record(Snapshot{{2, 0}, {}, {AgentId("c-S1")}, {}})));
  EXPECT_TRUE(f.doubt().some_unheard);
  ASSERT_TRUE(f.apply(Record(Snapshot{{2, 1}, {}, {AgentId("c-S1"), AgentId("c-S2")}, {}})));
  EXPECT_FALSE(f.doubt().some_unheard);
}

/// Any mix of changes, followers at any distance, leaders that change: whoever caught up has the leader's content, plus only
/// endpoints of agents of which this leader has not yet said the last word.
TEST(Follower, AgreesWithTheLeaderWhateverHappened) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 dice(seed);
    auto roll = [&](unsigned n) { return dice() % n; };
    std::uint64_t epoch = 1;
    auto p = publisher(epoch, roll(2) ? 1u << 20 : 2000);
    std::set<std::string> spoken;
    bool heard = false;
    std::vector<Follower> followers(3);
    for (int step = 0; step < 120; ++step) {
      auto agent = "c-S" + std::to_string(roll(4)), task = agent + ".t" + std::to_string(roll(6)), app = "/a" + std::to_string(roll(3));
      switch (roll(13)) {
        case 0: p.set(service(app)); break;
        case 1: p.remove_service(AppId(app)); break;
        case 2: case 3: case 4: p.set(endpoint(task, app, agent)); break;
        case 5: p.remove_endpoint(TaskId(task)); break;
        case 6: p.set(node(agent, "10.0.0." + std::to_string(roll(3)))); break;
        case 7: p.complete(AgentId(agent)), spoken.insert(agent); break;
        case 8: p.set(Rule{AppId(app), "path_beg /" + std::to_string(roll(3))}); break;
        case 9:
          if (roll(8) == 0) p = publisher(++epoch), spoken.clear(), heard = false;
          break;
        case 11:
          if (roll(8) == 0) p.all_heard(), heard = true;
          break;
        case 10:
          if (roll(4) == 0) {
            for (int t = 0; t < 6; ++t) p.remove_endpoint(TaskId(agent + ".t" + std::to_string(t)));
            p.remove_node(AgentId(agent)), spoken.insert(agent);
          }
          break;
        default: {
          auto& f = followers[roll(3)];
          p.flush();
          ASSERT_TRUE(catch_up(f, p)) << seed;
          ASSERT_EQ(f.index(), p.index());
          auto mine = f.content();
          std::erase_if(mine.endpoints, [&](const auto& at) { return !heard && !p.content().endpoints.contains(at.first) && !spoken.contains(at.second.agent.str()); });
          ASSERT_EQ(mine, p.content()) << "seed " << seed << " step " << step;
        }
      }
      p.flush();
    }
  }
}

}  // namespace
}  // namespace croft::catalog
