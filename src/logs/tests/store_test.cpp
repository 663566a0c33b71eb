#include "store_fixture.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

namespace croft::logs {
namespace {

using LogStore = StoreTest;

std::vector<fs::path> files_in(const fs::path& dir) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(dir)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

void flip(const fs::path& file, std::size_t at) {
  auto bytes = *read_file(file, 1u << 30);
  bytes[at] = static_cast<char>(bytes[at] ^ 0x20);
  ASSERT_TRUE(write_file_atomic(file, bytes));
}

fs::path full_wal(const fs::path& dir) {
  for (const auto& file : files_in(dir / "wal"))
    if (fs::file_size(file) > 0) return file;
  return {};
}

TEST_F(LogStore, WhatWasAcknowledgedIsThereAfterReopening) {
  put(R"({"message":"one"})");
  open();
  EXPECT_EQ(count("one"), 1u);
  ASSERT_TRUE(store_->seal());
  put(R"({"message":"two"})");
  open();
  EXPECT_EQ(count("one"), 1u);
  EXPECT_EQ(count("two"), 1u);
  EXPECT_EQ(store_->indices().at(0).documents, 2u);
}

TEST_F(LogStore, AShippedLineIsStoredOnceHoweverOftenItIsSent) {
  auto id = make_shipped_id("task/stdout", 100);
  EXPECT_EQ(put(R"({"message":"x"})", id, true).kind, Stored::Kind::created);
  EXPECT_EQ(put(R"({"message":"x"})", id, true).kind, Stored::Kind::conflict);
  ASSERT_TRUE(store_->seal());
  open();
  EXPECT_EQ(put(R"({"message":"x"})", id, true).kind, Stored::Kind::conflict);
  EXPECT_EQ(put(R"({"message":"older"})", make_shipped_id("task/stdout", 50), true).kind, Stored::Kind::conflict);
  EXPECT_EQ(put(R"({"message":"y"})", make_shipped_id("task/stdout", 200), true).kind, Stored::Kind::created);
  EXPECT_EQ(count("*"), 2u);
}

TEST_F(LogStore, OffsetsThatAreOnlyInTheLogAreKnownAfterACrashToo) {
  put(R"({"message":"a"})", make_shipped_id("s", 10), true);
  ASSERT_TRUE(store_->seal());
  put(R"({"message":"b"})", make_shipped_id("s", 20), true);
  open();
  EXPECT_EQ(store_->offset_of("s"), 20u);
  EXPECT_EQ(put(R"({"message":"b"})", make_shipped_id("s", 20), true).kind, Stored::Kind::conflict);
}

TEST_F(LogStore, AnIdGivenTwiceReplacesAcrossParts) {
  EXPECT_EQ(put(R"({"message":"first"})", "a").kind, Stored::Kind::created);
  ASSERT_TRUE(store_->seal());
  EXPECT_EQ(put(R"({"message":"second"})", "a").kind, Stored::Kind::updated);
  EXPECT_EQ(put(R"({"message":"third"})", "a", true).kind, Stored::Kind::conflict);
  EXPECT_EQ(count("first"), 0u);
  EXPECT_EQ(count("second"), 1u);
  open();
  EXPECT_EQ(count("first"), 0u);
  ASSERT_TRUE(store_->seal());
  open();
  EXPECT_EQ(count("first"), 0u);
  EXPECT_EQ(store_->indices().at(0).documents, 1u);
  EXPECT_EQ(store_->indices().at(0).deleted, 1u);
}

TEST_F(LogStore, IdsThatTheStoreMadeAreKnownAgainInTheirIndexOnly) {
  auto made = put(R"({"message":"x"})").id;
  EXPECT_EQ(made.size(), 20u);
  EXPECT_EQ(put(R"({"message":"x"})", made, true).kind, Stored::Kind::conflict);
  EXPECT_EQ(put(R"({"message":"x"})", made, true, "copy").kind, Stored::Kind::created);
  ASSERT_TRUE(store_->seal());
  open();
  EXPECT_EQ(put(R"({"message":"new"})", made).kind, Stored::Kind::updated);
  EXPECT_EQ(put(R"({"message":"x"})", made, true, "copy").kind, Stored::Kind::conflict);
  EXPECT_EQ(count("x"), 1u);
  EXPECT_EQ(put(R"({"message":"newer"})", made).kind, Stored::Kind::updated) << "a second time too";
  ASSERT_TRUE(store_->seal());
  open();
  EXPECT_EQ(put(R"({"message":"newest"})", made).kind, Stored::Kind::updated);
  EXPECT_EQ(count("*"), 2u);
  EXPECT_EQ(count("newest"), 1u);
}

TEST_F(LogStore, ADamagedPartIsNamedAndTheRestIsServed) {
  put(R"({"message":"one"})");
  ASSERT_TRUE(store_->seal());
  put(R"({"message":"two"})");
  ASSERT_TRUE(store_->seal());
  store_.reset();
  auto part = files_in(dir_.path() / "parts").at(0);
  flip(part, fs::file_size(part) - 20);
  for (int i = 0; i < 2; ++i) {  // it stays aside, and stays named, however often the store is opened
    open();
    ASSERT_EQ(store_->damaged().size(), 1u);
    EXPECT_NE(store_->damaged()[0].find(part.filename().string()), std::string::npos);
    EXPECT_EQ(count("two"), 1u);
    EXPECT_EQ(count("*"), i == 0 ? 1u : 2u);
    put(R"({"message":"more"})", "id");
    ASSERT_TRUE(store_->seal());
    ASSERT_TRUE(fs::exists(part));
    put(R"({"message":"more"})", "id");
  }
}

TEST_F(LogStore, ADamagedBlockIsFoundByItsChecksumAndTheOthersAreRead) {
  std::vector<Document> lines;
  for (int i = 0; i < 3000; ++i) {
    lines.push_back({"logs", "", false, R"({"message":"line )" + std::to_string(i) + " " + std::string(100, static_cast<char>('a' + i % 26)) + "\"}", {}});
    ASSERT_TRUE(complete_document(lines.back(), test_now));
  }
  ASSERT_TRUE(store_->ingest(std::move(lines)));
  ASSERT_TRUE(store_->seal());
  store_.reset();
  flip(files_in(dir_.path() / "parts").at(0), 40);
  open();
  EXPECT_TRUE(store_->damaged().empty()) << "blocks are checked when they are read";
  SearchRequest r;
  r.total_limit = UINT64_MAX;
  auto result = run(r);
  ASSERT_EQ(result.failures.size(), 1u);
  EXPECT_NE(result.failures[0].find("block 0"), std::string::npos);
  EXPECT_GT(result.total, 1000u);
  EXPECT_LT(result.total, 3000u);
}

TEST_F(LogStore, ATornTailOfTheLogIsCutAtWhateverByte) {
  put(R"({"message":"one"})");
  put(R"({"message":"two"})");
  store_.reset();
  auto wal = full_wal(dir_.path());
  auto bytes = *read_file(wal);
  auto one = bytes.size() / 2;
  for (std::size_t cut : {one + 1, one + 4, one + 12, one + 20, bytes.size() - 1}) {
    ASSERT_TRUE(write_file_atomic(wal, bytes.substr(0, cut)));
    std::size_t records = 0;
    auto done = replay_wal(wal, [&](const WalRecord&) { ++records; });
    ASSERT_TRUE(done);
    EXPECT_EQ(records, 1u) << cut;
    EXPECT_EQ(done->torn, cut - one);
    EXPECT_EQ(done->damaged, 0u);
  }
  open();
  EXPECT_EQ(count("one"), 1u);
  EXPECT_TRUE(store_->damaged().empty()) << "a torn tail is no damage: it was never acknowledged";
}

TEST_F(LogStore, ADamagedRecordInTheLogCostsOnlyItself) {
  for (auto word : {"one", "two", "three"}) put(std::string(R"({"message":")") + word + "\"}");
  store_.reset();
  auto wal = full_wal(dir_.path());
  auto bytes = *read_file(wal);
  for (std::size_t at : {bytes.find("two"), bytes.find("\xff" "cw2", 10) + 5}) {  // in the payload, and in the length
    ASSERT_TRUE(write_file_atomic(wal, bytes));
    flip(wal, at);
    std::vector<std::string> found;
    auto done = replay_wal(wal, [&](const WalRecord& r) { found.push_back(r.row.source); });
    ASSERT_EQ(found.size(), 2u);
    EXPECT_NE(found[1].find("three"), std::string::npos);
    EXPECT_GT(done->damaged, 0u);
  }
  open();
  EXPECT_EQ(count("three"), 1u);
  EXPECT_EQ(store_->damaged().size(), 1u);
}

TEST_F(LogStore, ADamagedCatalogIsPutTogetherAgainFromTheParts) {
  put(R"({"message":"sealed"})", "a");
  ASSERT_TRUE(store_->seal());
  put(R"({"message":"unsealed"})");
  store_.reset();
  flip(dir_.path() / "catalog", 30);
  for (int i = 0; i < 2; ++i) {
    open();
    EXPECT_EQ(count("sealed"), 1u);
    EXPECT_EQ(count("unsealed"), 1u);
    EXPECT_EQ(count("*"), 2u);
  }
  EXPECT_TRUE(fs::exists(dir_.path() / "catalog.damaged"));
}

TEST_F(LogStore, PartsThatNoCatalogNamesAreLeftoversAndGo) {
  put(R"({"message":"one"})");
  ASSERT_TRUE(store_->seal());
  store_.reset();
  auto part = files_in(dir_.path() / "parts").at(0);
  fs::copy_file(part, dir_.path() / "parts" / "logstash-2024.05.02.00000099.part");
  ASSERT_TRUE(write_file_atomic(dir_.path() / "parts" / "logstash-2024.05.02.0000009a.part.new", "half"));
  open();
  EXPECT_EQ(count("*"), 1u);
  EXPECT_EQ(files_in(dir_.path() / "parts").size(), 1u);
}

TEST_F(LogStore, ADroppedIndexDoesNotComeBackFromTheLog) {
  put(R"({"message":"old"})");
  put(R"({"message":"other"})", "", false, "other");
  ASSERT_TRUE(store_->drop_index("logstash-2024.05.02"));
  EXPECT_EQ(count("old"), 0u);
  open();
  EXPECT_EQ(count("old"), 0u);
  EXPECT_EQ(count("other"), 1u);
  put(R"({"message":"young"})");
  open();
  EXPECT_EQ(count("old"), 0u);
  EXPECT_EQ(count("young"), 1u);
  ASSERT_TRUE(store_->seal());
  open();
  EXPECT_EQ(count("*"), 2u);
  EXPECT_FALSE(store_->drop_index("nothing"));
}

TEST_F(LogStore, RetentionDropsWholeDays) {
  put(R"({"@timestamp":"2024-05-02T10:00:00Z","message":"old"})");
  options_.retain_days = 3000;  // the background thread must not be quicker than the test
  open();
  ASSERT_TRUE(store_->retain(test_now + std::chrono::days(2999)));
  EXPECT_EQ(count("old"), 1u);
  ASSERT_TRUE(store_->retain(test_now + std::chrono::days(3010)));
  EXPECT_EQ(count("old"), 0u);
}

TEST_F(LogStore, RetentionByBytesDropsTheOldestDayFirstAndKeepsTheLast) {
  for (auto day : {"2024.05.01", "2024.05.02", "2024.05.03"}) put(R"({"message":")" + std::string(3000, 'x') + "\"}", "", false, std::string("logstash-") + day);
  put(R"({"message":"kept"})", "", false, "no-day");
  options_.retain_bytes = 8000;
  open();
  ASSERT_TRUE(store_->retain(test_now));
  std::vector<std::string> names;
  for (const auto& i : store_->indices()) names.push_back(i.name);
  EXPECT_EQ(names, (std::vector<std::string>{"logstash-2024.05.02", "logstash-2024.05.03", "no-day"}));
  options_.retain_bytes = 1;
  open();
  ASSERT_TRUE(store_->retain(test_now));
  EXPECT_TRUE(store_->has_index("logstash-2024.05.03"));
}

