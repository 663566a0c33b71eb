#pragma once
// The inside of AgentService: agent_service.cpp (link and recovery), agent_runs.cpp (tasks), agent_api.cpp (HTTP). Private to these.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <deque>
#include <map>
#include <set>

#include "agent/agent_service.hpp"
#include "agent/health.hpp"
#include "agent/membership_file.hpp"
#include "agent/run_folder.hpp"
#include "agent/secret_files.hpp"
#include "agent/spawner.hpp"
#include "base/files.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"

namespace croft::agent {

/// One task as the shell holds it.
struct Run {
  Launch launch;
  link::Goal goal = link::Goal::run;
  std::optional<Wall> draining_since;
  std::unique_ptr<asio::local::stream_protocol::socket> ctl;   ///< to its executor
  std::vector<CheckMachine> checks;
  std::optional<RunVerdict> recalled;                          ///< of this agent's former life
  std::optional<RunStart> started;
  bool over = false, killed_unhealthy = false, kill_sent = false;
  std::string kill_message;
  std::uint32_t ooms = 0;                                      ///< processes that the kernel killed for want of memory, while it runs on
  Wall running_since{};
};
using RunPtr = std::shared_ptr<Run>;

struct AgentService::Impl : std::enable_shared_from_this<AgentService::Impl> {
  Impl(asio::any_io_executor p, AgentOptions o, std::unique_ptr<Runtime> n, std::unique_ptr<Runtime> d, Metrics& m);

  // --- link and recovery (agent_service.cpp) ---
  Status recover();
  void recover_run(const fs::path& folder);
  asio::awaitable<void> link_loop();
  asio::awaitable<bool> follow(net::Origin master, bool pointed);
  asio::awaitable<void> report_loop();
  asio::awaitable<void> collect_loop();
  asio::awaitable<void> collect();
  asio::awaitable<void> docker_loop();
  bool carry_out(Decisions decisions);
  void start_exec(const link::Exec& order);

  // --- tasks (agent_runs.cpp) ---
  Runtime& runtime_of(const Run& run) { return run.launch.spec.docker && docker ? *docker : *native; }
  RunPtr make_run(const TaskSpec& spec);
  asio::awaitable<void> start_run(RunPtr run);
  asio::awaitable<Status> launch(RunPtr run);
  asio::awaitable<Status> put_secrets(RunPtr run);
  asio::awaitable<void> renew_secrets();
  asio::awaitable<void> hold(RunPtr run);
  asio::awaitable<void> talk(RunPtr run);
  asio::awaitable<void> learn_address(RunPtr run);
  asio::awaitable<bool> connect_ctl(RunPtr run);
  void hear(RunPtr run, std::string_view line);
  void on_started(RunPtr run, RunStart started);
  asio::awaitable<void> on_exit(RunPtr run, RunExit exit);
  void end_with(RunPtr run, TaskState state, std::string reason, std::string message, const RunExit* exit = nullptr);
  void set_goal(const TaskId& id, link::Goal goal);
  void kill(RunPtr run);
  asio::awaitable<void> send_term(RunPtr run);
  asio::awaitable<void> watch_health(RunPtr run, std::size_t check);
  asio::awaitable<void> watch_readiness(RunPtr run);
  void tell_running(RunPtr run);
  void record_verdict(const Run& run);
  void forget(const TaskId& id);
  Labels environment(const Launch& launch) const;

  // --- HTTP (agent_api.cpp) ---
  std::string state_json();
  std::string statistics_json(bool containers);
  std::string metrics_json();
  void write_flags(JsonWriter& w) const;
  asio::awaitable<net::Response> on_strand_as_json(std::function<std::string()> write, net::Request request);

  template <class F>
  asio::awaitable<std::invoke_result_t<F>> on_strand(F work) {
    auto job = run_here(std::move(work));
    co_return co_await asio::co_spawn(strand, std::move(job), asio::use_awaitable);
  }
  template <class F>
  static asio::awaitable<std::invoke_result_t<F>> run_here(F work) {
    co_return work();
  }

  asio::any_io_executor pool;
  asio::strand<asio::any_io_executor> strand;
  AgentOptions options;
  MembershipFile membership_file;                   // strand
  std::unique_ptr<Runtime> native, docker;
  Spawner spawner;                                  // any thread
  net::BlockingPool blocking{4};
  net::HttpClient client;
  std::shared_ptr<net::HttpClient> exec_client;     // of commands inside tasks, which outlive nothing but this
  AgentCore core{Membership{}};                     // strand
  std::map<TaskId, RunPtr> runs;                    // strand
  /// Runs that were forgotten a moment ago, oldest first, and when. A task may live and be forgotten between two looks of the log shipper.
  std::deque<std::pair<Mono, SandboxInfo>> forgotten;  // strand; at most forgotten_max
  static constexpr std::size_t forgotten_max = 10'000;
  static constexpr Millis forgotten_age{10'000};
  std::optional<net::Origin> leader, pointed_at;    // strand: followed now; named by a master that does not lead
  std::map<std::string, int> silences;              // strand: of masters that took a connection and said nothing, since one led us last
  std::weak_ptr<net::StreamReader> stream;          // strand
  std::shared_ptr<net::Signal> report_signal = net::Signal::make(), secrets_signal = net::Signal::make();
  SecretFiles secret_files{SecretFiles::folder_of(options.work_dir)};  // any thread
  std::set<std::string> changed_secrets;            // strand: whose files are to be written anew
  bool renewing_secrets = false;                    // strand
  std::string boot;
  std::atomic<bool> stopping{false};
  std::atomic<int> loops{0};
  Wall started_at{};
  Metrics& metrics;
  Counter &launched, &ended, &reports;
};

}  // namespace croft::agent
