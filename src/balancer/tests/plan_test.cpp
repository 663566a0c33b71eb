#include <gtest/gtest.h>

#include "balancer/tests/builders.hpp"

namespace croft::balancer {
namespace {

const Backend& only_backend(const Plan& p) {
  EXPECT_EQ(p.backends.size(), 1u);
  return p.backends.begin()->second;
}
std::size_t used(const Backend& b) {
  return static_cast<std::size_t>(std::count_if(b.slots.begin(), b.slots.end(), [](const Slot& s) { return s.state != Slot::State::free; }));
}

TEST(Plan, AnAppHasABackEndForEachTcpPort) {
  auto s = service("/a/b");
  s.ports.resize(3);
  s.ports[2].protocol = Protocol::udp;
  ContentOf c;
  auto plan = make_plan(c.with(s), {}, {});
  EXPECT_TRUE(plan.backends.contains("a_b_0"));
  EXPECT_TRUE(plan.backends.contains("a_b_1"));
  EXPECT_EQ(plan.backends.size(), 2u);
}

TEST(Plan, DifferentIdsHaveDifferentNames) {
  std::set<std::string> names;
  for (auto id : {"/a/b", "/a-b", "/a.b", "/a_b", "/a:b", "/A/b", "/a/b/0"}) names.insert(backend_name(AppId(id), 0));
  EXPECT_EQ(names.size(), 7u);
  EXPECT_NE(backend_name(AppId("/a"), 1), backend_name(AppId("/a/1"), 0));
}

TEST(Plan, AHealthyInstanceServesAndOthersWait) {
  auto c = web(0);
  auto state_of = [&](auto change) {
    auto e = endpoint("t", "/web");
    change(e);
    c.endpoints.clear();
    auto plan = make_plan(c.with(e), {}, {});
    return only_backend(plan).slots[0].state;
  };
  EXPECT_EQ(state_of([](auto& e) { e.healthy = true; }), Slot::State::ready);
  EXPECT_EQ(state_of([](auto&) {}), Slot::State::maint) << "no verdict yet";
  EXPECT_EQ(state_of([](auto& e) { e.healthy = true, e.ready = false; }), Slot::State::maint);
  EXPECT_EQ(state_of([](auto& e) { e.healthy = true, e.draining = true; }), Slot::State::drain);
  EXPECT_EQ(state_of([](auto& e) { e.state = TaskState::starting; }), Slot::State::free);
  EXPECT_EQ(state_of([](auto& e) { e.ports[0].host_port = 0; }), Slot::State::free) << "nowhere to send a request";
}

TEST(Plan, WhenEverybodyFailsHisCheckThoseThatRunAreAskedAllTheSame) {
  using enum Slot::State;
  auto c = web(3);
  auto states = [&](auto change) {
    auto now = c;
    change(now.endpoints);
    std::vector<Slot::State> out;
    auto plan = make_plan(now, make_plan(c, {}, {}), {});
    for (const auto& s : only_backend(plan).slots)
      if (out.size() < 3) out.push_back(s.state);
    return out;
  };
  const TaskId a("web.0"), b("web.1"), d("web.2");
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = false; }), (std::vector{maint, ready, ready})) << "one is routed around";
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = e[b].healthy = false; }), (std::vector{maint, maint, ready})) << "so are all but one";
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = e[b].healthy = e[d].healthy = false; }), (std::vector{ready, ready, ready}));
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = e[b].healthy = false, e[d].healthy = std::nullopt; }), (std::vector{ready, ready, maint})) << "one that never served is none";
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = e[b].healthy = false, e[d].ready = false; }), (std::vector{ready, ready, maint}));
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = e[b].healthy = false, e[d].draining = true; }), (std::vector{ready, ready, drain})) << "nor one that goes";
  EXPECT_EQ(states([&](auto& e) { e[a].healthy = e[b].healthy = false, e[d].state = TaskState::failed; }), (std::vector{ready, ready, free})) << "nor one that ended";
}

TEST(Plan, AContainerWithoutHostPortIsReachedByItsOwnAddress) {
  auto e = endpoint("t", "/web", 0);
  e.container_ip = "172.18.0.5";
  e.ports[0].container_port = 8080;
  e.healthy = true;
  auto c = web(0);
  auto plan = make_plan(c.with(e), {}, {});
  EXPECT_EQ(only_backend(plan).slots[0].ip, "172.18.0.5");
  EXPECT_EQ(only_backend(plan).slots[0].port, 8080);
}

TEST(Plan, InstancesKeepTheirPlaces) {
  auto c = web(3);
  auto before = make_plan(c, {}, {});
  auto e = endpoint("web.00", "/web", 32000);  // sorts before the others
  e.healthy = true;
  c.without("web.1").with(e);
  auto after = make_plan(c, before, {});
  const auto &was = only_backend(before).slots, &is = only_backend(after).slots;
  EXPECT_EQ(is[0], was[0]);
  EXPECT_EQ(is[2], was[2]);
  EXPECT_EQ(is[1].task, TaskId("web.00"));
}

TEST(Plan, PlacesOfAnUnknownTaskAreKnownByAddress) {
  auto c = web(2);
  Plan seen;
  auto& b = seen.backends["web_0"];
  b.slots.resize(16);
  b.slots[5] = {{}, "10.0.0.1", 31001, Slot::State::ready};
  b.slots[6] = {{}, "10.0.0.9", 31009, Slot::State::ready};
  auto slots = only_backend(make_plan(c, seen, {})).slots;
  EXPECT_EQ(slots[5].task, TaskId("web.1"));
  EXPECT_EQ(slots[6].state, Slot::State::free) << "nobody's";
  EXPECT_EQ(slots[0].task, TaskId("web.0"));
}

