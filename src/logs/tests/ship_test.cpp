#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

#include "base/json.hpp"
#include "logs/ship/batch.hpp"
#include "logs/ship/input_spool.hpp"
#include "logs/ship/lines.hpp"
#include "logs/ship/tail.hpp"
#include "store_fixture.hpp"

namespace croft::logs {
namespace {

// --- lines ---

std::vector<std::pair<std::string, bool>> split_in(std::size_t piece, std::string_view text, std::size_t max) {
  std::vector<std::pair<std::string, bool>> out;
  auto take = [&](std::string_view line, bool cut) { out.emplace_back(line, cut); };
  LineSplitter splitter(max);
  for (std::size_t i = 0; i < text.size(); i += piece) splitter.feed(text.substr(i, piece), take);
  splitter.finish(take);
  return out;
}

TEST(LineSplitterTest, CutsTheSameWhateverPiecesComeIn) {
  using Lines = std::vector<std::pair<std::string, bool>>;
  Lines expected{{"one", false}, {"", false}, {"0123456789", true}, {"four", false}, {"end", false}};
  for (std::size_t piece : {1u, 2u, 3u, 7u, 100u}) EXPECT_EQ(split_in(piece, "one\n\n0123456789abcdef\nfour\nend", 10), expected) << piece;
  EXPECT_EQ(split_in(5, "", 10), Lines{});
}

json::value made(std::string_view line, LineContext context = {}) {
  if (context.at == Wall{}) context.at = test_now;
  auto document = document_of(line, context);
  auto parsed = json::parse(document.json);
  EXPECT_TRUE(parsed) << document.json;
  EXPECT_EQ(document.json.find('\n'), std::string::npos);
  return *parsed;
}

TEST(LineDocuments, TextIsAMessageAndJsonIsMergedIn) {
  LineContext task{{{"app", "/a"}, {"task", "t1"}, {"host", "n1"}, {"stream", "stdout"}}, 42, test_now, false, {}};
  EXPECT_EQ(json::print(made("hello \"you\"", task)), R"({"@timestamp":"2024-05-02T12:00:00.000Z","message":"hello \"you\"","app":"/a","task":"t1","host":"n1","stream":"stdout","offset":42})");
  auto merged = made(R"({"message":"m","n":1.50,"deep":{"a":[1,2]},"task":"cleanup","offset":7,"@timestamp":"2024-05-02T11:59:00Z"})", task);
  EXPECT_EQ(json::text(merged, "task"), "t1") << "who said it cannot be forged";
  EXPECT_EQ(json::print(*json::find(merged, "original")), R"({"task":"cleanup","offset":7})");
  EXPECT_EQ(json::text(merged, "@timestamp"), "2024-05-02T11:59:00.000Z");
  EXPECT_EQ(json::text(merged, "message"), "m");
}

TEST(LineDocuments, WhatIsWrongIsTaggedAndNothingIsLost) {
  auto tags = [](const json::value& v) { return json::find(v, "tags") ? json::print(*json::find(v, "tags")) : ""; };
  EXPECT_EQ(tags(made("{\"half\":")), R"(["_jsonparsefailure"])");
  EXPECT_EQ(json::text(made("{\"half\":"), "message"), "{\"half\":");
  EXPECT_EQ(tags(made("\xff\xfe bytes")), R"(["_invalid_utf8"])");
  auto late = made(R"({"@timestamp":"yesterday","tags":["mine"]})");
  EXPECT_EQ(tags(late), R"(["mine","_timestampparsefailure"])");
  EXPECT_EQ(json::text(late, "_@timestamp"), "yesterday");
  for (auto at : {R"("1969-12-31T00:00:00Z")", R"("2024-05-06T00:00:00Z")", R"("9999-01-01T00:00:00Z")", R"("2024-04-02T11:00:00Z")", R"("2001-05-02T00:00:00Z")", "-5", "99999999999999999"}) {
    auto odd = made(fmt::format(R"({{"@timestamp":{}}})", at));
    EXPECT_EQ(json::text(odd, "@timestamp"), "2024-05-02T12:00:00.000Z") << at;
    EXPECT_EQ(tags(odd), R"(["_timestampparsefailure"])") << at;
  }
  EXPECT_EQ(json::text(made(R"({"@timestamp":1714651199000})"), "@timestamp"), "2024-05-02T11:59:59.000Z");
  EXPECT_EQ(tags(made(R"({"@timestamp":"2024-04-02T13:00:00Z"})")), "") << "old is not impossible";
  EXPECT_EQ(json::text(made(R"({"@timestamp":"2001-05-02T00:00:00Z"})"), "_@timestamp"), "2001-05-02T00:00:00Z");
  LineContext cut;
  cut.cut = true;
  EXPECT_EQ(tags(made("piece", cut)), R"(["_truncated"])");
  std::string deep(200, '[');
  EXPECT_EQ(tags(made("{\"a\":" + deep + std::string(200, ']') + "}")), R"(["_jsonparsefailure"])");
  EXPECT_EQ(json::text(made("[1,2]"), "message"), "[1,2]");
  EXPECT_EQ(json::text(made(""), "message"), "");
}

TEST(LineDocuments, WhatTheShipperMakesTheStoreTakes) {
  for (std::string line : {"plain", "{\"a\":1}", "{\"half\":", "\xff\xfe", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}", "{}", "{\"@timestamp\":null}"}) {
    LineContext context;
    context.at = test_now;
    auto document = document_of(line, context);
    Document d{"logs", "", false, {}, {}};
    auto ok = complete_document(document.json, false, d, test_now);
    EXPECT_TRUE(ok) << line << ": " << ok.error().context;
  }
  EXPECT_EQ(index_for(test_now), "logstash-2024.05.02");
}

// --- tails ---

/// Writes a stream as the executor does.
class FakeOutput {
 public:
  FakeOutput(fs::path dir, std::string name) : dir_(std::move(dir)), name_(std::move(name)) {}
  void write(std::string_view text, std::int64_t at) {
    stamp(dir_ / (name_ + ".times"), at);
    std::ofstream(dir_ / name_, std::ios::app | std::ios::binary) << text;
    total_ += text.size();
  }
  void rotate(int count) {
    for (int i = count - 1; i >= 0; --i)
      for (std::string suffix : {"", ".times"}) {
        auto from = dir_ / (i == 0 ? name_ + suffix : fmt::format("{}.{}{}", name_, i, suffix));
        auto to = dir_ / fmt::format("{}.{}{}", name_, i + 1, suffix);
        std::error_code ec;
        if (i + 1 >= count && count > 1) fs::remove(from, ec);
        else fs::rename(from, to, ec);
      }
  }
  std::uint64_t total() const { return total_; }
  void lose(std::uint64_t bytes) { total_ += bytes; }  ///< on a full disk; what comes next begins a file

