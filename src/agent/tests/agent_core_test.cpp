#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "agent/agent_core.hpp"
#include "agent/health.hpp"
#include "agent/run_folder.hpp"

namespace croft::agent {
namespace {

Now at(int seconds) { return {Mono(std::chrono::seconds(seconds)), Wall(std::chrono::seconds(seconds))}; }

TaskSpec spec(std::string id) {
  TaskSpec s;
  s.id = TaskId(std::move(id));
  s.app = AppId("/a");
  return s;
}

class LinkEnd : public ::testing::Test {
 protected:
  Decisions down(link::Down record) {
    auto d = core_.on_down(record, at(0));
    EXPECT_TRUE(d) << (d ? "" : d.error().context);
    return d ? *d : Decisions{};
  }
  void welcome(std::uint64_t epoch = 3) { down(link::Welcome{epoch, 5, "c", "sub", AgentId("c-S0"), Millis(1000)}); }
  TaskStatus status(TaskState state) {
    TaskStatus s;
    s.task = TaskId("t");
    s.state = state;
    return s;
  }
  AgentCore core_{Membership{}, {.resend_first = Millis(1000), .resend_max = Millis(4000), .seed = 1}};
};

TEST_F(LinkEnd, ASnapshotStartsWhatIsNewAndKeepsWhatItDoesNotName) {
  core_.adopt({spec("old"), link::Goal::run, {}, {}});
  welcome();
  auto d = down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  ASSERT_EQ(d.start.size(), 1u);
  EXPECT_TRUE(d.goals.empty());
  EXPECT_NE(core_.task(TaskId("old")), nullptr);
  EXPECT_FALSE(core_.wanted(TaskId("old")));
  EXPECT_TRUE(down(link::Delta{3, 2, {{spec("t"), link::Goal::run, {}}}, {}}).start.empty()) << "a launch said twice is one launch";
}

TEST_F(LinkEnd, ItsLivesAreCountedThroughEveryLeader) {
  AgentCore core(Membership{AgentId("c-S0"), "c", 2, 5, 4});
  EXPECT_EQ(core.registration({}).lives, 4u);
  ASSERT_TRUE(core.on_down(link::Welcome{3, 6, "c", "sub", AgentId("c-S0"), Millis(1000)}, at(0)));
  EXPECT_EQ(core.membership().lives, 4u);
  EXPECT_EQ(core.registration({}).lives, 4u);
}

TEST_F(LinkEnd, WhatTheRegistrationHasOvertakenIsNotToldAfterIt) {
  welcome();
  down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  core_.update(status(TaskState::starting), at(1));
  core_.update(status(TaskState::running), at(1));
  auto healthy = status(TaskState::running);
  healthy.healthy = true;
  core_.disconnected();
  core_.update(healthy, at(2));
  EXPECT_EQ(core_.registration({}).tasks.at(0).status.healthy, true);
  welcome();
  down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  auto report = core_.next_report(at(3));
  ASSERT_TRUE(report);
  ASSERT_EQ(report->statuses.size(), 1u);
  EXPECT_EQ(report->statuses[0].healthy, true) << "an older status would take the leader back";
}

TEST_F(LinkEnd, ThatATaskRanIsToldThoughItHasEndedMeanwhile) {
  welcome();
  down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  std::vector<TaskState> told;
  core_.update(status(TaskState::starting), at(1));
  for (auto healthy : {false, true}) {
    auto s = status(TaskState::running);
    s.healthy = healthy;
    core_.update(s, at(1));
  }
  core_.update(status(TaskState::failed), at(1));
  while (auto report = core_.next_report(at(1))) {
    for (const auto& s : report->statuses) told.push_back(s.state);
    for (const auto& s : report->statuses) down(link::Ack{3, s.task, s.uuid});
    if (told.size() > 5) break;
  }
  EXPECT_EQ(told, (std::vector{TaskState::starting, TaskState::running, TaskState::failed})) << "of the same state the newest";
}

TEST_F(LinkEnd, EachRegistrationHasItsNumberInThisLife) {
  auto first = core_.registration({}), second = core_.registration({});
  EXPECT_FALSE(first.life.empty());
  EXPECT_EQ(first.life, second.life);
  EXPECT_LT(first.number, second.number);
}

TEST_F(LinkEnd, ASecretsValueIsTheNewestThatWasTold) {
  auto s = spec("t");
  s.secrets = {{"/pw", "PW"}, {"/key", "", "key"}};
  EXPECT_EQ(core_.secrets_of(s).error().code, Errc::unavailable) << "a launch that a former life began waits";
  welcome();
  EXPECT_EQ(down(link::Secret{3, "/pw", {1, "one"}}).secrets, std::vector<std::string>{"/pw"});
  down(link::Secret{3, "/key", {}});
  EXPECT_EQ(core_.secrets_of(s).error().code, Errc::not_found) << "the leader said that there is none";
  down(link::Secret{3, "/key", {4, "k"}});
  EXPECT_EQ(*core_.secrets_of(s), (std::vector<SecretValue>{{1, "one"}, {4, "k"}}));
  core_.disconnected();
  welcome(4);
  EXPECT_TRUE(core_.secrets_of(s)) << "a launch under way goes on with what it knows";
  EXPECT_TRUE(down(link::Secret{4, "/pw", {1, "one"}}).secrets.empty()) << "nothing new";
  EXPECT_EQ(down(link::Secret{4, "/pw", {2, "two"}}).secrets, std::vector<std::string>{"/pw"});
  EXPECT_EQ(core_.secrets_of(s)->at(0).value, "two");
  EXPECT_FALSE(core_.on_down(link::Secret{3, "/pw", {1, "one"}}, at(0))) << "of a deposed leader";
}

TEST_F(LinkEnd, AGapLeavesTheStream) {
  welcome();
  down(link::Snapshot{3, 1, {}});
  EXPECT_FALSE(core_.on_down(link::Delta{3, 3, {}, {}}, at(0)));
  EXPECT_FALSE(core_.on_down(link::Heartbeat{3, 9, 5}, at(0)));
}

TEST_F(LinkEnd, AnOlderEpochAnotherClusterAndALostStoreAreRefused) {
  welcome(3);
  EXPECT_FALSE(core_.on_down(link::Welcome{2, 5, "c", "s", AgentId("c-S0"), Millis(1000)}, at(0)));
  EXPECT_FALSE(core_.on_down(link::Welcome{4, 5, "other", "s", AgentId("c-S0"), Millis(1000)}, at(0)));
  EXPECT_FALSE(core_.on_down(link::Welcome{4, 4, "c", "s", AgentId("c-S0"), Millis(1000)}, at(0)));
  EXPECT_FALSE(core_.on_down(link::Snapshot{2, 1, {}}, at(0)));
}

TEST_F(LinkEnd, GoalsOnlyMoveForward) {
  welcome();
  down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  EXPECT_EQ(down(link::Delta{3, 2, {{spec("t"), link::Goal::kill, {}}}, {}}).goals.size(), 1u);
  EXPECT_TRUE(down(link::Delta{3, 3, {{spec("t"), link::Goal::drain, {}}}, {}}).goals.empty());
}

TEST_F(LinkEnd, StatusesAreToldUntilAcknowledgedOneAtATime) {
  welcome();
  down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  core_.update(status(TaskState::running), at(1));
  core_.update(status(TaskState::failed), at(1));
  auto first = core_.next_report(at(1));
  ASSERT_TRUE(first);
  ASSERT_EQ(first->statuses.size(), 1u);
  EXPECT_EQ(first->statuses[0].state, TaskState::running);
  auto again = core_.next_report(at(2));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->statuses.at(0).uuid, first->statuses[0].uuid);
  down(link::Ack{3, TaskId("t"), first->statuses[0].uuid});
  auto second = core_.next_report(at(2));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->statuses.at(0).state, TaskState::failed);
  EXPECT_TRUE(down(link::Delta{3, 2, {}, {TaskId("t")}}).forget.size() == 1);
  EXPECT_EQ(core_.task(TaskId("t")), nullptr);
}

