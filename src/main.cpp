// croft: one binary. The subcommands are in cli; here the roles are joined and run.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <thread>

#include "agent/end_all.hpp"
#include "balancer/balancer_service.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "cli/cli.hpp"
#include "config_check.hpp"
#include "coordination/dead_session.hpp"
#include "join_command.hpp"
#include "net/async.hpp"
#include "roles.hpp"
#include "secure/cluster_files.hpp"
#include "security.hpp"
#include "sim/sim.hpp"
#include "store_command.hpp"
#include "version.hpp"

namespace croft {

namespace asio = boost::asio;

namespace {

constexpr int io_threads = 2;

asio::awaitable<void> until_told(asio::io_context& io, std::vector<std::unique_ptr<Role>>& roles) {
  asio::signal_set signals(io, SIGTERM, SIGINT);
  boost::system::error_code ec;
  co_await signals.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  log::info("croft", "told to stop; tasks and HAProxy go on");
  for (auto at = roles.rbegin(); at != roles.rend(); ++at) co_await (*at)->stop();
  io.stop();
}

int run_roles(const Settings& settings, const std::vector<std::unique_ptr<Role> (*)(Host)>& makers) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) files.rlim_cur = files.rlim_max, ::setrlimit(RLIMIT_NOFILE, &files);
  asio::io_context io(io_threads);
  Metrics metrics;
  std::atomic<int> code{0};
  std::shared_ptr<Security> security;
  if (settings.logins()) {
    auto opened = Security::open(settings, io.get_executor());
    if (!opened) return std::fprintf(stderr, "croft: %s\n", opened.error().context.c_str()), cli::usage;
    security = std::move(*opened);
    if (auto own = security->self().host; !settings.hostname.empty() && settings.hostname != own)
      log::warn("croft", "hostname: \"{}\" has no effect: with logins a host has the name in its certificate, {}", settings.hostname, own);
  }
  // Sandboxes lie below it, and a task's user must reach its own; what is private has folders of its own.
  if (auto ok = make_dirs(settings.data, 0755); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::failed;
  Host host{io, metrics, settings, [&](std::string words) {
              std::fprintf(stderr, "croft: %s\n", words.c_str());
              code = cli::failed;
              io.stop();
            }, security, {}};
  // Open farms on other addresses than loopback may be called by any name.
  if (security || settings.bind.starts_with("127.")) {
    host.host_names = {"." + lower(settings.domain), lower(settings.hostname.empty() ? this_host() : settings.hostname)};
    if (security) host.host_names.push_back(security->self().host);
    for (const auto& name : settings.host_names) host.host_names.push_back(lower(name));
  }
  std::vector<std::unique_ptr<Role>> roles;
  for (auto make : makers) {
    roles.push_back(make(host));
    if (auto ok = roles.back()->start(); !ok) {
      std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str());
      return cli::failed;
    }
  }
  if (security) security->start(settings.data / roles.front()->name() / "access.json");
  net::spawn(io.get_executor(), "signals", until_told(io, roles));
  std::vector<std::thread> threads;
  for (int i = 1; i < io_threads; ++i) threads.emplace_back([&io] { io.run(); });
  io.run();
  for (auto& t : threads) t.join();
  std::fflush(nullptr);
  ::_exit(code);  // coroutines that still wait own nothing that must be released
}

/// Where the disk is full the old number is written over in its place, which needs no room.
Status write_pid(const std::filesystem::path& file) {
  auto text = std::to_string(::getpid()) + "\n";
  auto done = write_file_atomic(file, text);
  if (done) return done;
  Fd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  auto size = static_cast<ssize_t>(text.size());
  if (!fd.valid() || ::pwrite(fd.get(), text.data(), text.size(), 0) != size || ::ftruncate(fd.get(), size) != 0) return done;
  return {};
}

