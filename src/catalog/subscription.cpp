#include "catalog/subscription.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "model/catalog_json.hpp"
#include "net/async.hpp"

namespace croft::catalog {

namespace asio = boost::asio;

struct Subscription::Impl : std::enable_shared_from_this<Subscription::Impl> {
  Impl(asio::any_io_executor s, Options o, Changed c) : strand(s), options(std::move(o)), changed(std::move(c)), client(s) {}

  asio::awaitable<void> run() {
    auto self = shared_from_this();
    restore();
    auto saver = save_loop();
    net::spawn(strand, "catalog save", std::move(saver));
    std::chrono::milliseconds pause{20};
    for (std::size_t turn = 0; !stopping; ++turn) {
      if (options.masters.empty()) break;
      bool had = co_await follow(options.masters[turn % options.masters.size()]);
      if (stopping) break;
      pause = had ? std::chrono::milliseconds(20) : std::min(pause * 2, std::chrono::milliseconds(2000));
      if (had) continue;
      auto jitter = std::chrono::milliseconds(random_u64() % static_cast<std::uint64_t>(pause.count() + 1));
      co_await net::sleep_for(pause / 2 + jitter / 2);
    }
    ended = true;
  }

  /// One stream from one master, until it ends. True when it gave at least one record.
  asio::awaitable<bool> follow(net::Origin master) {
    net::Request request;
    request.method = "GET";
    request.target = "/croft/v1/catalog";
    if (auto at = follower.index()) request.target += fmt::format("?after={}.{}", at->epoch, at->n);
    net::ClientOptions how;
    how.idle_timeout = options.silence_max;
    how.timeout = std::chrono::milliseconds(5000);
    auto opened = co_await client.open(master, std::move(request), how);
    if (!opened || (*opened)->head().status != 200) co_return false;
    auto reader = std::shared_ptr<net::StreamReader>(std::move(*opened));
    open_reader = reader;
    bool had = false;
    while (!stopping) {
      auto line = co_await reader->read_line();
      if (!line || !*line || stopping) break;
      auto record = decode_record(**line);
      auto change = record ? follower.apply(*record) : Result<Follower::Change>(std::unexpected(record.error()));
      if (!change) {
        log::info("catalog", "master={} {}", master.str(), change.error().context);
        break;
      }
      had = true;
      leader = master;
      heard = std::chrono::steady_clock::now();
      if (std::holds_alternative<Heartbeat>(*record)) continue;
      unsaved = true;
      changed(follower, *change);
    }
    open_reader.reset();
    co_return had;
  }

  void restore() {
    if (options.saved.empty()) return;
    auto text = read_file(options.saved, 256u << 20);
    if (!text) return;
    auto ok = follower.restore(*text);
    if (!ok) {
      log::warn("catalog", "{}: {}", options.saved.string(), ok.error().context);
      return;
    }
    Follower::Change all;
    all.all = all.nodes = all.masters = all.balancers = true;
    changed(follower, all);
  }

  asio::awaitable<void> save_loop() {
    auto self = shared_from_this();
    if (options.saved.empty()) co_return;
    while (!stopping) {
      co_await net::sleep_for(std::chrono::milliseconds(1000));
      save();
    }
  }

  void save() {
    if (!unsaved || options.saved.empty()) return;
    unsaved = false;
    auto ok = write_file_atomic(options.saved, follower.save(), 0640);
    if (!ok) log::warn("catalog", "{}", ok.error().context);
  }

  asio::any_io_executor strand;
  Options options;
  Changed changed;
  net::HttpClient client;
  Follower follower;                                     // strand
  std::weak_ptr<net::StreamReader> open_reader;          // strand
  std::optional<net::Origin> leader;                     // strand
  bool unsaved = false;                                  // strand
  std::atomic<bool> stopping{false}, ended{false};
  std::atomic<std::chrono::steady_clock::time_point> heard{std::chrono::steady_clock::time_point{}};
};

Subscription::Subscription(asio::any_io_executor strand, Options options, Changed changed)
    : impl_(std::make_shared<Impl>(std::move(strand), std::move(options), std::move(changed))) {}
Subscription::~Subscription() = default;

void Subscription::start() {
  auto life = impl_->run();
  net::spawn(impl_->strand, "catalog", std::move(life));
}

static asio::awaitable<void> cut(std::function<void()> work) {
  work();
  co_return;
}

asio::awaitable<void> Subscription::stop() {
  auto impl = impl_;
  impl->stopping = true;
  std::function<void()> work = [impl] {
    if (auto reader = impl->open_reader.lock()) reader->cancel();
    impl->save();
  };
  auto job = cut(std::move(work));
  co_await asio::co_spawn(impl->strand, std::move(job), asio::use_awaitable);
  for (int i = 0; i < 400 && !impl->ended; ++i) co_await net::sleep_for(std::chrono::milliseconds(5));
}

bool Subscription::stale() const { return std::chrono::steady_clock::now() - impl_->heard.load() > impl_->options.silence_max; }

asio::awaitable<Status> Subscription::confirm(Confirmation c) {
  auto impl = impl_;
  if (!impl->leader) co_return fail(Errc::unavailable, "no leader is known");
  auto to = *impl->leader;
  auto body = encode(c);
  auto answer = co_await impl->client.post(to, "/croft/v1/catalog/confirmations", std::move(body));
  if (!answer) co_return fail(std::move(answer).error());
  if (answer->status >= 300) co_return fail(Errc::unavailable, "{}: answered {}", to.str(), answer->status);
  co_return Status{};
}

}  // namespace croft::catalog
