// Secrets on the link: ahead of the tasks that use them, anew when they change, to nobody else.

#include <gtest/gtest.h>

#include "builders.hpp"

namespace croft::cluster {
namespace {

struct Secrets : ::testing::Test, Books {
  Secrets() { cluster.set_known_apps({AppId("/a")}); }
  /// Kinds and names of what an agent is sent, in order.
  std::string told(const AgentId& agent) {
    std::string out;
    for (const auto& m : cluster.take_messages()) {
      if (m.agent != agent) continue;
      if (const auto* s = std::get_if<link::Secret>(&m.record)) out += fmt::format("{}={}:{} ", s->name, s->value.version, s->value.value);
      else if (std::holds_alternative<link::Snapshot>(m.record)) out += "snapshot ";
      else if (std::holds_alternative<link::Delta>(m.record)) out += "delta ";
      else if (std::holds_alternative<link::Welcome>(m.record)) out += "welcome ";
    }
    return out;
  }
  TaskId launch_with(std::string id, std::vector<SecretUse> uses) {
    auto s = shape();
    auto got = cluster.place(s, 1);
    auto spec = spec_for(s, std::move(id), got.placed.at(0));
    spec.secrets = std::move(uses);
    cluster.launch(spec, s, got.placed[0], at_ms(0));
    return spec.id;
  }
};

TEST_F(Secrets, ComeBeforeTheFirstTaskThatUsesThemAndOnlyOnce) {
  cluster.set_secret("/pw", {1, "one"});
  cluster.set_secret("/other", {1, "x"});
  auto agent = join(info("h1"));
  EXPECT_EQ(told(agent), "welcome snapshot ");
  launch_with("a.1", {{"/pw", "PW"}});
  EXPECT_EQ(told(agent), "/pw=1:one delta ");
  launch_with("a.2", {{"/pw", "", "pw"}, {"/none", "N"}});
  EXPECT_EQ(told(agent), "/none=0: delta ") << "that there is none is told as well";
}

TEST_F(Secrets, AChangeIsToldToThoseWhoseTasksUseIt) {
  cluster.set_secret("/pw", {1, "one"});
  auto agent = join(info("h1"));
  launch_with("a.1", {{"/pw", "PW"}});
  auto idle = join(info("h2"));
  (void)cluster.take_messages();
  cluster.set_secret("/pw", {2, "two"});
  cluster.set_secret("/other", {1, "x"});
  EXPECT_EQ(told(agent), "/pw=2:two ");
  cluster.set_secret("/pw", {3, "three"});
  EXPECT_EQ(told(idle), "");
  cluster.set_secret("/pw", {});
  EXPECT_EQ(told(agent), "/pw=0: ");
}

TEST_F(Secrets, ARegistrationIsToldThemAnewBeforeItsSnapshot) {
  cluster.set_secret("/pw", {1, "one"});
  auto agent = join(info("h1"));
  launch_with("a.1", {{"/pw", "PW"}});
  (void)cluster.take_messages();
  cluster.stream_closed(agent, cluster.agent(agent)->subscription, at_ms(10));
  cluster.set_secret("/pw", {2, "two"});
  EXPECT_EQ(told(agent), "") << "no stream";
  auto h = held("a.1");
  h.spec.secrets = {{"/pw", "PW"}};
  join(info("h1"), {h}, agent.str(), 20);
  EXPECT_EQ(told(agent), "welcome /pw=2:two snapshot ");
}

}  // namespace
}  // namespace croft::cluster