 private:
  void stamp(const fs::path& file, std::int64_t at) const {
    std::ofstream out(file, std::ios::app | std::ios::binary);
    out.write(reinterpret_cast<const char*>(&total_), 8).write(reinterpret_cast<const char*>(&at), 8);
  }
  fs::path dir_;
  std::string name_;
  std::uint64_t total_ = 0;
};

class TailTest : public ::testing::Test {
 protected:
  std::string read(Tail& tail, bool to_the_end = false, std::size_t bytes = 1 << 20) {
    std::string out;
    for (int i = 0; i < 4; ++i)  // a gap is believed only after some looks
      for (const auto& line : tail.read(bytes, to_the_end && i == 3, gaps_)) {
        out += line.text + "@" + std::to_string(line.at.time_since_epoch().count()) + " ";
        last_ = line;
      }
    return out;
  }
  TempDir dir_;
  FakeOutput out_{dir_.path(), "stdout"};
  std::vector<Gap> gaps_;
  Line last_;
};

TEST_F(TailTest, FollowsRotationWithoutLossOrRepeat) {
  Tail tail(dir_.path(), "stdout", "", 0);
  EXPECT_EQ(read(tail), "") << "there is no file yet";
  out_.write("one\n", 1000);
  out_.write("two\npart", 2000);
  EXPECT_EQ(read(tail), "one@1000 two@2000 ");
  EXPECT_EQ(tail.offset(), 8u);
  out_.rotate(3);
  out_.write("ial\nfour\n", 3000);
  EXPECT_EQ(read(tail), "partial@2000 four@3000 ");
  EXPECT_EQ(last_.end, 21u);
  EXPECT_EQ(read(tail), "");
  EXPECT_TRUE(gaps_.empty());
  out_.write("no newline", 4000);
  EXPECT_EQ(read(tail), "");
  EXPECT_EQ(read(tail, true), "no newline@4000 ");
}

TEST_F(TailTest, ResumesWhereItWasToldTo) {
  out_.write("one\ntwo\n", 1000);
  out_.rotate(3);
  out_.write("three\n", 2000);
  Tail tail(dir_.path(), "stdout", "", 4);
  EXPECT_EQ(read(tail), "two@1000 three@2000 ");
}

TEST_F(TailTest, WhatRotationTookIsAGapWithItsBounds) {
  out_.write("one\n", 1000);
  Tail tail(dir_.path(), "stdout", "", 0);
  EXPECT_EQ(read(tail), "one@1000 ");
  for (int i = 0; i < 5; ++i) {
    out_.write("line " + std::to_string(i) + "\n", 2000 + i);
    out_.rotate(3);
  }
  out_.write("last\n", 3000);
  EXPECT_EQ(read(tail), "line 3@2003 line 4@2004 last@3000 ");
  ASSERT_EQ(gaps_.size(), 1u);
  EXPECT_EQ(gaps_[0].from, 4u);
  EXPECT_EQ(gaps_[0].to, 25u);
}

TEST_F(TailTest, TheSpoolKeepsWhatRotationWouldTake) {
  auto spool = dir_.path() / "spool";
  out_.write("one\n", 1000);
  Tail tail(dir_.path(), "stdout", spool, 0);
  for (int i = 0; i < 6; ++i) {
    out_.write("line " + std::to_string(i) + "\n", 2000 + i);
    out_.rotate(3);
    tail.keep(0);
  }
  EXPECT_GT(tail.kept_bytes(), 0u);
  EXPECT_EQ(tail.errors(), 0u);
  Tail after_restart(dir_.path(), "stdout", spool, 0);
  EXPECT_EQ(after_restart.kept_bytes(), tail.kept_bytes());
  out_.write("last\n", 3000);
  EXPECT_EQ(read(after_restart), "one@1000 line 0@2000 line 1@2001 line 2@2002 line 3@2003 line 4@2004 line 5@2005 last@3000 ");
  EXPECT_TRUE(gaps_.empty());
  after_restart.release(11);
  EXPECT_EQ(after_restart.oldest_kept()->from, 11u);
  after_restart.release(1000);
  EXPECT_EQ(after_restart.kept_bytes(), 0u);
  EXPECT_FALSE(fs::exists(spool)) << "nothing is left behind";
}

TEST_F(TailTest, WhatTheSpoolDroppedIsAGap) {
  auto spool = dir_.path() / "spool";
  Tail tail(dir_.path(), "stdout", spool, 0);
  for (int i = 0; i < 6; ++i) {
    out_.write("line " + std::to_string(i) + "\n", 2000 + i);
    out_.rotate(3);
    tail.keep(0);
  }
  tail.drop_oldest_kept();
  tail.drop_oldest_kept();
  out_.write("last\n", 3000);
  EXPECT_EQ(read(tail), "line 2@2002 line 3@2003 line 4@2004 line 5@2005 last@3000 ");
  ASSERT_EQ(gaps_.size(), 1u);
  EXPECT_EQ(gaps_[0].to, 14u);
}

TEST_F(TailTest, AroundAGapPiecesOfLinesAreMarked) {
  out_.write("one\nhal", 1000);
  out_.lose(100);
  out_.rotate(3);
  out_.write("ter\nfour\n", 3000);
  Tail tail(dir_.path(), "stdout", "", 0);
  EXPECT_EQ(read(tail), "one@1000 hal@1000 ");
  EXPECT_TRUE(last_.cut);
  EXPECT_EQ(last_.end, 7u);
  std::vector<Line> after;
  for (int i = 0; i < 4; ++i)
    for (auto& line : tail.read(1 << 20, false, gaps_)) after.push_back(std::move(line));
  ASSERT_EQ(gaps_.size(), 1u);
  EXPECT_EQ(gaps_[0].from, 7u);
  EXPECT_EQ(gaps_[0].to, 107u);
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0].text, "ter");
  EXPECT_TRUE(after[0].cut);
  EXPECT_EQ(after[1].text, "four");
  EXPECT_FALSE(after[1].cut);
  EXPECT_EQ(after[1].end, 116u);
}

