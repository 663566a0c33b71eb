#include "balancer/haproxy.hpp"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "balancer/steps.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/process.hpp"
#include "base/text.hpp"

namespace croft::balancer {

namespace {

using Steady = std::chrono::steady_clock;

constexpr int talk_limit_ms = 2000;
constexpr std::size_t answer_max = 64u << 20;
constexpr std::size_t batch_max = 60;
constexpr std::chrono::seconds check_limit{20};
constexpr std::chrono::milliseconds back_within{500};

/// The lines of HAProxy's complaint that say what is wrong, without its prefixes.
std::string words_of(const std::string& said) {
  std::vector<std::string> lines;
  for (const auto& line : split(said, '\n')) {
    if (line.find("[ALERT]") == std::string::npos) continue;
    auto colon = line.find(" : ");
    auto text = colon == std::string::npos ? line : line.substr(colon + 3);
    if (text.find("Error(s) found") == std::string::npos && text.find("Fatal errors") == std::string::npos) lines.push_back(text);
  }
  return lines.empty() ? std::string(trim(said)) : join(lines, "; ");
}

/// "\nPid: 12" of `show info`.
std::string line_of(const std::string& info, std::string_view name) {
  auto at = info.find(fmt::format("\n{}: ", name));
  if (at == std::string::npos) return {};
  at += name.size() + 3;
  return info.substr(at, info.find('\n', at) - at);
}

}  // namespace

Result<std::string> Haproxy::talk(const fs::path& socket, const std::string& text) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  auto path = socket.string();
  if (path.size() >= sizeof address.sun_path) return fail(Errc::invalid, "{}: longer than a socket's path may be", path);
  path.copy(address.sun_path, path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return fail(Errc::unavailable, "HAProxy does not answer on {}", path);
  timeval limit{talk_limit_ms / 1000, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  auto line = text + "\n";
  if (::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) return fail(Errc::unavailable, "HAProxy closed {}", path);
  ::shutdown(fd.get(), SHUT_WR);  // the master would wait for more commands
  std::string out;
  char block[65536];
  for (;;) {
    pollfd p{fd.get(), POLLIN, 0};
    if (::poll(&p, 1, talk_limit_ms) <= 0) return fail(Errc::timeout, "HAProxy gives no answer to '{}'", text.substr(0, 40));
    auto n = ::recv(fd.get(), block, sizeof block, 0);
    if (n <= 0) return out;
    out.append(block, static_cast<std::size_t>(n));
    if (out.size() > answer_max) return fail(Errc::too_large, "HAProxy's answer has no end");
  }
}

Result<std::string> Haproxy::ask_master(const std::string& command) const { return talk(options_.run_dir / "master.sock", command); }

/// A worker that does not take connections any more is reached through the master, each command with the worker's number in front.
Result<std::string> Haproxy::ask(const std::string& command, int worker) const {
  if (worker == 0) return talk(options_.run_dir / "haproxy.sock", command);
  return ask_master(fmt::format("@!{} {}", worker, command));
}

std::optional<Proxy::Info> Haproxy::info() const {
  auto text = ask("show info", 0);
  if (!text) return std::nullopt;
  auto pid = to_int(line_of(*text, "Pid"));
  if (!pid) return std::nullopt;
  return Info{static_cast<int>(*pid), line_of(*text, "description")};
}

/// Of this run folder's HAProxy, if it lives; a number that belongs to somebody else now does not count.
std::optional<int> Haproxy::master_pid() const {
  auto text = read_file(options_.run_dir / "haproxy.pid", 64);
  auto pid = text ? to_int(trim(*text)) : std::nullopt;
  if (!pid || *pid <= 1) return std::nullopt;
  auto words = read_file(fmt::format("/proc/{}/cmdline", *pid), 65536);
  auto config = (options_.run_dir.filename() / "haproxy.cfg").string();  // as it was named then, from whatever folder
  if (!words || words->find("haproxy") == std::string::npos || words->find(config) == std::string::npos) return std::nullopt;
  return static_cast<int>(*pid);
}

void Haproxy::stop() {
  auto pid = master_pid();
  if (!pid) return;
  ::kill(*pid, SIGTERM);
  for (int i = 0; i < 300 && master_pid() == pid; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (master_pid() == pid) ::kill(*pid, SIGKILL);
}

Status Haproxy::start() {
  if (auto stray = options_.by_unit ? std::nullopt : master_pid()) {
    log::warn("balancer", "HAProxy {} does not answer on its sockets; it is ended before another is started", *stray);
    stop();
  }
  auto dir = options_.run_dir;
  if (!options_.by_unit) {
    std::error_code ec;
    fs::remove(dir / "master.sock", ec);
    auto ran = run_program({options_.program, "-W", "-D", "-S", (dir / "master.sock").string() + ",mode,600", "-p", (dir / "haproxy.pid").string(), "-f", config_file().string()}, check_limit);
    if (!ran) return fail(std::move(ran).error().within("HAProxy does not start"));
    if (ran->code != 0) return fail(Errc::io, "HAProxy does not start: {}", words_of(ran->said));
  }
  for (auto end = Steady::now() + (options_.by_unit ? std::chrono::milliseconds(2000) : options_.reload_limit); Steady::now() < end;) {
    if (info()) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return fail(Errc::timeout, "{}", options_.by_unit ? "croft-haproxy.service has not started HAProxy yet" : "HAProxy was started and does not answer");
}

static std::int64_t failed_reloads(const std::string& show_proc) {
  auto at = show_proc.find("[failed: ");
  if (at == std::string::npos) return 0;
  at += 9;
  return to_int(std::string_view(show_proc).substr(at, show_proc.find(']', at) - at)).value_or(0);
}

Status Haproxy::reload() {
  auto before = info();
  auto processes = ask_master("show proc");
  // Just after a start or a reload the master loads itself anew, and takes no connections for some milliseconds.
  for (auto end = Steady::now() + back_within; !processes && processes.error().code == Errc::unavailable && Steady::now() < end; processes = ask_master("show proc"))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (!processes) return fail(std::move(processes).error());
  auto failed = failed_reloads(*processes);
  auto told = ask_master("reload");
  if (!told && told.error().code != Errc::timeout) return fail(std::move(told).error());
  constexpr int gone_after = 40;  // rounds without an answer and without a process: the number is not read while it is being written anew
  int gone = master_pid() ? 0 : -1;
  for (auto end = Steady::now() + options_.reload_limit; Steady::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds(5))) {
    auto now = info();
    if (now && (!before || now->pid != before->pid)) return {};
    if (gone >= 0) gone = now || master_pid() ? 0 : gone + 1;
    if (gone == gone_after) return fail(Errc::unavailable, "HAProxy was told to reload, and is gone");
    if (auto list = ask_master("show proc"); list && failed_reloads(*list) > failed)
      return fail(Errc::io, "HAProxy could not take the new configuration and goes on with the one before; most likely a port was taken meanwhile");
  }
  return fail(Errc::timeout, "HAProxy was told to reload, and no new worker answers");
}

Status Haproxy::run(const std::vector<std::string>& commands) const {
  for (std::size_t i = 0; i < commands.size(); i += batch_max) {
    std::vector<std::string> some(commands.begin() + static_cast<std::ptrdiff_t>(i), commands.begin() + static_cast<std::ptrdiff_t>(std::min(commands.size(), i + batch_max)));
    auto answer = ask(join(some, ";"), 0);
    if (!answer) return fail(std::move(answer).error());
    auto said = trim(*answer);
    // A changed address is told in words; anything about a server that is not there, or a command not understood, is a fault.
    for (auto bad : {"No such", "Unknown command", "Require", "not found", "Invalid", "disabled", "Permission denied"})
      if (said.find(bad) != std::string_view::npos) return fail(Errc::invalid, "HAProxy: {}", said.substr(0, 300));
  }
  return {};
}

/// The master counts an old worker's end as nothing special, whatever way it ends.
void Haproxy::end_worker(int worker) const {
  auto list = ask_master("show proc");
  if (!list) return;
  auto old = old_workers_seen(*list);
  if (std::find(old.begin(), old.end(), worker) != old.end()) ::kill(worker, SIGTERM);
}

Status Haproxy::check(const std::string& config) const {
  auto file = options_.run_dir / fmt::format("check.{:x}.cfg", random_u64());
  if (auto ok = replace_file(file, config, 0600); !ok) return ok;
  auto ran = run_program({options_.program, "-c", "-f", file.string()}, check_limit);
  std::error_code ec;
  fs::remove(file, ec);
  if (!ran) return fail(std::move(ran).error().within("haproxy -c"));
  if (ran->code == 0) return {};
  if (ran->code >= 126) return fail(Errc::io, "haproxy -c ended with {}: {}", ran->code, words_of(ran->said));
  auto words = words_of(ran->said);
  for (auto at = words.find(file.string()); at != std::string::npos; at = words.find(file.string())) words.replace(at, file.string().size(), "rule");
  return fail(Errc::invalid, "{}", words);
}

Status Haproxy::write_config(const std::string& config) const { return replace_file(config_file(), config, 0600); }  // derived, and written anew at every start
std::string Haproxy::config_on_disk() const { return read_file(config_file(), answer_max).value_or(""); }

bool Haproxy::port_is_free(const std::string& address, std::uint16_t port) const {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  if (address.empty() || ::inet_pton(AF_INET, address.c_str(), &a.sin_addr) != 1) a.sin_addr.s_addr = INADDR_ANY;
  return ::bind(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0 && ::listen(fd.get(), 1) == 0;
}

}  // namespace croft::balancer
