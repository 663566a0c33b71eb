#include "at.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/files.hpp"
#include "base/text.hpp"
#include "secure/bytes.hpp"
#include "secure/join_token.hpp"

namespace croft::secure {
namespace {

const Authority& ca() {
  static const Authority made = create_authority("c-1", start()).value();
  return made;
}

/// The PEM with one bit of its n-th byte turned, as a wire or a disk might.
std::string turned(const std::string& pem, std::size_t n) {
  auto begin = pem.find('\n') + 1, end = pem.find("-----END");
  std::string text = pem.substr(begin, end - begin);
  std::erase(text, '\n');
  auto der = base64_decode(text).value();
  der[n % der.size()] ^= 1;
  return pem.substr(0, begin) + base64_encode(der) + "\n" + pem.substr(end);
}

TEST(Identity, GoesIntoUrisAndBack) {
  auto who = host("web1.example.com", {HostRole::node, HostRole::balancer});
  EXPECT_EQ(uris_of(who).value(), (std::vector<std::string>{"croft://c-1/node/web1.example.com", "croft://c-1/balancer/web1.example.com"}));
  EXPECT_EQ(identity_of(uris_of(who).value()).value(), who);
  EXPECT_EQ(identity_of({"https://elsewhere/", "croft://c-1/dns/a"}).value(), host("a", {HostRole::dns}));
}

TEST(Identity, BadNamesAreRefused) {
  for (const char* name : {"", "UPPER", "a b", "a,URI:croft://c-1/master/a", "-a", "a-", "a..b", ".", "a/b", "a\n", "ä", "a_b", "*"})
    EXPECT_FALSE(uris_of(host(name))) << name;
  EXPECT_FALSE(uris_of(host(std::string(254, 'a'))));
  EXPECT_FALSE(uris_of(host("a", {})));
  EXPECT_FALSE(uris_of(host("a", {HostRole::node}, "c/1")));
  EXPECT_FAILS(identity_of(std::vector<std::string>{"https://x/"}), Errc::invalid, "does not say which host");
  EXPECT_FAILS(identity_of(std::vector<std::string>{"croft://c-1/node/a", "croft://c-1/master/b"}), Errc::invalid, "two hosts");
  EXPECT_FAILS(identity_of(std::vector<std::string>{"croft://c-1/node/a", "croft://c-2/node/a"}), Errc::invalid, "two hosts");
  for (const char* uri : {"croft://c-1/root/a", "croft://c-1/node/a/b", "croft://c-1/node/", "croft://node/a", "croft://c-1/node/A", "croft://"})
    EXPECT_FAILS(identity_of(std::vector<std::string>{"croft://c-1/node/a", uri}), Errc::invalid, "malformed");
  EXPECT_FAILS(identity_of(std::vector<std::string>(65, "croft://c-1/node/a")), Errc::too_large, "64");
}

TEST(Certificate, OfAHostIsTakenForItsRoleAndName) {
  auto who = host("web1", {HostRole::node, HostRole::dns});
  auto cert = issued(ca(), who, start());
  for (auto use : {Use::server, Use::client}) {
    auto seen = verify_certificate(cert.pem, ca().certificate_pem, start(), use, {"c-1", "web1", HostRole::dns});
    ASSERT_TRUE(seen) << seen.error().context;
    EXPECT_EQ(seen->identity, who);
    EXPECT_EQ(seen->not_after, start() + certificate_life);
    EXPECT_EQ(seen->not_before, start() - backdated);
    EXPECT_EQ(seen->serial.size(), 32u);
  }
  EXPECT_TRUE(check_pair(cert.pem, cert.key));
}

TEST(Certificate, OfAnotherRoleHostOrClusterIsRefused) {
  auto cert = issued(ca(), host("web1"), start());
  auto verify = [&](Expectation wanted) { return verify_certificate(cert.pem, ca().certificate_pem, start(), Use::client, wanted); };
  EXPECT_FAILS(verify({"c-1", "web1", HostRole::master}), Errc::forbidden, "has not the role master");
  EXPECT_FAILS(verify({"c-1", "web2", HostRole::node}), Errc::forbidden, "is not web2");
  EXPECT_FAILS(verify({"c-2", "web1", HostRole::node}), Errc::forbidden, "cluster c-1, not of c-2");
}

TEST(Certificate, ThatExpiredOrIsOfTomorrowIsRefused) {
  auto cert = issued(ca(), host("web1"), start());
  auto verify = [&](Wall now) { return verify_certificate(cert.pem, ca().certificate_pem, now, Use::client); };
  EXPECT_TRUE(verify(start() - std::chrono::minutes(9)));
  EXPECT_FAILS(verify(start() - std::chrono::minutes(11)), Errc::forbidden, "not valid yet");
  EXPECT_TRUE(verify(start() + certificate_life - Seconds(1)));
  EXPECT_FAILS(verify(start() + certificate_life + Seconds(1)), Errc::forbidden, "expired");
  EXPECT_FAILS(verify(start() + 400 * day), Errc::forbidden, "expired");
}

TEST(Certificate, OfAnotherCaIsRefusedAlsoWhenThatHasTheSameNames) {
  auto other = create_authority("c-1", start()).value();
  auto cert = issued(other, host("web1"), start());
  EXPECT_FAILS(verify_certificate(cert.pem, ca().certificate_pem, start(), Use::client), Errc::forbidden, "no CA that is trusted here");
  EXPECT_TRUE(verify_certificate(cert.pem, ca().certificate_pem + other.certificate_pem, start(), Use::client));
}

TEST(Certificate, OfAHostSignsNothing) {
  auto web = issued(ca(), host("web1"), start());
  Authority fake{web.pem, web.key};
  EXPECT_FAILS(check_authority(fake), Errc::invalid, "not a CA's");
  EXPECT_FAILS(issue(fake, make_key_and_request().request_pem, {host("web2"), {}}, start()), Errc::invalid, "not a CA's");
  EXPECT_FAILS(verify_certificate(web.pem, web.pem, start(), Use::client), Errc::invalid, "not a CA's");
}

TEST(Certificate, TheCasOwnIsNoHost) { EXPECT_FALSE(verify_certificate(ca().certificate_pem, ca().certificate_pem, start(), Use::client)); }

TEST(Certificate, TamperedWithAnywhereIsRefused) {
  auto cert = issued(ca(), host("web1"), start());
  // Every 7th byte: the parts of a certificate are longer than that.
  for (std::size_t n = 0; n < cert.pem.size() * 3 / 4; n += 7)
    EXPECT_FALSE(verify_certificate(turned(cert.pem, n), ca().certificate_pem, start(), Use::client)) << n;
}

TEST(Certificate, CutDoubledOrAbsurdIsRefused) {
  auto cert = issued(ca(), host("web1"), start());
  auto verify = [&](const std::string& pem) { return verify_certificate(pem, ca().certificate_pem, start(), Use::client); };
  for (std::size_t n = 0; n < cert.pem.size() - 2; n += 11) EXPECT_FALSE(verify(cert.pem.substr(0, n))) << n;
  EXPECT_FAILS(verify(cert.pem + cert.pem), Errc::invalid, "more than one");
  EXPECT_FAILS(verify("hello" + cert.pem), Errc::invalid, "not PEM");
  EXPECT_FAILS(verify(cert.key), Errc::invalid, "certificate");
  EXPECT_FAILS(verify(std::string(pem_bytes_max + 1, 'x')), Errc::too_large, "bytes");
  EXPECT_TRUE(verify("\n" + cert.pem + "\n\n"));
  EXPECT_FAILS(verify_certificate(cert.pem, std::string(bundle_bytes_max + 1, 'x'), start(), Use::client), Errc::too_large, "bundle");
}

TEST(Bundle, ListsItsCasAndRefusesWhatIsNone) {
  auto other = create_authority("c-1", start()).value();
  auto both = read_bundle(ca().certificate_pem + other.certificate_pem);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->size(), 2u);
  EXPECT_NE((*both)[0].fingerprint, (*both)[1].fingerprint);
  EXPECT_NE((*both)[0].name, (*both)[1].name);
  EXPECT_EQ((*both)[0].not_after, start() + authority_life);
  EXPECT_FAILS(read_bundle(""), Errc::invalid, "no certificate");
  EXPECT_FAILS(read_bundle(ca().certificate_pem + ca().certificate_pem), Errc::invalid, "twice");
  EXPECT_FAILS(read_bundle(issued(ca(), host("a"), start()).pem), Errc::invalid, "not a CA's");
  EXPECT_FALSE(read_bundle(ca().certificate_pem + other.certificate_pem.substr(0, 200)));
  std::string many;
  for (std::size_t i = 0; i <= bundle_count_max; ++i) many += create_authority("c-1", start()).value().certificate_pem;
  EXPECT_FAILS(read_bundle(many), Errc::too_large, "16");
}

TEST(Issuing, TakesNamesFromTheCallerNotFromTheRequest) {
  auto made = make_key_and_request();
  auto cert = issue(ca(), made.request_pem, {host("web1"), {"10.0.0.1", "fd00::1", "web.example.com", "web1"}}, start());
  ASSERT_TRUE(cert) << cert.error().context;
  EXPECT_TRUE(check_pair(*cert, made.key_pem));
  EXPECT_FALSE(check_pair(*cert, make_key_and_request().key_pem));
}

TEST(Issuing, BadInputIsRefused) {
  auto made = make_key_and_request();
  auto with = [&](std::vector<std::string> names) { return issue(ca(), made.request_pem, {host("web1"), std::move(names)}, start()); };
  EXPECT_FAILS(with({"a,URI:croft://c-1/master/web1"}), Errc::invalid, "names:");
  EXPECT_FAILS(with({"a\nb"}), Errc::invalid, "names:");
  EXPECT_FAILS(with({""}), Errc::invalid, "names:");
  EXPECT_FAILS(with(std::vector<std::string>(33, "a")), Errc::too_large, "names:");
  EXPECT_FAILS(issue(ca(), "", {host("a"), {}}, start()), Errc::invalid, "request");
  EXPECT_FAILS(issue(ca(), made.request_pem.substr(0, 150), {host("a"), {}}, start()), Errc::invalid, "request");
  EXPECT_FAILS(issue(ca(), std::string(pem_bytes_max + 1, 'x'), {host("a"), {}}, start()), Errc::too_large, "request");
  std::size_t refused = 0;
  for (std::size_t n = 0; n < 230; n += 3) refused += issue(ca(), turned(made.request_pem, n), {host("a"), {}}, start()) ? 0 : 1;
  EXPECT_EQ(refused, 77u) << "a request that was changed proves no possession of the key";
}

TEST(Issuing, NeverOutlivesTheCaAndEndsWithIt) {
  auto brief = create_authority("c-1", start(), 30 * day).value();
  EXPECT_EQ(read_certificate(issued(brief, host("a"), start()).pem)->not_after, start() + 30 * day);
  EXPECT_FAILS(issue(brief, make_key_and_request().request_pem, {host("a"), {}}, start() + 31 * day), Errc::forbidden, "CA has expired");
  Authority mixed{brief.certificate_pem, ca().key_pem};
  EXPECT_FAILS(issue(mixed, make_key_and_request().request_pem, {host("a"), {}}, start()), Errc::invalid, "not that of the certificate");
}

TEST(Issuing, AHostWithALongNameOrAnAddressForItsName) {
  auto name = std::string(60, 'a') + "." + std::string(60, 'b');
  EXPECT_EQ(read_certificate(issued(ca(), host(name), start()).pem)->identity.host, name);
  EXPECT_EQ(read_certificate(issued(ca(), host("192.168.99.11"), start()).pem)->identity.host, "192.168.99.11");
}

/// An independent judge: what we issue, the `openssl` program takes too, and finds the names in it.
TEST(Issuing, OpensslProgramAgrees) {
  std::string folder = ::testing::TempDir() + "croft-secure-" + hex(random_bytes(6));
  std::filesystem::create_directory(folder);
  auto cert = issue(ca(), make_key_and_request().request_pem, {host("web1", {HostRole::master}), {"10.0.0.1"}}, start());
  ASSERT_TRUE(write_file_atomic(folder + "/ca.pem", ca().certificate_pem));
  ASSERT_TRUE(write_file_atomic(folder + "/web1.pem", cert.value()));
  auto seconds = std::to_string(std::chrono::floor<Seconds>(start()).time_since_epoch().count());
  auto out = [&](const std::string& command) {
    std::string text;
    std::array<char, 4096> block{};
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen((command + " 2>&1").c_str(), "r"), ::pclose);
    while (auto n = std::fread(block.data(), 1, block.size(), pipe.get())) text.append(block.data(), n);
    return text;
  };
  EXPECT_NE(out("openssl verify -x509_strict -purpose sslserver -attime " + seconds + " -CAfile " + folder + "/ca.pem " + folder + "/web1.pem").find("web1.pem: OK"), std::string::npos);
  auto text = out("openssl x509 -noout -text -in " + folder + "/web1.pem");
  EXPECT_NE(text.find("URI:croft://c-1/master/web1, DNS:web1, IP Address:10.0.0.1"), std::string::npos) << text;
  EXPECT_NE(text.find("CA:FALSE"), std::string::npos);
  std::filesystem::remove_all(folder);
}

TEST(Keys, OnlyStrongOnesAreTaken) {
  auto out = [](const std::string& command) {
    std::string text;
    std::array<char, 4096> block{};
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen((command + " 2>/dev/null").c_str(), "r"), ::pclose);
    while (auto n = std::fread(block.data(), 1, block.size(), pipe.get())) text.append(block.data(), n);
    return text;
  };
  auto request = [&](const std::string& kind) { return out("openssl req -new -nodes -subj /CN=x -keyout /dev/null -newkey " + kind); };
  auto with = [&](const std::string& kind) { return issue(ca(), request(kind), {host("a"), {}}, start()); };
  EXPECT_TRUE(with("rsa:2048"));
  EXPECT_TRUE(with("ed25519"));
  EXPECT_TRUE(with("ec -pkeyopt ec_paramgen_curve:P-384"));
  EXPECT_FAILS(with("rsa:1024"), Errc::forbidden, "1024 bits");
  EXPECT_FAILS(with("ec -pkeyopt ec_paramgen_curve:secp224r1"), Errc::forbidden, "224 bits");
}

}  // namespace
}  // namespace croft::secure
