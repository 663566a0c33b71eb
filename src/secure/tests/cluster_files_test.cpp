#include "at.hpp"

#include <sys/stat.h>

#include <filesystem>

#include "base/files.hpp"
#include "base/text.hpp"
#include "secure/bytes.hpp"
#include "secure/cluster_files.hpp"
#include "secure/join_token.hpp"

namespace croft::secure {
namespace {

class Founding : public ::testing::Test {
 protected:
  void SetUp() override {
    top_ = fs::path(::testing::TempDir()) / ("croft-found-" + hex(random_bytes(6)));
    fs::create_directory(top_);
    folder_ = top_ / "cluster";
  }
  void TearDown() override { fs::remove_all(top_); }
  Result<Founded> found(FoundOptions options = {"", host("m1", {HostRole::master}), {"10.0.0.1"}}) { return found_cluster(folder_, options, start()); }
  unsigned mode(const char* name) {
    struct stat s {};
    return ::stat((folder_ / name).c_str(), &s) == 0 ? s.st_mode & 0777 : 0;
  }
  std::size_t entries(const fs::path& in) { return static_cast<std::size_t>(std::distance(fs::directory_iterator(in), {})); }
  fs::path top_, folder_;
};

TEST_F(Founding, MakesWhatIsReadAgain) {
  auto made = found();
  ASSERT_TRUE(made) << made.error().context;
  auto files = read_cluster(folder_);
  ASSERT_TRUE(files) << files.error().context;
  EXPECT_EQ(files->trust.cluster, made->cluster);
  EXPECT_TRUE(verify_certificate(files->host_certificate_pem, files->trust.bundle(), start(), Use::server, {made->cluster, "m1", HostRole::master}));
  EXPECT_EQ(files->trust.generations[0].last_end, start() + certificate_life) << "the host's own certificate keeps its CA in the bundle, too";
  EXPECT_EQ(read_bundle(read_file(folder_ / "ca.pem").value())->front().fingerprint, made->ca_fingerprint);
  EXPECT_EQ(files->join_key.size(), join_key_bytes);
  EXPECT_EQ(files->seal.current(), 1u);
  EXPECT_EQ(entries(top_), 1u) << "nothing is left aside";
}

TEST_F(Founding, TheTokenIsTheFirstOperatorsAndNowhereOnTheDisk) {
  auto made = found().value();
  auto files = read_cluster(folder_).value();
  auto who = Accounts().with(files.first_operator)->bearer(made.operator_token, start());
  ASSERT_TRUE(who);
  EXPECT_EQ(who->grants, (std::vector<Grant>{{Level::admin, "/"}}));
  auto secret = made.operator_token.substr(23);
  for (const auto& entry : fs::directory_iterator(folder_)) EXPECT_EQ(read_file(entry.path())->find(secret), std::string::npos) << entry.path();
}

TEST_F(Founding, SecretsAreTheOwnersOnly) {
  ::umask(0);
  ASSERT_TRUE(found());
  ::umask(022);
  EXPECT_EQ(mode("."), 0700u);
  for (const char* name : {"ca.json", "join.key", "seal.json", "operator.json", "host.key"}) EXPECT_EQ(mode(name), 0600u) << name;
  for (const char* name : {"ca.pem", "host.pem"}) EXPECT_EQ(mode(name), 0644u) << name;
  for (const char* name : {"ca.json", "join.key", "seal.json", "operator.json", "host.key"}) {
    fs::permissions(folder_ / name, fs::perms(0640));
    EXPECT_FAILS(read_cluster(folder_), Errc::forbidden, name);
    fs::permissions(folder_ / name, fs::perms(0600));
  }
  EXPECT_TRUE(read_cluster(folder_));
}

TEST_F(Founding, TheServicesUserGetsItAll) {
  ASSERT_TRUE(found());
  EXPECT_FAILS(hand_over(folder_, "no-such-user"), Errc::not_found, "no-such-user");
  if (::geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_TRUE(hand_over(folder_, "nobody"));
  struct stat s {};
  for (const char* name : {".", "ca.pem", "ca.json", "host.key", "seal.json"}) {
    ASSERT_EQ(::stat((folder_ / name).c_str(), &s), 0);
    EXPECT_EQ(s.st_uid, 65534u) << name;
  }
  EXPECT_EQ(mode("host.key"), 0600u);
  EXPECT_TRUE(read_cluster(folder_)) << "root reads it as before";
}

TEST_F(Founding, NeverOverwrites) {
  auto first = found().value();
  EXPECT_FAILS(found(), Errc::conflict, "already");
  EXPECT_EQ(read_cluster(folder_)->trust.cluster, first.cluster);
  fs::remove_all(folder_);
  fs::create_directory(folder_);
  EXPECT_TRUE(found()) << "an empty folder is nothing";
  fs::remove_all(folder_);
  ASSERT_TRUE(write_file_atomic(folder_, "x"));
  EXPECT_FAILS(found(), Errc::conflict, "no folder");
  fs::remove(folder_);
  fs::create_symlink(top_ / "elsewhere", folder_);
  EXPECT_FAILS(found(), Errc::conflict, "no folder");
  EXPECT_FALSE(fs::exists(top_ / "elsewhere"));
}

TEST_F(Founding, BadNamesLeaveNothingBehind) {
  EXPECT_FAILS(found({"a/b", host("m1", {HostRole::master}), {}}), Errc::invalid, "cluster");
  EXPECT_FAILS(found({"", host("M 1", {HostRole::master}), {}}), Errc::invalid, "host");
  EXPECT_FAILS(found({"", host("m1", {}), {}}), Errc::invalid, "role");
  EXPECT_FAILS(found({"", host("m1", {HostRole::master}), {"a,b"}}), Errc::invalid, "names");
  EXPECT_EQ(entries(top_), 0u);
}

TEST_F(Founding, DamageIsNamed) {
  ASSERT_TRUE(found());
  auto spoil = [&](const char* name, std::string_view bytes) {
    auto before = read_file(folder_ / name).value();
    auto mode_before = mode(name);
    ASSERT_TRUE(write_file_atomic(folder_ / name, bytes, mode_before));
    auto result = read_cluster(folder_);
    ASSERT_FALSE(result) << name;
    EXPECT_NE(result.error().context.find(name), std::string::npos) << result.error().context;
    ASSERT_TRUE(write_file_atomic(folder_ / name, before, mode_before));
  };
  for (const char* name : {"ca.json", "join.key", "seal.json", "operator.json", "host.pem"}) {
    spoil(name, "");
    spoil(name, "rubbish");
  }
  auto other = create_authority("c", start()).value();
  spoil("host.pem", issued(other, host("m1", {HostRole::master}), start()).pem);
  fs::remove(folder_ / "seal.json");
  EXPECT_FAILS(read_cluster(folder_), Errc::not_found, "seal.json");
  EXPECT_FAILS(read_cluster(top_ / "nowhere"), Errc::not_found, "ca.json");
}

}  // namespace
}  // namespace croft::secure
