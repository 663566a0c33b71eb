#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>

#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "logs/es_api.hpp"
#include "logs/shipper.hpp"
#include "net/http_server.hpp"
#include "store_fixture.hpp"

namespace croft::logs {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

/// A shipper, and a log host that can be told to be away, busy, or to lose its answers.
class ShipperTest : public StoreTest {
 protected:
  ShipperTest() : guard_(asio::make_work_guard(io_)) {
    add_es_routes(*router_, *store_, pool_, {});
    net::Handler handler = [this](net::Request r) { return serve(std::move(r)); };
    server_ = std::make_unique<net::HttpServer>(io_.get_executor(), handler);
    port_ = *server_->listen("127.0.0.1", 0);
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { io_.run(); });
  }
  ~ShipperTest() override {
    stop_shipper();
    wait_for(server_->stop(std::chrono::milliseconds(100)));
    guard_.reset();
    io_.stop();
    for (auto& t : threads_) t.join();
  }
  asio::awaitable<net::Response> serve(net::Request r) {
    ++requests_;
    if (status_ != 0) {
      auto response = net::Response::text("told to", status_);
      co_return response;
    }
    auto answer = co_await router_->handle(std::move(r));
    if (lose_answers_ > 0) {
      --lose_answers_;
      co_return net::Response::text("stored, but the answer was lost", 503);
    }
    co_return answer;
  }
  void wait_for(asio::awaitable<void> work) { asio::co_spawn(io_, std::move(work), asio::use_future).get(); }