TEST_F(LogStore, SourcesThatWereSilentForAMonthAreForgotten) {
  put(R"({"message":"x"})", make_shipped_id("task/stdout", 5), true);
  ASSERT_TRUE(store_->retain(system_now().wall + std::chrono::days(10)));
  EXPECT_EQ(store_->offset_of("task/stdout"), 5u);
  ASSERT_TRUE(store_->retain(system_now().wall + std::chrono::days(40)));
  EXPECT_FALSE(store_->offset_of("task/stdout"));
}

TEST_F(LogStore, ThereAreOnlySoManyIndices) {
  options_.indices_max = 2;
  open();
  put("{}", "", false, "a");
  put("{}", "", false, "b");
  EXPECT_EQ(put("{}", "", false, "c").kind, Stored::Kind::refused);
  EXPECT_EQ(put("{}", "", false, "a").kind, Stored::Kind::created);
  EXPECT_FALSE(store_->create_index("d"));
}

TEST_F(LogStore, S17_AFloodOfIndicesDoesNotEndTodaysLog) {
  options_.indices_max = 2;
  open();
  auto day = [](int away) {
    std::chrono::year_month_day date(std::chrono::floor<std::chrono::days>(system_now().wall) + std::chrono::days(away));
    return fmt::format("logstash-{:04}.{:02}.{:02}", int(date.year()), unsigned(date.month()), unsigned(date.day()));
  };
  put("{}", "", false, "logstash-1999.01.01");
  put("{}", "", false, "logstash-1999.01.02");
  for (int away : {-1, 0, 1}) EXPECT_EQ(put("{}", "", false, day(away)).kind, Stored::Kind::created) << away;
  for (int away : {-3, -2, 2, 3}) EXPECT_EQ(put("{}", "", false, day(away)).kind, Stored::Kind::refused) << away;
  EXPECT_EQ(put("{}", "", false, "other" + day(0).substr(8)).kind, Stored::Kind::refused) << "else the flood would have today's date";
  EXPECT_EQ(store_->indices().size(), 5u);
}

