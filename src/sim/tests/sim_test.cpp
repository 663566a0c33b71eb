#include <gtest/gtest.h>

#include <cstdio>

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
  for (std::uint64_t seed : {7, 8, 9}) {
    auto a = run_seed(seed, 3), b = run_seed(seed, 3);
    EXPECT_EQ(a.steps, b.steps);
    EXPECT_EQ(a.trace, b.trace);
    EXPECT_EQ(a.probes, b.probes);
  }
}

TEST(Simulation, OtherSeedsAreOtherRuns) { EXPECT_NE(run_seed(1, 1).trace, run_seed(2, 1).trace); }

/// CI's seeds: every check holds, and between them they come to nearly every rare branch.
TEST(Simulation, EveryCheckHoldsAndRareBranchesAreReached) {
  Probes reached{};
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    auto r = run_seed(seed, 10);
    ASSERT_TRUE(r.failure.empty()) << "croft sim --seed " << seed << " --minutes 10\n" << told(r);
    for (std::size_t n = 0; n < probe_count; ++n) reached[n] += r.probes[n];
  }
  std::size_t missing = 0;
  for (std::size_t n = 0; n < probe_count; ++n)
    if (reached[n] == 0) ++missing, std::printf("not reached: %s\n", std::string(probe_name(static_cast<Probe>(n))).c_str());
  EXPECT_LE(missing, 3u) << "of " << probe_count;
}

class PlantedBug : public ::testing::TestWithParam<BugInfo> {};

TEST_P(PlantedBug, IsFoundWithinTwoHundredSeeds) {
  auto bug = GetParam();
  if (!run_seed(bug.seed, 5, bug.bug).failure.empty()) return;  // where it was found last
  for (std::uint64_t seed = 1; seed <= 200; ++seed)
    if (!run_seed(seed, 10, bug.bug).failure.empty()) return;
  FAIL() << "the simulation does not see that " << bug.what;
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBug, ::testing::ValuesIn(bugs().begin(), bugs().end()), [](const auto& made) {
  std::string name(made.param.name);
  for (auto& c : name)
    if (c == '-') c = '_';
  return name;
});

TEST(Scale, AFailOverAccountsForEveryTask) {
  auto r = run_scale({200, 2000, 20});
  EXPECT_EQ(r.failure, "");
#ifndef __SANITIZE_ADDRESS__  // its allocator does not tell
  EXPECT_GT(r.bytes_a_task, 0);
#endif
}

}  // namespace
}  // namespace croft::sim
