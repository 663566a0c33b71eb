#include "relay.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

namespace {

constexpr int patience_ms = 1000;  // from hanging up to killing
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

/// False when there is nothing more to come, or nobody to read it.
bool pass_on(int master) {
  char chunk[16384];
  auto n = read(master, chunk, sizeof chunk);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  return n > 0 && put_all(STDOUT_FILENO, chunk, static_cast<size_t>(n));  // EIO: nobody has it open any more
}

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

void signal_tree(pid_t process, int signal) {
  constexpr int most = 1024;
  pid_t all[most];
  int count = 0;
  all[count++] = process;
  for (int i = 0; i < count; ++i) {  // all of them are found before the first one ends and leaves its own to somebody else
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", all[i], all[i]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    auto n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = '\0';
    for (char* word = strtok(text, " "); word && count < most; word = strtok(nullptr, " ")) all[count++] = atoi(word);
  }
  while (count > 0) kill(all[--count], signal);
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
  Input input;
  bool sizes = t.wanted, ended = false, hung_up = t.master < 0;
  int status = 0;
  int64_t kill_at = 0;
  for (;;) {
    pollfd all[4] = {{signals, POLLIN, 0}, {hung_up ? -1 : t.master, static_cast<short>(POLLIN | (input.size > 0 ? POLLOUT : 0)), 0},
                     {!hung_up && input.open && input.size == 0 ? STDIN_FILENO : -1, POLLIN, 0}, {sizes && !hung_up ? size_fd : -1, POLLIN, 0}};
    int64_t left = kill_at ? kill_at - clock_ms() : -1;
    if (kill_at && left < 0) left = 0;
    if (poll(all, 4, ended ? 0 : static_cast<int>(left)) < 0 && errno != EINTR) return 126;
    if (all[1].revents & (POLLIN | POLLHUP | POLLERR) && !pass_on(t.master)) hung_up = true;
    if (ended && (hung_up || all[1].revents == 0)) break;
    if (all[1].revents & POLLOUT) input.write_to(t.master);
    if (all[2].revents) input.read_from(STDIN_FILENO);
    if (all[3].revents && read_size(t, sizes)) {
      winsize size{t.rows, t.columns, 0, 0};
      ioctl(t.master, TIOCSWINSZ, &size);
    }
    auto told = all[0].revents ? read_signals(signals) : Told();
    if (told.child && waitpid(command, &status, WNOHANG) == command) ended = true;
    if (told.end && !kill_at && !ended) kill(-command, SIGHUP), signal_tree(command, SIGHUP), kill_at = clock_ms() + patience_ms;
    if (kill_at && clock_ms() >= kill_at) signal_tree(command, SIGKILL), kill(-command, SIGKILL), kill_at = clock_ms() + patience_ms;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
