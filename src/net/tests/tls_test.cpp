// TLS between real sockets on loopback.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <random>

#include "base/files.hpp"
#include "net/async.hpp"
#include "net/http_client.hpp"
#include "secure/authority.hpp"
#include "secure/bytes.hpp"
#include "wire.hpp"

namespace croft::net {
namespace {

using secure::HostRole;

Wall now() { return system_now().wall; }

const secure::Authority& ca() {
  static const auto made = secure::create_authority("c-1", now()).value();
  return made;
}
const secure::Authority& other_ca() {
  static const auto made = secure::create_authority("c-1", now()).value();
  return made;
}

struct Given {
  std::string host = "web1";
  std::vector<HostRole> roles{HostRole::node};
  Wall issued = now();
  const secure::Authority* by = &ca();
  std::vector<std::string> names{"127.0.0.1", "localhost"};
};

TlsIdentity identity(Given g = {}) {
  auto made = secure::make_key_and_request();
  return {secure::issue(*g.by, made.request_pem, {{"c-1", g.host, g.roles}, g.names}, g.issued).value(), made.key_pem};
}

/// A server behind TLS and a client, each with a certificate of its own unless told otherwise.
class Tls : public ::testing::Test {
 protected:
  void serve(TlsServerOptions tls = {}, ServerOptions options = {}) {
    if (tls.identity.certificate_pem.empty()) tls.identity = identity({.host = "m1", .roles = {HostRole::master}});
    if (tls.bundle.empty()) tls.bundle = ca().certificate_pem;
    auto made = TlsServer::make(std::move(tls));
    ASSERT_TRUE(made) << made.error().context;
    tls_ = *made;
    Router router;
    auto seen = [this](Request r) -> asio::awaitable<Response> {
      ++calls_;
      co_return Response::text(fmt::format("{} {} {}", r.tls, r.certificate ? r.certificate->identity.str() : "nobody", r.body.size()));
    };
    auto large = [](Request r) -> asio::awaitable<Response> { co_return Response::text(std::string(static_cast<std::size_t>(to_int(r.query.get("n").value()).value()), 'x')); };
    auto feed = [this](Request) -> asio::awaitable<Response> {
      Response out;
      out.stream = [this](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
        for (int i = 0; i < 3; ++i) (void)co_await w->write(fmt::format("line {}\n", i));
        while (!w->closed() && !feed_ends_) co_await sleep_for(Ms(5));
        feed_saw_end_ = w->closed();
      };
      co_return out;
    };
    router.on("*", "/seen", seen);
    router.on("GET", "/large", large);
    router.on("GET", "/feed", feed);
    router.body_limit("/seen", 64u << 20);
    server_ = std::make_unique<HttpServer>(loop_.executor(), std::make_shared<const Router>(std::move(router)), options);
    auto port = server_->listen_tls("127.0.0.1", 0, tls_);
    ASSERT_TRUE(port) << port.error().context;
    port_ = *port;
  }
  void TearDown() override {
    feed_ends_ = true;
    if (server_) loop_.run(server_->stop(Ms(200)));
  }
  Origin to(TlsClientOptions client = {}, secure::Expectation expect = {"c-1", "m1", HostRole::master}) {
    if (client.bundle.empty()) client.bundle = ca().certificate_pem;
    return {"127.0.0.1", port_, "", TlsClient::make(std::move(client)).value(), std::move(expect)};
  }
  Origin to_with_certificate(Given g = {}) { return to({.bundle = ca().certificate_pem, .identity = identity(std::move(g))}); }
  Result<Response> ask(const Origin& origin, std::string target = "/seen") {
    HttpClient client(loop_.executor());
    return loop_.run(client.get(origin, std::move(target)));
  }
  bool all_gone() {
    return comes_true([&] { return server_->connections() == 0; });
  }
  Loop loop_;
  std::shared_ptr<TlsServer> tls_;
  std::unique_ptr<HttpServer> server_;
  std::uint16_t port_ = 0;
  std::atomic<int> calls_{0};
  std::atomic<bool> feed_ends_{false}, feed_saw_end_{false};
};

#define EXPECT_REFUSED(result, wanted_code, words)                                             \
  do {                                                                                         \
    auto&& result_ = (result);                                                                 \
    ASSERT_FALSE(result_.has_value()) << result_->status << " " << result_->body;              \
    EXPECT_EQ(to_string(result_.error().code), to_string(wanted_code)) << result_.error().context; \
    EXPECT_NE(result_.error().context.find(words), std::string::npos) << result_.error().context;  \
  } while (false)

TEST_F(Tls, HandlersSeeWhoAsks) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}});
  auto answer = ask(to_with_certificate({.host = "web1", .roles = {HostRole::node, HostRole::dns}}));
  ASSERT_TRUE(answer) << answer.error().context;
  EXPECT_EQ(answer->body, "true host web1 (node, dns) 0");
}

