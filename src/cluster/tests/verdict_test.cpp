// What an agent that was restarted says of its tasks: they run, and nobody has looked at them yet.

#include <gtest/gtest.h>

#include "cluster/cluster.hpp"

namespace croft::cluster {
namespace {

Now at(int ms) { return {Mono(std::chrono::hours(1) + Millis(ms)), Wall(Millis(1'700'000'000'000 + ms))}; }

link::AgentInfo host() {
  link::AgentInfo i;
  i.hostname = "node1";
  i.ip = "10.0.0.1";
  i.total = {4000, 4'000'000, 0, 0};
  i.ports = PortSet({{31000, 31010}});
  return i;
}

struct Verdicts : ::testing::Test {
  Verdicts() {
    Options o;
    o.cluster_id = "c";
    o.epoch = 1;
    cluster.emplace(o);
    cluster->set_known_apps({AppId("/a")});
    agent = *cluster->register_agent({host(), AgentId(), "", 0, 0, {}}, at(0));
    Shape shape;
    shape.app = AppId("/a");
    shape.resources = {100, 10'000, 0, 0};
    spec.id = TaskId("a.1");
    spec.app = AppId("/a");
    spec.resources = shape.resources;
    cluster->launch(spec, shape, cluster->place(shape, 1).placed.at(0), at(0));
  }
  TaskStatus running() const {
    TaskStatus s;
    s.task = spec.id;
    s.state = TaskState::running;
    return s;
  }
  void report(TaskStatus s) {
    s.uuid = std::to_string(++number);
    link::Report r;
    r.agent = agent;
    r.subscription = cluster->agent(agent)->subscription;
    r.number = number;
    r.statuses = {s};
    ASSERT_TRUE(cluster->report(r, at(100)));
  }
  void come_back(TaskStatus s) {
    ASSERT_TRUE(cluster->register_agent({host(), agent, "c", 1, 0, {{spec, link::Goal::run, std::nullopt, s}}}, at(200)));
    number = 0;
  }
  const TaskStatus& known() const { return cluster->task(spec.id)->status; }
  std::optional<Cluster> cluster;
  AgentId agent;
  TaskSpec spec;
  std::uint64_t number = 0;
};

TEST_F(Verdicts, TheLastOneStandsUntilARestartedAgentHasItsOwn) {
  auto s = running();
  s.healthy = true;
  report(s);
  come_back(running());
  EXPECT_EQ(known().healthy, true);
  s.healthy = false;
  report(s);
  EXPECT_EQ(known().healthy, false);
}

TEST_F(Verdicts, ATaskOnceReadyStaysReady) {
  auto s = running();
  s.ready = false;
  report(s);
  EXPECT_FALSE(known().ready);
  s.ready = true;
  report(s);
  s.ready = false;
  come_back(s);
  EXPECT_TRUE(known().ready);
}

TEST_F(Verdicts, ATaskThatWasNeverReadyIsNotMadeSo) {
  auto s = running();
  s.ready = false;
  report(s);
  come_back(s);
  EXPECT_FALSE(known().ready);
}

TEST_F(Verdicts, ARegistrationThatWasOvertakenIsRefused) {
  auto named = [&](std::string life, std::uint64_t n, std::vector<link::HeldTask> tasks) { return cluster->register_agent({host(), agent, "c", 1, 0, std::move(tasks), std::move(life), n}, at(300)); };
  report(running());
  ASSERT_TRUE(named("x", 2, {{spec, link::Goal::run, std::nullopt, running()}}));
  auto late = named("x", 1, {});  // composed before the task was started
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().context.find("overtaken"), std::string::npos);
  EXPECT_FALSE(named("x", 2, {})) << "the same one delivered twice";
  EXPECT_EQ(known().state, TaskState::running);
  EXPECT_TRUE(named("y", 1, {{spec, link::Goal::run, std::nullopt, running()}})) << "another life of the agent counts anew";
}

}  // namespace
}  // namespace croft::cluster
