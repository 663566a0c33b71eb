#include "secure/login_service.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>

#include "secure/bytes.hpp"
#include "secure/password.hpp"

namespace croft::secure {

namespace {

/// Processor time of this thread: on a busy machine the wall clock would charge an attacker for what others did.
Millis thread_time() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return Millis(t.tv_sec * 1000 + t.tv_nsec / 1'000'000);
}

}  // namespace

struct LoginService::Impl {
  explicit Impl(LoginOptions options) : core(options), cost(options.cost), accounts(std::make_shared<const Accounts>()), thread([this] { work(); }) {}

  void work() {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19);
    std::unique_lock lock(mutex);
    while (!stopping) {
      auto job = core.next(std::chrono::steady_clock::now());
      if (!job) {
        if (auto at = core.wake()) changed.wait_until(lock, *at);
        else changed.wait(lock);
        continue;
      }
      lock.unlock();
      auto began = thread_time();
      bool matched = false;
      if (job->record.empty()) waste_a_try(job->password, cost);
      else matched = password_matches(job->record, job->password).value_or(false);
      wipe(job->password);
      auto took = thread_time() - began;
      lock.lock();
      if (stopping) return;
      auto answers = core.finish(*accounts, job->id, matched, took, std::chrono::steady_clock::now());
      lock.unlock();
      tell(std::move(answers));
      lock.lock();
    }
  }

  void tell(std::vector<std::pair<LoginCore::Waiter, Verdict>> answers) {
    for (auto& [waiter, verdict] : answers) {
      std::function<void(Verdict)> done;
      {
        std::lock_guard lock(mutex);
        auto at = waiting.find(waiter);
        if (at == waiting.end()) continue;
        done = std::move(at->second);
        waiting.erase(at);
      }
      done(std::move(verdict));
    }
  }

  mutable std::mutex mutex;
  std::condition_variable changed;
  LoginCore core;                                                            // mutex
  const PasswordCost cost;
  std::shared_ptr<const Accounts> accounts;                                  // mutex
  std::unordered_map<LoginCore::Waiter, std::function<void(Verdict)>> waiting;  // mutex
  LoginCore::Waiter last = 0;                                                // mutex
  bool stopping = false;                                                     // mutex
  std::thread thread;
};

LoginService::LoginService(LoginOptions options) : impl_(std::make_unique<Impl>(options)) {}

LoginService::~LoginService() {
  std::vector<std::pair<LoginCore::Waiter, Verdict>> left;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    left = impl_->core.give_up();
  }
  impl_->changed.notify_all();
  impl_->thread.join();
  impl_->tell(std::move(left));
}

void LoginService::set_accounts(std::shared_ptr<const Accounts> accounts) {
  std::lock_guard lock(impl_->mutex);
  impl_->accounts = std::move(accounts);
}

std::shared_ptr<const Accounts> LoginService::accounts() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->accounts;
}

void LoginService::check(const Credentials& credentials, std::string_view source, Wall now, std::function<void(Verdict)> done) {
  if (credentials.scheme == Credentials::Scheme::bearer) {
    auto who = accounts()->bearer(credentials.secret, now);
    if (who) done({Verdict::Outcome::granted, std::move(*who), {}, {}});
    else done({Verdict::Outcome::refused, {}, {}, std::move(who).error().context});
    return;
  }
  std::optional<Verdict> at_once;
  {
    std::lock_guard lock(impl_->mutex);
    auto waiter = ++impl_->last;
    at_once = impl_->core.begin(*impl_->accounts, source, credentials.user, credentials.secret, waiter, std::chrono::steady_clock::now());
    if (!at_once) impl_->waiting[waiter] = std::move(done);
  }
  if (at_once) done(std::move(*at_once));
  else impl_->changed.notify_one();
}

LoginCore::Stats LoginService::stats() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->core.stats();
}

}  // namespace croft::secure
