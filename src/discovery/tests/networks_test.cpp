#include "discovery/networks.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>

namespace croft::discovery {
namespace {

std::string bytes_of(const char* text) {
  char out[16];
  if (::inet_pton(AF_INET, text, out) == 1) return {out, 4};
  EXPECT_EQ(::inet_pton(AF_INET6, text, out), 1) << text;
  return {out, 16};
}

TEST(Networks, S15_OthersNamesAreForThoseWhoAreNear) {
  for (auto near : {"127.0.0.1", "10.1.2.3", "172.17.42.1", "172.31.255.255", "192.168.99.21", "169.254.1.1", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"}) EXPECT_TRUE(is_near(bytes_of(near), {})) << near;
  for (auto far : {"203.0.113.7", "8.8.8.8", "172.32.0.1", "11.0.0.1", "2001:db8::1", "::ffff:203.0.113.7"}) EXPECT_FALSE(is_near(bytes_of(far), {})) << far;
  EXPECT_FALSE(is_near("", {}));
  std::vector<Network> also{*Network::parse("203.0.113.0/28"), *Network::parse("2001:db8::/33"), *Network::parse("8.8.8.8")};
  for (auto near : {"203.0.113.15", "::ffff:203.0.113.1", "2001:db8:7fff::1", "8.8.8.8"}) EXPECT_TRUE(is_near(bytes_of(near), also)) << near;
  for (auto far : {"203.0.113.16", "2001:db8:8000::1", "8.8.8.9"}) EXPECT_FALSE(is_near(bytes_of(far), also)) << far;
}

TEST(Networks, WhatIsNoneIsNotTaken) {
  for (auto bad : {"", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/", "1.2.3.4/8x", "::/129", "host/8"}) EXPECT_FALSE(Network::parse(bad)) << bad;
  EXPECT_TRUE(Network::parse("0.0.0.0/0")->contains(bytes_of("203.0.113.7")));
}

}  // namespace
}  // namespace croft::discovery
