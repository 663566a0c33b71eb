#include <gtest/gtest.h>

#include <algorithm>

#include "cluster/tests/builders.hpp"

namespace croft::cluster {
namespace {

using Kind = Event::Kind;

// --- registration ---

TEST(Registration, ANewAgentGetsAnIdAWelcomeAndASnapshot) {
  Books b;
  auto id = b.join(info("n1"));
  EXPECT_EQ(id, AgentId("c-3-S0"));
  EXPECT_EQ(b.kinds(), (std::vector<Kind>{Kind::agent_joined, Kind::agent_complete}));
  auto messages = b.cluster.take_messages();
  ASSERT_EQ(messages.size(), 2u);
  const auto& welcome = std::get<link::Welcome>(messages[0].record);
  EXPECT_EQ(welcome.epoch, 3u);
  EXPECT_EQ(welcome.cluster_id, "c");
  EXPECT_EQ(welcome.subscription, b.cluster.agent(id)->subscription);
  EXPECT_EQ(std::get<link::Snapshot>(messages[1].record).n, 1u);
}

TEST(Registration, AnAgentThatKeptItsIdComesBackUnderIt) {
  Books b;
  EXPECT_EQ(b.join(info("n1"), {}, "c-1-S7"), AgentId("c-1-S7"));
  EXPECT_EQ(b.cluster.agent_count(), 1u);
}

TEST(Registration, AnAgentThatLostItsDiskIsKnownByItsAddress) {
  Books b;
  auto id = b.join(info("n1"));
  EXPECT_EQ(b.join(info("n1")), id);
  EXPECT_EQ(b.cluster.agent_count(), 1u);
  EXPECT_EQ(b.cluster.total(), info("n1").total);
}

TEST(Registration, AnotherClusterANewerEpochAndALostStoreAreRefused) {
  Books b;
  link::Registration r;
  r.info = info("n1");
  r.cluster_id = "other";
  EXPECT_EQ(b.cluster.register_agent(r, at_ms(0)).error().code, Errc::conflict);
  r.cluster_id = "c";
  r.epoch_seen = 4;
  EXPECT_EQ(b.cluster.register_agent(r, at_ms(0)).error().context, "agent n1 has seen epoch 4, this leader's is 3");
  r.epoch_seen = 3;
  r.commit_seen = 11;
  EXPECT_EQ(b.cluster.register_agent(r, at_ms(0)).error().context, "agent n1 has seen commit 11, this leader's store ends at 10: it was lost or rolled back");
  b.cluster.committed(11);
  EXPECT_TRUE(b.cluster.register_agent(r, at_ms(0)));
}

TEST(Registration, ACopiedDiskIsRefusedWhileTheFirstHostLives) {
  Books b;
  auto id = b.join(info("n1"));
  link::Registration copy;
  copy.info = info("n2");
  copy.id = id;
  auto got = b.cluster.register_agent(copy, at_ms(100));
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().context.find("in use by n1"), std::string::npos);
  EXPECT_EQ(b.cluster.agent(id)->info.hostname, "n1");
}

TEST(Registration, ASecondOneCutsTheFirstStream) {
  Books b;
  auto id = b.join(info("n1"));
  auto first = b.cluster.agent(id)->subscription;
  b.join(info("n1"), {}, id.str());
  auto cuts = b.cluster.take_cuts();
  ASSERT_EQ(cuts.size(), 1u);
  EXPECT_EQ(cuts[0].subscription, first);
  EXPECT_NE(b.cluster.agent(id)->subscription, first);
}

TEST(Registration, ChangedResourcesCountAtOnce) {
  Books b;
  auto id = b.join(info("n1", 4));
  b.launch(shape("/a", 2), "t");
  b.join(info("n1", 8, 2000, "32000-32001"), {held("t", "/a", TaskState::running, 2)}, id.str());
  EXPECT_EQ(b.cluster.total().cpus, 8000);
  EXPECT_EQ(b.cluster.used().cpus, 2000);
  EXPECT_EQ(b.cluster.agent(id)->free_ports.str(), "[32000-32001]");
  EXPECT_EQ(b.cluster.audit(), "");
}

// --- tasks of a registration ---

TEST(Adoption, ATaskThatAnAgentBringsIsChargedAndTold) {
  Books b;
  b.cluster.set_known_apps({AppId("/a")});
  auto id = b.join(info("n1"), {held("t", "/a", TaskState::running, 1.5, 31004)});
  EXPECT_EQ(b.cluster.used().cpus, 1500);
  EXPECT_FALSE(b.cluster.agent(id)->free_ports.contains(31004));
  EXPECT_FALSE(b.cluster.task(TaskId("t"))->quarantined);
  EXPECT_EQ(b.kinds(), (std::vector<Kind>{Kind::agent_joined, Kind::task_adopted, Kind::agent_complete}));
  auto snapshots = b.sent<link::Snapshot>(id);
  ASSERT_EQ(snapshots.size(), 1u);
  EXPECT_EQ(snapshots[0].tasks.size(), 1u);
  EXPECT_EQ(b.cluster.audit(), "");
}

TEST(Adoption, ATaskOfAnUnknownAppIsQuarantinedNotWantedAndNotKilled) {
  Books b;
  auto id = b.join(info("n1"), {held("t", "/ghost")});
  EXPECT_TRUE(b.cluster.task(TaskId("t"))->quarantined);
  EXPECT_EQ(b.state("t"), TaskState::running);
  EXPECT_TRUE(b.sent<link::Snapshot>(id)[0].tasks.empty()) << "what a snapshot does not name the agent keeps running";
  EXPECT_EQ(b.cluster.used().cpus, 1000) << "it takes its room all the same";
}

TEST(Adoption, AQuarantinedTaskIsTakenOnceItsAppIsKnown) {
  Books b;
  auto id = b.join(info("n1"), {held("t", "/ghost")});
  b.kinds(), b.cluster.take_messages();
  b.cluster.app_known(AppId("/ghost"), true);
  EXPECT_FALSE(b.cluster.task(TaskId("t"))->quarantined);
  EXPECT_EQ(b.kinds(), (std::vector<Kind>{Kind::task_adopted}));
  EXPECT_EQ(b.sent<link::Delta>(id)[0].set.size(), 1u);
}

TEST(Adoption, AQuarantinedTaskThatIsToldToGoIsInTheSnapshot) {
  Books b;
  auto id = b.join(info("n1"), {held("t", "/ghost")});
  b.cluster.kill(TaskId("t"), at_ms(0));
  b.cluster.take_messages();
  b.join(info("n1"), {held("t", "/ghost")}, id.str());
  auto snapshot = b.sent<link::Snapshot>(id).at(0);
  ASSERT_EQ(snapshot.tasks.size(), 1u);
  EXPECT_EQ(snapshot.tasks[0].goal, link::Goal::kill);
}

TEST(Adoption, AGoalThatTheAgentHasHeardStaysTold) {
  Books b;
  b.cluster.set_known_apps({AppId("/a")});
  auto h = held("t");
  h.goal = link::Goal::drain;
  h.draining_since = at_ms(-500).wall;
  b.join(info("n1"), {h});
  EXPECT_EQ(b.cluster.task(TaskId("t"))->goal, link::Goal::drain);
  EXPECT_EQ(b.cluster.task(TaskId("t"))->draining_since, at_ms(-500).wall);
}

TEST(Adoption, ATaskThatEndedWhileNobodyLedIsToldOnceAndForgotten) {
  Books b;
  auto id = b.join(info("n1"), {held("t", "/a", TaskState::failed)});
  EXPECT_EQ(b.cluster.used(), Resources{});
  EXPECT_EQ(b.sent<link::Delta>(id).at(0).forget, (std::vector<TaskId>{TaskId("t")}));
  b.kinds();
  EXPECT_EQ(b.cluster.task_count(), 0u);
  ASSERT_EQ(b.cluster.ended().size(), 1u);
  EXPECT_EQ(b.cluster.ended()[0]->status.state, TaskState::failed);
}

TEST(Adoption, ALaunchThatNeverArrivedIsSentAgain) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.cluster.take_messages();
  b.join(info("n1"), {}, id.str());
  EXPECT_EQ(b.sent<link::Snapshot>(id).at(0).tasks.size(), 1u);
  EXPECT_EQ(b.state("t"), TaskState::staging);
}

