#include "orchestrator/event_ring.hpp"

#include <gtest/gtest.h>

namespace croft::orchestrator {
namespace {

BusEvent event(std::uint64_t sequence) {
  BusEvent out{};
  out.kind = BusEvent::Kind::deployment_info;
  out.sequence = sequence;
  return out;
}

TEST(EventRing, LightEventsAreKeptByTheirNumber) {
  EventRing ring;
  for (std::uint64_t i = 1; i <= 5000; ++i) ring.push(event(i));
  EXPECT_EQ(ring.size(), EventRing::count_max);
  EXPECT_FALSE(ring.after(5000 - EventRing::count_max - 1));
  auto all = ring.after(5000 - EventRing::count_max);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), EventRing::count_max);
  EXPECT_EQ(all->front().sequence, 5000 - EventRing::count_max + 1);
  EXPECT_TRUE(ring.after(5000)->empty());
}

TEST(EventRing, HeavyOnesByTheirBytes) {
  EventRing ring;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    auto app = std::make_shared<App>();
    app->labels["a"] = std::string(480'000, 'x');
    auto deployment = std::make_shared<Deployment>();
    deployment->original[AppId("/a")] = *app, deployment->target[AppId("/a")] = *app;
    auto heavy = event(i);
    heavy.definition = app, heavy.deployment = deployment;
    EXPECT_GE(weight(heavy), 3u * 480'000u);
    ring.push(std::move(heavy));
    ASSERT_LE(ring.bytes(), EventRing::bytes_max);
  }
  EXPECT_GT(ring.size(), 40u);
  EXPECT_LT(ring.size(), 50u);
  EXPECT_FALSE(ring.after(900));  // a slow follower reads anew
  EXPECT_EQ(ring.after(998)->size(), 2u);
  for (std::uint64_t i = 1001; i <= 6000; ++i) ring.push(event(i));
  EXPECT_EQ(ring.size(), EventRing::count_max);
  EXPECT_EQ(ring.bytes(), EventRing::count_max * weight(event(1)));
}

TEST(EventRing, EventsOfOneDeploymentCarryItOnce) {
  EventRing ring;
  auto deployment = std::make_shared<Deployment>();
  for (int i = 0; i < 100; ++i) deployment->target[AppId(std::to_string(i))].emplace().labels["a"] = std::string(400'000, 'x');
  for (std::uint64_t i = 1; i <= 10; ++i) {
    auto step = event(i);
    step.deployment = deployment;
    ring.push(std::move(step));
  }
  ASSERT_TRUE(ring.after(0)) << "who reads fast misses no step of a large deployment";
  EXPECT_EQ(ring.after(0)->size(), 10u);
}

TEST(EventRing, TheNewestStaysHoweverHeavy) {
  EventRing ring;
  ring.push(event(1));
  auto heavy = event(2);
  heavy.text = std::string(EventRing::bytes_max + 1, 'x');
  ring.push(std::move(heavy));
  EXPECT_EQ(ring.size(), 1u);
  EXPECT_EQ(ring.after(1)->size(), 1u);
}

}  // namespace
}  // namespace croft::orchestrator
