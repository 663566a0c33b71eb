// The pure parts of the ZooKeeper implementation: addresses, records, backups. The rest is in integration/.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <set>

#include "base/json.hpp"
#include "coordination/backup.hpp"
#include "coordination/dead_session.hpp"
#include "coordination/zookeeper_address.hpp"
#include "coordination/zookeeper_records.hpp"

namespace croft::coordination {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ZookeeperAddressTest, HostsPortsCredentialsAndPath) {
  auto a = parse_zookeeper_address("zk://jake:1@b:c@master1:2182,master2,192.168.99.13/mesos/east");
  ASSERT_TRUE(a) << a.error().context;
  EXPECT_EQ(a->user, "jake");
  EXPECT_EQ(a->password, "1@b:c");
  EXPECT_THAT(a->servers, ElementsAre(ZookeeperAddress::Server{"master1", 2182}, ZookeeperAddress::Server{"master2", 2181}, ZookeeperAddress::Server{"192.168.99.13", 2181}));
  EXPECT_EQ(a->path, "/mesos/east");
  EXPECT_EQ(a->servers_text(), "master1:2182,master2:2181,192.168.99.13:2181");
  EXPECT_EQ(a->shown(), "zk://jake:***@master1:2182,master2:2181,192.168.99.13:2181/mesos/east");
  EXPECT_EQ(parse_zookeeper_address("zk://h/mesos")->shown(), "zk://h:2181/mesos");
}

TEST(ZookeeperAddressTest, EveryBadFormIsRefusedWithWords) {
  const std::pair<const char*, const char*> bad[] = {
      {"", "begin with zk://"},
      {"http://h/mesos", "begin with zk://"},
      {"zk:/h/mesos", "begin with zk://"},
      {"zk://", "no host"},
      {"zk:///mesos", "no host"},
      {"zk://u:p@/mesos", "no host"},
      {"zk://h", "path is missing"},
      {"zk://h:2181,i", "path is missing"},
      {"zk://h/", "root itself"},
      {"zk://h/mesos/", "not end with a slash"},
      {"zk://h/mesos//x", "between two slashes is empty"},
      {"zk://h/a/../b", "'..' is not allowed"},
      {"zk://h/./b", "'.' is not allowed"},
      {"zk://h/zookeeper/x", "belongs to ZooKeeper"},
      {"zk://h/me sos", "printable"},
      {"zk://h,,i/mesos", "between two commas is empty"},
      {"zk://h,/mesos", "between two commas is empty"},
      {"zk://:2181/mesos", "has no host"},
      {"zk://h:/mesos", "1 to 65535"},
      {"zk://h:0/mesos", "1 to 65535"},
      {"zk://h:65536/mesos", "1 to 65535"},
      {"zk://h:21x/mesos", "1 to 65535"},
      {"zk://h:-1/mesos", "1 to 65535"},
      {"zk://[::1]:2181/mesos", "IPv6"},
      {"zk://fe80::1/mesos", "IPv6"},
      {"zk://h h/mesos", "no host name"},
      {"zk://h,h:2181/mesos", "named twice"},
      {"zk://secret@h/mesos", "user:password"},
      {"zk://:secret@h/mesos", "user is empty"},
      {"zk://u:@h/mesos", "password is empty"},
  };
  for (auto [text, words] : bad) {
    auto a = parse_zookeeper_address(text);
    ASSERT_FALSE(a) << text;
    EXPECT_EQ(a.error().code, Errc::invalid) << text;
    EXPECT_THAT(a.error().context, HasSubstr(words)) << text;
    EXPECT_THAT(a.error().context, Not(HasSubstr("secret"))) << text;
  }
  EXPECT_FALSE(parse_zookeeper_address("zk://h/" + std::string(600, 'a')));
}

TEST(ElectionRecordsTest, OnlyMesosNamesAreCandidatesLowestFirst) {
  EXPECT_THAT(records::candidates({"json.info_0000000012", "log_replicas", "json.info_0000000007", "info_0000000001", "json.info_7", "json.info_00000000a1"}),
              ElementsAre("json.info_0000000007", "json.info_0000000012"));
  EXPECT_EQ(records::election_number("json.info_0000000012"), 12u);
  EXPECT_FALSE(records::election_number("json.info_00000000123"));
}

TEST(ElectionRecordsTest, MasterInfoHasMesosFormAndNativeAddress) {
  Leader l{"id-1", "m1.example", "10.0.0.11", 5050, 8080, "1.11.0"};
  auto text = records::encode_leader(l);
  ASSERT_TRUE(text);
  auto parsed = *json::parse(*text);
  EXPECT_EQ(json::integer(parsed, "ip"), 184549386);  // as Mesos wrote for this address on little-endian machines
  EXPECT_EQ(json::text(parsed, "pid"), "master@10.0.0.11:5050");
  EXPECT_EQ(json::integer(parsed, "port"), 5050);
  EXPECT_EQ(json::text(*json::find(parsed, "address"), "ip"), "10.0.0.11");
  EXPECT_EQ(*records::decode_leader(*text), l);
  l.ip = "fe80::1";
  EXPECT_THAT(records::encode_leader(l).error().context, HasSubstr("fe80::1"));
}