TEST_F(LinkEnd, ALiveTaskIsNeverForgotten) {
  welcome();
  down(link::Snapshot{3, 1, {{spec("t"), link::Goal::run, {}}}});
  EXPECT_TRUE(down(link::Delta{3, 2, {}, {TaskId("t")}}).forget.empty());
}

class Check : public ::testing::Test {
 protected:
  Check() {
    c_.grace = Millis(10'000);
    c_.failures_max = 3;
  }
  CheckMachine::Action see(CheckMachine& m, bool passed, int second) { return m.observe({passed, false, "HTTP 500"}, at(second).mono); }
  HealthCheck c_;
};

TEST_F(Check, FailuresDuringTheGraceCountForNothingAndAreToldOnce) {
  CheckMachine m(c_, at(0).mono);
  for (int i = 1; i < 10; ++i) EXPECT_EQ(see(m, false, i), i == 2 ? CheckMachine::Action::announce : CheckMachine::Action::none) << i;
  EXPECT_EQ(m.failures(), 0u);
  EXPECT_FALSE(m.alive());
  EXPECT_EQ(see(m, true, 10), CheckMachine::Action::announce);
}

TEST_F(Check, TheFourthFailureInARowKills) {
  CheckMachine m(c_, at(0).mono);
  see(m, true, 1);
  EXPECT_EQ(see(m, false, 2), CheckMachine::Action::announce) << "the grace ends with the first success";
  EXPECT_EQ(see(m, false, 3), CheckMachine::Action::none);
  EXPECT_EQ(see(m, false, 4), CheckMachine::Action::none);
  EXPECT_EQ(see(m, false, 5), CheckMachine::Action::kill);
}

TEST_F(Check, ASuccessStartsTheCountAnew) {
  CheckMachine m(c_, at(0).mono);
  see(m, true, 1);
  for (int i = 2; i < 20; i += 3) {
    EXPECT_NE(see(m, false, i), CheckMachine::Action::kill);
    EXPECT_NE(see(m, false, i + 1), CheckMachine::Action::kill);
    EXPECT_EQ(see(m, true, i + 2), CheckMachine::Action::announce);
  }
}

TEST_F(Check, ZeroNeverKills) {
  c_.failures_max = 0;
  CheckMachine m(c_, at(0).mono);
  for (int i = 11; i < 50; ++i) EXPECT_NE(see(m, false, i), CheckMachine::Action::kill);
}

TEST_F(Check, AVerdictOfTheFormerLifeStandsUntilAProbeSaysOtherwise) {
  CheckMachine m(c_, at(0).mono, true);
  EXPECT_EQ(m.alive(), true);
  EXPECT_EQ(see(m, true, 1), CheckMachine::Action::none) << "nothing new";
  CheckMachine failing(c_, at(0).mono, true);
  EXPECT_EQ(see(failing, false, 1), CheckMachine::Action::announce) << "it had passed before, so that no grace is left";
  CheckMachine sick(c_, at(0).mono, false);
  EXPECT_EQ(see(sick, true, 1), CheckMachine::Action::announce);
}

TEST(Readiness, IsWhatItsStatusesSay) {
  ReadinessCheck check;
  auto answer = [](int status) { return ProbeResult{.passed = status < 400, .ignored = false, .cause = {}, .status = status}; };
  EXPECT_TRUE(ready_on(check, answer(200)));
  EXPECT_FALSE(ready_on(check, answer(204))) << "200 alone, unless it says otherwise";
  EXPECT_FALSE(ready_on(check, {})) << "no answer";
  check.ready_statuses = {204, 418};
  EXPECT_FALSE(ready_on(check, answer(200)));
  EXPECT_TRUE(ready_on(check, answer(418))) << "although a health check would fail on it";
}

TEST(RunFolder, AVerdictIsReadAsWrittenAndDamageIsNone) {
  char name[] = "/tmp/croft-agent-test-XXXXXX";
  std::filesystem::path folder = ::mkdtemp(name);
  EXPECT_FALSE(read_verdict(folder));
  RunVerdict verdict{{true, false, std::nullopt}, true};
  ASSERT_TRUE(write_verdict(folder, verdict));
  auto read = read_verdict(folder);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->alive, verdict.alive);
  EXPECT_TRUE(read->ready);
  for (std::string_view bad : {"", "alive=", "alive=1", "alive=12 ready=1", "alive=1 ready=2", "noise"}) {
    std::ofstream(folder / "health") << bad;
    EXPECT_FALSE(read_verdict(folder)) << bad;
  }
  ASSERT_TRUE(write_verdict(folder, {{}, true}));
  EXPECT_TRUE(read_verdict(folder) && read_verdict(folder)->ready && read_verdict(folder)->alive.empty());
  EXPECT_FALSE(write_verdict(folder / "nothing", verdict));
  std::filesystem::remove_all(folder);
}

