#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/json.hpp"
#include "logs/es_api.hpp"
#include "logs/query/parse.hpp"
#include "logs/query/search.hpp"
#include "logs/store/store.hpp"
#include "logs/tail.hpp"

namespace croft::logs {
namespace {

const Wall now = *from_iso8601("2024-05-02T12:00:00Z");

class LogStore : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/croft-logs-XXXXXX";
    dir_ = mkdtemp(name);
    open();
  }
  void TearDown() override {
    store_.reset();
    fs::remove_all(dir_);
  }
  void open() {
    store_.reset();
    auto made = Store::open({.dir = dir_}, metrics_);
    ASSERT_TRUE(made) << made.error().context;
    store_ = std::move(*made);
  }
  Stored put(std::string source, std::string id = "", bool create = false) {
    Document d{"logstash-2024.05.02", std::move(id), create, std::move(source), {}};
    auto ok = complete_document(d, now);
    EXPECT_TRUE(ok) << ok.error().context;
    std::vector<Document> all{std::move(d)};
    auto stored = store_->ingest(std::move(all));
    EXPECT_TRUE(stored);
    return (*stored)[0];
  }
  std::uint64_t count(std::string_view query) {
    auto q = parse_query_string(query, {}, now);
    EXPECT_TRUE(q) << q.error().context;
    SearchRequest r;
    r.query = *q;
    return search(store_->view([](const auto&) { return true; }), r).total;
  }
  fs::path dir_;
  Metrics metrics_;
  std::unique_ptr<Store> store_;
};

