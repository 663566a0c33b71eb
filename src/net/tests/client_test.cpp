#include "net/http_client.hpp"

#include <gtest/gtest.h>

#include "net/async.hpp"
#include "wire.hpp"

namespace croft::net {
namespace {

using Script = std::function<void(Wire&)>;

Script answers(std::string bytes) {
  return [bytes](Wire& w) {
    if (w.request()) w.send(bytes);
  };
}

std::string ok(std::string_view body, std::string_view fields = "") { return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n{}", body.size(), fields, body); }

class Client : public ::testing::Test {
 protected:
  static Origin to(std::uint16_t port) { return {"127.0.0.1", port, ""}; }
  static Request what(std::string target = "/", std::string method = "GET") {
    Request r;
    r.method = std::move(method);
    r.target = std::move(target);
    return r;
  }
  Result<Response> ask(const FakeServer& s, Request r, ClientOptions o = {}) { return loop_.run(client_.request(to(s.port()), std::move(r), o)); }
  Result<Response> ask(std::vector<Script> scripts, ClientOptions o = {}) {
    FakeServer s(std::move(scripts));
    return ask(s, what(), o);
  }
  Result<std::unique_ptr<StreamReader>> open(std::uint16_t port, ClientOptions o = {}) { return loop_.run(client_.open(to(port), what(), o)); }
  Loop loop_;
  HttpClient client_{loop_.executor()};
};

TEST_F(Client, SendsWhatItIsGiven) {
  std::string seen;
  FakeServer s({[&](Wire& w) {
    seen = w.request().value_or("");
    w.send("HTTP/1.1 404 Nope\r\nContent-Length: 2\r\nX: 1\r\nX: 2\r\n\r\nno");
  }});
  auto r = what("/a%20b?c=d", "PUT");
  r.body = "body";
  r.headers.add("X-Two", "1");
  r.headers.add("X-Two", "2");
  auto a = ask(s, r);
  ASSERT_TRUE(a) << a.error().context;
  EXPECT_EQ(a->status, 404);
  EXPECT_EQ(a->body, "no");
  EXPECT_EQ(a->headers.get("x"), "1");
  EXPECT_TRUE(seen.starts_with("PUT /a%20b?c=d HTTP/1.1\r\n")) << seen;
  EXPECT_NE(seen.find(fmt::format("Host: 127.0.0.1:{}\r\n", s.port())), std::string::npos) << seen;
  EXPECT_NE(seen.find("X-Two: 1\r\nX-Two: 2\r\n"), std::string::npos) << seen;
  EXPECT_TRUE(seen.ends_with("\r\n\r\nbody"));
}

TEST_F(Client, TheHostCanBeNamed) {
  std::string seen;
  FakeServer s({[&](Wire& w) {
    seen = w.request().value_or("");
    w.send(ok(""));
  }});
  auto r = what();
  r.headers.set("Host", "other.example");
  ASSERT_TRUE(ask(s, r));
  EXPECT_NE(seen.find("Host: other.example\r\n"), std::string::npos);
  EXPECT_EQ(seen.find("127.0.0.1"), std::string::npos) << "one Host only: " << seen;
}

TEST_F(Client, AsksNothingThatWouldBeTwoRequests) {
  FakeServer s({answers(ok("x"))});
  for (auto bad : {"/a b", "/a\r\nX: y", "/a HTTP/1.1\r\nHost: h\r\n\r\nGET /b", "/\x7f", ""}) {
    auto a = ask(s, what(bad));
    ASSERT_FALSE(a) << bad;
    EXPECT_EQ(a.error().code, Errc::invalid);
  }
  auto r = what();
  r.headers.set("X", "a\r\nY: b");
  EXPECT_EQ(ask(s, r).error().code, Errc::invalid);
  EXPECT_EQ(loop_.run(client_.open(to(s.port()), r, {})).error().code, Errc::invalid);
  EXPECT_EQ(s.accepted(), 0);
}

TEST_F(Client, KeepsConnectionsUnlessTold) {
  auto twice = [](Wire& w) {
    for (int i = 0; w.request(); ++i) w.send(ok(std::to_string(i)));
  };
  FakeServer s({twice, twice, twice});
  EXPECT_EQ(ask(s, what())->body, "0");
  EXPECT_EQ(ask(s, what())->body, "1");
  EXPECT_EQ(ask(s, what("/", "HEAD"))->status, 200) << "its length is of no body";
}

TEST_F(Client, ClosesWhenNothingIsToBeKept) {
  std::vector<std::string> seen;
  auto once = [&](Wire& w) {
    for (auto r = w.request(); r; r = w.request()) seen.push_back(*r), w.send(ok("x"));
  };
  FakeServer s({once, once});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ask(s, what(), {.keep_alive = false})->body, "x");
  EXPECT_EQ(s.accepted(), 2);
  EXPECT_NE(seen.at(0).find("Connection: close"), std::string::npos);
}

TEST_F(Client, AHeadAnswerHasNoBody) {
  FakeServer s({[](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    w.request();
    w.send(ok("next"));
  }});
  auto a = ask(s, what("/", "HEAD"));
  ASSERT_TRUE(a) << a.error().context;
  EXPECT_EQ(a->headers.get("Content-Length"), "1000");
  EXPECT_EQ(a->body, "");
  EXPECT_EQ(ask(s, what())->body, "next");
}

TEST_F(Client, AKeptConnectionThatWasClosedIsReplacedOnce) {
  std::promise<void> closed;
  FakeServer s({[&](Wire& w) {
                  w.request();
                  w.send(ok("first"));
                  w.close();
                  closed.set_value();
                },
                answers(ok("second"))});
  EXPECT_EQ(ask(s, what())->body, "first");
  closed.get_future().wait();
  auto a = ask(s, what());
  ASSERT_TRUE(a) << a.error().context;
  EXPECT_EQ(a->body, "second");
}

TEST_F(Client, AKeptConnectionThatEndsAtTheRequestIsReplacedOnce) {
  Script ends = [](Wire& w) {
    w.request();
    w.send(ok("first"));
    w.request();  // closed when it is asked, which cannot be seen before
  };
  FakeServer s({ends, answers(ok("second")), answers("")});
  EXPECT_EQ(ask(s, what())->body, "first");
  EXPECT_EQ(ask(s, what())->body, "second");
  EXPECT_EQ(ask(s, what()).error().code, Errc::unavailable) << "a new connection is not tried twice";
  EXPECT_EQ(s.accepted(), 3);
}

TEST_F(Client, ABytesTooManyAnswerIsNotTheNextOnes) {
  auto evil = [](Wire& w) {
    w.request();
    w.send(ok("first") + ok("stale"));
    if (w.request()) w.send(ok("also wrong"));
  };
  FakeServer s({evil, answers(ok("second"))});
  EXPECT_EQ(ask(s, what("/1"))->body, "first");
  EXPECT_EQ(ask(s, what("/2"))->body, "second");
}

TEST_F(Client, AnAnswerThatCameUnaskedIsNotTaken) {
  std::promise<void> sent;
  FakeServer s({[&](Wire& w) {
                  w.request();
                  w.send(ok("first"));
                  w.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");  // as proxies say to idle connections
                  sent.set_value();
                  w.request();
                },
                answers(ok("second"))});
  EXPECT_EQ(ask(s, what("/1"))->body, "first");
  sent.get_future().wait();
  EXPECT_EQ(ask(s, what("/2"))->body, "second");
}

TEST_F(Client, ConnectionRefusedIsUnavailable) {
  std::uint16_t port;
  { port = FakeServer({}).port(); }
  auto a = loop_.run(client_.get(to(port), "/"));
  ASSERT_FALSE(a);
  EXPECT_EQ(a.error().code, Errc::unavailable);
  EXPECT_NE(a.error().context.find(fmt::format("127.0.0.1:{}: connect: Connection refused", port)), std::string::npos) << a.error().context;
  EXPECT_EQ(open(port).error().code, Errc::unavailable);
}

TEST_F(Client, UnixSocketsThatAreNotThereAreErrors) {
  EXPECT_EQ(loop_.run(client_.get({"", 0, "/nowhere/croft.sock"}, "/")).error().code, Errc::unavailable);
  EXPECT_EQ(loop_.run(client_.get({"", 0, "/tmp/" + std::string(200, 'x')}, "/")).error().code, Errc::unavailable) << "no exception";
}

TEST_F(Client, AsksOverAUnixSocket) {
  auto path = fmt::format("/tmp/croft-client-{}.sock", ::getpid());
  Router router;
  router.on("GET", "/host", [](Request r) -> asio::awaitable<Response> { co_return Response::text(std::string(r.headers.get("Host")) + " " + r.peer); });
  Served s(std::move(router));
  ASSERT_TRUE(s.server().listen_unix(path));
  EXPECT_EQ(loop_.run(client_.get({"docker", 0, path}, "/host"))->body, "docker unix");
  EXPECT_EQ(loop_.run(client_.get({"", 0, path}, "/host"))->body, "localhost unix");
  EXPECT_EQ(s.server().connections(), 1u) << "kept";
}

TEST_F(Client, ASilentServerRunsIntoTheTimeOut) {
  Script silent = [](Wire& w) {
    w.request();
    w.rest();
  };
  Script half = [](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    w.rest();
  };
  Script dripping = [](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    while (w.send("x")) std::this_thread::sleep_for(Ms(5));
  };
  for (const auto& script : {silent, half, dripping}) {
    auto begun = Steady::now();
    auto a = ask({script}, {.timeout = Ms(50)});
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code, Errc::timeout) << a.error().context;
    EXPECT_GE(Steady::now() - begun, Ms(50));
    EXPECT_LT(Steady::now() - begun, Ms(1000));
  }
}

TEST_F(Client, AServerThatTakesNoConnectionRunsIntoTheTimeOut) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&at), size), 0);
  ASSERT_EQ(::listen(fd, 0), 0);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
  std::vector<int> fill;  // with its queue full, Linux lets connections hang
  for (int i = 0; i < 4; ++i) {
    fill.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)::connect(fill.back(), reinterpret_cast<sockaddr*>(&at), size);
  }
  auto begun = Steady::now();
  auto a = loop_.run(client_.request(to(ntohs(at.sin_port)), what(), {.connect_timeout = Ms(60), .timeout = Ms(3000)}));
  ASSERT_FALSE(a);
  EXPECT_EQ(a.error().code, Errc::timeout) << a.error().context;
  EXPECT_LT(Steady::now() - begun, Ms(1000));
  for (int f : fill) ::close(f);
  ::close(fd);
}

