#pragma once
// The inside of LeaderService, split over leader_service.cpp (life, turns, changes), leader_records.cpp (users, the audit log), leader_view.cpp
// (what readers see), leader_link.cpp (the HTTP face for agents and followers) and leader_exec.cpp (commands inside tasks). Private to these.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <time.h>

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "base/log.hpp"
#include "catalog/catalog_stream.hpp"
#include "net/async.hpp"
#include "orchestrator/audit_log.hpp"
#include "orchestrator/event_ring.hpp"
#include "orchestrator/exec_board.hpp"
#include "orchestrator/leader_service.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace asio = boost::asio;

/// One agent's open stream: lines wait here for the connection's coroutine.
struct AgentStream {
  static constexpr std::size_t bytes_max = 64u << 20;  // a snapshot of thousands of tasks fits; more is cut and starts anew
  std::mutex mutex;
  std::deque<std::string> lines;        // mutex
  std::size_t bytes = 0;                // mutex
  bool closed = false;                  // mutex
  std::shared_ptr<net::Signal> signal = net::Signal::make();
};

/// Everything of one term; gone when leadership is.
struct LeaderTerm {
  LeaderTerm(const coordination::Term& t, const LeaderOptions& o)
      : term(t),
        cluster({.agent_timeout = o.agent_timeout, .heartbeat = o.heartbeat, .cluster_id = t.cluster_id, .epoch = t.epoch, .commit = t.head}),
        catalog({.epoch = t.epoch, .lease = o.balancer_lease, .root = {t.cluster_id, t.head}}),
        core(cluster, catalog, o.orchestrator) {}
  coordination::Term term;
  cluster::Cluster cluster;
  catalog::Publisher catalog;
  Orchestrator core;
  std::map<std::string, std::shared_ptr<AgentStream>> streams;  ///< by subscription
  std::shared_ptr<const Records> records = std::make_shared<const Records>();
  AuditLog audit;
};

/// When a piece of work began on the strand, by the wall's clock and by its thread's: the difference is what other programs took.
struct HoldClock {
  static double thread_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
  }
  std::chrono::steady_clock::time_point wall = std::chrono::steady_clock::now();
  double cpu = thread_seconds();
};

struct LeaderService::Impl : std::enable_shared_from_this<LeaderService::Impl> {
  Impl(asio::any_io_executor p, std::unique_ptr<coordination::Store> s, std::unique_ptr<coordination::Election> e, LeaderOptions o, Metrics& metrics);

  // --- life (leader_service.cpp) ---
  asio::awaitable<void> lead();          ///< one term after the other
  asio::awaitable<Status> take_over();
  void step_down();
  asio::awaitable<void> timer_loop(std::uint64_t epoch);
  [[nodiscard]] bool in_term(std::uint64_t epoch) const { return leads && term && term->term.epoch == epoch; }
  /// Whether nobody else can lead yet, so that commands may go out.
  [[nodiscard]] bool safe(Now now) const { return now.mono < election->safe_until(); }
  void turn(Now now);                    ///< after anything happened: events, decisions, messages, views
  struct Decided {
    Intent intent;
    Proposal proposal;
  };
  /// What a change would be, judged by its caller's rights and by what there is; a refusal of rights goes into the audit log.
  std::expected<Decided, Refusal> decide(const Make& make, Now now);
  asio::awaitable<std::expected<Accepted, Refusal>> change_on_strand(Make make);
  asio::awaitable<Result<std::uint64_t>> commit(coordination::Batch batch);
  asio::awaitable<void> commit_background();
  asio::awaitable<void> lock();          ///< one commit at a time
  void unlock();

  // --- records and the audit log (leader_records.cpp) ---
  Status load_records(const std::map<std::string, std::string>& stored);
  asio::awaitable<Status> seed_records();
  void publish_records();
  void tell_secret(const std::string& key);
  /// Whether all secrets of the intent's apps are there.
  [[nodiscard]] Status check_secrets(const Intent& intent) const;
  /// Whether nothing uses this secret any more: no app, no deployment under way, no task that lives.
  [[nodiscard]] Status check_unused(const std::string& path) const;
  asio::awaitable<std::expected<void, Refusal>> change_records_on_strand(RecordKeeper::MakeRecords make, AuditRecord audit);
  /// Whether the intent's caller may do all of it; the reason where he may not.
  [[nodiscard]] Status check_rights(const Intent& intent) const;
  /// Who asked for a change, where from, and which apps it concerns; not numbered yet. The intent has a caller.
  [[nodiscard]] AuditRecord record_of(const Intent& intent, Now now) const;
  /// What the audit log says of a change; nothing where nobody logs in.
  [[nodiscard]] std::optional<AuditRecord> audit_of(const Intent& intent, Now now);
  void note_on_strand(AuditRecord record);
  void keep_audit(AuditRecord record);

  // --- views (leader_view.cpp) ---
  void note(const std::vector<cluster::Event>& events);
  void publish(Now now);
  void collect_bus_events();

