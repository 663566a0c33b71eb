// A new leader over what an earlier one left: nothing twice, nobody stopped too early, nobody kept who is gone.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "catalog/publisher.hpp"
#include "cluster/cluster.hpp"
#include "orchestrator/orchestrator.hpp"

namespace croft::orchestrator {
namespace {

cluster::Options cluster_options(std::uint64_t epoch) {
  cluster::Options o;
  o.cluster_id = "c";
  o.epoch = epoch;
  o.commit = 1000;
  return o;
}

Options core_options(std::uint64_t epoch) {
  Options o;
  o.seed = epoch;
  return o;
}

/// One leader after another over the same store and two hosts that do as they are told.
struct FailOver : ::testing::Test {
  struct Leader {
    explicit Leader(std::uint64_t epoch) : cluster(cluster_options(epoch)), catalog({.epoch = epoch}), core(cluster, catalog, core_options(epoch)) {}
    cluster::Cluster cluster;
    catalog::Publisher catalog;
    Orchestrator core;
  };
  struct Agent { AgentId id; std::map<TaskId, link::HeldTask> held; };

  FailOver() { take_over(); }
  [[nodiscard]] Now now() const { return {Mono(std::chrono::hours(1) + elapsed), Wall(Millis(1'700'000'000'000) + elapsed)}; }
  void take_over() {
    leader = std::make_unique<Leader>(++epoch);
    ASSERT_TRUE(leader->core.load(stored, now()));
    turn();
  }
  void commit(const coordination::Batch& batch) {
    for (const auto& key : batch.remove) stored.erase(key);
    for (const auto& [key, value] : batch.put) stored[key] = value;
  }
  void turn() {
    for (int round = 0; round < 8; ++round) {
      leader->core.on_events(leader->cluster.take_events(), now());
      (void)leader->core.tick(now());
    }
    (void)leader->catalog.flush();
    commit(leader->core.take_background_batch());
    for (auto& m : leader->cluster.take_messages())
      for (auto& a : agents)
        if (a.id == m.agent) hear(a, m.record);
  }
  void hear(Agent& a, const link::Down& record) {
    if (const auto* d = std::get_if<link::Delta>(&record))
      for (const auto& w : d->set) {
        auto& held = a.held[w.spec.id];
        held.spec = w.spec;
        held.goal = w.goal;
      }
  }
  /// A leader that does not tick for longer takes it for its own absence.
  void pass(Millis length) {
    for (auto end = elapsed + length; elapsed < end;) {
      elapsed = std::min(end, elapsed + Millis(500));
      leader->cluster.tick(now());
      leader->catalog.tick(now());
      turn();
    }
  }
  /// Two instances run, one a host; the one of the first host is to be killed.
  TaskId kill_one_of_two() {
    come(0), come(1);
    change(app(2));
    all_run();
    auto victim = agents[0].held.begin()->first;
    leader->core.kill_tasks({victim}, now());
    turn();
    return victim;
  }
  void come(std::size_t n) {
    link::Registration r;
    r.info.hostname = "node" + std::to_string(n);
    r.info.ip = "10.0.0." + std::to_string(n + 1);
    r.info.total = {4000, 4'000'000, 0, 0};
    r.info.ports = PortSet({{31000, 31010}});
    r.id = agents[n].id;
    for (const auto& [id, held] : agents[n].held) r.tasks.push_back(held);
    auto id = leader->cluster.register_agent(r, now());
    ASSERT_TRUE(id) << id.error().context;
    agents[n].id = *id;
    turn();
  }
  void all_run() {
    for (std::size_t n = 0; n < agents.size(); ++n) all_run_on(n);
  }
  void end(Agent& a, const TaskId& id) {
    link::Report r;
    r.agent = a.id;
    r.subscription = leader->cluster.agent(a.id)->subscription;
    auto held = a.held.extract(id).mapped();
    held.status.state = TaskState::killed;
    held.status.uuid = "u" + std::to_string(++updates);
    r.statuses.push_back(held.status);
    ASSERT_TRUE(leader->cluster.report(r, now()));
    turn();
  }
  void all_run_on(std::size_t n) {
    auto& a = agents[n];
    link::Report r;
    r.agent = a.id;
    r.subscription = leader->cluster.agent(a.id)->subscription;
    for (auto& [id, held] : a.held) {
      held.status.task = id;
      held.status.state = TaskState::running;
      held.status.healthy = true;
      held.status.uuid = "u" + std::to_string(++updates);
      r.statuses.push_back(held.status);
    }
    ASSERT_TRUE(leader->cluster.report(r, now()));
    turn();
  }
  void change(const App& app) {
    Intent intent;
    intent.apps[app.id] = app;
    auto proposal = leader->core.propose(intent, now());
    ASSERT_TRUE(proposal);
    commit(proposal->batch);
    leader->core.apply(*proposal, now());
    turn();
  }
  [[nodiscard]] static App app(std::uint32_t instances) {
    App a;
    a.id = AppId("/a");
    a.cmd = "run";
    a.instances = instances;
    a.resources = {100, 64'000, 0, 0};
    a.ports.resize(1);
    a.upgrade = {1.0, 1.0};
    return a;
  }
  void balancer_hears(const char* name) {
    leader->catalog.confirm({{BalancerId(name), name, "10.0.1.1"}, leader->catalog.index(), {}}, now());
    turn();
  }

  Millis elapsed{0};
  std::uint64_t epoch = 0, updates = 0;
  std::map<std::string, std::string> stored;
  std::unique_ptr<Leader> leader;
  std::vector<Agent> agents{2};
};

TEST_F(FailOver, ARollingUpdateStartsNothingInPlaceOfWhatHasNotComeBack) {
  come(0), come(1);
  change(app(4));
  all_run();
  auto next = app(4);
  next.env["V"] = "2";
  change(next);  // four new ones start beside the four
  ASSERT_EQ(leader->cluster.task_count(), 8u);
  all_run();
  take_over();
  come(0);
  EXPECT_EQ(leader->cluster.task_count(), agents[0].held.size()) << "what runs on the other host was started again";
  come(1);
  EXPECT_EQ(leader->cluster.task_count(), 8u);
}

TEST_F(FailOver, ATaskKeepsTheTimeOfItsLaunch) {
  come(0), come(1);
  change(app(1));
  auto launched = leader->cluster.tasks().front()->staged_at;
  pass(Millis(3000));
  all_run();
  pass(Millis(3000));
  take_over();
  come(0), come(1);
  ASSERT_EQ(leader->cluster.task_count(), 1u);
  EXPECT_EQ(leader->cluster.tasks().front()->staged_at, launched);
}

TEST_F(FailOver, ADrainBegunAtOnceWaitsForBalancersToComeBack) {
  come(0), come(1);
  change(app(2));
  all_run();
  pass(Millis(5000));
  balancer_hears("b");
  take_over();
  come(0), come(1);
  auto fewer = *leader->core.app(AppId("/a"));
  fewer.instances = 1;
  change(fewer);
  pass(Millis(1500));  // no balancer has a lease with this leader yet
  auto goals = [&](link::Goal goal) {
    std::size_t n = 0;
    for (const auto* task : leader->cluster.tasks()) n += task->goal == goal;
    return n;
  };
  EXPECT_EQ(goals(link::Goal::drain), 1u);
  balancer_hears("b");  // it is back, and has carried out the drain
  pass(Millis(4600));
  EXPECT_EQ(goals(link::Goal::kill), 1u);
}

TEST_F(FailOver, ADrainOfTheLeaderBeforeWaitsForBalancersToComeBack) {
  come(0), come(1);
  change(app(1));
  all_run();
  pass(Millis(5000));
  balancer_hears("b");
  leader->core.kill_tasks({leader->cluster.tasks().at(0)->spec.id}, now());
  turn();
  take_over();
  come(0), come(1);
  pass(Millis(1500));
  std::size_t draining = 0;
  for (const auto* task : leader->cluster.tasks()) draining += task->goal == link::Goal::drain;
  EXPECT_EQ(draining, 1u);
}

TEST_F(FailOver, AKillWhoseTaskEndedWhileNobodyLedIsForgotten) {
  auto victim = kill_one_of_two();
  ASSERT_TRUE(stored.contains("kills/" + victim.str()));
  agents[0].held.erase(victim);
  take_over();
  come(0);
  EXPECT_TRUE(stored.contains("kills/" + victim.str())) << "it might be on the other host";
  come(1);
  EXPECT_FALSE(stored.contains("kills/" + victim.str()));
}

TEST_F(FailOver, WhatIsToBeKilledStandsForNoInstance) {
  auto victim = kill_one_of_two();
  agents[0].held.at(victim).goal = link::Goal::run;  // its agent never heard of it
  std::erase_if(agents[0].held, [&](const auto& held) { return held.first != victim; });
  agents[1].held.begin()->second.goal = link::Goal::run;
  take_over();
  come(0);
  EXPECT_NE(leader->cluster.task(victim)->goal, link::Goal::run);
  EXPECT_EQ(leader->cluster.task_count(), 1u) << "the other host has not said yet what it runs";
}

TEST_F(FailOver, AHostThatLostItsDiskIsKnownAgainToTheNextLeader) {
  come(0), come(1);
  change(app(2));
  all_run();
  auto victim = agents[0].held.begin()->first;
  auto id = agents[0].id;
  leader->core.kill_tasks({victim}, now());
  turn();
  ASSERT_TRUE(stored.contains("kills/" + victim.str()));
  agents[0] = {};
  take_over();
  come(0);
  EXPECT_EQ(agents[0].id, id);
  come(1);
  EXPECT_FALSE(stored.contains("kills/" + victim.str())) << "nobody will ever bring that task";
}

TEST_F(FailOver, ATaskThatDoesNotServeIsNotEndedBeforeBalancersHaveHeardSo) {
  come(0), come(1);
  auto one = app(1);
  one.health_checks.emplace_back();
  change(one);
  all_run();
  pass(Millis(5000));
  auto task = leader->cluster.tasks().at(0)->spec.id;
  auto& home = agents[0].held.contains(task) ? agents[0] : agents[1];
  home.held.at(task).status.healthy = std::nullopt;  // its agent was restarted
  take_over();
  come(0), come(1);
  leader->core.kill_tasks({task}, now());
  turn();
  EXPECT_EQ(leader->cluster.task(task)->goal, link::Goal::drain) << "balancers may have it in rotation from before";
  balancer_hears("b");
  pass(Millis(6001));
  EXPECT_EQ(leader->cluster.task(task)->goal, link::Goal::kill);
}

TEST_F(FailOver, AnAgentThatDoesNotComeBackIsDeclaredLost) {
  come(0), come(1);
  change(app(2));
  all_run();
  auto gone = agents[1].id;
  take_over();
  come(0);
  auto before = leader->catalog.index();
  pass(Millis(10'001));
  bool told = false;
  for (const auto& line : leader->catalog.since(before)) told = told || line->find("\"nodes_gone\":[\"" + gone.str()) != std::string::npos;
  EXPECT_TRUE(told) << "followers keep what they had of it for ever";
}

TEST_F(FailOver, ARemovalThatIsCancelledMidwayReachesAnAgentThatComesBackLater) {
  come(0), come(1);
  change(app(4));
  all_run();
  ASSERT_FALSE(agents[1].held.empty());
  take_over();
  come(0);
  Intent remove;
  remove.apps[AppId("/a")] = std::nullopt;
  auto removal = leader->core.propose(remove, now());
  ASSERT_TRUE(removal);
  commit(removal->batch);
  leader->core.apply(*removal, now());
  turn();
  ASSERT_EQ(leader->core.deployments().size(), 1u) << "the tasks that are there still run";
  Intent cancel;
  cancel.cancel = leader->core.deployments().begin()->first;
  cancel.force = true;
  auto proposal = leader->core.propose(cancel, now());
  ASSERT_TRUE(proposal);
  commit(proposal->batch);
  leader->core.apply(*proposal, now());
  turn();
  EXPECT_TRUE(stored.contains("removed/a"));
  come(1);
  for (const auto& [id, held] : agents[1].held) EXPECT_NE(leader->cluster.task(id)->goal, link::Goal::run) << id.str();
  EXPECT_FALSE(stored.contains("removed/a"));
}

TEST_F(FailOver, TasksOfARemovedAppStandForNoneOfTheNewOneOfItsName) {
  come(0), come(1);
  change(app(4));
  all_run();
  take_over();
  come(0);
  Intent remove;
  remove.apps[AppId("/a")] = std::nullopt;
  remove.force = true;
  auto removal = leader->core.propose(remove, now());
  ASSERT_TRUE(removal);
  commit(removal->batch);
  leader->core.apply(*removal, now());
  turn();
  auto gone = agents[0].held;
  for (const auto& [id, held] : gone) end(agents[0], id);
  change(app(2));
  all_run_on(0);
  ASSERT_EQ(leader->cluster.tasks_of(AppId("/a")).size(), 2u);
  take_over();
  come(1);  // with two of the old one
  std::size_t staging = 0;
  for (const auto* task : leader->cluster.tasks()) staging += task->status.state == TaskState::staging;
  EXPECT_EQ(staging, 0u) << "the other host has not said yet what it runs";
}

TEST_F(FailOver, ALeaderThatHeardNobodyGivesAbsentAgentsTheirTimeAnew) {
  come(0), come(1);
  change(app(2));
  all_run();
  take_over();
  pass(Millis(2'000));
  elapsed += Millis(60'000);  // frozen, or without a lease
  leader->cluster.tick(now());
  turn();
  come(0);
  EXPECT_EQ(leader->cluster.task_count(), 1u) << "the other host has not had its time";
  pass(Millis(8'500));
  EXPECT_EQ(leader->cluster.task_count(), 2u) << "now it has";
}

TEST_F(FailOver, FollowersAreToldWhenNobodyIsWaitedForAnyMore) {
  auto heard = [this] { return leader->catalog.since(std::nullopt).at(0)->find("\"all_heard\":true") != std::string::npos; };
  come(0), come(1);
  change(app(1));
  all_run();
  take_over();
  come(0), come(1);
  pass(Millis(9'000));
  EXPECT_FALSE(heard()) << "an agent that had just joined when the last leader died may not be in the store";
  auto before = leader->catalog.index();
  pass(Millis(1'001));
  EXPECT_TRUE(heard());
  auto told = leader->catalog.since(before);
  EXPECT_TRUE(std::ranges::any_of(told, [](const auto& line) { return line->find("\"all_heard\":true") != std::string::npos; })) << "those who follow are told as well";
}

}  // namespace
}  // namespace croft::orchestrator