TEST_F(Tls, ConnectionsAreKeptAndReleased) {
  serve();
  HttpClient client(loop_.executor());
  auto origin = to();
  for (int i = 0; i < 5; ++i) ASSERT_EQ(loop_.run(client.get(origin, "/seen"))->body, "true nobody 0");
  EXPECT_EQ(server_->connections(), 1u);
  auto picky = origin;
  picky.expect.host = "m2";
  EXPECT_REFUSED(loop_.run(client.get(picky, "/seen")), Errc::forbidden, "is not m2");
  EXPECT_EQ(calls_, 5) << "one that expects somebody else gets no connection of another's";
}

TEST_F(Tls, LargeBodiesGoBothWays) {
  serve();
  for (std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{16'383}, std::size_t{16'384}, std::size_t{16'385}, std::size_t{5'000'000}}) {
    auto answer = ask(to(), "/large?n=" + std::to_string(n));
    ASSERT_TRUE(answer) << answer.error().context;
    EXPECT_EQ(answer->body, std::string(n, 'x'));
    HttpClient client(loop_.executor());
    auto up = loop_.run(client.post(to(), "/seen", std::string(n, 'y')));
    ASSERT_TRUE(up) << up.error().context;
    EXPECT_EQ(up->body, "true nobody " + std::to_string(n));
  }
}

TEST_F(Tls, StreamsRunAndTheirEndIsSeen) {
  serve();
  HttpClient client(loop_.executor());
  Request what;
  what.method = "GET";
  what.target = "/feed";
  auto reader = loop_.run(client.open(to(), what, {}));
  ASSERT_TRUE(reader) << reader.error().context;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(loop_.run((*reader)->read_line()).value().value(), fmt::format("line {}", i));
  reader->reset();
  EXPECT_TRUE(comes_true([&] { return feed_saw_end_.load(); })) << "the writer learns that nobody reads";
  EXPECT_TRUE(all_gone());
}

TEST_F(Tls, UploadsInPieces) {
  serve();
  HttpClient client(loop_.executor());
  auto left = std::make_shared<int>(100);
  Request what;
  what.method = "POST";
  what.target = "/seen";
  BodySource body = [left]() -> asio::awaitable<Result<std::string>> {
    if ((*left)-- <= 0) co_return std::string();
    co_return std::string(10'000, 'z');
  };
  auto answer = loop_.run(client.upload(to(), what, body, {}));
  ASSERT_TRUE(answer) << answer.error().context;
  EXPECT_EQ(answer->body, "true nobody 1000000");
}

TEST_F(Tls, ManyAtOnce) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}});
  auto origin = to_with_certificate();
  HttpClient client(loop_.executor(), {.keep_alive = false});
  std::atomic<int> good{0}, done{0};
  auto one = [&]() -> asio::awaitable<void> {
    for (int i = 0; i < 5; ++i) {
      auto answer = co_await client.get(origin, "/large?n=40000");
      if (answer && answer->body.size() == 40'000) ++good;
    }
    ++done;
  };
  for (int i = 0; i < 30; ++i) spawn(loop_.executor(), "one", one());
  EXPECT_TRUE(comes_true([&] { return done == 30; }, Ms(20'000)));
  EXPECT_EQ(good, 150);
}

TEST_F(Tls, AServerOfAnotherCaIsNotSpokenTo) {
  serve();
  EXPECT_REFUSED(ask(to({.bundle = other_ca().certificate_pem, .identity = {}})), Errc::forbidden, "no CA that is trusted here");
  EXPECT_EQ(calls_, 0);
  EXPECT_TRUE(all_gone());
}

TEST_F(Tls, AnExpiredServerIsNotSpokenTo) {
  serve({.identity = identity({.host = "m1", .roles = {HostRole::master}, .issued = now() - secure::certificate_life - std::chrono::hours(1)})});
  EXPECT_REFUSED(ask(to()), Errc::forbidden, "expired");
  EXPECT_EQ(calls_, 0);
}

TEST_F(Tls, AServerOfAnotherRoleHostOrClusterIsNotSpokenTo) {
  serve();
  EXPECT_REFUSED(ask(to({}, {"c-1", "m1", HostRole::log})), Errc::forbidden, "has not the role log");
  EXPECT_REFUSED(ask(to({}, {"c-1", "m2", HostRole::master})), Errc::forbidden, "is not m2");
  EXPECT_REFUSED(ask(to({}, {"c-2", "m1", HostRole::master})), Errc::forbidden, "not of c-2");
  EXPECT_EQ(calls_, 0);
}

TEST_F(Tls, WithoutAnExpectationTheNameMustBeRight) {
  serve();
  auto origin = to({}, {});
  EXPECT_TRUE(ask(origin));
  origin.host = "localhost";
  EXPECT_TRUE(ask(origin));
  serve({.identity = identity({.host = "m1", .roles = {HostRole::master}, .issued = now(), .by = &ca(), .names = {"elsewhere.example.com"}})});
  EXPECT_REFUSED(ask(to({}, {})), Errc::forbidden, "IP address mismatch");
}

TEST_F(Tls, WhereACertificateIsRequiredNoneIsRefused) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}});
  EXPECT_REFUSED(ask(to()), Errc::forbidden, "certificate required");
  EXPECT_EQ(calls_, 0);
  EXPECT_TRUE(all_gone());
}

