// Peers that are broken, slow or mean.

#include <gtest/gtest.h>

#include <deque>
#include <optional>

#include "net/async.hpp"
#include "net/gzip.hpp"
#include "secure/caller.hpp"
#include "wire.hpp"

namespace croft::net {
namespace {

/// Counts what gets through to a handler.
class Hostile : public ::testing::Test {
 protected:
  Served& serve(ServerOptions options = {}, std::function<void(Router&)> more = {}) {
    Router router;
    auto seen = [this](Request r) -> asio::awaitable<Response> {
      ++calls_;
      co_return Response::text("seen " + r.method + " " + r.path + " " + std::to_string(r.body.size()));
    };
    router.on("*", "/", seen);
    router.on("*", "/{*rest}", seen);
    if (more) more(router);
    served_ = std::make_unique<Served>(std::move(router), std::move(options));
    return *served_;
  }
  bool all_gone() {
    return comes_true([&] { return served_->server().connections() == 0; });
  }
  std::atomic<int> calls_{0};
  std::unique_ptr<Served> served_;
};

TEST_F(Hostile, ABodyAboveTheLimitIs413) {
  auto& s = serve({.body_max = 1000}, [](Router& r) {
    auto ok = [](Request q) -> asio::awaitable<Response> { co_return Response::text(std::to_string(q.body.size())); };
    r.on("POST", "/large", ok);
    r.on("POST", "/tiny/{id}", ok);
    r.body_limit("/large", 1 << 20);
    r.body_limit("/tiny/{id}", 10);
  });
  auto chunked = [](std::string_view target, std::size_t size) { return fmt::format("POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", target, chunk_of(std::string(size, 'x'))); };
  EXPECT_EQ(s.ask(post("/x", std::string(1000, 'x'))).status, 200);
  EXPECT_EQ(s.ask(chunked("/x", 1000)).status, 200);
  EXPECT_EQ(calls_, 2);
  EXPECT_EQ(s.ask(post("/x", std::string(1001, 'x'))).status, 413);
  EXPECT_EQ(s.ask(chunked("/x", 1001)).status, 413);
  EXPECT_EQ(calls_, 2);
  EXPECT_EQ(s.ask(post("/large", std::string(100'000, 'x'))).body, "100000");
  EXPECT_EQ(s.ask(chunked("/large", 100'000)).body, "100000");
  EXPECT_EQ(s.ask(post("/tiny/%61", std::string(11, 'x'))).status, 413);
  EXPECT_EQ(s.ask(chunked("//tiny/a", 11)).status, 413);
  EXPECT_EQ(s.ask(post("/tiny/a", std::string(10, 'x'))).status, 200);
}

TEST_F(Hostile, S17_CredentialsThatNobodyHasLookedAtFillNoMemory) {
  auto& s = serve({.body_max = 4u << 20, .unjudged_max = 1u << 20}, [](Router& r) {
    r.guard([](Request&, std::string_view) -> asio::awaitable<std::optional<Response>> { co_return Response::message(401, "no"); }, true);
  });
  auto half = [&](const char* credentials) {
    auto wire = s.connect();
    wire.send(fmt::format("POST /x HTTP/1.1\r\nHost: h\r\n{}Content-Length: 1000000\r\n\r\n", credentials) + std::string(700'000, 'x'));
    return wire;
  };
  EXPECT_EQ(half("").answer().status, 413) << "who shows none may send 64 KiB";
  auto first = half("Authorization: Basic x\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // its bytes are there; it says no more
  EXPECT_EQ(half("Authorization: Basic x\r\n").answer().status, 503);
  EXPECT_EQ(s.ask("POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Basic x\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x')).status, 401) << "small ones are heard";
  first.send(std::string(300'000, 'x'));
  EXPECT_EQ(first.answer().status, 401);
  EXPECT_EQ(s.ask("POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Basic x\r\nContent-Length: 900000\r\n\r\n" + std::string(900'000, 'x')).status, 401) << "there is room again";
}

TEST_F(Hostile, S17_SlowReadersOfLargeAnswersFillNoMemory) {
  constexpr std::size_t large = 24u << 20;  // more than sockets hold
  auto& s = serve({.answers_max = 64u << 20, .gzip = false}, [](Router& r) {
    r.guard(
        [](Request& q, std::string_view) -> asio::awaitable<std::optional<Response>> {
          secure::Principal who;
          who.kind = secure::Principal::Kind::user;
          who.name = q.headers.get("X-Who");
          if (who.name == "root") who.grants = {{secure::Level::admin, "/"}};
          if (!who.name.empty()) q.caller = std::make_shared<const secure::Caller>(std::move(who), q.peer);
          co_return std::nullopt;
        },
        false);
    r.on("GET", "/of/{n}", [](Request q) -> asio::awaitable<Response> { co_return Response::text(std::string(static_cast<std::size_t>(*to_int(q.params["n"])), 'x')); });
  });
  auto ask = [&](const char* who, std::size_t bytes) {
    auto wire = s.connect();
    wire.send(get(fmt::format("/of/{}", bytes), *who ? fmt::format("X-Who: {}\r\n", who) : ""));
    return wire;
  };
  auto asks = [&](const char* who, std::size_t bytes) {
    auto wire = ask(who, bytes);
    return wire.head().status;
  };
  auto first = ask("ann", large);
  EXPECT_EQ(first.head().status, 200);  // and reads no further
  auto refused = ask("ann", large).answer();
  EXPECT_EQ(refused.status, 503) << "one has one, and then a quarter of it at most";
  EXPECT_EQ(refused.headers.get("Retry-After"), "1");
  EXPECT_EQ(asks("ann", 60'000), 200) << "small ones pass";
  auto nobody = ask("", large);
  EXPECT_EQ(nobody.head().status, 200) << "who has no login counts by his address";
  EXPECT_EQ(asks("", large), 503);
  EXPECT_EQ(asks("bob", large), 503) << "three would be more than all";
  EXPECT_EQ(asks("bob", 15u << 20), 503) << "the last quarter is";
  EXPECT_EQ(asks("root", 15u << 20), 200) << "the admins'";
  EXPECT_EQ(first.bytes(large).size(), large);
  EXPECT_TRUE(comes_true([&] { return asks("bob", large) == 200; })) << "what was read is given back";
  nobody.close();
  EXPECT_TRUE(comes_true([&] { return asks("ann", 80u << 20) == 200; })) << "alone it passes, whatever its size";
  std::optional<Wire> again;
  EXPECT_TRUE(comes_true([&] {
    again.emplace(ask("ann", large));
    return again->head().status == 200;
  }));
  EXPECT_EQ(asks("bob", 80u << 20), 503) << "and beside another it does not";
  again->close();
  EXPECT_TRUE(comes_true([&] { return asks("bob", 80u << 20) == 200; })) << "a connection that ends gives back what it held";
}

TEST_F(Hostile, ManySmallChunksAreAddedUp) {
  auto& s = serve({.body_max = 1000});
  auto wire = s.connect();
  wire.send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::string chunks;
  for (int i = 0; i < 101; ++i) chunks += chunk_of("0123456789");
  wire.send(chunks);
  EXPECT_EQ(wire.answer().status, 413);
  EXPECT_EQ(calls_, 0);
}

TEST_F(Hostile, ARefusedUploadCanReadWhy) {
  auto& s = serve({.body_max = 1000});
  auto wire = s.connect();
  // Far more than the socket buffers hold: without draining, the reset would overtake the answer.
  EXPECT_TRUE(wire.send(post("/x", std::string(24 << 20, 'x'))));
  auto a = wire.answer();
  EXPECT_EQ(a.status, 413);
  EXPECT_EQ(a.headers.get("Connection"), "close");
  wire.close();
  EXPECT_TRUE(all_gone());
}

TEST_F(Hostile, ALengthThatNobodyHasIs413OrRefused) {
  auto& s = serve();
  EXPECT_EQ(s.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\n").status, 413);
  EXPECT_EQ(s.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n").status, 400);
  EXPECT_EQ(s.ask("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n").status, 413);
  EXPECT_EQ(s.ask("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n").status, 400);
  EXPECT_EQ(calls_, 0);
}

TEST_F(Hostile, AHeaderAboveTheLimitIs431) {
  auto& s = serve({.header_max = 4096});
  EXPECT_EQ(s.ask(get("/", "X: " + std::string(3500, 'x') + "\r\n")).status, 200);
  EXPECT_EQ(s.ask(get("/", "X: " + std::string(4096, 'x') + "\r\n")).status, 431);
  EXPECT_EQ(s.ask(get("/" + std::string(5000, 'x'))).status, 431);
  std::string many;
  for (int i = 0; i < 600; ++i) many += "A: b\r\n";
  EXPECT_EQ(s.ask(get("/", many.substr(0, 3600))).status, 200);
  EXPECT_EQ(s.ask(get("/", many + many)).status, 431);
  EXPECT_EQ(calls_, 2);
}

TEST_F(Hostile, ARequestLineWithoutEndIsCutOff) {
  auto& s = serve({.header_max = 4096});
  auto wire = s.connect();
  EXPECT_TRUE(wire.send("GET /" + std::string(20'000, 'a')));
  EXPECT_EQ(wire.answer().status, 431);
  EXPECT_TRUE(wire.closed());
  auto method = s.connect();
  method.send(std::string(20'000, 'A'));
  EXPECT_EQ(method.answer().status, 431);
}

TEST_F(Hostile, ChunkSizesAndTrailersWithoutEndAreCutOff) {
  auto& s = serve({.body_max = 1 << 20, .header_max = 4096});
  for (std::string start : {"5;x=", "0\r\nTrailer: "}) {
    auto wire = s.connect();
    wire.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + start);
    std::string block(1 << 20, 'x');
    // The answer must come after some of it, not when 64 MiB lie in memory.
    for (int i = 0; i < 4; ++i) wire.send(block);
    EXPECT_EQ(wire.answer().status, 400) << start;
  }
  EXPECT_EQ(calls_, 0);
}

TEST_F(Hostile, WhoSendsAHeaderSlowlyIsClosedAtItsDeadline) {
  auto& s = serve({.header_timeout = Ms(60)});
  auto wire = s.connect();
  auto begun = Steady::now();
  wire.send("GET / HTTP/1.1\r\nX: ");
  // A byte now and then must not put the deadline off.
  bool closed = false;
  while (!closed && Steady::now() - begun < Ms(1500)) {
    wire.send("a");
    closed = wire.closed(Ms(10));
  }
  EXPECT_TRUE(closed);
  EXPECT_GE(Steady::now() - begun, Ms(60));
  EXPECT_LT(Steady::now() - begun, Ms(1000));
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(calls_, 0);
}

TEST_F(Hostile, WhoSendsABodySlowlyIsClosedAtItsDeadline) {
  auto& s = serve({.header_timeout = Ms(3000), .body_timeout = Ms(60)});
  auto wire = s.connect();
  auto begun = Steady::now();
  wire.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
  bool closed = false;
  while (!closed && Steady::now() - begun < Ms(1500)) {
    wire.send("a");
    closed = wire.closed(Ms(10));
  }
  EXPECT_TRUE(closed);
  EXPECT_GE(Steady::now() - begun, Ms(60));
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(calls_, 0);
}

TEST_F(Hostile, AnIdleConnectionIsClosedAtItsDeadlineAndNotWhileAHandlerWorks) {
  auto& s = serve({.header_timeout = Ms(40), .body_timeout = Ms(40), .idle_timeout = Ms(60), .write_timeout = Ms(40)}, [](Router& r) {
    r.on("GET", "/slow", [](Request) -> asio::awaitable<Response> {
      co_await sleep_for(Ms(150));
      co_return Response::text("slow");
    });
  });
  auto never = s.connect(), once = s.connect();
  once.send(get("/slow"));
  EXPECT_EQ(once.answer().body, "slow") << "a handler may take longer than any of the peer's deadlines";
  EXPECT_TRUE(once.closed());
  EXPECT_TRUE(never.closed(Ms(1000)));
  EXPECT_TRUE(all_gone());
}

TEST_F(Hostile, MalformedRequestsAre400AndTheEnd) {
  auto& s = serve();
  const std::vector<std::string> bad{
      "nonsense\r\n\r\n",
      "GET\r\n\r\n",
      "GET /\r\n\r\n",
      "GET / HTTP/2.0\r\n\r\n",
      "GET / HTTP/1.1 extra\r\nHost: h\r\n\r\n",
      "GET / HTTX/1.1\r\n\r\n",
      "G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET /a\x01z HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET relative HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nX: y\r\nConnection: keep-alive\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nNo colon\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nSpace : x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\n: no name\r\n\r\n",
      std::string("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 36),
      "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\na",
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + "tls\r\n\r\n",
  };
  for (const auto& bytes : bad) {
    SCOPED_TRACE(bytes);
    auto wire = s.connect();
    wire.send(bytes + get("/smuggled"));
    try {
      EXPECT_EQ(wire.answer().status, 400);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();
    }
    EXPECT_TRUE(wire.closed());
    EXPECT_EQ(calls_.exchange(0), 0);
  }
}

TEST_F(Hostile, TwoWaysToTellABodysLengthAreRefused) {
  auto& s = serve();
  auto begin = "POST / HTTP/1.1\r\nHost: h\r\n";
  for (std::string fields : {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
                             "Transfer-Encoding: identity\r\n", "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: gzip, chunked\r\n",
                             "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "Transfer-Encoding:\r\n", "Transfer-Encoding : chunked\r\n"}) {
    SCOPED_TRACE(fields);
    auto wire = s.connect();
    wire.send(begin + fields + "\r\n0\r\n\r\n" + get("/smuggled"));
    try {
      EXPECT_EQ(wire.answer().status, 400);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();
    }
    EXPECT_TRUE(wire.closed());
    EXPECT_EQ(calls_.exchange(0), 0) << "a body's bytes may not become a request";
  }
}

TEST_F(Hostile, AGoodRequestBeforeABadOneIsAnswered) {
  auto& s = serve();
  auto wire = s.connect();
  wire.send(get("/first") + "bad\r\n\r\n");
  EXPECT_EQ(wire.answer().body, "seen GET /first 0");
  EXPECT_EQ(wire.answer().status, 400);
  EXPECT_TRUE(wire.closed());
}

TEST_F(Hostile, APeerThatClosesInTheMiddleReachesNoHandler) {
  auto& s = serve();
  for (std::string bytes : {"", "G", "GET / HTTP/1.1\r\nHost", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf",
                            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"})
    for (bool hard : {false, true}) {
      auto wire = s.connect();
      wire.send(bytes);
      EXPECT_TRUE(comes_true([&] { return s.server().connections() == 1; }));
      if (hard) wire.reset();
      else {
        wire.end_sending();
        EXPECT_TRUE(wire.closed()) << bytes;
      }
      EXPECT_TRUE(all_gone()) << bytes;
    }
  EXPECT_EQ(calls_, 0);
}

TEST_F(Hostile, WhoOnlyEndsItsSendingGetsItsAnswer) {
  auto& s = serve();
  auto wire = s.connect();
  wire.send(get("/a") + get("/b"));
  wire.end_sending();
  EXPECT_EQ(wire.answer().body, "seen GET /a 0");
  EXPECT_EQ(wire.answer().body, "seen GET /b 0");
  EXPECT_TRUE(wire.closed());
}

TEST_F(Hostile, AHandlerLearnsThatItsClientHasGone) {
  struct Seen { std::atomic<int> before{-1}; std::atomic<bool> after{false}; };
  auto seen = std::make_shared<Seen>();  // the handler may outlive this test
  auto& s = serve({}, [&](Router& r) {
    r.on("GET", "/long", [seen](Request q) -> asio::awaitable<Response> {
      seen->before = q.gone();
      for (int i = 0; i < 400 && !seen->after; ++i) {
        co_await sleep_for(Ms(5));
        seen->after = q.gone();
      }
      co_return Response::text("for nobody");
    });
  });
  {
    auto wire = s.connect();
    wire.send(get("/long"));
    ASSERT_TRUE(comes_true([&] { return seen->before >= 0; }));
    EXPECT_EQ(seen->before, 0);
  }
  EXPECT_TRUE(comes_true([&] { return seen->after.load(); }));
}

TEST_F(Hostile, EmptyLinesBetweenRequestsArePassedOver) {
  auto& s = serve({.header_timeout = Ms(500)});
  auto wire = s.connect();
  wire.send(post("/a", "x"));
  EXPECT_EQ(wire.answer().status, 200);
  wire.send("\r\n" + get("/b"));  // some clients end a body with an empty line of their own
  EXPECT_EQ(wire.answer().body, "seen GET /b 0");
  wire.send("\r\n");
  wire.send("\r\n\r\n" + get("/c") + "\r\n" + get("/d"));
  EXPECT_EQ(wire.answer().body, "seen GET /c 0");
  EXPECT_EQ(wire.answer().body, "seen GET /d 0");
}

TEST_F(Hostile, AHandlersHeaderCannotAddLinesToTheAnswer) {
  auto& s = serve({}, [](Router& r) {
    r.on("GET", "/to", [](Request q) -> asio::awaitable<Response> { co_return Response::redirect(q.query.get("url").value_or("")); });
    r.on("GET", "/stream", [](Request q) -> asio::awaitable<Response> {
      auto response = Response::redirect(q.query.get("url").value_or(""));
      response.stream = [](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> { co_await w->write("x"); };
      co_return response;
    });
  });
  for (auto target : {"/to", "/stream"})
    for (auto evil : {"/a%0d%0aSet-Cookie:%20x=y", "/a%0aSet-Cookie:%20x=y", "/a%0d%0a%0d%0a%3chtml%3e"}) {
      auto a = s.ask(get(fmt::format("{}?url={}", target, evil)));
      EXPECT_EQ(a.status, 302);
      EXPECT_FALSE(a.headers.has("Set-Cookie")) << evil;
      EXPECT_EQ(a.body.find("html"), std::string::npos);
      EXPECT_TRUE(a.headers.get("Location").starts_with("/a"));
    }
}

TEST_F(Hostile, BeyondTheBoundTheOldestIdleGoesElse503) {
  Router router;
  auto go = Signal::make();
  std::atomic<int> busy{0};
  router.on("GET", "/wait", [&busy, go](Request) -> asio::awaitable<Response> {
    ++busy;
    (void)co_await go->wait(0, Ms(3000));
    co_return Response::text("waited");
  });
  router.on("GET", "/", [](Request) -> asio::awaitable<Response> { co_return Response::text("hello"); });
  Served s(std::move(router), {.connections_max = 3});
  auto first = s.connect(), second = s.connect();
  for (auto* w : {&first, &second}) w->send(get("/wait"));
  EXPECT_TRUE(comes_true([&] { return busy == 2; }));
  auto idle = s.connect();
  idle.send(get("/"));
  EXPECT_EQ(idle.answer().body, "hello");
  // Until the server has seen that its answer was taken, nobody is idle and whoever comes is refused: so the third knocks until it is let in.
  std::deque<Wire> third;
  while (busy < 3 && third.size() < 100) {
    third.push_back(s.connect());
    third.back().send(get("/wait"));
    (void)comes_true([&] { return busy == 3; }, Ms(100));
  }
  EXPECT_EQ(busy, 3);
  EXPECT_TRUE(idle.closed());
  EXPECT_TRUE(comes_true([&] { return s.server().connections() == 3; }));
  auto fourth = s.connect();
  fourth.send(get("/"));
  EXPECT_EQ(fourth.answer().status, 503);
  EXPECT_TRUE(fourth.closed());
  go->notify();
  for (auto* w : {&first, &second, &third.back()}) EXPECT_EQ(w->answer().body, "waited");
}

TEST_F(Hostile, ABurstBeyondTheBoundClosesAsManyAsItBrings) {
  auto& s = serve({.connections_max = 20});
  std::vector<Wire> wires;
  for (int i = 0; i < 200; ++i) wires.push_back(s.connect());
  EXPECT_TRUE(comes_true([&] { return s.server().connections() <= 20; })) << s.server().connections();
  EXPECT_TRUE(comes_true([&] { return s.ask(get("/")).status == 200; }));
}

}  // namespace
}  // namespace croft::net
