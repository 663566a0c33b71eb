#include <gtest/gtest.h>

#include "balancer/labels.hpp"

namespace croft::balancer {
namespace {

TEST(PortLabels, NothingIsSaidByDefault) { EXPECT_EQ(port_labels({{"other", "x"}}, 0), PortLabels{}); }

TEST(PortLabels, EachLabelIsOfOnePort) {
  Labels labels{{"HAPROXY_0_MODE", "tcp"}, {"HAPROXY_1_MODE", "HTTP"}, {"HAPROXY_1_PORT", "9000"}};
  EXPECT_EQ(port_labels(labels, 0).http, false);
  EXPECT_EQ(port_labels(labels, 1).http, true);
  EXPECT_EQ(port_labels(labels, 1).port, 9000);
  EXPECT_FALSE(port_labels(labels, 10).http);
}

TEST(PortLabels, HostsAreACommaListInLowerCase) {
  auto p = port_labels({{"HAPROXY_0_VHOST", "Web.Example.com, api.example.com"}}, 0);
  EXPECT_EQ(p.hosts, (std::vector<std::string>{"web.example.com", "api.example.com"}));
}

TEST(PortLabels, APathNeedsAHostAndRaisesTheWeight) {
  auto p = port_labels({{"HAPROXY_0_VHOST", "a.b"}, {"HAPROXY_0_PATH", "-i /api /v2"}}, 0);
  EXPECT_EQ(p.paths, (std::vector<std::string>{"/api", "/v2"}));
  EXPECT_TRUE(p.paths_ignore_case);
  EXPECT_EQ(p.weight, 1);
  EXPECT_EQ(port_labels({{"HAPROXY_0_VHOST", "a.b"}, {"HAPROXY_0_PATH", "/api"}, {"HAPROXY_0_BACKEND_WEIGHT", "7"}}, 0).weight, 7);
  EXPECT_EQ(port_labels({{"HAPROXY_0_PATH", "/api"}}, 0).problems.size(), 1u);
}

TEST(PortLabels, BalanceStickyAndNetworksAreTakenOver) {
  auto p = port_labels({{"HAPROXY_0_BALANCE", "source"}, {"HAPROXY_0_STICKY", "Yes"}, {"HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8 fd00::/8 127.0.0.1"}}, 0);
  EXPECT_EQ(p.balance, "source");
  EXPECT_TRUE(p.sticky);
  EXPECT_EQ(p.networks.size(), 3u);
  EXPECT_TRUE(p.problems.empty());
}

TEST(PortLabels, AWrongValueCountsAsNotGivenAndIsNamed) {
  for (auto [name, value] : {std::pair{"MODE", "udp"}, {"PORT", "0"}, {"PORT", "70000"}, {"BALANCE", "best"}, {"VHOST", "a b"}, {"BACKEND_WEIGHT", "heavy"},
                             {"BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/33"}, {"BACKEND_NETWORK_ALLOWED_ACL", "everyone"}}) {
    auto p = port_labels({{fmt::format("HAPROXY_0_{}", name), value}}, 0);
    ASSERT_EQ(p.problems.size(), 1u) << name;
    EXPECT_EQ(p.problems[0].find(fmt::format("HAPROXY_0_{}: '{}' ", name, value)), 0u) << p.problems[0];
    p.problems.clear();
    EXPECT_EQ(p, PortLabels{}) << name;
  }
}

TEST(PortLabels, OneWrongEntryMakesTheWholeListCountAsNotGiven) {
  EXPECT_TRUE(port_labels({{"HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8 nonsense"}}, 0).networks.empty());
  EXPECT_TRUE(port_labels({{"HAPROXY_0_VHOST", "good.example.com,bad one"}}, 0).hosts.empty());
}

TEST(PortLabels, NothingThatCouldEndAWordOrALineGetsThrough) {
  for (const std::string& bad : std::vector<std::string>{"a\nuse_backend x", "a\"b", "a'b", "a\\b", "a b", "a#b", "${HOME}", "a\tb", std::string("a\0b", 3), std::string("\xc3\xa9")}) {
    auto p = port_labels({{"HAPROXY_0_VHOST", bad}}, 0);
    EXPECT_TRUE(p.hosts.empty()) << bad;
    auto q = port_labels({{"HAPROXY_0_VHOST", "ok.example.com"}, {"HAPROXY_0_PATH", "/" + bad}}, 0);
    for (const auto& path : q.paths) EXPECT_EQ(path.find_first_of("\n\t\r\"'\\# "), std::string::npos) << path;
  }
}

TEST(PortLabels, AListHasAnEnd) {
  std::string many;
  for (int i = 0; i < 40; ++i) many += fmt::format("h{}.example.com,", i);
  EXPECT_TRUE(port_labels({{"HAPROXY_0_VHOST", many}}, 0).hosts.empty());
}

TEST(Labels, ResendingIsSwitchedOffInSoManyWords) {
  EXPECT_TRUE(port_labels({}, 0).resend);
  for (auto no : {"false", "no", " False "}) EXPECT_FALSE(port_labels({{"HAPROXY_0_RESEND", no}}, 0).resend) << no;
  EXPECT_TRUE(port_labels({{"HAPROXY_0_RESEND", "true"}}, 0).resend);
  EXPECT_TRUE(port_labels({{"HAPROXY_1_RESEND", "false"}}, 0).resend) << "another port's";
  auto odd = port_labels({{"HAPROXY_0_RESEND", "off\nbind *:1"}}, 0);
  EXPECT_TRUE(odd.resend);
  EXPECT_EQ(odd.problems.size(), 1u);
}

}  // namespace
}  // namespace croft::balancer