TEST_F(LogStore, FindsByWordPhraseRangeAndField) {
  put(R"({"@timestamp":"2024-05-02T10:00:00Z","message":"Connection refused by 10.1.2.3","level":"WARN","n":15,"http":{"status":503},"tags":["a","b"]})");
  put(R"({"@timestamp":"2024-05-02T11:00:00Z","message":"refused the connection","level":"INFO","n":3})");
  EXPECT_EQ(count("refused"), 2u);
  EXPECT_EQ(count("\"connection refused\""), 1u);
  EXPECT_EQ(count("level:warn AND n:[10 TO 20]"), 1u);
  EXPECT_EQ(count("level:warn OR n:3"), 2u);
  EXPECT_EQ(count("refused NOT level:INFO"), 1u);
  EXPECT_EQ(count("refused -level:INFO"), 1u);
  EXPECT_EQ(count("http.status:>=500"), 1u);
  EXPECT_EQ(count("tags:b"), 1u);
  EXPECT_EQ(count("10.1.2.3"), 1u);
  EXPECT_EQ(count("conn*"), 2u);
  EXPECT_EQ(count("_exists_:tags"), 1u);
  EXPECT_EQ(count("@timestamp:[2024-05-02T10:30 TO now]"), 1u);
  EXPECT_EQ(count("message:(refused AND by)"), 1u);
  EXPECT_EQ(count("*"), 2u);
  EXPECT_EQ(count("nothing"), 0u);
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

TEST_F(LogStore, AnIdGivenTwiceReplacesAcrossParts) {
  EXPECT_EQ(put(R"({"message":"first"})", "a").kind, Stored::Kind::created);
  ASSERT_TRUE(store_->seal());
  EXPECT_EQ(put(R"({"message":"second"})", "a").kind, Stored::Kind::updated);
  EXPECT_EQ(put(R"({"message":"third"})", "a", true).kind, Stored::Kind::conflict);
  EXPECT_EQ(count("first"), 0u);
  EXPECT_EQ(count("second"), 1u);
  open();
  EXPECT_EQ(count("first"), 0u);
}

TEST_F(LogStore, ADamagedPartIsNamedAndTheRestIsServed) {
  put(R"({"message":"one"})");
  ASSERT_TRUE(store_->seal());
  put(R"({"message":"two"})");
  ASSERT_TRUE(store_->seal());
  store_.reset();
  auto part = fs::directory_iterator(dir_ / "parts")->path();
  auto bytes = *read_file(part);
  bytes[bytes.size() - 20] ^= 1;
  ASSERT_TRUE(write_file_atomic(part, bytes));
  open();
  ASSERT_EQ(store_->damaged().size(), 1u);
  EXPECT_NE(store_->damaged()[0].find(part.filename().string()), std::string::npos);
  EXPECT_EQ(count("*"), 1u);
}

TEST_F(LogStore, ATornTailOfTheLogIsCut) {
  put(R"({"message":"one"})");
  store_.reset();
  for (const auto& entry : fs::directory_iterator(dir_ / "wal")) {
    auto bytes = *read_file(entry.path());
    if (bytes.empty()) continue;
    ASSERT_TRUE(write_file_atomic(entry.path(), bytes + bytes.substr(0, bytes.size() / 2)));
  }
  open();
  EXPECT_EQ(count("one"), 1u);
}

TEST_F(LogStore, AggregationsCount) {
  for (int i = 0; i < 10; ++i) put(R"({"@timestamp":"2024-05-02T1)" + std::to_string(i % 2) + R"(:00:00Z","host":"n)" + std::to_string(i % 3) + R"(","took":)" + std::to_string(i) + "}");
  auto aggs = json::parse(R"({"by_time":{"date_histogram":{"field":"@timestamp","fixed_interval":"1h"}},"hosts":{"terms":{"field":"host.keyword"},"aggs":{"most":{"max":{"field":"took"}}}}})");
  auto parsed = parse_aggregations(*aggs, now);
  ASSERT_TRUE(parsed);
  SearchRequest r;
  r.query = match_all();
  r.size = 0;
  r.aggregations = *parsed;
  auto result = search(store_->view([](const auto&) { return true; }), r);
  EXPECT_EQ(result.aggregations,
            R"({"by_time":{"buckets":[{"key_as_string":"2024-05-02T10:00:00.000Z","key":1714644000000,"doc_count":5},{"key_as_string":"2024-05-02T11:00:00.000Z","key":1714647600000,"doc_count":5}]},)"
            R"("hosts":{"doc_count_error_upper_bound":0,"sum_other_doc_count":0,"buckets":[{"key":"n0","doc_count":4,"most":{"value":9}},{"key":"n1","doc_count":3,"most":{"value":7}},{"key":"n2","doc_count":3,"most":{"value":8}}]}})");
}

TEST_F(LogStore, RetentionDropsWholeDays) {
  put(R"({"@timestamp":"2024-05-02T10:00:00Z","message":"old"})");
  store_.reset();
  auto made = Store::open({.dir = dir_, .retain_days = 3}, metrics_);
  store_ = std::move(*made);
  ASSERT_TRUE(store_->retain(now + std::chrono::days(2)));
  EXPECT_EQ(count("old"), 1u);
  ASSERT_TRUE(store_->retain(now + std::chrono::days(10)));
  EXPECT_EQ(count("old"), 0u);
}

TEST(QueryString, MistakesNameTheirColumn) {
  for (auto bad : {"foo(", "a AND", "\"open", "n:[1 2]", ")", "(", "/open"}) {
    auto q = parse_query_string(bad, {}, now);
    ASSERT_FALSE(q) << bad;
    EXPECT_NE(q.error().context.find("column"), std::string::npos);
  }
  EXPECT_FALSE(parse_query_string(std::string(5000, '('), {}, now));
}

TEST(Dsl, UnknownClausesAreRefused) {
  for (auto bad : {R"({"nested":{}})", R"({"bool":{"musst":[]}})", R"({"range":{"n":{"gtee":1}}})", R"({"match":{}})", R"([])", R"({"terms":{"a":"b"}})"})
    EXPECT_FALSE(parse_dsl(*json::parse(bad), now)) << bad;
}

TEST(Bulk, BadBodiesAreRefusedWhole) {
  for (auto bad : {"", "{\"index\":{}}", "nonsense\n", "{\"index\":{\"_index\":\"a\",\"colour\":1}}\n{}\n", "{\"swallow\":{}}\n", "{\"index\":{\"_index\":\"a\"}}\n"})
    EXPECT_FALSE(parse_bulk(bad, "", now)) << bad;
  auto items = parse_bulk("{\"index\":{\"_index\":\"a\"}}\n{\"x\":1}\n\n{\"create\":{\"_index\":\"A\"}}\n{}\n{\"index\":{}}\nno json\n", "b", now);
  ASSERT_TRUE(items);
  ASSERT_EQ(items->size(), 3u);
  EXPECT_TRUE((*items)[0].problem.empty());
  EXPECT_NE((*items)[1].problem.find("lowercase"), std::string::npos);
  EXPECT_EQ((*items)[2].status, 400);
}

TEST(DateMath, RoundsDownAndUp) {
  EXPECT_EQ(to_iso8601(*parse_date("now-1h/d", false, now)), "2024-05-02T00:00:00.000Z");
  EXPECT_EQ(to_iso8601(*parse_date("2024-05", true, now)), "2024-05-31T23:59:59.999Z");
  EXPECT_EQ(to_iso8601(*parse_date("2024-01-31||+1M", false, now)), "2024-02-29T00:00:00.000Z");
  EXPECT_FALSE(parse_date("now+1x", false, now));
  EXPECT_FALSE(parse_date("yesterday", false, now));
}

TEST(TailTest, FollowsRotationWithoutLossOrRepeat) {
  char name[] = "/tmp/croft-tail-XXXXXX";
  fs::path dir = mkdtemp(name);
  auto stamps = [](std::initializer_list<std::pair<std::uint64_t, std::int64_t>> list) {
    std::string out;
    for (auto [offset, at] : list) out.append(reinterpret_cast<const char*>(&offset), 8), out.append(reinterpret_cast<const char*>(&at), 8);
    return out;
  };
  ASSERT_TRUE(write_file_atomic(dir / "stdout", "one\ntwo\npart"));
  ASSERT_TRUE(write_file_atomic(dir / "stdout.times", stamps({{0, 1000}, {4, 2000}})));
  Tail tail(dir, "stdout", 0);
  std::vector<Gap> gaps;
  auto lines = tail.read(1 << 20, false, gaps);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1].text, "two");
  EXPECT_EQ(lines[1].at, Wall(Millis(2000)));
  EXPECT_EQ(lines[1].end, 8u);
  fs::rename(dir / "stdout", dir / "stdout.1");
  fs::rename(dir / "stdout.times", dir / "stdout.1.times");
  ASSERT_TRUE(write_file_atomic(dir / "stdout", "ial\nfour\n"));
  ASSERT_TRUE(write_file_atomic(dir / "stdout.times", stamps({{12, 3000}})));
  lines = tail.read(1 << 20, false, gaps);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].text, "partial");
  EXPECT_EQ(lines[1].text, "four");
  EXPECT_TRUE(gaps.empty());
  Tail late(dir, "stdout", 2);
  fs::remove(dir / "stdout.1");
  EXPECT_EQ(late.read(1 << 20, false, gaps).size(), 2u);
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_EQ(gaps[0].to, 12u);
  fs::remove_all(dir);
}

}  // namespace
}  // namespace croft::logs
