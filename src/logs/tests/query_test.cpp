#include "store_fixture.hpp"

namespace croft::logs {
namespace {

class Queries : public StoreTest {
 protected:
  Queries() {
    put(R"({"@timestamp":"2024-05-02T10:00:00Z","message":"Connection refused by 10.1.2.3","level":"WARN","n":15,"http":{"status":503},"tags":["a","b"],"ok":false})", "one");
    put(R"({"@timestamp":"2024-05-02T11:00:00Z","message":"refused the connection","level":"INFO","n":3,"ok":true,"when":"2024-04-30T23:30:00Z"})", "two");
    EXPECT_TRUE(store_->seal());
    put(R"({"@timestamp":"2024-05-03T09:30:00Z","message":"GET /var/log/syslog took 15 ms","log.offset":77,"level":"debug-trace"})", "three");
  }
};

TEST_F(Queries, AStringFindsByWordPhraseRangeAndField) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"refused", 2}, {"REFUSED", 2}, {"\"connection refused\"", 1}, {"\"refused connection\"~1", 1}, {"level:warn AND n:[10 TO 20]", 1}, {"level:warn OR n:3", 2}, {"refused NOT level:INFO", 1},
      {"refused -level:INFO", 1}, {"refused !level:INFO", 1}, {"http.status:>=500", 1}, {"http.status:503", 1}, {"tags:b", 1}, {"10.1.2.3", 1}, {"conn*", 2}, {"conn?ction", 2}, {"_exists_:tags", 1}, {"NOT _exists_:tags", 2},
      {"message:(refused AND by)", 1}, {"message:(refused by)", 2}, {"*", 3}, {"*:*", 3}, {"", 3}, {"nothing", 0}, {"n:{3 TO 15}", 0}, {"n:[3 TO 15}", 1}, {"n:<15", 1}, {"n:(>=3 AND <4)", 1},
      {"ok:true", 1}, {"level:W*", 1}, {"level.keyword:WARN", 1}, {"level.keyword:warn", 0}, {"message:/conn.*n/", 2}, {"\"/var/log/syslog\"", 1}, {"log.offset:77", 1}, {"log.*:77", 1}, {"http*:503", 1},
      {"conection~", 2}, {"conection~0", 0}, {"refused^4 OR nothing", 2}, {"@timestamp:[2024-05-02T10:30 TO 2024-05-02]", 1}, {"@timestamp:\"2024-05-02\"", 0}, {"@timestamp:2024-05-02", 2}, {"@timestamp:>now", 1},
      {"_id:two", 1}, {"_index:logstash-2024.05.02", 3}, {"and", 0}, {"level:debug\\-trace", 1}, {"n:*", 2}};
  for (auto [query, hits] : cases) EXPECT_EQ(count(query), hits) << query;
}

TEST_F(Queries, OperatorsHaveTheirPrecedenceAndPlusAndMinusTheirMeaning) {
  const std::pair<const char*, std::uint64_t> cases[] = {{"level:warn OR level:info AND n:15", 1}, {"(level:warn OR level:info) AND n:15", 1}, {"level:info AND n:15 OR level:warn", 1}, {"NOT level:warn AND refused", 1},
                                                         {"+refused -level:info", 1}, {"+refused level:info", 2}, {"+refused +level:info", 1}, {"-level:warn -level:info", 1}, {"NOT (level:warn OR level:info)", 1},
                                                         {"refused OR NOT refused", 3}, {"NOT refused OR refused", 3}, {"level:warn OR NOT refused", 2}, {"level:warn || -refused", 2}, {"nothing OR NOT level:warn", 2},
                                                         {"NOT level:warn OR NOT level:info", 3}, {"refused OR took -level:info", 2}, {"refused AND NOT level:info OR n:3", 2}, {"NOT (refused OR NOT refused)", 0},
                                                         {"refused OR NOT refused AND took", 3}, {"+level:warn OR NOT refused", 1}};
  for (auto [query, hits] : cases) EXPECT_EQ(count(query), hits) << query;
}

TEST_F(Queries, WithAndAsTheDefaultWordsSideBySideAreAllWanted) {
  QueryStringOptions all{{}, true, nullptr};
  EXPECT_EQ(count("refused warn", all), 1u);
  EXPECT_EQ(count("warn OR info", all), 2u);
  EXPECT_EQ(count("refused warn OR took", all), 2u);
  EXPECT_EQ(count("refused -warn", all), 1u);
  EXPECT_EQ(count("warn OR NOT refused", all), 2u);
  EXPECT_EQ(count("-warn -info", all), 1u);
}