TEST_F(Tls, WhereOneIsWantedNoneIsFineAndABadOneIsNot) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::wanted, .roles = {}});
  EXPECT_EQ(ask(to())->body, "true nobody 0");
  EXPECT_EQ(ask(to_with_certificate())->body, "true host web1 (node) 0");
  EXPECT_REFUSED(ask(to_with_certificate({.by = &other_ca()})), Errc::forbidden, "the other side refused");
  EXPECT_REFUSED(ask(to_with_certificate({.issued = now() - secure::certificate_life - std::chrono::hours(1)})), Errc::forbidden, "certificate expired");
  EXPECT_EQ(calls_, 2);
}

TEST_F(Tls, TheWrongRoleGetsAReason) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {HostRole::master, HostRole::balancer}});
  auto answer = ask(to_with_certificate());
  ASSERT_TRUE(answer) << answer.error().context;
  EXPECT_EQ(answer->status, 403);
  EXPECT_NE(answer->body.find("host web1 (node) has no business on this port"), std::string::npos) << answer->body;
  EXPECT_EQ(calls_, 0);
  EXPECT_EQ(ask(to_with_certificate({.host = "b", .roles = {HostRole::balancer}}))->status, 200);
}

TEST_F(Tls, ACertificateThatIsNoHostsGetsAReason) {
  // Signed by the cluster's CA, but by hand and without an identity: X.509 alone gives no rights.
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}});
  auto folder = std::filesystem::path(::testing::TempDir()) / ("croft-tls-" + hex(secure::random_bytes(6)));
  std::filesystem::create_directory(folder);
  auto file = [&](const char* name) { return (folder / name).string(); };
  ASSERT_TRUE(write_file_atomic(file("ca.pem"), ca().certificate_pem));
  ASSERT_TRUE(write_file_atomic(file("ca.key"), ca().key_pem, 0600));
  auto command = fmt::format("cd {} && openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=x -keyout k.pem -out r.pem 2>/dev/null && "
                             "printf 'keyUsage=critical,digitalSignature\\nextendedKeyUsage=clientAuth\\nsubjectAltName=DNS:x\\nauthorityKeyIdentifier=keyid\\nsubjectKeyIdentifier=hash\\nbasicConstraints=critical,CA:FALSE\\n' > e && "
                             "openssl x509 -req -in r.pem -CA ca.pem -CAkey ca.key -days 1 -extfile e -out c.pem 2>/dev/null", folder.string());
  ASSERT_EQ(std::system(command.c_str()), 0);
  auto answer = ask(to({.bundle = ca().certificate_pem, .identity = {read_file(file("c.pem")).value(), read_file(file("k.pem")).value()}}));
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(answer) << answer.error().context;
  EXPECT_EQ(answer->status, 403);
  EXPECT_EQ(calls_, 0);
}

