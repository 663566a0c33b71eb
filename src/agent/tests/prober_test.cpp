// Health checks: what a task's answer can do to its node.
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>

#include <atomic>
#include <thread>

#include "agent/prober.hpp"

namespace croft::agent {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

/// Answers every connection with these bytes, over and over while `endless`, and counts.
class Task {
 public:
  explicit Task(std::string words, bool endless = false) : words_(std::move(words)), endless_(endless), acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}), thread_([this] { serve(); }) {}
  ~Task() {
    stop_ = true;
    tcp::socket waker(io_);
    boost::system::error_code ec;
    waker.connect(acceptor_.local_endpoint(), ec);
    thread_.join();
  }
  ProbeResult probe(CheckKind kind = CheckKind::http, Millis timeout = Millis(2000)) {
    HealthCheck check;
    check.kind = kind;
    check.path = "/health";
    check.timeout = timeout;
    asio::io_context io;
    auto result = asio::co_spawn(io, agent::probe("127.0.0.1", acceptor_.local_endpoint().port(), check), asio::use_future);
    io.run();
    return result.get();
  }
  std::atomic<int> asked{0};
  std::atomic<std::size_t> sent{0};

 private:
  void serve() {
    while (true) {
      boost::system::error_code ec;
      auto socket = acceptor_.accept(ec);
      if (ec || stop_) return;
      ++asked;
      char request[4096];
      socket.read_some(asio::buffer(request), ec);
      do {
        asio::write(socket, asio::buffer(words_), ec);
        if (!ec) sent += words_.size();
      } while (endless_ && !ec && !stop_);
    }
  }
  std::string words_;
  bool endless_;
  std::atomic<bool> stop_{false};
  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

TEST(Probe, S10_ARedirectIsAnAnswerAndNoWay) {
  Task elsewhere("HTTP/1.1 200 OK\r\n\r\n");
  Task task("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
  auto result = task.probe();
  EXPECT_TRUE(result.passed) << result.cause;
  EXPECT_EQ(result.status, 302);
  EXPECT_EQ(task.asked, 1);
  EXPECT_EQ(elsewhere.asked, 0);
}

TEST(Probe, S10_AnEndlessLineIsCutAt16KiB) {
  Task task(std::string(4096, 'x'), true);
  auto result = task.probe();
  EXPECT_FALSE(result.passed);
  EXPECT_LT(task.sent, 64u << 20) << "what the kernel's buffers take, and no more";
}

TEST(Probe, S10_NoBodyIsReadHoweverLongItIs) {
  Task task("HTTP/1.1 200 OK\r\n\r\n" + std::string(65536, 'x'), true);
  auto begun = std::chrono::steady_clock::now();
  EXPECT_TRUE(task.probe().passed);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(1500)) << "its head was enough";
}

TEST(Probe, S10_SilenceEndsWithTheTimeOut) {
  Task task("");
  auto result = task.probe(CheckKind::http, Millis(200));
  EXPECT_FALSE(result.passed);
  Task garbage("\x16\x03\x01 nothing\r\n");
  EXPECT_EQ(garbage.probe().cause, "the answer is not HTTP");
  EXPECT_FALSE(garbage.probe(CheckKind::https).passed);
}

}  // namespace
}  // namespace croft::agent