TEST(ElectionRecordsTest, AnotherPartysMasterInfoIsReadToo) {
  auto l = records::decode_leader(R"({"hostname":"m","id":"x","ip":16777343,"pid":"master@127.0.0.1:5050","port":5050,"version":"1.4.0"})");
  ASSERT_TRUE(l) << l.error().context;
  EXPECT_EQ(l->ip, "127.0.0.1");
  EXPECT_EQ(l->marathon_port, 0);
  for (auto bad : {"", "[]", "{}", R"({"ip":"x","port":5050})", R"({"address":{"ip":"10.0.0.1","port":70000}})"}) EXPECT_FALSE(records::decode_leader(bad)) << bad;
}

TEST(StoreRecordsTest, KeysBecomeOneNodeNameEach) {
  for (std::string key : {"apps/service/fibonacci", "a", ".", "..", "versions/x@2015-08-12T10:11:12.345Z", "sp ace/ü/%2F", "a%2Fb"}) {
    auto path = records::key_path(key);
    ASSERT_EQ(path.find('/'), 2u) << path;
    auto name = path.substr(3);
    EXPECT_EQ(name.find('/'), std::string::npos) << path;
    EXPECT_TRUE(name != "." && name != "..");
    EXPECT_EQ(*records::key_of(name), key);
  }
  EXPECT_FALSE(records::key_of("%zz"));
  EXPECT_FALSE(records::key_of(""));
  std::set<std::string> shards;
  for (int i = 0; i < 5000; ++i) shards.insert(records::key_path("apps/" + std::to_string(i)).substr(0, 2));
  EXPECT_EQ(shards.size(), 256u);
}

