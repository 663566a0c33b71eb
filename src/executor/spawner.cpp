#include "spawner.hpp"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <initializer_list>

#include "config.hpp"

namespace {

constexpr int socket_fd = 3;

/// Out of the agent's unit, so that systemd ends nothing of ours with it. Where a folder is not there, we stay.
void enter_own_cgroups() {
  const char* given = getenv("CROFT_EXECUTOR_CGROUPS");
  char* folders = given ? strdup(given) : nullptr;
  char* rest = nullptr;
  for (char* at = folders ? strtok_r(folders, ":", &rest) : nullptr; at; at = strtok_r(nullptr, ":", &rest)) {
    char path[4096];
    mkdir(at, 0755);
    snprintf(path, sizeof path, "%s/cgroup.procs", at);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (write(fd, "0", 1) < 0) perror(path);
    close(fd);
  }
  free(folders);
}

int listen_ctl() {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, "ctl");
  unlink("ctl");
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, 16) != 0) return -1;
  return fd;
}

char* words;         // of the command line, which the agent made long enough
size_t words_size;

/// What people see in ps: each executor's own folder.
void show_as(const char* folder) {
  memset(words, 0, words_size);
  snprintf(words, words_size, "croft-executor%c%s", '\0', folder);
}

bool answer(int to, const char* text) { return write(to, text, strlen(text)) > 0; }

/// The new process; returns its listening socket.
int settle(const char* folder, int to) {
  close(socket_fd);
  setsid();
  signal(SIGCHLD, SIG_DFL);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_NAME, "croft-executor");
  int listener = chdir(folder) == 0 ? listen_ctl() : -1;
  if (listener < 0) {
    answer(to, strerror(errno));
    _exit(1);
  }
  show_as(folder);
  if (!answer(to, "ok")) {  // the agent has given us up meanwhile: what we started would be nobody's
    unlink("ctl");
    _exit(1);
  }
  close(to);
  return listener;
}

/// One request: its text and the descriptor that came with it (-1: none). False at the end.
bool hear(char* text, size_t size, int& sent) {
  iovec part{text, size - 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  ssize_t n;
  while ((n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
  if (n <= 0) return false;
  text[n] = '\0';
  const auto* control = CMSG_FIRSTHDR(&message);
  if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) memcpy(&sent, CMSG_DATA(control), sizeof sent);
  return true;
}

}  // namespace

int become_executor(int argc, char** argv) {
  words = argv[0];
  words_size = static_cast<size_t>(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);
  setsid();
  enter_own_cgroups();
  for (int s : {SIGPIPE, SIGHUP, SIGTERM, SIGINT}) signal(s, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);  // nobody waits for executors
  prctl(PR_SET_NAME, "croft-spawner");
  write_small("/proc/self/oom_score_adj", "-500", 4);
  fcntl(socket_fd, F_SETFD, FD_CLOEXEC);
  syscall(SYS_close_range, socket_fd + 1u, ~0u, 0u);  // whatever the agent had open is none of a task's business
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  close(null);
  static char folder[4096];
  for (int to = -1; hear(folder, sizeof folder, to); to = -1) {
    if (to < 0) continue;
    pid_t pid = fork();
    if (pid == 0) return settle(folder, to);
    if (pid < 0) answer(to, strerror(errno));
    close(to);
  }
  _exit(0);
}