TEST(Adoption, ATaskThatTheAgentHadAndDoesNotListIsLost) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running)}));
  b.join(info("n1"), {}, id.str());
  EXPECT_EQ(b.state("t"), TaskState::lost);
  EXPECT_EQ(b.cluster.used(), Resources{});
}

TEST(Adoption, AKillBeforeTheLaunchArrivedEndsTheTask) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.cluster.kill(TaskId("t"), at_ms(0));
  b.join(info("n1"), {}, id.str());
  EXPECT_EQ(b.state("t"), TaskState::killed);
}

// --- goals and deltas ---

TEST(Link, ChangesOfOneTurnAreOneNumberedDelta) {
  Books b;
  auto id = b.join(info("n1"));
  b.cluster.take_messages();
  b.launch(shape(), "t1");
  b.launch(shape(), "t2");
  auto deltas = b.sent<link::Delta>(id);
  ASSERT_EQ(deltas.size(), 1u);
  EXPECT_EQ(deltas[0].n, 2u);
  EXPECT_EQ(deltas[0].set.size(), 2u);
  EXPECT_TRUE(b.cluster.take_messages().empty());
}

TEST(Link, AGoalOnlyMovesForward) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.cluster.kill(TaskId("t"), at_ms(0));
  b.cluster.drain(TaskId("t"), at_ms(1));
  EXPECT_EQ(b.cluster.task(TaskId("t"))->goal, link::Goal::kill);
  EXPECT_EQ(b.sent<link::Delta>(id).back().set[0].goal, link::Goal::kill);
}

