#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "agent/membership_file.hpp"
#include "base/text.hpp"

namespace croft::agent {
namespace {

class MembershipFileTest : public testing::Test {
 protected:
  MembershipFileTest() { fs::create_directories(dir_); }
  ~MembershipFileTest() override { fs::remove_all(dir_); }
  /// As on a full disk: nothing can take the file's place.
  void block() {
    fs::remove(dir_ / "agent.json");
    fs::create_directories(dir_ / "agent.json" / "in the way");
  }
  void unblock() { fs::remove_all(dir_ / "agent.json"); }
  static Membership at(std::uint64_t epoch, std::uint64_t commit, std::uint64_t lives = 1) { return {AgentId("a"), "c", epoch, commit, lives}; }
  fs::path dir_ = fs::temp_directory_path() / ("croft-membership-" + random_uuid());
  MembershipFile file_{dir_};
};

TEST_F(MembershipFileTest, RemembersWhatWasSavedLast) {
  EXPECT_EQ(file_.load().error().code, Errc::not_found);
  ASSERT_TRUE(file_.save(at(1, 2)));
  ASSERT_TRUE(file_.save(at(3, 4)));
  EXPECT_EQ(*MembershipFile(dir_).load(), at(3, 4));
}

TEST_F(MembershipFileTest, WithoutRoomTheSpareIsWrittenOver) {
  ASSERT_TRUE(file_.save(at(1, 2)));
  auto size = fs::file_size(dir_ / "agent.spare");
  block();
  ASSERT_TRUE(file_.save(at(5, 9)));
  ASSERT_TRUE(file_.save(at(6, 10)));
  EXPECT_EQ(fs::file_size(dir_ / "agent.spare"), size) << "it takes no more room than before";
  EXPECT_EQ(*MembershipFile(dir_).load(), at(6, 10));
}

TEST_F(MembershipFileTest, TheLaterOneCountsAndWithRoomTheSpareIsBlankAgain) {
  ASSERT_TRUE(file_.save(at(1, 2)));
  block();
  ASSERT_TRUE(file_.save(at(6, 10)));
  unblock();
  std::ofstream(dir_ / "agent.json") << R"({"format":1,"id":"a","cluster_id":"c","epoch":1,"commit":2,"lives":1})";
  MembershipFile next(dir_);
  EXPECT_EQ(*next.load(), at(6, 10));
  ASSERT_TRUE(next.save(at(7, 11, 2)));
  EXPECT_EQ(*MembershipFile(dir_).load(), at(7, 11, 2));
  fs::remove(dir_ / "agent.json");
  EXPECT_FALSE(MembershipFile(dir_).load()) << "an operator who takes the file away is obeyed";
}

TEST_F(MembershipFileTest, ATornSpareOrADamagedFileDoNotCount) {
  ASSERT_TRUE(file_.save(at(4, 4)));
  std::ofstream(dir_ / "agent.spare") << R"({"format":1,"id":"a","epo)" << std::string(4000, ' ');
  EXPECT_EQ(*MembershipFile(dir_).load(), at(4, 4));
  std::ofstream(dir_ / "agent.json") << "{";
  auto damaged = MembershipFile(dir_).load();
  ASSERT_FALSE(damaged);
  EXPECT_NE(damaged.error().context.find("agent.json"), std::string::npos) << damaged.error().context;
}

TEST_F(MembershipFileTest, WithoutASpareAFullDiskIsTold) {
  block();
  EXPECT_FALSE(file_.save(at(1, 1)));
}

}  // namespace
}  // namespace croft::agent
