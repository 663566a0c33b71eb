#include "catalog/subscription.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>

#include <atomic>
#include <fstream>
#include <mutex>

#include "builders.hpp"
#include "catalog/catalog_stream.hpp"
#include "loop.hpp"
#include "net/http_server.hpp"

namespace croft::catalog {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;

/// A leader as far as followers see it.
class FakeLeader {
 public:
  FakeLeader(Loop& loop, std::uint64_t epoch, std::uint16_t port = 0) : loop_(loop), publisher_({.epoch = epoch, .root = {"farm", 10}}) {
    net::Router router;
    router.on("GET", "/croft/v1/catalog", [this](net::Request r) { return serve_catalog(std::move(r), feed(), changed_); });
    router.on("POST", "/croft/v1/catalog/confirmations", [this](net::Request r) { return confirmed(std::move(r)); });
    server_ = std::make_unique<net::HttpServer>(loop.executor(), std::make_shared<const net::Router>(std::move(router)));
    port_ = server_->listen("127.0.0.1", port).value_or(0);
    EXPECT_NE(port_, 0);
  }
  ~FakeLeader() { stop(); }
  void stop() {
    leads(false);  // ends the streams, as a leader does before it stops its server
    if (server_) loop_.run(server_->stop(std::chrono::milliseconds(200)));
    server_.reset();
  }
  void change(const std::function<void(Publisher&)>& f) {
    std::lock_guard lock(mutex_);
    f(publisher_);
    publisher_.flush();
    changed_->notify();
  }
  void leads(bool yes) { leads_ = yes, changed_->notify(); }
  net::Origin origin() const { return {"127.0.0.1", port_, ""}; }
  std::uint16_t port() const { return port_; }
  std::vector<Confirmation> confirmations() {
    std::lock_guard lock(mutex_);
    return confirmations_;
  }
  Content content() {
    std::lock_guard lock(mutex_);
    return publisher_.content();
  }

 private:
  Feed feed() {
    return [this](std::optional<Index> after) { return look(after); };
  }
  asio::awaitable<Batch> look(std::optional<Index> after) {
    std::lock_guard lock(mutex_);
    if (!leads_) co_return Batch{};
    Batch b{publisher_.index(), publisher_.since(after), true, publisher_.root()};
    co_return b;
  }
  asio::awaitable<net::Response> confirmed(net::Request r) {
    auto c = decode_confirmation(r.body);
    std::lock_guard lock(mutex_);
    if (c) confirmations_.push_back(*c);
    co_return net::Response::text("", c ? 204 : 400);
  }

  Loop& loop_;
  std::mutex mutex_;
  Publisher publisher_;
  std::vector<Confirmation> confirmations_;
  std::atomic<bool> leads_{true};
  std::shared_ptr<net::Signal> changed_ = net::Signal::make();
  std::unique_ptr<net::HttpServer> server_;
  std::uint16_t port_ = 0;
};

class Watcher {
 public:
  Watcher(Loop& loop, Subscription::Options options)
      : loop_(loop), subscription_(loop.strand(), std::move(options), [this](const Follower& f, const Follower::Change& c) { take(f, c); }) {
    subscription_.start();
  }
  ~Watcher() { stop(); }
  void stop() { loop_.run(subscription_.stop()); }
  Content content() {
    std::lock_guard lock(mutex_);
    return content_;
  }
  bool has(const std::string& task) { return content().endpoints.contains(TaskId(task)); }
  int changes() const { return changes_; }
  Subscription& operator*() { return subscription_; }

 private:
  void take(const Follower& f, const Follower::Change&) {
    std::lock_guard lock(mutex_);
    content_ = f.content();
    ++changes_;
  }
  Loop& loop_;
  std::mutex mutex_;
  Content content_;
  std::atomic<int> changes_{0};
  Subscription subscription_;
};

struct TempDir {
  TempDir() {
    char name[] = "/tmp/croft-catalog-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~TempDir() { fs::remove_all(path); }
  fs::path path;
};

TEST(Subscription, FollowsTheLeaderPushByPush) {
  Loop loop;
  FakeLeader leader(loop, 1);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {leader.origin()}, .saved = {}});
  ASSERT_TRUE(comes_true([&] { return w.has("t1"); }));
  EXPECT_FALSE((*w).stale());
  for (int i = 2; i < 30; ++i) leader.change([&](Publisher& p) { p.set(endpoint("t" + std::to_string(i))); });
  ASSERT_TRUE(comes_true([&] { return w.content() == leader.content(); }));
}

TEST(Subscription, FindsTheMasterThatLeadsAndFollowsAFailOver) {
  Loop loop;
  FakeLeader one(loop, 1), two(loop, 2);
  two.leads(false);
  one.change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {two.origin(), one.origin()}, .saved = {}});
  ASSERT_TRUE(comes_true([&] { return w.has("t1"); }));
  two.change([](Publisher& p) { p.set(endpoint("t2", "/a", "c-S2")); });
  two.leads(true);
  one.leads(false);
  ASSERT_TRUE(comes_true([&] { return w.has("t2"); }));
  EXPECT_TRUE(w.has("t1"));  // its agent has not registered with the new leader yet
}