TEST_F(Client, WhatIsCutIsUnavailable) {
  for (auto bytes : {"", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"}) {
    auto a = ask({answers(bytes)});
    ASSERT_FALSE(a) << bytes;
    EXPECT_EQ(a.error().code, Errc::unavailable) << a.error().context;
  }
}

TEST_F(Client, WhatIsNotHttpIsInvalid) {
  for (auto bytes : {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    auto a = ask({answers(bytes)});
    ASSERT_FALSE(a) << bytes;
    EXPECT_EQ(a.error().code, Errc::invalid) << bytes << a.error().context;
  }
}

TEST_F(Client, AnAnswerAboveTheLimitIsTooLarge) {
  ClientOptions o{.body_max = 1000};
  EXPECT_EQ(ask({answers(ok(std::string(1000, 'x')))}, o)->body.size(), 1000u);
  for (const auto& bytes : {ok(std::string(1001, 'x')), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk_of(std::string(600, 'x')) + chunk_of(std::string(600, 'x')) + "0\r\n\r\n",
                            "HTTP/1.1 200 OK\r\n\r\n" + std::string(1001, 'x'), "HTTP/1.1 200 OK\r\nX: " + std::string(1 << 20, 'x') + "\r\n\r\n"}) {
    auto a = ask({answers(bytes)}, o);
    ASSERT_FALSE(a) << bytes.substr(0, 60);
    EXPECT_EQ(a.error().code, Errc::too_large) << a.error().context;
  }
}

TEST_F(Client, AChunkSizeWithoutEndIsNotReadForEver) {
  Script endless = [](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=");
    std::string block(1 << 20, 'x');
    for (int i = 0; i < 256 && w.send(block); ++i) {}
    w.rest();
  };
  EXPECT_FALSE(ask({endless}));
  FakeServer s({endless});
  auto reader = open(s.port(), {.idle_timeout = Ms(2000)});
  ASSERT_TRUE(reader);
  auto got = loop_.run((*reader)->read_some());
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().code, Errc::timeout);
}

TEST_F(Client, ReadsEveryKindOfBody) {
  EXPECT_EQ(ask({answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk_of("a") + chunk_of("bc") + "0\r\nT: t\r\n\r\n")})->body, "abc");
  EXPECT_EQ(ask({answers("HTTP/1.1 200 OK\r\n\r\nto the end")})->body, "to the end");
  EXPECT_EQ(ask({answers("HTTP/1.0 200 OK\r\n\r\n")})->body, "");
  EXPECT_EQ(ask({answers("HTTP/1.1 204 No Content\r\n\r\n")})->status, 204);
  EXPECT_EQ(ask({answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok("last"))})->body, "last");
}

