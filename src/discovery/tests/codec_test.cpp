#include "discovery/dns_codec.hpp"

#include <gtest/gtest.h>
#include <ldns/ldns.h>

#include <algorithm>
#include <random>

#include "base/text.hpp"
#include "builders.hpp"
#include "discovery/names.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {
namespace {

using Lines = std::vector<std::string>;

struct Answered {
  Reply reply;
  std::string bytes;
  Read read;
};

Answered answer(const Zone& zone, std::string_view packet, ReplyOptions options = {}) {
  std::string out(options.tcp ? message_max : udp_answer_max, '\x5a');
  Answered a;
  a.reply = reply_to(packet, zone, options, out);
  a.bytes = out.substr(0, a.reply.size);
  if (a.reply.action == Reply::Action::send) a.read = read_answer(a.bytes);
  return a;
}
Answered answer(const Zone& zone, const Ask& ask, ReplyOptions options = {}) { return answer(zone, packet_of(ask), options); }

std::shared_ptr<const Zone> fibonacci(int instances, ZoneOptions options = {}) {
  std::vector<catalog::Endpoint> all;
  for (int i = 0; i < instances; ++i) {
    auto e = endpoint("service_fibonacci.u" + std::to_string(i), "/service/fibonacci", "c-S" + std::to_string(i % 7), static_cast<std::uint16_t>(31000 + i));
    e.ip = "192.168.99." + std::to_string(20 + i % 7);
    all.push_back(e);
  }
  auto c = content_of(std::move(all));
  c.masters = {{"m1", "192.168.99.11", 5050, true}};
  options.server_addresses = {"192.168.99.30"};
  return zone_of(c, options);
}

TEST(Dns, AnswersAnAddress) {
  auto z = fibonacci(1);
  auto a = answer(*z, {.name = "fibonacci-service.marathon.mesos"});
  EXPECT_EQ(a.reply.action, Reply::Action::send);
  ASSERT_TRUE(a.read.ok);
  EXPECT_EQ(a.read.rcode, 0);
  EXPECT_EQ(a.read.id, 0x1234);
  EXPECT_TRUE(a.read.qr && a.read.aa && a.read.rd);
  EXPECT_FALSE(a.read.tc || a.read.ra || a.read.edns);
  EXPECT_EQ(a.read.answers, Lines{"fibonacci-service.marathon.mesos. A 192.168.99.20"});
  EXPECT_TRUE(a.read.authority.empty() && a.read.additional.empty());
}

TEST(Dns, AnswersAServiceWithItsAddresses) {
  auto z = fibonacci(1);
  auto host = "fibonacci-service-" + hash_of("service_fibonacci.u0") + "-s0.marathon.mesos.";
  auto a = answer(*z, {.name = "_fibonacci-service._tcp.marathon.mesos", .type = SRV});
  EXPECT_EQ(a.read.answers, Lines{"_fibonacci-service._tcp.marathon.mesos. SRV 0 1 31000 " + host});
  EXPECT_EQ(a.read.additional, Lines{host + " A 192.168.99.20"});
}

TEST(Dns, OneAddressForATargetWithSeveralPorts) {
  auto e = endpoint("t.u1", "/a");
  e.ports.push_back(e.ports[0]);
  e.ports[1].host_port = 31001;
  auto other = endpoint("t.u2", "/a");
  auto z = zone_of(content_of({e, other}));
  for (std::uint32_t turn = 0; turn < 3; ++turn) {
    ReplyOptions o;
    o.turn = turn;
    auto a = answer(*z, {.name = "_a._tcp.marathon.mesos", .type = SRV}, o);
    EXPECT_EQ(a.read.answers.size(), 3u);
    EXPECT_EQ(a.read.additional.size(), 2u) << turn;
  }
}

TEST(Dns, TheSpellingOfTheQuestionComesBack) {
  auto z = fibonacci(1);
  auto a = answer(*z, {.name = "FiboNacci-Service.MARATHON.mesos", .edns = 4096});
  EXPECT_EQ(a.read.answers, Lines{"FiboNacci-Service.MARATHON.mesos. A 192.168.99.20"});
}

TEST(Dns, RecordsTakeTurns) {
  auto z = fibonacci(3);
  std::set<std::string> first;
  for (std::uint32_t turn = 0; turn < 3; ++turn) {
    ReplyOptions o;
    o.turn = turn;
    auto a = answer(*z, {.name = "_fibonacci-service._tcp.marathon.mesos", .type = SRV}, o);
    EXPECT_EQ(a.read.answers.size(), 3u);
    first.insert(a.read.answers.at(0));
  }
  EXPECT_EQ(first.size(), 3u);
}

TEST(Dns, DeniesWhatIsNotThereWithTheZonesSoa) {
  auto z = fibonacci(1);
  auto serial = std::to_string(z->serial);
  Lines soa{"mesos. SOA ns1.mesos. root.ns1.mesos. " + serial + " 60 600 86400 1"};
  auto unknown = answer(*z, {.name = "nobody.marathon.mesos"});
  EXPECT_EQ(unknown.read.rcode, LDNS_RCODE_NXDOMAIN);
  EXPECT_TRUE(unknown.read.aa);
  EXPECT_EQ(unknown.read.authority, soa);
  auto no_six = answer(*z, {.name = "fibonacci-service.marathon.mesos", .type = AAAA});
  EXPECT_EQ(no_six.read.rcode, 0);
  EXPECT_EQ(no_six.read.authority, soa);
  auto other_type = answer(*z, {.name = "fibonacci-service.marathon.mesos", .type = TXT});
  EXPECT_EQ(other_type.read.rcode, 0);
  EXPECT_EQ(other_type.read.authority, soa);
  auto inner = answer(*z, {.name = "_tcp.marathon.mesos"});  // something is below it
  EXPECT_EQ(inner.read.rcode, 0);
  EXPECT_EQ(inner.read.authority, soa);
  auto apex = answer(*z, {.name = "mesos"});
  EXPECT_EQ(apex.read.rcode, 0);
  EXPECT_EQ(apex.read.authority, soa);
}

TEST(Dns, AnUnknownServiceIsEmptyOrDeniedAsChosen) {
  auto a = answer(*fibonacci(1), {.name = "_nobody._tcp.marathon.mesos", .type = SRV});
  EXPECT_EQ(a.read.rcode, 0);
  EXPECT_EQ(a.read.authority.size(), 1u);
  ZoneOptions strict;
  strict.unknown_srv_is_noerror = false;
  EXPECT_EQ(answer(*fibonacci(1, strict), {.name = "_nobody._tcp.marathon.mesos", .type = SRV}).read.rcode, LDNS_RCODE_NXDOMAIN);
}

TEST(Dns, TheApexHasSoaAndNameServer) {
  auto z = fibonacci(1);
  EXPECT_EQ(answer(*z, {.name = "mesos", .type = SOA}).read.answers, Lines{"mesos. SOA ns1.mesos. root.ns1.mesos. " + std::to_string(z->serial) + " 60 600 86400 1"});
  auto ns = answer(*z, {.name = "mesos", .type = NS});
  EXPECT_EQ(ns.read.answers, Lines{"mesos. NS ns1.mesos."});
  EXPECT_EQ(ns.read.additional, Lines{"ns1.mesos. A 192.168.99.30"});
  auto any = answer(*z, {.name = "mesos", .type = ANY}, {.tcp = true});
  EXPECT_EQ(any.read.answers.size(), 2u);
  EXPECT_TRUE(any.read.authority.empty());
}

TEST(Dns, AnyIsEverythingThereIsOverTcpAlone) {
  auto z = fibonacci(2);
  EXPECT_EQ(answer(*z, {.name = "fibonacci-service.marathon.mesos", .type = ANY}, {.tcp = true}).read.answers.size(), 2u);
  auto any = answer(*z, {.name = "_leader._tcp.mesos", .type = ANY}, {.tcp = true});
  EXPECT_EQ(any.read.answers, Lines{"_leader._tcp.mesos. SRV 0 1 5050 leader.mesos."});
  EXPECT_EQ(any.read.additional, Lines{"leader.mesos. A 192.168.99.11"});
  EXPECT_EQ(answer(*z, {.name = "nobody.mesos", .type = ANY}).read.rcode, LDNS_RCODE_NXDOMAIN);
  for (auto name : {"fibonacci-service.marathon.mesos", "mesos"}) {
    auto packet = packet_of({.name = name, .type = ANY, .edns = 1232});
    auto by_udp = answer(*z, packet);
    EXPECT_TRUE(by_udp.read.tc && by_udp.read.answers.empty() && by_udp.read.rcode == 0) << name;
    EXPECT_LE(by_udp.bytes.size(), packet.size()) << "nothing is gained by asking with another's address";
  }
}

TEST(Dns, AStarLabelIsPassedOverAsMesosDnsDid) {
  auto z = fibonacci(1);
  EXPECT_EQ(answer(*z, {.name = "fibonacci-service.*.marathon.mesos"}).read.answers, Lines{"fibonacci-service.*.marathon.mesos. A 192.168.99.20"});
  EXPECT_EQ(answer(*z, {.name = "*.fibonacci-service.marathon.mesos"}).read.rcode, LDNS_RCODE_NXDOMAIN);
}

TEST(Dns, OtherPeoplesNamesAreForwardedOrRefused) {
  auto z = fibonacci(1);
  for (auto name : {"example.com", "notmesos", "mesos.example.com", "", "xmesos"}) {
    auto refused = answer(*z, {.name = name});
    EXPECT_EQ(refused.read.rcode, LDNS_RCODE_REFUSED) << name;
    EXPECT_FALSE(refused.read.aa || refused.read.ra);
    ReplyOptions o;
    o.recursion = true;
    EXPECT_EQ(answer(*z, {.name = name}, o).reply.action, Reply::Action::forward) << name;
  }
  ReplyOptions o;
  o.recursion = true;
  EXPECT_TRUE(answer(*z, {.name = "leader.mesos"}, o).read.ra);
  EXPECT_EQ(answer(*z, {.name = "example.com", .edns = 4096}, o).reply.limit, 4096u);
  EXPECT_EQ(answer(*z, {.name = "example.com"}, o).reply.limit, 512u);
}

TEST(Dns, ALabelThatHoldsTheZonesBytesIsNotInTheZone) {
  auto z = fibonacci(1);
  std::string name("\7a\5mesos", 8);  // one label: a, five, mesos
  std::string p;
  append16(p, 1), append16(p, 0), append16(p, 1), append16(p, 0), append16(p, 0), append16(p, 0);
  p += name;
  p.push_back('\0');
  append16(p, A), append16(p, 1);
  EXPECT_EQ(answer(*z, p).reply.rcode, Rcode::refused);
}

TEST(Dns, BeforeAnythingIsKnownNothingIsDenied) {
  ZoneBuilder b(ZoneOptions{});
  auto a = answer(*b.zone(), {.name = "leader.mesos"});
  EXPECT_EQ(a.read.rcode, LDNS_RCODE_SERVFAIL);
  EXPECT_FALSE(a.read.aa);
}

TEST(Dns, RefusesWhatItDoesNotDo) {
  auto z = fibonacci(1);
  EXPECT_EQ(answer(*z, {.name = "mesos", .type = AXFR}).read.rcode, LDNS_RCODE_REFUSED);
  EXPECT_EQ(answer(*z, {.name = "leader.mesos", .cls = 3}).read.rcode, LDNS_RCODE_REFUSED);
  EXPECT_EQ(answer(*z, {.name = "leader.mesos", .cls = 255}).read.rcode, 0);
  for (int opcode : {1, 2, 4, 5, 15}) {
    auto p = packet_of({.name = "leader.mesos"});
    p[2] = static_cast<char>(opcode << 3);
    auto a = answer(*z, p);
    EXPECT_EQ(a.reply.rcode, Rcode::notimp);
    EXPECT_EQ(a.bytes.size(), header_size);
    EXPECT_EQ(static_cast<unsigned char>(a.bytes[2]) >> 3 & 15, opcode);
  }
}

TEST(Dns, SizeAndTruncation) {
  auto z = fibonacci(40);
  Ask srv{.name = "_fibonacci-service._tcp.marathon.mesos", .type = SRV};
  auto plain = answer(*z, srv);
  ASSERT_TRUE(plain.read.ok);
  EXPECT_LE(plain.bytes.size(), 512u);
  EXPECT_TRUE(plain.read.tc);
  EXPECT_GE(plain.read.answers.size(), 6u);
  srv.edns = 4096;
  auto big = answer(*z, srv);
  EXPECT_LE(big.bytes.size(), udp_answer_max);
  EXPECT_TRUE(big.read.tc && big.read.edns);
  EXPECT_GT(big.read.answers.size(), plain.read.answers.size());
  EXPECT_EQ(big.read.edns_size, 1232);
  srv.edns = 100;  // less than 512 counts as 512
  EXPECT_EQ(answer(*z, srv).read.answers.size(), plain.read.answers.size());
  ReplyOptions tcp;
  tcp.tcp = true;
  auto whole = answer(*z, srv, tcp);
  EXPECT_FALSE(whole.read.tc);
  EXPECT_EQ(whole.read.answers.size(), 40u);
  EXPECT_EQ(whole.read.additional.size(), 40u);
}

TEST(Dns, GlueThatDoesNotFitIsLeftOutWithoutTruncation) {
  auto z = fibonacci(8);
  auto a = answer(*z, {.name = "_fibonacci-service._tcp.marathon.mesos", .type = SRV, .edns = 640});
  EXPECT_FALSE(a.read.tc);
  EXPECT_EQ(a.read.answers.size(), 8u);
  EXPECT_GT(a.read.additional.size(), 0u);
  EXPECT_LT(a.read.additional.size(), 8u);
  EXPECT_LE(a.bytes.size(), 640u);
}

TEST(Dns, AThousandInstancesByTcp) {
  auto z = fibonacci(1000);
  ReplyOptions tcp;
  tcp.tcp = true;
  tcp.turn = 77;
  auto a = answer(*z, {.name = "_fibonacci-service._tcp.marathon.mesos", .type = SRV, .edns = 1232}, tcp);
  ASSERT_TRUE(a.read.ok);
  EXPECT_LE(a.bytes.size(), message_max);
  EXPECT_TRUE(a.read.tc || a.read.answers.size() == 1000);
  EXPECT_GT(a.read.answers.size(), 900u);
}

TEST(Dns, EdnsIsAnsweredInKind) {
  auto z = fibonacci(1);
  auto a = answer(*z, {.name = "leader.mesos", .edns = 1400});
  EXPECT_TRUE(a.read.edns);
  EXPECT_EQ(a.read.extended, 0);
  auto newer = answer(*z, {.name = "leader.mesos", .edns = 1400, .edns_version = 1});
  EXPECT_TRUE(newer.read.edns);
  EXPECT_EQ(newer.read.extended, 1);  // BADVERS
  EXPECT_TRUE(newer.read.answers.empty());
  EXPECT_EQ(newer.reply.rcode, Rcode::badvers);
  auto refused = answer(*z, {.name = "example.com", .edns = 1400});
  EXPECT_TRUE(refused.read.edns);
}

TEST(Dns, MalformedQuestions) {
  auto z = fibonacci(1);
  auto good = packet_of({.name = "leader.mesos", .edns = 1232});
  auto code = [&](std::string p) {
    auto a = answer(*z, p);
    return a.reply.action == Reply::Action::send ? static_cast<int>(a.reply.rcode) : -1;
  };
  EXPECT_EQ(code(""), -1);
  EXPECT_EQ(code(good.substr(0, 11)), -1);
  EXPECT_EQ(code(good.substr(0, 12)), 1);
  auto reply = good;
  reply[2] = '\x80';
  EXPECT_EQ(code(reply), -1);
  for (std::size_t cut = 12; cut < good.size(); ++cut) EXPECT_EQ(code(good.substr(0, cut)), 1) << cut;
  EXPECT_EQ(code(good), 0);
  EXPECT_EQ(code(good + "trailing"), 0);
  auto none = good, two = good;
  none[5] = 0, two[5] = 2;
  EXPECT_EQ(code(none), 1);
  EXPECT_EQ(code(two), 1);
  auto pointer = good;
  pointer[12] = '\xc0', pointer[13] = '\x0c';  // to itself
  EXPECT_EQ(code(pointer), 1);
  auto reserved = good;
  reserved[12] = '\x46';
  EXPECT_EQ(code(reserved), 1);
  auto twice = good + good.substr(good.size() - 11);
  twice[11] = 2;
  EXPECT_EQ(code(twice), 1);
  auto many = good;
  many[10] = 1;  // 257 additional records
  EXPECT_EQ(code(many), 1);
  Ask longest{.name = std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') + "." + std::string(55, 'd') + ".mesos"};
  EXPECT_EQ(code(packet_of(longest)), 3);
  longest.name = "x." + longest.name;
  EXPECT_EQ(code(packet_of(longest)), 1);
}

TEST(Dns, ErrorRepliesCarryTheQuestionWhereItWasWhole) {
  auto p = packet_of({.name = "example.com"});
  auto r = read_answer(error_reply(p, Rcode::servfail, true));
  EXPECT_EQ(r.rcode, LDNS_RCODE_SERVFAIL);
  EXPECT_TRUE(r.ra && r.qr && r.rd);
  EXPECT_EQ(r.id, 0x1234);
  EXPECT_TRUE(read_answer(error_reply(p, Rcode::noerror, true, true)).tc);
  EXPECT_EQ(error_reply(p.substr(0, 20), Rcode::formerr, false).size(), header_size);
  EXPECT_EQ(error_reply("x", Rcode::formerr, false), "");
}

/// ldns as judge: whatever is asked in whatever way, the packet parses, and answers what the zone holds.
TEST(DnsAgainstLdns, RandomQuestionsOverARandomZone) {
  std::mt19937 dice(7);
  auto roll = [&](unsigned n) { return static_cast<unsigned>(dice() % n); };
  std::vector<catalog::Endpoint> all;
  for (int i = 0; i < 90; ++i) {
    auto e = endpoint("t.u" + std::to_string(i), "/g" + std::to_string(i % 5) + "/app" + std::to_string(i % 11), "c-S" + std::to_string(i % 9), static_cast<std::uint16_t>(31000 + i));
    e.ip = i % 4 ? "10.0.0." + std::to_string(i % 9) : "fd01::" + std::to_string(i % 9);
    e.ports[0].name = i % 3 ? "" : "web";
    e.ports[0].protocol = i % 5 ? Protocol::tcp : Protocol::both;
    all.push_back(e);
  }
  auto c = content_of(all);
  c.masters = {{"m", "10.0.0.1", 5050, true}};
  auto z = zone_of(c);
  std::vector<std::string> names;
  z->names.for_each([&](const Entry& e) { names.push_back(from_wire(e.name())); });
  names.push_back("nobody.mesos");
  std::map<std::string, Lines> held;
  for (const auto& name : names) held[name] = listed(*z, name);
  const std::uint16_t types[] = {A, AAAA, SRV, ANY, SOA, NS, TXT, 12, 15, 257};
  for (int i = 0; i < 250; ++i) {
    auto name = names[roll(static_cast<unsigned>(names.size()))];
    auto type = types[roll(10)];
    auto* question = ldns_dname_new_frm_str(name.c_str());
    auto* query = ldns_pkt_query_new(question, static_cast<ldns_rr_type>(type), LDNS_RR_CLASS_IN, roll(2) ? LDNS_RD : 0);
    ldns_pkt_set_id(query, static_cast<std::uint16_t>(roll(65536)));
    if (roll(2)) ldns_pkt_set_edns_udp_size(query, static_cast<std::uint16_t>(512 + roll(4000)));
    std::uint8_t* bytes = nullptr;
    std::size_t size = 0;
    ASSERT_EQ(ldns_pkt2wire(&bytes, query, &size), LDNS_STATUS_OK);
    ReplyOptions o;
    o.turn = roll(1000);
    o.tcp = roll(4) == 0;
    auto a = answer(*z, std::string_view(reinterpret_cast<char*>(bytes), size), o);
    ASSERT_TRUE(a.read.ok) << name << " " << type;
    ASSERT_EQ(a.read.id, ldns_pkt_id(query));
    ASSERT_EQ(a.read.edns, ldns_pkt_edns(query));
    const auto* entry = z->find(name);
    auto expected = held[name];
    std::erase_if(expected, [&](const std::string& l) {
      return type != ANY && !l.starts_with(type == A ? "A " : type == AAAA ? "AAAA " : type == SRV ? "SRV " : "?");
    });
    Lines got;
    for (const auto& line : a.read.answers) {
      auto words = split(line, ' ');
      ASSERT_EQ(words[0], name + ".");
      if (words[1] == "SRV") got.push_back(fmt::format("SRV {}:{}", words[5].substr(0, words[5].size() - 1), words[4]));
      else if (words[1] != "SOA" && words[1] != "NS") got.push_back(words[1] + " " + words[2]);
    }
    std::sort(got.begin(), got.end());
    if (a.read.tc) ASSERT_TRUE(std::includes(expected.begin(), expected.end(), got.begin(), got.end()));
    else ASSERT_EQ(got, expected) << name << " " << type;
    ASSERT_EQ(a.read.rcode, entry || type == SRV ? 0 : LDNS_RCODE_NXDOMAIN) << name << " " << type;
    for (const auto& line : a.read.additional) {
      auto words = split(line, ' ');
      const auto& of = held[words[0].substr(0, words[0].size() - 1)];
      ASSERT_TRUE(std::find(of.begin(), of.end(), words[1] + " " + words[2]) != of.end()) << line;
    }
    LDNS_FREE(bytes);
    ldns_pkt_free(query);
  }
}

/// Noise, and good questions with a few bytes turned: no crash, no answer beyond its limit, and every answer is a message.
TEST(DnsNoise, AnyBytesAreSurvived) {
  auto z = fibonacci(40);
  std::mt19937 dice(1);
  std::vector<std::string> seeds;
  for (auto type : {A, SRV, ANY, SOA})
    for (auto name : {"leader.mesos", "_fibonacci-service._tcp.marathon.mesos", "mesos", "example.com", "a.*.b.mesos"})
      seeds.push_back(packet_of({.name = name, .type = type, .edns = 1232}));
  for (int i = 0; i < 200'000; ++i) {
    std::string p;
    if (i % 4 == 0) {
      p.resize(dice() % 80);
      for (auto& c : p) c = static_cast<char>(dice());
      if (p.size() > 5) p[2] &= 0x01, p[4] = 0, p[5] = 1;
    } else {
      p = seeds[dice() % seeds.size()];
      for (unsigned k = 0; k <= dice() % 4; ++k) p[dice() % p.size()] = static_cast<char>(dice());
      if (dice() % 4 == 0) p.resize(dice() % (p.size() + 1));
    }
    std::array<char, udp_answer_max> out;
    ReplyOptions o;
    o.turn = static_cast<std::uint32_t>(dice());
    auto exact = std::make_unique<char[]>(p.size());  // so that a sanitizer sees a read beyond the end
    std::copy(p.begin(), p.end(), exact.get());
    auto r = reply_to({exact.get(), p.size()}, *z, o, out);
    if (r.action != Reply::Action::send) continue;
    ASSERT_GE(r.size, header_size);
    ASSERT_LE(r.size, r.limit);
    ASSERT_TRUE(std::equal(out.begin(), out.begin() + 2, p.begin()));
    ASSERT_NE(static_cast<unsigned char>(out[2]) & 0x80, 0);
    if (i % 16 == 0 && r.size > header_size) { ASSERT_TRUE(read_answer({out.data(), r.size}).ok); }
  }
}

}  // namespace
}  // namespace croft::discovery