TEST_F(TailTest, AFileThatWasCutShortGoesOnBehindItsOldEnd) {
  out_.write("one\ntwo\n", 1000);
  Tail tail(dir_.path(), "stdout", "", 0);
  EXPECT_EQ(read(tail), "one@1000 two@1000 ");
  fs::resize_file(dir_.path() / "stdout", 0);
  EXPECT_EQ(read(tail), "");
  out_.write("three\n", 2000);
  EXPECT_EQ(read(tail), "three@2000 ");
  EXPECT_EQ(last_.end, 14u);
  out_.rotate(3);
  out_.write("four\n", 3000);
  EXPECT_EQ(read(tail), "four@3000 ");
  EXPECT_TRUE(gaps_.empty());
}

TEST_F(TailTest, AYoungerFileWithAFreedInodeIsNotTakenForTheOldOneCutShort) {
  out_.write("a long first line\n", 1000);
  Tail tail(dir_.path(), "stdout", "", 0);
  EXPECT_EQ(read(tail), "a long first line@1000 ");
  // Two rotations later the number of the first file may be a new file's. Here it surely is: the same file with other content.
  out_.write("x\n", 2000);
  struct Stamp { std::uint64_t offset; std::int64_t at; } stamp{20, 3000};
  fs::resize_file(dir_.path() / "stdout", 0);
  std::ofstream(dir_.path() / "stdout", std::ios::app | std::ios::binary) << "short\n";
  std::ofstream(dir_.path() / "stdout.times", std::ios::trunc | std::ios::binary).write(reinterpret_cast<const char*>(&stamp), sizeof stamp);
  std::string text;
  for (int i = 0; i < 5; ++i) text += read(tail);
  EXPECT_EQ(text, "short@3000 ");
  EXPECT_EQ(last_.end, 26u) << "its own offsets, not those behind the old file";
  ASSERT_EQ(gaps_.size(), 1u) << "and what rotation took in between is told";
  EXPECT_EQ(gaps_[0].from, 18u);
  EXPECT_EQ(gaps_[0].to, 20u);
}