TEST_F(Tls, SwappedWithoutARestart) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}});
  HttpClient kept(loop_.executor());
  auto old_origin = to_with_certificate();
  ASSERT_TRUE(loop_.run(kept.get(old_origin, "/seen")));
  // The server goes over to another CA, for itself and for those it trusts.
  ASSERT_TRUE(tls_->swap(identity({.host = "m1", .roles = {HostRole::master}, .by = &other_ca()}), other_ca().certificate_pem));
  EXPECT_TRUE(loop_.run(kept.get(old_origin, "/seen"))) << "a connection that is open goes on";
  EXPECT_REFUSED(ask(old_origin), Errc::forbidden, "no CA that is trusted here");
  auto fresh = to({.bundle = other_ca().certificate_pem, .identity = identity({.by = &other_ca()})});
  EXPECT_TRUE(ask(fresh));
  auto behind = to({.bundle = other_ca().certificate_pem, .identity = identity()});
  EXPECT_REFUSED(ask(behind), Errc::forbidden, "the other side refused");
  // And with both in the bundle, as in a rotation, everybody is taken.
  ASSERT_TRUE(tls_->swap(identity({.host = "m1", .roles = {HostRole::master}, .by = &other_ca()}), ca().certificate_pem + other_ca().certificate_pem));
  EXPECT_TRUE(ask(behind));
}

TEST_F(Tls, TheClientsOwnIsSwappedToo) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}});
  auto client = TlsClient::make({.bundle = ca().certificate_pem, .identity = identity({.host = "old"})}).value();
  Origin origin{"127.0.0.1", port_, "", client, {"c-1", "m1", HostRole::master}};
  EXPECT_EQ(ask(origin)->body, "true host old (node) 0");
  ASSERT_TRUE(client->swap(identity({.host = "new"}), ca().certificate_pem));
  EXPECT_EQ(ask(origin)->body, "true host new (node) 0");
}

TEST_F(Tls, S3_ARevokedServerIsNotSpokenToNorOverAConnectionThatWasKept) {
  serve();
  auto tls = TlsClient::make({.bundle = ca().certificate_pem}).value();
  Origin origin{"127.0.0.1", port_, "", tls, {"c-1", "m1", HostRole::master}};
  HttpClient kept(loop_.executor());
  ASSERT_TRUE(loop_.run(kept.get(origin, "/seen")));
  tls->set_refuses([](const secure::Certificate& c) { return c.identity.host == "m1"; });
  EXPECT_REFUSED(loop_.run(kept.get(origin, "/seen")), Errc::forbidden, "the certificate of host m1 (master) is revoked");
  EXPECT_EQ(calls_, 1);
  tls->set_refuses([](const secure::Certificate& c) { return c.identity.host == "m2"; });
  EXPECT_TRUE(loop_.run(kept.get(origin, "/seen")));
}

TEST_F(Tls, ASwapThatIsWrongChangesNothing) {
  serve();
  auto mine = identity();
  EXPECT_FALSE(tls_->swap({mine.certificate_pem, identity().key_pem}, ca().certificate_pem));
  EXPECT_FALSE(tls_->swap({"", ""}, ca().certificate_pem));
  EXPECT_TRUE(ask(to()));
}

