#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "net/async.hpp"
#include "net/gzip.hpp"
#include "wire.hpp"

namespace croft::net {
namespace {

Handler says(std::string text) {
  return [text](Request) -> asio::awaitable<Response> { co_return Response::text(text); };
}

asio::awaitable<Response> echo(Request r) {
  auto response = Response::text(r.body);
  response.headers.set("X-Seen", r.method + " " + r.path);
  co_return response;
}

asio::awaitable<Response> slowly(Request r) {
  co_await sleep_for(Ms(20));
  co_return Response::text("slow " + r.query.get("n").value_or(""));
}

Router usual() {
  Router router;
  router.on("GET", "/hello", says("hello"));
  router.on("*", "/echo", echo);
  router.on("GET", "/slow", slowly);
  router.on("GET", "/number/{n}", [](Request r) -> asio::awaitable<Response> { co_return Response::text(r.params["n"]); });
  return router;
}

TEST(Server, KeepsTheConnectionForTheNextRequest) {
  Served s(usual());
  auto wire = s.connect();
  for (int i = 0; i < 3; ++i) {
    wire.send(post("/echo", "body " + std::to_string(i)));
    auto a = wire.answer();
    EXPECT_EQ(a.status, 200);
    EXPECT_EQ(a.body, "body " + std::to_string(i));
  }
  EXPECT_EQ(s.server().connections(), 1u);
  wire.close();
  EXPECT_TRUE(comes_true([&] { return s.server().connections() == 0; }));
}

TEST(Server, ClosesWhenAskedAndAfterOldRequests) {
  Served s(usual());
  for (auto bytes : {"GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "GET /hello HTTP/1.0\r\n\r\n"}) {
    auto wire = s.connect();
    wire.send(bytes);
    EXPECT_EQ(wire.answer().body, "hello");
    EXPECT_TRUE(wire.closed()) << bytes;
  }
  auto wire = s.connect();
  for (int i = 0; i < 2; ++i) {
    wire.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    auto a = wire.answer();
    EXPECT_EQ(a.body, "hello");
    EXPECT_EQ(a.headers.get("Connection"), "keep-alive");
  }
}

TEST(Server, AnswersPipelinedRequestsInTheirOrder) {
  Served s(usual());
  auto wire = s.connect();
  std::string all = get("/slow?n=1");
  for (int i = 0; i < 50; ++i) all += i % 2 ? get("/number/" + std::to_string(i)) : post("/echo", "b" + std::to_string(i));
  all += get("/slow?n=2") + get("/hello");
  wire.send(all);
  EXPECT_EQ(wire.answer().body, "slow 1");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(wire.answer().body, (i % 2 ? "" : "b") + std::to_string(i));
  EXPECT_EQ(wire.answer().body, "slow 2");
  EXPECT_EQ(wire.answer().body, "hello");
}

TEST(Server, ARequestMayComeByteByByte) {
  Served s(usual());
  auto wire = s.connect();
  auto bytes = post("/echo", "abc") + get("/hello");
  for (char c : bytes) wire.send(std::string_view(&c, 1));
  EXPECT_EQ(wire.answer().body, "abc");
  EXPECT_EQ(wire.answer().body, "hello");
}

TEST(Server, HeadHasTheHeaderOfGetAndNoBody) {
  Served s(usual());
  auto wire = s.connect();
  wire.send("HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n" + get("/hello"));
  auto a = wire.answer(true);
  EXPECT_EQ(a.status, 200);
  EXPECT_EQ(a.headers.get("Content-Length"), "5");
  EXPECT_EQ(wire.answer().body, "hello") << "the next answer begins right behind the head";
}

TEST(Server, HeadOfAStreamClaimsNoLength) {
  Router router;
  std::atomic<int> streams{0};
  router.on("GET", "/stream", [&](Request) -> asio::awaitable<Response> {
    Response r;
    r.headers.set("Content-Type", "text/event-stream");
    r.stream = [&](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
      ++streams;
      co_await w->write("x");
    };
    co_return r;
  });
  router.on("GET", "/hello", says("hello"));
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n" + get("/hello"));
  auto a = wire.answer(true);
  EXPECT_EQ(a.headers.get("Content-Type"), "text/event-stream");
  EXPECT_FALSE(a.headers.has("Content-Length"));
  EXPECT_EQ(wire.answer().body, "hello");
  EXPECT_EQ(streams, 0);
}

TEST(Server, OptionsAndWrongMethodsTellWhatIsAllowed) {
  Served s(usual());
  auto options = s.ask("OPTIONS /hello HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(options.status, 200);
  EXPECT_EQ(options.headers.get("Allow"), "GET, HEAD, OPTIONS");
  auto wrong = s.ask(post("/hello", "x"));
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.get("Allow"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(s.ask(get("/nothing")).status, 404);
  EXPECT_EQ(s.ask("BREW /echo HTTP/1.1\r\nHost: h\r\n\r\n").headers.get("X-Seen"), "BREW /echo") << "methods that HTTP's register does not know";
}

TEST(Server, ThePathIsDecodedTheTargetIsNot) {
  Router router;
  router.on("GET", "/files/{*rest}", [](Request r) -> asio::awaitable<Response> {
    co_return Response::text(r.target + "|" + r.path + "|" + r.params["rest"] + "|" + r.query.get("q").value_or("-") + "|" + r.local.substr(0, 10) + "|" + r.peer);
  });
  Served s(std::move(router));
  EXPECT_EQ(s.ask(get("/files/a%20b/%C3%BC?q=1%2B1")).body, "/files/a%20b/%C3%BC?q=1%2B1|/files/a b/ü|a b/ü|1+1|127.0.0.1:|127.0.0.1");
}

TEST(Server, AnswersWithoutBodyHaveNoLength) {
  Router router;
  router.on("GET", "/none", [](Request) -> asio::awaitable<Response> { co_return Response::text("left out", 204); });
  router.on("GET", "/hello", says("hello"));
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send(get("/none") + get("/hello"));
  auto a = wire.answer();
  EXPECT_EQ(a.status, 204);
  EXPECT_FALSE(a.headers.has("Content-Length"));
  EXPECT_EQ(wire.answer().body, "hello");
}

TEST(Server, TakesAChunkedBody) {
  Served s(usual());
  auto wire = s.connect();
  wire.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  wire.send(chunk_of("one ") + "4;ext=\"x\"\r\ntwo \r\n");
  wire.send(chunk_of(std::string(100'000, 'z')) + "0\r\nTrailer: t\r\n\r\n" + get("/hello"));
  EXPECT_EQ(wire.answer().body, "one two " + std::string(100'000, 'z'));
  EXPECT_EQ(wire.answer().body, "hello");
}

TEST(Server, LetsGoOnWhoeverAsksFirst) {
  Router router = usual();
  router.body_limit("/echo", 100);
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(wire.head().status, 100);
  wire.send("abc");
  EXPECT_EQ(wire.answer().body, "abc");
  wire.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(wire.head().status, 413) << "told before the body is sent";
}

TEST(Server, WritesEachPieceAtOnce) {
  Router router;
  auto go = Signal::make();
  router.on("GET", "/stream", [go](Request) -> asio::awaitable<Response> {
    Response r;
    r.headers.set("Content-Type", "text/event-stream");
    r.body = "first";
    r.stream = [go](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
      for (int i = 0; i < 3; ++i) {
        if (!co_await go->wait(static_cast<std::uint64_t>(i), Ms(3000))) co_return;
        std::string piece = "piece " + std::to_string(i);
        if (!co_await w->write(piece)) co_return;
        if (!co_await w->write("")) co_return;  // nothing to write must not end the stream
      }
    };
    co_return r;
  });
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send(get("/stream"));
  auto a = wire.head();
  EXPECT_EQ(a.headers.get("Transfer-Encoding"), "chunked");
  EXPECT_EQ(wire.chunk(), "first");
  for (int i = 0; i < 3; ++i) {
    go->notify();
    EXPECT_EQ(wire.chunk(), "piece " + std::to_string(i));
  }
  EXPECT_EQ(wire.chunk(), "");
  EXPECT_TRUE(wire.closed());
}

TEST(Server, StreamsToOldClientsUntilTheEnd) {
  Router router;
  router.on("GET", "/stream", [](Request) -> asio::awaitable<Response> {
    Response r;
    r.stream = [](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
      co_await w->write("a\n");
      co_await w->write("b\n");
    };
    co_return r;
  });
  Served s(std::move(router));
  auto a = s.ask("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_FALSE(a.headers.has("Transfer-Encoding"));
  EXPECT_EQ(a.body, "a\nb\n");
}

TEST(Server, AStreamThatThrowsIsSeenToBeCut) {
  Router router;
  router.on("GET", "/stream", [](Request) -> asio::awaitable<Response> {
    Response r;
    r.stream = [](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
      co_await w->write("half");
      throw std::runtime_error("on purpose");
    };
    co_return r;
  });
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send(get("/stream"));
  wire.head();
  EXPECT_EQ(wire.chunk(), "half");
  EXPECT_TRUE(wire.closed()) << "no last chunk";
}

/// A stream of events without end; tells when it ended.
Router events(std::atomic<int>& running, std::shared_ptr<Signal> never, bool writes) {
  Router router;
  router.on("GET", "/events", [&running, never, writes](Request) -> asio::awaitable<Response> {
    Response r;
    r.headers.set("Content-Type", "text/event-stream");
    r.body = ":\n\n";
    r.stream = [&running, never, writes](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
      ++running;
      while (!w->closed()) {
        if (writes && !co_await w->write("data: x\n\n")) break;
        (void)co_await never->wait(never->ticket(), Ms(5));
      }
      --running;
    };
    co_return r;
  });
  return router;
}

TEST(Server, SeesThatTheClientCutAStream) {
  for (bool writes : {true, false})
    for (bool hard : {true, false}) {
      std::atomic<int> running{0};
      Served s(events(running, Signal::make(), writes));
      auto wire = s.connect();
      wire.send(get("/events"));
      wire.head();
      EXPECT_EQ(wire.chunk(), ":\n\n");
      EXPECT_EQ(writes ? wire.chunk() : "data: x\n\n", "data: x\n\n");
      EXPECT_TRUE(comes_true([&] { return running == 1; }));
      if (hard) wire.reset();
      else wire.close();
      EXPECT_TRUE(comes_true([&] { return running == 0; })) << writes << hard;
      EXPECT_TRUE(comes_true([&] { return s.server().connections() == 0; }));
    }
}

TEST(Server, AStreamEndsForAPeerThatDoesNotRead) {
  std::atomic<int> outcome{-1};
  std::atomic<std::size_t> written{0};
  Router router;
  router.on("GET", "/flood", [&](Request) -> asio::awaitable<Response> {
    Response r;
    r.stream = [&](std::shared_ptr<StreamWriter> w) -> asio::awaitable<void> {
      w->write_limit(Ms(60));
      const std::string block(1 << 20, 'x');
      while (co_await w->write(block))
        if (++written > 500) break;
      outcome = w->closed() ? 1 : 0;
    };
    co_return r;
  });
  Served s(std::move(router));
  auto wire = Wire::tcp(s.port(), 4096);
  wire.send(get("/flood"));
  EXPECT_TRUE(comes_true([&] { return outcome == 1; })) << written;
  EXPECT_TRUE(comes_true([&] { return s.server().connections() == 0; }));
}

TEST(Server, APeerThatDoesNotReadItsAnswerIsLetGo) {
  Router router;
  router.on("GET", "/big", [](Request) -> asio::awaitable<Response> { co_return Response::text(std::string(32 << 20, 'x')); });
  Served s(std::move(router), {.write_timeout = Ms(60), .gzip = false});
  auto wire = Wire::tcp(s.port(), 4096);
  wire.send(get("/big"));
  EXPECT_TRUE(comes_true([&] { return s.server().connections() == 1; }));
  EXPECT_TRUE(comes_true([&] { return s.server().connections() == 0; }));
}

TEST(Server, PacksWhenAsked) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "some line " + std::to_string(i) + "\n";
  Router router;
  router.on("GET", "/text", says(text));
  router.on("GET", "/small", says("small"));
  router.on("GET", "/image", [text](Request) -> asio::awaitable<Response> {
    auto r = Response::text(text);
    r.headers.set("Content-Type", "image/png");
    co_return r;
  });
  router.on("GET", "/packed", [text](Request) -> asio::awaitable<Response> {
    auto r = Response::text(text);
    r.headers.set("Content-Encoding", "zstd");
    co_return r;
  });
  Served s(std::move(router));
  for (auto accept : {"gzip", "deflate, gzip;q=0.5", "br,GZIP"}) {
    auto a = s.ask(get("/text", fmt::format("Accept-Encoding: {}\r\n", accept)));
    EXPECT_EQ(a.headers.get("Content-Encoding"), "gzip") << accept;
    EXPECT_EQ(a.headers.get("Vary"), "Accept-Encoding");
    EXPECT_LT(a.body.size(), text.size() / 2);
    EXPECT_TRUE(gunzip(a.body, text.size()) == text);
  }
  for (auto fields : {"", "Accept-Encoding: identity\r\n", "Accept-Encoding: gzip;q=0\r\n", "Accept-Encoding: br, gzip; q=0.000, deflate\r\n", "Accept-Encoding: x-notgzip\r\n"}) {
    auto a = s.ask(get("/text", fields));
    EXPECT_FALSE(a.headers.has("Content-Encoding")) << fields;
    EXPECT_TRUE(a.body == text) << fields;
  }
  auto asked = "Accept-Encoding: gzip\r\n";
  EXPECT_EQ(s.ask(get("/small", asked)).body, "small");
  EXPECT_TRUE(s.ask(get("/image", asked)).body == text);
  EXPECT_EQ(s.ask(get("/packed", asked)).headers.get("Content-Encoding"), "zstd");
}

TEST(Server, UnpacksBodiesWithinTheLimit) {
  Served s(usual(), {.body_max = 1 << 20});
  auto a = s.ask(post("/echo", gzip(std::string(100'000, 'a')), "Content-Encoding: gzip\r\n"));
  EXPECT_EQ(a.body, std::string(100'000, 'a'));
  EXPECT_EQ(s.ask(post("/echo", gzip(std::string(8 << 20, 'a')), "Content-Encoding: gzip\r\n")).status, 400) << "a few KiB that are 8 MiB";
  EXPECT_EQ(s.ask(post("/echo", "not gzip", "Content-Encoding: gzip\r\n")).status, 400);
}

TEST(Server, AHandlerThatThrowsIsA500AndTheConnectionGoesOn) {
  Router router = usual();
  router.on("GET", "/throws", [](Request) -> asio::awaitable<Response> {
    throw std::runtime_error("secret");
    co_return Response{};
  });
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send(get("/throws") + get("/hello"));
  auto a = wire.answer();
  EXPECT_EQ(a.status, 500);
  EXPECT_EQ(a.body.find("secret"), std::string::npos);
  EXPECT_EQ(wire.answer().body, "hello");
}

TEST(Server, ServesUnixSockets) {
  auto path = fmt::format("/tmp/croft-net-{}.sock", ::getpid());
  Served s([] {
    Router router;
    router.on("GET", "/who", [](Request r) -> asio::awaitable<Response> { co_return Response::text(r.peer); });
    return router;
  }());
  ASSERT_TRUE(s.server().listen_unix(path, 0640));
  struct stat st{};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777u, 0640u);
  auto wire = Wire::local(path);
  for (int i = 0; i < 2; ++i) {
    wire.send(get("/who"));
    EXPECT_EQ(wire.answer().body, "unix");
  }
  EXPECT_FALSE(s.server().listen_unix("/tmp/" + std::string(120, 'x')));
  EXPECT_FALSE(s.server().listen_unix("/nowhere/at/all.sock"));
  s.loop().run(s.server().stop(Ms(100)));
  EXPECT_TRUE(wire.closed());
  EXPECT_NE(::stat(path.c_str(), &st), 0) << "the socket's file goes with the server";
}

TEST(Server, SaysWhatItCannotBind) {
  Served s(usual());
  auto taken = s.server().listen("127.0.0.1", s.port());
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Errc::io);
  EXPECT_TRUE(taken.error().context.starts_with(fmt::format("bind 127.0.0.1:{}: Address already in use (pid {}, ", s.port(), ::getpid()))) << taken.error().context;
  EXPECT_EQ(s.server().listen("localhost", 0).error().code, Errc::invalid);
}

TEST(Server, StopEndsStreamsAtOnceAndLetsRequestsEnd) {
  std::atomic<int> running{0};
  auto router = events(running, Signal::make(), false);
  router.on("GET", "/slow", slowly);
  Served s(std::move(router), {});
  auto stream = s.connect(), idle = s.connect(), slow = s.connect();
  stream.send(get("/events"));
  stream.head();
  EXPECT_EQ(stream.chunk(), ":\n\n");
  slow.send(get("/slow?n=1"));
  EXPECT_TRUE(comes_true([&] { return running == 1 && s.server().connections() == 3; }));
  auto begun = Steady::now();
  s.loop().run(s.server().stop(Ms(2000)));
  EXPECT_LT(Steady::now() - begun, Ms(1000)) << "nothing waits for the grace to be over";
  EXPECT_EQ(running, 0);
  EXPECT_EQ(s.server().connections(), 0u);
  EXPECT_TRUE(stream.closed()) << "cut, without a last chunk";
  EXPECT_TRUE(idle.closed());
  auto last = slow.answer();
  EXPECT_EQ(last.body, "slow 1");
  EXPECT_EQ(last.headers.get("Connection"), "close");
  EXPECT_TRUE(slow.closed());
  EXPECT_THROW(s.connect(), std::runtime_error);
}

TEST(Server, StopCutsWhatOutlastsTheGrace) {
  Router router;
  std::atomic<int> calls{0};
  router.on("GET", "/long", [&](Request) -> asio::awaitable<Response> {
    ++calls;
    co_await sleep_for(Ms(150));
    co_return Response::text("late");
  });
  Served s(std::move(router));
  auto wire = s.connect();
  wire.send(get("/long"));
  EXPECT_TRUE(comes_true([&] { return calls == 1; }));
  s.loop().run(s.server().stop(Ms(100)));
  EXPECT_TRUE(wire.closed());
  EXPECT_TRUE(comes_true([&] { return s.server().connections() == 0; }));
}

TEST(Server, ManyAtOnce) {
  Served s(usual());
  std::vector<Wire> wires;
  for (int i = 0; i < 200; ++i) wires.push_back(s.connect());
  for (int i = 0; i < 200; ++i) wires[static_cast<std::size_t>(i)].send(get("/slow?n=" + std::to_string(i)));
  for (int i = 0; i < 200; ++i) EXPECT_EQ(wires[static_cast<std::size_t>(i)].answer().body, "slow " + std::to_string(i));
}

TEST(Server, CountsByClass) {
  Metrics metrics;
  Served s(usual(), {.name = "t"}, &metrics);
  s.ask(get("/hello"));
  s.ask(get("/nothing"));
  s.ask("nonsense\r\n\r\n");
  EXPECT_TRUE(comes_true([&] {
    auto text = metrics.print();
    return text.find("server=\"t\",code=\"2xx\"} 1\n") != std::string::npos && text.find("server=\"t\",code=\"4xx\"} 2\n") != std::string::npos;
  })) << metrics.print();
}

}  // namespace
}  // namespace croft::net