TEST_F(TailTest, LongLinesComeInPiecesAndBinaryStaysAsItIs) {
  std::string huge(700'000, 'x');
  out_.write(huge + "\nshort\r\n" + std::string("nul\0byte", 8) + "\n", 1000);
  Tail tail(dir_.path(), "stdout", "", 0);
  std::vector<Line> lines;
  for (int i = 0; i < 3; ++i)
    for (auto& line : tail.read(1 << 20, false, gaps_)) lines.push_back(std::move(line));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(lines[0].cut);
  EXPECT_EQ(lines[0].text.size() + lines[1].text.size(), huge.size());
  EXPECT_EQ(lines[2].text, "short");
  EXPECT_EQ(lines[3].text, std::string("nul\0byte", 8));
}

TEST_F(TailTest, SmallReadsGiveTheSameLines) {
  std::string expected;
  for (int i = 0; i < 500; ++i) {
    out_.write("line number " + std::to_string(i) + "\n", 1000 + i);
    expected += "line number " + std::to_string(i) + "@" + std::to_string(1000 + i) + " ";
    if (i % 150 == 149) out_.rotate(10);
  }
  Tail tail(dir_.path(), "stdout", "", 0);
  std::string got;
  for (int i = 0; i < 1000; ++i)
    for (const auto& line : tail.read(100, false, gaps_)) got += line.text + "@" + std::to_string(line.at.time_since_epoch().count()) + " ";
  EXPECT_EQ(got, expected);
}

// --- the input's spool ---

std::string drained(InputSpool& spool) {
  std::string out;
  for (const auto& line : spool.read(1 << 20)) out += line.index + ":" + line.document + " ";
  return out;
}

TEST(InputSpoolTest, GivesLinesInOrderAndForgetsWhatIsStored) {
  TempDir dir;
  InputSpool spool(dir.path() / "in", 64);
  ASSERT_TRUE(spool.open({}));
  EXPECT_EQ(drained(spool), "");
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(spool.add("i", "{\"n\":" + std::to_string(i) + ",\"pad\":\"xxxxxxxxxx\"}"));
  auto first = spool.read(1);
  ASSERT_EQ(first.size(), 1u);
  auto rest = spool.read(1 << 20);
  ASSERT_EQ(rest.size(), 5u);
  EXPECT_EQ(drained(spool), "") << "each is read once";
  spool.back();
  EXPECT_EQ(spool.read(1 << 20).size(), 6u);
  auto before = spool.bytes();
  spool.release(rest[2].source, rest[2].end);
  EXPECT_LT(spool.bytes(), before);
  spool.release(rest[4].source, rest[4].end);
  EXPECT_EQ(spool.bytes(), 0u);
  EXPECT_EQ(spool.waiting(), 0u);
  ASSERT_TRUE(spool.add("i", "{\"n\":6}"));
  EXPECT_EQ(drained(spool), "i:{\"n\":6} ");
}

TEST(InputSpoolTest, WhatAnEarlierProcessLeftIsReadFirstAndOnce) {
  TempDir dir;
  std::string source;
  std::uint64_t end = 0;
  {
    InputSpool spool(dir.path());
    ASSERT_TRUE(spool.open({}));
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(spool.add("old", "{\"n\":" + std::to_string(i) + "}"));
    auto lines = spool.read(1 << 20);
    source = lines[0].source, end = lines[0].end;
  }
  // The machine crashed: the last line is not whole.
  auto file = fs::directory_iterator(dir.path())->path();
  fs::resize_file(file, fs::file_size(file) - 3);
  InputSpool spool(dir.path());
  ASSERT_TRUE(spool.open({{source, end}}));
  ASSERT_TRUE(spool.add("new", "{\"n\":9}"));
  auto lines = spool.read(1 << 20);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].document, "{\"n\":1}");
  EXPECT_EQ(lines[1].document, "{\"n\":9}");
  EXPECT_NE(lines[0].source, lines[1].source) << "an offset never means two lines";
  for (const auto& line : lines) spool.release(line.source, line.end);
  EXPECT_EQ(spool.bytes(), 0u) << "the torn end goes too";
  EXPECT_FALSE(spool.holds(source));
}

