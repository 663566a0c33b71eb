// Who leads: nodes in Mesos's form. Candidates and followers read the same list again at every hint.

#include <atomic>
#include <mutex>

#include "base/log.hpp"
#include "coordination/zookeeper.hpp"
#include "coordination/zookeeper_records.hpp"
#include "net/async.hpp"

namespace croft::coordination {

namespace {

constexpr Millis read_again{10'000};  // a watch that never fires would go unnoticed otherwise
constexpr Millis retry{200};

Millis until(Mono when) {
  auto left = std::chrono::duration_cast<Millis>(when - std::chrono::steady_clock::now());
  return std::clamp(left, Millis(0), Millis(1000)) + Millis(1);
}

class ZookeeperElection final : public Election {
 public:
  ZookeeperElection(std::shared_ptr<ZookeeperSession> session, Leader advertised, std::string data)
      : session_(std::move(session)), advertised_(std::move(advertised)), data_(std::move(data)), path_(session_->options().address.path) {}

  asio::awaitable<Status> campaign() override {
    session_->clear_deposed();
    for (std::string shown;;) {
      if (session_->closing()) co_return fail(Errc::unavailable, "the campaign was ended");
      auto ticket = session_->news()->ticket();
      auto step = co_await campaign_once();
      if (!step) co_return fail(std::move(step).error());
      if (step->leads) co_return Status{};
      if (shown != step->waits_for) log::info("coordination", "candidate={} waits for {}", step->node, step->waits_for);
      shown = step->waits_for;
      co_await session_->news()->wait(ticket, step->pause);
    }
  }

  asio::awaitable<void> lost() override {
    for (;;) {
      auto ticket = session_->news()->ticket();
      std::string why;
      Mono expires = session_->expires();
      {
        std::lock_guard guard(mutex_);
        if (!leads_) co_return;
        if (session_->id() != session_id_) why = "the session ended";
      }
      if (why.empty() && !session_->deposed().empty()) why = session_->deposed();
      if (why.empty() && expires <= std::chrono::steady_clock::now()) why = "ZooKeeper was not reached for the session's time-out";
      if (why.empty() && session_->connected()) {
        auto node = co_await session_->exists(node_path(), true);
        if (node.no_node()) why = "the leader's node was deleted";
      }
      if (!why.empty()) {
        log::warn("coordination", "leadership lost: {}", why);
        stop_leading();
        co_return;
      }
      co_await session_->news()->wait(ticket, until(expires));
    }
  }

  asio::awaitable<void> resign() override {
    stop_leading();
    give_up_node_ = true;  // also when ZooKeeper is away now: the next campaign removes it first
    auto own = co_await own_node();
    if (own && *own) co_await drop(**own);
    if (own) give_up_node_ = false;
    session_->news()->notify();
  }

  asio::awaitable<Result<std::optional<std::string>>> leader() override {
    if (!session_->connected()) co_return fail(Errc::unavailable, "ZooKeeper: {}", session_->trouble());
    auto list = co_await session_->children(path_);
    if (list.no_node()) co_return std::optional<std::string>();
    if (!list.ok()) co_return fail(list.error("listing " + path_));
    auto names = records::candidates(list.names);
    if (names.empty()) co_return std::optional<std::string>();
    auto node = co_await session_->get(path_ + "/" + names.front());
    if (node.no_node()) co_return std::optional<std::string>();
    if (!node.ok()) co_return fail(node.error("reading " + names.front()));
    auto decoded = records::decode_leader(node.value);
    if (!decoded) co_return fail(std::move(decoded).error());
    co_return std::optional<std::string>(decoded->address());
  }

  Mono safe_until() const override {
    std::lock_guard guard(mutex_);
    if (!leads_ || session_->id() != session_id_) return Mono{};
    return session_->safe_until();
  }

 private:
  struct Step {
    bool leads = false;
    std::string node, waits_for;
    Millis pause = read_again;
  };

  std::string node_path() const {
    std::lock_guard guard(mutex_);
    return path_ + "/" + node_;
  }

  void stop_leading() {
    {
      std::lock_guard guard(mutex_);
      leads_ = false;
    }
    session_->set_leading_node("");
  }

  asio::awaitable<void> drop(std::string name) {
    std::vector<ZkOp> ops{ZkOp::remove(path_ + "/" + name)};
    auto gone = co_await session_->multi(std::move(ops));
    if (!gone.ok() && !gone.no_node()) log::warn("coordination", "candidate={} could not be removed: {}", name, gone.error("removing it").context);
  }

  /// Our session's node: a create whose answer was lost may have made it, and it may stand from an earlier campaign.
  asio::awaitable<Result<std::optional<std::string>>> own_node() {
    auto list = co_await session_->children(path_);
    if (list.no_node()) co_return std::optional<std::string>();
    if (!list.ok()) co_return fail(list.error("listing " + path_));
    auto names = records::candidates(list.names);
    std::vector<std::string> paths;
    for (const auto& name : names) paths.push_back(path_ + "/" + name);
    auto nodes = co_await session_->get_many(std::move(paths));
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].ok() && nodes[i].stat.ephemeral_owner == session_->id()) co_return std::optional<std::string>(names[i]);
      if (!nodes[i].ok() && !nodes[i].no_node()) co_return fail(nodes[i].error("reading " + names[i]));
    }
    co_return std::optional<std::string>();
  }

