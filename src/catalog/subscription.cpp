#include "catalog/subscription.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <mutex>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "model/catalog_json.hpp"
#include "net/async.hpp"

namespace croft::catalog {

namespace asio = boost::asio;
using Steady = std::chrono::steady_clock;

namespace {

constexpr Millis pause_min{50}, pause_max{2000};
constexpr Millis save_pause{1000};
constexpr int save_share = 20;                        // saving takes at most this part of the strand's time
constexpr std::size_t copy_max = 256u << 20;          // bytes of a snapshot, on the wire and on disk
constexpr Millis confirm_limit{2000};
constexpr Millis stop_limit{5000};

}  // namespace

struct Subscription::Impl : std::enable_shared_from_this<Subscription::Impl> {
  Impl(asio::any_io_executor s, Options o, Changed c) : strand(s), options(std::move(o)), changed(std::move(c)), client(s) {
    if (!options.saved.empty()) disk = std::make_unique<net::BlockingPool>(1);
  }

  asio::awaitable<void> run();
  asio::awaitable<bool> follow(net::Origin master);
  bool take(std::string_view line, const net::Origin& master);
  void restore();
  asio::awaitable<void> save_loop();
  void save_now();
  asio::awaitable<void> shut();

  void set_leader(std::optional<net::Origin> origin) {
    std::lock_guard lock(mutex);
    leader = std::move(origin);
  }
  [[nodiscard]] std::optional<net::Origin> known_leader() const {
    std::lock_guard lock(mutex);
    return leader;
  }

