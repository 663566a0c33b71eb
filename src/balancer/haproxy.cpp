#include "balancer/haproxy.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include "base/files.hpp"
#include "base/process.hpp"
#include "base/text.hpp"

namespace croft::balancer {

namespace {

constexpr int talk_limit_ms = 2000;
constexpr std::size_t answer_max = 64u << 20;
constexpr std::size_t batch_max = 60;

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

Ran run_haproxy(std::vector<std::string> words) {
  auto ran = run_program(std::move(words), std::chrono::seconds(10));
  return ran ? std::move(*ran) : Ran{-1, ran.error().context};
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
  auto line = text + "\n";
  if (::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) return fail(Errc::unavailable, "HAProxy closed {}", path);
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

Result<std::string> Haproxy::ask(const std::string& command) const { return talk(options_.run_dir / "haproxy.sock", command); }

bool Haproxy::running() const { return ask("show info").has_value(); }

Status Haproxy::start() {
  auto dir = options_.run_dir;
  if (!options_.by_unit) {
    std::error_code ec;
    fs::remove(dir / "master.sock", ec);
    auto ran = run_haproxy({options_.program, "-W", "-D", "-S", (dir / "master.sock").string() + ",mode,600", "-p", (dir / "haproxy.pid").string(), "-f", config_file().string()});
    if (ran.code != 0) return fail(Errc::io, "HAProxy does not start: {}", words_of(ran.said));
  }
  for (int i = 0; i < 200; ++i) {
    if (running()) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return fail(Errc::timeout, "{}", options_.by_unit ? "croft-haproxy.service has not started HAProxy yet" : "HAProxy was started and does not answer");
}

Status Haproxy::reload() {
  auto pid_of = [&]() -> std::string {
    auto info = ask("show info");
    if (!info) return {};
    auto at = info->find("\nPid:");
    return at == std::string::npos ? "" : info->substr(at + 5, info->find('\n', at + 1) - at - 5);
  };
  auto before = pid_of();
  auto told = talk(options_.run_dir / "master.sock", "reload");
  if (!told && told.error().code != Errc::timeout) return fail(told.error());
  for (int i = 0; i < 500; ++i) {
    auto now = pid_of();
    if (!now.empty() && now != before) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return fail(Errc::timeout, "HAProxy was told to reload and the old worker still answers");
}

void Haproxy::stop() {
  auto text = read_file(options_.run_dir / "haproxy.pid", 64);
  auto pid = text ? to_int(trim(*text)) : std::nullopt;
  if (!pid || *pid <= 1) return;
  auto program = read_file(fmt::format("/proc/{}/comm", *pid), 64);
  if (!program || trim(*program) != "haproxy") return;  // the number belongs to somebody else now
  ::kill(static_cast<pid_t>(*pid), SIGTERM);
  for (int i = 0; i < 300 && ::kill(static_cast<pid_t>(*pid), 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

Status Haproxy::run(const std::vector<std::string>& commands) const {
  for (std::size_t i = 0; i < commands.size(); i += batch_max) {
    std::vector<std::string> some(commands.begin() + static_cast<std::ptrdiff_t>(i), commands.begin() + static_cast<std::ptrdiff_t>(std::min(commands.size(), i + batch_max)));
    auto answer = ask(join(some, ";"));
    if (!answer) return fail(answer.error());
    auto said = trim(*answer);
    // A changed address is told in words; anything about a server that is not there, or a command not understood, is a fault.
    for (auto bad : {"No such", "Unknown command", "Require", "not found", "Invalid"})
      if (said.find(bad) != std::string_view::npos) return fail(Errc::invalid, "HAProxy: {}", said.substr(0, 300));
  }
  return {};
}

Status Haproxy::check(const std::string& config) const {
  auto file = options_.run_dir / fmt::format("check.{:x}.cfg", random_u64());
  if (auto ok = write_file_atomic(file, config, 0600); !ok) return ok;
  auto ran = run_haproxy({options_.program, "-c", "-f", file.string()});
  std::error_code ec;
  fs::remove(file, ec);
  if (ran.code == 0) return {};
  auto words = words_of(ran.said);
  for (auto at = words.find(file.string()); at != std::string::npos; at = words.find(file.string())) words.replace(at, file.string().size(), "rule");
  return fail(Errc::invalid, "{}", words);
}

Status Haproxy::write_config(const std::string& config) const { return write_file_atomic(config_file(), config, 0600); }

Result<std::map<std::string, unsigned>> Haproxy::sessions() const {
  auto csv = ask("show stat -1 4 -1");
  if (!csv) return fail(csv.error());
  std::map<std::string, unsigned> out;
  for (const auto& line : split(*csv, '\n')) {
    auto f = split(line, ',');
    if (f.size() < 5 || f[0].starts_with('#')) continue;
    out[f[0] + "/" + f[1]] = static_cast<unsigned>(to_int(f[4]).value_or(0));
  }
  return out;
}

Result<std::map<std::string, std::pair<std::string, int>>> Haproxy::addresses() const {
  auto text = ask("show servers state");
  if (!text) return fail(text.error());
  std::map<std::string, std::pair<std::string, int>> out;
  for (const auto& line : split(*text, '\n')) {
    auto f = split(line, ' ');
    if (f.size() < 19 || f[0].starts_with('#')) continue;
    out[f[1] + "/" + f[3]] = {f[4], static_cast<int>(to_int(f[18]).value_or(0))};
  }
  return out;
}

}  // namespace croft::balancer
