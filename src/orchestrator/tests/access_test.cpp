#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "orchestrator/access_api.hpp"

namespace croft::orchestrator {
namespace {

class Seeding : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/croft-access-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  secure::ClusterFiles founded(const char* name) {
    EXPECT_TRUE(secure::found_cluster(folder_ / name, {name, {{}, "m1", {secure::HostRole::master}}, {}}, now_));
    return std::move(secure::read_cluster(folder_ / name)).value();
  }
  static Records with(Records records, const coordination::Batch& batch) {
    for (const auto& [key, value] : batch.put) records[key] = value;
    return records;
  }
  std::filesystem::path folder_;
  Wall now_ = system_now().wall;
};

TEST_F(Seeding, OnceAndNeverOverWhatIsThere) {
  auto files = founded("c-1");
  auto first = seed_access({}, files, now_).value();
  ASSERT_EQ(first.put.size(), 3u);
  auto records = with({}, first);
  EXPECT_TRUE(seed_access(records, files, now_).value().empty());
  auto accounts = stored_accounts(records).value();
  EXPECT_EQ(accounts->tokens().size(), 1u);
  // An operator who has made users and revoked the first token does not get it back.
  std::erase_if(records, [](const auto& r) { return r.first.starts_with("tokens/"); });
  records["users/ann"] = "there";
  EXPECT_TRUE(seed_access(records, files, now_).value().empty());
}

TEST_F(Seeding, TheCAsKeyIsSealedInTheStore) {
  auto files = founded("c-1");
  auto records = with({}, seed_access({}, files, now_).value());
  EXPECT_EQ(records.at("trust/ca").find("PRIVATE"), std::string::npos);
  EXPECT_EQ(stored_trust(records, files.seal).value().bundle(), files.trust.bundle());
}

TEST_F(Seeding, AnotherClustersMasterDoesNotLead) {
  auto ours = founded("c-1"), others = founded("c-2");
  auto records = with({}, seed_access({}, ours, now_).value());
  auto refused = seed_access(records, others, now_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().context.find("this master's keys are not the farm's"), std::string::npos) << refused.error().context;
}

TEST_F(Seeding, TimeMovesTheCAsOn) {
  auto files = founded("c-1");
  auto records = with({}, seed_access({}, files, now_).value());
  auto late = now_ + secure::authority_life - std::chrono::hours(24 * 365);
  auto moved = seed_access(records, files, late).value();
  ASSERT_EQ(moved.put.count("trust/ca"), 1u) << "in its last quarter another CA is announced";
  EXPECT_EQ(stored_trust(with(records, moved), files.seal).value().generations.size(), 2u);
}

}  // namespace
}  // namespace croft::orchestrator
