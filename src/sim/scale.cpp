// A fail-over at size: one leader after another over thousands of real agent cores, without network or faults, to see what it costs.

#include <malloc.h>
#include <time.h>

#include <memory>

#include "agent/agent_core.hpp"
#include "base/text.hpp"
#include "catalog/publisher.hpp"
#include "cluster/cluster.hpp"
#include "model/link_json.hpp"
#include "orchestrator/orchestrator.hpp"
#include "sim/sim.hpp"

namespace croft::sim {

namespace {

double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

double heap_bytes() { return static_cast<double>(::mallinfo2().uordblks) + static_cast<double>(::mallinfo2().hblkhd); }

cluster::Options options_of(const coordination::Term& t) {
  cluster::Options o;
  o.cluster_id = t.cluster_id;
  o.epoch = t.epoch;
  o.commit = t.head;
  return o;
}

struct Leader {
  explicit Leader(const coordination::Term& t)
      : cluster(options_of(t)), catalog({.epoch = t.epoch}), core(cluster, catalog, [&] {
          orchestrator::Options o;
          o.seed = t.epoch;
          o.deployments_max = 100'000;
          return o;
        }()) {}
  cluster::Cluster cluster;
  catalog::Publisher catalog;
  orchestrator::Orchestrator core;
};

class Scale {
 public:
  explicit Scale(const ScaleOptions& o) : options_(o) {}
  ScaleResult run();

 private:
  Now now() const { return {Mono(std::chrono::hours(1) + at_), Wall(Millis(1'700'000'000'000) + at_)}; }
  link::AgentInfo info(std::size_t n) const;
  void turn();
  void store(const coordination::Batch& batch);
  void exchange();
  void deploy();
  bool launch_all();
  void take_over();
  void adopt_all();

