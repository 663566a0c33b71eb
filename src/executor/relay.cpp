#include "relay.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

namespace {

constexpr char end_of_input = 4;   // a terminal's own

int64_t clock_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

/// What was read and is still to be written to the terminal.
struct Input {
  char bytes[4096];
  size_t size = 0, at = 0;
  bool open = true;

  void read_from(int fd) {
    auto n = read(fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    open = n > 0;
    at = 0;
    size = n > 0 ? static_cast<size_t>(n) : 1;
    if (!open) bytes[0] = end_of_input;
  }
  void write_to(int fd) {
    auto n = write(fd, bytes + at, size - at);
    if (n > 0) at += static_cast<size_t>(n);
    if ((n < 0 && errno != EAGAIN && errno != EINTR) || at == size) at = size = 0;
  }
};

/// What the terminal said and its reader has not taken. A reader that stands still holds up nothing here but itself.
struct Said {
  char bytes[16384];
  size_t size = 0, at = 0;
  bool readable = true;  // the terminal may say more

  void read_from(int master) {
    auto n = read(master, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    at = 0;
    size = n > 0 ? static_cast<size_t>(n) : 0;
    readable = n > 0;  // EIO: nobody has it open any more
  }
  void write_to(int fd) {
    auto n = write(fd, bytes + at, size - at);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n < 0) readable = false;  // nobody reads
    at += n > 0 ? static_cast<size_t>(n) : size;
    if (at >= size) at = size = 0;
  }
};

}  // namespace

bool parse_terminal(char* text, Terminal& out) {
  char* colon = strchr(text, ':');
  if (!colon || sscanf(text, "%hux%hu:", &out.rows, &out.columns) != 2) return false;
  out.type = colon + 1;
  return out.wanted = true;
}

bool open_terminal(Terminal& t, uid_t owner) {
  t.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (t.master < 0 || grantpt(t.master) != 0 || unlockpt(t.master) != 0) return false;
  t.slave = ioctl(t.master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  winsize size{t.rows, t.columns, 0, 0};
  return t.slave >= 0 && fchown(t.slave, owner, static_cast<gid_t>(-1)) == 0 && fchmod(t.slave, 0600) == 0 && ioctl(t.slave, TIOCSWINSZ, &size) == 0 && fcntl(t.master, F_SETFL, O_NONBLOCK) == 0;
}

void Tree::collect(pid_t process) {
  static pid_t all[most];
  int count = 0;
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
  all[count++] = process;
  for (int i = 0; i < count; ++i) {
    if (int fd = static_cast<int>(syscall(SYS_pidfd_open, all[i], 0)); fd >= 0 && count_ < most) fds_[count_++] = fd;
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", all[i], all[i]);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    pid_t number = 0;
    for (ssize_t n; from >= 0 && (n = read(from, text, sizeof text)) > 0;)
      for (const char* c = text; c < text + n; ++c) {
        if (*c >= '0' && *c <= '9') number = number * 10 + (*c - '0');
        else if (number > 0 && count < most) all[count++] = number, number = 0;
      }
    if (from >= 0) close(from);
  }
}

void Tree::signal(int signal) const {
  for (int i = count_; i > 0; --i) syscall(SYS_pidfd_send_signal, fds_[i - 1], signal, nullptr, 0);
}

bool Tree::wait(int ms) const {
  auto until = clock_ms() + ms;
  for (int i = 0; i < count_; ++i) {
    pollfd one{fds_[i], POLLIN, 0};
    auto left = until - clock_ms();
    if (poll(&one, 1, left > 0 ? static_cast<int>(left) : 0) <= 0) return false;
  }
  return true;
}

bool read_size(Terminal& t, bool& open) {
  char text[64];
  auto n = read(size_fd, text, sizeof text - 1);
  if (n <= 0) return open = n < 0 && (errno == EINTR || errno == EAGAIN), false;
  text[n] = '\0';
  bool any = false;
  for (char* line = strtok(text, "\n"); line; line = strtok(nullptr, "\n")) any = sscanf(line, "%hu %hu", &t.rows, &t.columns) == 2 || any;
  return any;
}

int watch_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGCHLD, SIGTERM, SIGHUP, SIGINT}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

Told read_signals(int fd) {
  Told told;
  for (signalfd_siginfo info; read(fd, &info, sizeof info) == sizeof info;) (info.ssi_signo == SIGCHLD ? told.child : told.end) = true;
  return told;
}

bool put_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    auto n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

int relay(pid_t command, Terminal& t, int signals) {
  static Input input;
  static Said output;
  static Tree tree;
  output.readable = t.master >= 0;
  if (t.master >= 0) fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);  // the agent's other end is a file of its own
  bool sizes = t.wanted, ended = false, hung_up = false;
  int status = 0;
  int64_t kill_at = 0;
  for (;;) {
    bool full = output.size > 0;
    if (hung_up) input.size = 0, input.open = false;  // nobody reads it any more; what was said before is still to be read
    auto of_terminal = static_cast<short>((full ? 0 : POLLIN) | (input.size > 0 ? POLLOUT : 0));
    pollfd all[5] = {{signals, POLLIN, 0}, {output.readable && of_terminal && !(hung_up && full) ? t.master : -1, of_terminal, 0},
                     {output.readable && input.open && input.size == 0 ? STDIN_FILENO : -1, POLLIN, 0}, {sizes && output.readable ? size_fd : -1, POLLIN, 0}, {full ? STDOUT_FILENO : -1, POLLOUT, 0}};
    int64_t left = kill_at ? kill_at - clock_ms() : -1;
    if (kill_at && left < 0) left = 0;
    // Once it has ended, only what it said still counts: all of it, unless we are told to end.
    if (poll(all, 5, ended && !full ? 0 : static_cast<int>(left)) < 0 && errno != EINTR) return 126;
    hung_up = hung_up || (all[1].revents & (POLLHUP | POLLERR)) != 0;
    bool fresh = !full && all[1].revents & (POLLIN | POLLHUP | POLLERR);
    if (fresh) output.read_from(t.master);
    if (ended && (kill_at || (output.size == 0 && (!output.readable || all[1].revents == 0)))) break;
    if (all[1].revents & POLLOUT) input.write_to(t.master);
    if (all[2].revents) input.read_from(STDIN_FILENO);
    if (output.size > 0 && (fresh || all[4].revents)) output.write_to(STDOUT_FILENO);
    if (all[3].revents && read_size(t, sizes)) {
      winsize size{t.rows, t.columns, 0, 0};
      ioctl(t.master, TIOCSWINSZ, &size);
    }
    auto told = all[0].revents ? read_signals(signals) : Told();
    // Before it is waited for: its children are found by it.
    if (told.end && !kill_at && !ended) tree.collect(command), kill(-command, SIGHUP), tree.signal(SIGHUP), kill_at = clock_ms() + patience_ms;
    if (told.child && waitpid(command, &status, WNOHANG) == command) ended = true;
    if (kill_at && !ended && clock_ms() >= kill_at) tree.collect(command), kill(-command, SIGKILL), tree.signal(SIGKILL), kill_at = clock_ms() + patience_ms;
  }
  if (kill_at) {
    auto left = kill_at - clock_ms();
    if (!tree.wait(left > 0 ? static_cast<int>(left) : 0)) tree.signal(SIGKILL);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