int dev(const cli::DevOptions& o) {
  ::signal(SIGPIPE, SIG_IGN);  // as in serve()
  log::setup(log::level_of(o.log_level), o.log_file);
  Settings s;
  s.data = o.data;
  s.bind = s.ip = o.address;
  s.hostname = "localhost";
  s.dns_port = 8053;
  s.docker_socket = o.docker_socket;
  s.docker = !o.no_docker;
  s.bridge = o.bridge_address.empty() ? find_bridge() : o.bridge_address;
  s.instance = "croft-dev";
  s.auth = "none";
  if (!s.allow_host_paths) s.allow_host_paths = s.host_paths();
  for (const char* folder : {"/tmp", "/var/tmp"}) s.allow_host_paths->emplace_back(folder);  // one's own machine
  if (!o.config_file.empty())
    if (auto ok = read_settings(o.config_file, s); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::usage;
  if (auto ok = make_dirs(s.data, 0755); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::failed;
  if (auto ok = write_pid(s.data / "croft.pid"); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::failed;
  return run_roles(s, {make_master, make_dns, make_balancer, make_log, make_node});
}

/// Ends everything that a farm left running: the process, its tasks, HAProxy. What is gone already is no error.
int down(const std::filesystem::path& data) {
  log::setup(log::Level::warn);
  std::error_code missing;
  if (!std::filesystem::is_directory(data, missing)) return std::fprintf(stderr, "croft: %s: there is no such folder\n", data.c_str()), cli::usage;
  if (auto text = read_file(data / "croft.pid", 64)) {
    auto pid = to_int(trim(*text));
    auto name = pid ? read_file(fmt::format("/proc/{}/comm", *pid), 64) : fail(Errc::not_found, "");
    if (pid && name && trim(*name) == "croft") {
      // Held by a descriptor: it is told at once, where the number is in use until a parent has taken note, which in a container may take a second.
      Fd process(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(*pid), 0)));
      ::kill(static_cast<pid_t>(*pid), SIGTERM);
      pollfd ended{process.get(), POLLIN, 0};
      if (process.valid() && ::poll(&ended, 1, 6000) == 0) ::kill(static_cast<pid_t>(*pid), SIGKILL), ::poll(&ended, 1, 1000);
    }
  }
  agent::end_all(data / "node", "croft-dev");
  balancer::shut_down(data / "balancer");
  std::error_code ec;
  std::filesystem::remove(data / "croft.pid", ec);
  return cli::ok;
}

/// This process has the cluster's keys and its secrets in memory: no core of it. 1 and not 0, because with 0 the kernel still writes into a pipe. The hard limit
/// stays, so that a task may ask for cores of its own.
void leave_no_core() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_CORE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(1, limit.rlim_max);
  ::setrlimit(RLIMIT_CORE, &limit);
}