TEST(RunFolder, ALaunchThatWasCutOffBeforeItWasRecordedIsNoDamage) {
  char name[] = "/tmp/croft-agent-test-XXXXXX";
  std::filesystem::path folder = ::mkdtemp(name);
  EXPECT_TRUE(never_recorded(folder));
  std::ofstream(folder / "task.json.1a2b.new") << "{\"format\":1,\"sp";
  EXPECT_TRUE(never_recorded(folder)) << "its record was being written";
  EXPECT_EQ(read_record(folder).error().code, Errc::not_found);
  for (auto beyond : {"exec.conf", "started", "ctl", "exit"}) {
    std::ofstream(folder / beyond) << "x";
    EXPECT_FALSE(never_recorded(folder)) << "there was a record: " << beyond << " is written behind it";
    std::filesystem::remove(folder / beyond);
  }
  std::ofstream(folder / "task.json") << "{\"format\":1,\"sp";
  EXPECT_FALSE(never_recorded(folder));
  EXPECT_FALSE(read_record(folder)) << "a record that is there and cannot be read is damaged";
  std::filesystem::remove_all(folder);
}

TEST(RunFolder, AFailedLaunchIsReadAsWritten) {
  char name[] = "/tmp/croft-agent-test-XXXXXX";
  std::filesystem::path folder = ::mkdtemp(name);
  ASSERT_TRUE(write_failure(folder, "pull of x: no such\nimage"));
  ASSERT_TRUE(read_exit(folder));
  EXPECT_EQ(read_exit(folder)->failure, "pull of x: no such image");
  EXPECT_EQ(end_of(*read_exit(folder), {}, false, "").reason, "REASON_CONTAINER_LAUNCH_FAILED");
  EXPECT_TRUE(never_recorded(folder)) << "its record did not reach the disk: there is nothing to hold, and nothing damaged";
  ASSERT_TRUE(write_failure(folder, std::string(100'000, 'x')));
  EXPECT_TRUE(read_exit(folder)) << "as long as it may be";
  EXPECT_FALSE(write_failure(folder / "nothing", "x"));
  std::filesystem::remove_all(folder);
}

TEST_F(Check, SeveralChecksAreHealthyOnlyTogether) {
  std::vector<CheckMachine> all{CheckMachine(c_, at(0).mono), CheckMachine(c_, at(0).mono)};
  EXPECT_FALSE(combined(all).has_value());
  see(all[0], true, 1);
  EXPECT_FALSE(combined(all).has_value());
  see(all[1], true, 1);
  EXPECT_EQ(combined(all), true);
  see(all[1], false, 2);
  EXPECT_EQ(combined(all), false);
}

TEST(RunFolder, ReadsTheExecutorsLines) {
  auto e = parse_exit("exit code=137 signal=9 oom=1 at=1234 lost=0\n");
  ASSERT_TRUE(e);
  EXPECT_TRUE(e->oom);
  EXPECT_EQ(e->signal, 9);
  EXPECT_EQ(parse_exit("failed cgroup: No space left\n")->failure, "cgroup: No space left");
  EXPECT_EQ(parse_started("started pid=7 start=99 at=5\n")->ticks, 99u);
  for (auto bad : {"", "exit", "exit code=x signal=1", "started pid=1", "nonsense"}) {
    EXPECT_FALSE(parse_exit(bad)) << bad;
    EXPECT_FALSE(parse_started(bad)) << bad;
  }
  EXPECT_EQ(parse_oom("oom count=3\n"), 3u);
  for (auto bad : {"", "oom", "oom count=0", "oom count=x", "exit code=1 signal=0 oom=1"}) EXPECT_FALSE(parse_oom(bad)) << bad;
}

TEST(RunEnd, MemoryIsTheReasonOnlyOfAnEndThatFailed) {
  TaskSpec spec;
  spec.resources.mem = 32'000;
  RunExit exit;
  exit.code = 137, exit.signal = 9, exit.oom = true;
  EXPECT_EQ(end_of(exit, spec, false, "").reason, "REASON_CONTAINER_LIMITATION_MEMORY");
  EXPECT_EQ(end_of(exit, spec, true, "").state, TaskState::killed) << "the farm asked for it: no failure, no back-off";
  auto unhealthy = end_of(exit, spec, true, "health check failed");
  EXPECT_EQ(unhealthy.reason, "REASON_TASK_HEALTH_CHECK_KILLED");
  EXPECT_EQ(unhealthy.message, "health check failed; earlier the kernel killed a process of it for using more than its 32 MiB of mem");
  exit.code = 0, exit.signal = 0;
  EXPECT_EQ(end_of(exit, spec, false, "").state, TaskState::finished);
  exit.code = 137;
  EXPECT_EQ(end_of(exit, spec, false, "").reason, "REASON_CONTAINER_LIMITATION_MEMORY") << "a shell whose command was killed";
  exit.code = 3;
  EXPECT_EQ(end_of(exit, spec, false, "").message, "Command exited with status 3; earlier the kernel killed a process of it for using more than its 32 MiB of mem");
  exit.oom = false;
  EXPECT_EQ(end_of(exit, spec, false, "").message, "Command exited with status 3");
}

}  // namespace
}  // namespace croft::agent