  asio::any_io_executor strand;
  Options options;
  Changed changed;
  net::HttpClient client;
  std::unique_ptr<net::BlockingPool> disk;
  Follower follower;                                     // strand
  std::weak_ptr<net::StreamReader> open_reader;          // strand
  bool unsaved = false;                                  // strand
  std::atomic<bool> saving{false};                       // set on the strand
  std::string last_complaint;                            // strand
  std::atomic<bool> started{false}, stopping{false}, ended{false}, heard_any{false};
  std::atomic<Steady::time_point> heard{Steady::now()};
  std::shared_ptr<net::Signal> wake = net::Signal::make(), over = net::Signal::make();
  mutable std::mutex mutex;
  std::optional<net::Origin> leader;                     // mutex
};

asio::awaitable<void> Subscription::Impl::run() {
  auto self = shared_from_this();
  restore();
  auto pause = pause_min;
  std::size_t first = 0;  // the one that led last is asked first
  while (!stopping && !options.masters.empty()) {
    bool had = false;
    for (std::size_t i = 0; i < options.masters.size() && !had && !stopping; ++i) {
      auto index = (first + i) % options.masters.size();
      had = co_await follow(options.masters[index]);
      if (had) first = index;
    }
    set_leader(std::nullopt);
    pause = had ? pause_min : std::min(pause * 2, pause_max);
    auto jitter = Millis(random_u64() % static_cast<std::uint64_t>(pause.count() / 2 + 1));
    auto ticket = wake->ticket();
    if (!stopping) co_await wake->wait(ticket, pause / 2 + jitter);
  }
  ended = true;
  over->notify();
}

/// One stream from one master, until it ends. True when it gave at least one record.
asio::awaitable<bool> Subscription::Impl::follow(net::Origin master) {
  net::Request request;
  request.method = "GET";
  request.target = "/croft/v1/catalog";
  if (auto at = follower.index()) request.target += fmt::format("?after={}.{}&cluster={}&commit={}", at->epoch, at->n, url_encode(follower.root().cluster), follower.root().commit);
  net::ClientOptions how;
  how.connect_timeout = Millis(1000);
  how.timeout = Millis(2000);
  how.idle_timeout = options.silence_max;
  auto opened = co_await client.open(master, std::move(request), how);
  if (!opened || (*opened)->head().status != 200) co_return false;
  auto reader = std::shared_ptr<net::StreamReader>(std::move(*opened));
  open_reader = reader;
  bool had = false;
  while (!stopping) {
    auto line = co_await reader->read_line(copy_max);
    if (!line || !*line || stopping || !take(**line, master)) break;
    had = true;
  }
  co_return had;
}

/// False when the stream is of no more use.
bool Subscription::Impl::take(std::string_view line, const net::Origin& master) {
  auto record = decode_record(line);
  auto change = record ? follower.apply(*record) : Result<Follower::Change>(std::unexpected(record.error()));
  if (!change) {
    if (change.error().context != last_complaint) log::warn("catalog", "master={} {}", master.str(), change.error().context);
    last_complaint = change.error().context;
    return false;
  }
  last_complaint.clear();
  set_leader(master);
  heard = Steady::now();
  heard_any = true;
  if (std::holds_alternative<Heartbeat>(*record)) return true;
  unsaved = true;
  if (disk && !saving) {
    saving = true;
    auto saver = save_loop();
    net::spawn(strand, "catalog save", std::move(saver), shared_from_this());
  }
  changed(follower, *change);
  return true;
}

void Subscription::Impl::restore() {
  if (options.saved.empty()) return;
  auto text = read_file(options.saved, copy_max);
  if (!text) {
    if (text.error().code != Errc::not_found) log::warn("catalog", "{}", text.error().context);
    return;
  }
  if (auto ok = follower.restore(*text); !ok) {
    log::warn("catalog", "{}: {}", options.saved.string(), ok.error().context);
    return;
  }
  Follower::Change all;
  all.all = all.nodes = all.masters = all.balancers = true;
  changed(follower, all);
}

/// Runs while there is something to save: the first change is on disk at once, later ones at most once a second.
asio::awaitable<void> Subscription::Impl::save_loop() {
  auto self = shared_from_this();
  while (unsaved && !stopping) {
    unsaved = false;
    auto begun = Steady::now();
    auto text = std::make_shared<const std::string>(follower.save());
    auto took = std::chrono::duration_cast<Millis>(Steady::now() - begun);
    std::function<void()> write = [path = options.saved, text] {
      if (auto ok = write_file_atomic(path, *text, 0640); !ok) log::warn("catalog", "{}", ok.error().context);
    };
    co_await disk->run(std::move(write));
    auto ticket = wake->ticket();
    if (!stopping) co_await wake->wait(ticket, std::max(save_pause, took * save_share));
  }
  saving = false;
  over->notify();
}

void Subscription::Impl::save_now() {
  if (!disk || !unsaved) return;
  unsaved = false;
  if (auto ok = write_file_atomic(options.saved, follower.save(), 0640); !ok) log::warn("catalog", "{}", ok.error().context);
}

/// On the strand: after it no record is taken any more.
asio::awaitable<void> Subscription::Impl::shut() {
  stopping = true;
  wake->notify();
  if (auto reader = open_reader.lock()) reader->cancel();
  co_return;
}

Subscription::Subscription(asio::any_io_executor strand, Options options, Changed changed)
    : impl_(std::make_shared<Impl>(std::move(strand), std::move(options), std::move(changed))) {}
Subscription::~Subscription() = default;

void Subscription::start() {
  if (impl_->started.exchange(true)) return;
  auto life = impl_->run();
  net::spawn(impl_->strand, "catalog", std::move(life), impl_);
}

static asio::awaitable<void> final_save(std::function<void()> save) {
  save();
  co_return;
}

asio::awaitable<void> Subscription::stop() {
  auto impl = impl_;
  auto shutting = impl->shut();
  co_await asio::co_spawn(impl->strand, std::move(shutting), asio::use_awaitable);
  auto end = Steady::now() + stop_limit;
  auto busy = [impl] { return (impl->started && !impl->ended) || impl->saving; };
  while (busy() && Steady::now() < end) {
    auto ticket = impl->over->ticket();
    if (busy()) co_await impl->over->wait(ticket, Millis(200));
  }
  std::function<void()> save = [impl] { impl->save_now(); };
  auto saving = final_save(std::move(save));
  co_await asio::co_spawn(impl->strand, std::move(saving), asio::use_awaitable);
}

bool Subscription::stale() const { return !impl_->heard_any || silence() > impl_->options.silence_max; }

Millis Subscription::silence() const { return std::chrono::duration_cast<Millis>(Steady::now() - impl_->heard.load()); }

asio::awaitable<Status> Subscription::confirm(Confirmation c) {
  auto impl = impl_;
  auto to = impl->known_leader();
  if (!to) co_return fail(Errc::unavailable, "no leader is known");
  net::Request request;
  request.method = "POST";
  request.target = "/croft/v1/catalog/confirmations";
  request.body = encode(c);
  request.headers.set("Content-Type", "application/json");
  net::ClientOptions how;
  how.timeout = how.connect_timeout = confirm_limit;
  auto answer = co_await impl->client.request(*to, std::move(request), how);
  if (!answer) co_return fail(std::move(answer).error());
  if (answer->status >= 300) co_return fail(Errc::unavailable, "{}: answered {}", to->str(), answer->status);
  co_return Status{};
}

}  // namespace croft::catalog
