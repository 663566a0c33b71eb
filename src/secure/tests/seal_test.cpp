#include "at.hpp"

#include <set>

#include "secure/bytes.hpp"
#include "secure/seal.hpp"

namespace croft::secure {
namespace {

TEST(Seal, OpensUnderItsNameOnly) {
  auto ring = KeyRing::create();
  for (const auto& value : {std::string(), std::string("v"), std::string(1 << 20, 'x'), std::string("\0\1\2", 3)}) {
    auto sealed = ring.seal("apps/service/web", value);
    EXPECT_EQ(sealed.size(), value.size() + KeyRing::overhead);
    EXPECT_TRUE(is_sealed(sealed));
    EXPECT_EQ(ring.open("apps/service/web", sealed).value(), value);
    EXPECT_FAILS(ring.open("apps/service/other", sealed), Errc::corrupt, "apps/service/other");
    EXPECT_FAILS(ring.open("", sealed), Errc::corrupt, "does not open");
  }
}

TEST(Seal, TellsNothingAndIsNeverTwiceTheSame) {
  auto ring = KeyRing::create();
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    auto sealed = ring.seal("k", "password=hunter2");
    EXPECT_EQ(sealed.find("hunter2"), std::string::npos);
    EXPECT_TRUE(seen.insert(sealed).second);
  }
}

TEST(Seal, EveryTurnedBitAndEveryCutIsFound) {
  auto ring = KeyRing::create();
  auto sealed = ring.seal("k", "value");
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto bad = sealed;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      EXPECT_FALSE(ring.open("k", bad)) << i;
    }
    EXPECT_FALSE(ring.open("k", sealed.substr(0, i))) << i;
  }
  EXPECT_FALSE(ring.open("k", sealed + "x"));
  EXPECT_FAILS(ring.open("k", "plain"), Errc::invalid, "not sealed");
  EXPECT_FAILS(ring.open("k", ""), Errc::invalid, "not sealed");
  EXPECT_FAILS(ring.open("k", sealed.substr(0, 10)), Errc::corrupt, "cut short");
}

TEST(Seal, TwoClustersCannotReadEachOther) {
  auto a = KeyRing::create(), b = KeyRing::create();
  EXPECT_FAILS(b.open("k", a.seal("k", "v")), Errc::corrupt, "another cluster's");
}

TEST(Seal, KeysAreRotatedWithoutAGap) {
  auto ring = KeyRing::create();
  auto old = ring.seal("k", "v");
  EXPECT_FALSE(ring.needs_reseal(old));
  EXPECT_TRUE(ring.needs_reseal("plain"));
  auto number = ring.add();
  EXPECT_EQ(number, 2u);
  EXPECT_TRUE(ring.needs_reseal(old));
  EXPECT_EQ(ring.open("k", old).value(), "v") << "what is old opens until it was sealed anew";
  auto fresh = ring.seal("k", "v");
  EXPECT_FALSE(ring.needs_reseal(fresh));
  EXPECT_FAILS(ring.drop(2), Errc::conflict, "seals");
  EXPECT_FAILS(ring.drop(7), Errc::not_found, "7");
  ASSERT_TRUE(ring.drop(1));
  EXPECT_FAILS(ring.open("k", old), Errc::not_found, "key 1");
  EXPECT_EQ(ring.open("k", fresh).value(), "v");
}

TEST(Seal, RingSurvivesItsFile) {
  auto ring = KeyRing::create();
  auto one = ring.seal("k", "1");
  ring.add();
  auto two = ring.seal("k", "2");
  auto again = KeyRing::decode(ring.encode());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->numbers(), (std::vector<std::uint32_t>{1, 2}));
  EXPECT_EQ(again->open("k", one).value(), "1");
  EXPECT_EQ(again->open("k", two).value(), "2");
}

TEST(Seal, DamagedRingsAreRefusedWithoutTellingTheKey) {
  auto text = KeyRing::create().encode();
  auto first = text.substr(text.find("\"key\":\"") + 7, 64);
  for (const auto& bad : {std::string(), std::string("{}"), text.substr(0, text.size() - 5), std::string("{\"format\":1,\"keys\":[]}"), std::string("{\"format\":1,\"keys\":[{\"number\":0,\"key\":\"") + first + "\"}]}",
                          std::string("{\"format\":1,\"keys\":[{\"number\":1,\"key\":\"") + first.substr(2) + "\"}]}",
                          std::string("{\"format\":1,\"keys\":[{\"number\":1,\"key\":\"") + first + "\"},{\"number\":1,\"key\":\"" + first + "\"}]}"}) {
    auto ring = KeyRing::decode(bad);
    ASSERT_FALSE(ring) << bad;
    EXPECT_EQ(ring.error().code, Errc::corrupt) << ring.error().context;
    EXPECT_EQ(ring.error().context.find(first.substr(0, 8)), std::string::npos);
  }
  EXPECT_FAILS(KeyRing::decode("{\"format\":2,\"keys\":[]}"), Errc::invalid, "format 2");
  EXPECT_FAILS(KeyRing::decode(std::string(20000, ' ')), Errc::too_large, "bytes");
}

TEST(Bytes, Base64UrlHasOneSpellingForEachValue) {
  for (std::size_t n = 0; n < 40; ++n) {
    auto bytes = random_bytes(n);
    auto text = base64url_encode(bytes);
    EXPECT_EQ(text.find_first_of("+/="), std::string::npos);
    EXPECT_EQ(base64url_decode(text).value(), bytes);
  }
  for (const char* bad : {"A", "AB", "AAB", "AA==", "A+", "A/AA", "AA A", "AA\n"}) EXPECT_FALSE(base64url_decode(bad)) << bad;
  EXPECT_TRUE(base64url_decode("AA"));
}

TEST(Bytes, HexIsLowerCaseAndEven) {
  EXPECT_EQ(unhex("00ff").value(), std::string("\0\xff", 2));
  for (const char* bad : {"0", "0G", "FF", "0x00"}) EXPECT_FALSE(unhex(bad)) << bad;
}

TEST(Bytes, EqualComparesAll) {
  EXPECT_TRUE(equal("", ""));
  EXPECT_TRUE(equal("abc", "abc"));
  EXPECT_FALSE(equal("abc", "abd"));
  EXPECT_FALSE(equal("abc", "ab"));
}

/// RFC 4231, test case 2.
TEST(Bytes, HmacAgreesWithTheStandard) {
  EXPECT_EQ(hmac_sha256("Jefe", "what do ya want for nothing?"), unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843").value());
}

}  // namespace
}  // namespace croft::secure
