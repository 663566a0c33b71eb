#include "model/acl.hpp"
#include "model/regex_cost.hpp"

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

TEST(RegexCost, S14_WhatIsQuickIsTaken) {
  for (auto fine : {"/plain/path", "^/a\\.b/[0-9]+$", "/api/.*", "^.*\\.example\\.com$", "^(www\\.)?example\\.(com|org)$", "^/v[0-9]+/(foo|bar)/[a-z]+/x$", "^/[^/]+/[^/]+/edit$", "(?i)^shop\\.", "^/a|^/b", "^/[a-z]+/v[0-9]+/.*$", "^/\\d{3}$",
                    "^/x/[[:alpha:]]+$", "^[^.]+\\.example\\.org$", "^[]a]b$", "^/(?:a|b)/", "^/static/.+\\.(png|jpe?g|gif)$", "\\.php$", "^/a{2,5}/b", "^[^]]x", "", "^$",
                    "^/foo(/.*)?$", "^[^.]+\\.example\\.com(:[0-9]+)?$", "^(/v1)?/users(/[0-9]+)?$", ".*\\.php$", "(?i).*\\.php$", "/api/v[0-9]+/", "\\.[a-z]+$", "^/static/[a-z]+/.*\\.png$", "^/[0-9]{1,20}/x$", "/[0-9]{2,4}/",
                    "^/[\\w.-]+/x$", "^.*\\.(jpg|jpeg|png|gif|css|js)$", "^/a\\{1\\}", "^/[{]x", "(/a*)?/a*x", "^/[a-z-]+/", "^/[+--]x"}) {
    auto ok = check_regex_cost(fine);
    EXPECT_TRUE(ok) << fine << ": " << (ok ? "" : ok.error().context);
  }
}

TEST(RegexCost, S14_WhatCouldTakeSecondsIsNot) {
  for (auto bad : {"(?:a?){18}a{18}[bc]", "(a+)+b", "^(a|a)*b", "^(a|aa)+$", "^.*a.*b", "foo.*bar", "^.*/v[0-9]+/x", "[0-9]+x", ".*.*x", "^a?a?a?a?a?a?a?a?aaaaaaaa", "^(a|a)(a|a)(a|a)(a|a)(a|a)b", "^(.*)(.*)(.*)x", "^(a*)?b", "(?=a)b", "^(a)\\1", "^*.*.*x", "^?.*.*x",
                   "a**", "a{2,3}{4}", "(a", "a)", "[a", "a\\", "^a{1,", "^(?i)x", "\\Qa", "(*UTF)a", "[0-9]+[a-z]+x|b.*c.*d", "^(((((((((a)))))))))", "[0-9]*[0-9]*x", "^(a|)(a|)(a|)(a|)(a|)b", "/x/.*$", "/.*\\b\\B", "^.*[ab]{60}[ab]{60}[ab]{60}x", ".*+x", ".+[bc]", "^(/.*)?(/.*)?x"})
    EXPECT_FALSE(check_regex_cost(bad)) << bad;
  EXPECT_FALSE(check_regex_cost(std::string(400, 'a') + "[bc]"));  // may be walked along from every place
  EXPECT_TRUE(check_regex_cost("^" + std::string(400, 'a') + "[bc]"));
}

TEST(RegexCost, S14_ClassesAreReadAsPcreReadsThem) {
  for (auto bad : {"^/[^\\W]+[0-9]+[^\\W]+[0-9]+[^\\W]+[,;]", "^/[^\\D]+[a]+[^\\S]+[b]", "^/[[:](.*)(.*)(.*)[bc]|:]]", "^/[[.](.*)(.*)[bc]|.]]", "^/[[=](.*)(.*)[bc]|=]]", "^/[[:nothing:]]", "^/[[:<:]]", "^/[\\.-z]+a+[\\.-z]+a+[\\.-z]+[!Q]", "^/[a-\\z]x", "^[\\d-z]",
                    "^[[:alpha:]-z]", "^[+-[:alpha:]]", "^[z-a]", "^[\\b]x"})
    EXPECT_FALSE(check_regex_cost(bad)) << bad;
}

TEST(RegexCost, S14_NumbersOfRepetitionsCount) {
  for (auto bad : {"a{7000}[bc]", "^a{1001}", "^a{1,1001}", "^a{99999999999999999999}", "a{65}[bc]", "a{0,65}[bc]", "^[ab]{65}[ab]{65}c", "a{64}a{64}a{64}[bc]", "^/{1(.*)(.*)(.*)[xy]}", "^/{,3}x", "^/{a}", "^{3}", "{3}", "^/a{3,2}", "^/a{ 3}", "^/a{0}", "^/a{1,2,3}"})
    EXPECT_FALSE(check_regex_cost(bad)) << bad;
  for (auto fine : {"^/[a-f0-9]{40}$", "^/[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{12}/", "^/a{1,1000}", "^/a{3,}/x"}) EXPECT_TRUE(check_regex_cost(fine)) << fine;
}

TEST(Acl, S14_EveryKindOfMatchThatIsNotPlainIsJudged) {
  for (auto bad : {"path -m regm (a+)+b", "path -m REGM ^.*a.*a.*[bc]", "path -mregm (a+)+b", "path -m new (a+)+b"}) EXPECT_FALSE(check_acl(bad)) << bad;
  for (auto fine : {"path -m beg /a++b", "path -m str (a+)+b", "src -m ip 10.0.0.0/8", "hdr(x) -m found"}) EXPECT_TRUE(check_acl(fine)) << fine;
}

TEST(Acl, S14_ExpressionsAreJudgedWhereverTheyStand) {
  for (auto bad : {"path_reg -- (?:a?){18}a{18}[bc]", "path -m reg (a+)+b", "hdr_reg(host) -i ^x$ (a+)+b", "path_beg /x || path_reg (a+)+b", "PATH_REG (a+)+b", "path,regsub(a+a+a+b,x) x", "path -m  reg ^.*a.*a.*[bc]", "path  -i  -m   reg  (a+)+b",
                   "path_reg -- -*(.*)(.*)(.*)[bc]", "path_reg -*(.*)(.*)(.*)[bc]", "path_reg ^/x -m (a+)+b", "path_reg ^/x -- -a*(.*)(.*)x", "path_reg,lower (a+)+b", "path_reg -i -- ^x$ (a+)+b", "path_reg -- -- (a+)+b"})
    EXPECT_FALSE(check_acl(bad)) << bad;
  for (auto fine : {"hdr_reg(host) -i ^(www\\.)?example\\.com$", "path_beg /a++b", "path -m reg -i ^/x/.*$ ^/y", "path_reg  -i  --  -x", "path -i -m reg -- ^/x"}) EXPECT_TRUE(check_acl(fine)) << fine;
}

TEST(Acl, S14_NoMoreThanEightExpressionsInARule) {
  EXPECT_TRUE(check_acl("path_reg -i -- ^/1 ^/2 ^/3 ^/4 ^/5 ^/6 ^/7 ^/8"));
  EXPECT_FALSE(check_acl("path_reg -i -- ^/1 ^/2 ^/3 ^/4 ^/5 ^/6 ^/7 ^/8 ^/9"));
  EXPECT_TRUE(check_acl("path_beg /1 /2 /3 /4 /5 /6 /7 /8 /9"));
}

}  // namespace
}  // namespace croft
