#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/json.hpp"
#include "logs/es/bulk.hpp"
#include "logs/query/parse.hpp"
#include "logs/query/search.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

inline const Wall test_now = *from_iso8601("2024-05-02T12:00:00Z");

/// A folder that is gone when the test is over; in memory where that can be had: a thousand syncs are no test of the disk, only slow.
class TempDir {
 public:
  TempDir() {
    char in_memory[] = "/dev/shm/croft-logs-XXXXXX", on_disk[] = "/tmp/croft-logs-XXXXXX";
    auto* made = ::mkdtemp(in_memory);
    path_ = made ? made : ::mkdtemp(on_disk);
  }
  ~TempDir() {
    std::error_code ec;
    fs::remove_all(path_, ec);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() { open(); }
  void open() {
    store_.reset();
    options_.dir = dir_.path();
    auto made = Store::open(options_, metrics_);
    ASSERT_TRUE(made) << made.error().context;
    store_ = std::move(*made);
  }
  Result<Stored> try_put(std::string source, std::string id = "", bool create = false, std::string index = "logstash-2024.05.02") {
    Document d{std::move(index), std::move(id), create, std::move(source), {}};
    if (auto ok = complete_document(d, test_now); !ok) return fail(ok.error());
    std::vector<Document> all{std::move(d)};
    auto stored = store_->ingest(std::move(all));
    if (!stored) return fail(stored.error());
    return (*stored)[0];
  }
  Stored put(std::string source, std::string id = "", bool create = false, std::string index = "logstash-2024.05.02") {
    auto stored = try_put(std::move(source), std::move(id), create, std::move(index));
    EXPECT_TRUE(stored) << stored.error().context;
    return stored.value_or(Stored{});
  }
  SearchResult run(SearchRequest r) { return search(store_->view([](const auto&) { return true; }), r); }
  std::uint64_t count(std::string_view query, const QueryStringOptions& options = {}) {
    auto q = parse_query_string(query, options, test_now);
    EXPECT_TRUE(q) << q.error().context;
    SearchRequest r;
    if (q) r.query = *q;
    return run(std::move(r)).total;
  }
  std::uint64_t dsl(std::string_view query) {
    auto q = parse_dsl(*json::parse(query), test_now);
    EXPECT_TRUE(q) << query << ": " << q.error().context;
    SearchRequest r;
    if (q) r.query = *q;
    return run(std::move(r)).total;
  }
  std::string aggregate(std::string_view aggs, std::string_view query = "{\"match_all\":{}}") {
    auto parsed = parse_aggregations(*json::parse(aggs), test_now);
    EXPECT_TRUE(parsed) << parsed.error().context;
    if (!parsed) return "";
    SearchRequest r;
    r.query = *parse_dsl(*json::parse(query), test_now);
    r.size = 0;
    r.aggregations = *parsed;
    return run(std::move(r)).aggregations;
  }

  TempDir dir_;
  Metrics metrics_;
  StoreOptions options_;
  std::unique_ptr<Store> store_;
};

}  // namespace croft::logs
