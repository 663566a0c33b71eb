#include <gtest/gtest.h>

#include "cluster/tests/builders.hpp"

namespace croft::cluster {
namespace {

std::map<std::string, int> by_host(const PlaceResult& r) {
  std::map<std::string, int> out;
  for (const auto& p : r.placed) ++out[p.hostname];
  return out;
}

TEST(Placement, GoesToTheFullestAgentThatStillHasRoom) {
  Books b;
  b.join(info("n1", 8)), b.join(info("n2", 2)), b.join(info("n3", 4));
  auto got = b.cluster.place(shape("", 2), 1);
  ASSERT_EQ(got.placed.size(), 1u);
  EXPECT_EQ(got.placed[0].hostname, "n2");
  EXPECT_EQ(b.cluster.audit(), "");
}

TEST(Placement, SpreadsAnAppOverEquallyGoodAgents) {
  Books b;
  b.join(info("n1")), b.join(info("n2")), b.join(info("n3"));
  EXPECT_EQ(by_host(b.cluster.place(shape("/a", 0.5), 6)), (std::map<std::string, int>{{"n1", 2}, {"n2", 2}, {"n3", 2}}));
}

TEST(Placement, ReservesWhatItGives) {
  Books b;
  b.join(info("n1", 4));
  EXPECT_EQ(b.cluster.place(shape("/a", 1), 10).placed.size(), 4u);
  EXPECT_EQ(b.cluster.used().cpus, 4000);
  EXPECT_TRUE(b.cluster.place(shape("/b", 0.1), 1).placed.empty());
  EXPECT_EQ(b.cluster.audit(), "");
}

TEST(Placement, GivenBackIsFreeAgain) {
  Books b;
  b.join(info("n1", 4));
  auto s = shape("/a", 4, 100, {0, 31005});
  auto got = b.cluster.place(s, 1);
  ASSERT_EQ(got.placed.size(), 1u);
  b.cluster.give_back(s, got.placed[0]);
  EXPECT_EQ(b.cluster.used(), Resources{});
  EXPECT_EQ(b.cluster.audit(), "");
  EXPECT_EQ(b.cluster.place(s, 1).placed.size(), 1u);
}

TEST(Placement, HundredthsAddUpExactly) {
  Books b;
  b.join(info("n1", 1, 100'000, "31000-31999"));
  EXPECT_EQ(b.cluster.place(shape("/a", 0.1), 11).placed.size(), 10u);
  EXPECT_EQ(b.cluster.used().cpus, 1000);
}

TEST(Placement, NoPortIsGivenTwice) {
  Books b;
  b.join(info("n1", 100, 100'000));
  auto got = b.cluster.place(shape("/a", 0.1, 1, {0, 0, 0}), 5);
  ASSERT_EQ(got.placed.size(), 3u) << "ten ports are there";
  std::set<std::uint16_t> ports;
  for (const auto& p : got.placed) ports.insert(p.host_ports.begin(), p.host_ports.end());
  EXPECT_EQ(ports.size(), 9u);
  EXPECT_EQ(got.by_reason[static_cast<std::size_t>(Refusal::ports)], 1u);
}

TEST(Placement, AnExactPortGoesWhereItIsFree) {
  Books b;
  b.join(info("n1")), b.join(info("n2"));
  auto s = shape("/a", 0.1, 1, {31003});
  EXPECT_EQ(by_host(b.cluster.place(s, 3)), (std::map<std::string, int>{{"n1", 1}, {"n2", 1}}));
  EXPECT_EQ(b.cluster.place(s, 1).refused[0].detail, "needs port 31003, which is taken");
  EXPECT_EQ(b.cluster.place(shape("/b", 0.1, 1, {80}), 1).refused[0].detail, "needs port 80, which it does not offer ([31000-31009])");
  EXPECT_TRUE(b.cluster.place(shape("/c", 0.1, 1, {31004, 31004}), 1).placed.empty()) << "one port twice in one instance";
}

TEST(Placement, APortThatTwoTasksHoldIsFreeWhenTheLastOneEnds) {
  Books b;
  auto agent = b.join(info("n1"), {held("x", "/a", TaskState::running, 1, 31003), held("y", "/b", TaskState::running, 1, 31003)});
  auto s = shape("/c", 0.1, 1, {31003});
  ASSERT_TRUE(b.report(agent, {status("x", TaskState::killed, "u7")}));
  EXPECT_EQ(b.cluster.audit(), "");
  EXPECT_TRUE(b.cluster.place(s, 1).placed.empty());
  ASSERT_TRUE(b.report(agent, {status("y", TaskState::killed, "u8")}));
  EXPECT_EQ(b.cluster.place(s, 1).placed.size(), 1u);
  EXPECT_EQ(b.cluster.audit(), "");
}

TEST(Placement, PortsAreNotReusedAtOnce) {
  Books b;
  b.join(info("n1"));
  auto s = shape("/a", 0.1, 1, {0});
  auto first = b.cluster.place(s, 1).placed[0];
  b.cluster.give_back(s, first);
  EXPECT_NE(b.cluster.place(s, 1).placed[0].host_ports, first.host_ports) << "a client may still hold the old address";
}

TEST(Placement, EveryRefusalSaysWhatIsMissingAndHowMuch) {
  Books b;
  b.join(info("n1", 2, 512));
  auto detail = [&](Shape s) { return b.cluster.place(s, 1).refused.at(0).detail; };
  EXPECT_EQ(detail(shape("/a", 4)), "needs 4 cpus, 2 are free of 2");
  EXPECT_EQ(detail(shape("/a", 1, 1024)), "needs 1024 MiB of mem, 512 are free of 512");
  auto s = shape();
  s.resources.disk = to_milli(5000);
  EXPECT_EQ(detail(s), "needs 5000 MiB of disk, 1000 are free of 1000");
  s = shape();
  s.resources.gpus = 1000;
  EXPECT_EQ(detail(s), "needs 1 gpus, 0 are free of 0");
  s = shape();
  s.docker = true;
  EXPECT_EQ(detail(s), "has no Docker Engine");
}

TEST(Placement, RefusalsAreCountedForAllAndListedForAHundred) {
  Books b;
  for (int i = 1; i <= 150; ++i) b.join(info("n" + std::to_string(i), 1));
  auto got = b.cluster.place(shape("/a", 2), 1);
  EXPECT_EQ(got.refused.size(), 100u);
  EXPECT_EQ(got.by_reason[static_cast<std::size_t>(Refusal::cpus)], 150u);
  EXPECT_EQ(got.agents_considered, 150u);
}

TEST(Placement, AnAvoidedAgentIsTheLastResort) {
  Books b;
  b.join(info("n1", 2)), b.join(info("n2", 100));
  auto s = shape("", 1);
  s.avoid = {b.cluster.agents()[0]->id};
  EXPECT_EQ(by_host(b.cluster.place(s, 3)), (std::map<std::string, int>{{"n2", 3}}));
  s.resources.cpus = to_milli(98);
  EXPECT_TRUE(b.cluster.place(s, 1).placed.empty());
  s.resources.cpus = to_milli(2);
  s.avoid = {b.cluster.agents()[0]->id, b.cluster.agents()[1]->id};
  EXPECT_EQ(b.cluster.place(s, 1).placed.size(), 1u) << "better there than nowhere";
}

TEST(Placement, ADisconnectedAgentGetsNothingNew) {
  Books b;
  auto id = b.join(info("n1"));
  b.cluster.stream_closed(id, b.cluster.agent(id)->subscription, at_ms(0));
  auto got = b.cluster.place(shape(), 1);
  EXPECT_TRUE(got.placed.empty());
  EXPECT_EQ(got.refused[0].detail, "is not connected at the moment");
  EXPECT_EQ(got.refused[0].reason, Refusal::maintenance);
}

TEST(Placement, TheIndexFindsWhatAFullScanFinds) {
  Books indexed, scanned;
  scanned.options.look_at_all = true;
  Cluster full(scanned.options);
  for (int i = 1; i <= 40; ++i) {
    auto in = info("n" + std::to_string(i), 1 + i % 7, 200 + 100 * (i % 5), "31000-31099");
    indexed.join(in);
    link::Registration r;
    r.info = in;
    ASSERT_TRUE(full.register_agent(r, at_ms(0)));
  }
  for (int i = 0; i < 60; ++i) {
    auto s = shape("/app" + std::to_string(i % 9), 0.1 + 0.3 * (i % 4), 20 + 30 * (i % 5), i % 3 == 0 ? std::vector<std::uint16_t>{0} : std::vector<std::uint16_t>{});
    auto a = indexed.cluster.place(s, 1), c = full.place(s, 1);
    ASSERT_EQ(a.placed.size(), c.placed.size()) << i;
  }
  EXPECT_EQ(indexed.cluster.used(), full.used());
  EXPECT_EQ(indexed.cluster.audit(), "");
}

}  // namespace
}  // namespace croft::cluster
