#include "agent/cgroups.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "base/files.hpp"

namespace croft::agent {
namespace {

/// A tree of plain files that looks like cgroups.
class Cgroups : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/croft-cgroups-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top = name;
  }
  void TearDown() override { fs::remove_all(top); }
  void put(const std::string& file, const std::string& text) {
    fs::create_directories((top / file).parent_path());
    std::ofstream(top / file) << text << '\n';
  }
  [[nodiscard]] CgroupHost v1() const {
    CgroupHost h;
    h.v1 = {{"cpu", (top / "cpu").string()}, {"memory", (top / "memory").string()}};
    h.named = (top / "systemd").string();
    return h;
  }
  [[nodiscard]] CgroupHost v2() const {
    CgroupHost h;
    h.v2 = true;
    h.unified = top.string();
    return h;
  }
  fs::path top;
};

TEST_F(Cgroups, WithoutLimitsNothingIsSaid) {
  put("memory/memory.limit_in_bytes", "9223372036854771712");
  put("cpu/cpu.cfs_quota_us", "-1");
  put("cpu/cpu.cfs_period_us", "100000");
  auto l = limits_above(v1(), "croft");
  EXPECT_FALSE(l.cpus);
  EXPECT_FALSE(l.mem);
  put("memory.max", "max");
  put("cpu.max", "max 100000");
  l = limits_above(v2(), "croft");
  EXPECT_FALSE(l.cpus);
  EXPECT_FALSE(l.mem);
}

TEST_F(Cgroups, TheTightestOnTheWayCounts) {
  put("memory/memory.limit_in_bytes", "2147483648");
  put("memory/a.slice/memory.limit_in_bytes", "1073741824");
  put("memory/a.slice/b/memory.limit_in_bytes", "9223372036854771712");
  put("memory/other/memory.limit_in_bytes", "1048576");
  put("cpu/cpu.cfs_quota_us", "200000");
  put("cpu/cpu.cfs_period_us", "100000");
  put("cpu/a.slice/cpu.cfs_quota_us", "75000");
  put("cpu/a.slice/cpu.cfs_period_us", "50000");
  auto l = limits_above(v1(), "a.slice/b");
  EXPECT_EQ(l.mem, to_milli(1024));
  EXPECT_EQ(l.cpus, to_milli(1.5));
  EXPECT_EQ(limits_above(v1(), "b").mem, to_milli(2048));
  put("a.slice/memory.max", "536870912");
  put("a.slice/cpu.max", "50000 100000");
  l = limits_above(v2(), "a.slice/b");
  EXPECT_EQ(l.mem, to_milli(512));
  EXPECT_EQ(l.cpus, to_milli(0.5));
}

TEST_F(Cgroups, NonsenseIsNoLimit) {
  put("memory/memory.limit_in_bytes", "much");
  put("cpu/cpu.cfs_quota_us", "");
  put("cpu/cpu.cfs_period_us", "0");
  auto l = limits_above(v1(), "croft");
  EXPECT_FALSE(l.cpus);
  EXPECT_FALSE(l.mem);
}

TEST_F(Cgroups, ExecutorsStandBesideTheTasks) {
  auto folders = executor_cgroups(v1(), "croft.slice/t.service");
  EXPECT_EQ(folders, (std::vector<std::string>{(top / "cpu/croft.slice/t.service").string(), (top / "memory/croft.slice/t.service").string(), (top / "systemd/croft.slice/t.service").string()}));
  EXPECT_EQ(executor_cgroups(v2(), "croft.slice/t.service"), std::vector<std::string>{(top / "croft.slice/t.service/executors").string()});
}

TEST_F(Cgroups, ControllersAreHandedDownToTheFolderOfTheTasks) {
  ASSERT_TRUE(prepare_cgroups(v2(), "croft.slice/t.service"));
  for (auto folder : {"", "croft.slice", "croft.slice/t.service"}) EXPECT_TRUE(fs::exists(top / folder / "cgroup.subtree_control")) << folder;
}

}  // namespace
}  // namespace croft::agent