TEST_F(Client, FindsAHostByItsName) {
  FakeServer s({answers(ok("found"))});
  EXPECT_EQ(loop_.run(client_.get({"localhost", s.port(), ""}, "/"))->body, "found");
  EXPECT_EQ(loop_.run(client_.get({"no-such-host.invalid", 80, ""}, "/")).error().code, Errc::unavailable);
}

TEST_F(Client, ManyAtOnceOverOneClient) {
  Router router;
  router.on("GET", "/n/{n}", [](Request r) -> asio::awaitable<Response> {
    co_await sleep_for(Ms(2));
    co_return Response::text(r.params["n"]);
  });
  Served s(std::move(router));
  std::vector<std::future<Result<Response>>> all;
  for (int i = 0; i < 200; ++i) all.push_back(asio::co_spawn(loop_.executor(), client_.get(to(s.port()), "/n/" + std::to_string(i)), asio::use_future));
  for (int i = 0; i < 200; ++i) {
    auto a = all[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(a) << a.error().context;
    EXPECT_EQ(a->body, std::to_string(i));
  }
  EXPECT_TRUE(comes_true([&] { return s.server().connections() <= 8; })) << "at most eight are kept an origin";
}

// --- uploads ---

TEST_F(Client, UploadsPieceByPiece) {
  std::vector<std::string> pieces;
  std::atomic<int> arrived{0};
  FakeServer s({[&](Wire& w) {
    w.head_of_request();
    for (auto piece = w.chunk(); !piece.empty(); piece = w.chunk()) pieces.push_back(piece), ++arrived;
    w.send(ok("thanks"));
  }});
  int given = 0;
  BodySource body = [&]() -> asio::awaitable<Result<std::string>> {
    // The next piece only when the one before has arrived: nothing waits for the whole.
    for (int i = 0; i < 2000 && arrived < given; ++i) co_await sleep_for(Ms(1));
    if (given == 3) co_return std::string();
    co_return "piece " + std::to_string(given++);
  };
  auto a = loop_.run(client_.upload(to(s.port()), what("/", "POST"), body, {}));
  ASSERT_TRUE(a) << a.error().context;
  EXPECT_EQ(a->body, "thanks");
  EXPECT_EQ(pieces, (std::vector<std::string>{"piece 0", "piece 1", "piece 2"}));
}

TEST_F(Client, AnUploadIsSeenWholeByTheServerOrNotAtAll) {
  std::atomic<int> calls{0};
  std::atomic<std::size_t> size{0};
  Router router;
  router.on("POST", "/", [&](Request r) -> asio::awaitable<Response> {
    ++calls, size = r.body.size();
    co_return Response::text("ok");
  });
  Served s(std::move(router), {.body_max = 8 << 20});
  int left = 40;
  BodySource body = [&]() -> asio::awaitable<Result<std::string>> { co_return left-- > 0 ? std::string(100'000, 'x') : std::string(); };
  EXPECT_EQ(loop_.run(client_.upload(to(s.port()), what("/", "POST"), body, {}))->status, 200);
  EXPECT_EQ(size, 4'000'000u);
  BodySource broken = [&]() -> asio::awaitable<Result<std::string>> {
    if (left++ < 5) co_return std::string(100'000, 'x');
    co_return fail(Errc::io, "the disk is gone");
  };
  left = 0;
  auto a = loop_.run(client_.upload(to(s.port()), what("/", "POST"), broken, {}));
  ASSERT_FALSE(a);
  EXPECT_EQ(a.error().context, "the disk is gone");
  EXPECT_TRUE(comes_true([&] { return s.server().connections() <= 1; }));
  EXPECT_EQ(calls, 1);
}

TEST_F(Client, AnUploadThatIsRefusedOnTheWayGetsTheReason) {
  Router router;
  router.on("POST", "/", [](Request) -> asio::awaitable<Response> { co_return Response::text("ok"); });
  Served s(std::move(router), {.body_max = 1000});
  int left = 200;
  BodySource body = [&]() -> asio::awaitable<Result<std::string>> { co_return left-- > 0 ? std::string(100'000, 'x') : std::string(); };
  auto a = loop_.run(client_.upload(to(s.port()), what("/", "POST"), body, {}));
  ASSERT_TRUE(a) << a.error().context;
  EXPECT_EQ(a->status, 413);
}

// --- streams ---

TEST_F(Client, ReadsAStreamAsItComes) {
  std::promise<void> go;
  FakeServer s({[&](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n" + chunk_of("one\ntw"));
    go.get_future().wait();
    w.send(chunk_of("o\r\n\nthr") + chunk_of("ee") + "0\r\n\r\n");
  }});
  auto reader = open(s.port());
  ASSERT_TRUE(reader) << reader.error().context;
  auto& r = **reader;
  EXPECT_EQ(r.head().status, 200);
  EXPECT_EQ(r.head().headers.get("x"), "y");
  EXPECT_EQ(*loop_.run(r.read_line()), "one");
  go.set_value();
  EXPECT_EQ(*loop_.run(r.read_line()), "two");
  EXPECT_EQ(*loop_.run(r.read_line()), "");
  EXPECT_EQ(*loop_.run(r.read_line()), "three") << "a last line without its newline";
  EXPECT_EQ(*loop_.run(r.read_line()), std::nullopt);
  EXPECT_EQ(*loop_.run(r.read_some()), "");
}

TEST_F(Client, ReadsBlocksToTheEnd) {
  std::string all;
  for (int i = 0; i < 200'000; ++i) all += std::to_string(i);
  FakeServer s({answers(ok(all)), answers("HTTP/1.1 200 OK\r\n\r\n" + all)});
  for (int i = 0; i < 2; ++i) {
    auto reader = open(s.port());
    ASSERT_TRUE(reader);
    std::string got;
    for (;;) {
      auto some = loop_.run((*reader)->read_some());
      ASSERT_TRUE(some) << some.error().context;
      if (some->empty()) break;
      got += *some;
    }
    EXPECT_TRUE(got == all) << got.size();
  }
}

TEST_F(Client, ALineHasItsBound) {
  auto lines = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk_of("12345\n" + std::string(50, 'x') + "\nafter\n") + "0\r\n\r\n";
  FakeServer s({answers(lines)});
  auto reader = open(s.port());
  ASSERT_TRUE(reader);
  EXPECT_EQ(*loop_.run((*reader)->read_line(5)), "12345");
  auto line = loop_.run((*reader)->read_line(49));
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, Errc::too_large);
}

TEST_F(Client, ACutStreamIsUnavailableAfterWhatCame) {
  FakeServer s({answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk_of("one\nhalf"))});
  auto reader = open(s.port());
  ASSERT_TRUE(reader);
  EXPECT_EQ(*loop_.run((*reader)->read_line()), "one");
  for (int i = 0; i < 2; ++i) {
    auto line = loop_.run((*reader)->read_line());
    ASSERT_FALSE(line) << "half a line is none: " << line->value_or("");
    EXPECT_EQ(line.error().code, Errc::unavailable) << line.error().context;
  }
}

TEST_F(Client, ASilentStreamRunsIntoItsIdleTimeOut) {
  FakeServer s({[](Wire& w) {
                  w.request();
                  w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk_of("one\n"));
                  w.rest();
                },
                [](Wire& w) {
                  w.request();
                  w.rest();
                }});
  auto reader = open(s.port(), {.idle_timeout = Ms(50)});
  ASSERT_TRUE(reader);
  EXPECT_EQ(*loop_.run((*reader)->read_line()), "one");
  auto begun = Steady::now();
  auto line = loop_.run((*reader)->read_line());
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, Errc::timeout) << line.error().context;
  EXPECT_GE(Steady::now() - begun, Ms(50));
  reader->reset();
  EXPECT_EQ(open(s.port(), {.timeout = Ms(50)}).error().code, Errc::timeout) << "no header comes";
}

TEST_F(Client, CancelEndsAReadFromAnotherThread) {
  FakeServer s({[](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    w.rest();
  }});
  auto reader = open(s.port());
  ASSERT_TRUE(reader);
  auto pending = asio::co_spawn(loop_.executor(), (*reader)->read_line(), asio::use_future);
  EXPECT_EQ(pending.wait_for(Ms(10)), std::future_status::timeout);
  (*reader)->cancel();
  ASSERT_EQ(pending.wait_for(Ms(2000)), std::future_status::ready);
  EXPECT_EQ(pending.get().error().code, Errc::unavailable);
  EXPECT_EQ(loop_.run((*reader)->read_some()).error().code, Errc::unavailable);
}

TEST_F(Client, LettingAReaderGoClosesTheConnection) {
  std::promise<bool> closed;
  FakeServer s({[&](Wire& w) {
    w.request();
    w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    closed.set_value(w.closed());
  }});
  auto reader = open(s.port());
  ASSERT_TRUE(reader);
  reader->reset();
  EXPECT_TRUE(closed.get_future().get());
}

}  // namespace
}  // namespace croft::net