TEST(Subscription, ServesTheCopyFromDiskWithoutALeader) {
  Loop loop;
  TempDir dir;
  auto saved = dir.path / "catalog.json";
  {
    FakeLeader leader(loop, 3);
    leader.change([](Publisher& p) { p.set(endpoint("t1")), p.set(service()); });
    Watcher w(loop, {.masters = {leader.origin()}, .saved = saved});
    ASSERT_TRUE(comes_true([&] { return w.has("t1"); }));
    leader.change([](Publisher& p) { p.set(endpoint("t2")); });
    ASSERT_TRUE(comes_true([&] { return w.has("t2"); }));
    w.stop();  // writes the last state
  }
  Watcher later(loop, {.masters = {{"127.0.0.1", 1, ""}}, .saved = saved});
  ASSERT_TRUE(comes_true([&] { return later.has("t2"); }));
  EXPECT_TRUE((*later).stale());
  FakeLeader old(loop, 2);
  Watcher careful(loop, {.masters = {old.origin()}, .saved = saved});
  ASSERT_TRUE(comes_true([&] { return careful.changes() > 0; }));
  old.change([](Publisher& p) { p.set(endpoint("wrong")); });
  EXPECT_FALSE(careful.has("wrong"));  // a leader of an earlier epoch is not believed
}

TEST(Subscription, SavesWhileItRuns) {
  Loop loop;
  TempDir dir;
  auto saved = dir.path / "catalog.json";
  FakeLeader leader(loop, 3);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {leader.origin()}, .saved = saved});
  ASSERT_TRUE(comes_true([&] { return fs::exists(saved); }));
  Follower f;
  std::ifstream file(saved);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSERT_TRUE(f.restore(text));
  EXPECT_TRUE(f.content().endpoints.contains(TaskId("t1")));
}

TEST(Subscription, ADamagedCopyIsPassedOver) {
  Loop loop;
  TempDir dir;
  auto saved = dir.path / "catalog.json";
  std::ofstream(saved) << "{\"type\":\"snap";
  FakeLeader leader(loop, 1);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {leader.origin()}, .saved = saved});
  EXPECT_TRUE(comes_true([&] { return w.has("t1"); }));
}

TEST(Subscription, TellsWhenTheLeaderFallsSilentAndComesBackByItself) {
  Loop loop;
  auto leader = std::make_unique<FakeLeader>(loop, 1);
  auto port = leader->port();
  leader->change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {leader->origin()}, .saved = {}, .silence_max = std::chrono::milliseconds(50)});
  ASSERT_TRUE(comes_true([&] { return w.has("t1"); }));
  leader.reset();
  ASSERT_TRUE(comes_true([&] { return (*w).stale(); }));
  EXPECT_TRUE(w.has("t1"));
  FakeLeader again(loop, 2, port);
  again.change([](Publisher& p) { p.set(endpoint("t2")); });
  EXPECT_TRUE(comes_true([&] { return w.has("t2"); }));
}

TEST(Subscription, SendsConfirmationsToTheLeader) {
  Loop loop;
  FakeLeader leader(loop, 1);
  Watcher nobody(loop, {.masters = {}, .saved = {}});
  auto none = loop.run((*nobody).confirm(confirmation("b1", {1, 0})));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::unavailable);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {leader.origin()}, .saved = {}});
  ASSERT_TRUE(comes_true([&] { return w.has("t1"); }));
  EXPECT_TRUE(loop.run((*w).confirm(confirmation("b1", {1, 1}))));
  ASSERT_EQ(leader.confirmations().size(), 1u);
  EXPECT_EQ(leader.confirmations()[0].applied, (Index{1, 1}));
}

TEST(Subscription, NothingIsToldAfterStop) {
  Loop loop;
  FakeLeader leader(loop, 1);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  Watcher w(loop, {.masters = {leader.origin()}, .saved = {}});
  ASSERT_TRUE(comes_true([&] { return w.has("t1"); }));
  w.stop();
  auto before = w.changes();
  leader.change([](Publisher& p) { p.set(endpoint("t2")); });
  EXPECT_EQ(w.changes(), before);
}

/// The stream itself, read as a stranger would.
class Stranger {
 public:
  explicit Stranger(std::uint16_t port, int receive_buffer = 0) : socket_(io_) {
    socket_.open(asio::ip::tcp::v4());
    if (receive_buffer) ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    socket_.connect({asio::ip::make_address("127.0.0.1"), port});
  }
  void ask(const std::string& target) {
    auto text = "GET " + target + " HTTP/1.0\r\n\r\n";
    ::send(socket_.native_handle(), text.data(), text.size(), 0);
  }
  /// Reads until `wanted` was seen or the stream ends.
  std::string read_until(const std::string& wanted) {
    char block[65536];
    while (got_.find(wanted) == std::string::npos) {
      auto n = ::recv(socket_.native_handle(), block, sizeof block, 0);
      if (n <= 0) break;
      got_.append(block, static_cast<std::size_t>(n));
    }
    return got_;
  }
  bool ends() {
    char block[65536];
    for (;;) {
      auto n = ::recv(socket_.native_handle(), block, sizeof block, 0);
      if (n <= 0) return true;
    }
  }