TEST_F(Tls, SetUpsThatCannotWorkAreRefused) {
  auto mine = identity();
  auto words = [](TlsServerOptions o) { return TlsServer::make(std::move(o)).error().context; };
  EXPECT_NE(words({.identity = {mine.certificate_pem, identity().key_pem}}).find("not that of the certificate"), std::string::npos);
  EXPECT_NE(words({.identity = {mine.certificate_pem, ""}}).find("key"), std::string::npos);
  EXPECT_NE(words({.identity = {mine.certificate_pem.substr(0, 100), mine.key_pem}}).find("certificate"), std::string::npos);
  EXPECT_NE(words({.identity = mine, .bundle = "", .peers = PeerCertificate::required}).find("bundle"), std::string::npos);
  EXPECT_NE(words({.identity = mine, .bundle = mine.certificate_pem, .peers = PeerCertificate::wanted}).find("not a CA's"), std::string::npos);
  EXPECT_FALSE(TlsServer::make({.identity = {std::string(1 << 20, 'x'), mine.key_pem}}));
  EXPECT_FALSE(TlsClient::make({.bundle = "rubbish", .identity = {}}));
  EXPECT_FALSE(TlsClient::make({.bundle = ca().certificate_pem, .identity = {mine.certificate_pem, ""}}));
  EXPECT_TRUE(TlsClient::make({})) << "the system's CAs";
}

TEST_F(Tls, PlainHttpIsToldWhatThisPortIs) {
  serve();
  auto wire = Wire::tcp(port_);
  wire.send(get("/seen"));
  auto a = wire.answer();
  EXPECT_EQ(a.status, 400);
  EXPECT_NE(a.body.find("this port speaks HTTPS"), std::string::npos) << a.body;
  wire.close();
  HttpClient client(loop_.executor());
  EXPECT_EQ(loop_.run(client.get({"127.0.0.1", port_}, "/seen"))->status, 400);
  EXPECT_EQ(calls_, 0);
  EXPECT_TRUE(all_gone());
}

TEST_F(Tls, APlainServerIsSeenForWhatItIs) {
  serve();
  Router router;
  HttpServer plain(loop_.executor(), std::make_shared<const Router>(std::move(router)));
  auto origin = to();
  origin.port = plain.listen("127.0.0.1", 0).value();
  EXPECT_REFUSED(ask(origin), Errc::invalid, "does not speak TLS");
  loop_.run(plain.stop(Ms(100)));
}

TEST_F(Tls, SlowHandshakesAreCut) {
  serve({}, {.handshake_timeout = Ms(200)});
  auto silent = Wire::tcp(port_), begun = Wire::tcp(port_), half = Wire::tcp(port_);
  begun.send("\x16");
  half.send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
  EXPECT_TRUE(comes_true([&] { return server_->connections() == 3; }));
  auto from = Steady::now();
  EXPECT_TRUE(silent.closed());
  EXPECT_TRUE(begun.closed());
  EXPECT_TRUE(half.closed());
  EXPECT_LT(Steady::now() - from, Ms(2000));
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(ask(to()));
}

TEST_F(Tls, AServerThatDoesNotAnswerTheHandshakeIsATimeout) {
  FakeServer mute({[](Wire& wire) { wire.rest(); }});
  serve();
  auto origin = to();
  origin.port = mute.port();
  HttpClient client(loop_.executor());
  Request what;
  what.method = "GET";
  what.target = "/";
  EXPECT_REFUSED(loop_.run(client.request(origin, what, {.connect_timeout = Ms(200)})), Errc::timeout, "connect");
}

TEST_F(Tls, AServerThatCutsTheHandshakeIsUnavailable) {
  FakeServer rude({[](Wire& wire) { wire.bytes(5); }});
  serve();
  auto origin = to();
  origin.port = rude.port();
  EXPECT_REFUSED(ask(origin), Errc::unavailable, "connect");
}

TEST_F(Tls, SlowRequestsInsideAreCutAsPlainOnesAre) {
  serve({}, {.header_timeout = Ms(200), .idle_timeout = Ms(200)});
  HttpClient client(loop_.executor());
  ASSERT_TRUE(loop_.run(client.get(to(), "/seen")));
  EXPECT_TRUE(all_gone()) << "an idle one";
}

