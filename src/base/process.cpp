#include "base/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.hpp"
#include "base/text.hpp"

extern char** environ;

namespace croft {

const posix_spawnattr_t* usual_signals() {
  static const posix_spawnattr_t* made = [] {
    static posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    return &attributes;
  }();
  return made;
}

namespace {
constexpr std::size_t said_max = 64u << 10;

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (auto& w : words) out.push_back(w.data());
  out.push_back(nullptr);
  return out;
}
}  // namespace

Result<Ran> run_program(std::vector<std::string> words, std::chrono::milliseconds limit, const std::vector<std::string>* env, int in) {
  int pipes[2];
  if (::pipe2(pipes, O_CLOEXEC) != 0) return fail_errno("pipe");
  Fd reading(pipes[0]), writing(pipes[1]);
  SpawnActions actions;
  if (in >= 0) actions.dup(in, 0);
  else actions.open(0, "/dev/null", O_RDONLY);
  actions.dup(writing.get(), 1);
  actions.dup(writing.get(), 2);
  auto argv = pointers(words);
  std::vector<std::string> own = env ? *env : std::vector<std::string>();
  auto envp = pointers(own);
  pid_t pid = -1;
  int rc = ::posix_spawnp(&pid, argv[0], actions.finish(), usual_signals(), argv.data(), env ? envp.data() : environ);
  writing.reset();
  if (rc != 0) return fail(errno_error("start " + words[0], rc));
  ::fcntl(reading.get(), F_SETFL, O_NONBLOCK);
  Ran out;
  auto until = std::chrono::steady_clock::now() + limit;
  char block[4096];
  for (;;) {
    auto n = ::read(reading.get(), block, sizeof block);
    if (n > 0) {
      if (out.said.size() < said_max) out.said.append(block, static_cast<std::size_t>(n));
      continue;
    }
    int status = 0;
    if (::waitpid(pid, &status, n == 0 ? 0 : WNOHANG) == pid) {
      out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      return out;
    }
    if (std::chrono::steady_clock::now() > until) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return fail(Errc::timeout, "{}: no end within {} ms", words[0], limit.count());
    }
    pollfd p{reading.get(), POLLIN, 0};
    ::poll(&p, 1, 10);
  }
}

namespace {

/// The inode of a listening socket with this port in one of /proc/net's tables; "" for none.
std::string inode_of_listener(const char* table, std::uint16_t port) {
  auto text = read_file(table, 16u << 20);
  if (!text) return {};
  auto ends = fmt::format(":{:04X}", port);
  for (const auto& line : split(*text, '\n')) {
    auto words = split(trim(line), ' ');
    std::erase(words, "");
    if (words.size() > 9 && words[1].ends_with(ends) && words[3] == "0A") return words[9];
  }
  return {};
}

}  // namespace

std::string holder_of_port(std::uint16_t port) {
  auto inode = inode_of_listener("/proc/net/tcp", port);
  if (inode.empty()) inode = inode_of_listener("/proc/net/tcp6", port);
  if (inode.empty()) return {};
  auto wanted = "socket:[" + inode + "]";
  std::error_code ec;
  for (const auto& process : fs::directory_iterator("/proc", ec)) {
    auto pid = process.path().filename().string();
    if (!to_int(pid)) continue;
    std::error_code unseen;
    for (auto fd = fs::directory_iterator(process.path() / "fd", unseen); !unseen && fd != fs::directory_iterator(); fd.increment(unseen))
      if (std::error_code none; fs::read_symlink(fd->path(), none) == wanted) return fmt::format(" (pid {}, {})", pid, trim(read_file(process.path() / "comm", 64).value_or("?")));
  }
  return {};
}

}  // namespace croft
