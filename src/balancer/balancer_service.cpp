#include "balancer/balancer_service.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "balancer/balancer_impl.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::balancer {

namespace {

constexpr std::chrono::milliseconds ask_every{1000};      // whether HAProxy is who we think; that its process ends is noticed at once
constexpr std::chrono::milliseconds confirm_every{250}, apply_gap{10};

KeeperOptions keeper_options(const BalancerOptions& o) {
  KeeperOptions k;
  k.rendering.run_dir = o.run_dir.string();
  k.rendering.address = o.address;
  k.shared_ports = o.shared_ports;
  k.optional_ports = o.optional_ports;
  k.own_ip = o.ip;
  return k;
}

/// Configurations that Haproxy::check was trying when this process's predecessor was killed. Each has a name of its own, so they would only grow in number.
void remove_trials(const fs::path& run_dir) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(run_dir, ec)) {
    auto name = entry.path().filename().string();
    std::error_code gone;
    if (name.starts_with("check.") && (name.ends_with(".cfg") || name.ends_with(".cfg.new"))) fs::remove(entry.path(), gone);
  }
}

}  // namespace

BalancerService::Impl::Impl(asio::any_io_executor pool, BalancerOptions o, Metrics& metrics)
    : options(std::move(o)), strand(asio::make_strand(pool)), client(pool), haproxy({.run_dir = options.run_dir, .by_unit = options.haproxy_by_unit}), keeper(keeper_options(options), haproxy),
      reloads(metrics.counter("croft_balancer_reloads_total", "HAProxy reloads.")), commands(metrics.counter("croft_balancer_commands_total", "Runtime commands sent to HAProxy.")),
      failures(metrics.counter("croft_balancer_failures_total", "Changes that HAProxy did not take at once.")),
      apply_seconds(metrics.histogram("croft_balancer_apply_seconds", "From a change in the catalog to HAProxy having it.")),
      subscription(strand, {options.masters, options.saved, std::chrono::milliseconds(3000)}, [this](const catalog::Follower& f, const catalog::Follower::Change&) {
        {
          std::lock_guard lock(mutex);
          newest = {std::make_shared<const catalog::Content>(f.content()), std::make_shared<const catalog::Doubt>(f.doubt()), f.index()};
          unapplied = true;
        }
        changed->notify();
      }) {
  metrics.sampled("croft_balancer_stale", "1 while no leader is heard.", [this] { return subscription.stale() ? 1.0 : 0.0; });
}

void BalancerService::Impl::tell_left_out() {
  std::set<std::string> now(keeper.left_out().begin(), keeper.left_out().end());
  for (const auto& words : now)
    if (!told_left_out.contains(words)) log::warn("balancer", "{}", words);
  told_left_out = std::move(now);
}

void BalancerService::Impl::look_again() {
  {
    std::lock_guard lock(mutex);
    unapplied = newest.content != nullptr;
  }
  changed->notify();
}

void BalancerService::Impl::watch_worker(int pid) {
  if (pid == watched) return;
  watched = pid;
  worker.reset();
  if (pid == 0) return;
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return look_again();  // it has ended already
  worker = std::make_unique<asio::posix::stream_descriptor>(strand, fd.release());
  worker->async_wait(asio::posix::stream_descriptor::wait_read, [self = weak_from_this(), pid](boost::system::error_code ec) {
    auto impl = self.lock();
    if (ec || !impl || impl->watched != pid) return;
    impl->watched = 0;
    impl->look_again();
  });
}

asio::awaitable<Keeper::Outcome> BalancerService::Impl::apply(Copy copy) {
  auto begun = std::chrono::steady_clock::now();
  auto outcome = std::make_shared<Keeper::Outcome>();
  std::function<void()> work = [this, copy, outcome, begun] {
    *outcome = keeper.apply(*copy.content, copy.at.has_value(), begun, *copy.doubt);
    tell_left_out();
  };
  co_await blocking.run(work);
  watch_worker(keeper.pid());
  drains = keeper.drains();
  commands.add(outcome->commands);
  reloads.add(outcome->reloads);
  if (!outcome->trouble.empty()) failures.add();
  if (outcome->in_force) {
    apply_seconds.observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
    if (copy.at) applied = copy.at;
    if (copy.at && outcome->whole) routed = copy.at;
    applied_signal->notify();
  }
  co_return *outcome;
}

