#include "agent/spawner.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/files.hpp"
#include "base/process.hpp"

extern char** environ;

namespace croft::agent {

namespace {

constexpr int patience_ms = 10'000;
constexpr std::size_t path_shown = 256;

/// Sends the path, and `with` along. False with errno.
bool send_request(int socket, const std::string& path, int with) {
  iovec part{const_cast<char*>(path.data()), path.size()};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  auto* control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(control), &with, sizeof with);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(path.size());
}

}  // namespace

/// Ends when its socket is closed, at the latest with the agent.
struct Spawner::Process {
  Fd socket;
  pid_t pid = -1;

  ~Process() {
    socket.reset();
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);  // one that is stopped would not notice, and we would wait for ever; executors are on their own
    ::waitpid(pid, nullptr, 0);
  }
};

Spawner::Spawner(std::filesystem::path program) : program_(std::move(program)) {}
Spawner::~Spawner() = default;

Result<std::shared_ptr<Spawner::Process>> Spawner::process() {
  std::lock_guard lock(mutex_);
  if (process_) return process_;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("socketpair");
  auto made = std::make_shared<Process>();
  made->socket = Fd(ends[0]);
  Fd theirs(ends[1]);
  timeval limit{patience_ms / 1000, 0};
  ::setsockopt(made->socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  auto program = program_.string();
  char word[] = "--spawner";
  std::string room(path_shown, '-');
  char* argv[] = {program.data(), word, room.data(), nullptr};
  SpawnActions actions;
  actions.dup(theirs.get(), 3);
  int rc = ::posix_spawn(&made->pid, program.c_str(), actions.finish(4), usual_signals(), argv, environ);
  if (rc != 0) return fail(errno_error("start " + program, rc));
  return process_ = std::move(made);
}

void Spawner::drop(const std::shared_ptr<Process>& broken) {
  std::lock_guard lock(mutex_);
  if (process_ == broken) process_.reset();
}

Status Spawner::start(const std::filesystem::path& run) {
  for (bool again = true;; again = false) {
    auto running = process();
    if (!running) return fail(std::move(running).error());
    int pipes[2];
    if (::pipe2(pipes, O_CLOEXEC) != 0) return fail_errno("pipe");
    Fd reading(pipes[0]), writing(pipes[1]);
    bool sent = send_request((*running)->socket.get(), run.string(), writing.get());
    int why = errno;
    writing.reset();
    char said[256];
    pollfd wait{reading.get(), POLLIN, 0};
    auto n = !sent ? -1 : ::poll(&wait, 1, patience_ms) == 1 ? ::read(reading.get(), said, sizeof said) : -2;
    if (n == 2 && std::memcmp(said, "ok", 2) == 0) return {};
    if (n > 0) return fail(Errc::io, "executor in {}: {}", run.string(), std::string_view(said, static_cast<std::size_t>(n)));
    if (n == -2) return fail(Errc::timeout, "executor in {}: no word within {} ms", run.string(), patience_ms);
    drop(*running);  // it was killed; the next one may do better
    if (!again) return fail(Errc::io, "executor in {}: {}", run.string(), sent ? "it died as it started" : std::strerror(why));
  }
}

}  // namespace croft::agent