TEST(StoreRecordsTest, ValuesComeBackAndDamageIsSeen) {
  for (std::string value : {std::string(), std::string("x\0y", 3), std::string(100'000, 'a')}) EXPECT_EQ(records::decode_value(records::encode_value(value))->bytes, value);
  EXPECT_LT(records::encode_value(std::string(100'000, 'a')).size(), 200u);
  auto record = records::encode_value("some text that is compressed, some text that is compressed");
  for (std::size_t i = 2; i < record.size(); ++i) {
    auto bad = record;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    auto value = records::decode_value(bad);
    EXPECT_TRUE(!value || value->bytes == records::decode_value(record)->bytes) << i;  // zstd has a few bits that say nothing
  }
  for (std::size_t size = 0; size < record.size(); ++size) EXPECT_FALSE(records::decode_value(record.substr(0, size))) << size;
  auto newer = record;
  newer[0] = 2;
  EXPECT_EQ(records::decode_value(newer).error().code, Errc::invalid);
  newer[0] = 0;
  EXPECT_EQ(records::decode_value(newer).error().code, Errc::corrupt);
  newer[0] = 1, newer[1] = '?';
  EXPECT_EQ(records::decode_value(newer).error().code, Errc::corrupt);
  auto reference = records::decode_value(records::encode_reference({"abc", 3}));
  ASSERT_TRUE(reference && reference->elsewhere);
  EXPECT_EQ(reference->elsewhere->chunk(2), "abc.2");
}

TEST(StoreRecordsTest, SmallRecordsComeBackAndNewerOnesAreRefused) {
  EXPECT_EQ(records::decode_meta(records::encode(records::Meta{"c", true}))->restoring, true);
  EXPECT_EQ(records::decode_epoch(records::encode(records::Epoch{7, "x"}))->by, "x");
  auto head = records::decode_head(records::encode(records::Head{17, records::Blob{"b", 2}}));
  ASSERT_TRUE(head && head->pending);
  EXPECT_EQ(head->number, 17u);
  EXPECT_EQ(head->pending->chunks, 2u);
  EXPECT_FALSE(records::decode_head(records::encode(records::Head{3, {}}))->pending);
  EXPECT_EQ(records::decode_head(R"({"format":2,"head":1})").error().code, Errc::invalid);
  for (auto bad : {"", "x", "[]", R"({"head":1})", R"({"format":1})", R"({"format":1,"head":-1})", R"({"format":1,"head":1,"pending":{"blob":"b"}})", R"({"format":1,"head":1,"pending":{"blob":"b","chunks":0}})"}) {
    auto h = records::decode_head(bad);
    ASSERT_FALSE(h) << bad;
    EXPECT_EQ(h.error().code, Errc::corrupt) << bad;
  }
  EXPECT_FALSE(records::decode_meta(R"({"format":1})"));
  EXPECT_FALSE(records::decode_epoch(R"({"format":1,"epoch":"7"})"));
}

TEST(StoreRecordsTest, BatchesComeBackWhole) {
  Batch b;
  b.put = {{"a", "1"}, {"b", std::string("\0\xFF", 2)}, {"c", ""}};
  b.remove = {"d", "e/f"};
  auto bytes = records::encode_batch(b);
  auto back = records::decode_batch(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->put, b.put);
  EXPECT_EQ(back->remove, b.remove);
  for (std::size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(records::decode_batch(bytes.substr(0, size)));
  EXPECT_THAT(records::cut("abcde", 2), ElementsAre("ab", "cd", "e"));
}

TEST(StoreRecordsTest, BatchesBeyondAnyStoresBoundsAreRefused) {
  Batch b;
  b.put.emplace("", "x");
  EXPECT_EQ(check(b).error().code, Errc::invalid);
  b = {};
  b.remove = {std::string(1025, 'k')};
  EXPECT_EQ(check(b).error().code, Errc::too_large);
  b = {};
  b.put.emplace("apps/huge", std::string(value_bytes_max + 1, 'v'));
  EXPECT_THAT(check(b).error().context, HasSubstr("apps/huge"));
  b = {};
  for (int i = 0; i < 5; ++i) b.put.emplace(std::to_string(i), std::string(value_bytes_max, 'v'));
  EXPECT_EQ(check(b).error().code, Errc::too_large);
}

TEST(BackupTest, ComesBackAndEveryDamageIsSeen) {
  Snapshot s{{7, 1234, "cluster"}, {{"apps/a", "1"}, {"apps/b", std::string("\0\n\xFF", 3)}}};
  auto taken = *from_iso8601("2026-01-02T03:04:05.678Z");
  auto bytes = encode_backup(s, taken);
  auto back = decode_backup(bytes);
  ASSERT_TRUE(back) << back.error().context;
  EXPECT_EQ(back->snapshot.values, s.values);
  EXPECT_EQ(back->snapshot.term.head, 1234u);
  EXPECT_EQ(back->snapshot.term.epoch, 7u);
  EXPECT_EQ(back->snapshot.term.cluster_id, "cluster");
  EXPECT_EQ(back->taken, taken);
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    auto bad = bytes;
    bad[i] = static_cast<char>(bad[i] ^ 0x01);
    EXPECT_FALSE(decode_backup(bad)) << i;
  }
  for (std::size_t size = 0; size + 1 < bytes.size(); ++size) EXPECT_FALSE(decode_backup(bytes.substr(0, size))) << size;
  EXPECT_THAT(decode_backup("{\"croft_backup\":2}\n").error().context, HasSubstr("newer croft"));
  EXPECT_THAT(decode_backup("hello").error().context, HasSubstr("no backup"));
}

TEST(BackupTest, RestoringLeapsAheadAndNeverFallsBehind) {
  Term saved{7, 100, "old"};
  auto t = restored_term(saved, {1, 3, "new"}, {});
  EXPECT_EQ(t.cluster_id, "old");
  EXPECT_EQ(t.epoch, 7 + leap_epochs);
  EXPECT_EQ(t.head, 100 + leap_commits);
  EXPECT_EQ(restored_term(saved, {9'000, 9'000'000, "new"}, {}).epoch, 9'001u);
  EXPECT_EQ(restored_term(saved, {9'000, 9'000'000, "new"}, {}).head, 9'000'000u);
  EXPECT_EQ(restored_term(saved, {}, {0, 5'000'000, "named"}).head, 5'000'000u);
  EXPECT_EQ(restored_term(saved, {}, {0, 5'000'000, "named"}).cluster_id, "named");
}

TEST(DeadSessionTest, TheIdentityIsKeptSecretAndTheLockIsHeldOnce) {
  char name[] = "/tmp/croft-session-XXXXXX";
  fs::path dir = mkdtemp(name);
  SessionIdentity id{"h1:2181,h2:2181", static_cast<std::int64_t>(0x8123456789abcdefULL), {'\0', 'x', '\xFF'}};
  ASSERT_TRUE(keep_session(dir, id));
  struct stat st{};
  ASSERT_EQ(::stat((dir / "session.json").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  auto back = decode_session_identity(*read_file(dir / "session.json"));
  ASSERT_TRUE(back) << back.error().context;
  EXPECT_EQ(back->id, id.id);
  EXPECT_EQ(back->password, id.password);
  EXPECT_EQ(back->servers, id.servers);
  for (auto bad : {"", "{}", R"({"format":1,"servers":"h:1","session":"zz","password":"00"})", R"({"format":2})"}) EXPECT_FALSE(decode_session_identity(bad)) << bad;
  {
    auto held = lock_session(dir);
    ASSERT_TRUE(held);
    auto second = end_dead_session(dir, Millis(100));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_TRUE(fs::exists(dir / "session.json"));
  }
  forget_session(dir);
  EXPECT_EQ(end_dead_session(dir, Millis(100)), false);
  fs::remove_all(dir);
}

}  // namespace
}  // namespace croft::coordination
