#include "net/async.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <exception>

#include "base/log.hpp"

namespace croft::net {

asio::awaitable<bool> sleep_for(std::chrono::milliseconds duration) {
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, duration);
  boost::system::error_code ec;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  co_return !ec;
}

void spawn(asio::any_io_executor executor, std::string name, asio::awaitable<void> work, std::shared_ptr<const void> owner) {
  asio::co_spawn(executor, std::move(work), [name = std::move(name), owner = std::move(owner)](std::exception_ptr failure) {
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      log::error("net", "coroutine {} ended by an exception: {}", name, e.what());
    }
  });
}

/// A waiter's timer lives on a strand of its own, so that a notify from any thread and the wait cannot touch it at once.
struct Signal::Waiter {
  explicit Waiter(asio::any_io_executor executor) : strand(asio::make_strand(std::move(executor))), timer(strand) {}
  asio::strand<asio::any_io_executor> strand;
  asio::steady_timer timer;
  bool told = false;  // strand

  static asio::awaitable<void> wait(std::shared_ptr<Waiter> self) {
    boost::system::error_code ec;
    if (!self->told) co_await self->timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
};

void Signal::notify() {
  std::vector<std::shared_ptr<Waiter>> woken;
  {
    std::lock_guard lock(mutex_);
    count_.fetch_add(1);
    woken.swap(waiters_);
  }
  for (auto& waiter : woken)
    asio::post(waiter->strand, [waiter] {
      waiter->told = true;
      waiter->timer.cancel();
    });
}

asio::awaitable<bool> Signal::wait(std::uint64_t ticket, std::chrono::milliseconds limit) {
  auto self = shared_from_this();
  auto executor = co_await asio::this_coro::executor;
  auto mine = std::make_shared<Waiter>(executor);
  mine->timer.expires_after(limit);
  {
    std::lock_guard lock(mutex_);
    if (count_.load() != ticket) co_return true;
    waiters_.push_back(mine);
  }
  auto waiting = Waiter::wait(mine);
  co_await asio::co_spawn(mine->strand, std::move(waiting), asio::use_awaitable);
  std::lock_guard lock(mutex_);
  std::erase(waiters_, mine);
  co_return count_.load() != ticket;
}

struct BlockingPool::Impl {
  Impl(std::size_t threads, int priority) : pool(threads), nice(priority) {}
  asio::thread_pool pool;
  int nice;
};

BlockingPool::BlockingPool(std::size_t threads, int nice) : impl_(std::make_unique<Impl>(threads, nice)) {}
BlockingPool::~BlockingPool() { impl_->pool.join(); }

BlockingPool& readers() {
  static BlockingPool pool(2, 10);
  return pool;
}

/// Linux keeps priorities by thread. One that may not be lowered works on as it is.
static void stand_back(int nice) {
  thread_local int mine = 0;
  if (mine == nice) return;
  mine = nice;
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), nice);
}

/// Not by co_spawn: that passes the pool's queue once more on the way back, behind all work that waits there, and results pile up meanwhile.
asio::awaitable<void> BlockingPool::run(std::function<void()> work) {
  auto there = [impl = impl_.get(), work = std::move(work)](auto handler) mutable {
    auto back = asio::prefer(asio::get_associated_executor(handler), asio::execution::outstanding_work.tracked);
    asio::post(impl->pool, [impl, back, work = std::move(work), handler = std::move(handler)]() mutable {
      stand_back(impl->nice);
      std::exception_ptr failure;
      try {
        work();
      } catch (...) {
        failure = std::current_exception();
      }
      work = nullptr;
      asio::post(back, [handler = std::move(handler), failure]() mutable { handler(failure); });
    });
  };
  auto token = asio::use_awaitable;
  auto done = asio::async_initiate<asio::use_awaitable_t<>, void(std::exception_ptr)>(std::move(there), token);
  co_await std::move(done);
}

}  // namespace croft::net
