#include "at.hpp"

#include "secure/access.hpp"
#include "secure/bytes.hpp"
#include "secure/password.hpp"

namespace croft::secure {
namespace {

Principal with(std::vector<std::string> grants) {
  Principal p{Principal::Kind::user, "ann", {}, {}, {}};
  for (const auto& g : grants) p.grants.push_back(parse_grant(g).value());
  return p;
}

bool may(const Principal& who, Verb verb, Kind kind, std::string path = "") { return authorize(who, verb, {kind, std::move(path)}).allowed; }

TEST(Access, NobodyMayAnythingByDefault) {
  Principal nobody;
  for (auto verb : {Verb::see, Verb::change, Verb::administer})
    for (auto kind : {Kind::about, Kind::app, Kind::exec, Kind::secret, Kind::farm, Kind::access, Kind::audit}) {
      EXPECT_FALSE(may(nobody, verb, kind, "/a"));
      EXPECT_FALSE(may(principal_of(host("m", {HostRole::master})), verb, kind, "/a")) << "a host is no user";
      EXPECT_EQ(may(with({}), verb, kind, "/a"), kind == Kind::about && verb == Verb::see);
    }
}

TEST(Access, TableOfLevels) {
  struct Row { Verb verb; Kind kind; bool viewer, operator_, admin; };
  for (const auto& row : std::vector<Row>{
           {Verb::see, Kind::app, true, true, true},      {Verb::change, Kind::app, false, true, true},     {Verb::administer, Kind::app, false, false, true},
           {Verb::see, Kind::exec, false, false, false},  {Verb::change, Kind::exec, false, true, true},    {Verb::see, Kind::secret, false, true, true},
           {Verb::change, Kind::secret, false, false, true}, {Verb::see, Kind::farm, true, true, true},     {Verb::change, Kind::farm, false, false, true},
           {Verb::see, Kind::access, false, false, true}, {Verb::change, Kind::access, false, false, true}, {Verb::see, Kind::audit, false, false, true},
           {Verb::change, Kind::audit, false, false, false}, {Verb::change, Kind::about, false, false, false}}) {
    EXPECT_EQ(may(with({"viewer"}), row.verb, row.kind, "/a"), row.viewer) << int(row.verb) << " " << int(row.kind);
    EXPECT_EQ(may(with({"operator"}), row.verb, row.kind, "/a"), row.operator_) << int(row.verb) << " " << int(row.kind);
    EXPECT_EQ(may(with({"admin"}), row.verb, row.kind, "/a"), row.admin) << int(row.verb) << " " << int(row.kind);
  }
}

TEST(Access, AGroupIsAPathNotAPrefixOfLetters) {
  auto ann = with({"operator:/service"});
  for (const char* path : {"/service", "/service/", "/service/web", "//service//web", "/service/a/b/c"}) EXPECT_TRUE(may(ann, Verb::change, Kind::app, path)) << path;
  for (const char* path : {"/", "/services", "/service2/web", "/Service", "/other", "service/web", "", "/service/../other", "/service/./web", "/service/..", "/service%2fweb", "/service/a b", "/service\\web",
                           "/service/\nx"})
    EXPECT_FALSE(may(ann, Verb::change, Kind::app, path)) << path;
  EXPECT_FALSE(may(ann, Verb::change, Kind::app, "/service/" + std::string(2000, 'a')));
  EXPECT_FALSE(may(ann, Verb::see, Kind::farm)) << "rights on a group are none on the farm";
  EXPECT_FALSE(may(ann, Verb::see, Kind::app, "/"));
}

TEST(Access, TheHighestOfSeveralGrantsCounts) {
  auto ann = with({"viewer", "operator:/service", "admin:/service/db"});
  EXPECT_TRUE(may(ann, Verb::see, Kind::app, "/x"));
  EXPECT_FALSE(may(ann, Verb::change, Kind::app, "/x"));
  EXPECT_TRUE(may(ann, Verb::change, Kind::app, "/service/web"));
  EXPECT_FALSE(may(ann, Verb::administer, Kind::app, "/service/web"));
  EXPECT_TRUE(may(ann, Verb::administer, Kind::app, "/service/db/one"));
  EXPECT_FALSE(may(ann, Verb::change, Kind::access));
  EXPECT_TRUE(may(ann, Verb::see, Kind::audit, "/service/db"));
  EXPECT_FALSE(may(ann, Verb::see, Kind::audit));
}

TEST(Access, ReasonsSayWhoWhatAndWhatIsMissing) {
  EXPECT_EQ(authorize(with({"viewer:/service"}), Verb::change, {Kind::app, "/service/web"}).reason, "user ann is viewer of /service/web; changing app /service/web needs operator");
  EXPECT_EQ(authorize(with({}), Verb::see, {Kind::app, "/a"}).reason, "user ann has no rights on /a; seeing app /a needs viewer");
  EXPECT_EQ(authorize(Principal{}, Verb::see, {Kind::about, ""}).reason, "a login is needed");
}

TEST(Access, ListsShowWhatMayBeSeenAndTheWayToIt) {
  ViewFilter filter(with({"viewer:/a/b"}));
  EXPECT_TRUE(filter.shows("/a/b"));
  EXPECT_TRUE(filter.shows("/a/b/c"));
  EXPECT_FALSE(filter.shows("/a"));
  EXPECT_FALSE(filter.shows("/a/bc"));
  EXPECT_TRUE(filter.leads_to("/"));
  EXPECT_TRUE(filter.leads_to("/a"));
  EXPECT_FALSE(filter.leads_to("/x"));
  EXPECT_FALSE(filter.everything());
  EXPECT_FALSE(filter.shows("/a/b/../../x"));
  EXPECT_TRUE(ViewFilter(with({"viewer"})).everything());
  EXPECT_TRUE(ViewFilter(with({"viewer"})).shows("/x"));
  EXPECT_FALSE(ViewFilter(with({})).shows("/x"));
  EXPECT_FALSE(ViewFilter(with({})).leads_to("/"));
  EXPECT_FALSE(ViewFilter(Principal{}).leads_to("/"));
}

/// What is shown and what may be seen are two functions: they must agree on every path.
TEST(Access, FilterAgreesWithAuthorize) {
  std::vector<std::string> paths{"/"};
  for (std::size_t i = 0; i < paths.size() && paths.size() < 200; ++i)
    for (const char* name : {"a", "b", "ab"}) paths.push_back((paths[i] == "/" ? "" : paths[i]) + "/" + name);
  for (const auto& grants : std::vector<std::vector<std::string>>{{}, {"viewer"}, {"viewer:/a"}, {"operator:/a/b", "viewer:/ab"}, {"admin:/b/a/ab"}, {"viewer:/a", "admin:/a/b/a"}}) {
    auto ann = with(grants);
    ViewFilter filter(ann);
    for (const auto& path : paths) EXPECT_EQ(filter.shows(path), may(ann, Verb::see, Kind::app, path)) << path;
  }
}

TEST(Access, HostsSpeakForThemselvesOnly) {
  auto node = host("web1"), master = host("m1", {HostRole::master}), dns = host("d", {HostRole::dns});
  auto ok = [](const HostIdentity& who, Link link, const char* claimed = "", const char* cluster = "c-1") { return authorize_link(who, cluster, link, claimed).allowed; };
  EXPECT_TRUE(ok(node, Link::agent, "web1"));
  EXPECT_FALSE(ok(node, Link::agent, "web2")) << "an agent cannot report for another";
  EXPECT_FALSE(ok(node, Link::agent, ""));
  EXPECT_FALSE(ok(node, Link::agent, "web1", "c-2"));
  EXPECT_FALSE(ok(node, Link::agent, "web1", ""));
  EXPECT_FALSE(ok(dns, Link::agent, "d"));
  EXPECT_FALSE(ok(master, Link::agent, "m1"));
  EXPECT_TRUE(ok(master, Link::proxy));
  EXPECT_FALSE(ok(node, Link::proxy));
  EXPECT_TRUE(ok(master, Link::store_values));
  for (auto role : {HostRole::node, HostRole::balancer, HostRole::dns, HostRole::log}) EXPECT_FALSE(ok(host("x", {role}), Link::store_values));
  EXPECT_TRUE(ok(dns, Link::catalog));
  EXPECT_TRUE(ok(node, Link::log_write, "web1"));
  EXPECT_FALSE(ok(node, Link::log_write, "web2"));
  EXPECT_FALSE(ok(node, Link::log_read));
  EXPECT_TRUE(ok(node, Link::renew, "web1"));
  EXPECT_FALSE(ok(node, Link::renew, "m1"));
  EXPECT_FALSE(ok(node, Link::renew));
}

TEST(Grants, AreReadAndPrinted) {
  EXPECT_EQ(parse_grant("admin").value(), (Grant{Level::admin, "/"}));
  EXPECT_EQ(parse_grant("operator:/service/").value(), (Grant{Level::operator_, "/service"}));
  EXPECT_EQ(to_string(parse_grant("viewer:/a/b").value()), "viewer:/a/b");
  for (const char* bad : {"", "root", "admin:", "admin:service", "Admin", "operator:/a/../b", "viewer :/a"}) EXPECT_FAILS(parse_grant(bad), Errc::invalid, "grant");
}

User user(std::string name, std::vector<std::string> grants) {
  static const std::string record = hash_password("correct horse", {4, 1, 1});
  return {std::move(name), record, with(std::move(grants)).grants, start(), "user root"};
}

TEST(Accounts, RecordsGoOutAndBack) {
  auto u = user("ann", {"viewer", "operator:/service"});
  auto read = decode_user(encode_user(u));
  ASSERT_TRUE(read) << read.error().context;
  EXPECT_EQ(read->name, "ann");
  EXPECT_EQ(read->grants, u.grants);
  EXPECT_EQ(read->password, u.password);
  EXPECT_EQ(read->created, start());
  auto secret = new_bearer_token();
  Token t{secret.id, secret.digest, "ci \"main\"", with({"admin"}).grants, start(), start() + day, "user ann"};
  auto token = decode_token(encode_token(t));
  ASSERT_TRUE(token) << token.error().context;
  EXPECT_EQ(token->label, t.label);
  EXPECT_EQ(token->expires, t.expires);
  EXPECT_EQ(encode_token(t).find(secret.text), std::string::npos) << "what is stored is no token";
  t.expires = Wall::max();
  EXPECT_EQ(decode_token(encode_token(t))->expires, Wall::max());
}

TEST(Accounts, DamagedRecordsAreRefusedWholly) {
  auto good = encode_user(user("ann", {"viewer"}));
  auto put = [&](std::string from, std::string to) {
    auto text = good;
    auto at = text.find(from);
    if (at == std::string::npos) return ADD_FAILURE() << from, decode_user("");
    text.replace(at, from.size(), to);
    return decode_user(text);
  };
  EXPECT_FAILS(put("\"format\":1", "\"format\":2"), Errc::invalid, "format 2");
  EXPECT_FAILS(put("\"name\":\"ann\"", "\"name\":\"a/b\""), Errc::corrupt, "name");
  EXPECT_FAILS(put("$scrypt$ln=4", "$scrypt$ln=31"), Errc::corrupt, "password record");
  EXPECT_FAILS(put("$scrypt", "$plain"), Errc::corrupt, "password record");
  EXPECT_FAILS(put("viewer:/", "owner:/"), Errc::corrupt, "grant");
  EXPECT_FAILS(put("\"viewer:/\"", "7"), Errc::corrupt, "grant");
  EXPECT_FAILS(put("2030-01", "2030-41"), Errc::corrupt, "created");
  EXPECT_FAILS(decode_user(good.substr(0, 40)), Errc::corrupt, "JSON");
  EXPECT_FAILS(decode_user(std::string(1 << 20, ' ')), Errc::too_large, "bytes");
  EXPECT_FALSE(decode_token(good));
  EXPECT_FAILS(Accounts::load({{"users/bob", good}}, {}), Errc::corrupt, "users/bob: holds the record of ann");
}

TEST(Accounts, RightsOfNow) {
  auto accounts = Accounts().with(User{"ann", "", with({"operator:/service"}).grants, start(), ""})->with(Token{"00ff00ff00ff00ff", "", "login of ann", with({"viewer:/"}).grants, start(), start() + day, ""});
  auto ann = principal_of(*accounts->user("ann")), token = principal_of(*accounts->token("00ff00ff00ff00ff"));
  EXPECT_EQ(accounts->present(ann, start())->grants, ann.grants);
  auto less = accounts->with(User{"ann", "", with({"viewer:/service"}).grants, start(), ""});
  EXPECT_EQ(less->present(ann, start())->grants, with({"viewer:/service"}).grants);
  EXPECT_FALSE(less->without_user("ann")->present(ann, start()));
  EXPECT_TRUE(accounts->present(token, start()));
  EXPECT_FALSE(accounts->present(token, start() + day)) << "it has ended";
  EXPECT_FALSE(accounts->without_token("00ff00ff00ff00ff")->present(token, start()));
  EXPECT_TRUE(Accounts().present(principal_of(host("web1")), start())) << "hosts are judged by their certificates";
  EXPECT_EQ(account_of(token.str()), "user ann");
  EXPECT_EQ(account_of("token 00ff00ff00ff00ff (ci)"), "token 00ff00ff00ff00ff (ci)");
  EXPECT_EQ(account_of("user ann"), "user ann");
}

TEST(Accounts, S3_ARevokedHostsCertificatesAreVoidUntilItJoinsAnew) {
  auto ca = create_authority("c-1", start()).value();
  auto of = [&](const char* name, Wall when) { return read_certificate(issued(ca, host(name), when).pem).value(); };
  Revocation r{"web1", start() + day, "user ann"};
  auto accounts = Accounts::load({}, {}, {{"revoked/web1", encode_revocation(r)}}).value();
  EXPECT_TRUE(accounts->revoked(of("web1", start())));
  EXPECT_TRUE(accounts->revoked(of("web1", start() + day))) << "of that very second";
  EXPECT_FALSE(accounts->revoked(of("web1", start() + day + std::chrono::seconds(1))));
  EXPECT_FALSE(accounts->revoked(of("web2", start())));
  EXPECT_FALSE(Accounts().revoked(of("web1", start())));
  auto again = decode_revocation(encode_revocation(r)).value();
  EXPECT_EQ(std::tie(again.host, again.before, again.by), std::tie(r.host, r.before, r.by));
  EXPECT_FAILS(Accounts::load({}, {}, {{"revoked/web2", encode_revocation(r)}}), Errc::corrupt, "revoked/web2: holds the record of web1");
  EXPECT_FAILS(decode_revocation(R"({"format":1,"host":"web1","before":"yesterday"})"), Errc::corrupt, "before");
  EXPECT_FAILS(decode_revocation(R"({"format":1,"host":"../x","before":"2030-01-01T00:00:00.000Z"})"), Errc::corrupt, "host");
}

TEST(Accounts, BearerTokensAreKnownByTheirHash) {
  auto secret = new_bearer_token(), other = new_bearer_token();
  EXPECT_NE(secret.text, other.text);
  Token t{secret.id, secret.digest, "ci", with({"viewer"}).grants, start(), start() + day, {}};
  auto accounts = Accounts().with(t);
  auto who = accounts->bearer(secret.text, start());
  ASSERT_TRUE(who);
  EXPECT_EQ(who->str(), "token " + secret.id + " (ci)");
  EXPECT_EQ(who->grants, t.grants);
  EXPECT_FAILS(accounts->bearer(secret.text, start() + day), Errc::forbidden, "expired");
  EXPECT_FAILS(accounts->bearer(other.text, start()), Errc::forbidden, "not known");
  auto forged = secret.text.substr(0, 23) + other.text.substr(23);  // the right id, another's secret
  EXPECT_FAILS(accounts->bearer(forged, start()), Errc::forbidden, "not known");
  for (std::size_t i = 0; i < secret.text.size(); ++i) {
    EXPECT_FALSE(accounts->bearer(secret.text.substr(0, i), start()));
    auto bad = secret.text;
    bad[i] = bad[i] == 'a' ? 'b' : 'a';
    EXPECT_FALSE(accounts->bearer(bad, start())) << i;
  }
  EXPECT_FALSE(accounts->bearer(std::string(1 << 20, 'a'), start()));
  EXPECT_FALSE(accounts->bearer(secret.digest, start())) << "the stored hash is no token";
  EXPECT_FALSE(accounts->without_token(secret.id)->bearer(secret.text, start())) << "revoked";
}

TEST(Accounts, TheLastAdminIsSeen) {
  auto accounts = Accounts().with(user("ann", {"admin"}))->with(user("bob", {"admin:/service"}));
  EXPECT_TRUE(accounts->admin_without("bob", "", start()));
  EXPECT_FALSE(accounts->admin_without("ann", "", start()));
  auto secret = new_bearer_token();
  accounts = accounts->with(Token{secret.id, secret.digest, "", with({"admin"}).grants, start(), start() + day, {}});
  EXPECT_TRUE(accounts->admin_without("ann", "", start()));
  EXPECT_FALSE(accounts->admin_without("ann", "", start() + day)) << "an expired token is nobody";
  EXPECT_FALSE(accounts->admin_without("ann", secret.id, start()));
}

TEST(Passwords, AreKeptAsWhatTheyCost) {
  auto record = hash_password("correct horse", {10, 8, 1});
  EXPECT_TRUE(record.starts_with("$scrypt$ln=10,r=8,p=1$")) << record;
  EXPECT_TRUE(password_matches(record, "correct horse").value());
  EXPECT_FALSE(password_matches(record, "correct horsf").value());
  EXPECT_FALSE(password_matches(record, "").value());
  EXPECT_FALSE(password_matches(record, std::string(1 << 20, 'x')).value());
  EXPECT_NE(hash_password("correct horse", {10, 8, 1}), record) << "salted";
  EXPECT_TRUE(password_matches(hash_password("correct horse"), "correct horse").value());
}

/// Made with Python's hashlib.scrypt: another implementation's words on what the record means.
TEST(Passwords, RecordAgreesWithAnotherImplementation) {
  std::string record = "$scrypt$ln=10,r=8,p=2$MDEyMzQ1Njc4OWFiY2RlZg$I4YuHpx_6xJJ4-sk74hQU-KhW--gPE8aHzXbHijxgzg";
  EXPECT_TRUE(password_matches(record, "correct horse").value());
  EXPECT_FALSE(password_matches(record, "correct horses").value());
}

TEST(Passwords, AbsurdRecordsAreRefusedBeforeAnyWork) {
  auto record = hash_password("correct horse", {4, 1, 1});
  auto tail = record.substr(record.find('$', 10));
  for (const char* cost : {"ln=30,r=8,p=1", "ln=20,r=32,p=16", "ln=18,r=8,p=1", "ln=4,r=0,p=1", "ln=-4,r=8,p=1", "ln=4,r=8", "ln=4,r=8,p=1,x=1", "ln=4,r=8,p=99999999999999999999", "r=8,ln=4,p=1"})
    EXPECT_FAILS(password_matches(std::string("$scrypt$") + cost + tail, "x"), Errc::corrupt, "record");
  for (const auto& bad : {std::string(), std::string("$"), record.substr(1), record.substr(0, record.size() - 1), record + "$", std::string(300, '$')}) EXPECT_FAILS(check_password_record(bad), Errc::corrupt, "record");
}

TEST(Passwords, NewOnesHaveBounds) {
  EXPECT_TRUE(check_new_password("12345678"));
  EXPECT_TRUE(check_new_password("pässwörter sind lang"));
  for (const auto& bad : {std::string("1234567"), std::string(257, 'a'), std::string("1234567\n"), std::string("1234567\0", 8)}) EXPECT_FAILS(check_new_password(bad), Errc::invalid, "password");
}

}  // namespace
}  // namespace croft::secure
