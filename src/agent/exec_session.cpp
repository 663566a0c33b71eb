#include "agent/exec_session.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "model/exec_frames.hpp"
#include "net/async.hpp"

namespace croft::agent {

using asio::redirect_error;
using asio::use_awaitable;
using Descriptor = asio::posix::stream_descriptor;

namespace {

constexpr std::size_t held_max = 256u << 10, sent_max = 64u << 10;  // bytes of output that wait; in one request
constexpr std::chrono::milliseconds request_limit{10'000}, leader_away_max{5'000}, room_pause{20}, hang_up{2'000}, drain{500};
constexpr std::size_t left_over_max = 1u << 20;  // bytes taken after its end: what stood in its pipes, and not what it left behind goes on saying
constexpr int cannot_start = 126;

/// A program with four pipes: its input, output, errors, and the sizes of its terminal.
struct Program {
  pid_t pid = -1;
  Fd input, output, error, sizes;
};

Result<Program> start_program(std::vector<std::string> words) {
  int pipes[4][2];
  for (auto& p : pipes) p[0] = p[1] = -1;
  Fd ends[4][2];
  for (int i = 0; i < 4; ++i) {
    if (::pipe2(pipes[i], O_CLOEXEC) != 0) return fail_errno("pipe");
    ends[i][0] = Fd(pipes[i][0]), ends[i][1] = Fd(pipes[i][1]);
  }
  SpawnActions actions;
  actions.dup(ends[0][0].get(), 0);
  actions.dup(ends[1][1].get(), 1);
  actions.dup(ends[2][1].get(), 2);
  actions.dup(ends[3][0].get(), 3);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Program p;
  if (int rc = ::posix_spawn(&p.pid, argv[0], actions.finish(4), usual_signals(), argv.data(), environ); rc != 0) return fail(errno_error("start " + words[0], rc));
  p.input = std::move(ends[0][1]);
  p.output = std::move(ends[1][0]);
  p.error = std::move(ends[2][0]);
  p.sizes = std::move(ends[3][1]);
  return p;
}

struct Session : std::enable_shared_from_this<Session> {
  Session(asio::any_io_executor pool, std::shared_ptr<net::HttpClient> c, ExecSession s)
      : strand(asio::make_strand(pool)), client(std::move(c)), how(std::move(s)), input(strand), output(strand), error(strand), sizes(strand), end(strand) {}

  asio::any_io_executor strand;
  std::shared_ptr<net::HttpClient> client;
  ExecSession how;
  Descriptor input, output, error, sizes, end;   // of the program; `end`: its pidfd
  pid_t pid = -1;
  std::string held;                              // frames that the leader does not have yet
  std::uint64_t begin = 0;                       // of held, among all
  int reading = 0;                               // of output and error
  std::size_t owed[2] = {0, 0};                  // of output and error: what stood in the pipe when the program ended, and is not read yet
  std::size_t left_over = 0;                     // read beyond that
  int full = 0;                                  // readers that wait for room in held
  std::chrono::steady_clock::time_point read_at{};
  bool ended = false, dropped = false;           // its exit is known; the leader wants no more of it
  bool all_held = false;                         // the last frame stands in held
  int code = cannot_start;
  std::shared_ptr<net::Signal> changed = net::Signal::make();

  void drop() {
    dropped = true;
    changed->notify();
  }
  /// Nothing follows the last frame: what the command left behind may go on writing.
  void hold(exec::Kind kind, std::string_view data) {
    if (all_held) return;
    held += exec::encode(kind, data);
    all_held = kind == exec::Kind::end;
    changed->notify();
  }

  /// Nothing: the leader cannot be reached, or knows no such session any more; then it is dropped.
  asio::awaitable<std::optional<net::Response>> ask(std::string method, std::string query, std::string body) {
    auto until = std::chrono::steady_clock::now() + leader_away_max;
    while (!dropped && !how.stopping()) {
      net::Request r;
      r.method = method;
      r.target = how.target + query;
      r.body = body;
      if (!body.empty()) r.headers.set("Content-Type", "application/octet-stream");
      net::ClientOptions options;
      options.timeout = request_limit;
      auto answer = co_await client->request(how.leader, std::move(r), options);
      if (answer && answer->status == 200) co_return std::move(*answer);
      bool gone = answer && answer->status != 429 && answer->status < 500;
      if (gone && answer->status != 404) log::warn("agent", "{} {}{}: {} {}", method, how.target, query, answer->status, answer->body.substr(0, 200));
      if (gone || std::chrono::steady_clock::now() > until) break;
      co_await net::sleep_for(std::chrono::milliseconds(200));
    }
    drop();
    co_return std::nullopt;
  }

  asio::awaitable<void> read_output(std::shared_ptr<Session>, Descriptor& from, exec::Kind kind) {
    auto& mine = owed[kind == exec::Kind::error];
    std::string chunk(16u << 10, '\0');
    boost::system::error_code ec;
    while (!ec && !dropped && !all_held) {
      auto ticket = changed->ticket();
      if (held.size() > held_max) {
        ++full;
        (void)co_await changed->wait(ticket, std::chrono::milliseconds(1000));
        --full;
        read_at = std::chrono::steady_clock::now();  // it was nobody's silence
        continue;
      }
      auto n = co_await from.async_read_some(asio::buffer(chunk), redirect_error(use_awaitable, ec));
      if (n == 0) break;
      read_at = std::chrono::steady_clock::now();
      auto due = std::min(n, mine);
      mine -= due;
      if (ended) left_over += n - due;
      hold(kind, std::string_view(chunk).substr(0, n));
    }
    mine = 0;
    --reading;
    changed->notify();
  }
  /// What stands in a pipe.
  static std::size_t standing(Descriptor& pipe) {
    int n = 0;
    return pipe.is_open() && ::ioctl(pipe.native_handle(), FIONREAD, &n) == 0 && n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  /// What the leader has for the program. A program that does not read holds up what is for it, and nothing else.
  asio::awaitable<void> feed(std::shared_ptr<Session>) {
    exec::FrameReader reader;
    boost::system::error_code ec;
    for (std::uint64_t after = 0; !dropped && !ended;) {
      auto answer = co_await ask("GET", fmt::format("?after={}", after), {});
      if (!answer) break;
      after += answer->body.size();
      auto frames = reader.take(answer->body);
      if (!frames) break;
      for (const auto& f : *frames) {
        if (f.kind == exec::Kind::size) co_await asio::async_write(sizes, asio::buffer(f.data + "\n"), redirect_error(use_awaitable, ec));
        else if (f.data.empty()) input.close(ec);
        else if (input.is_open()) co_await asio::async_write(input, asio::buffer(f.data), redirect_error(use_awaitable, ec));
      }
    }
  }

  /// What is held, to the leader; and now and then nothing, so that it knows of us while feed() waits for the program to read.
  asio::awaitable<void> send(std::shared_ptr<Session>) {
    auto said = std::chrono::steady_clock::now();
    while (!dropped) {
      auto ticket = changed->ticket();
      bool quiet = std::chrono::steady_clock::now() - said > std::chrono::seconds(3);
      if (held.empty() && !quiet) {
        if (all_held) break;
        (void)co_await changed->wait(ticket, std::chrono::milliseconds(1000));
        continue;
      }
      auto some = held.substr(0, exec::whole_frames(held, sent_max));
      auto answer = co_await ask("POST", fmt::format("?at={}", begin), some);
      if (!answer) break;
      said = std::chrono::steady_clock::now();
      auto taken = to_int(answer->body);
      if (!taken || static_cast<std::uint64_t>(*taken) != begin + some.size()) {
        co_await net::sleep_for(room_pause);
        continue;
      }
      held.erase(0, some.size());
      begin += some.size();
      changed->notify();
    }
  }

  /// Told to end, it hangs up on the command by itself, and kills it after a second.
  asio::awaitable<void> await_end(std::shared_ptr<Session> self) {
    net::spawn(strand, "exec", wake_at_end(self));
    for (bool told = false; !ended;) {
      int status = 0;
      if (::waitpid(pid, &status, WNOHANG) == pid) {
        code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        owed[0] = standing(output), owed[1] = standing(error);
        ended = true;
        break;
      }
      if ((dropped || how.stopping()) && !std::exchange(told, true)) {
        ::kill(pid, SIGTERM);
        net::spawn(strand, "exec", kill_late(self));
      }
      auto ticket = changed->ticket();
      (void)co_await changed->wait(ticket, std::chrono::milliseconds(200));
    }
    changed->notify();
  }
  asio::awaitable<void> wake_at_end(std::shared_ptr<Session>) {
    boost::system::error_code ec;
    co_await end.async_wait(Descriptor::wait_read, redirect_error(use_awaitable, ec));
    changed->notify();
  }
  asio::awaitable<void> kill_late(std::shared_ptr<Session>) {
    co_await net::sleep_for(hang_up);
    if (!ended) ::kill(pid, SIGKILL);  // not waited for yet: the number is still its
  }

  bool start() {
    auto program = how.refused.empty() ? start_program(how.words) : Result<Program>(fail(Errc::unavailable, "{}", how.refused));
    if (!program) {
      JsonWriter w;
      w.begin_object().field("error", program.error().context).end_object();
      hold(exec::Kind::end, std::move(w).take());
      return false;
    }
    pid = program->pid;
    boost::system::error_code ec;
    input.assign(program->input.release(), ec);
    output.assign(program->output.release(), ec);
    error.assign(program->error.release(), ec);
    sizes.assign(program->sizes.release(), ec);
    if (int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); fd >= 0) end.assign(fd, ec);
    reading = 2;
    return true;
  }

  asio::awaitable<void> run(std::shared_ptr<Session> self) {
    if (start()) {
      net::spawn(strand, "exec", read_output(self, output, exec::Kind::output));
      net::spawn(strand, "exec", read_output(self, error, exec::Kind::error));
      net::spawn(strand, "exec", feed(self));
      net::spawn(strand, "exec", send(self));
      co_await await_end(self);
      // All that it said is passed on, however slow its reader. What it started and left behind may hold its output open for ever, and is waited for a moment only.
      read_at = std::chrono::steady_clock::now();
      auto said = [&] { return owed[0] == 0 && owed[1] == 0; };
      auto quiet = [&] { return full == 0 && held.size() <= held_max && std::chrono::steady_clock::now() - read_at >= drain; };
      while (reading > 0 && !dropped && (!said() || (left_over < left_over_max && !quiet()))) {
        auto ticket = changed->ticket();
        (void)co_await changed->wait(ticket, std::chrono::milliseconds(50));
      }
      hold(exec::Kind::end, fmt::format("{{\"code\":{}}}", code));
    } else {
      net::spawn(strand, "exec", send(self));
    }
    while (!dropped && !how.stopping() && !held.empty()) {
      auto ticket = changed->ticket();
      if (held.empty()) break;
      (void)co_await changed->wait(ticket, std::chrono::milliseconds(1000));
    }
    boost::system::error_code ec;
    for (auto* d : {&input, &output, &error, &sizes, &end}) d->close(ec);
    drop();
  }
};

}  // namespace

asio::awaitable<void> run_exec_session(asio::any_io_executor pool, std::shared_ptr<net::HttpClient> client, ExecSession session) {
  auto made = std::make_shared<Session>(pool, std::move(client), std::move(session));
  auto job = made->run(made);
  co_await asio::co_spawn(made->strand, std::move(job), use_awaitable);
}

}  // namespace croft::agent
