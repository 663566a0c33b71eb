#include <gtest/gtest.h>

#include "sim/sim.hpp"

namespace croft::sim {
namespace {

RunResult run_seed(std::uint64_t seed, double minutes, Bug bug = Bug::none) {
  RunOptions o;
  o.seed = seed;
  o.minutes = minutes;
  o.bug = bug;
  return run(o);
}

std::string told(const RunResult& r) {
  std::string out = r.failure + "\n";
  for (const auto& line : r.log) out += line + "\n";
  return out;
}

TEST(Simulation, OneSeedTwiceIsTheSameRun) {
  auto a = run_seed(7, 2), b = run_seed(7, 2);
  EXPECT_EQ(a.steps, b.steps);
  EXPECT_EQ(a.trace, b.trace);
}

TEST(Simulation, TheInvariantsHoldOverFiftySeeds) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    auto r = run_seed(seed, 2);
    ASSERT_TRUE(r.failure.empty()) << "croft sim --seed " << seed << " --minutes 2\n" << told(r);
  }
}

class PlantedBug : public ::testing::TestWithParam<Bug> {};

TEST_P(PlantedBug, IsFoundWithinTwoHundredSeeds) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed)
    if (!run_seed(seed, 3, GetParam()).failure.empty()) return;
  FAIL() << "the simulation does not see it";
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBug, ::testing::Values(Bug::ack_before_commit, Bug::launch_not_recorded, Bug::agents_not_stored));

}  // namespace
}  // namespace croft::sim