  void start_shipper(std::uint64_t spool_bytes = 1 << 30) {
    ShipperOptions o;
    o.targets = {{.host = "127.0.0.1", .port = port_, .unix_path = {}}};
    o.host = "node1";
    o.state = dir_.path() / "shipper.json";
    o.spool = dir_.path() / "spool";
    o.spool_bytes = spool_bytes;
    o.look_every = std::chrono::milliseconds(10);
    o.save_every = std::chrono::milliseconds(50);
    o.pause_max = std::chrono::milliseconds(100);
    o.input_addresses = {"127.0.0.1"};
    o.input_port = 0;
    o.unshipped = unshipped_;
    o.sources = [this]() -> asio::awaitable<std::vector<LogSource>> {
      std::lock_guard lock(mutex_);
      co_return sources_;
    };
    shipper_ = std::make_unique<Shipper>(io_.get_executor(), o, shipper_metrics_);
    auto ok = shipper_->start();
    ASSERT_TRUE(ok) << ok.error().context;
  }
  void stop_shipper() {
    if (!shipper_) return;
    wait_for(shipper_->stop());
    shipper_.reset();
  }
  void add_task(const std::string& task) {
    ASSERT_TRUE(make_dirs(dir_.path() / task));
    std::lock_guard lock(mutex_);
    sources_.push_back({task, "/app", (dir_.path() / task).string(), false});
  }
  void print(const std::string& task, const std::string& text, std::optional<Wall> when = {}) {
    auto dir = dir_.path() / task;
    std::int64_t at = when.value_or(system_now().wall).time_since_epoch().count();
    std::ofstream times(dir / "stdout.times", std::ios::app | std::ios::binary);
    times.write(reinterpret_cast<const char*>(&totals_[task]), 8).write(reinterpret_cast<const char*>(&at), 8);
    times.flush();
    std::ofstream(dir / "stdout", std::ios::app | std::ios::binary) << text;
    totals_[task] += text.size();
  }
  /// As the executor does with two files: a name is free before another file takes it.
  void rotate(const std::string& task) {
    auto dir = dir_.path() / task;
    std::error_code ec;
    for (std::string suffix : {"", ".times"}) fs::remove(dir / ("stdout.1" + suffix), ec);
    for (std::string suffix : {"", ".times"}) fs::rename(dir / ("stdout" + suffix), dir / ("stdout.1" + suffix), ec);
  }
  /// Files of a folder of the spool; -1 when it is not there.
  std::ptrdiff_t spooled(const fs::path& folder) {
    std::error_code ec;
    auto files = fs::directory_iterator(dir_.path() / "spool" / folder, ec);
    return ec ? -1 : std::distance(files, {});
  }
  void send(const std::string& text) {
    asio::io_context io;
    tcp::socket socket(io);
    socket.connect({asio::ip::make_address("127.0.0.1"), shipper_->input_port()});
    asio::write(socket, asio::buffer(text));
  }
  /// Until so many documents match, and then no more.
  void expect_count(std::string_view query, std::uint64_t wanted) {
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (count(query) < wanted && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(count(query), wanted) << query;
  }
  void expect_soon(const std::function<bool()>& true_at_last, const char* what) {
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!true_at_last() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(true_at_last()) << what;
  }

  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  std::vector<std::thread> threads_;
  net::BlockingPool pool_{1};
  std::shared_ptr<net::Router> router_ = std::make_shared<net::Router>();
  std::unique_ptr<net::HttpServer> server_;
  std::uint16_t port_ = 0;
  std::atomic<int> status_{0}, lose_answers_{0}, requests_{0};
  Metrics shipper_metrics_;
  std::unique_ptr<Shipper> shipper_;
  std::shared_ptr<Unshipped> unshipped_ = std::make_shared<Unshipped>();
  std::mutex mutex_;
  std::vector<LogSource> sources_;
  std::map<std::string, std::uint64_t> totals_;
};

TEST_F(ShipperTest, LinesArriveWithWhoSaidThem) {
  add_task("t1");
  print("t1", "hello\n{\"n\":7}\n");
  start_shipper();
  expect_count("app:\"/app\" AND task:t1 AND host:node1 AND stream:stdout", 2);
  expect_count("n:7", 1);
}

TEST_F(ShipperTest, S17_TimesThatATaskForgedMakeNoIndices) {
  add_task("t1");
  for (int i = 1; i <= 20; ++i) print("t1", "a line\n", Wall(std::chrono::days(i * 300)));
  print("t1", "a line\n", Wall(Millis(INT64_MAX)));
  print("t1", "a line\n", Wall(Millis(INT64_MIN)));
  start_shipper();
  expect_count("task:t1", 22);
  EXPECT_LE(store_->indices().size(), 2u) << "today's, and another around midnight";
}

TEST_F(ShipperTest, AnAnswerThatIsLostDoublesNothing) {
  add_task("t1");
  lose_answers_ = 2;
  start_shipper();
  for (int i = 0; i < 5; ++i) print("t1", "line " + std::to_string(i) + "\n");
  expect_soon([&] { return lose_answers_ == 0; }, "two answers were lost");
  print("t1", "last\n");
  expect_count("last", 1);
  expect_count("*", 6);
}

TEST_F(ShipperTest, WhileTheLogHostIsAwayLinesWaitAndComeOnceWhenItIsBack) {
  add_task("t1");
  status_ = 503;
  start_shipper();
  for (int i = 0; i < 4; ++i) {
    print("t1", "away " + std::to_string(i) + "\n");
    rotate("t1");  // which takes the file before it
    print("t1", "x\n");
    expect_soon([&] { return spooled("tasks/t1") == 2 * (i + 1); }, "the rotated file and its times are in the spool");
  }
  send("{\"by\":\"tcp\"}\n");
  expect_soon([&] { return spooled("input") == 1; }, "what came over TCP is on the disk");
  EXPECT_TRUE(unshipped_->contains((dir_.path() / "t1").string()));
  // And it dies in between: what an orderly end would have written down is not there.
  auto state = read_file(dir_.path() / "shipper.json");
  ASSERT_TRUE(state) << "the task is known on the disk though nothing of it was ever taken";
  stop_shipper();
  ASSERT_TRUE(write_file_atomic(dir_.path() / "shipper.json", *state));
  status_ = 429;
  start_shipper();
  send("{\"by\":\"tcp\"}\n");
  status_ = 0;
  expect_count("away", 4);
  expect_count("x", 4);
  expect_count("by:tcp", 2);
  expect_count("_exists_:gap", 0);
  expect_soon([&] { return spooled("tasks/t1") <= 0 && spooled("input") == 0; }, "the spool is empty again");
}

TEST_F(ShipperTest, WithoutItsStateWhatTheAgentNamesIsKeptAndTheRestOfTheSpoolGoes) {
  add_task("t1");
  status_ = 503;
  start_shipper();
  print("t1", "first\n");
  rotate("t1");
  print("t1", "second\n");
  expect_soon([&] { return spooled("tasks/t1") == 2; }, "the rotated file and its times are in the spool");
  stop_shipper();
  rotate("t1");
  fs::remove(dir_.path() / "shipper.json");
  ASSERT_TRUE(make_dirs(dir_.path() / "spool/tasks/gone"));
  status_ = 0;
  start_shipper();
  expect_count("first OR second", 2);
  expect_soon([&] { return spooled("tasks/gone") == -1; }, "nobody's files go");
  expect_count("_exists_:gap", 0);
}

TEST_F(ShipperTest, PastTheSpoolsBoundTheOldestGoesAndAGapSaysSo) {
  status_ = 503;
  start_shipper(20'000'000);
  std::string line = "{\"pad\":\"" + std::string(900'000, 'x') + "\"}\n";
  for (int i = 0; i < 30; ++i) send(line);
  expect_soon([&] { return shipper_metrics_.print().find("croft_shipper_lost_bytes_total 0\n") == std::string::npos; }, "something was dropped");
  status_ = 0;
  expect_soon([&] { return count("_exists_:gap") >= 1; }, "the gap is stored");
  auto kept = count("_exists_:pad");
  EXPECT_LT(kept, 30u);
}

TEST_F(ShipperTest, TheInputTakesWhateverComes) {
  start_shipper();
  send("{\"ok\":1}\n{\"half\":\nplain words\n\n\xff\xfe\n");
  send("{\"no\":\"newline\"}");
  send(std::string(1'500'000, 'y') + "\n{\"after\":\"the long one\"}\n");
  for (int i = 0; i < 50; ++i) send("{\"many\":" + std::to_string(i) + "}\n");
  expect_count("ok:1", 1);
  expect_count("tags:_jsonparsefailure", 1);
  expect_count("\"plain words\"", 1);
  expect_count("tags:_invalid_utf8", 1);
  expect_count("no:newline", 1);
  expect_count("tags:_truncated", 1);
  expect_count("_exists_:after", 1);
  expect_count("_exists_:many", 50);
  expect_count("host:node1", 57);
}

TEST_F(ShipperTest, ATaskThatEndedIsReadToItsEndAndForgotten) {
  add_task("t1");
  start_shipper();
  print("t1", "first\nno newline at the end");
  expect_count("first", 1);
  {
    std::lock_guard lock(mutex_);
    sources_[0].ended = true;
  }
  expect_count("\"no newline\"", 1);
  expect_soon([&] { return !unshipped_->contains((dir_.path() / "t1").string()); }, "its sandbox may be collected");
}

}  // namespace
}  // namespace croft::logs
