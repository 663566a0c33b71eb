// Three members, of which one or two die.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordination/integration/ensemble.hpp"
#include "coordination/integration/master.hpp"

namespace croft::coordination::testing_zk {
namespace {

class QuorumTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ensemble = new Ensemble(3);
    ASSERT_TRUE(ensemble->wait_ready()) << "see " << ensemble->folder();
  }
  static void TearDownTestSuite() {
    delete ensemble;
    ensemble = nullptr;
  }
  void TearDown() override {
    for (int i = 0; i < 3; ++i) ensemble->start(i);
    ASSERT_TRUE(ensemble->wait_ready());
  }
  static Ensemble* ensemble;
  Loop loop;
};
Ensemble* QuorumTest::ensemble = nullptr;

TEST_F(QuorumTest, AFollowerKilledIsNotSeen) {
  Master a(loop, "a", ensemble->servers(), "follower", Millis(3000));
  ASSERT_TRUE(loop.run(a.election->campaign()));
  ASSERT_TRUE(loop.run(a.store->take_over()));
  auto lost = loop.start(a.election->lost());
  auto session = a.session->id();
  int victim = (ensemble->leader() + 1) % 3;
  std::uint64_t head = 0, unknown = 0;
  for (int i = 0; i < 300; ++i) {
    if (i == 50) ensemble->kill(victim);
    auto number = a.commit("k", std::to_string(i));
    while (!number) {
      if (number.error().code == Errc::unknown_outcome) {  // we happened to be connected to it
        ++unknown;
        auto read = loop.run(a.store->read_head());
        ASSERT_TRUE(read) << read.error().context;
        if (*read == head + 1) {
          number = *read;
          break;
        }
      }
      ASSERT_NE(number.error().code, Errc::not_leader) << number.error().context;
      loop.run(a.session->connected_within(Millis(3000)));
      number = a.commit("k", std::to_string(i));
    }
    ASSERT_EQ(*number, ++head);
  }
  EXPECT_LE(unknown, 1u);
  EXPECT_EQ(a.session->id(), session);
  EXPECT_EQ(lost.wait_for(Millis(0)), std::future_status::timeout);
  EXPECT_GT(a.election->safe_until(), std::chrono::steady_clock::now());
  loop.run(a.election->resign());
  Loop::get(std::move(lost));
}

TEST_F(QuorumTest, WithoutAQuorumChangesAreRefusedInTimeAndComeBackByThemselves) {
  Master a(loop, "a", ensemble->servers(), "quorum", Millis(2000));
  ASSERT_TRUE(loop.run(a.election->campaign()));
  ASSERT_TRUE(loop.run(a.store->take_over()));
  ASSERT_EQ(a.commit("k", "1"), 1u);
  auto detector = zookeeper_detector(a.session);
  for (auto seen = detector->sighting(); !seen.leader;) seen = loop.run(detector->changed(seen.turn, Millis(1000)));
  auto lost = loop.start(a.election->lost());
  int leader = ensemble->leader();
  ensemble->kill(leader);
  ensemble->kill((leader + 1) % 3);
  auto died = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) {
    auto begun = std::chrono::steady_clock::now();
    auto refused = a.commit("k", "no quorum");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().code, Errc::not_leader);
    EXPECT_THAT(refused.error().context, ::testing::HasSubstr("ZooKeeper"));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, Millis(5500));
  }
  Loop::get(std::move(lost));
  EXPECT_LT(a.election->safe_until(), std::chrono::steady_clock::now());
  auto seen = detector->sighting();
  EXPECT_FALSE(seen.certain);
  ASSERT_TRUE(seen.leader);  // the data plane goes on with the one it knew
  EXPECT_EQ(seen.leader->hostname, "a");
  auto again = loop.start(a.election->campaign());
  ensemble->start(leader);
  ensemble->start((leader + 1) % 3);
  ASSERT_TRUE(ensemble->wait_ready());
  auto back = std::chrono::steady_clock::now();
  ASSERT_TRUE(Loop::get(std::move(again)));
  auto term = loop.run(a.store->take_over());
  ASSERT_TRUE(term) << term.error().context;
  auto led = std::chrono::steady_clock::now();
  EXPECT_EQ(term->epoch, 2u);
  EXPECT_TRUE(a.commit("k", "2"));
  std::printf("[ figure   ] quorum lost for %d ms; from the ensemble's return to a take-over: %d ms\n", static_cast<int>((back - died) / Millis(1)), static_cast<int>((led - back) / Millis(1)));
  EXPECT_LT(led - back, Millis(4000));
  EXPECT_EQ(loop.run(a.store->load(""))->at("k"), "2");
}

TEST_F(QuorumTest, TheEnsemblesLeaderKilledCostsAMomentAndNoChange) {
  Master a(loop, "a", ensemble->servers(), "leader", Millis(4000));
  ASSERT_TRUE(loop.run(a.election->campaign()));
  ASSERT_TRUE(loop.run(a.store->take_over()));
  ASSERT_EQ(a.commit("k", "1"), 1u);
  auto session = a.session->id();
  auto begun = std::chrono::steady_clock::now();
  ensemble->kill(ensemble->leader());
  std::uint64_t head = 1;
  for (bool done = false; !done;) {
    auto number = a.commit("k", "2");
    if (number) {
      EXPECT_TRUE(*number == head + 1);
      done = true;
    } else {
      ASSERT_NE(number.error().code, Errc::not_leader) << number.error().context;
      auto read = loop.run(a.store->read_head());
      if (read) head = *read;
      ASSERT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(15));
    }
  }
  std::printf("[ figure   ] the ensemble's leader killed, to the next commit: %d ms\n", static_cast<int>((std::chrono::steady_clock::now() - begun) / Millis(1)));
  EXPECT_EQ(a.session->id(), session);
}

}  // namespace
}  // namespace croft::coordination::testing_zk
