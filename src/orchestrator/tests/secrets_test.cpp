// Secrets as records, in manifests, and in what an agent is told of a task.

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "farm.hpp"
#include "orchestrator/app_json.hpp"
#include "orchestrator/secrets.hpp"
#include "secure/bytes.hpp"

namespace croft::orchestrator::test {
namespace {

constexpr std::string_view with_secrets = R"({"id":"/team/web","cmd":"x","ports":[],"env":{"PLAIN":"p","PW":{"secret":"db"}},"secrets":{"db":{"source":"team/db"},"key":{"source":"/key"}},
  "container":{"type":"MESOS","volumes":[{"containerPath":"conf/key.pem","secret":"key"}]}})";

TEST(SecretPath, IsReadWithAndWithoutItsFirstSlash) {
  EXPECT_EQ(secret_path("team/db"), "/team/db");
  EXPECT_EQ(secret_path("/team/db/"), "/team/db");
  EXPECT_EQ(group_of_secret("/team/db"), "/team");
  EXPECT_EQ(group_of_secret("/db"), "/");
  for (auto good : {"/a", "/a/B_c.d-1"}) EXPECT_TRUE(check_secret_path(good)) << good;
  for (auto bad : {"", "/", "a", "/a//b", "/a/../b", "/a/.", "/a b", "/a/\n", "/ä"}) EXPECT_FALSE(check_secret_path(bad)) << bad;
  EXPECT_FALSE(check_secret_path("/" + std::string(300, 'a')));
}

TEST(SecretPath, S13_IsForTheAppsOfItsGroup) {
  EXPECT_TRUE(secret_is_for("/db", AppId("/team/web")));
  EXPECT_TRUE(secret_is_for("/team/db", AppId("/team/web")));
  EXPECT_TRUE(secret_is_for("/team/db", AppId("/team/a/b")));
  EXPECT_FALSE(secret_is_for("/team/db", AppId("/teams/web")));
  EXPECT_FALSE(secret_is_for("/team/db", AppId("/web")));
}

TEST(SecretRecord, S13_IsSealedAndBoundToItsPath) {
  auto ring = secure::KeyRing::create();
  StoredSecret s{{3, std::string("p\0word", 6)}, Wall(Millis(5)), "user ann"};
  auto record = encode_secret("/team/db", s, &ring);
  EXPECT_EQ(record.find(secure::base64url_encode(s.value.value)), std::string::npos);
  auto back = decode_secret("/team/db", record, &ring);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->value, s.value);
  EXPECT_EQ(back->changed_by, "user ann");
  EXPECT_EQ(back->bytes, 6u);
  EXPECT_EQ(describe_secret(record)->value.version, 3u);
  EXPECT_EQ(describe_secret(record)->value.value, "");
  EXPECT_EQ(decode_secret("/team/other", record, &ring).error().code, Errc::corrupt) << "moved to another name";
  EXPECT_EQ(decode_secret("/team/db", record, nullptr).error().code, Errc::invalid);
  auto others = secure::KeyRing::create();
  EXPECT_FALSE(decode_secret("/team/db", record, &others));
  EXPECT_EQ(decode_secret("/db", encode_secret("/db", s, nullptr), nullptr)->value, s.value) << "a farm without keys";
  for (auto bad : {"", "{", "[]", R"({"format":2})", R"({"sealed":"!"})", R"({"plain":5})"}) {
    auto read = decode_secret("/db", bad, &ring);
    EXPECT_TRUE(!read || read->value.value.empty()) << bad;
  }
}

TEST(SecretUses, ReadBackAsTheyWereWritten) {
  auto app = app_of(with_secrets);
  auto again = *decode_app(encode_app(app));
  EXPECT_TRUE(app.same_config(again));
  auto text = encode_app(app);
  for (std::string_view part : {R"("PW":{"secret":"db"})", R"("db":{"source":"team/db"})", R"({"containerPath":"conf/key.pem","secret":"key"})"}) EXPECT_NE(text.find(part), std::string::npos) << part << text;
  EXPECT_TRUE(uses_secret(app, "/team/db"));
  EXPECT_TRUE(uses_secret(app, "/key"));
  EXPECT_FALSE(uses_secret(app, "/db"));
  auto without = app_of(R"({"id":"/team/web","secrets":{},"env":{},"container":{"type":"MESOS","volumes":[]}})", app);
  EXPECT_TRUE(without.secrets.empty());
}

TEST(SecretUses, AreToldToTheAgentByPathAndNotAsVariables) {
  Farm f;
  f.agent("h1");
  f.put(with_secrets);
  auto tasks = f.tasks(AppId("/team/web"));
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0]->spec.secrets, (std::vector<SecretUse>{{"/team/db", "PW"}, {"/key", "", "conf/key.pem"}}));
  EXPECT_FALSE(tasks[0]->spec.env.contains("PW"));
  EXPECT_EQ(tasks[0]->spec.env.at("PLAIN"), "p");
}

}  // namespace
}  // namespace croft::orchestrator::test