TEST_F(Queries, MistakesNameTheirColumn) {
  for (auto bad : {"foo(", "a AND", "\"open", "n:[1 2]", ")", "(", "/open", "n:[1 TO", "a OR", "n:>", "~", "()", "_exists_:"}) {
    auto q = parse_query_string(bad, {}, test_now);
    ASSERT_FALSE(q) << bad;
    EXPECT_NE(q.error().context.find("column"), std::string::npos);
  }
  EXPECT_FALSE(parse_query_string(std::string(5000, '('), {}, test_now));
  EXPECT_FALSE(parse_query_string(std::string(70'000, 'a'), {}, test_now));
}

TEST_F(Queries, TheSimpleSyntaxNeverFails) {
  auto simple = [&](std::string_view text, bool all = false) {
    SearchRequest r;
    r.query = parse_simple_query_string(text, {{}, all, nullptr});
    return run(std::move(r)).total;
  };
  EXPECT_EQ(simple("refused"), 2u);
  EXPECT_EQ(simple("refused + warn"), 1u);
  EXPECT_EQ(simple("warn | info"), 2u);
  EXPECT_EQ(simple("\"connection refused\""), 1u);
  EXPECT_EQ(simple("refused +-warn"), 1u);
  EXPECT_EQ(simple("conn*"), 2u);
  EXPECT_EQ(simple("refused warn", true), 1u);
  EXPECT_EQ(simple("level:warn"), 1u) << "a colon is text";
  for (auto odd : {"", "(((", ")", "\"open", "+", "|", "- ", "~", "a~", "*", "a |", "((a) b", "\\", "\"a\"~"}) (void)simple(odd);
  (void)simple(std::string(10'000, '('));
  (void)simple(std::string(10'000, '-'));
}

TEST_F(Queries, TheDslFindsTheSame) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {R"({"match_all":{}})", 3}, {R"({"match_none":{}})", 0}, {R"({"match":{"message":"refused took"}})", 3}, {R"({"match":{"message":{"query":"connection refused","operator":"and"}}})", 2},
      {R"({"match":{"message":{"query":"refused by nobody","minimum_should_match":2}}})", 1}, {R"({"match":{"message":{"query":"refused by nobody","minimum_should_match":"-1"}}})", 1},
      {R"({"match":{"n":15}})", 1}, {R"({"match":{"n":"15"}})", 1}, {R"({"match":{"message":{"query":"conection","fuzziness":"AUTO"}}})", 2}, {R"({"match_phrase":{"message":"connection refused"}})", 1},
      {R"({"match_phrase":{"message":{"query":"refused connection","slop":1}}})", 1}, {R"({"match_phrase_prefix":{"message":"refused the conn"}})", 1}, {R"({"match_bool_prefix":{"message":"took sys"}})", 1},
      {R"({"term":{"level.keyword":"WARN"}})", 1}, {R"({"term":{"level.keyword":"warn"}})", 0}, {R"({"term":{"level.keyword":{"value":"warn","case_insensitive":true}}})", 1}, {R"({"term":{"level":"warn"}})", 1},
      {R"({"term":{"n":15}})", 1}, {R"({"term":{"ok":true}})", 1}, {R"({"term":{"tags":"a"}})", 1}, {R"({"terms":{"n":[3,15,99]}})", 2}, {R"({"terms":{"n":[]}})", 0}, {R"({"term":{"@timestamp":"2024-05-02"}})", 2},
      {R"({"range":{"n":{"gte":3,"lt":15}}})", 1}, {R"({"range":{"n":{"gt":3}}})", 1}, {R"({"range":{"n":{"from":3,"to":15,"include_upper":false}}})", 1}, {R"({"range":{"@timestamp":{"gte":"now-2h","lte":"now"}}})", 2},
      {R"({"range":{"@timestamp":{"gte":"2024-05-02||/d","lt":"2024-05-02||+1d/d"}}})", 2}, {R"({"range":{"@timestamp":{"gte":1714644000000,"lte":1714644000000,"format":"epoch_millis"}}})", 1},
      {R"({"range":{"@timestamp":{"gte":"02/05/2024 10:30","format":"dd/MM/yyyy HH:mm"}}})", 2}, {R"({"range":{"@timestamp":{"gte":"2024-05-02T13:00:00","time_zone":"+02:00"}}})", 2},
      {R"({"range":{"@timestamp":{"gt":"2024-05-02"}}})", 1}, {R"({"range":{"@timestamp":{"lte":"2024-05"}}})", 3}, {R"({"range":{"when":{"gte":"2024-04-30","lt":"2024-05-01"}}})", 1},
      {R"({"exists":{"field":"http"}})", 1}, {R"({"exists":{"field":"http.status"}})", 1}, {R"({"prefix":{"level":"wa"}})", 1}, {R"({"prefix":{"level.keyword":{"value":"WA"}}})", 1}, {R"({"wildcard":{"level.keyword":{"value":"*A?N"}}})", 1},
      {R"({"wildcard":{"level":"w*n"}})", 1}, {R"({"regexp":{"message":"refus.d"}})", 2}, {R"({"fuzzy":{"message":"conection"}})", 2}, {R"({"ids":{"values":["one","three","x"]}})", 2},
      {R"({"bool":{"must":{"match":{"message":"refused"}},"must_not":[{"term":{"level":"warn"}}]}})", 1}, {R"({"bool":{"should":[{"term":{"n":3}},{"term":{"n":15}}]}})", 2},
      {R"({"bool":{"filter":[{"match":{"message":"refused"}}],"should":[{"term":{"n":3}}]}})", 2}, {R"({"bool":{"filter":[{"match":{"message":"refused"}}],"should":[{"term":{"n":3}}],"minimum_should_match":1}})", 1},
      {R"({"bool":{"should":[{"term":{"n":3}},{"term":{"level":"info"}},{"term":{"n":99}}],"minimum_should_match":"66%"}})", 1}, {R"({"bool":{}})", 3}, {R"({"bool":{"must_not":{"exists":{"field":"n"}}}})", 1},
      {R"({"multi_match":{"query":"refused","fields":["message","level^3"]}})", 2}, {R"({"multi_match":{"query":"connection refused","fields":["mess*"],"type":"phrase"}})", 1},
      {R"({"constant_score":{"filter":{"term":{"n":3}}}})", 1}, {R"({"dis_max":{"queries":[{"term":{"n":3}},{"term":{"n":15}}]}})", 2}, {R"({"function_score":{"query":{"term":{"n":3}}}})", 1},
      {R"({"query_string":{"query":"refused AND n:3"}})", 1}, {R"({"query_string":{"query":"refused warn","default_operator":"AND","fields":["*"]}})", 1}, {R"({"query_string":{"query":"warn","default_field":"level"}})", 1},
      {R"({"simple_query_string":{"query":"refused + warn","fields":["message","level"]}})", 0}, {R"x({"simple_query_string":{"query":"refused + (by | took)"}})x", 1}};
  for (auto [query, hits] : cases) EXPECT_EQ(dsl(query), hits) << query;
}

TEST_F(Queries, WordsHiddenInEscapesAreFoundAllTheSame) {
  put(R"({"message":"caf\u00e9 \u0063olour"})");
  put(R"({"message":"tab\tword\"quoted\""})");
  ASSERT_TRUE(store_->seal());
  EXPECT_EQ(count("colour"), 1u);
  EXPECT_EQ(count("word AND quoted"), 1u);
  EXPECT_EQ(count("caf\xc3\xa9"), 1u);
}

TEST(Dsl, WhatIsUnknownIsRefusedInWords) {
  for (auto bad : {R"({"nested":{}})", R"({"bool":{"musst":[]}})", R"({"range":{"n":{"gtee":1}}})", R"({"match":{}})", R"([])", R"({"terms":{"a":"b"}})", R"({"match":{"a":{"query":"x","flavour":1}}})",
                   R"({"match":{"a":{"query":"x","operator":"xor"}}})", R"({"match":{"a":"x","b":"y"}})", R"({"range":{"@timestamp":{"gte":"yesterday"}}})", R"({"range":{"n":{"gte":[1]}}})",
                   R"({"range":{"@timestamp":{"gte":"2024-05-02","time_zone":"Mars/Olympus"}}})", R"({"bool":{"minimum_should_match":"many"}})", R"({"exists":{}})", R"({"query_string":{}})", R"({"query_string":{"query":"("}})",
                   R"({"constant_score":{}})", R"({"dis_max":{}})", R"({"regexp":{"a":"("}})", R"({"match_all":{},"match_none":{}})", R"({"bool":{"must":[{}]}})", R"({"term":{"a":null}})", R"({"script":{}})"}) {
    auto q = parse_dsl(*json::parse(bad), test_now);
    EXPECT_FALSE(q) << bad;
    if (!q) {
      EXPECT_FALSE(q.error().context.empty());
    }
  }
  std::string deep = R"({"match_all":{}})";
  for (int i = 0; i < 30; ++i) deep = R"({"bool":{"must":)" + deep + "}}";
  EXPECT_TRUE(parse_dsl(*json::parse(deep), test_now));
}

TEST(Dates, RoundDownAndUp) {
  const std::tuple<const char*, bool, const char*> cases[] = {{"now-1h/d", false, "2024-05-02T00:00:00.000Z"}, {"now/d", true, "2024-05-02T23:59:59.999Z"}, {"2024-05", true, "2024-05-31T23:59:59.999Z"},
                                                              {"2024", false, "2024-01-01T00:00:00.000Z"}, {"2024-01-31||+1M", false, "2024-02-29T00:00:00.000Z"}, {"2024-05-02||/w", false, "2024-04-29T00:00:00.000Z"},
                                                              {"2024-05-02||-1y/M", false, "2023-05-01T00:00:00.000Z"}, {"1714644000000", false, "2024-05-02T10:00:00.000Z"}, {"2024-05-02T10", true, "2024-05-02T10:59:59.999Z"},
                                                              {"2024-05-02T10:00:00+02:00", false, "2024-05-02T08:00:00.000Z"}, {"2024-05-02T10:00:00.5Z", true, "2024-05-02T10:00:00.500Z"}, {"now", true, "2024-05-02T12:00:00.000Z"}};
  for (auto [text, upper, expected] : cases) {
    auto at = parse_date(text, upper, test_now);
    ASSERT_TRUE(at) << text;
    EXPECT_EQ(to_iso8601(*at), expected) << text;
  }
  for (auto bad : {"now+1x", "yesterday", "2024-13-01", "now+", "now/1d", "now+99999999999999999999d", "99999999999999999999", "now+9999999y", "", "2024-05-02T25:00"})
    EXPECT_FALSE(parse_date(bad, false, test_now)) << bad;
}

TEST(Dates, PatternsAndZonesAreRead) {
  auto at = parse_date("02/May/2024:10:11:12 +0200", false, test_now, {"dd/MMM/yyyy:HH:mm:ss Z", nullptr});
  ASSERT_TRUE(at);
  EXPECT_EQ(to_iso8601(*at), "2024-05-02T08:11:12.000Z");
  EXPECT_EQ(to_iso8601(*parse_date("1714644000", false, test_now, {"epoch_second", nullptr})), "2024-05-02T10:00:00.000Z");
  EXPECT_FALSE(parse_date("2024-05-02", false, test_now, {"epoch_second", nullptr}));
  auto berlin = find_zone("Europe/Berlin");
  ASSERT_TRUE(berlin) << berlin.error().context;
  EXPECT_EQ(to_iso8601(*parse_date("2024-05-02T10:00:00", false, test_now, {"", *berlin})), "2024-05-02T08:00:00.000Z");
  EXPECT_EQ(to_iso8601(*parse_date("2024-01-02T10:00:00", false, test_now, {"", *berlin})), "2024-01-02T09:00:00.000Z");
  EXPECT_EQ(to_iso8601(*parse_date("now/d", false, test_now, {"", *berlin})), "2024-05-01T22:00:00.000Z");
  EXPECT_EQ(print_date(test_now, "yyyy-MM-dd HH:mm", *berlin), "2024-05-02 14:00");
  EXPECT_EQ(print_date(test_now, "", *berlin), "2024-05-02T14:00:00.000+02:00");
  for (auto bad : {"Nowhere/Land", "../../etc/passwd", "/etc/localtime", "+25:00"}) EXPECT_FALSE(find_zone(bad)) << bad;
}

TEST(Names, StarsAndQuestionMarksFit) {
  EXPECT_TRUE(fits("a*c?e", "abbcde"));
  EXPECT_TRUE(fits("*", ""));
  EXPECT_FALSE(fits("a?", "a"));
  EXPECT_FALSE(fits("a*b", "abc"));
  EXPECT_FALSE(fits(std::string(50, '*') + "b", std::string(5000, 'a'))) << "and no pattern takes for ever";
}

}  // namespace
}  // namespace croft::logs