  /// Errors only for what waiting does not mend: refused credentials.
  asio::awaitable<Result<Step>> campaign_once() {
    Step step;
    auto wait_and_retry = [&](std::string why) {
      step.waits_for = std::move(why);
      step.pause = retry;
      return step;
    };
    if (!session_->connected()) {
      step.waits_for = "ZooKeeper: " + session_->trouble();
      step.pause = Millis(1000);
      co_return step;
    }
    auto session = session_->id();
    auto own = co_await own_node();
    if (!own && own.error().code == Errc::forbidden) co_return fail(std::move(own).error());
    if (!own) co_return wait_and_retry(own.error().context);
    if (*own && give_up_node_) {
      co_await drop(**own);
      give_up_node_ = false;
      co_return wait_and_retry("its old node to be gone");
    }
    give_up_node_ = false;
    if (!*own) {
      auto path = co_await session_->make_path(path_, ZkAccess::shown);
      if (!path.ok()) {
        auto error = path.error("making " + path_);
        if (error.code == Errc::forbidden) co_return fail(std::move(error));
        co_return wait_and_retry(error.context);
      }
      auto made = co_await session_->create_candidate(path_ + "/" + std::string(records::election_prefix), data_);
      if (!made.ok()) {  // it may have been made nevertheless: the next step looks for it
        auto error = made.error("making a candidate below " + path_);
        if (error.code == Errc::forbidden) co_return fail(std::move(error));
        co_return wait_and_retry(error.context);
      }
      *own = made.value.substr(path_.size() + 1);
    }
    step.node = **own;
    auto list = co_await session_->children(path_, true);
    if (!list.ok()) co_return wait_and_retry(list.error("listing " + path_).context);
    auto names = records::candidates(list.names);
    auto place = std::find(names.begin(), names.end(), step.node);
    if (place == names.end()) co_return wait_and_retry("a node of its own");
    if (place != names.begin()) {
      step.waits_for = *std::prev(place);
      co_return step;
    }
    // The lowest of a list that may be old: a sync that is answered on this very session says that the session, and so the node, lives.
    auto synced = co_await session_->sync();
    if (!synced.ok() || session_->id() != session) co_return wait_and_retry("the session to be confirmed");
    {
      std::lock_guard guard(mutex_);
      leads_ = true;
      session_id_ = session;
      node_ = step.node;
    }
    session_->set_leading_node(node_path());
    step.leads = true;
    log::info("coordination", "candidate={} leads until {} ms after ZooKeeper's last answer", step.node, session_->negotiated().count() * 2 / 3);
    co_return step;
  }

  std::shared_ptr<ZookeeperSession> session_;
  Leader advertised_;
  std::string data_, path_;
  std::atomic<bool> give_up_node_{false};
  mutable std::mutex mutex_;
  bool leads_ = false;           // mutex_
  std::int64_t session_id_ = 0;  // mutex_
  std::string node_;             // mutex_
};

/// The watcher's state outlives the object that made it by one turn of its loop at most.
struct Watch {
  std::shared_ptr<ZookeeperSession> session;
  std::string path;
  std::shared_ptr<net::Signal> signal = net::Signal::make();
  std::mutex mutex;
  Sighting seen;         // mutex
  bool stopped = false;  // mutex