TEST(InputSpoolTest, TheOldestFileIsDroppedAndSaysWhatWasInIt) {
  TempDir dir;
  InputSpool spool(dir.path(), 40);
  ASSERT_TRUE(spool.open({}));
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(spool.add("i", "{\"n\":" + std::to_string(i) + "}"));
  auto dropped = spool.drop_oldest();
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->from, 0u);
  EXPECT_EQ(dropped->to, 40u);
  EXPECT_EQ(drained(spool), "i:{\"n\":4} i:{\"n\":5} i:{\"n\":6} i:{\"n\":7} i:{\"n\":8} ");
  while (spool.drop_oldest()) {}
  EXPECT_EQ(spool.bytes(), 0u);
  ASSERT_TRUE(spool.add("i", "{\"n\":10}"));
  EXPECT_EQ(drained(spool), "i:{\"n\":10} ");
}

// --- answers ---

Batch batch_of(int count) {
  Batch b;
  for (int i = 0; i < count; ++i) b.add("i", "id" + std::to_string(i), "{\"n\":" + std::to_string(i) + "}");
  return b;
}

TEST(BatchTest, AnAnswerWithoutErrorsEndsIt) {
  auto b = batch_of(3);
  EXPECT_NE(b.body().find("{\"create\":{\"_index\":\"i\",\"_id\":\"id0\"}}\n{\"n\":0}\n"), std::string::npos);
  auto v = b.answered(200, R"({"errors":false})");
  EXPECT_EQ(v.stored, 3u);
  EXPECT_FALSE(v.again);
}

TEST(BatchTest, WithErrorsItAsksWhichAndSendsOnlyTheDelayedAgain) {
  auto b = batch_of(4);
  auto first = b.answered(200, R"({"errors":true})");
  EXPECT_TRUE(first.again);
  EXPECT_FALSE(first.wait);
  EXPECT_NE(b.target().find("items"), std::string::npos);
  auto v = b.answered(200, R"({"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409,"error":{}}},{"create":{"status":400,"error":{"reason":"bad"}}},{"create":{"status":429,"error":{"reason":"busy"}}}]})");
  EXPECT_EQ(v.stored, 2u);
  EXPECT_EQ(v.refused, 1u);
  EXPECT_TRUE(v.wait);
  EXPECT_EQ(b.size(), 1u);
  EXPECT_NE(b.body().find("id3"), std::string::npos);
}

TEST(BatchTest, ARequestRefusedAsAWholeIsCutUntilTheOneLineIsAlone) {
  auto b = batch_of(8);
  int sent = 0, refused = 0, stored = 0;
  for (; !b.empty() && sent < 100; ++sent) {
    auto body = b.body();
    bool bad = body.find("id5") != std::string::npos;
    auto v = b.answered(bad ? 413 : 200, bad ? "too large" : R"({"errors":false})");
    refused += static_cast<int>(v.refused), stored += static_cast<int>(v.stored);
    EXPECT_FALSE(v.wait);
  }
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(stored, 7);
  EXPECT_LT(sent, 20);
}

TEST(BatchTest, BackPressureAndStrangeAnswersMeanWaiting) {
  for (int status : {0, 429, 503, 500, 401, 302}) {
    auto b = batch_of(2);
    auto v = b.answered(status, "x");
    EXPECT_TRUE(v.wait && v.again) << status;
    EXPECT_EQ(b.size(), 2u);
  }
  for (auto answer : {"", "no json", R"({"errors":true,"items":[]})", R"({"errors":true,"items":[{},{},{}]})"}) {
    auto b = batch_of(2);
    (void)b.answered(200, R"({"errors":true})");
    auto v = b.answered(200, answer);
    EXPECT_TRUE(v.wait && v.again) << answer;
    EXPECT_EQ(b.size(), 2u) << answer;
  }
}

}  // namespace
}  // namespace croft::logs