 private:
  asio::io_context io_;
  asio::ip::tcp::socket socket_;
  std::string got_;
};

TEST(CatalogStream, BeginsWithASnapshotAndBeatsWhenThereIsNothingNew) {
  Loop loop;
  FakeLeader leader(loop, 4);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  Stranger s(leader.port());
  s.ask("/croft/v1/catalog");
  auto text = s.read_until("\"snapshot\"");
  EXPECT_NE(text.find("200 OK"), std::string::npos);
  EXPECT_NE(text.find("application/x-ndjson"), std::string::npos);
  Stranger up_to_date(leader.port());
  up_to_date.ask("/croft/v1/catalog?after=4.1");
  EXPECT_NE(up_to_date.read_until("\"heartbeat\"").find("\"heartbeat\""), std::string::npos);
  EXPECT_EQ(up_to_date.read_until("heartbeat").find("snapshot"), std::string::npos);
  leader.leads(false);
  EXPECT_TRUE(s.ends());
}

TEST(CatalogStream, WhoKnowsAnotherStoreGetsASnapshotAndNoDeltas) {
  Loop loop;
  FakeLeader leader(loop, 4);
  leader.change([](Publisher& p) { p.set(endpoint("t1")); });
  for (std::string query : {"&cluster=other&commit=1", "&cluster=farm&commit=11"}) {
    Stranger s(leader.port());
    s.ask("/croft/v1/catalog?after=4.1" + query);
    EXPECT_NE(s.read_until("\"snapshot\"").find("\"snapshot\""), std::string::npos) << query;
  }
  Stranger ours(leader.port());
  ours.ask("/croft/v1/catalog?after=4.1&cluster=farm&commit=10");
  EXPECT_EQ(ours.read_until("\"heartbeat\"").find("\"snapshot\""), std::string::npos);
}

TEST(CatalogStream, RefusesABadIndexAndAMasterThatDoesNotLead) {
  Loop loop;
  FakeLeader leader(loop, 4);
  for (auto bad : {"x", "1", "1.", ".1", "1.-1", "1.2.3", "99999999999999999999.1"}) {
    Stranger s(leader.port());
    s.ask(std::string("/croft/v1/catalog?after=") + bad);
    EXPECT_NE(s.read_until("after: must be").find("422"), std::string::npos) << bad;
  }
  leader.leads(false);
  Stranger s(leader.port());
  s.ask("/croft/v1/catalog");
  EXPECT_NE(s.read_until("does not lead").find("503"), std::string::npos);
}

/// Takes `room` bytes, then the follower is found not to read.
class StuckWriter final : public net::StreamWriter {
 public:
  explicit StuckWriter(std::size_t room) : room_(room) {}
  asio::awaitable<bool> write(std::string chunk) override {
    largest = std::max(largest, chunk.size());
    bool fits = chunk.size() <= room_;
    if (fits) room_ -= chunk.size();
    co_return fits;
  }
  bool closed() const override { return false; }
  void write_limit(std::chrono::milliseconds limit) override { limit_ms = limit.count(); }
  std::size_t largest = 0;
  long limit_ms = 0;

 private:
  std::size_t room_;
};

TEST(CatalogStream, AFollowerTwoSecondsBehindIsCut) {
  Loop loop;
  auto p = publisher(1);
  for (int i = 0; i < 10'000; ++i) p.set(endpoint("task." + std::to_string(i)));
  p.flush();
  Feed feed = [&p](std::optional<Index> after) -> asio::awaitable<Batch> {
    Batch b{p.index(), p.since(after), true};
    co_return b;
  };
  auto response = loop.run(serve_catalog({}, feed, net::Signal::make()));
  auto writer = std::make_shared<StuckWriter>(1u << 20);
  auto stream = response.stream(writer);
  loop.run(std::move(stream));  // returns, although the leader leads on
  EXPECT_EQ(writer->limit_ms, 2000);
  EXPECT_LE(writer->largest, 256u << 10);
}

TEST(CatalogStream, ABigSnapshotArrivesWholeAndOneWhoDoesNotReadHoldsUpNobody) {
  Loop loop;
  FakeLeader leader(loop, 4);
  leader.change([](Publisher& p) {
    for (int i = 0; i < 20'000; ++i) p.set(endpoint("task." + std::to_string(i)));
  });
  Stranger sleeper(leader.port(), 4096);
  sleeper.ask("/croft/v1/catalog");
  Watcher w(loop, {.masters = {leader.origin()}, .saved = {}});
  ASSERT_TRUE(comes_true([&] { return w.content().endpoints.size() == 20'000; }, std::chrono::seconds(60))) << "with a sanitizer it takes its time";
  leader.change([](Publisher& p) { p.set(endpoint("one more")); });
  EXPECT_TRUE(comes_true([&] { return w.has("one more"); }));
}

}  // namespace
}  // namespace croft::catalog