  ScaleOptions options_;
  ScaleResult result_;
  Millis at_{0};
  std::map<std::string, std::string> stored_;
  std::uint64_t head_ = 0;
  std::unique_ptr<Leader> leader_;
  std::vector<agent::AgentCore> agents_;
  std::map<AgentId, std::size_t> by_id_;
  double spent_ = 0;                     // of the leader's cores
};

link::AgentInfo Scale::info(std::size_t n) const {
  link::AgentInfo i;
  i.hostname = fmt::format("node{}", n);
  i.ip = fmt::format("10.{}.{}.{}", n / 65536, n / 256 % 256, n % 256);
  i.total = {4000, 16'000'000, 0, 0};
  i.ports = PortSet({{31000, 32000}});
  i.boot_id = i.hostname;
  return i;
}

void Scale::store(const coordination::Batch& batch) {
  for (const auto& key : batch.remove) stored_.erase(key);
  for (const auto& [key, value] : batch.put) stored_[key] = value;
  leader_->cluster.committed(++head_);
}

void Scale::turn() {
  auto begun = cpu_seconds();
  auto& l = *leader_;
  for (int round = 0; round < 16; ++round) {
    auto events = l.cluster.take_events();
    if (events.empty() && round > 0) break;
    l.core.on_events(events, now());
    (void)l.core.tick(now());
  }
  (void)l.catalog.flush();
  (void)l.core.take_bus_events();
  (void)l.core.take_changed_apps();
  auto took = cpu_seconds() - begun;
  spent_ += took;
  result_.longest_turn_seconds = std::max(result_.longest_turn_seconds, took);
  if (auto progress = l.core.take_background_batch(); !progress.empty()) store(progress);
}

/// What the leader says goes to the agents, what they do is reported, until nobody has anything to say.
void Scale::exchange() {
  std::set<std::size_t> busy;
  do {
    auto begun = cpu_seconds();
    auto messages = leader_->cluster.take_messages();
    spent_ += cpu_seconds() - begun;
    for (auto& m : messages) {
      auto n = by_id_.at(m.agent);
      auto decisions = agents_[n].on_down(m.record, now());
      if (!decisions) {
        result_.failure = decisions.error().context;
        return;
      }
      for (const auto& spec : decisions->start) {
        TaskStatus s;
        s.task = spec.id;
        s.state = TaskState::running;
        s.at = now().wall;
        s.healthy = true;
        agents_[n].update(std::move(s), now());
      }
      busy.insert(n);
    }
    for (auto n : std::exchange(busy, {})) {
      auto report = agents_[n].next_report(now());
      if (!report) continue;
      begun = cpu_seconds();
      auto done = leader_->cluster.report(*report, now());
      spent_ += cpu_seconds() - begun;
      if (!done) result_.failure = done.error().context;
      turn();
      busy.insert(n);
    }
  } while (!busy.empty() && result_.failure.empty());
}

void Scale::deploy() {
  for (std::uint32_t n = 0; n < options_.apps; ++n) {
    orchestrator::Intent intent;
    AppId id(fmt::format("/scale/app{}", n));
    orchestrator::App app;
    app.id = id;
    app.cmd = "run";
    app.instances = options_.tasks / options_.apps;
    app.resources = {static_cast<Milli>(100 + 50 * (n % 4)), 128'000, 0, 0};
    app.ports.resize(1);
    app.health_checks.resize(1);
    app.labels["team"] = "scale";
    intent.apps[id] = std::move(app);
    auto begun = cpu_seconds();
    auto proposal = leader_->core.propose(intent, now());
    if (!proposal) {
      result_.failure = proposal.error().error.context;
      return;
    }
    store(proposal->batch);
    leader_->core.apply(*proposal, now());
    spent_ += cpu_seconds() - begun;
    turn();
  }
}

bool Scale::launch_all() {
  leader_ = std::make_unique<Leader>(coordination::Term{1, 0, "scale"});
  if (!leader_->core.load({}, now())) return false;
  for (std::size_t n = 0; n < options_.agents; ++n) {
    agents_.emplace_back(agent::Membership{}, agent::AgentCore::Options{.resend_first = Millis(1000), .resend_max = Millis(60'000), .seed = n + 1});
    auto id = leader_->cluster.register_agent(agents_[n].registration(info(n)), now());
    if (!id) return result_.failure = id.error().context, false;
    by_id_[*id] = n;
  }
  turn();
  deploy();
  exchange();
  result_.launch_seconds = spent_;
  return result_.failure.empty();
}

void Scale::take_over() {
  leader_.reset();
  for (auto& a : agents_) a.disconnected();
  at_ += Millis(2000);
  ::malloc_trim(0);
  auto before = heap_bytes();
  spent_ = result_.longest_turn_seconds = 0;
  auto begun = cpu_seconds();
  leader_ = std::make_unique<Leader>(coordination::Term{2, head_, "scale"});
  if (auto ok = leader_->core.load(stored_, now()); !ok) {
    result_.failure = ok.error().context;
    return;
  }
  result_.load_seconds = cpu_seconds() - begun;
  turn();
  adopt_all();
  if (result_.failure.empty()) exchange();
  result_.adopt_seconds = spent_;
  result_.bytes_a_task = (heap_bytes() - before) / std::max(1u, options_.tasks);
}

/// As the leader's shell hears it: each registration in a turn of its own.
void Scale::adopt_all() {
  for (std::size_t n = 0; n < agents_.size(); ++n) {
    auto body = link::encode(agents_[n].registration(info(n)));
    result_.registration_bytes += static_cast<double>(body.size());
    auto begun = cpu_seconds();
    auto registration = link::decode_registration(body);
    result_.decode_seconds += cpu_seconds() - begun;
    if (!registration) {
      result_.failure = registration.error().context;
      return;
    }
    begun = cpu_seconds();
    auto id = leader_->cluster.register_agent(*registration, now());
    spent_ += cpu_seconds() - begun;
    if (!id) {
      result_.failure = id.error().context;
      return;
    }
    turn();
  }
}

ScaleResult Scale::run() {
  result_.agents = options_.agents;
  result_.tasks = options_.tasks;
  if (!launch_all()) return result_;
  if (leader_->cluster.task_count() != options_.tasks) return result_.failure = fmt::format("{} of {} tasks were placed", leader_->cluster.task_count(), options_.tasks), result_;
  auto ids = leader_->cluster.tasks();
  std::vector<TaskId> before;
  for (const auto* task : ids) before.push_back(task->spec.id);
  take_over();
  if (!result_.failure.empty()) return result_;
  if (leader_->cluster.task_count() != before.size()) return result_.failure = fmt::format("{} tasks before, {} after", before.size(), leader_->cluster.task_count()), result_;
  for (const auto& id : before)
    if (const auto* task = leader_->cluster.task(id); !task || task->status.state != TaskState::running || task->goal != link::Goal::run || task->quarantined)
      return result_.failure = fmt::format("{} is not as it was", id), result_;
  result_.failure = leader_->core.audit(now());
  return result_;
}

}  // namespace

ScaleResult run_scale(const ScaleOptions& options) { return Scale(options).run(); }

}  // namespace croft::sim
