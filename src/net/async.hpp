#pragma once
// The few coroutine helpers that every shell wants.

#include <boost/asio/awaitable.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace croft::net {

namespace asio = boost::asio;

/// Waits; true when the time passed, false when cancelled.
asio::awaitable<bool> sleep_for(std::chrono::milliseconds duration);

/// Starts a coroutine that nobody awaits. An exception that leaves it is logged with `name` and ends only it. `owner` lives as long as the coroutine: for
/// one that is a member of it, and would come to its first line only when everybody else has let go of it.
void spawn(asio::any_io_executor executor, std::string name, asio::awaitable<void> work, std::shared_ptr<const void> owner = {});

/// A flag that coroutines on any executor can wait for. notify() wakes all waiters of this moment; a notify between check and wait is
/// not lost because wait takes the ticket read before the check.
class Signal : public std::enable_shared_from_this<Signal> {
 public:
  static std::shared_ptr<Signal> make() { return std::make_shared<Signal>(); }
  [[nodiscard]] std::uint64_t ticket() const { return count_.load(); }
  void notify();
  /// Returns true when notified since `ticket`, false after `limit`.
  asio::awaitable<bool> wait(std::uint64_t ticket, std::chrono::milliseconds limit);

 private:
  struct Waiter;
  std::atomic<std::uint64_t> count_{0};
  std::mutex mutex_;
  std::vector<std::shared_ptr<Waiter>> waiters_;
};

/// Runs blocking work (fsync, waitpid, SQLite) on a small pool of threads and resumes the caller on its own executor.
class BlockingPool {
 public:
  /// `nice`: how much these threads stand back behind the others (setpriority(2)).
  explicit BlockingPool(std::size_t threads = 2, int nice = 0);
  ~BlockingPool();
  /// `work` must not throw. Named so that the closure lives in this coroutine's frame.
  asio::awaitable<void> run(std::function<void()> work);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// For answers that take long to write, of farms with many tasks: threads of their own that stand back behind those that keep the farm going.
BlockingPool& readers();

}  // namespace croft::net
