// Which sandboxes go, in which order, and when it is enough.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "agent/collector.hpp"

namespace croft::agent {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

constexpr Millis hour{3'600'000}, week = hour * 24 * 7;

/// What goes when each removal frees `step` of a disk that is `full`.
std::vector<std::string> removed(std::vector<EndedSandbox> ended, double full, double step) {
  Collection c(std::move(ended), week);
  std::vector<std::string> out;
  for (auto next = c.next(full); next; next = c.next(full -= step)) out.push_back(next->string());
  return out;
}

TEST(Collection, NothingGoesBeforeItsTimeWhileThereIsRoom) { EXPECT_THAT(removed({{"a", week}, {"b", hour}}, 0.9, 0), ElementsAre()); }

TEST(Collection, WhatIsOlderThanItMayBeGoesOnAnyDisk) { EXPECT_THAT(removed({{"new", hour}, {"old", week + hour}, {"older", week * 2}}, 0.1, 0), ElementsAre("older", "old")); }

TEST(Collection, OnAFullDiskTheOldestGoUntilThereIsRoomAndNoLonger) {
  EXPECT_THAT(removed({{"b", hour * 2}, {"c", hour}, {"a", hour * 3}, {"d", hour / 2}}, 0.95, 0.03), ElementsAre("a", "b"));
}

TEST(Collection, AFullDiskThatOthersFilledEndsWithNothingLeft) { EXPECT_THAT(removed({{"a", hour}, {"b", Millis(0)}}, 1.0, 0), ElementsAre("a", "b")); }

class Sandboxes : public testing::Test {
 protected:
  Sandboxes() {
    char name[] = "/tmp/croft-collect-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~Sandboxes() override { fs::remove_all(dir_); }
  fs::path make(const std::string& task, const std::string& run) {
    auto at = dir_ / "c-S0/frameworks/c-0000/executors" / task / "runs" / run;
    fs::create_directories(at / "folder/below");
    std::ofstream(at / "stdout") << "a line\n";
    std::error_code ec;
    fs::create_directory_symlink(run, at.parent_path() / "latest", ec);
    return at;
  }
  fs::path dir_;
};

TEST_F(Sandboxes, AreListedWithTheirAgeAndNothingElseIs) {
  auto a = make("t.1", "one"), b = make("t.2", "two");
  fs::last_write_time(a, fs::file_time_type::clock::now() - std::chrono::hours(3));
  auto found = list_sandboxes(dir_);
  ASSERT_EQ(found.size(), 2u) << "neither the link to the newest nor a folder inside";
  std::sort(found.begin(), found.end(), [](const auto& x, const auto& y) { return x.age > y.age; });
  EXPECT_EQ(found[0].path, a);
  EXPECT_GE(found[0].age, hour * 3);
  EXPECT_EQ(found[1].path, b);
  EXPECT_LT(found[1].age, hour);
}

TEST_F(Sandboxes, AFolderThatIsNotThereHoldsNone) { EXPECT_TRUE(list_sandboxes(dir_ / "none").empty()); }

TEST_F(Sandboxes, GoWithTheirTasksFolderUnlessAnotherRunIsInIt) {
  auto a = make("t.1", "one"), again = make("t.1", "two");
  remove_sandbox(a);
  EXPECT_FALSE(fs::exists(a));
  EXPECT_TRUE(fs::exists(again / "stdout"));
  remove_sandbox(again);
  EXPECT_FALSE(fs::exists(dir_ / "c-S0/frameworks/c-0000/executors/t.1"));
  EXPECT_TRUE(fs::exists(dir_ / "c-S0/frameworks/c-0000/executors"));
}

TEST_F(Sandboxes, KeptArtifactsGoByWhenTheyWereUsed) {
  fs::create_directories(dir_ / "cache/new.1f");
  std::ofstream(dir_ / "cache/new.1f/file") << "half";
  std::ofstream(dir_ / "cache/0a") << "old";
  std::ofstream(dir_ / "cache/0b") << "new";
  fs::last_write_time(dir_ / "cache/0a", fs::file_time_type::clock::now() - week - std::chrono::hours(1));
  drop_unfinished(dir_ / "cache");
  EXPECT_FALSE(fs::exists(dir_ / "cache/new.1f"));
  auto kept = list_kept(dir_ / "cache");
  EXPECT_EQ(kept.size(), 2u);
  EXPECT_THAT(removed(kept, 0.1, 0), ElementsAre((dir_ / "cache/0a").string()));
  EXPECT_TRUE(list_kept(dir_ / "none").empty());
}

TEST(Fullness, IsAPartOfTheWhole) {
  EXPECT_GT(fullness("/"), 0);
  EXPECT_LE(fullness("/"), 1);
  EXPECT_EQ(fullness("/is/not/there"), 0);
}

}  // namespace
}  // namespace croft::agent