TEST(Link, NothingIsCollectedForAnAgentThatIsAway) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.cluster.take_messages();
  b.cluster.stream_closed(id, b.cluster.agent(id)->subscription, at_ms(0));
  b.cluster.kill(TaskId("t"), at_ms(0));
  EXPECT_TRUE(b.cluster.take_messages().empty());
  b.join(info("n1"), {held("t")}, id.str());
  EXPECT_EQ(b.sent<link::Snapshot>(id).at(0).tasks.at(0).goal, link::Goal::kill);
}

TEST(Link, AnAgentTooFarBehindIsCut) {
  Books b;
  b.options.unacked_max = 3;
  Cluster c(b.options);
  link::Registration r;
  r.info = info("n1", 100, 10'000, "31000-31999");
  auto id = *c.register_agent(r, at_ms(0));
  for (int i = 0; i < 5; ++i) {
    auto s = shape("/a", 0.1, 1);
    auto p = c.place(s, 1).placed.at(0);
    c.launch(spec_for(s, "t" + std::to_string(i), p), s, p, at_ms(0));
    c.take_messages();
  }
  c.tick(at_ms(1));
  auto cuts = c.take_cuts();
  ASSERT_EQ(cuts.size(), 1u);
  EXPECT_EQ(cuts[0].why, "it is 6 deltas behind");
  EXPECT_FALSE(c.agent(id)->connected);
}

// --- statuses ---

TEST(Statuses, AreAcknowledgedAlsoWhenTheyComeTwice) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.cluster.take_messages(), b.kinds();
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running, "u1", 5)}));
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running, "u1", 5)}));
  auto acks = b.sent<link::Ack>(id);
  ASSERT_EQ(acks.size(), 2u);
  EXPECT_EQ(acks[1].uuid, "u1");
  EXPECT_EQ(b.kinds().size(), 1u) << "it happened once";
  EXPECT_EQ(b.cluster.task(TaskId("t"))->status.started_at, at_ms(5).wall);
}

TEST(Statuses, OfAStaleSubscriptionAreRefused) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  link::Report r;
  r.agent = id;
  r.subscription = "2-1-old";
  r.statuses = {status("t", TaskState::running)};
  EXPECT_EQ(b.cluster.report(r, at_ms(0)).error().code, Errc::conflict);
  EXPECT_EQ(b.state("t"), TaskState::staging);
}