TEST_F(LogStore, SettingsSurviveAndAreBounded) {
  ASSERT_TRUE(store_->put_setting("template/a", "{\"x\":1}"));
  open();
  EXPECT_EQ(store_->settings("template/").at("a"), "{\"x\":1}");
  EXPECT_TRUE(store_->settings("alias/").empty());
  EXPECT_FALSE(store_->put_setting("template/b", std::string(2u << 20, 'x')));
  ASSERT_TRUE(store_->erase_setting("template/a"));
  EXPECT_FALSE(store_->erase_setting("template/a"));
}

TEST_F(LogStore, WritersAtTheSameTimeLoseAndDoubleNothing) {
  constexpr int threads = 4, each = 200;
  std::vector<std::thread> writers;
  std::atomic<int> created{0}, conflicts{0};
  for (int t = 0; t < threads; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; i < each; ++i) {
        auto mine = put(R"({"message":"mine"})", make_shipped_id("w" + std::to_string(t), static_cast<std::uint64_t>(i) + 1), true);
        auto shared = put(R"({"message":"shared"})", "shared-" + std::to_string(i), true);
        created += (mine.kind == Stored::Kind::created) + (shared.kind == Stored::Kind::created);
        conflicts += shared.kind == Stored::Kind::conflict;
        if (t == 0 && i % 50 == 0) {
          EXPECT_TRUE(store_->seal());
        }
      }
    });
  for (auto& w : writers) w.join();
  EXPECT_EQ(created, threads * each + each);
  EXPECT_EQ(conflicts, (threads - 1) * each);
  open();
  EXPECT_EQ(count("mine"), static_cast<std::uint64_t>(threads * each));
  EXPECT_EQ(count("shared"), static_cast<std::uint64_t>(each));
}

