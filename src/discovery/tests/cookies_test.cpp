#include "discovery/cookies.hpp"

#include <gtest/gtest.h>

#include "builders.hpp"
#include "discovery/dns_codec.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {
namespace {

std::string unhexed(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return out;
}

std::string text(const std::array<char, CookieJar::size>& cookie) { return {cookie.begin(), cookie.end()}; }

/// The key of RFC 9018's examples, e5e973e5a6b2a43f48e7dc849e37bfcf.
const CookieJar rfc({0x3fa4b2a6e573e9e5, 0xcfbf379e84dce748});
const std::string client = unhexed("2464c4abcf10c957"), asker = {'\xc6', '\x33', '\x64', '\x64'};  // 198.51.100.100
constexpr std::uint32_t then = 1559731985;

TEST(Cookie, IsTheOneOfTheStandardsExample) {
  EXPECT_EQ(text(rfc.bake(client, asker, then)), unhexed("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));
}

TEST(Cookie, SipHashIsItsAuthorsExample) {
  std::string bytes;
  for (char c = 0; c < 15; ++c) bytes.push_back(c);
  EXPECT_EQ(siphash({0x0706050403020100, 0x0f0e0d0c0b0a0908}, bytes), 0xa129ca6149be45e5u);
}

TEST(Cookie, ServesItsAddressForAnHour) {
  auto cookie = text(rfc.bake(client, asker, then));
  EXPECT_TRUE(rfc.valid(cookie, asker, then));
  EXPECT_TRUE(rfc.valid(cookie, asker, then + 3600));
  EXPECT_FALSE(rfc.valid(cookie, asker, then + 3601));
  EXPECT_TRUE(rfc.valid(cookie, asker, then - 300)) << "a clock that was set back a little";
  EXPECT_FALSE(rfc.valid(cookie, asker, then - 301));
  EXPECT_FALSE(rfc.valid(cookie, "\1\2\3\4", then)) << "another's address";
  EXPECT_FALSE(CookieJar({1, 2}).valid(cookie, asker, then)) << "another server's";
  for (std::size_t i = 0; i < cookie.size(); ++i) {
    auto changed = cookie;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(rfc.valid(changed, asker, then)) << i;
  }
  EXPECT_FALSE(rfc.valid(client, asker, then)) << "the client's part alone";
  EXPECT_FALSE(rfc.valid("", asker, then));
  auto six = std::string(16, '\x20');
  EXPECT_TRUE(rfc.valid(text(rfc.bake(client, six, then)), six, then));
}

/// A question with options in its OPT record.
std::string asking(std::string_view options) {
  auto packet = packet_of({.name = "web.marathon.mesos", .edns = 1232});
  put16(packet.data() + packet.size() - 2, static_cast<std::uint16_t>(options.size()));
  return packet + std::string(options);
}
std::string option(std::uint16_t code, std::string_view bytes) {
  std::string out(4, '\0');
  put16(out.data(), code), put16(out.data() + 2, static_cast<std::uint16_t>(bytes.size()));
  return out + std::string(bytes);
}

struct CookieAnswers : ::testing::Test {
  CookieAnswers() {
    options.cookies = &rfc;
    options.address = asker;
    options.now = then;
  }
  std::string answer(const std::string& packet) {
    std::string out(udp_answer_max, '\0');
    reply = reply_to(packet, *zone, options, out);
    return out.substr(0, reply.size);
  }
  std::shared_ptr<const Zone> zone = zone_of(content_of({endpoint("web.1", "/web")}));
  ReplyOptions options;
  Reply reply;
};

TEST_F(CookieAnswers, BearOneWhereTheQuestionDid) {
  auto with = answer(asking(option(10, client)));
  EXPECT_EQ(reply.rcode, Rcode::noerror);
  EXPECT_TRUE(with.ends_with(option(10, text(rfc.bake(client, asker, then)))));
  auto read = read_answer(with);
  EXPECT_TRUE(read.ok && read.edns && read.answers.size() == 1) << "whole for others as well";
  EXPECT_EQ(answer(asking("")).size() + 28, with.size());
  EXPECT_EQ(answer(asking(option(8, "xxxx") + option(10, client + std::string(32, 'x')) + option(12, ""))).size(), with.size()) << "among others, and with an old or odd server's part";
  options.cookies = nullptr;
  EXPECT_EQ(answer(asking(option(10, client))).size() + 28, with.size());
}

TEST_F(CookieAnswers, AMalformedOneIsAnError) {
  for (const auto& bad : {option(10, "short"), option(10, client + "more"), option(10, std::string(41, 'x')), option(10, ""), option(10, client).substr(0, 8), std::string("\0", 1), std::string("\0\x0a\xff\xff", 4)}) {
    answer(asking(bad));
    EXPECT_EQ(reply.rcode, Rcode::formerr) << bad.size();
  }
}

TEST_F(CookieAnswers, AValidOneIsKnownAgain) {
  EXPECT_TRUE(has_valid_cookie(asking(option(10, text(rfc.bake(client, asker, then - 60)))), options));
  EXPECT_FALSE(has_valid_cookie(asking(option(10, client)), options));
  EXPECT_FALSE(has_valid_cookie(asking(""), options));
  EXPECT_FALSE(has_valid_cookie("noise", options));
  options.address = "\1\2\3\4";
  EXPECT_FALSE(has_valid_cookie(asking(option(10, text(rfc.bake(client, asker, then)))), options));
}

}  // namespace
}  // namespace croft::discovery
