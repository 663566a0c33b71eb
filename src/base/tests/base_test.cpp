#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/json/parse.hpp>

#include "base/cow_map.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/metrics.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"
#include "base/time.hpp"

namespace croft {
namespace {

TEST(Time, IsoPrintsThreeFractionDigitsAndReadsBack) {
  auto when = from_iso8601("2015-08-12T10:11:12.345Z");
  ASSERT_TRUE(when);
  EXPECT_EQ(to_iso8601(*when), "2015-08-12T10:11:12.345Z");
  EXPECT_EQ(to_iso8601(*from_iso8601("2015-08-12T12:11:12.345678+02:00")), "2015-08-12T10:11:12.345Z");
  EXPECT_EQ(to_iso8601(*from_iso8601("2016-02-29")), "2016-02-29T00:00:00.000Z");
}

TEST(Time, BadTimestampsAreRefused) {
  for (auto text : {"", "2015", "2015-13-01", "2015-02-30", "2015-08-12X10:11:12Z", "2015-08-12T25:00:00Z", "2015-08-12T10:11:12.Z", "2015-08-12T10:11:12+99:00", "2015-08-12T10:11:12 junk"})
    EXPECT_FALSE(from_iso8601(text)) << text;
}

TEST(Json, ErrorsNameLineAndColumn) {
  auto bad = json::parse("{\n  \"a\": ]}");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Errc::invalid);
  EXPECT_NE(bad.error().context.find("line 2"), std::string::npos) << bad.error().context;
}

TEST(Json, TrailingTextAndDeepNestingAreRefused) {
  EXPECT_FALSE(json::parse("{} x"));
  EXPECT_FALSE(json::parse(""));
  EXPECT_TRUE(json::parse("{}  \n"));
  EXPECT_FALSE(json::parse(std::string(10'000, '[')));
  EXPECT_FALSE(json::parse(std::string(65, '[') + std::string(65, ']')));
}

TEST(Json, WrongTypesGiveTheFallback) {
  auto v = *json::parse(R"({"s":5,"n":"x","b":1,"l":{},"nil":null,"big":18446744073709551615})");
  EXPECT_EQ(json::text(v, "s", "f"), "f");
  EXPECT_EQ(json::integer(v, "n", 7), 7);
  EXPECT_TRUE(json::boolean(v, "b", true));
  EXPECT_TRUE(json::list(v, "l").empty());
  EXPECT_EQ(json::find(v, "nil"), nullptr);
}

TEST(JsonWriter, NumbersPrintShort) {
  JsonWriter w;
  w.begin_array().value(0.1).value(128.0).value(1e300).value(-5).value(true).null().value("a\"\n\x01").end_array();
  EXPECT_EQ(w.str(), R"([0.1,128,1e+300,-5,true,null,"a\"\n\u0001"])");
}

TEST(JsonWriter, BrokenUtf8BecomesTheReplacementCharacter) {
  EXPECT_EQ(json_quote("a\xff" "b"), "\"a\xEF\xBF\xBD" "b\"");
  EXPECT_EQ(json_quote("\xc3\xa4"), "\"\xc3\xa4\"");
  EXPECT_EQ(json_quote("\xed\xa0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

TEST(JsonWriter, WhatItPrintsParsesToTheSameDocument) {
  auto v = *json::parse(R"({"a":[1,2.5,"x",null,true,{"b":[]}],"c":-9223372036854775808,"d":18446744073709551615})");
  EXPECT_EQ(*json::parse(json::print(v)), v);
}

TEST(Text, OthersTextSteersNoTerminal) {
  EXPECT_EQ(inert("a\x1b[2J\r\b\x7f" "b"), "a\\x1b[2J\\x0d\\x08\\x7fb");
  EXPECT_EQ(inert(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(inert("\xc2\x9b" "31m \xc2\x80 \xc2\xa0"), "\\u009b31m \\u0080 \xc2\xa0");
  EXPECT_EQ(inert("\xe2\x80\xae" "gpj\xe2\x80\xac \xe2\x80\xa8 \xe2\x80\xa9 \xe2\x81\xa6 \xe2\x81\xa9"), "\\u202egpj\\u202c \\u2028 \\u2029 \\u2066 \\u2069");
  EXPECT_EQ(inert("\x9b\xff\xe2\x80"), "\\x9b\\xff\\xe2\\x80");
  EXPECT_EQ(inert("\xe2\x80\xa7 \xe2\x80\xaf \xe2\x81\xa5 \xe2\x81\xaa gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \\x1b"), "\xe2\x80\xa7 \xe2\x80\xaf \xe2\x81\xa5 \xe2\x81\xaa gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \\x1b") << "other text stays";
  EXPECT_EQ(inert("a\tb\nc"), "a\\x09b\\x0ac");
  EXPECT_EQ(inert("a\tb\nc\r", true), "a\tb\nc\\x0d");
}

TEST(Text, UrlDecodingRefusesBadEscapesAndNul) {
  EXPECT_EQ(url_decode("a%2Fb+c"), "a/b+c");
  EXPECT_EQ(url_decode("a+b", true), "a b");
  EXPECT_FALSE(url_decode("%"));
  EXPECT_FALSE(url_decode("%2"));
  EXPECT_FALSE(url_decode("%zz"));
  EXPECT_FALSE(url_decode("a%00b"));
  EXPECT_FALSE(url_decode(std::string_view("a\0b", 3)));
}

TEST(Text, Base64RoundTripsEveryLength) {
  for (std::string s; s.size() < 20; s.push_back(static_cast<char>(200 + s.size()))) EXPECT_EQ(base64_decode(base64_encode(s)), s);
  EXPECT_FALSE(base64_decode("abc"));
  EXPECT_FALSE(base64_decode("a$=="));
  for (auto wrong : {"====", "=AAA", "A===", "    ", "   =", "QQ==\n\n\n\n"}) EXPECT_FALSE(base64_decode(wrong)) << wrong;
}

TEST(Text, NumbersMustBeWholeText) {
  EXPECT_EQ(to_int("42"), 42);
  EXPECT_FALSE(to_int("42x"));
  EXPECT_FALSE(to_int(""));
  EXPECT_FALSE(to_int("99999999999999999999"));
  EXPECT_FALSE(to_double("nan"));
}

TEST(Text, UuidsAreVersionFourAndDiffer) {
  auto a = random_uuid(), b = random_uuid();
  EXPECT_EQ(a.size(), 36u);
  EXPECT_EQ(a[14], '4');
  EXPECT_NE(a, b);
}

TEST(CowMap, CopiesDoNotSeeLaterWrites) {
  CowMap<int, int> map;
  for (int i = 0; i < 5000; ++i) map.set(i * 7919 % 5000, i);
  auto copy = map;
  for (int i = 0; i < 5000; i += 2) map.erase(i);
  map.set(1, -1);
  EXPECT_EQ(copy.size(), 5000u);
  EXPECT_EQ(map.size(), 2500u);
  EXPECT_NE(*copy.find(1), -1);
  EXPECT_EQ(*map.find(1), -1);
  EXPECT_EQ(map.find(0), nullptr);
  int last = -1;
  copy.for_each([&](int k, int) {
    EXPECT_EQ(k, last + 1);
    last = k;
  });
}

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override { char name[] = "/tmp/croft-base-XXXXXX"; dir_ = mkdtemp(name); }
  void TearDown() override { fs::remove_all(dir_); }
  fs::path dir_;
};

TEST_F(FilesTest, AtomicWriteReplacesAndLeavesNothingAside) {
  ASSERT_TRUE(write_file_atomic(dir_ / "a", "one"));
  ASSERT_TRUE(write_file_atomic(dir_ / "a", "two"));
  EXPECT_EQ(*read_file(dir_ / "a"), "two");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
}

TEST_F(FilesTest, ErrorsNameThePath) {
  auto missing = read_file(dir_ / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_NE(missing.error().context.find("none"), std::string::npos);
  ASSERT_TRUE(write_file_atomic(dir_ / "big", std::string(100, 'x')));
  EXPECT_EQ(read_file(dir_ / "big", 99).error().code, Errc::too_large);
  EXPECT_FALSE(make_dirs(dir_ / "big" / "below"));
  EXPECT_FALSE(write_file_atomic(dir_ / "no" / "such", "x"));
}

TEST_F(FilesTest, WhatAKilledWriterLeftAsideIsTakenAway) {
  for (const char* name : {"state.json.1a2b.new", "state.json", "half.part.new", "x.g0.new", "young.ff.new"}) ASSERT_TRUE(write_file_atomic(dir_ / name, "x"));
  for (const auto& entry : fs::directory_iterator(dir_))
    if (!entry.path().filename().string().starts_with("young")) fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - std::chrono::minutes(2));
  remove_left_aside(dir_);
  EXPECT_FALSE(fs::exists(dir_ / "state.json.1a2b.new"));
  for (const char* name : {"state.json", "half.part.new", "x.g0.new", "young.ff.new"}) EXPECT_TRUE(fs::exists(dir_ / name)) << name;
  remove_left_aside(dir_ / "not-there");
}

TEST(Metrics, PrintsPrometheusText) {
  Metrics m;
  m.counter("croft_x_total", "Things.", "code=\"200\"").add(3);
  m.histogram("croft_t_seconds", "Time.").observe(0.00015);
  m.sampled("croft_s", "Sampled.", [] { return 2.5; });
  auto text = m.print();
  EXPECT_NE(text.find("# TYPE croft_x_total counter\ncroft_x_total{code=\"200\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("croft_t_seconds_bucket{le=\"0.0002\"} 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("croft_s 2.5\n"), std::string::npos);
}

}  // namespace
}  // namespace croft