  // --- link (leader_link.cpp) ---
  void route_messages();
  asio::awaitable<net::Response> register_agent(net::Request request);
  asio::awaitable<net::Response> report(net::Request request);
  asio::awaitable<net::Response> abdicate(net::Request request);
  asio::awaitable<net::Response> confirm(net::Request request);
  asio::awaitable<net::Response> take_refusal(net::Request request);
  asio::awaitable<net::Response> put_rule(net::Request request);
  asio::awaitable<net::Response> delete_rule(net::Request request);
  asio::awaitable<net::Response> change_node(net::Request request);
  asio::awaitable<net::Response> change_rule(net::Request request, AppId app, std::optional<catalog::Rule> rule);
  asio::awaitable<void> feed_agent(AgentId agent, std::string subscription, std::shared_ptr<AgentStream> stream, std::shared_ptr<net::StreamWriter> out);
  asio::awaitable<net::Response> follow_catalog(net::Request request);
  asio::awaitable<catalog::Batch> catalog_after(std::optional<catalog::Index> after);
  void agent_stream_closed(const AgentId& agent, const std::string& subscription);

  // --- commands inside tasks (leader_exec.cpp) ---
  struct ExecOrder { TaskId task; std::vector<std::string> command; std::string terminal; secure::CallerPtr caller; };
  struct ExecOpened { std::string session, host; };
  asio::awaitable<net::Response> open_exec(net::Request request);
  asio::awaitable<net::Response> client_exec(net::Request request);
  asio::awaitable<net::Response> agent_exec(net::Request request);
  asio::awaitable<net::Response> carry_exec(net::Request request, ExecBoard::Side side, std::string name);
  asio::awaitable<Result<ExecOpened>> exec_on_strand(ExecOrder order);
  /// Whether a task has what policy gives to admins of its group only.
  [[nodiscard]] bool for_admins_only(const TaskSpec& spec) const;
  asio::awaitable<void> watch_exec();

  /// Runs `work` on the strand and gives its answer. Measures how long the strand was held.
  template <class F>
  asio::awaitable<std::invoke_result_t<F>> on_strand(F work) {
    auto job = run_here(shared_from_this(), std::move(work));
    co_return co_await asio::co_spawn(strand, std::move(job), asio::use_awaitable);
  }
  template <class F>
  static asio::awaitable<std::invoke_result_t<F>> run_here(std::shared_ptr<Impl> self, F work) {
    HoldClock begun;
    if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
      work();
      self->held_since(begun);
      co_return;
    } else {
      auto answer = work();
      self->held_since(begun);
      co_return answer;
    }
  }
  void held_since(const HoldClock& begun) {
    auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun.wall).count();
    strand_hold.observe(seconds);
    strand_hold_max.raise_to(seconds);
    strand_cpu_max.raise_to(HoldClock::thread_seconds() - begun.cpu);
  }

  asio::any_io_executor pool;
  asio::strand<asio::any_io_executor> strand;
  std::unique_ptr<coordination::Store> store;
  std::unique_ptr<coordination::Election> election;
  LeaderOptions options;
  std::function<void(Error)> failed;
  std::atomic<bool> stopping{false}, leads{false};
  Wall started = system_now().wall;

  std::unique_ptr<LeaderTerm> term;                    // strand
  asio::steady_timer wake;                             // strand
  catalog::Index catalog_at;                           // strand: told to followers so far
  bool committing = false;                             // strand
  std::deque<std::shared_ptr<asio::steady_timer>> commit_waiters;  // strand
  std::uint64_t head = 0;                              // strand
  coordination::Batch background;                      // strand: not yet committed progress
  Mono background_after{};                             // strand: when it is tried again

  // The view under construction (strand), and the published one (view_mutex).
  View building;
  std::set<AppId> changed_apps;
  std::set<TaskId> changed_tasks;
  std::set<AgentId> changed_agents;
  bool view_dirty = false;
  Mono published_at{};
  mutable std::mutex view_mutex;
  std::shared_ptr<const View> published = std::make_shared<View>();

  std::mutex bus_mutex;
  EventRing bus;                                       // bus_mutex
  std::atomic<std::uint64_t> bus_newest{0};
  std::shared_ptr<net::Signal> bus_signal = net::Signal::make();
  std::shared_ptr<net::Signal> catalog_signal = net::Signal::make();

  std::shared_ptr<const Records> records;              // view_mutex; nothing outside of a term
  std::uint64_t records_turn = 0;                      // view_mutex
  std::shared_ptr<net::Signal> records_signal = net::Signal::make();
  Mono refusals_since{};                               // strand
  std::map<std::string, std::size_t> refusals_noted;   // strand: since then, by account

  ExecBoard exec_board;                                // any thread; emptied with the term
  std::shared_ptr<net::Signal> exec_signal = net::Signal::make();
  bool exec_watched = false;                           // strand

  Counter &changes, &terms;
  Histogram &commit_seconds, &strand_hold;
  Gauge &strand_hold_max, &strand_cpu_max;
};

}  // namespace croft::orchestrator
