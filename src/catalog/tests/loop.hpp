#pragma once
// Threads that run coroutines while a test waits for what it wants to see.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <chrono>
#include <functional>
#include <thread>

namespace croft {

class Loop {
 public:
  boost::asio::any_io_executor executor() { return pool_.get_executor(); }
  boost::asio::any_io_executor strand() { return boost::asio::make_strand(pool_.get_executor()); }
  template <class T>
  T run(boost::asio::awaitable<T> work) {
    return boost::asio::co_spawn(pool_, std::move(work), boost::asio::use_future).get();
  }
  ~Loop() { pool_.stop(), pool_.join(); }

 private:
  boost::asio::thread_pool pool_{2};
};

/// Looks until it is so, at most `patience`.
inline bool comes_true(const std::function<bool()>& so, std::chrono::seconds patience = std::chrono::seconds(5)) {
  for (auto end = std::chrono::steady_clock::now() + patience; std::chrono::steady_clock::now() < end;) {
    if (so()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return so();
}

}  // namespace croft
