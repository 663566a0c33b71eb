#pragma once
#include <gtest/gtest.h>

#include "base/time.hpp"
#include "secure/authority.hpp"
#include "secure/renewal.hpp"

namespace croft::secure {

inline Wall at(std::string_view text) { return from_iso8601(text).value(); }
inline Wall start() { return at("2030-01-01"); }
constexpr std::chrono::hours day{24};

inline HostIdentity host(std::string name, std::vector<HostRole> roles = {HostRole::node}, std::string cluster = "c-1") { return {std::move(cluster), std::move(name), std::move(roles)}; }

/// A certificate with its key, signed by `ca`.
struct Issued {
  std::string key, pem;
};
inline Issued issued(const Authority& ca, const HostIdentity& who, Wall now, Wall::duration life = certificate_life) {
  auto made = make_key_and_request();
  return {made.key_pem, issue(ca, made.request_pem, {who, {}}, now, life).value()};
}

#define EXPECT_FAILS(expression, wanted_code, words)                                   \
  do {                                                                                 \
    auto&& result_ = (expression);                                                     \
    ASSERT_FALSE(result_.has_value());                                                 \
    EXPECT_EQ(to_string(result_.error().code), to_string(wanted_code)) << result_.error().context; \
    EXPECT_NE(result_.error().context.find(words), std::string::npos) << result_.error().context;  \
  } while (false)

}  // namespace croft::secure
