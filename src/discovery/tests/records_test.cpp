#include <gtest/gtest.h>

#include <random>

#include "builders.hpp"
#include "discovery/names.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {
namespace {

using Lines = std::vector<std::string>;

TEST(Names, LabelsAreMadeAsMesosDnsMakesThem) {
  EXPECT_EQ(label_of("4abc123"), "4abc123");
  EXPECT_EQ(label_of("a.c.d_de."), "a-c-d-de");
  EXPECT_EQ(label_of("fd%gsf---gs7-f$gs--d7fddg-123"), "fdgsf---gs7-fgs--d7fddg-123");
  EXPECT_EQ(label_of("chronos with a space AND MIXED CASE-2.0.1"), "chronoswithaspaceandmixedcase-2-0-1");
  EXPECT_EQ(label_of("hello" + std::string(58, '-') + "f"), "hellof");
  EXPECT_EQ(label_of("My_App.With$Odd Chars-"), "my-app-withoddchars");
  EXPECT_EQ(label_of("caf\xc3\xa9"), "caf");
  EXPECT_EQ(label_of(""), "");
  EXPECT_EQ(label_of("--."), "");
  EXPECT_EQ(label_of(std::string(100, 'x')).size(), 63u);
}

TEST(Names, HashesAreMesosDnsHashes) {
  EXPECT_EQ(hash_of("test"), "iffe9");
  EXPECT_EQ(hash_of("a_b_c.u1"), "zgtph");
  EXPECT_EQ(hash_of("plain.u1"), "ut79s");
  EXPECT_EQ(hash_of("disc.u1"), "yfi7z");
  EXPECT_EQ(hash_of("dock.u1"), "ww3d4");
  EXPECT_EQ(hash_of("v6.u1"), "mkom6");
}

TEST(Names, AnAgentsTailIsWhatStandsBehindTheLastDash) {
  EXPECT_EQ(tail_of(AgentId("20150812-S12")), "s12");
  EXPECT_EQ(tail_of(AgentId("b5e1-42")), "42");
  EXPECT_EQ(tail_of(AgentId("plain")), "plain");
}

TEST(Names, LongNamesStayLabels) {
  std::string longest(63, 'a');
  EXPECT_EQ(instance_label(longest, "yfi7z", "s12").size(), 63u);
  EXPECT_EQ(instance_label(std::string(52, 'a') + "-bcdefghijk", "yfi7z", "s12"), std::string(52, 'a') + "-yfi7z-s12");  // no dash doubled at the cut
  EXPECT_EQ(service_label(longest).size(), 63u);
  EXPECT_EQ(service_label("web"), "_web");
}

TEST(Wire, NamesGoThereAndBack) {
  EXPECT_EQ(*to_wire("Web.Mesos."), std::string("\3web\5mesos\0", 11));
  EXPECT_EQ(from_wire(*to_wire("web.mesos")), "web.mesos");
  EXPECT_EQ(*to_wire(""), std::string(1, '\0'));
  EXPECT_EQ(from_wire(std::string_view("\3a.\1\0", 5)), "a\\.\\001");
  EXPECT_FALSE(to_wire("a..b"));
  EXPECT_FALSE(to_wire(".a"));
  EXPECT_FALSE(to_wire("a.."));
  EXPECT_FALSE(to_wire(std::string(64, 'a')));
  std::string deep;
  for (int i = 0; i < 128; ++i) deep += "a.";
  EXPECT_FALSE(to_wire(deep));
}

TEST(Records, AnInstanceOnTheHostsNetwork) {
  auto z = zone_of(content_of({endpoint("service_fibonacci.u1")}));
  auto canonical = "fibonacci-service-" + hash_of("service_fibonacci.u1") + "-s1";
  EXPECT_EQ(listed(*z, "fibonacci-service.marathon.mesos"), Lines{"A 192.168.99.21"});
  EXPECT_EQ(listed(*z, canonical + ".marathon.mesos"), Lines{"A 192.168.99.21"});
  EXPECT_EQ(listed(*z, "fibonacci-service.marathon.slave.mesos"), Lines{"A 192.168.99.21"});
  EXPECT_EQ(listed(*z, canonical + ".marathon.slave.mesos"), Lines{"A 192.168.99.21"});
  EXPECT_EQ(listed(*z, "_fibonacci-service._tcp.marathon.mesos"), Lines{"SRV " + canonical + ".marathon.mesos:31000"});
  EXPECT_EQ(listed(*z, "_fibonacci-service._udp.marathon.mesos"), Lines{});
  EXPECT_EQ(listed(*z, "_fibonacci-service._tcp.marathon.slave.mesos"), Lines{"SRV " + canonical + ".marathon.slave.mesos:31000"});
  EXPECT_EQ(listed(*z, "_fibonacci-service._udp.marathon.slave.mesos"), Lines{"SRV " + canonical + ".marathon.slave.mesos:31000"});
  EXPECT_EQ(listed(*z).size(), 7u);
}

/// The reference's worked example, as a task on a container network.
TEST(Records, AnInstanceWithAnAddressOfItsOwn) {
  auto e = endpoint("disc.u1", "/Web.Front_End", "20150812-S3");
  e.ip = "127.0.1.4";
  e.container_ip = "10.99.0.2";
  auto port = [](std::uint16_t n, std::string name, Protocol p) {
    PortSpec s;
    s.container_port = n, s.name = std::move(name), s.protocol = p;
    return s;
  };
  e.ports = {port(80, "http", Protocol::tcp), port(53, "", Protocol::udp), port(9000, "Adm_In", Protocol::both)};
  auto z = zone_of(content_of({e}));
  EXPECT_EQ(listed(*z), (Lines{
                            "_adm-in._web-front-end._tcp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:9000",
                            "_adm-in._web-front-end._udp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:9000",
                            "_http._web-front-end._tcp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:80",
                            "_web-front-end._tcp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:80",
                            "_web-front-end._tcp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:9000",
                            "_web-front-end._udp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:53",
                            "_web-front-end._udp.marathon.mesos SRV web-front-end-yfi7z-s3.marathon.mesos:9000",
                            "web-front-end-yfi7z-s3.marathon.mesos A 10.99.0.2",
                            "web-front-end-yfi7z-s3.marathon.slave.mesos A 127.0.1.4",
                            "web-front-end.marathon.mesos A 10.99.0.2",
                            "web-front-end.marathon.slave.mesos A 127.0.1.4",
                        }));
}

TEST(Records, ABridgedContainerIsReachedOnItsHost) {
  auto e = endpoint("t.u1");
  e.container_ip = "172.17.0.3";
  auto z = zone_of(content_of({e}));
  EXPECT_EQ(listed(*z, "fibonacci-service.marathon.mesos"), Lines{"A 192.168.99.21"});
  e.ports.clear();  // a worker without ports
  z = zone_of(content_of({e}));
  EXPECT_EQ(listed(*z, "fibonacci-service.marathon.mesos"), Lines{"A 192.168.99.21"});
}

TEST(Records, SixIsAnAddressToo) {
  auto e = endpoint("t.u1");
  e.ip = "fd01::2";
  auto z = zone_of(content_of({e}));
  EXPECT_EQ(listed(*z, "fibonacci-service.marathon.mesos"), Lines{"AAAA fd01::2"});
}

TEST(Records, WhatCannotBeANameOrAnAddressIsLeftOut) {
  auto nameless = endpoint("t.u1", "/___");
  auto homeless = endpoint("t.u2", "/b");
  homeless.ip = "node1.example.com";
  auto z = zone_of(content_of({nameless, homeless}));
  for (const auto& line : listed(*z)) EXPECT_NE(line.find(" SRV "), std::string::npos) << line;
  EXPECT_EQ(z->find("b.marathon.mesos"), nullptr);
}

TEST(Records, TheFarmsOwnNames) {
  catalog::Content c;
  catalog::Master m1{"m1", "192.168.99.11", 5050, false}, m2{"m2", "192.168.99.12", 5050, true}, again{"m2b", "192.168.99.11", 5051, false};
  c.masters = {m1, again, m2};
  auto node = [](std::string id, std::string ip, bool reachable) {
    catalog::Node n;
    n.id = AgentId(std::move(id)), n.ip = std::move(ip), n.reachable = reachable;
    return n;
  };
  for (auto n : {node("S1", "192.168.99.21", true), node("S2", "192.168.99.22", true), node("S3", "192.168.99.23", false)}) c.nodes[n.id] = n;
  c.balancers[BalancerId("b")] = {BalancerId("b"), "m1", "192.168.99.11"};
  ZoneOptions o;
  o.server_addresses = {"192.168.99.30"};
  auto z = zone_of(c, o);
  EXPECT_EQ(listed(*z), (Lines{
                            "_framework._tcp.marathon.mesos SRV marathon.mesos:8080",
                            "_leader._tcp.mesos SRV leader.mesos:5050",
                            "_leader._udp.mesos SRV leader.mesos:5050",
                            "_slave._tcp.mesos SRV slave.mesos:5051",
                            "balancer.mesos A 192.168.99.11",
                            "leader.mesos A 192.168.99.12",
                            "marathon.mesos A 192.168.99.12",
                            "master.mesos A 192.168.99.11",
                            "master.mesos A 192.168.99.12",
                            "master0.mesos A 192.168.99.11",
                            "master1.mesos A 192.168.99.12",
                            "ns1.mesos A 192.168.99.30",
                            "slave.mesos A 192.168.99.21",
                            "slave.mesos A 192.168.99.22",
                        }));
}

TEST(Records, AnotherDomain) {
  ZoneOptions o;
  o.domain = "Farm.Example.COM.";
  auto z = zone_of(content_of({endpoint("t.u1", "/a")}), o);
  EXPECT_EQ(z->domain, "farm.example.com");
  EXPECT_EQ(listed(*z, "a.marathon.farm.example.com"), Lines{"A 192.168.99.21"});
}

Lines ports_named(const catalog::Content& c) { return listed(*zone_of(c), "_a._tcp.marathon.mesos"); }

TEST(Choice, OnlyThoseThatServe) {
  auto good = endpoint("t.good", "/a", "S1", 1), sick = endpoint("t.sick", "/a", "S1", 2), unknown = endpoint("t.new", "/a", "S1", 3);
  auto leaving = endpoint("t.leaving", "/a", "S1", 4), unready = endpoint("t.unready", "/a", "S1", 5), starting = endpoint("t.starting", "/a", "S1", 6);
  sick.healthy = false;
  unknown.healthy.reset();
  leaving.draining = true;
  unready.ready = false;
  starting.state = TaskState::starting;
  auto all = content_of({good, sick, unknown, leaving, unready, starting});
  EXPECT_EQ(ports_named(all), Lines{"SRV a-" + hash_of("t.good") + "-s1.marathon.mesos:1"});
  // Without checks, no verdict is none to wait for.
  all.services[AppId("/a")].health_checks.clear();
  EXPECT_EQ(ports_named(all).size(), 2u);
}

TEST(Choice, WhileNoneServesThoseThatHaveNotFailed) {
  auto sick = endpoint("t.sick", "/a", "S1", 2), unknown = endpoint("t.new", "/a", "S1", 3), leaving = endpoint("t.leaving", "/a", "S1", 4);
  sick.healthy = false;
  unknown.healthy.reset();
  leaving.draining = true;
  EXPECT_EQ(ports_named(content_of({sick, unknown, leaving})), Lines{"SRV a-" + hash_of("t.new") + "-s1.marathon.mesos:3"});
  EXPECT_EQ(ports_named(content_of({sick, leaving})), Lines{"SRV a-" + hash_of("t.leaving") + "-s1.marathon.mesos:4"});
  EXPECT_EQ(ports_named(content_of({sick})), Lines{"SRV a-" + hash_of("t.sick") + "-s1.marathon.mesos:2"});
}

TEST(ZoneBuilder, KnowsNothingBeforeTheFirstContent) {
  ZoneBuilder b(ZoneOptions{});
  EXPECT_FALSE(b.zone()->loaded);
  EXPECT_TRUE(b.apply({}, everything()));  // an empty farm is knowledge
  EXPECT_TRUE(b.zone()->loaded);
}

TEST(ZoneBuilder, TheSerialCountsChanges) {
  ZoneOptions o;
  o.first_serial = 41;
  ZoneBuilder b(o);
  auto c = content_of({endpoint("t.u1", "/a")});
  b.apply(c, everything());
  EXPECT_EQ(b.zone()->serial, 42u);
  EXPECT_FALSE(b.apply(c, everything()));
  EXPECT_EQ(b.zone()->serial, 42u);
  catalog::Follower::Change change;
  change.apps = {AppId("/a")};
  EXPECT_FALSE(b.apply(c, change));
}

TEST(ZoneBuilder, AZoneOnceMadeStaysAsItIs) {
  ZoneBuilder b(ZoneOptions{});
  auto c = content_of({endpoint("t.u1", "/a")});
  b.apply(c, everything());
  auto old = b.zone();
  auto before = listed(*old);
  c.endpoints.clear();
  b.apply(c, everything());
  EXPECT_EQ(listed(*old), before);
  EXPECT_TRUE(listed(*b.zone()).empty());
}

TEST(ZoneBuilder, TheLongestNamesThereAre) {
  std::string domain;
  for (int i = 0; i < 2; ++i) domain += std::string(60, 'd') + ".";
  ZoneOptions o;
  o.domain = domain + "x";
  auto e = endpoint("t.u1", "/" + std::string(100, 'a'), "c-S1234567890");
  e.ports[0].name = std::string(80, 'p');
  e.ports[0].protocol = Protocol::both;
  ZoneBuilder b(o);
  b.apply(content_of({e}), everything());
  auto all = listed(*b.zone());
  EXPECT_GE(all.size(), 8u);  // names beyond 255 bytes are left out, the others are there
  b.apply({}, everything());
  EXPECT_TRUE(listed(*b.zone()).empty());
}

TEST(ZoneBuilder, TwoAppsMayMeetInOneName) {
  ZoneBuilder b(ZoneOptions{});
  auto c = content_of({endpoint("t.u1", "/x-y", "S1", 1), endpoint("t.u2", "/y/x", "S1", 2)});
  b.apply(c, everything());
  EXPECT_EQ(listed(*b.zone(), "_x-y._tcp.marathon.mesos").size(), 2u);
  EXPECT_EQ(listed(*b.zone(), "x-y.marathon.mesos"), Lines{"A 192.168.99.21"});  // both are on one host
  c.endpoints.erase(TaskId("t.u1"));
  catalog::Follower::Change gone;
  gone.apps = {AppId("/x-y")};
  gone.endpoints = {TaskId("t.u1")};
  EXPECT_TRUE(b.apply(c, gone));
  EXPECT_EQ(listed(*b.zone(), "x-y.marathon.mesos"), Lines{"A 192.168.99.21"});
}

/// Step by step or at once: the same zone, and the same as a follower makes it see.
TEST(ZoneBuilder, ManySmallChangesAreOneBigOne) {
  for (unsigned seed = 1; seed <= 4; ++seed) {
    std::mt19937 dice(seed);
    auto roll = [&](unsigned n) { return dice() % n; };
    catalog::Follower follower;
    catalog::Index at{1, 0};
    ASSERT_TRUE(follower.apply(catalog::Snapshot{at, {}, {}}));
    ZoneBuilder b(ZoneOptions{});
    b.apply(follower.content(), everything());
    for (int step = 0; step < 80; ++step) {
      catalog::Delta d;
      ++at.n;
      d.at = at;
      for (unsigned i = 0; i <= roll(3); ++i) {
        auto n = roll(8);
        auto app = "/g" + std::to_string(n % 2) + "/a" + std::to_string(n % 3);
        auto e = endpoint("t" + std::to_string(n), app, "S" + std::to_string(roll(3)), static_cast<std::uint16_t>(1000 + roll(3)));
        e.ip = "10.0.0." + std::to_string(roll(3));
        if (roll(4) == 0) e.healthy = false;
        if (roll(6) == 0) e.draining = true;
        if (roll(6) == 0) e.ports.clear();
        if (roll(4) == 0) e.ports.push_back(e.ports.empty() ? PortSpec{} : e.ports[0]), e.ports.back().name = "admin";
        if (roll(3) == 0) d.endpoints_gone.push_back(e.task);
        else d.endpoints.push_back(e);
      }
      if (roll(4) == 0) {
        catalog::Service s;
        s.app = AppId("/g" + std::to_string(roll(2)) + "/a" + std::to_string(roll(3)));
        if (roll(2)) s.health_checks = {HealthCheck{}};
        d.services.push_back(s);
      }
      if (roll(4) == 0) d.nodes.push_back({AgentId("S" + std::to_string(roll(3))), "n", "10.0.0." + std::to_string(roll(3)), 5051, roll(2) == 0});
      if (roll(8) == 0) d.masters = std::vector<catalog::Master>{{"m", "10.0.1." + std::to_string(roll(3)), 5050, roll(2) == 0}};
      auto change = follower.apply(d);
      ASSERT_TRUE(change);
      b.apply(follower.content(), *change);
      auto now = b.zone(), fresh = zone_of(follower.content());
      ASSERT_EQ(listed(*now), listed(*fresh)) << "seed " << seed << " step " << step;
      ASSERT_EQ(now->names.size(), fresh->names.size()) << "seed " << seed << " step " << step;  // inner nodes too
      ASSERT_EQ(now->tasks, fresh->tasks);
      now->names.for_each([&](const Entry& e) { ASSERT_EQ(e.glue(), fresh->names.find(e.name())->glue()); });
    }
  }
}

}  // namespace
}  // namespace croft::discovery
