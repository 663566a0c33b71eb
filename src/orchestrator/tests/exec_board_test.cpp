#include "orchestrator/exec_board.hpp"

#include <gtest/gtest.h>

#include "model/exec_frames.hpp"

namespace croft::orchestrator {
namespace {

using Side = ExecBoard::Side;
using exec::encode;
using exec::Kind;

struct ExecBoardTest : testing::Test {
  ExecBoard board{{.sessions_max = 3, .sessions_each = 2, .held_max = 100, .client_silence = Millis(3000), .agent_silence = Millis(1500), .idle = Millis(60'000)}};
  Mono now{};
  std::string session = *board.open(order("olga"), now);

  static ExecBoard::Order order(std::string who) { return {std::move(who), AgentId("A1"), "node1", TaskId("t.1")}; }
  static Result<std::string> bytes(Result<ExecBoard::Taken> taken) { return taken ? Result<std::string>(std::move(taken->bytes)) : std::unexpected(std::move(taken).error()); }
  Result<std::string> client(std::uint64_t after) { return bytes(board.take(session, Side::client, "olga", after, now)); }
  Result<std::string> agent(std::uint64_t after) { return bytes(board.take(session, Side::agent, "A1", after, now)); }
  Result<std::uint64_t> say(std::uint64_t at, const std::string& bytes) { return board.put(session, Side::client, "olga", at, bytes, now); }
  Result<std::uint64_t> tell(std::uint64_t at, const std::string& bytes) { return board.put(session, Side::agent, "A1", at, bytes, now); }
};

TEST_F(ExecBoardTest, BytesGoBothWaysAndAreKeptUntilTheyAreThere) {
  auto line = encode(Kind::input, "ls\n");
  EXPECT_EQ(say(0, line), line.size());
  EXPECT_EQ(say(0, line), line.size()) << "the answer was lost, and it is said again: it counts once";
  EXPECT_EQ(agent(0), line);
  EXPECT_EQ(agent(0), line) << "that answer was lost too";
  EXPECT_EQ(agent(line.size()), "");
  EXPECT_EQ(agent(0).error().code, Errc::conflict) << "what the agent has is forgotten";
  EXPECT_EQ(agent(line.size() + 1).error().code, Errc::conflict);
  auto out = encode(Kind::output, "a b\n");
  EXPECT_EQ(tell(0, out), out.size());
  EXPECT_EQ(tell(3, out).error().code, Errc::conflict);
  EXPECT_EQ(client(0), out);
}

TEST_F(ExecBoardTest, AFullWayTakesNothingUntilItsReaderIsFurther) {
  auto much = encode(Kind::output, std::string(80, 'x'));
  EXPECT_EQ(tell(0, much), much.size());
  EXPECT_EQ(tell(much.size(), much), much.size()) << "no room";
  EXPECT_EQ(client(much.size()), "");
  EXPECT_EQ(tell(much.size(), much), 2 * much.size());
}

TEST_F(ExecBoardTest, EachSideSaysOnlyWhatIsItsOwn) {
  EXPECT_EQ(board.take(session, Side::client, "ivan", 0, now).error().code, Errc::not_found);
  EXPECT_EQ(board.put(session, Side::agent, "A2", 0, encode(Kind::output, "x"), now).error().code, Errc::not_found);
  EXPECT_FALSE(board.close(session, "ivan"));
  EXPECT_TRUE(client(0)) << "only who opened it closes it";
  EXPECT_EQ(say(0, encode(Kind::output, "x")).error().code, Errc::invalid);
  EXPECT_EQ(say(0, encode(Kind::size, "24 80\nrm")).error().code, Errc::invalid);
  EXPECT_EQ(tell(0, encode(Kind::input, "x")).error().code, Errc::invalid);
  EXPECT_EQ(tell(0, encode(Kind::output, "x") + "\1").error().code, Errc::invalid) << "not whole";
  EXPECT_EQ(tell(0, encode(Kind::end, "{}") + encode(Kind::output, "x")).error().code, Errc::invalid);
  EXPECT_EQ(tell(0, "garbage that is no frame").error().code, Errc::invalid);
  EXPECT_EQ(client(0), "");
}

TEST_F(ExecBoardTest, TheEndIsTheLastThingAnAgentSays) {
  auto end = encode(Kind::end, R"({"code":0})");
  EXPECT_EQ(tell(0, end), end.size());
  EXPECT_EQ(agent(0).error().code, Errc::not_found);
  EXPECT_EQ(client(0), end);
  board.close(session, "olga");
  EXPECT_EQ(client(0).error().code, Errc::not_found);
}

TEST_F(ExecBoardTest, WhoIsSilentIsGivenUp) {
  now += Millis(1501);
  ASSERT_TRUE(client(0));
  EXPECT_EQ(board.sweep(now), 1u);
  EXPECT_EQ(client(0), ExecBoard::end_of("the agent on node1 has fallen silent"));
  EXPECT_EQ(agent(0).error().code, Errc::not_found) << "and is to end it, should it come back";
  now += Millis(3001);
  EXPECT_EQ(board.sweep(now), 0u);
}

TEST_F(ExecBoardTest, NothingSaidForLongIsItsEnd) {
  for (int i = 0; i < 61; ++i) {
    now += Millis(1000);
    ASSERT_TRUE(client(0));
    ASSERT_TRUE(agent(0)) << i;
    if (i < 59) board.sweep(now);
  }
  board.sweep(now);
  EXPECT_EQ(client(0), ExecBoard::end_of("nothing was read or written for 60 s"));
}

TEST_F(ExecBoardTest, ThereAreNotTooMany) {
  ASSERT_TRUE(board.open(order("olga"), now));
  EXPECT_EQ(board.open(order("olga"), now).error().code, Errc::unavailable);
  ASSERT_TRUE(board.open(order("ivan"), now));
  EXPECT_EQ(board.open(order("eva"), now).error().code, Errc::unavailable);
  auto admin = order("root");
  admin.by_admin = true;
  ASSERT_TRUE(board.open(admin, now)) << "nobody takes all places from the farm's admins";
  ASSERT_TRUE(board.open(admin, now));
  EXPECT_EQ(board.open(admin, now).error().code, Errc::unavailable);
  board.clear();
  EXPECT_TRUE(board.open(order("eva"), now));
}

TEST_F(ExecBoardTest, ALoginsTokensAreItsUser) {
  ASSERT_TRUE(board.open(order("token 00ff00ff00ff00ff (login of user1)"), now));
  ASSERT_TRUE(board.open(order("user user1"), now));
  EXPECT_EQ(board.open(order("token 11ee11ee11ee11ee (login of user1)"), now).error().code, Errc::unavailable);
}

}  // namespace
}  // namespace croft::orchestrator
