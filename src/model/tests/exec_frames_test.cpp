#include "model/exec_frames.hpp"

#include <gtest/gtest.h>

namespace croft::exec {
namespace {

TEST(ExecFrames, ComeBackWhateverTheBytesAreCutInto) {
  std::vector<Frame> frames{{Kind::input, ""}, {Kind::output, std::string("a\0b\xff", 4)}, {Kind::error, std::string(frame_max, 'x')}, {Kind::size, "24 80"}, {Kind::end, R"({"code":3})"}};
  std::string bytes;
  for (const auto& f : frames) bytes += encode(f.kind, f.data);
  for (std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{4096}, bytes.size()}) {
    FrameReader reader;
    std::vector<Frame> out;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      auto some = reader.take(std::string_view(bytes).substr(at, step));
      ASSERT_TRUE(some) << some.error().context;
      out.insert(out.end(), some->begin(), some->end());
    }
    EXPECT_EQ(out, frames) << step;
  }
}

TEST(ExecFrames, AsManyWholeOnesAsFit) {
  auto two = encode(Kind::output, "abcd") + encode(Kind::output, "efgh");
  EXPECT_EQ(whole_frames(two, 100), 24u);
  EXPECT_EQ(whole_frames(two, 23), 12u);
  EXPECT_EQ(whole_frames(two, 1), 12u) << "one at least";
  EXPECT_EQ(whole_frames("", 100), 0u);
  EXPECT_EQ(whole_frames(std::string_view(two).substr(0, 20), 100), 12u);
}

TEST(ExecFrames, AWrongOneEndsIt) {
  FrameReader reader;
  EXPECT_FALSE(reader.take(std::string("\x05\0\0\0\0\0\0\0", 8)));
  FrameReader big;
  EXPECT_FALSE(big.take(std::string("\x01\0\0\0\x00\x01\x00\x01", 8))) << "more than a frame may have";
}

TEST(ExecFrames, SizesAndTerminals) {
  EXPECT_TRUE(is_size("24 80"));
  for (auto wrong : {"", "24", "24 ", " 80", "0 80", "24 80 1", "-1 80", "24 10001", "24\n80", "+4 80"}) EXPECT_FALSE(is_size(wrong)) << wrong;
  EXPECT_TRUE(is_terminal("24x80:xterm-256color"));
  for (auto wrong : {"", "24x80", "24x80:", "x80:xterm", "24x80:a b", "24x80:a\nb", "24x80:$(id)", "24:80xvt", "0x0:vt100"}) EXPECT_FALSE(is_terminal(wrong)) << wrong;
}

}  // namespace
}  // namespace croft::exec