  void publish(std::optional<std::optional<Leader>> leader, bool certain) {
    std::optional<std::string> line;
    {
      std::lock_guard guard(mutex);
      auto next = seen;
      next.certain = certain;
      if (leader) next.leader = *leader;
      if (next.leader) next.last = next.leader;
      if (next.certain == seen.certain && next.leader == seen.leader) return;
      if (next.leader != seen.leader) line = next.leader ? fmt::format("leader={} id={}", next.leader->address(), next.leader->id) : "no master leads";
      ++next.turn;
      seen = std::move(next);
    }
    if (line) log::info("coordination", "{}", *line);
    signal->notify();
  }

  bool over() {
    std::lock_guard guard(mutex);
    return stopped || session->closing();
  }

  /// Nothing when ZooKeeper did not tell.
  static asio::awaitable<std::optional<std::optional<Leader>>> look(std::shared_ptr<Watch> self) {
    auto& session = *self->session;
    auto list = co_await session.children(self->path, true);
    if (list.no_node()) {
      auto parent = co_await session.exists(self->path, true);  // wakes when the path is made
      if (parent.no_node()) co_return std::optional<Leader>();
      co_return std::nullopt;
    }
    if (!list.ok()) co_return std::nullopt;
    for (const auto& name : records::candidates(list.names)) {
      auto node = co_await session.get(self->path + "/" + name);
      if (node.no_node()) continue;  // gone since the list was made
      if (!node.ok()) co_return std::nullopt;
      auto leader = records::decode_leader(node.value);
      if (leader) co_return std::move(*leader);
      log::warn("coordination", "node={}/{}: {}", self->path, name, leader.error().context);
      co_return std::optional<Leader>();
    }
    co_return std::optional<Leader>();
  }

  static asio::awaitable<void> run(std::shared_ptr<Watch> self) {
    while (!self->over()) {
      auto ticket = self->session->news()->ticket();
      if (!self->session->connected()) {
        self->publish(std::nullopt, false);
        co_await self->session->news()->wait(ticket, read_again);
        continue;
      }
      auto leader = co_await look(self);
      bool told = leader.has_value();
      if (told) self->publish(std::move(leader), true);
      if (self->over()) break;
      co_await self->session->news()->wait(ticket, told ? read_again : retry);
    }
  }
};

class ZookeeperDetector final : public Detector {
 public:
  explicit ZookeeperDetector(std::shared_ptr<Watch> watch) : watch_(std::move(watch)) {}
  ~ZookeeperDetector() override {
    {
      std::lock_guard guard(watch_->mutex);
      watch_->stopped = true;
    }
    watch_->session->news()->notify();
  }
  Sighting sighting() const override {
    std::lock_guard guard(watch_->mutex);
    return watch_->seen;
  }
  asio::awaitable<Sighting> changed(std::uint64_t seen, Millis limit) override { return wait(watch_, seen, limit); }

 private:
  static asio::awaitable<Sighting> wait(std::shared_ptr<Watch> watch, std::uint64_t seen, Millis limit) {
    auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
      auto ticket = watch->signal->ticket();
      auto left = std::chrono::duration_cast<Millis>(deadline - std::chrono::steady_clock::now());
      {
        std::lock_guard guard(watch->mutex);
        if (watch->seen.turn != seen || left.count() <= 0) co_return watch->seen;
      }
      co_await watch->signal->wait(ticket, left);
    }
  }
  std::shared_ptr<Watch> watch_;
};

}  // namespace

Result<std::unique_ptr<Election>> zookeeper_election(std::shared_ptr<ZookeeperSession> session, Leader advertised) {
  auto data = records::encode_leader(advertised);
  if (!data) return fail(std::move(data).error());
  return std::make_unique<ZookeeperElection>(std::move(session), std::move(advertised), std::move(*data));
}

std::shared_ptr<Detector> zookeeper_detector(std::shared_ptr<ZookeeperSession> session) {
  auto watch = std::make_shared<Watch>();
  watch->path = session->options().address.path;
  watch->session = session;
  net::spawn(session->executor(), "leader detector", Watch::run(watch));
  return std::make_shared<ZookeeperDetector>(watch);
}

}  // namespace croft::coordination