int serve(const cli::ServeOptions& o) {
  ::signal(SIGPIPE, SIG_IGN);  // a program that does not read what it is given ends nobody but itself
  leave_no_core();
  Settings s;
  if (auto ok = read_settings(o.config_file, s); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::usage;
  if (!s.auth.empty() && s.auth != "none" && s.auth != "login")
    return std::fprintf(stderr, "croft: %s: auth: is \"login\", or \"none\" in so many words, not \"%s\"\n", o.config_file.c_str(), s.auth.c_str()), cli::usage;
  log::setup(log::Level::info);
  s.warns_open = !s.logins();
  if (s.warns_open) log::warn("croft", "auth is \"none\": everybody who reaches these ports can do everything");
  static const std::map<std::string, std::unique_ptr<Role> (*)(Host)> makers{{"master", make_master}, {"node", make_node}, {"balancer", make_balancer}, {"dns", make_dns}, {"log", make_log}};
  auto at = makers.find(o.role);
  if (at == makers.end()) return std::fprintf(stderr, "croft: --role %s is not there\n", o.role.c_str()), cli::usage;
  return run_roles(s, {at->second});
}

/// The token is printed on stdout and everything else on stderr, so that a script can take it.
int init(const cli::InitOptions& o) {
  auto failed = [](const Error& e) {
    std::fprintf(stderr, "croft: init: %s\n", e.context.c_str());
    return e.code == Errc::conflict ? cli::conflict : e.code == Errc::invalid ? cli::usage : cli::failed;
  };
  secure::FoundOptions how{o.cluster, {{}, o.host.empty() ? lower(this_host()) : o.host, {}}, o.names};
  for (const char* loopback : {"localhost", "127.0.0.1"})  // who stands at this host's own keyboard
    if (std::find(how.names.begin(), how.names.end(), loopback) == how.names.end()) how.names.emplace_back(loopback);
  for (const auto& role : o.roles) how.host.roles.push_back(secure::host_role(role).value());
  if (auto ok = secure::check_owner(o.owner); !ok) return failed(ok.error());
  auto made = secure::found_cluster(o.folder, how, system_now().wall);
  if (!made) return failed(made.error());
  int code = cli::ok;
  if (auto ok = secure::hand_over(o.folder, o.owner); !ok) code = failed(ok.error());  // the token below is not to be lost for that
  std::fprintf(stderr, "cluster %s is made in %s\n", made->cluster.c_str(), o.folder.c_str());
  std::fprintf(stderr, "its CA's SHA-256 is %s\n", made->ca_fingerprint.c_str());
  std::fprintf(stderr, "keep a copy of the folder where nobody else can read it. The first operator's token, which is not shown again:\n");
  std::printf("%s\n", made->operator_token.c_str());
  return code;
}

int config_check(const std::filesystem::path& file, const std::filesystem::path& zoo_cfg) {
  auto mistakes = check_config(file, zoo_cfg);
  for (const auto& line : mistakes) std::fprintf(stderr, "%s\n", line.c_str());
  if (mistakes.empty()) std::printf("%s: in order\n", file.c_str());
  return mistakes.empty() ? cli::ok : cli::usage;
}

/// The unit's step after a master stopped, however it did: its session need not wait for its time-out when its process is gone for sure.
int end_session(const std::filesystem::path& file) {
  Settings s;
  if (auto ok = read_settings(file, s); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::usage;
  if (s.zookeeper.empty()) return cli::ok;
  auto ended = coordination::end_dead_session(s.data / "master", Millis(1000));
  if (!ended) return std::fprintf(stderr, "croft: %s\n", ended.error().context.c_str()), cli::failed;
  if (*ended) std::printf("the dead master's session is ended\n");
  return cli::ok;
}

int simulate_scale(const cli::SimOptions& o) {
  auto r = sim::run_scale({o.agents, o.tasks, std::max(1u, o.tasks / 100)});
  if (!r.failure.empty()) return std::fprintf(stderr, "croft: %s\n", r.failure.c_str()), cli::failed;
  std::printf("%u agents, %u tasks; seconds are of one core\n", r.agents, r.tasks);
  std::printf("  first launch of everything      %8.2f s\n", r.launch_seconds);
  std::printf("fail-over:\n");
  std::printf("  intent loaded                   %8.2f s\n", r.load_seconds);
  std::printf("  registrations read              %8.2f s  (%.0f MiB of JSON)\n", r.decode_seconds, r.registration_bytes / 1048576);
  std::printf("  until all are accounted for     %8.2f s  (longest turn %.1f ms)\n", r.adopt_seconds, r.longest_turn_seconds * 1e3);
  std::printf("  memory of the leader's cores    %8.0f bytes a task\n", r.bytes_a_task);
  return cli::ok;
}

void print_probes(const sim::Probes& probes) {
  std::string missing;
  for (std::size_t n = 0; n < sim::probe_count; ++n)
    if (probes[n] == 0) missing += fmt::format("{}{}", missing.empty() ? "" : "; ", sim::probe_name(static_cast<sim::Probe>(n)));
  if (missing.empty()) std::printf("every rare branch was reached\n");
  else std::printf("not reached: %s\n", missing.c_str());
}

/// What all seeds came to. Each is a farm of its own, so every core works on one.
struct Seeds {
  std::mutex mutex;
  std::uint64_t next, end, steps = 0, failed = 0;     // mutex, as all of it
  sim::Probes probes{};
  std::uint64_t first_seed = 0;                       // the lowest that failed, and how
  std::optional<sim::RunResult> first;

  void work(const cli::SimOptions& o, sim::RunOptions how) {
    for (;;) {
      {
        std::lock_guard guard(mutex);
        if (next >= end || (first && !o.keep_going)) return;
        how.seed = next++;
      }
      auto result = sim::run(how);
      std::lock_guard guard(mutex);
      steps += result.steps;
      for (std::size_t n = 0; n < sim::probe_count; ++n) probes[n] += result.probes[n];
      if (result.failure.empty()) continue;
      ++failed;
      if (o.keep_going) std::printf("seed %llu: %s\n", static_cast<unsigned long long>(how.seed), result.failure.c_str()), std::fflush(stdout);
      if (!first || how.seed < first_seed) first_seed = how.seed, first = std::move(result);
    }
  }
};

/// The failure of the lowest seed is printed with the command that repeats it. With a planted bug, a failure is the success.
int simulate(const cli::SimOptions& o) {
  if (o.scale) return simulate_scale(o);
  if (o.bug == "list") {
    for (const auto& b : sim::bugs()) std::printf("%-26s %s\n", std::string(b.name).c_str(), std::string(b.what).c_str());
    return cli::ok;
  }
  auto bug = sim::bug_named(o.bug);
  if (!bug) return std::fprintf(stderr, "croft: --bug %s is not known; --bug list names them\n", o.bug.c_str()), cli::usage;
  sim::RunOptions how;
  how.check = o.check;
  if (o.seeds == 1) how.log_max = 1'000'000;
  how.minutes = o.minutes;
  how.bug = *bug;
  Seeds all;
  all.next = o.seed, all.end = o.seed + o.seeds;
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t n = std::min<std::uint64_t>(o.seeds, std::max(1u, std::thread::hardware_concurrency())); n > 0; --n) threads.emplace_back([&] { all.work(o, how); });
  }
  auto seeds = static_cast<unsigned long long>(o.seeds);
  if (all.first && !o.keep_going) {
    if (o.seeds == 1 || *bug == sim::Bug::none)
      for (const auto& line : all.first->log) std::printf("%s\n", line.c_str());
    std::printf("seed %llu: %s\nrepeat it with: croft sim --seed %llu --minutes %g%s%s%s%s\n", static_cast<unsigned long long>(all.first_seed), all.first->failure.c_str(), static_cast<unsigned long long>(all.first_seed), o.minutes,
                o.check.empty() ? "" : " --check ", o.check.c_str(), o.bug.empty() ? "" : " --bug ", o.bug.c_str());
  } else if (all.first) {
    std::printf("%llu of %llu seeds fail\n", static_cast<unsigned long long>(all.failed), seeds);
  } else {
    std::printf("%llu seeds of %g virtual minutes, %llu steps: %s\n", seeds, o.minutes, static_cast<unsigned long long>(all.steps), *bug == sim::Bug::none ? "every check held" : "the planted bug was not found");
    print_probes(all.probes);
  }
  return all.first.has_value() == (*bug == sim::Bug::none) ? cli::failed : cli::ok;
}

}  // namespace
}  // namespace croft

int main(int argc, char** argv) {
  // A descriptor of ours must not become what is taken for stdin, stdout or stderr.
  for (int fd = 0; fd < 3; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd) return 1;
  croft::cli::Programs programs;
  programs.dev = croft::dev;
  programs.down = croft::down;
  programs.sim = croft::simulate;
  programs.serve = croft::serve;
  programs.end_session = croft::end_session;
  programs.store = croft::store_command;
  programs.init = croft::init;
  programs.join = croft::join_command;
  programs.config_check = croft::config_check;
  programs.version = croft::croft_version;
  return croft::cli::run(argc, argv, programs);
}
