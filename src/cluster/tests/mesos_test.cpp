// What Mesos's clients read, and what they trip over.
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "base/json.hpp"
#include "base/text.hpp"
#include "cluster/mesos_api.hpp"
#include "cluster/mesos_json.hpp"
#include "cluster/tests/builders.hpp"

namespace croft::cluster {
namespace {

namespace asio = boost::asio;

std::shared_ptr<const Task> task(std::string id, TaskState state, int started = 1000, int at = 2000) {
  auto t = std::make_shared<Task>();
  t->spec.id = TaskId(id);
  t->spec.app = AppId("/a/b");
  t->spec.name = "b.a";
  t->spec.resources = res(0.1, 32);
  t->spec.labels = {{"k", "v"}};
  PortSpec p;
  p.host_port = 31004;
  p.name = "http";
  t->spec.ports = {p};
  t->agent = AgentId("c-3-S0");
  t->staged_at = at_ms(started - 500).wall;
  t->status = status(id, state, "u", at);
  if (state != TaskState::staging) t->status.started_at = at_ms(started).wall;
  return t;
}

std::shared_ptr<FarmView> view() {
  auto v = std::make_shared<FarmView>();
  v->cluster_id = "c";
  v->hostname = "m1";
  v->ip = "10.0.0.100";
  v->leader = "m1:8080";
  v->version = "0.9";
  v->started = at_ms(-60'000).wall, v->elected = at_ms(-50'000).wall, v->made = at_ms(0).wall;
  auto a = std::make_shared<Agent>();
  a->id = AgentId("c-3-S0");
  a->info = info("n1");
  a->info.attributes = {{"rack", "r1"}};
  a->used = res(0.1, 32);
  a->free_ports = *PortSet::parse("31000-31003,31005-31009");
  a->connected = true;
  a->tasks = 1;
  v->agents = {a};
  v->tasks.set(TaskId("t1"), task("t1", TaskState::running));
  return v;
}

json::value parsed(const std::string& text) {
  auto v = json::parse(text);
  EXPECT_TRUE(v) << text;
  return v ? *v : json::value{};
}

net::Response get(const std::shared_ptr<const FarmView>& v, std::string target, MesosOptions options = {}, std::string method = "GET") {
  net::Router router;
  add_mesos_routes(router, [v] { return v; }, std::move(options));
  net::Request r;
  r.method = std::move(method);
  r.target = target;
  auto at = target.find('?');
  r.path = target.substr(0, at);
  if (at != std::string::npos) r.query = net::Query(target.substr(at + 1));
  net::Response out;
  asio::io_context io;
  auto job = router.handle(std::move(r));
  asio::co_spawn(io, std::move(job), [&](std::exception_ptr e, net::Response got) {
    if (e) std::rethrow_exception(e);
    out = std::move(got);
  });
  io.run();
  return out;
}

TEST(MesosState, LeaderAndPidsCarryAddressesNotNames) {
  auto s = parsed(mesos::state(*view(), 5050));
  EXPECT_EQ(json::text(s, "leader"), "master@10.0.0.100:5050");
  EXPECT_EQ(json::text(s, "pid"), "master@10.0.0.100:5050");
  EXPECT_EQ(s.at("slaves").at(0).at("pid").as_string(), "slave(1)@10.0.0.1:5051");
  EXPECT_EQ(s.at("frameworks").at(0).at("pid").as_string(), "scheduler-c@10.0.0.100:8080") << "Mesos-DNS refuses the whole document when this is empty";
}

TEST(MesosState, HasEveryListThatClientsWalk) {
  auto s = parsed(mesos::state(*view(), 5050));
  for (auto key : {"slaves", "recovered_slaves", "frameworks", "completed_frameworks", "orphan_tasks", "unregistered_frameworks", "capabilities"}) EXPECT_TRUE(s.at(key).is_array()) << key;
  for (auto key : {"tasks", "unreachable_tasks", "completed_tasks", "offers", "executors", "capabilities"}) EXPECT_TRUE(s.at("frameworks").at(0).at(key).is_array()) << key;
  EXPECT_EQ(s.at("frameworks").at(0).at("name").as_string(), "marathon");
  EXPECT_EQ(s.at("activated_slaves").as_int64(), 1);
}

TEST(MesosState, PortsAreAStringWithBrackets) {
  auto s = parsed(mesos::state(*view(), 5050));
  EXPECT_EQ(s.at("frameworks").at(0).at("tasks").at(0).at("resources").at("ports").as_string(), "[31004-31004]");
  EXPECT_EQ(s.at("slaves").at(0).at("resources").at("ports").as_string(), "[31000-31009]");
  EXPECT_EQ(s.at("slaves").at(0).at("used_resources").at("ports").as_string(), "[31004-31004]");
  EXPECT_EQ(s.at("slaves").at(0).at("offered_resources").as_object().count("ports"), 0u) << "only where there are some";
}

TEST(MesosState, ARunningTaskHasAnAddressInItsStatus) {
  auto v = view();
  auto address = [&] {
    auto s = parsed(mesos::state(*v, 5050));
    return std::string(s.at("frameworks").at(0).at("tasks").at(0).at("statuses").at(0).at("container_status").at("network_infos").at(0).at("ip_addresses").at(0).at("ip_address").as_string());
  };
  EXPECT_EQ(address(), "10.0.0.1") << "its agent's, when it has none of its own";
  auto own = std::make_shared<Task>(**v->tasks.find(TaskId("t1")));
  own->status.container_ip = "172.18.0.5";
  own->spec.docker = DockerSpec{};
  v->tasks.set(TaskId("t1"), own);
  EXPECT_EQ(address(), "172.18.0.5");
}

TEST(MesosState, ShowsOfAnEndedTaskNothingThatIsNotKept) {
  auto v = view();
  Task whole = *task("t0", TaskState::failed, 1000, 3000);
  auto& s = whole.spec;
  s.cmd = "exec server";
  s.user = "nobody";
  s.role = "web";
  s.app_version = "2015-01-01T00:00:00.000Z";
  s.env = {{"HOST", "n1"}, {"PASSWORD", std::string(50'000, 'x')}};
  s.ports[0].service_port = 10'000;
  s.ports[0].labels = {{"VIP_0", "/a:80"}};
  s.docker = DockerSpec{.image = "fibonacci:1", .network_name = {}, .parameters = {{"hostname", "h"}}};
  s.fetch = {{"http://h/f.tgz", ""}};
  s.volumes = {{"/in", "/out"}};
  s.health_checks = {HealthCheck{}};
  whole.status.container_ip = "172.18.0.5";
  auto kept = as_remembered(whole);
  EXPECT_EQ(kept.spec.env, (Labels{{"HOST", "n1"}})) << "whoever tells of its end says where it ran";
  EXPECT_FALSE(kept.spec.cmd);
  EXPECT_TRUE(kept.spec.fetch.empty() && kept.spec.volumes.empty() && kept.spec.health_checks.empty() && kept.spec.docker->parameters.empty());
  v->ended = {std::make_shared<const Task>(whole)};
  auto before = mesos::state(*v, 5050), query = mesos::tasks(*v, {});
  v->ended = {std::make_shared<const Task>(kept)};
  EXPECT_EQ(mesos::state(*v, 5050), before);
  EXPECT_EQ(mesos::tasks(*v, {}), query);
}

TEST(MesosState, OfManyTasksInPiecesIsTheSame) {
  auto v = view();
  for (int i = 0; i < 3000; ++i) {
    auto id = fmt::format("many{:04}", i);
    v->tasks.set(TaskId(id), task(id, i % 7 == 0 ? TaskState::unreachable : i % 11 == 0 ? TaskState::failed : TaskState::running, 1000, 2000));
  }
  v->ended = {task("t0", TaskState::failed, 1000, 3000)};
  mesos::StatePieces pieces(v, 5050);
  std::string whole, piece;
  std::size_t count = 0;
  for (; pieces.next(piece); ++count) {
    EXPECT_LT(piece.size(), 80'000u);
    whole += piece;
  }
  EXPECT_GT(count, 10u);
  EXPECT_EQ(whole, mesos::state(*v, 5050));
  EXPECT_EQ(parsed(whole).at("frameworks").at(0).at("unreachable_tasks").as_array().size(), 429u);
}

TEST(MesosFace, OfManyTasksStateIsAStreamUnlessAFunctionIsToBeCalledWithIt) {
  auto v = view();
  for (int i = 0; i < 2000; ++i) v->tasks.set(TaskId(fmt::format("many{:04}", i)), task(fmt::format("many{:04}", i), TaskState::running));
  auto whole = mesos::state(*v, 5050);
  auto streamed = get(v, "/state");
  EXPECT_TRUE(streamed.stream && streamed.body.empty());
  EXPECT_EQ(get(v, "/state?jsonp=f").body, "f(" + whole + ")");
  EXPECT_FALSE(get(view(), "/state").stream) << "few tasks are one answer, with its length and packed where the client can unpack it";
  EXPECT_EQ(get(v, "/slaves").body, mesos::slaves(*v, std::nullopt));
}

TEST(MesosState, ATaskHasOneStatusForEachState) {
  auto v = view();
  v->ended = {task("t0", TaskState::failed, 1000, 3000)};
  auto s = parsed(mesos::state(*v, 5050));
  const auto& failed = s.at("frameworks").at(0).at("completed_tasks").at(0).at("statuses").as_array();
  ASSERT_EQ(failed.size(), 2u);
  EXPECT_EQ(failed[0].at("state").as_string(), "TASK_RUNNING");
  EXPECT_EQ(failed[1].at("state").as_string(), "TASK_FAILED");
  EXPECT_LT(failed[0].at("timestamp").to_number<double>(), failed[1].at("timestamp").to_number<double>());
  v->tasks.set(TaskId("t1"), task("t1", TaskState::staging));
  EXPECT_TRUE(parsed(mesos::state(*v, 5050)).at("frameworks").at(0).at("tasks").at(0).at("statuses").as_array().empty());
}

TEST(MesosState, HealthIsAbsentUntilThereIsAVerdict) {
  auto v = view();
  auto status_of = [&] { return parsed(mesos::state(*v, 5050)).at("frameworks").at(0).at("tasks").at(0).at("statuses").at(0).as_object(); };
  EXPECT_EQ(status_of().count("healthy"), 0u);
  auto sick = std::make_shared<Task>(**v->tasks.find(TaskId("t1")));
  sick->status.healthy = false;
  v->tasks.set(TaskId("t1"), sick);
  EXPECT_FALSE(status_of().at("healthy").as_bool());
}

TEST(MesosState, DiscoveryIsNestedAsMesosNestsIt) {
  auto s = parsed(mesos::state(*view(), 5050));
  const auto& port = s.at("frameworks").at(0).at("tasks").at(0).at("discovery").at("ports").at("ports").at(0);
  EXPECT_EQ(port.at("number").as_int64(), 31004);
  EXPECT_EQ(port.at("name").as_string(), "http");
  EXPECT_EQ(port.at("protocol").as_string(), "tcp");
}

TEST(MesosState, WhatIsUnreachableIsCountedApart) {
  auto v = view();
  auto away = std::make_shared<Agent>(*v->agents[0]);
  away->id = AgentId("c-3-S1");
  away->reachable = away->connected = false;
  v->agents.push_back(away);
  v->tasks.set(TaskId("t2"), task("t2", TaskState::unreachable));
  auto s = parsed(mesos::state(*v, 5050));
  EXPECT_EQ(s.at("slaves").as_array().size(), 1u);
  EXPECT_EQ(s.at("unreachable_slaves").as_int64(), 1);
  EXPECT_EQ(s.at("frameworks").at(0).at("tasks").as_array().size(), 1u);
  EXPECT_EQ(s.at("frameworks").at(0).at("unreachable_tasks").at(0).at("id").as_string(), "t2");
}

TEST(MesosState, TextFromStrangersStaysText) {
  auto v = view();
  auto odd = std::make_shared<Task>(**v->tasks.find(TaskId("t1")));
  odd->spec.labels = {{"quote\"", "\n\xff\x01</script>"}};
  v->tasks.set(TaskId("t1"), odd);
  EXPECT_TRUE(json::parse(mesos::state(*v, 5050)));
}

TEST(MesosTasks, AreCutByLimitAndOffsetInTheOrderAskedFor) {
  auto v = view();
  v->tasks.clear();
  for (int i = 0; i < 10; ++i) v->tasks.set(TaskId(fmt::format("t{}", i)), task(fmt::format("t{}", i), TaskState::running, 1000 + i));
  v->ended = {task("old", TaskState::finished, 10)};
  auto ids = [&](mesos::TaskQuery q) {
    std::vector<std::string> out;
    auto list = parsed(mesos::tasks(*v, q));
    for (const auto& t : list.at("tasks").as_array()) out.emplace_back(t.at("id").as_string());
    return out;
  };
  using Ids = std::vector<std::string>;
  EXPECT_EQ(ids({.limit = 2, .offset = 0, .ascending = true, .framework = {}, .task = {}}), (Ids{"old", "t0"}));
  EXPECT_EQ(ids({.limit = 2, .offset = 0, .ascending = false, .framework = {}, .task = {}}), (Ids{"t9", "t8"}));
  EXPECT_EQ(ids({.limit = 3, .offset = 9, .ascending = true, .framework = {}, .task = {}}), (Ids{"t8", "t9"}));
  EXPECT_TRUE(ids({.limit = 3, .offset = 99, .ascending = true, .framework = {}, .task = {}}).empty());
  EXPECT_TRUE(ids({.limit = 0, .offset = 0, .ascending = true, .framework = {}, .task = {}}).empty());
  EXPECT_EQ(ids({.limit = 9, .offset = 0, .ascending = true, .framework = {}, .task = "t4"}), (Ids{"t4"}));
  EXPECT_TRUE(ids({.limit = 9, .offset = 0, .ascending = true, .framework = "another", .task = {}}).empty());
}

TEST(MesosMetrics, AreFlatNumbersUnderTheNamesThatCollectorsKnow) {
  auto v = view();
  v->ended_by_state[static_cast<std::size_t>(TaskState::failed)] = 7;
  auto m = parsed(mesos::metrics(*v)).as_object();
  for (const auto& e : m) EXPECT_TRUE(e.value().is_number()) << e.key();
  EXPECT_EQ(m.at("master/elected").to_number<double>(), 1.0);
  EXPECT_EQ(m.at("master/slaves_active").as_int64(), 1);
  EXPECT_EQ(m.at("master/tasks_running").as_int64(), 1);
  EXPECT_EQ(m.at("master/tasks_failed").as_int64(), 7);
  EXPECT_EQ(m.at("master/cpus_total").to_number<double>(), 4.0);
  EXPECT_EQ(m.at("master/cpus_percent").to_number<double>(), 0.025);
  EXPECT_EQ(m.at("master/uptime_secs").to_number<double>(), 60.0);
  for (auto name : {"master/tasks_gone_by_operator", "master/tasks_staging", "master/tasks_lost", "master/mem_used", "master/disk_percent", "master/frameworks_active", "system/load_1min", "system/mem_free_bytes"})
    EXPECT_TRUE(m.contains(name)) << name;
}

TEST(MesosSummary, CountsTasksOfAgentsAndOfTheFramework) {
  auto v = view();
  v->ended = {task("t0", TaskState::finished)};
  auto s = parsed(mesos::state_summary(*v));
  EXPECT_EQ(s.at("slaves").at(0).at("TASK_RUNNING").as_int64(), 1);
  EXPECT_EQ(s.at("slaves").at(0).at("framework_ids").at(0).as_string(), "c-0000");
  EXPECT_EQ(s.at("frameworks").at(0).at("TASK_FINISHED").as_int64(), 1);
  EXPECT_EQ(s.at("frameworks").at(0).at("slave_ids").at(0).as_string(), "c-3-S0");
  EXPECT_EQ(s.at("frameworks").at(0).as_object().count("tasks"), 0u) << "it is to stay small";
}

TEST(MesosSlaves, OneAgentIsAskedForByItsId) {
  auto all = parsed(std::string(get(view(), "/slaves").body)), one = parsed(get(view(), "/slaves?slave_id=c-3-S0").body), none = parsed(get(view(), "/slaves?slave_id=x").body);
  EXPECT_EQ(all.at("slaves").as_array().size(), 1u);
  EXPECT_EQ(one.at("slaves").at(0).at("used_resources_full").at(0).at("scalar").at("value").to_number<double>(), 0.1);
  EXPECT_TRUE(none.at("slaves").as_array().empty());
}

TEST(MesosRoutes, EverySpellingIsAnswered) {
  for (auto name : {"state", "slaves", "tasks", "frameworks", "roles", "state-summary", "metrics/snapshot", "version", "flags", "system/stats"})
    for (auto target : {fmt::format("/{}", name), fmt::format("/master/{}", name), fmt::format("/{}.json", name), fmt::format("/master/{}.json", name)}) {
      auto r = get(view(), target);
      EXPECT_EQ(r.status, 200) << target;
      EXPECT_EQ(r.headers.get("Content-Type"), "application/json") << target;
      EXPECT_TRUE(json::parse(r.body)) << target;
    }
  EXPECT_EQ(get(view(), "/health").status, 200);
  EXPECT_EQ(get(view(), "/master/health").body, "");
  EXPECT_EQ(get(view(), "/state", {}, "POST").status, 405);
  EXPECT_EQ(get(view(), "/master/nothing").status, 404);
}

TEST(MesosRoutes, LimitsThatAreNoNumbersCountAsNotGiven) {
  for (auto q : {"limit=x", "limit=-1", "offset=1e3", "limit=&offset="}) EXPECT_EQ(parsed(get(view(), fmt::format("/tasks?{}", q)).body).at("tasks").as_array().size(), 1u) << q;
}

TEST(MesosRoutes, JsonpWrapsWithoutASemicolonAndOnlyPlainNames) {
  auto r = get(view(), "/version?jsonp=jQuery_1.cb");
  EXPECT_TRUE(r.body.starts_with("jQuery_1.cb({") && r.body.ends_with("})")) << r.body;
  EXPECT_EQ(r.headers.get("Content-Type"), "text/javascript");
  EXPECT_EQ(get(view(), "/version?jsonp=alert(1)//").status, 400);
  EXPECT_EQ(get(view(), "/version?jsonp=").status, 400);
}

TEST(MesosRoutes, RedirectLeadsToTheLeadersAddressWithoutAPath) {
  auto r = get(view(), "/master/redirect");
  EXPECT_EQ(r.status, 307);
  EXPECT_EQ(r.headers.get("Location"), "//10.0.0.100:5050");
  EXPECT_EQ(get(view(), "/redirect/more").status, 404);
}

TEST(MesosRoutes, BeforeThereIsALeaderOnlyWhatAnyMasterKnowsIsAnswered) {
  auto v = std::make_shared<FarmView>();
  for (auto path : {"/state", "/slaves", "/tasks", "/redirect"}) EXPECT_EQ(get(v, path).status, 503) << path;
  EXPECT_EQ(get(v, "/redirect").body, "No leader elected\n");
  EXPECT_EQ(get(v, "/health").status, 200);
  EXPECT_EQ(parsed(get(v, "/metrics/snapshot").body).at("master/elected").to_number<double>(), 0.0);
}

TEST(MesosRoutes, AnotherMasterSendsReadersToTheLeader) {
  MesosOptions o;
  o.elsewhere = [] { return std::optional<std::string>("10.0.0.101:5050"); };
  auto r = get(view(), "/master/tasks?limit=5", o);
  EXPECT_EQ(r.status, 307);
  EXPECT_EQ(r.headers.get("Location"), "//10.0.0.101:5050/master/tasks?limit=5");
  EXPECT_EQ(get(view(), "/redirect", o).headers.get("Location"), "//10.0.0.101:5050");
  EXPECT_EQ(get(view(), "/version", o).status, 200);
}

}  // namespace
}  // namespace croft::cluster
