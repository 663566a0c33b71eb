#include "model/acl.hpp"

#include <gtest/gtest.h>

namespace croft {
namespace {

TEST(Acl, S14_WhatLooksAtRequestsIsTaken) {
  for (auto fine : {"path_beg -i /service/fibonacci", "hdr(host) -i www.example.org", "path_reg ^/a\\.b/[0-9]+$", "req.hdr(host),field(1,:),lower -m str shop", "path_beg /map /environment", "src 10.0.0.0/8"}) {
    auto ok = check_acl(fine);
    EXPECT_TRUE(ok) << fine << ": " << (ok ? "" : ok.error().context);
  }
}

TEST(Acl, S14_NoneReadsTheBalancersHost) {
  for (auto bad : {"", "   ", "src -f /etc/croft/cluster/ca.json", "src -M -f /x", "src -if /x", "path_beg -u 7 /x", "path_beg -iu 7 /x", "path,map_ip(/etc/croft/cluster/ca.json) -m found", "path,map(/x) -m found", "path,lower,MAP(/x)", "env(HOME) -m found",
                   "str(${HOME}) -m found", "path_beg \"${HOME}\"", "src \"-f\" /x", "src '-f' /x", "src \\-f\\ /x", "lua.f -m bool", "path_beg /\nuse_backend x", "path_beg /a # b", "http_auth_bearer,jwt_verify(alg,/x) 1", "path_beg /a\\"})
    EXPECT_FALSE(check_acl(bad)) << bad;
  EXPECT_FALSE(check_acl(std::string(5000, 'a')));
}

}  // namespace
}  // namespace croft
