// croft_orchestrator_bench: a leader with 100,000 tasks on 100 agents. Microseconds a health report takes, and the longest that one piece of work
// holds the leader's strand, while /state is read in a loop. Beside it, in a round of its own: the longest that a thread which only reads the clock is kept from
// it while /state is read. What is below that cannot be seen on this machine. Prints one JSON object.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>

#include "base/json.hpp"
#include "base/log.hpp"
#include "cluster/mesos_api.hpp"
#include "coordination/standalone.hpp"
#include "model/link_json.hpp"
#include "net/async.hpp"
#include "orchestrator/leader_service.hpp"
#include "orchestrator/marathon_api.hpp"

namespace croft::orchestrator {
namespace {

namespace asio = boost::asio;
using Steady = std::chrono::steady_clock;

constexpr std::size_t apps = 100, per_app = 1000, agents = 100, per_agent = apps * per_app / agents;

struct Sink final : net::StreamWriter {
  asio::awaitable<bool> write(std::string piece) override {
    bytes += piece.size();
    co_return true;
  }
  [[nodiscard]] bool closed() const override { return false; }
  std::size_t bytes = 0;
};

class Bench {
 public:
  Bench() : folder_(std::filesystem::temp_directory_path() / ("croft-strand-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    auto store = coordination::open_sqlite_store(folder_ / "store.db");
    if (!store) std::abort();
    LeaderOptions how;
    how.agent_timeout = std::chrono::minutes(10);  // these agents say only what they are made to say
    how.heartbeat = std::chrono::minutes(10);
    leader_ = LeaderService::make(io_.get_executor(), std::move(*store), coordination::file_election(folder_ / "lock", "bench"), how, metrics_);
    add_marathon_routes(router_, leader_, {});
    leader_->add_link_routes(router_);
    auto leader = leader_;
    cluster::add_mesos_routes(mesos_, [leader]() -> std::shared_ptr<const cluster::FarmView> { return leader->view(); }, {5050});
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { io_.run(); });
    leader_->start([](Error e) { std::fprintf(stderr, "%s\n", e.context.c_str()), std::abort(); });
    while (!leader_->leading()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~Bench() {
    io_.stop();
    for (auto& t : threads_) t.join();
    std::filesystem::remove_all(folder_);
  }

  net::Response call(const net::Router& router, std::string method, std::string path, std::string body = {}) {
    net::Request r;
    r.method = std::move(method);
    r.target = r.path = std::move(path);
    r.body = std::move(body);
    r.peer = "127.0.0.1";
    auto work = router.handle(std::move(r));
    return asio::co_spawn(io_, std::move(work), asio::use_future).get();
  }

  void create_apps() {
    for (std::size_t a = 0; a < apps; ++a) {
      auto answer = call(router_, "PUT", fmt::format("/v2/apps/app{}", a), fmt::format(R"({{"cmd":"sleep 1000","cpus":0.1,"mem":32,"instances":{},"healthChecks":[{{"protocol":"HTTP","portIndex":0}}]}})", per_app));
      if (answer.status != 201) std::fprintf(stderr, "app: %d %s\n", answer.status, answer.body.c_str()), std::abort();
      auto app = call(router_, "GET", fmt::format("/v2/apps/app{}", a));
      versions_.push_back(json::text(*json::find(*json::parse(app.body), "app"), "version"));
    }
  }

  void register_agents() {
    for (std::size_t n = 0; n < agents; ++n) {
      link::Registration r;
      r.info.hostname = fmt::format("host{}", n);
      r.info.ip = fmt::format("10.0.0.{}", n);
      r.info.total = {static_cast<Milli>(per_agent) * 100, static_cast<Milli>(per_agent) * 32'000, 0, 0};
      r.info.ports = *PortSet::parse("10000-20000");
      for (std::size_t i = 0; i < per_agent; ++i) {
        auto number = n * per_agent + i;
        link::HeldTask t;
        t.spec.id = TaskId(fmt::format("app{}.{:08x}-0000-4000-8000-{:012x}", number % apps, number, number));
        t.spec.app = AppId(fmt::format("/app{}", number % apps));
        t.spec.app_version = versions_[number % apps];
        t.spec.name = task_name_of(t.spec.app);
        t.spec.cmd = "sleep 1000";
        t.spec.resources = {100, 32'000, 0, 0};
        PortSpec port;
        port.host_port = static_cast<std::uint16_t>(10000 + i);
        t.spec.ports = {port};
        t.spec.health_checks.resize(1);
        t.status.task = t.spec.id;
        t.status.state = TaskState::running;
        t.status.healthy = true;
        t.status.at = t.status.started_at.emplace(system_now().wall);
        r.tasks.push_back(std::move(t));
      }
      auto answer = call(router_, "POST", "/croft/v1/agents", link::encode(r));
      if (answer.status != 200) std::fprintf(stderr, "agent: %d %s\n", answer.status, answer.body.c_str()), std::abort();
      net::spawn(io_.get_executor(), "stream", answer.stream(std::make_shared<Sink>()));
      streams_.push_back(answer.stream);
    }
    for (const auto& a : leader_->view()->agents) found_.push_back(*a);
  }

  /// Its size.
  std::size_t read_state() {
    auto answer = call(mesos_, "GET", "/state");
    if (!answer.stream) std::fprintf(stderr, "/state: %d, not in pieces\n", answer.status), std::abort();
    auto sink = std::make_shared<Sink>();
    auto work = answer.stream(sink);
    asio::co_spawn(io_, std::move(work), asio::use_future).get();
    return sink->bytes;
  }

  /// Milliseconds.
  double longest_gap() {
    std::atomic<bool> done{false};
    std::thread reader([&] { while (!done) (void)read_state(); });
    double longest = 0;
    for (auto before = Steady::now(), end = before + std::chrono::seconds(5); before < end;) {
      auto now = Steady::now();
      longest = std::max(longest, std::chrono::duration<double, std::milli>(now - before).count());
      before = now;
    }
    done = true;
    reader.join();
    return longest;
  }

  /// Of all holds so far, how many in a thousand were longer than 1.6 ms, the bound next below the bar.
  std::pair<std::uint64_t, std::uint64_t> holds() {
    auto& all = metrics_.histogram("croft_leader_strand_hold_seconds", "");
    std::uint64_t count = 0, longer = 0;
    for (int i = 0; i <= Histogram::buckets; ++i) {
      count += all.count_in(i);
      if (i > 0 && Histogram::bound(i - 1) >= 0.0016) longer += all.count_in(i);
    }
    return {count, longer};
  }

  void measure() {
    auto gap = longest_gap();
    std::mt19937_64 dice(3);
    auto& longest = metrics_.gauge("croft_leader_strand_hold_max_seconds", "");
    std::this_thread::sleep_for(std::chrono::seconds(2));
    auto& most_cpu = metrics_.gauge("croft_leader_strand_cpu_max_seconds", "");
    longest.set(0);
    most_cpu.set(0);
    std::atomic<bool> done{false};
    std::size_t states = 0, bytes = 0;
    double state_seconds = 0;
    std::thread reader([&] {
      while (!done) {
        auto begun = Steady::now();
        bytes = read_state();
        state_seconds += std::chrono::duration<double>(Steady::now() - begun).count();
        ++states;
      }
    });
    auto [count_before, longer_before] = holds();
    std::vector<double> micros;
    auto end = Steady::now() + std::chrono::seconds(5);
    std::vector<std::uint64_t> numbers(found_.size());
    for (bool healthy = false; Steady::now() < end; healthy = !healthy) {
      auto which = dice() % found_.size();
      const auto& agent = found_[which];
      auto number = which_agent(agent) * per_agent + dice() % per_agent;
      link::Report r;
      r.agent = agent.id;
      r.subscription = agent.subscription;
      r.number = ++numbers[which];
      TaskStatus s;
      s.task = TaskId(fmt::format("app{}.{:08x}-0000-4000-8000-{:012x}", number % apps, number, number));
      s.uuid = fmt::format("u{}", micros.size());
      s.state = TaskState::running;
      s.healthy = healthy;
      s.at = system_now().wall;
      r.statuses = {s};
      auto body = link::encode(r);
      auto begun = Steady::now();
      auto answer = call(router_, "POST", "/croft/v1/agents/" + agent.id.str() + "/reports", std::move(body));
      micros.push_back(std::chrono::duration<double, std::micro>(Steady::now() - begun).count());
      if (answer.status != 204) std::fprintf(stderr, "report: %d %s\n", answer.status, answer.body.c_str()), std::abort();
    }
    done = true;
    reader.join();
    auto [count, longer] = holds();
    std::sort(micros.begin(), micros.end());
    std::printf("{\"tasks\":%zu,\"changes\":%zu,\"us_per_change_median\":%.1f,\"us_per_change_p99\":%.1f,\"strand_hold_max_ms\":%.3f,\"strand_cpu_max_ms\":%.3f,\"longer_percent\":%.3f,\"machine_gap_ms\":%.3f,\"state_reads\":%zu,\"state_megabytes\":%.1f,\"state_ms\":%.1f}\n",
                leader_->view()->tasks.size(), micros.size(), micros[micros.size() / 2], micros[micros.size() * 99 / 100], longest.value() * 1e3, most_cpu.value() * 1e3,
                100.0 * static_cast<double>(longer - longer_before) / static_cast<double>(std::max<std::uint64_t>(count - count_before, 1)), gap, states, static_cast<double>(bytes) / 1e6,
                state_seconds * 1e3 / static_cast<double>(std::max<std::size_t>(states, 1)));
    std::fflush(stdout);
    std::_Exit(0);
  }

 private:
  static std::size_t which_agent(const cluster::Agent& a) { return static_cast<std::size_t>(std::stoul(a.info.hostname.substr(4))); }

  asio::io_context io_{2};
  asio::executor_work_guard<asio::io_context::executor_type> guard_{io_.get_executor()};
  std::filesystem::path folder_;
  Metrics metrics_;
  std::shared_ptr<LeaderService> leader_;
  net::Router router_, mesos_;
  std::vector<std::thread> threads_;
  std::vector<std::string> versions_;
  std::vector<net::StreamBody> streams_;
  std::vector<cluster::Agent> found_;
};

}  // namespace
}  // namespace croft::orchestrator

int main() {
  croft::log::setup(croft::log::Level::warn);
  croft::orchestrator::Bench bench;
  bench.create_apps();
  bench.register_agents();
  bench.measure();
}
