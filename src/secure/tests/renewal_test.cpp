#include "at.hpp"

#include <map>
#include <random>
#include <set>

#include "secure/join_token.hpp"

namespace croft::secure {
namespace {

using State = RenewalPlan::State;

Certificate certificate(std::string fingerprint = "f", Wall::duration life = 90 * day) { return {host("a"), "1", std::move(fingerprint), start(), start() + life}; }

TEST(Renewal, IsDueBetweenAThirdAndHalfOfTheLife) {
  std::map<Wall, int> times;
  for (int i = 0; i < 200; ++i) {
    auto plan = plan_renewal(certificate("f" + std::to_string(i)), start());
    EXPECT_EQ(plan.state, State::fresh);
    EXPECT_GE(plan.at, start() + 30 * day);
    EXPECT_LT(plan.at, start() + 45 * day);
    ++times[std::chrono::floor<std::chrono::days>(plan.at)];
  }
  EXPECT_GE(times.size(), 14u) << "two hundred hosts installed together renew on every day of the two weeks";
  EXPECT_EQ(plan_renewal(certificate("x"), start()).at, plan_renewal(certificate("x"), start() + 5 * day).at);
}

TEST(Renewal, ACertificateOfACaThatSignsNoMoreIsDueSoon) {
  std::set<Wall> times;
  for (int i = 0; i < 50; ++i) {
    auto plan = plan_renewal(certificate("f" + std::to_string(i)), start() + day, 0, Wall{}, start() + day, std::chrono::hours(1));
    EXPECT_GE(plan.at, start() + day);
    EXPECT_LE(plan.at, start() + day + std::chrono::hours(1));
    times.insert(plan.at);
  }
  EXPECT_GE(times.size(), 40u) << "not all hosts in one moment";
  EXPECT_EQ(plan_renewal(certificate(), start() + 80 * day, 0, Wall{}, start() + 80 * day).state, State::urgent) << "no later than it would have been";
}

TEST(Renewal, GetsUrgentAndNeverGivesUp) {
  auto c = certificate();
  EXPECT_EQ(plan_renewal(c, start() + 29 * day).state, State::fresh);
  EXPECT_EQ(plan_renewal(c, start() + 46 * day).state, State::due);
  EXPECT_EQ(plan_renewal(c, start() + 76 * day).state, State::urgent);
  auto late = plan_renewal(c, start() + 400 * day);
  EXPECT_EQ(late.state, State::expired);
  EXPECT_LE(late.at, start() + 400 * day);
}

TEST(Renewal, VainTriesWaitLongerUpToAnHour) {
  auto c = certificate();
  auto now = start() + 50 * day;
  Wall::duration before{};
  for (std::uint32_t failures = 1; failures < 40; ++failures) {
    auto wait = plan_renewal(c, now, failures, now).at - now;
    EXPECT_GE(wait, before);
    EXPECT_GE(wait, std::chrono::minutes(1));
    EXPECT_LE(wait, std::chrono::minutes(75));
    before = wait;
  }
  EXPECT_GE(before, std::chrono::minutes(60));
  EXPECT_EQ(plan_renewal(c, now, 5, now + 1000 * day).at, now) << "a clock that went back does not postpone it";
}

TEST(Renewal, OddDatesDoNotBreakIt) {
  auto c = certificate("f", -day);
  EXPECT_EQ(plan_renewal(c, start() + day).state, State::expired);
  EXPECT_EQ(plan_renewal(certificate("f", Wall::duration(0)), start()).state, State::expired);
}

TEST(Trust, RotationOverlaps) {
  TrustOptions options{7 * day, 3650 * day};
  auto trust = create_trust("c-1", start(), options).value();
  auto first = trust.authority().certificate_pem;
  note_issued(trust, start() + 90 * day);
  EXPECT_FALSE(advance(trust, start() + day, options));
  auto now = start() + 10 * day;
  ASSERT_TRUE(begin_rotation(trust, now, options));
  EXPECT_FAILS(begin_rotation(trust, now, options), Errc::conflict, "already");
  EXPECT_EQ(read_bundle(trust.bundle())->size(), 2u) << "announced";
  EXPECT_EQ(trust.authority().certificate_pem, first) << "and the old one goes on signing";
  EXPECT_FALSE(advance(trust, now + 6 * day, options));
  EXPECT_TRUE(advance(trust, now + 7 * day, options));
  EXPECT_NE(trust.authority().certificate_pem, first);
  EXPECT_TRUE(trust.generations[0].authority.key_pem.empty()) << "its key is of no use any more";
  EXPECT_EQ(read_bundle(trust.bundle())->size(), 2u);
  EXPECT_FALSE(advance(trust, start() + 90 * day, options));
  EXPECT_EQ(read_bundle(trust.bundle())->size(), 2u) << "what the old one signed still runs";
  EXPECT_TRUE(advance(trust, start() + 90 * day + Seconds(1), options));
  EXPECT_EQ(read_bundle(trust.bundle())->size(), 1u);
  EXPECT_NE(trust.bundle(), first);
}

TEST(Trust, ACaMayBeAnnouncedForAsLongAsIsWished) {
  auto trust = create_trust("c-1", start()).value();
  auto first = trust.authority().certificate_pem;
  note_issued(trust, start() + 90 * day);
  TrustOptions at_once;
  at_once.announce = Wall::duration(0);
  ASSERT_TRUE(begin_rotation(trust, start() + day, at_once));
  EXPECT_TRUE(advance(trust, start() + day)) << "whatever later calls are told";
  EXPECT_NE(trust.authority().certificate_pem, first);
  auto own = issued(trust.generations[1].authority, host("a"), start() + day).pem;
  EXPECT_TRUE(signed_by(own, trust.generations[1].authority.certificate_pem, start() + 2 * day));
  EXPECT_FALSE(signed_by(own, first, start() + 2 * day));
  // As an earlier build wrote it down.
  ASSERT_TRUE(begin_rotation(trust, start() + 10 * day));
  auto text = encode_trust(trust);
  auto at = text.rfind("\"signs_from\"");
  text.erase(at, text.find(',', at) + 1 - at);
  EXPECT_EQ(decode_trust(text).value().generations.back().signs_from, start() + 17 * day);
}

TEST(Trust, TooManyCasAreRefusedBeforeTheyCannotBeRead) {
  auto trust = create_trust("c-1", start()).value();
  TrustOptions at_once;
  at_once.announce = Wall::duration(0);
  auto now = start();
  while (trust.generations.size() < generations_max) {
    note_issued(trust, start() + 90 * day);
    ASSERT_TRUE(begin_rotation(trust, now += day, at_once));
    ASSERT_TRUE(advance(trust, now));
  }
  note_issued(trust, start() + 90 * day);
  EXPECT_FAILS(begin_rotation(trust, start() + 20 * day, at_once), Errc::conflict, "2030-04-01");
  EXPECT_TRUE(decode_trust(encode_trust(trust))) << "all that are there can be read";
  (void)advance(trust, start() + 91 * day);
  EXPECT_TRUE(begin_rotation(trust, start() + 91 * day, at_once)) << "once the old ones have gone";
}

TEST(Trust, AnAnnouncedCaCanBeMadeToSignSooner) {
  auto trust = create_trust("c-1", start()).value();
  note_issued(trust, start() + 90 * day);
  ASSERT_TRUE(begin_rotation(trust, start()));
  TrustOptions at_once;
  at_once.announce = Wall::duration(0);
  auto announced = trust.generations.back().authority.certificate_pem;
  ASSERT_TRUE(begin_rotation(trust, start() + day, at_once));
  EXPECT_TRUE(advance(trust, start() + day));
  EXPECT_EQ(trust.authority().certificate_pem, announced) << "the one that all know, and no third";
}

TEST(Trust, SurvivesItsRecordAtEveryStep) {
  TrustOptions options{7 * day, 3650 * day};
  auto trust = create_trust("c-1", start(), options).value();
  auto again = [&] {
    auto text = encode_trust(trust);
    auto read = decode_trust(text);
    ASSERT_TRUE(read) << read.error().context;
    EXPECT_EQ(encode_trust(*read), text);
    EXPECT_EQ(read->bundle(), trust.bundle());
    trust = std::move(*read);
  };
  again();
  note_issued(trust, start() + 90 * day);
  ASSERT_TRUE(begin_rotation(trust, start(), options));
  again();
  ASSERT_TRUE(advance(trust, start() + 7 * day, options));
  again();
  ASSERT_TRUE(advance(trust, start() + 91 * day, options));
  again();
}

TEST(Trust, DamagedRecordsAreRefused) {
  auto trust = create_trust("c-1", start()).value();
  auto good = encode_trust(trust);
  EXPECT_FAILS(decode_trust(""), Errc::corrupt, "CA");
  EXPECT_FAILS(decode_trust(good.substr(0, good.size() / 2)), Errc::corrupt, "CA");
  auto with = [&](std::string from, std::string to) {
    auto text = good;
    text.replace(text.find(from), from.size(), to);
    return decode_trust(text);
  };
  EXPECT_FAILS(with("\"format\":1", "\"format\":2"), Errc::invalid, "format 2");
  EXPECT_FAILS(with("\"signing\":0", "\"signing\":1"), Errc::corrupt, "signing");
  EXPECT_FAILS(with("\"signing\":0", "\"signing\":-1"), Errc::corrupt, "signing");
  EXPECT_FAILS(with("BEGIN PRIVATE KEY", "BEGIN PRIVATE KEX"), Errc::corrupt, "key");
  EXPECT_FAILS(with("BEGIN CERT", "BEGIN CERX"), Errc::corrupt, "CA");
  EXPECT_FAILS(with("\"made\":\"2030", "\"made\":\"20x0"), Errc::corrupt, "date");
  EXPECT_FAILS(decode_trust(std::string(2 << 20, ' ')), Errc::too_large, "bytes");
}

/// A farm's hosts and masters through time: a host asks by its plan, learns the bundle a while after it changed, is off now and then; at every
/// step each pair of hosts that are on must take each other's certificates.
struct Farm {
  struct Host {
    HostIdentity who;
    Issued cert;
    Certificate facts;
    std::string bundle;
    Wall bundle_at{};
    std::uint32_t failures = 0;
    Wall last_try{};
    Wall off_until{};
    bool broken = false;
  };
  TrustOptions options;
  Trust trust;
  Wall now = start();
  std::vector<Host> hosts;
  std::mt19937 dice{7};
  int renewals = 0;
  std::size_t turn = 0;

