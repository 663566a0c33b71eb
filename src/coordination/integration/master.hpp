#pragma once
// A master as far as coordination goes, in this process or in a child of it; and a loop to run coroutines on.

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <future>
#include <thread>

#include "base/files.hpp"
#include "base/text.hpp"
#include "coordination/zookeeper.hpp"

namespace croft::coordination::testing_zk {

/// Two threads, as in croft.
class Loop {
 public:
  Loop() : guard_(io.get_executor()), threads_{std::thread([this] { io.run(); }), std::thread([this] { io.run(); })} {}
  ~Loop() {
    guard_.reset();
    io.stop();
    for (auto& t : threads_) t.join();
  }
  template <class T>
  std::future<T> start(asio::awaitable<T> work) { return asio::co_spawn(io, std::move(work), asio::use_future); }
  /// Every wait in these tests ends: what takes longer than 20 s has failed.
  template <class T>
  T run(asio::awaitable<T> work) { return get(start(std::move(work))); }
  template <class T>
  static T get(std::future<T> future, std::chrono::seconds limit = std::chrono::seconds(20)) {
    if (future.wait_for(limit) != std::future_status::ready) {
      std::fprintf(stderr, "FAILED: an operation did not end within %d s\n", static_cast<int>(limit.count()));
      std::abort();
    }
    return future.get();
  }
  asio::io_context io;

 private:
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  std::thread threads_[2];
};

struct Master {
  Master(Loop& l, std::string name, std::string servers, std::string place, Millis timeout = Millis(2000), fs::path keep_in = {}, std::string credentials = {})
      : loop(l) {
    ZookeeperOptions o;
    o.address = *parse_zookeeper_address("zk://" + (credentials.empty() ? "" : credentials + "@") + servers + "/mesos-" + place);
    o.session_timeout = timeout;
    o.operation_limit = Millis(4000);
    o.keep_in = std::move(keep_in);
    session = *ZookeeperSession::open(loop.io.get_executor(), std::move(o));
    election = *zookeeper_election(session, Leader{random_uuid(), name, "127.0.0.1", 5050, 8080, "1.11.0"});
    store = *zookeeper_store(session, "/croft-" + place);
  }
  ~Master() {
    loop.run(session->close());
  }
  Result<std::uint64_t> commit(std::string key, std::string value) {
    Batch b;
    b.put.emplace(std::move(key), std::move(value));
    return loop.run(store->commit(std::move(b)));
  }
  Loop& loop;
  std::shared_ptr<ZookeeperSession> session;
  std::unique_ptr<Election> election;
  std::unique_ptr<Store> store;
};

/// `croft_coordination_integration --master servers place timeout_ms keep_in`: leads, then obeys lines on stdin.
int child_main(int argc, char** argv);

/// Such a child; ended with the object.
class Child {
 public:
  Child(const std::string& servers, const std::string& place, Millis timeout, const fs::path& keep_in);
  ~Child();
  void signal(int number);
  void end();                                  ///< SIGKILL, and waits
  std::string ask(const std::string& line);    ///< one line down, one line up
  std::string read_line(Millis limit = Millis(10'000));

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;
  std::string rest_;
};

}  // namespace croft::coordination::testing_zk