asio::awaitable<void> BalancerService::Impl::apply_loop() {
  auto self = shared_from_this();
  ++loops;
  std::string last_trouble;
  std::optional<Mono> again;
  while (!stopping) {
    auto ticket = changed->ticket();
    std::optional<Copy> todo;
    bool due = again && *again <= std::chrono::steady_clock::now();
    {
      std::lock_guard lock(mutex);
      if (std::exchange(unapplied, false) || due) todo = newest;
    }
    if (todo) {
      auto begun = std::chrono::steady_clock::now();
      auto outcome = co_await apply(*todo);
      if (!outcome.trouble.empty() && outcome.trouble != last_trouble) log::error("balancer", "{}", outcome.trouble);
      last_trouble = outcome.trouble;
      again.reset();
      if (outcome.again) again = std::chrono::steady_clock::now() + *outcome.again;
      // The first of many changes is in force at once; those right behind it go together.
      if (auto early = begun + apply_gap - std::chrono::steady_clock::now(); early > early.zero()) co_await net::sleep_for(std::chrono::ceil<Millis>(early));
      continue;
    }
    auto patience = ask_every;
    if (again) patience = std::min(patience, std::max(Millis(1), std::chrono::ceil<Millis>(*again - std::chrono::steady_clock::now())));
    if (co_await changed->wait(ticket, patience)) continue;
    if (again) continue;
    auto lost = std::make_shared<bool>(false);
    std::function<void()> look = [this, lost] { *lost = keeper.lost(); };
    co_await blocking.run(look);
    if (*lost) look_again();
  }
  worker.reset();
  --loops;
}

asio::awaitable<void> BalancerService::Impl::confirm_loop() {
  auto self = shared_from_this();
  ++loops;
  while (!stopping) {
    auto ticket = applied_signal->ticket();
    if (applied) {
      catalog::Confirmation c{{BalancerId(fmt::format("{}:{}", options.host, options.api_port)), options.host, options.ip}, *applied, {}};
      auto open = std::make_shared<std::map<TaskId, std::uint32_t>>();
      std::function<void()> look = [this, open] { *open = keeper.open_requests(); };
      if (drains) co_await blocking.run(look);
      c.open = *open;
      bool draining = !c.open.empty();
      (void)co_await subscription.confirm(std::move(c));
      (void)co_await applied_signal->wait(ticket, draining ? std::chrono::milliseconds(20) : confirm_every);
    } else {
      (void)co_await applied_signal->wait(ticket, confirm_every);
    }
  }
  --loops;
}

BalancerService::BalancerService(asio::any_io_executor pool, BalancerOptions options, Metrics& metrics) : impl_(std::make_shared<Impl>(std::move(pool), std::move(options), metrics)) {}
BalancerService::~BalancerService() = default;

Status BalancerService::start() {
  if (auto ok = make_dirs(impl_->options.run_dir, 0750); !ok) return ok;
  remove_trials(impl_->options.run_dir);
  impl_->subscription.start();
  net::spawn(impl_->strand, "balancer", impl_->apply_loop(), impl_);
  net::spawn(impl_->strand, "balancer confirmations", impl_->confirm_loop(), impl_);
  return {};
}

asio::awaitable<void> BalancerService::stop() {
  auto impl = impl_;
  impl->stopping = true;
  impl->changed->notify();
  impl->applied_signal->notify();
  co_await impl->subscription.stop();
  for (int i = 0; i < 400 && impl->loops > 0; ++i) co_await net::sleep_for(std::chrono::milliseconds(5));
}

void shut_down(const fs::path& run_dir) { Haproxy({run_dir, "/usr/sbin/haproxy"}).stop(); }

}  // namespace croft::balancer
