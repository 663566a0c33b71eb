#include "enter.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <initializer_list>

#include "secrets.hpp"
#include "task.hpp"

namespace {

Config entered;
constexpr int cannot_enter = 126, no_command = 127;

int refuse(const char* what) { return fprintf(stderr, "croft: %s: %s\n", what, strerror(errno)), cannot_enter; }

size_t read_small(int folder, const char* name, char* text, size_t size) {
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  auto n = fd < 0 ? -1 : read(fd, text, size - 1);
  if (fd >= 0) close(fd);
  text[n > 0 ? n : 0] = '\0';
  return n > 0 ? static_cast<size_t>(n) : 0;
}

/// /proc's folder of the task's init, which stays that process's whoever gets its number next; -1 with errno when it has ended.
int open_task() {
  char text[1024], path[64];
  int pid = 0;
  unsigned long long start = 0;
  read_small(AT_FDCWD, "started", text, sizeof text);
  errno = ESRCH;
  if (sscanf(text, "started pid=%d start=%llu", &pid, &start) != 2) return -1;
  snprintf(path, sizeof path, "/proc/%d", pid);
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno = ESRCH, -1;
  read_small(fd, "stat", text, sizeof text);
  char* at = strrchr(text, ')');
  for (int field = 2; at && field < 22; ++field) at = strchr(at + 1, ' ');
  if (!at || strtoull(at + 1, nullptr, 10) != start) return close(fd), errno = ESRCH, -1;
  return fd;
}

constexpr const char* kinds[] = {"ns/user", "ns/pid", "ns/ipc", "ns/uts", "ns/mnt"};
constexpr int for_children = 2, all_kinds = 5;
int namespaces[all_kinds];

/// False with errno. Who is not root has made the task a user namespace, in which he may.
bool open_namespaces(int task) {
  for (int i = geteuid() == 0 ? 1 : 0; i < all_kinds; ++i)
    if ((namespaces[i] = openat(task, kinds[i], O_RDONLY | O_CLOEXEC)) < 0) return false;
  return true;
}

bool join(int from, int to) {
  for (int i = from; i < to; ++i)
    if (setns(namespaces[i], 0) != 0) return false;
  return true;
}

/// As the command's own process, with nothing given up yet: waits until it stands in the task's cgroups.
[[noreturn]] void go_in(char** command, const Terminal& terminal, const sock_fprog& filter, int go) {
  char byte;
  if (read(go, &byte, 1) != 1) _exit(cannot_enter);
  if (!join(for_children, all_kinds)) _exit(refuse("the task's namespaces"));
  setsid();
  if (terminal.wanted) {
    if (ioctl(terminal.slave, TIOCSCTTY, 0) != 0) _exit(refuse("terminal"));  // it is somebody else's
    for (int fd : {0, 1, 2}) dup2(terminal.slave, fd);
  }
  if (const char* failed = become(entered, command, filter, true)) _exit(refuse(failed));
  int code = errno == ENOENT ? no_command : cannot_enter;
  fprintf(stderr, "croft: cannot run '%.200s': %s\n", command[0], strerror(errno));
  _exit(code);
}

/// In the task's own instance of the terminals' file system, where nobody else sees it; a task of an older croft has the host's, and there it stays root's.
bool open_terminal_inside(Terminal& terminal, bool root) {
  constexpr int mounts = all_kinds - 1;
  int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  struct stat outside, inside;
  bool good = own >= 0 && stat("/dev/pts", &outside) == 0 && setns(namespaces[mounts], CLONE_NEWNS) == 0;
  if (good) {
    bool apart = stat("/dev/pts", &inside) == 0 && inside.st_dev != outside.st_dev;
    good = open_terminal(terminal, apart && entered.has_user ? entered.uid : static_cast<uid_t>(-1));
    int saved = errno;
    if (root && setns(own, CLONE_NEWNS) != 0) good = false;  // who is not root has no way back, and no cgroups to go back for
    errno = saved;
  }
  if (own >= 0) close(own);
  return good;
}

int enter_task(char** command, Terminal& terminal) {
  int task = open_task();
  if (task < 0) return refuse("the task");
  if (entered.secrets && !read_secrets(entered)) return refuse("the task's secrets");
  static char type[80];
  snprintf(type, sizeof type, "TERM=%.64s", terminal.type);
  if (terminal.wanted && entered.env_count < words_max) entered.env[entered.env_count++] = type, entered.env[entered.env_count] = nullptr;
  sock_fprog filter{};
  if (entered.seccomp && !read_seccomp(entered, filter)) return refuse("seccomp program");
  int go[2];
  int signals = watch_signals();
  if (signals < 0 || pipe2(go, O_CLOEXEC) != 0) return refuse("pipe");
  bool root = geteuid() == 0;
  if (!open_namespaces(task) || !join(root ? 1 : 0, for_children)) return refuse("the task's namespaces");
  if (terminal.wanted && !open_terminal_inside(terminal, root)) return refuse("terminal");
  pid_t pid = fork();
  if (pid < 0) return refuse("fork");
  if (pid == 0) {
    close(go[1]);
    go_in(command, terminal, filter, go[0]);
  }
  close(go[0]);
  forget_secrets();
  if (!enter_cgroups(entered, pid)) return refuse("the task's cgroups");  // and the command never begins
  if (write(go[1], "g", 1) != 1) return refuse("pipe");
  close(go[1]);
  if (terminal.wanted) close(terminal.slave);
  else for (int fd : {0, 1}) close(fd);  // they are the command's
  return relay(pid, terminal, signals);
}

}  // namespace

int enter(int argc, char** argv) {
  Terminal terminal;
  int at = 1;
  if (argc > 3 && strcmp(argv[1], "--tty") == 0 && parse_terminal(argv[2], terminal)) at = 3;
  if (argc < at + 2 || strcmp(argv[at], "--") != 0) return fprintf(stderr, "usage: croft-executor --enter RUN [--tty ROWSxCOLUMNS:TYPE] -- COMMAND...\n"), 2;
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // with the agent: nobody would read
  if (chdir(argv[0]) != 0) return refuse(argv[0]);
  if (!read_config(entered)) return cannot_enter;
  return entered.docker ? enter_container(entered, argv + at + 1, terminal) : enter_task(argv + at + 1, terminal);
}
