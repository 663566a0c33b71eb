#include <gtest/gtest.h>

#include "model/catalog_json.hpp"
#include "model/link_json.hpp"
#include "model/resources.hpp"

namespace croft {
namespace {

TaskSpec full_spec() {
  TaskSpec s;
  s.id = TaskId("service_fibonacci.4711");
  s.app = AppId("/service/fibonacci");
  s.app_version = "2015-08-12T10:11:12.345Z";
  s.name = task_name_of(s.app);
  s.cmd = "./run $PORT0";
  s.args = std::vector<std::string>{"a", ""};
  s.user = "nobody";
  s.env = {{"A", "1"}, {"B", "x\ny"}};
  s.labels = {{"l", "v"}};
  s.resources = {100, 256'000, 1, 0};
  s.mem_limit = -1;
  s.ports = {{.host_port = 31000, .container_port = 8099, .service_port = 10000, .requested = 8099, .protocol = Protocol::both, .name = "http", .labels = {{"VIP_0", "x"}}}};
  s.fetch = {{"http://x/y.tgz", "z", false, true, true}};
  s.volumes = {{"/c", "/h", "RW"}};
  s.docker = DockerSpec{"reg:5002/fib:1", NetworkMode::bridge, "n", true, true, {{"dns", "1.2.3.4"}}};
  HealthCheck c;
  c.port_index = 0;
  c.grace = Millis(1234);
  s.health_checks = {c};
  s.readiness_checks = {ReadinessCheck{}};
  s.kill_grace = Millis(500);
  s.staged_at = Wall(Millis(1'700'000'000'123));
  return s;
}

TEST(Ids, TaskNamesAreTheReversedPath) {
  EXPECT_EQ(task_name_of(AppId("/service/fibonacci")), "fibonacci.service");
  EXPECT_EQ(task_name_of(AppId("/a")), "a");
}

TEST(PortSet, KeepsRangesSortedDisjointAndJoined) {
  PortSet set({{10, 12}, {1, 3}, {4, 5}});
  EXPECT_EQ(set.str(), "[1-5, 10-12]");
  EXPECT_TRUE(set.remove(11));
  EXPECT_FALSE(set.remove(11));
  EXPECT_EQ(set.str(), "[1-5, 10-10, 12-12]");
  set.add(11);
  set.add(6);
  EXPECT_EQ(set.str(), "[1-6, 10-12]");
  EXPECT_EQ(set.size(), 9u);
  EXPECT_TRUE(set.contains(6));
  EXPECT_FALSE(set.contains(7));
  PortSet edge({{65535, 65535}});
  edge.add(65534);
  EXPECT_EQ(edge.str(), "[65534-65535]");
}

TEST(PortSet, ParsesMesosTextAndRefusesTheRest) {
  EXPECT_EQ(PortSet::parse("[31000-31002, 31005]")->str(), "[31000-31002, 31005-31005]");
  for (auto bad : {"0", "5-4", "70000", "a-b", "1-"}) EXPECT_FALSE(PortSet::parse(bad)) << bad;
}

TEST(Link, EveryRecordSurvivesItsJson) {
  link::WantedTask wanted{full_spec(), link::Goal::drain, Wall(Millis(5))};
  auto round = [](link::Down d) { return *link::decode_down(link::encode(d)); };
  auto snapshot = std::get<link::Snapshot>(round(link::Snapshot{3, 9, {wanted}}));
  ASSERT_EQ(snapshot.tasks.size(), 1u);
  EXPECT_EQ(snapshot.tasks[0].spec, wanted.spec);
  EXPECT_EQ(snapshot.tasks[0].goal, link::Goal::drain);
  EXPECT_EQ(snapshot.tasks[0].draining_since, Wall(Millis(5)));
  auto delta = std::get<link::Delta>(round(link::Delta{3, 10, {wanted}, {TaskId("x")}}));
  EXPECT_EQ(delta.forget, std::vector{TaskId("x")});
  auto welcome = std::get<link::Welcome>(round(link::Welcome{4, 5, "c", "s", AgentId("a"), Millis(100)}));
  EXPECT_EQ(welcome.heartbeat, Millis(100));
  EXPECT_EQ(std::get<link::Ack>(round(link::Ack{1, TaskId("t"), "u"})).uuid, "u");
  EXPECT_EQ(std::get<link::Heartbeat>(round(link::Heartbeat{1, 2, 3})).commit, 3u);
  link::Secret secret{2, "/a/b", {7, std::string("\0\xff\n", 3)}};
  EXPECT_EQ(std::get<link::Secret>(round(secret)).value, secret.value);
  EXPECT_EQ(std::get<link::Secret>(round(secret)).name, "/a/b");
}

TEST(Link, RegistrationAndReportSurviveTheirJson) {
  link::Registration r;
  r.info.hostname = "node1";
  r.info.ip = "10.0.0.1";
  r.info.total = {2000, 1000, 5, 0};
  r.info.ports = PortSet({{31000, 32000}});
  r.info.attributes = {{"rack", "a"}};
  r.info.docker = true;
  r.epoch_seen = 7;
  r.lives = 3;
  TaskStatus status;
  status.task = TaskId("t");
  status.uuid = "u";
  status.state = TaskState::failed;
  status.healthy = false;
  status.exit_code = 0;
  status.started_at = Wall(Millis(77));
  r.tasks.push_back({full_spec(), link::Goal::kill, std::nullopt, status});
  auto back = *link::decode_registration(link::encode(r));
  EXPECT_EQ(back.info, r.info);
  EXPECT_EQ(back.lives, 3u);
  EXPECT_EQ(back.tasks.at(0).status, status);
  EXPECT_EQ(back.tasks[0].spec, full_spec());
  auto report = *link::decode_report(link::encode(link::Report{AgentId("a"), "s", 1, 2, 3, {status}, {{TaskId("t"), "pulling"}}}));
  EXPECT_EQ(report.statuses.at(0), status);
  EXPECT_EQ(report.progress.at(0).text, "pulling");
}

TEST(Link, BadRecordsAreRefusedByName) {
  EXPECT_FALSE(link::decode_down("{}"));
  EXPECT_FALSE(link::decode_down("[]"));
  EXPECT_NE(link::decode_down(R"({"type":"snapshot","tasks":[{}]})").error().context.find("spec"), std::string::npos);
  EXPECT_NE(link::decode_registration(R"({"info":{}})").error().context.find("hostname"), std::string::npos);
  EXPECT_NE(link::decode_report("{}").error().context.find("subscription"), std::string::npos);
}

TEST(Catalog, EveryRecordSurvivesItsJson) {
  using namespace catalog;
  Endpoint e{.task = TaskId("t"), .app = AppId("/a"), .agent = AgentId("s1"), .app_version = "v", .host = "h", .ip = "1.2.3.4", .container_ip = "172.17.0.2",
             .ports = full_spec().ports, .state = TaskState::running, .healthy = true, .ready = false, .draining = true, .weight = 3, .started = Wall(Millis(9))};
  Service s{AppId("/a"), {{10000, 80, Protocol::tcp, "http", {}}}, {{"l", "v"}}, {{"E", "1"}}, full_spec().health_checks, 3, "v"};
  Snapshot snapshot{{2, 5}, {}, {AgentId("s1")}};
  snapshot.content.endpoints.emplace(e.task, e);
  snapshot.content.services.emplace(s.app, s);
  snapshot.content.rules.emplace(AppId("/a"), Rule{AppId("/a"), "path_beg -i /a"});
  snapshot.content.nodes.emplace(AgentId("s1"), Node{AgentId("s1"), "h", "1.2.3.4", 5051, false});
  snapshot.content.masters = {{"m", "1.1.1.1", 5050, true}};
  snapshot.content.balancers.emplace(BalancerId("b"), Balancer{BalancerId("b"), "m", "1.1.1.1"});
  auto back = std::get<Snapshot>(*decode_record(encode(Record(snapshot))));
  EXPECT_EQ(back.content, snapshot.content);
  EXPECT_EQ(back.complete, snapshot.complete);
  Delta d;
  d.at = {2, 6};
  d.endpoints = {e};
  d.endpoints_gone = {TaskId("u")};
  d.masters = std::vector<Master>{};
  auto delta = std::get<Delta>(*decode_record(encode(Record(d))));
  EXPECT_EQ(delta.endpoints, d.endpoints);
  EXPECT_TRUE(delta.masters);
  auto c = *decode_confirmation(encode(Confirmation{{BalancerId("b"), "m", "i"}, {2, 6}, {{TaskId("t"), 4}}}));
  EXPECT_EQ(c.open.at(TaskId("t")), 4u);
  EXPECT_FALSE(decode_confirmation("{}"));
  EXPECT_FALSE(decode_record(R"({"type":"x"})"));
}

}  // namespace
}  // namespace croft
