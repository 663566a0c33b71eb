#include "balancer/balancer_service.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "balancer/balancer_impl.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::balancer {

namespace {

constexpr std::chrono::milliseconds look_every{100};      // whether HAProxy still lives
constexpr std::chrono::milliseconds confirm_every{250};
constexpr std::chrono::milliseconds retry_after{500};

bool port_is_free(const std::string& address, std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  if (address.empty() || ::inet_pton(AF_INET, address.c_str(), &a.sin_addr) != 1) a.sin_addr.s_addr = INADDR_ANY;
  return ::bind(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0 && ::listen(fd.get(), 1) == 0;
}

}  // namespace

BalancerService::Impl::Impl(asio::any_io_executor pool, BalancerOptions o, Metrics& metrics)
    : options(std::move(o)), strand(asio::make_strand(pool)), client(pool), haproxy({options.run_dir, "/usr/sbin/haproxy", options.haproxy_by_unit}),
      reloads(metrics.counter("croft_balancer_reloads_total", "HAProxy reloads.")), commands(metrics.counter("croft_balancer_commands_total", "Runtime commands sent to HAProxy.")),
      failures(metrics.counter("croft_balancer_failures_total", "Changes that HAProxy did not take at once.")),
      apply_seconds(metrics.histogram("croft_balancer_apply_seconds", "From a change in the catalog to HAProxy having it.")),
      subscription(strand, {options.masters, options.saved, std::chrono::milliseconds(3000)}, [this](const catalog::Follower& f, const catalog::Follower::Change&) {
        {
          std::lock_guard lock(mutex);
          newest = std::make_shared<const catalog::Content>(f.content());
          newest_at = f.index();
          unapplied = true;
        }
        changed->notify();
      }) {
  rendering.run_dir = options.run_dir.string();
  rendering.address = options.address;
  metrics.sampled("croft_balancer_stale", "1 while no leader is heard.", [this] { return subscription.stale() ? 1.0 : 0.0; });
}

/// Which front-end ports are ours. With a HAProxy of ours running, those that it has stay.
bool BalancerService::Impl::choose_ports() {
  auto have = haproxy.running() ? read_file(haproxy.config_file()).value_or("") : std::string();
  auto ours = [&](std::uint16_t port) { return have.find(fmt::format(":{}\n", port)) != std::string::npos; };
  rendering.shared_ports.clear();
  for (auto port : options.shared_ports) {
    if (!ours(port) && !port_is_free(options.address, port)) {
      log::error("balancer", "port {} is taken by another program; HAProxy is not started beside it", port);
      return false;
    }
    rendering.shared_ports.push_back(port);
  }
  for (auto port : options.optional_ports)
    if (ours(port) || port_is_free(options.address, port)) rendering.shared_ports.push_back(port);
  return true;
}

/// After an adoption: which slot holds which address, so that instances keep theirs.
void BalancerService::Impl::adopt_slots(Plan& wanted) const {
  auto addresses = haproxy.addresses();
  if (!addresses) return;
  for (auto& [name, backend] : wanted.backends) {
    std::vector<Slot> placed(backend.slots.size()), rest;
    for (const auto& slot : backend.slots) {
      if (slot.state == Slot::State::free) continue;
      bool found = false;
      for (std::size_t i = 0; i < placed.size() && !found; ++i) {
        auto at = addresses->find(fmt::format("{}/s{}", name, i + 1));
        if (at == addresses->end() || at->second.first != slot.ip || at->second.second != slot.port || placed[i].state != Slot::State::free) continue;
        placed[i] = slot;
        found = true;
      }
      if (!found) rest.push_back(slot);
    }
    auto free = placed.begin();
    for (auto& slot : rest) {
      free = std::find_if(free, placed.end(), [](const Slot& s) { return s.state == Slot::State::free; });
      if (free != placed.end()) *free = slot;
    }
    backend.slots = std::move(placed);
  }
}

/// Rules that HAProxy refuses are left out, each with its reason, and everything else goes on.
void BalancerService::Impl::drop_bad_rules(const catalog::Content& c) {
  for (const auto& [app, rule] : c.rules) {
    auto known = checked_rules.find(app);
    if (known != checked_rules.end() && known->second == rule.acl) continue;
    checked_rules[app] = rule.acl;
    auto ok = haproxy.check(probe_config(rule.acl));
    if (ok) bad_rules.erase(app);
    else if (bad_rules.insert(app).second) log::error("balancer", "app={} its rule is left out: {}", app, ok.error().context);
  }
}

Status BalancerService::Impl::bring_up(Plan wanted) {
  if (!ports_chosen && !choose_ports()) return fail(Errc::unavailable, "a front-end port is taken");
  ports_chosen = true;
  for (const auto& [name, b] : wanted.backends) {
    if (!b.service_port || haproxy.running() || port_is_free(options.address, b.service_port)) continue;
    if (rendering.skipped_ports.insert(b.service_port).second) log::error("balancer", "service port {} of {} is taken by another program; it gets no front end", b.service_port, b.app);
  }
  bool adopting = haproxy.running();
  if (adopting) adopt_slots(wanted);
  auto text = render(wanted, rendering);
  if (auto ok = haproxy.check(text); !ok) return ok;
  if (auto ok = haproxy.write_config(text); !ok) return ok;
  auto ok = adopting ? haproxy.reload() : haproxy.start();
  if (adopting) reloads.add();
  if (!ok) return ok;
  log::info("balancer", "HAProxy {}, {} back ends", adopting ? "adopted" : "started", wanted.backends.size());
  plan = std::move(wanted);
  shape = shape_of(plan, rendering);
  up = true;
  return {};
}

Status BalancerService::Impl::change(Plan wanted) {
  auto wanted_shape = shape_of(wanted, rendering);
  auto text = render(wanted, rendering);
  if (wanted_shape == shape) {
    auto list = runtime_commands(plan, wanted);
    if (list.empty()) return {};
    if (auto ok = haproxy.run(list); !ok) return ok;
    commands.add(list.size());
    plan = std::move(wanted);
    return haproxy.write_config(text);
  }
  for (const auto& [name, b] : wanted.backends) {
    if (!b.service_port || plan.backends.contains(name) || port_is_free(options.address, b.service_port)) continue;
    if (rendering.skipped_ports.insert(b.service_port).second) log::error("balancer", "service port {} of {} is taken by another program; it gets no front end", b.service_port, b.app);
    text = render(wanted, rendering);
    wanted_shape = shape_of(wanted, rendering);
  }
  if (auto ok = haproxy.check(text); !ok) return ok;
  if (auto ok = haproxy.write_config(text); !ok) return ok;
  reloads.add();
  if (auto ok = haproxy.reload(); !ok) return ok;
  plan = std::move(wanted);
  shape = std::move(wanted_shape);
  return {};
}

asio::awaitable<Status> BalancerService::Impl::apply(std::shared_ptr<const catalog::Content> c, std::optional<catalog::Index> at) {
  auto begun = std::chrono::steady_clock::now();
  auto result = std::make_shared<Status>();
  std::function<void()> work = [this, c, result] {
    drop_bad_rules(*c);
    if (up && !haproxy.running()) {
      log::error("balancer", "HAProxy is gone; it is started again");
      up = false;
    }
    auto wanted = make_plan(*c, plan, bad_rules, rendering);
    *result = up ? change(std::move(wanted)) : bring_up(std::move(wanted));
  };
  co_await blocking.run(work);
  if (*result) {
    apply_seconds.observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
    if (at) applied = at;
    applied_signal->notify();
  }
  co_return *result;
}

asio::awaitable<void> BalancerService::Impl::apply_loop() {
  auto self = shared_from_this();
  ++loops;
  std::string last_failure;
  while (!stopping) {
    auto ticket = changed->ticket();
    std::shared_ptr<const catalog::Content> todo;
    std::optional<catalog::Index> at;
    {
      std::lock_guard lock(mutex);
      if (std::exchange(unapplied, false)) todo = newest, at = newest_at;
    }
    if (todo) {
      auto ok = co_await apply(todo, at);
      if (ok) {
        last_failure.clear();
        continue;
      }
      failures.add();
      if (ok.error().context != last_failure) log::error("balancer", "{}", ok.error().context);
      last_failure = ok.error().context;
      co_await net::sleep_for(retry_after);
      std::lock_guard lock(mutex);
      unapplied = true;
      continue;
    }
    if (co_await changed->wait(ticket, look_every)) continue;
    bool known;
    {
      std::lock_guard lock(mutex);
      known = newest != nullptr;
    }
    if (!known || !up) continue;
    auto alive = std::make_shared<bool>(true);
    std::function<void()> look = [this, alive] { *alive = haproxy.running(); };
    co_await blocking.run(look);
    std::lock_guard lock(mutex);
    if (!*alive) unapplied = true;
  }
  --loops;
}

std::map<TaskId, std::uint32_t> BalancerService::Impl::open_requests() const {
  std::map<TaskId, std::uint32_t> out;
  bool any = false;
  for (const auto& [name, b] : plan.backends)
    for (const auto& s : b.slots) any = any || s.state == Slot::State::drain;
  if (!any) return out;
  auto sessions = haproxy.sessions();
  for (const auto& [name, b] : plan.backends)
    for (std::size_t i = 0; i < b.slots.size(); ++i)
      if (b.slots[i].state == Slot::State::drain) {
        auto& open = out[b.slots[i].task];
        if (!sessions) {
          open = 1;  // HAProxy did not say: better one too many than a request cut off
          continue;
        }
        auto at = sessions->find(fmt::format("{}/s{}", name, i + 1));
        open += at == sessions->end() ? 0 : at->second;
      }
  return out;
}

asio::awaitable<void> BalancerService::Impl::confirm_loop() {
  auto self = shared_from_this();
  ++loops;
  while (!stopping) {
    auto ticket = applied_signal->ticket();
    if (applied) {
      catalog::Confirmation c{{BalancerId(fmt::format("{}:{}", options.host, options.api_port)), options.host, options.ip}, *applied, {}};
      auto open = std::make_shared<std::map<TaskId, std::uint32_t>>();
      std::function<void()> look = [this, open] { *open = open_requests(); };
      co_await blocking.run(look);
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
  impl_->subscription.start();
  net::spawn(impl_->strand, "balancer", impl_->apply_loop());
  net::spawn(impl_->strand, "balancer confirmations", impl_->confirm_loop());
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
