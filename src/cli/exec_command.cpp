// croft exec: a command inside a task, with this terminal as its own where there is one.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "cli/commands.hpp"
#include "model/exec_frames.hpp"
#include "net/async.hpp"

namespace croft::cli {

namespace asio = boost::asio;
using exec::Kind;

namespace {

constexpr std::chrono::milliseconds request_limit{20'000}, farm_away_max{15'000}, again{300}, still_here{5'000};
constexpr std::size_t said_max = 48u << 10;  // bytes of input in one request
constexpr int farm_failed = 255;             // as ssh: no exit code of the command's

/// This terminal as it was, whatever happens.
class RawTerminal {
 public:
  explicit RawTerminal(bool wanted) : wanted_(wanted && ::tcgetattr(STDIN_FILENO, &before_) == 0) {
    if (!wanted_) return;
    auto raw = before_;
    ::cfmakeraw(&raw);
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() {
    if (wanted_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }

 private:
  termios before_{};  // above what fills it in
  bool wanted_;
};

std::string size_of_terminal(char between) {
  winsize w{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_row == 0 || w.ws_col == 0) w.ws_row = 24, w.ws_col = 80;
  return fmt::format("{}{}{}", w.ws_row, between, w.ws_col);
}

std::string terminal_words() {
  const char* type = std::getenv("TERM");
  auto words = fmt::format("{}:{}", size_of_terminal('x'), type ? type : "xterm");
  return exec::is_terminal(words) ? words : size_of_terminal('x') + ":xterm";
}

/// False when nobody reads any more, or the disk is full.
bool put_out(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

/// One session from this end. All coroutines on one thread; what may block, reading and writing our own descriptors, on threads of their own.
struct Talk : std::enable_shared_from_this<Talk> {
  Talk(asio::io_context& io, Session& s, std::string session)
      : farm(s), client(io.get_executor()), target("/croft/v1/exec/" + std::move(session)), resized(io), told_to_end(io, SIGINT, SIGTERM), stop_reading(::eventfd(0, EFD_CLOEXEC)) {}
  ~Talk() { ::close(stop_reading); }

  Session& farm;
  net::HttpClient client;
  std::string target;
  asio::signal_set resized, told_to_end;
  int stop_reading;
  net::BlockingPool reader{1}, writer{1};
  std::string held;                // frames to say
  std::shared_ptr<net::Signal> changed = net::Signal::make();
  bool over = false, input_over = false;
  int code = farm_failed;
  std::string trouble;
  std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();

  void end(std::string why) {
    if (over) return;
    over = true;
    trouble = std::move(why);
    wake();
  }
  void wake() {
    changed->notify();
    std::uint64_t one = 1;
    if (::write(stop_reading, &one, sizeof one) < 0) {}
    boost::system::error_code ec;
    resized.cancel(ec);
    told_to_end.cancel(ec);
  }

  /// Again while no master answers, up to a bound: who gets an answer twice says how far it is.
  asio::awaitable<std::optional<net::Response>> ask(std::string method, std::string query, std::string body) {
    auto until = std::chrono::steady_clock::now() + farm_away_max;
    std::string why;
    while (!over) {
      auto [origin, request] = farm.prepare(method, target + query, body);
      if (!body.empty()) request.headers.set("Content-Type", "application/octet-stream");
      net::ClientOptions how;
      how.timeout = request_limit;
      asked = std::chrono::steady_clock::now();
      auto answer = co_await client.request(origin, std::move(request), how);
      if (answer && answer->status < 300) co_return std::move(*answer);
      if (answer && answer->status != 429 && answer->status < 500) {
        end(answer->status == 404 ? "the session is over: the leader changed, or nothing was heard of this end for too long" : words_of({answer->status, answer->body, {}}));
        break;
      }
      why = answer ? words_of({answer->status, answer->body, {}}) : answer.error().context;
      if (std::chrono::steady_clock::now() > until) break;
      co_await net::sleep_for(again);
    }
    end(why);
    co_return std::nullopt;
  }

  void say(Kind kind, std::string_view bytes) {
    held += exec::encode(kind, bytes);
    changed->notify();
  }

  asio::awaitable<void> read_input(std::shared_ptr<Talk>) {
    auto chunk = std::make_shared<std::string>();
    while (!over && !input_over) {
      auto ticket = changed->ticket();
      if (held.size() > said_max) {
        (void)co_await changed->wait(ticket, std::chrono::milliseconds(1000));
        continue;
      }
      std::function<void()> read = [chunk, stop = stop_reading] {
        pollfd all[2] = {{STDIN_FILENO, POLLIN, 0}, {stop, POLLIN, 0}};
        chunk->resize(16u << 10);
        while (::poll(all, 2, -1) < 0 && errno == EINTR) {}
        auto n = all[1].revents ? 0 : ::read(STDIN_FILENO, chunk->data(), chunk->size());
        chunk->resize(n > 0 ? static_cast<std::size_t>(n) : 0);
      };
      co_await reader.run(read);
      input_over = chunk->empty();
      if (!over) say(Kind::input, *chunk);
    }
  }

  asio::awaitable<void> send(std::shared_ptr<Talk>) {
    std::uint64_t at = 0;
    while (!over) {
      auto ticket = changed->ticket();
      if (held.empty()) {
        // A reader of ours that stands still keeps read_output() from asking; that we are here must be heard all the same.
        if (std::chrono::steady_clock::now() - asked > still_here && !co_await ask("POST", fmt::format("?at={}", at), {})) break;
        (void)co_await changed->wait(ticket, std::chrono::milliseconds(1000));
        continue;
      }
      auto some = held.substr(0, exec::whole_frames(held, said_max));
      auto answer = co_await ask("POST", fmt::format("?at={}", at), some);
      if (!answer) break;
      auto taken = to_int(answer->body);
      if (!taken || static_cast<std::uint64_t>(*taken) != at + some.size()) continue;  // it waited for room, and found none
      at += some.size();
      held.erase(0, some.size());
      changed->notify();
    }
  }

  asio::awaitable<void> read_output(std::shared_ptr<Talk>) {
    exec::FrameReader frames;
    for (std::uint64_t after = 0; !over;) {
      auto answer = co_await ask("GET", fmt::format("?after={}", after), {});
      if (!answer) break;
      after += answer->body.size();
      auto some = frames.take(answer->body);
      if (!some) co_return end("the farm's answer: " + some.error().context);
      for (const auto& f : *some) {
        if (f.kind == Kind::end) co_return finish(f.data);
        auto good = std::make_shared<bool>(true);
        std::function<void()> write = [good, &f] { *good = put_out(f.kind == Kind::error ? STDERR_FILENO : STDOUT_FILENO, f.data); };
        co_await writer.run(write);
        if (!*good) {
          code = 128 + SIGPIPE;
          co_return end({});  // whoever read it has had enough
        }
      }
    }
  }
  void finish(const std::string& text) {
    auto parsed = json::parse(text);
    auto error = parsed ? json::text(*parsed, "error") : "its end cannot be read";
    if (error.empty()) code = static_cast<int>(json::integer(*parsed, "code", farm_failed));
    end(error);
  }

  /// On a terminal of its own the command hears of Ctrl-C by that; else it ends here, and with it there.
  asio::awaitable<void> watch_end(std::shared_ptr<Talk>) {
    boost::system::error_code ec;
    int signal = co_await told_to_end.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (ec || over) co_return;
    code = 128 + signal;
    end({});
  }

  asio::awaitable<void> watch_size(std::shared_ptr<Talk>) {
    while (!over) {
      boost::system::error_code ec;
      co_await resized.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      if (!ec && !over) say(Kind::size, size_of_terminal(' '));
    }
  }
};

/// The task itself, by its id or the begin of it, or one of an app's: the first that runs, healthy ones before others.
std::string find_task(Session& s, const std::string& name) {
  auto tasks = s.must("GET", "/v2/tasks").json();
  std::string best, begins;
  int rank = 0, beginning = 0;
  auto app = absolute(name);
  for (const auto& t : json::list(tasks, "tasks")) {
    auto id = json::text(t, "id");
    if (id == name) return id;
    if (name.find('.') != std::string::npos && id.starts_with(name)) begins = id, ++beginning;
    if (json::text(t, "appId") != app || json::text(t, "state") != "TASK_RUNNING") continue;
    bool healthy = true;
    for (const auto& result : json::list(t, "healthCheckResults")) healthy = healthy && json::boolean(result, "alive");
    if (int now = healthy ? 2 : 1; now > rank) rank = now, best = id;
  }
  if (!best.empty()) return best;
  if (beginning == 1) return begins;
  if (beginning > 1) throw Ended{usage, fmt::format("{} tasks begin with {}", beginning, name)};
  if (s.call("GET", "/v2/apps/" + in_url(app)).status == 200) throw Ended{not_found, fmt::format("app {0} has no task that runs: croft explain {0}", app)};
  throw Ended{not_found, fmt::format("there is no task {0}, and no app {1}", name, app)};
}

}  // namespace

int exec(Session& s, const ExecOptions& o) {
  auto task = find_task(s, o.task);
  bool here = ::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO);
  bool terminal = o.terminal || (!o.no_terminal && here && o.command.empty());
  auto command = o.command;
  if (!command.empty() && command[0] == "--") command.erase(command.begin());
  if (command.empty()) command = {"/bin/sh"};
  JsonWriter w;
  w.begin_object().field("task", task);
  if (terminal) w.field("terminal", terminal_words());
  w.key("command").begin_array();
  for (const auto& word : command) w.value(word);
  w.end_array().end_object();
  auto opened = s.must("POST", "/croft/v1/exec", std::move(w).take()).json();
  if (!s.common().quiet && task != o.task) std::fprintf(stderr, "%s on %s\n", task.c_str(), json::text(opened, "host").c_str());

  asio::io_context io;
  auto talk = std::make_shared<Talk>(io, s, json::text(opened, "session"));
  {
    RawTerminal raw(terminal && ::isatty(STDIN_FILENO));
    ::signal(SIGPIPE, SIG_IGN);
    if (o.no_input) talk->say(Kind::input, {});
    else net::spawn(io.get_executor(), "input", talk->read_input(talk));
    if (terminal) {
      talk->resized.add(SIGWINCH);
      net::spawn(io.get_executor(), "size", talk->watch_size(talk));
    }
    for (int signal : {SIGHUP, SIGQUIT}) talk->told_to_end.add(signal);
    net::spawn(io.get_executor(), "end", talk->watch_end(talk));
    net::spawn(io.get_executor(), "say", talk->send(talk));
    net::spawn(io.get_executor(), "hear", talk->read_output(talk));
    while (!talk->over) io.run_one_for(std::chrono::milliseconds(500));
  }
  try {
    s.call("DELETE", talk->target);
  } catch (const Ended&) {
    // Nobody is there to hear it; what there is to say about that is in `trouble`.
  }
  if (!talk->trouble.empty()) std::fprintf(stderr, "croft: %s\n", talk->trouble.c_str());
  // A request to a farm that does not answer may be under way for a while yet, and is not waited for.
  std::fflush(nullptr);
  ::_exit(talk->code);
}

}  // namespace croft::cli