TEST(Registrations, WhatAFormerLifeSentIsRefusedUntilTheAgentIsGivenUp) {
  Books b;
  auto come = [&](std::uint64_t lives, AgentId id, int ms) {
    link::Registration r;
    r.info = info("h1");
    r.id = std::move(id);
    r.life = "life" + std::to_string(lives);
    r.number = 1;
    r.lives = lives;
    return b.cluster.register_agent(r, at_ms(ms));
  };
  auto id = come(7, AgentId(), 0);
  ASSERT_TRUE(id);
  auto late = come(6, *id, 100);
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().context.find("overtaken by its life 7"), std::string::npos) << late.error().context;
  EXPECT_TRUE(come(8, *id, 200));
  EXPECT_TRUE(come(1, AgentId(), 300)) << "it lost its disk, and counts anew";
  EXPECT_TRUE(come(9, *id, 400));
  for (int ms = 500; ms < 12'000; ms += 500) b.cluster.tick(at_ms(ms));
  EXPECT_TRUE(come(3, *id, 12'000)) << "its disk was put back to an older state";
}

TEST(Registrations, APortIsOneTasksAlsoWhenTheAgentBringsAnotherThatHasIt) {
  Books b;
  auto id = b.join(info("h1"));
  b.launch(shape("/a", 1, 100, {31000}), "new");
  b.join(info("h1"), {held("old", "/a", TaskState::running, 1, 31000)}, id.str());
  EXPECT_EQ(b.state("new"), TaskState::lost) << "it never came there, and cannot start";
  EXPECT_EQ(b.state("old"), TaskState::running);
  EXPECT_EQ(b.cluster.audit(), "");
  EXPECT_FALSE(b.cluster.agent(id)->free_ports.contains(31000));
}

TEST(Registrations, WhatWasSentBeforeItsHostWasBootedAgainIsRefusedAlsoAfterALostDisk) {
  Books b;
  auto host = info("h1");
  auto id = b.join(host, {held("t1")});
  host.boot_id = "the next";
  b.join(host);  // without its disk, and so without its id
  EXPECT_EQ(b.cluster.agent_count(), 1u);
  link::Registration late;
  late.info = info("h1");
  late.id = id;
  late.lives = 9;
  late.tasks = {held("t1")};
  auto refused = b.cluster.register_agent(late, at_ms(100));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().context.find("booted again"), std::string::npos) << refused.error().context;
  for (int ms = 500; ms < 12'000; ms += 500) b.cluster.tick(at_ms(ms));
  EXPECT_TRUE(b.cluster.register_agent(late, at_ms(12'000))) << "nobody is shut out for ever";
}

TEST(Silence, OfTheLeaderIsNotTheAgents) {
  Books b;
  auto id = b.join(info("h1"));
  b.cluster.tick(at_ms(500));
  b.cluster.tick(at_ms(30'000));  // frozen for half a minute
  EXPECT_TRUE(b.cluster.agent(id)->reachable);
  for (int ms = 30'500; ms <= 41'000; ms += 500) b.cluster.tick(at_ms(ms));
  EXPECT_FALSE(b.cluster.agent(id)->reachable);
}

TEST(Statuses, AReportOvertakenByALaterOneSaysNothing) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.numbers[id] = 7;
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running, "u2")}));
  b.numbers[id] = 3;
  ASSERT_TRUE(b.report(id, {status("t", TaskState::failed, "u1")}));
  EXPECT_EQ(b.state("t"), TaskState::running);
}

TEST(Statuses, AStateOnlyMovesForward) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running, "u1")}));
  ASSERT_TRUE(b.report(id, {status("t", TaskState::starting, "u2")}));
  EXPECT_EQ(b.state("t"), TaskState::running);
  ASSERT_TRUE(b.report(id, {status("t", TaskState::finished, "u3")}));
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running, "u4")}));
  EXPECT_EQ(b.state("t"), TaskState::finished);
}

TEST(Statuses, AnEndFreesRoomAtOnceAndIsReadBeforeItIsForgotten) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape("/a", 2, 100, {0}), "t");
  b.cluster.take_messages(), b.kinds();
  ASSERT_TRUE(b.report(id, {status("t", TaskState::failed)}));
  EXPECT_EQ(b.cluster.used(), Resources{});
  EXPECT_EQ(b.cluster.agent(id)->free_ports.size(), 10u);
  EXPECT_NE(b.cluster.task(TaskId("t")), nullptr);
  EXPECT_EQ(b.kinds(), (std::vector<Kind>{Kind::task_changed, Kind::task_gone}));
  EXPECT_EQ(b.cluster.task(TaskId("t")), nullptr);
  EXPECT_EQ(b.sent<link::Delta>(id).at(0).forget, (std::vector<TaskId>{TaskId("t")}));
  EXPECT_EQ(b.cluster.audit(), "");
}

TEST(Statuses, AHealthChangeIsToldAsOne) {
  Books b;
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running, "u1")}));
  b.cluster.take_events();
  auto s = status("t", TaskState::running, "u2");
  s.healthy = true;
  ASSERT_TRUE(b.report(id, {s}));
  auto events = b.cluster.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(events[0].health_changed);
  EXPECT_FALSE(events[0].state_changed);
}

TEST(Statuses, OfATaskThatNobodyKnowsMakeTheAgentRegisterAnew) {
  Books b;
  auto id = b.join(info("n1"));
  EXPECT_EQ(b.report(id, {status("ghost", TaskState::running)}).error().code, Errc::conflict);
  EXPECT_FALSE(b.cluster.agent(id)->connected);
  EXPECT_EQ(b.cluster.take_cuts().size(), 1u);
}