TEST_F(LogStore, MemoryIsBoundedWhenPartsCannotBeWritten) {
  options_.seal_rows = 4;
  open();
  // The folder of parts is gone: sealing fails until it is there again.
  fs::rename(dir_.path() / "parts", dir_.path() / "away");
  Result<Stored> last = Stored{};
  for (int i = 0; i < 100 && last; ++i) last = try_put("{\"n\":1}");
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, Errc::unavailable);
  auto before = count("n:1");
  EXPECT_LT(before, 40u);
  fs::rename(dir_.path() / "away", dir_.path() / "parts");
  EXPECT_TRUE(store_->seal());
  EXPECT_TRUE(try_put("{\"n\":1}"));
  EXPECT_EQ(count("n:1"), before + 1);
}

TEST(OwnIds, AreReadBackAndNeverMistaken) {
  OwnIds ids("store"), others("another");
  for (std::uint64_t seq : {std::uint64_t{1}, std::uint64_t{77}, std::uint64_t{1} << 40}) {
    auto id = ids.make("logs", seq);
    EXPECT_EQ(ids.read("logs", id), seq);
    EXPECT_FALSE(ids.read("logs2", id));
    EXPECT_FALSE(others.read("logs", id));
  }
  EXPECT_FALSE(ids.read("logs", "AAAAAAAAAAAAAAAAAAAA"));
  EXPECT_FALSE(ids.read("logs", "not base64 at all !!"));
  EXPECT_FALSE(ids.read("logs", ""));
}

TEST(IndexNames, FollowElasticsearchsRules) {
  for (auto good : {"logstash-2024.05.02", "a", ".hidden", "x_y-z+"}) EXPECT_TRUE(check_index_name(good)) << good;
  for (auto bad : {"", ".", "..", "Upper", "-a", "_a", "+a", "a b", "a,b", "a#b", "a:b", "a*b", "a/b", "a\\b", "a\"b", "a<b", "a|b", "a?b", "a\xff", "\xc3"}) EXPECT_FALSE(check_index_name(bad)) << bad;
  EXPECT_TRUE(check_index_name(std::string(255, 'a')));
  EXPECT_FALSE(check_index_name(std::string(256, 'a')));
}

}  // namespace
}  // namespace croft::logs
