#include "net/async.hpp"

#include <gtest/gtest.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/strand.hpp>

#include "wire.hpp"

namespace croft::net {
namespace {

asio::awaitable<bool> wait_on(std::shared_ptr<Signal> signal, std::uint64_t ticket, Ms limit) { co_return co_await signal->wait(ticket, limit); }

TEST(SignalTest, ANotifyBetweenLookAndWaitIsNotLost) {
  Loop loop;
  auto signal = Signal::make();
  auto ticket = signal->ticket();
  signal->notify();
  auto begun = Steady::now();
  EXPECT_TRUE(loop.run(wait_on(signal, ticket, Ms(3000))));
  EXPECT_LT(Steady::now() - begun, Ms(1000));
}

TEST(SignalTest, GivesUpAtItsLimitAndNotBefore) {
  Loop loop;
  auto signal = Signal::make();
  auto begun = Steady::now();
  EXPECT_FALSE(loop.run(wait_on(signal, signal->ticket(), Ms(30))));
  EXPECT_GE(Steady::now() - begun, Ms(30));
}

TEST(SignalTest, WakesAllWaitersOfTheMoment) {
  Loop loop;
  auto signal = Signal::make();
  auto ticket = signal->ticket();
  std::vector<std::future<bool>> waiting;
  for (int i = 0; i < 20; ++i) waiting.push_back(asio::co_spawn(loop.executor(), wait_on(signal, ticket, Ms(3000)), asio::use_future));
  EXPECT_EQ(waiting[0].wait_for(Ms(10)), std::future_status::timeout);
  signal->notify();
  for (auto& w : waiting) {
    ASSERT_EQ(w.wait_for(Ms(1000)), std::future_status::ready);
    EXPECT_TRUE(w.get());
  }
}

asio::awaitable<int> follow(std::shared_ptr<Signal> signal, std::shared_ptr<std::atomic<int>> value, int until) {
  int wakes = 0;
  for (;;) {
    auto ticket = signal->ticket();
    if (*value >= until) co_return wakes;
    if (!co_await signal->wait(ticket, Ms(3000))) co_return -1;
    ++wakes;
  }
}

TEST(SignalTest, NoWakeIsLostUnderContention) {
  Loop loop;
  auto signal = Signal::make();
  auto value = std::make_shared<std::atomic<int>>(0);
  std::vector<std::future<int>> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(asio::co_spawn(loop.executor(), follow(signal, value, 2000), asio::use_future));
  for (int i = 0; i < 2000; ++i) ++*value, signal->notify();
  for (auto& w : waiting) {
    ASSERT_EQ(w.wait_for(patience), std::future_status::ready);
    EXPECT_GE(w.get(), 0) << "a wait ran into its limit though it had been notified";
  }
}

asio::awaitable<std::pair<bool, bool>> work_elsewhere(BlockingPool& pool) {
  auto executor = co_await asio::this_coro::executor;
  auto strand = asio::make_strand(executor);
  std::thread::id there, here = std::this_thread::get_id();
  std::function<void()> work = [&] { there = std::this_thread::get_id(); };
  co_await pool.run(work);
  co_return std::pair(there != std::thread::id(), there != here);
}

TEST(BlockingPoolTest, WorksOnItsOwnThreads) {
  BlockingPool pool(1);  // outlives whoever still hands work to it
  Loop loop;
  auto [ran, elsewhere] = loop.run(work_elsewhere(pool));
  EXPECT_TRUE(ran);
  EXPECT_TRUE(elsewhere);
}

asio::awaitable<bool> stays_on_strand(asio::strand<asio::any_io_executor> strand, BlockingPool& pool) {
  std::function<void()> work = [] {};
  for (int i = 0; i < 20; ++i) {
    co_await pool.run(work);
    if (!strand.running_in_this_thread()) co_return false;
  }
  co_return true;
}

asio::awaitable<void> note_when_back(BlockingPool& pool, std::function<void()> work, std::atomic<int>& back) {
  co_await pool.run(std::move(work));
  ++back;
}

TEST(BlockingPoolTest, ResultsDoNotWaitForWhatWaits) {
  BlockingPool pool(1);
  asio::thread_pool callers(1);
  std::atomic<int> back{0}, begun{0};
  std::atomic<bool> in_time{true};
  std::vector<std::future<void>> done;
  for (int i = 0; i < 20; ++i) {
    std::function<void()> work = [&, i] {
      // All are queued by then; each but the first sees that the one before the last is back.
      if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
      for (auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4); in_time && back < begun && std::chrono::steady_clock::now() < end;) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (back < begun) in_time = false;
      ++begun;
    };
    auto job = note_when_back(pool, std::move(work), back);
    done.push_back(asio::co_spawn(callers, std::move(job), asio::use_future));
  }
  for (auto& one : done) one.get();
  EXPECT_TRUE(in_time);
}

asio::awaitable<bool> sees_failure(BlockingPool& pool) {
  std::function<void()> work = [] { throw std::runtime_error("no"); };
  try {
    co_await pool.run(std::move(work));
  } catch (const std::runtime_error&) {
    co_return true;
  }
  co_return false;
}

TEST(BlockingPoolTest, WhatIsThrownComesBack) {
  BlockingPool pool(1);
  asio::thread_pool callers(1);
  auto job = sees_failure(pool);
  EXPECT_TRUE(asio::co_spawn(callers, std::move(job), asio::use_future).get());
}

TEST(BlockingPoolTest, ResumesTheCallerOnItsExecutor) {
  BlockingPool pool(2);
  Loop loop;
  auto strand = asio::make_strand(loop.executor());
  auto done = asio::co_spawn(strand, stays_on_strand(strand, pool), asio::use_future);
  ASSERT_EQ(done.wait_for(patience), std::future_status::ready);
  EXPECT_TRUE(done.get());
}

asio::awaitable<void> throws() {
  throw std::runtime_error("on purpose");
  co_return;
}

asio::awaitable<void> tells(std::shared_ptr<std::atomic<bool>> told) {
  *told = true;
  co_return;
}

TEST(Spawn, AnExceptionEndsOnlyItsCoroutine) {
  Loop loop;
  auto told = std::make_shared<std::atomic<bool>>(false);
  spawn(loop.executor(), "thrower", throws());
  spawn(loop.executor(), "teller", tells(told));
  EXPECT_TRUE(comes_true([&] { return told->load(); }));
}

asio::awaitable<bool> cut_short() {
  using namespace asio::experimental::awaitable_operators;
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer soon(executor, Ms(5));
  auto begun = Steady::now();
  auto first = soon.async_wait(asio::use_awaitable);
  auto second = sleep_for(Ms(3000));
  auto which = co_await (std::move(first) || std::move(second));
  co_return which.index() == 0 && Steady::now() - begun < Ms(1000);
}

TEST(SleepFor, SleepsItsTimeAndCanBeCancelled) {
  Loop loop;
  auto begun = Steady::now();
  EXPECT_TRUE(loop.run(sleep_for(Ms(20))));
  EXPECT_GE(Steady::now() - begun, Ms(20));
  EXPECT_TRUE(loop.run(cut_short()));
}

}  // namespace
}  // namespace croft::net
