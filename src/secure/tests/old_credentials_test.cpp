#include <gtest/gtest.h>

#include "secure/old_credentials.hpp"

namespace croft::secure {
namespace {

using Old = std::vector<OldCredential>;

TEST(OldCredentials, EveryFormIsRead) {
  EXPECT_EQ(*read_old_credentials(R"({"credentials":[{"principal":"marathon","secret":"s 1"},{"principal":"ops","secret":"s:2"}]})"), (Old{{"marathon", "s 1"}, {"ops", "s:2"}}));
  EXPECT_EQ(*read_old_credentials(" {\"principal\":\"agent\",\"secret\":\"x\"}\n"), (Old{{"agent", "x"}}));
  EXPECT_EQ(*read_old_credentials("marathon secret\n\nops\t two words \n"), (Old{{"marathon", "secret"}, {"ops", "two words"}}));
  EXPECT_EQ(*read_old_credentials("admin:pass:word\r\n"), (Old{{"admin", "pass:word"}}));
}

TEST(OldCredentials, WhatIsWrongIsSaidWithoutAPassword) {
  for (auto [text, words] : {std::pair{"", "holds no credentials"}, {R"({"credentials":[]})", "holds no credentials"}, {R"({"credentials":[{"principal":"a","secret":"hidden"},{"principal":"b"}]})", "credentials(1): 'secret'"},
                             {R"({"credentials":[{"principal":"a","secret":7}]})", "'secret' is missing"}, {"a hidden\nhidden\n", "line 2: neither"}, {":hidden", "line 1"}, {"a:", "no password"},
                             {"a hidden\na hidden2", "'a' stands in it twice"}, {"{\"credentials\":", "line 1"}}) {
    auto read = read_old_credentials(text);
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().context.find(words), std::string::npos) << read.error().context;
    EXPECT_EQ(read.error().context.find("hidden"), std::string::npos) << read.error().context;
  }
}

}  // namespace
}  // namespace croft::secure