TEST(Statuses, OfAForgottenEndAreAcknowledgedSoThatTheyStop) {
  Books b;
  auto id = b.join(info("n1"));
  b.cluster.take_messages();
  ASSERT_TRUE(b.report(id, {status("gone", TaskState::finished, "u9")}));
  auto messages = b.cluster.take_messages();
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(std::get<link::Ack>(messages[0].record).uuid, "u9");
  EXPECT_EQ(std::get<link::Delta>(messages[1].record).forget.size(), 1u);
}

// --- silence ---

TEST(Silence, AnAgentWithoutAStreamIsUnreachableAfterItsTime) {
  Books b;
  b.cluster.set_known_apps({AppId("/a")});
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running)}));
  b.cluster.stream_closed(id, b.cluster.agent(id)->subscription, at_ms(1000));
  b.cluster.tick(at_ms(11'000));
  EXPECT_TRUE(b.cluster.agent(id)->reachable) << "not a moment too early";
  b.kinds();
  b.cluster.tick(at_ms(11'001));
  EXPECT_FALSE(b.cluster.agent(id)->reachable);
  EXPECT_EQ(b.state("t"), TaskState::unreachable);
  EXPECT_EQ(b.kinds(), (std::vector<Kind>{Kind::agent_unreachable, Kind::task_changed}));
  EXPECT_EQ(b.cluster.used().cpus, 1000) << "it may still run there";
}

TEST(Silence, AnOpenStreamThatSaysNothingIsNoSignOfLife) {
  Books b;
  auto id = b.join(info("n1"));
  b.cluster.tick(at_ms(10'001));
  EXPECT_FALSE(b.cluster.agent(id)->reachable);
  EXPECT_EQ(b.cluster.take_cuts().at(0).why, "it has not reported for too long");
}

TEST(Silence, AnAgentThatComesBackBringsItsTasksAsTheyAre) {
  Books b;
  b.cluster.set_known_apps({AppId("/a")});
  auto id = b.join(info("n1"));
  b.launch(shape(), "t");
  b.launch(shape(), "never-arrived");
  ASSERT_TRUE(b.report(id, {status("t", TaskState::running)}));
  b.cluster.stream_closed(id, b.cluster.agent(id)->subscription, at_ms(0));
  b.cluster.tick(at_ms(20'000));
  b.join(info("n1"), {held("t")}, id.str(), 21'000);
  EXPECT_EQ(b.state("t"), TaskState::running);
  EXPECT_EQ(b.state("never-arrived"), TaskState::lost) << "others may have taken its place meanwhile";
  EXPECT_TRUE(b.cluster.agent(id)->reachable);
}

TEST(Silence, HeartbeatsGoOutInTime) {
  Books b;
  auto id = b.join(info("n1"));
  b.cluster.take_messages();
  b.cluster.tick(at_ms(4'999));
  EXPECT_TRUE(b.sent<link::Heartbeat>(id).empty());
  b.cluster.committed(12);
  b.cluster.tick(at_ms(5'000));
  auto beats = b.sent<link::Heartbeat>(id);
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_EQ(beats[0].n, 1u);
  EXPECT_EQ(beats[0].commit, 12u);
}

// --- removal and memory ---

TEST(Removal, ARemovedAgentTakesItsTasksWithIt) {
  Books b;
  auto id = b.join(info("n1"));
  b.join(info("n2"));
  b.launch(shape("/a", 4), "t1"), b.launch(shape("/a", 4), "t2");
  ASSERT_TRUE(b.cluster.remove_agent(id, at_ms(0)));
  EXPECT_EQ(b.cluster.agent(id), nullptr);
  EXPECT_EQ(b.cluster.total().cpus, 4000);
  b.kinds();
  EXPECT_EQ(b.cluster.task_count(), 1u);
  EXPECT_EQ(b.cluster.ended().at(0)->status.state, TaskState::gone_by_operator);
  EXPECT_EQ(b.cluster.audit(), "");
  EXPECT_EQ(b.cluster.remove_agent(id, at_ms(0)).error().code, Errc::not_found);
}

TEST(Removal, APlacementOnARemovedAgentBecomesALostTask) {
  Books b;
  auto id = b.join(info("n1"));
  auto s = shape();
  auto p = b.cluster.place(s, 1).placed.at(0);
  ASSERT_TRUE(b.cluster.remove_agent(id, at_ms(0)));
  b.cluster.launch(spec_for(s, "t", p), s, p, at_ms(0));
  EXPECT_EQ(b.state("t"), TaskState::lost);
  b.cluster.give_back(s, p);  // and giving back does no harm
  EXPECT_EQ(b.cluster.used(), Resources{});
}

TEST(Ended, AreKeptNewestFirstAHundredAnApp) {
  Books b;
  auto id = b.join(info("n1", 1000, 1e6));
  for (int i = 0; i < 130; ++i) {
    auto task = "t" + std::to_string(i);
    b.launch(shape("/a", 0.1, 1), task);
    ASSERT_TRUE(b.report(id, {status(task, TaskState::finished, "u" + task)}));
    b.kinds();
  }
  b.launch(shape("/b", 0.1, 1), "other");
  ASSERT_TRUE(b.report(id, {status("other", TaskState::finished)}));
  b.kinds();
  auto ended = b.cluster.ended();
  ASSERT_EQ(ended.size(), 101u);
  EXPECT_EQ(ended[0]->spec.id, TaskId("other"));
  EXPECT_EQ(ended[1]->spec.id, TaskId("t129"));
  EXPECT_EQ(ended.back()->spec.id, TaskId("t30"));
}

TEST(Ended, KeepWhatIsShownOfThemAndNoMore) {
  Books b;
  auto id = b.join(info("n1"));
  auto s = shape();
  auto p = b.cluster.place(s, 1).placed.at(0);
  auto spec = spec_for(s, "t", p);
  spec.env = {{"HOST", "n1"}, {"BIG", std::string(100'000, 'x')}};
  b.cluster.launch(spec, s, p, at_ms(0));
  spec.staged_at = at_ms(0).wall;
  EXPECT_EQ(b.cluster.task(TaskId("t"))->spec, spec) << "the agent needs all of it";
  ASSERT_TRUE(b.report(id, {status("t", TaskState::finished)}));
  auto events = b.cluster.take_events();
  ASSERT_EQ(events.back().kind, Event::Kind::task_gone);
  EXPECT_EQ(events.back().last->spec.env, (Labels{{"HOST", "n1"}}));
  EXPECT_EQ(b.cluster.ended().at(0)->spec.env, (Labels{{"HOST", "n1"}}));
}

TEST(Books, AreInOrderAfterAnyOrderOfThings) {
  std::uint64_t dice = 7;
  auto roll = [&](std::uint64_t n) {
    dice = dice * 6364136223846793005ull + 1442695040888963407ull;
    return (dice >> 33) % n;
  };
  Books b;
  std::vector<AgentId> agents;
  for (int i = 1; i <= 4; ++i) agents.push_back(b.join(info("n" + std::to_string(i), 4, 2000, "31000-31019")));
  std::vector<TaskId> live;
  for (int step = 0; step < 3000; ++step) {
    auto& id = agents[roll(agents.size())];
    switch (roll(6)) {
      case 0: case 1: {
        auto s = shape("/app" + std::to_string(roll(3)), 0.5, 50, {0});
        for (const auto& p : b.cluster.place(s, 2).placed) {
          if (roll(4) == 0) { b.cluster.give_back(s, p); continue; }
          auto task = "t" + std::to_string(step) + "-" + std::to_string(live.size());
          b.cluster.launch(spec_for(s, task, p), s, p, at_ms(step));
          live.emplace_back(task);
        }
        break;
      }
      case 2: case 3: {
        if (live.empty()) break;
        auto at = roll(live.size());
        const auto* t = b.cluster.task(live[at]);
        bool ends = roll(2) == 0;
        if (t && b.cluster.agent(t->agent)->connected) (void)b.report(t->agent, {status(live[at].str(), ends ? TaskState::failed : TaskState::running, std::to_string(step))}, step);
        if (!t) live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      }
      case 4: b.cluster.stream_closed(id, b.cluster.agent(id)->subscription, at_ms(step)); break;
      default: {
        std::vector<link::HeldTask> has;
        for (const auto* t : b.cluster.tasks())
          if (t->agent == id && !is_terminal(t->status.state) && roll(8) != 0) has.push_back({t->spec, t->goal, {}, status(t->spec.id.str(), TaskState::running, "r" + std::to_string(step))});
        b.join(b.cluster.agent(id)->info, has, id.str(), step);
      }
    }
    b.cluster.take_messages(), b.cluster.take_cuts();
    if (roll(3) == 0) b.cluster.take_events();
    ASSERT_EQ(b.cluster.audit(), "") << "after step " << step;
  }
}

}  // namespace
}  // namespace croft::cluster