TEST_F(Tls, GarbageDoesNoHarm) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::required, .roles = {}}, {.handshake_timeout = Ms(300)});
  std::mt19937 dice{11};
  for (int i = 0; i < 60; ++i) {
    auto wire = Wire::tcp(port_);
    std::string bytes(dice() % 3000, '\0');
    for (auto& c : bytes) c = static_cast<char>(dice());
    if (i % 3 == 0) bytes.insert(0, std::string_view("\x16\x03\x01\x0b\xb8\x01", 6));
    if (i % 3 == 1) bytes.insert(0, std::string_view("\x16\x03\x01\xff\xff", 5));
    wire.send(bytes);
    if (i % 2) wire.reset();
  }
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(calls_, 0);
  EXPECT_TRUE(ask(to_with_certificate()));
}

/// Somebody else's client: what curl and `openssl s_client` make of it.
class Foreign : public Tls {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) / ("croft-tls-" + hex(secure::random_bytes(6)));
    std::filesystem::create_directory(folder_);
    ASSERT_TRUE(write_file_atomic(folder_ / "ca.pem", ca().certificate_pem));
    auto mine = identity();
    ASSERT_TRUE(write_file_atomic(folder_ / "cert.pem", mine.certificate_pem));
    ASSERT_TRUE(write_file_atomic(folder_ / "key.pem", mine.key_pem, 0600));
  }
  void TearDown() override {
    Tls::TearDown();
    std::filesystem::remove_all(folder_);
  }
  std::string run(const std::string& command) {
    std::string text;
    std::array<char, 4096> block{};
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(fmt::format("cd {} && {} 2>&1 </dev/null", folder_.string(), command).c_str(), "r"), ::pclose);
    while (auto n = std::fread(block.data(), 1, block.size(), pipe.get())) text.append(block.data(), n);
    return text;
  }
  std::string url(std::string path) { return fmt::format("https://127.0.0.1:{}{}", port_, path); }
  std::filesystem::path folder_;
};

TEST_F(Foreign, CurlIsServed) {
  serve({.identity = {}, .bundle = {}, .peers = PeerCertificate::wanted, .roles = {}});
  EXPECT_EQ(run("curl -sS --max-time 5 --cacert ca.pem " + url("/seen")), "true nobody 0");
  EXPECT_EQ(run("curl -sS --max-time 5 --cacert ca.pem --cert cert.pem --key key.pem " + url("/seen")), "true host web1 (node) 0");
  EXPECT_EQ(run("curl -sS --max-time 5 --tls-max 1.2 --cacert ca.pem " + url("/seen")), "true nobody 0");
  EXPECT_EQ(run("curl -sS --max-time 5 -0 --cacert ca.pem " + url("/large?n=100000")), std::string(100'000, 'x')) << "ends with the connection, and with a good-bye";
  EXPECT_NE(run("curl -sS --max-time 5 " + url("/seen")).find("SSL certificate problem"), std::string::npos);
}

TEST_F(Foreign, OldVersionsWeakCiphersAndOtherProtocolsAreRefused) {
  serve();
  auto hello = [&](const std::string& with) { return run(fmt::format("timeout 5 openssl s_client -connect 127.0.0.1:{} -CAfile ca.pem {}", port_, with)); };
  EXPECT_NE(hello("-tls1_3").find("Verify return code: 0 (ok)"), std::string::npos);
  EXPECT_NE(hello("-tls1_2").find("Verify return code: 0 (ok)"), std::string::npos);
  EXPECT_NE(hello("-alpn h2,http/1.1").find("ALPN protocol: http/1.1"), std::string::npos);
  EXPECT_NE(hello("-alpn h2").find("no application protocol"), std::string::npos);
  EXPECT_NE(hello("-tls1_1 -cipher DEFAULT@SECLEVEL=0").find("alert protocol version"), std::string::npos);
  EXPECT_NE(hello("-tls1_2 -cipher AES128-SHA:ECDHE-ECDSA-AES128-SHA").find("alert handshake failure"), std::string::npos);
}

}  // namespace
}  // namespace croft::net
