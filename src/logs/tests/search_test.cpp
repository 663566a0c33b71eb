#include "store_fixture.hpp"

namespace croft::logs {
namespace {

using LogSearch = StoreTest;

TEST_F(LogSearch, HitsComeInTheOrderAskedForAndPagesFitTogether) {
  for (int i = 0; i < 30; ++i) {
    put(R"({"@timestamp":"2024-05-02T10:00:)" + std::to_string(10 + i) + R"(Z","n":)" + std::to_string(i % 7) + "}", "d" + std::to_string(i));
    if (i == 9 || i == 19) {
      ASSERT_TRUE(store_->seal());
    }
  }
  SearchRequest r;
  r.sort = *parse_sort(*json::parse(R"([{"n":"desc"},{"@timestamp":{"order":"asc"}}])"));
  r.size = 100;
  auto all = run(r).hits;
  ASSERT_EQ(all.size(), 30u);
  EXPECT_EQ(all[0].id, "d6");
  EXPECT_EQ(all[29].id, "d28");
  std::vector<std::string> paged;
  r.size = 7;
  for (;;) {
    auto page = run(r).hits;
    if (page.empty()) break;
    for (const auto& hit : page) paged.push_back(hit.id);
    r.after = page.back().keys;
  }
  ASSERT_EQ(paged.size(), 30u);
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(paged[i], all[i].id);
  r.after.clear();
  r.from = 28;
  EXPECT_EQ(run(r).hits.size(), 2u);
}

TEST_F(LogSearch, TheNewestAreFoundThoughOldPartsAreSkipped) {
  for (int day = 1; day <= 5; ++day) {
    for (int i = 0; i < 10; ++i) put(fmt::format(R"({{"@timestamp":"2024-05-0{}T10:00:0{}Z"}})", day, i), "", false, fmt::format("logstash-2024.05.0{}", 6 - day));  // names do not tell the order
    ASSERT_TRUE(store_->seal());
  }
  SearchRequest r;
  r.sort = *parse_sort(*json::parse(R"([{"@timestamp":"desc"}])"));
  r.size = 3;
  r.total_limit = 5;
  auto result = run(r);
  ASSERT_EQ(result.hits.size(), 3u);
  EXPECT_EQ(to_iso8601(result.hits[0].at), "2024-05-05T10:00:09.000Z");
  EXPECT_EQ(to_iso8601(result.hits[2].at), "2024-05-05T10:00:07.000Z");
  EXPECT_EQ(result.total, 5u);
  EXPECT_TRUE(result.total_is_lower_bound);
}

TEST_F(LogSearch, InTheOrderOfArrivalEveryDocumentComesOnce) {
  for (int i = 0; i < 50; ++i) {
    put("{\"n\":" + std::to_string(i) + "}", "", false, i % 2 ? "a" : "b");
    if (i % 20 == 19) {
      ASSERT_TRUE(store_->seal());
    }
  }
  SearchRequest r;
  r.sort = *parse_sort(json::value("_doc"));
  r.size = 8;
  r.total_limit = 0;
  std::vector<std::uint64_t> seen;
  for (;;) {
    auto page = run(r).hits;
    if (page.empty()) break;
    for (const auto& hit : page) seen.push_back(hit.seq);
    r.after = page.back().keys;
    r.after_seq = page.back().seq;
  }
  EXPECT_EQ(seen.size(), 50u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(LogSearch, ASearchEndsAtItsLimitWithWhatItHas) {
  for (int i = 0; i < 3000; ++i) put("{\"n\":1}");
  SearchRequest r;
  r.query = *parse_query_string("n:1", {}, test_now);
  r.limit = Millis(0);
  auto result = run(r);
  EXPECT_TRUE(result.timed_out);
  EXPECT_LT(result.total, 3000u);
  std::atomic<bool> cancelled{true};
  r.limit = Millis(10'000);
  EXPECT_TRUE(search(store_->view([](const auto&) { return true; }), r, &cancelled).timed_out);
  r.terminate_after = 10;
  EXPECT_TRUE(run(r).terminated_early);
  EXPECT_EQ(run(r).total, 10u);
}

TEST_F(LogSearch, SortsThatCannotBeAreRefused) {
  for (auto bad : {R"([1])", R"({"a":{"order":"sideways"}})", R"({"_script":{}})"}) EXPECT_FALSE(parse_sort(*json::parse(bad))) << bad;
}

class Aggregations : public StoreTest {
 protected:
  Aggregations() {
    for (int i = 0; i < 10; ++i) {
      put(fmt::format(R"({{"@timestamp":"2024-05-02T1{}:00:00Z","host":"n{}","took":{},"slow":{},"tags":["all","t{}"]}})", i % 2, i % 3, i, i > 6, i % 2));
      if (i == 4) {
        EXPECT_TRUE(store_->seal());
      }
    }
  }
};

TEST_F(Aggregations, BucketsCountAndNest) {
  EXPECT_EQ(aggregate(R"({"by_time":{"date_histogram":{"field":"@timestamp","fixed_interval":"1h"}},"hosts":{"terms":{"field":"host.keyword"},"aggs":{"most":{"max":{"field":"took"}}}}})"),
            R"({"by_time":{"buckets":[{"key_as_string":"2024-05-02T10:00:00.000Z","key":1714644000000,"doc_count":5},{"key_as_string":"2024-05-02T11:00:00.000Z","key":1714647600000,"doc_count":5}]},)"
            R"("hosts":{"doc_count_error_upper_bound":0,"sum_other_doc_count":0,"buckets":[{"key":"n0","doc_count":4,"most":{"value":9}},{"key":"n1","doc_count":3,"most":{"value":7}},{"key":"n2","doc_count":3,"most":{"value":8}}]}})");
}

TEST_F(Aggregations, MetricsAreComputed) {
  EXPECT_EQ(aggregate(R"({"a":{"avg":{"field":"took"}},"b":{"min":{"field":"took"}},"c":{"sum":{"field":"took"}},"d":{"value_count":{"field":"tags"}},"e":{"cardinality":{"field":"host"}},"f":{"avg":{"field":"nothing"}},"g":{"sum":{"field":"nothing"}}})"),
            R"({"a":{"value":4.5},"b":{"value":0},"c":{"value":45},"d":{"value":20},"e":{"value":3},"f":{"value":null},"g":{"value":0}})");
  EXPECT_EQ(aggregate(R"({"s":{"stats":{"field":"took"}}})"), R"({"s":{"count":10,"min":0,"max":9,"avg":4.5,"sum":45}})");
  EXPECT_EQ(aggregate(R"({"p":{"percentiles":{"field":"took","percents":[50,100]}}})"), R"({"p":{"values":{"50.0":4.5,"100.0":9}}})");
  EXPECT_EQ(aggregate(R"({"p":{"percentile_ranks":{"field":"took","values":[4],"keyed":false}}})"), R"({"p":{"values":[{"key":4,"value":50}]}})");
  EXPECT_EQ(aggregate(R"({"m":{"max":{"field":"@timestamp"}}})"), R"({"m":{"value":1714647600000,"value_as_string":"2024-05-02T11:00:00.000Z"}})");
  auto extended = aggregate(R"({"x":{"extended_stats":{"field":"took"}}})");
  EXPECT_NE(extended.find(R"("variance":8.25)"), std::string::npos) << extended;
}

TEST_F(Aggregations, TermsAreOrderedCutAndChosen) {
  auto keys = [&](std::string_view terms) {
    auto reply = *json::parse(aggregate(fmt::format(R"({{"t":{{"terms":{},"aggs":{{"m":{{"max":{{"field":"took"}}}}}}}}}})", terms)));
    std::string out;
    for (const auto& b : json::list(*json::find(reply, "t"), "buckets")) out += json::print(*json::find(b, "key")) + " ";
    return out;
  };
  EXPECT_EQ(keys(R"({"field":"host","order":{"_key":"desc"}})"), "\"n2\" \"n1\" \"n0\" ");
  EXPECT_EQ(keys(R"({"field":"host","order":{"m":"asc"}})"), "\"n1\" \"n2\" \"n0\" ");
  EXPECT_EQ(keys(R"({"field":"host","order":[{"_count":"asc"},{"_key":"desc"}]})"), "\"n2\" \"n1\" \"n0\" ");
  EXPECT_EQ(keys(R"({"field":"took","size":2,"order":{"_key":"asc"}})"), "0 1 ");
  EXPECT_EQ(keys(R"({"field":"host","include":"n[01]"})"), "\"n0\" \"n1\" ");
  EXPECT_EQ(keys(R"({"field":"host","exclude":["n0"]})"), "\"n1\" \"n2\" ");
  EXPECT_EQ(keys(R"({"field":"nothing","missing":"none"})"), "\"none\" ");
  EXPECT_EQ(keys(R"({"field":"host","min_doc_count":4})"), "\"n0\" ");
  EXPECT_EQ(aggregate(R"({"s":{"terms":{"field":"slow"}}})"),
            R"({"s":{"doc_count_error_upper_bound":0,"sum_other_doc_count":0,"buckets":[{"key":0,"key_as_string":"false","doc_count":7},{"key":1,"key_as_string":"true","doc_count":3}]}})");
  EXPECT_NE(aggregate(R"({"t":{"terms":{"field":"host","size":1}}})").find(R"("sum_other_doc_count":6)"), std::string::npos);
}

TEST_F(Aggregations, HistogramsFillTheirGaps) {
  EXPECT_EQ(aggregate(R"({"h":{"histogram":{"field":"took","interval":4}}})"), R"({"h":{"buckets":[{"key":0,"doc_count":4},{"key":4,"doc_count":4},{"key":8,"doc_count":2}]}})");
  auto spread = *json::parse(aggregate(R"({"h":{"date_histogram":{"field":"@timestamp","fixed_interval":"30m","min_doc_count":0,"extended_bounds":{"min":"2024-05-02T09:00:00Z","max":"2024-05-02T12:00:00Z"}}}})"));
  EXPECT_EQ(json::list(*json::find(spread, "h"), "buckets").size(), 7u);
  auto tight = *json::parse(aggregate(R"({"h":{"date_histogram":{"field":"@timestamp","interval":"30m","min_doc_count":1}}})"));
  EXPECT_EQ(json::list(*json::find(tight, "h"), "buckets").size(), 2u);
  auto nothing = aggregate(R"({"h":{"date_histogram":{"field":"@timestamp","fixed_interval":"1h"}}})", R"({"match_none":{}})");
  EXPECT_EQ(nothing, R"({"h":{"buckets":[]}})");
}

TEST_F(Aggregations, CalendarUnitsFollowTheZone) {
  put(R"({"@timestamp":"2024-03-30T23:30:00Z","x":1})", "", false, "march");
  put(R"({"@timestamp":"2024-03-31T22:30:00Z","x":1})", "", false, "march");
  auto reply = aggregate(R"({"d":{"date_histogram":{"field":"@timestamp","calendar_interval":"day","time_zone":"Europe/Berlin","min_doc_count":1}}})", R"({"exists":{"field":"x"}})");
  EXPECT_EQ(reply, R"({"d":{"buckets":[{"key_as_string":"2024-03-31T00:00:00.000+01:00","key":1711839600000,"doc_count":1},{"key_as_string":"2024-04-01T00:00:00.000+02:00","key":1711922400000,"doc_count":1}]}})");
  auto months = aggregate(R"({"d":{"date_histogram":{"field":"@timestamp","calendar_interval":"1M","format":"yyyy-MM"}}})");
  EXPECT_EQ(months, R"({"d":{"buckets":[{"key_as_string":"2024-03","key":1709251200000,"doc_count":2},{"key_as_string":"2024-04","key":1711929600000,"doc_count":0},{"key_as_string":"2024-05","key":1714521600000,"doc_count":10}]}})");
}

TEST_F(Aggregations, FiltersRangesAndTheRest) {
  EXPECT_EQ(aggregate(R"({"f":{"filters":{"filters":{"slow":{"term":{"slow":true}}},"other_bucket_key":"rest"}}})"), R"({"f":{"buckets":{"slow":{"doc_count":3},"rest":{"doc_count":7}}}})");
  EXPECT_EQ(aggregate(R"({"f":{"filter":{"term":{"slow":true}},"aggs":{"m":{"min":{"field":"took"}}}}})"), R"({"f":{"doc_count":3,"m":{"value":7}}})");
  EXPECT_EQ(aggregate(R"({"r":{"range":{"field":"took","ranges":[{"to":3},{"from":3,"to":8},{"from":8,"key":"top"}]}}})"),
            R"({"r":{"buckets":[{"key":"*-3.0","to":3,"doc_count":3},{"key":"3.0-8.0","from":3,"to":8,"doc_count":5},{"key":"top","from":8,"doc_count":2}]}})");
  EXPECT_EQ(aggregate(R"({"m":{"missing":{"field":"nothing"}}})"), R"({"m":{"doc_count":10}})");
  EXPECT_EQ(aggregate(R"({"g":{"global":{},"aggs":{"n":{"value_count":{"field":"took"}}}},"mine":{"value_count":{"field":"took"}}})", R"({"term":{"took":3}})"), R"({"g":{"doc_count":10,"n":{"value":10}},"mine":{"value":1}})");
  auto dates = aggregate(R"({"d":{"date_range":{"field":"@timestamp","format":"yyyy-MM-dd","ranges":[{"from":"2024-05-02||/d","to":"2024-05-03"}]}}})");
  EXPECT_EQ(dates, R"({"d":{"buckets":[{"key":"2024-05-02-2024-05-03","from":1714608000000,"from_as_string":"2024-05-02","to":1714694400000,"to_as_string":"2024-05-03","doc_count":10}]}})");
  auto top = *json::parse(aggregate(R"({"t":{"top_hits":{"size":2,"sort":[{"took":"desc"}]}}})"));
  EXPECT_EQ(json::print(*json::find(json::list(*json::find(*json::find(top, "t"), "hits"), "hits").at(0), "sort")), "[9]");
}

TEST_F(Aggregations, WhatCannotBeIsRefusedInWords) {
  for (auto bad : {R"({"a":{"nonsense":{"field":"x"}}})", R"({"a":{"terms":{}}})", R"({"a":{}})", R"({"a":{"terms":{"field":"x","size":0}}})", R"({"a":{"terms":{"field":"x","order":{"sub":"asc"}}}})",
                   R"({"a":{"date_histogram":{"field":"@timestamp"}}})", R"({"a":{"date_histogram":{"field":"@timestamp","fixed_interval":"1M"}}})", R"({"a":{"date_histogram":{"field":"@timestamp","calendar_interval":"2d"}}})",
                   R"({"a":{"date_histogram":{"field":"@timestamp","fixed_interval":"0s"}}})", R"({"a":{"histogram":{"field":"x","interval":0}}})", R"({"a":{"range":{"field":"x","ranges":[]}}})",
                   R"({"a":{"max":{"field":"x"},"aggs":{"b":{"max":{"field":"y"}}}}})", R"({"a":{"percentiles":{"field":"x","percents":[101]}}})", R"({"a":{"terms":{"field":"x"},"max":{"field":"x"}}})", R"([])",
                   R"({"a":{"filters":{}}})", R"({"a":{"terms":{"field":"x","include":"("}}})", R"({"a":{"terms":{"field":"x"},"aggs":{"g":{"global":{}}}}})"})
    EXPECT_FALSE(parse_aggregations(*json::parse(bad), test_now)) << bad;
}

TEST_F(Aggregations, TooManyBucketsEndTheSearch) {
  auto parsed = parse_aggregations(*json::parse(R"({"d":{"date_histogram":{"field":"@timestamp","fixed_interval":"20ms"}}})"), test_now);
  SearchRequest r;
  r.size = 0;
  r.aggregations = *parsed;
  EXPECT_TRUE(run(r).too_many_buckets);
}

TEST_F(Aggregations, ManyDifferentValuesAreEstimated) {
  Document d;
  std::vector<Document> many;
  for (int i = 0; i < 45'000; ++i) {
    Document one{"many", "", false, "{\"@timestamp\":\"2024-05-02T10:00:00Z\",\"u\":" + std::to_string(i) + "}", test_now};
    many.push_back(std::move(one));
  }
  ASSERT_TRUE(store_->ingest(std::move(many)));
  auto reply = *json::parse(aggregate(R"({"c":{"cardinality":{"field":"u"}}})"));
  EXPECT_NEAR(json::number(*json::find(reply, "c"), "value"), 45'000, 1'350);
}

}  // namespace
}  // namespace croft::logs