TEST(Plan, PlacesAreSixteenOrTwiceTheInstancesAndGrowWhenFull) {
  auto c = web(1);
  EXPECT_EQ(only_backend(make_plan(c, {}, {})).slots.size(), 16u);
  c.services[AppId("/web")].instances = 20;
  EXPECT_EQ(only_backend(make_plan(c, {}, {})).slots.size(), 40u);
  auto full = make_plan(web(16), {}, {});
  auto more = web(17);
  auto grown = make_plan(more, full, {});
  EXPECT_EQ(only_backend(grown).slots.size(), 32u);
  EXPECT_EQ(used(only_backend(grown)), 17u);
  EXPECT_EQ(only_backend(make_plan(web(1), grown, {})).slots.size(), 32u) << "shrinking would need a reload for nothing";
}

TEST(Plan, AThousandInstancesStandInAThousandPlaces) {
  auto c = web(1000);
  c.services[AppId("/web")].instances = 1000;
  auto plan = make_plan(c, {}, {});
  EXPECT_EQ(used(only_backend(plan)), 1000u);
  std::set<TaskId> tasks;
  for (const auto& s : only_backend(plan).slots) tasks.insert(s.task);
  EXPECT_EQ(tasks.size(), 1001u) << "and the free ones have none";
}

TEST(Plan, APortIsTcpUnlessSomethingSaysHttp) {
  auto http = [](auto change) {
    ContentOf c;
    auto s = service("/x");
    change(s, c);
    return only_backend(make_plan(c.with(s), {}, {})).http;
  };
  EXPECT_FALSE(http([](auto&, auto&) {}));
  EXPECT_TRUE(http([](auto& s, auto&) { s.health_checks = {http_check()}; }));
  EXPECT_FALSE(http([](auto& s, auto&) { s.health_checks = {http_check("/", CheckKind::tcp)}; }));
  EXPECT_FALSE(http([](auto& s, auto&) { s.health_checks = {http_check()}, s.health_checks[0].port_index = 1; }));
  EXPECT_TRUE(http([](auto& s, auto&) { s.ports[0].name = "http-api"; }));
  EXPECT_TRUE(http([](auto&, auto& c) { c.rule("/x", "path /"); }));
  EXPECT_TRUE(http([](auto& s, auto&) { s.labels["HAPROXY_0_VHOST"] = "x.y"; }));
  EXPECT_TRUE(http([](auto& s, auto&) { s.labels["HAPROXY_0_MODE"] = "http"; }));
  EXPECT_FALSE(http([](auto& s, auto&) { s.health_checks = {http_check()}, s.labels["HAPROXY_0_MODE"] = "tcp"; }));
}

TEST(Plan, TheFirstAppKeepsAServicePortThatTwoWant) {
  ContentOf c;
  auto plan = make_plan(c.with(service("/b", 10000)).with(service("/a", 10000)), {}, {});
  EXPECT_EQ(plan.backends.at("a_0").service_port, 10000);
  EXPECT_EQ(plan.backends.at("b_0").service_port, 0);
  ASSERT_EQ(plan.left_out.size(), 1u);
  EXPECT_EQ(plan.left_out[0], "app=/b service port 10000 is already that of /a; it gets no front end");
}

TEST(Plan, APortThatTasksHoldOnThisHostIsNotBound) {
  ContentOf c;
  auto s = service("/fixed", 8080);
  s.ports[0].host_port = 8080;
  c.with(s);
  EXPECT_TRUE(service_ports(make_plan(c, {}, {})).empty()) << "else the task could never start";
  c.nodes[AgentId("a")] = {AgentId("a"), "n1", "10.0.0.1", 5051, true};
  Banned elsewhere;
  elsewhere.own_ip = "10.0.0.99";
  EXPECT_EQ(service_ports(make_plan(c, {}, elsewhere)), std::set<std::uint16_t>{8080});
  elsewhere.own_ip = "10.0.0.1";
  EXPECT_TRUE(service_ports(make_plan(c, {}, elsewhere)).empty());
}

TEST(Plan, ARuleWaitsForItsApp) {
  ContentOf c;
  c.rule("/later", "path_beg /later");
  EXPECT_TRUE(make_plan(c, {}, {}).rules.empty());
  EXPECT_TRUE(make_plan(c.with(service("/later")), {}, {}).rules.contains(AppId("/later")));
}

TEST(Plan, ARuleIsLeftOutWhereItCannotStandAndSaysWhy) {
  auto c = web();
  Banned banned;
  banned.rules[AppId("/web")] = "path_beg -i /web";
  EXPECT_TRUE(make_plan(c, {}, banned).rules.empty());
  banned.rules[AppId("/web")] = "another text";
  EXPECT_FALSE(make_plan(c, {}, banned).rules.empty()) << "a changed rule is tried again";
  c.services[AppId("/web")].labels["HAPROXY_0_MODE"] = "tcp";
  auto plan = make_plan(c, {}, {});
  EXPECT_TRUE(plan.rules.empty());
  EXPECT_EQ(plan.left_out.size(), 1u);
  c = web();
  c.rule("/web", "path /a\n    bind *:9999");
  EXPECT_TRUE(make_plan(c, {}, {}).rules.empty()) << "no second line gets into the configuration";
}

}  // namespace
}  // namespace croft::balancer