  Farm(TrustOptions o, int n) : options(o), trust(create_trust("c-1", start(), o).value()) {
    for (int i = 0; i < n; ++i) {
      Host h;
      h.who = host("h" + std::to_string(i), i < 3 ? std::vector{HostRole::master} : std::vector{HostRole::node});
      renew(h);
      h.bundle = trust.bundle();
      hosts.push_back(std::move(h));
    }
    renewals = 0;
  }
  void renew(Host& h) {
    h.cert = issued(trust.authority(), h.who, now);
    h.facts = read_certificate(h.cert.pem).value();
    note_issued(trust, h.facts.not_after);
    h.failures = 0;
    ++renewals;
  }
  [[nodiscard]] bool take_each_other(const Host& a, const Host& b) const {
    return verify_certificate(a.cert.pem, b.bundle, now, Use::client, {"c-1", a.who.host, a.who.roles[0]}) && verify_certificate(b.cert.pem, a.bundle, now, Use::server, {"c-1", b.who.host, b.who.roles[0]});
  }
  /// Pairs by turns: each host with another one at every step, and over the steps with all.
  bool all_take_each_other() {
    auto distance = 1 + ++turn % (hosts.size() - 1);
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      const auto &a = hosts[i], &b = hosts[(i + distance) % hosts.size()];
      if (!take_each_other(a, b)) return ADD_FAILURE() << to_iso8601(now) << " " << a.who.host << " " << b.who.host, false;
    }
    return true;
  }
  void step(std::chrono::hours by) {
    now += by;
    advance(trust, now, options);
    for (auto& h : hosts) {
      if (h.off_until > now) continue;
      h.bundle = trust.bundle();
      auto plan = plan_renewal(h.facts, now, h.failures, h.last_try);
      if (plan.at > now) continue;
      h.last_try = now;
      if (dice() % 3 == 0) ++h.failures;  // a master is away, the network is down
      else renew(h);
    }
  }
};

TEST(FourHundredDays, EveryHostIsTakenByTheOthersEveryDay) {
  Farm farm({7 * day, 3650 * day}, 4);
  bool rotated = false;
  while (farm.now < start() + 400 * day) {
    farm.step(std::chrono::hours(24));
    if (!rotated && farm.now > start() + 100 * day) rotated = begin_rotation(farm.trust, farm.now, farm.options).has_value();
    for (auto& h : farm.hosts)
      if (farm.dice() % 20 == 0) h.off_until = farm.now + 5 * day;  // shorter than the announcement
    ASSERT_TRUE(farm.all_take_each_other());
  }
  EXPECT_TRUE(rotated);
  EXPECT_EQ(farm.trust.generations.size(), 1u) << "the old CA has left";
  EXPECT_GE(farm.renewals, 4 * 8);
  EXPECT_LE(farm.renewals, 4 * 14);
}

TEST(FourHundredDays, ACaThatEndsIsFollowedByItself) {
  Farm farm({7 * day, 200 * day}, 3);
  auto first = farm.trust.authority().certificate_pem;
  while (farm.now < start() + 400 * day) {
    farm.step(std::chrono::hours(24));
    ASSERT_TRUE(farm.all_take_each_other());
  }
  EXPECT_NE(farm.trust.authority().certificate_pem, first);
  EXPECT_LE(farm.trust.generations.size(), 2u);
}

/// The bad twin: without renewal the same farm stops speaking on day 90, so the two above can fail.
TEST(FourHundredDays, WithoutRenewalItEndsAtDayNinety) {
  Farm farm({7 * day, 3650 * day}, 2);
  farm.now = start() + 89 * day;
  EXPECT_TRUE(farm.take_each_other(farm.hosts[0], farm.hosts[1]));
  farm.now = start() + 91 * day;
  EXPECT_FALSE(farm.take_each_other(farm.hosts[0], farm.hosts[1]));
}

/// And without the announcement a host that was off for a day would not know the CA that signs.
TEST(FourHundredDays, WithoutAnAnnouncementAHostThatWasOffIsLost) {
  Farm farm({Wall::duration(0), 3650 * day}, 2);
  farm.hosts[1].off_until = start() + 2 * day;
  ASSERT_TRUE(begin_rotation(farm.trust, farm.now, farm.options));
  farm.step(std::chrono::hours(1));
  farm.renew(farm.hosts[0]);
  EXPECT_FALSE(farm.take_each_other(farm.hosts[0], farm.hosts[1]));
}

const std::string key(32, 'k');

JoinToken token() { return {new_token_id(), read_bundle(create_trust("c-1", start())->bundle())->front().fingerprint, {HostRole::node, HostRole::balancer}, "", start() + day}; }

TEST(JoinToken, IsReadByTheHostAndVerifiedByTheMaster) {
  auto t = token();
  auto text = encode_join_token(t, key);
  ASSERT_TRUE(text);
  EXPECT_EQ(read_join_token(*text).value(), t);
  EXPECT_EQ(read_join_token(" " + *text + "\n").value(), t);
  EXPECT_EQ(verify_join_token(*text, key, start()).value(), t);
  EXPECT_TRUE(check_join(t, host("web1")));
  EXPECT_TRUE(check_join(t, host("web1", {HostRole::node, HostRole::balancer})));
}

TEST(JoinToken, GivesNoMoreThanItSays) {
  auto t = token();
  EXPECT_FAILS(check_join(t, host("web1", {HostRole::master})), Errc::forbidden, "does not give the role master");
  EXPECT_FAILS(check_join(t, host("web1", {HostRole::node, HostRole::log})), Errc::forbidden, "log");
  EXPECT_FAILS(check_join(t, host("web1", {})), Errc::forbidden, "ask for a role");
  t.host = "web2";
  EXPECT_FAILS(check_join(t, host("web1")), Errc::forbidden, "for host web2");
}

TEST(JoinToken, ExpiredForgedOrTamperedIsRefused) {
  auto text = encode_join_token(token(), key).value();
  EXPECT_FAILS(verify_join_token(text, key, start() + day), Errc::forbidden, "expired");
  EXPECT_FAILS(verify_join_token(text, std::string(32, 'x'), start()), Errc::forbidden, "not of this cluster");
  EXPECT_FAILS(verify_join_token(text, "", start()), Errc::invalid, "32 bytes");
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto bad = text;
    bad[i] = bad[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(verify_join_token(bad, key, start())) << i;
    EXPECT_FALSE(verify_join_token(text.substr(0, i), key, start())) << i;
  }
}

TEST(JoinToken, AbsurdOnesAreRefusedBeforeTheyAreRead) {
  EXPECT_FAILS(verify_join_token("croft-join-1." + std::string(1 << 20, 'A') + ".AAAA", key, start()), Errc::too_large, "1024");
  for (const char* text : {"", ".", "croft-join-1.", "croft-join-1..", "croft-join-1.AAAA", "croft-join-2.AAAA.AAAA", "croft_00"}) {
    EXPECT_FALSE(verify_join_token(text, key, start())) << text;
    EXPECT_FALSE(read_join_token(text)) << text;
  }
  auto t = token();
  t.id = "short";
  EXPECT_FAILS(encode_join_token(t, key), Errc::invalid, "id");
  t = token(), t.ca_fingerprint = "ff";
  EXPECT_FAILS(encode_join_token(t, key), Errc::invalid, "hash");
  t = token(), t.roles.clear();
  EXPECT_FAILS(encode_join_token(t, key), Errc::invalid, "roles");
  t = token(), t.host = "A B";
  EXPECT_FAILS(encode_join_token(t, key), Errc::invalid, "host");
}

}  // namespace
}  // namespace croft::secure
