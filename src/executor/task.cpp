#include "task.hpp"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "secrets.hpp"

namespace {

bool make_cgroups(const Config& c) {
  for (int i = 0; i < c.cgroup_count; ++i)
    if (mkdir(c.cgroups[i], 0755) != 0 && errno != EEXIST) return false;
  for (int i = 0; i < c.cgset_count; ++i) {
    char path[4096];
    const char* equals = strchr(c.cgsets[i], '=');
    if (!equals || static_cast<size_t>(equals - c.cgsets[i]) >= sizeof path) return errno = EINVAL, false;
    memcpy(path, c.cgsets[i], static_cast<size_t>(equals - c.cgsets[i]));
    path[equals - c.cgsets[i]] = '\0';
    // A limit that this kernel does not have (swap accounting off) is no reason not to start; the memory limit itself is.
    if (!write_small(path, equals + 1, strlen(equals + 1)) && strstr(path, "memsw") == nullptr && strstr(path, "swap") == nullptr) return false;
  }
  return true;
}

[[noreturn]] void give_up(int report, const char* what) {
  char text[256];
  int n = snprintf(text, sizeof text, "%s: %s\n", what, strerror(errno));
  if (write(report, text, static_cast<size_t>(n)) < 0) {}
  _exit(127);
}

/// While we are root still, who alone may.
void bound_capabilities(const Config& c) {
  for (int cap = 0; cap <= 40; ++cap)
    if (!(c.caps >> cap & 1)) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

void drop_capabilities(const Config& c) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  data[0].effective = data[0].permitted = data[0].inheritable = static_cast<uint32_t>(c.caps);
  data[1].effective = data[1].permitted = data[1].inheritable = static_cast<uint32_t>(c.caps >> 32);
  syscall(SYS_capset, &header, data);
}

}  // namespace

bool enter_cgroups(const Config& c, pid_t pid) {
  char path[4096], text[24];
  auto size = static_cast<size_t>(snprintf(text, sizeof text, "%d", pid));
  for (int i = 0; i < c.cgroup_count; ++i) {
    snprintf(path, sizeof path, "%s/cgroup.procs", c.cgroups[i]);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, size) == static_cast<ssize_t>(size);
    if (fd >= 0) close(fd);
    if (!good) return false;
  }
  return true;
}

bool read_seccomp(const Config& c, sock_fprog& filter) {
  int fd = open(c.seccomp, O_RDONLY | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) return false;
  auto* program = static_cast<sock_filter*>(malloc(static_cast<size_t>(st.st_size)));
  bool good = program && read(fd, program, static_cast<size_t>(st.st_size)) == st.st_size;
  close(fd);
  filter = {static_cast<unsigned short>(st.st_size / static_cast<long>(sizeof(sock_filter))), program};
  return good;
}

const char* become(const Config& c, char* const* command, const sock_fprog& filter, bool dies_along) {
  if (chdir(c.dir) != 0) return c.dir;
  umask(022);
  const rlimit no_core{1, 1};
  if (c.secrets) setrlimit(RLIMIT_CORE, &no_core);  // a core would have them; with 0 the kernel still writes one into a pipe, where core_pattern names one
  write_small("/proc/self/oom_score_adj", "0", 1);  // the executor's own is for the executor
  signal(SIGPIPE, SIG_DFL);
  for (int s = 1; s < 32; ++s) signal(s, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (c.keep_caps && prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0) return "keepcaps";
  if (c.keep_caps) bound_capabilities(c);
  if (c.has_user) {
    if (geteuid() == 0 && setgroups(0, nullptr) != 0) return "setgroups";
    if (setresgid(c.gid, c.gid, c.gid) != 0 || setresuid(c.uid, c.uid, c.uid) != 0) return "setuid";
  }
  if (c.keep_caps) drop_capabilities(c);
  if (dies_along) prctl(PR_SET_PDEATHSIG, SIGKILL);  // not before: a change of user undoes it
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
  if (c.seccomp && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0) return "seccomp";
  // The program is looked up in the task's own PATH, then in the sandbox.
  const char* path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (int i = 0; i < c.env_count; ++i)
    if (strncmp(c.env[i], "PATH=", 5) == 0) path = c.env[i] + 5;
  setenv("PATH", path, 1);
  execvpe(command[0], command, c.env);
  return nullptr;
}

namespace {

/// The task's own process, below init.
[[noreturn]] void become_task(const Config& c, int out, int err, int report) {
  setsid();
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  int null = open("/dev/null", O_RDONLY);
  if (null > 0) dup2(null, STDIN_FILENO);
  sock_fprog filter{};
  if (c.seccomp && !read_seccomp(c, filter)) give_up(report, "seccomp program");
  if (const char* failed = become(c, c.args, filter, false)) give_up(report, failed);
  char what[300];
  snprintf(what, sizeof what, "cannot run '%.200s'", c.args[0]);
  if (dprintf(STDERR_FILENO, "croft: %s: %s\n", what, strerror(errno)) < 0) {}
  give_up(report, what);
}

/// A system call that leaves errno alone: it is the executor's too, see start_task. Returns -errno.
long bare_call(long number, long a = 0, long b = 0, long c = 0, long d = 0) {
#if defined(__x86_64__)
  long result;
  register long fourth asm("r10") = d;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long name asm("x8") = number, first asm("x0") = a, second asm("x1") = b, third asm("x2") = c, fourth asm("x3") = d;
  asm volatile("svc 0" : "+r"(first) : "r"(name), "r"(second), "r"(third), "r"(fourth) : "memory", "cc");
  return first;
#else
#error "croft runs on x86-64 and arm64"
#endif
}

void forward(int signal) {
  bare_call(SYS_kill, -1, signal);  // everything in this pid namespace but ourselves
}

/// Other tasks' sandboxes are none of this one's business, and mostly of the same user: a folder that is empty but for the way to its own stands over them.
bool hide_other_sandboxes(const Config& c) {
  char path[4096];
  size_t above = strlen(c.sandboxes), size = strlen(c.dir);
  if (size >= sizeof path || strncmp(c.dir, c.sandboxes, above) != 0 || c.dir[above] != '/') return errno = EINVAL, false;
  int own = open(c.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (own < 0 || mount("tmpfs", c.sandboxes, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0711,size=64k") != 0) return false;
  memcpy(path, c.dir, size + 1);
  umask(022);
  for (char* at = path + above + 1; at;) {
    at = strchr(at, '/');
    if (at) *at = '\0';
    if (mkdir(path, 0711) != 0) return false;
    if (at) *at++ = '/';
  }
  char from[64];
  snprintf(from, sizeof from, "/proc/self/fd/%d", own);
  bool good = mount(from, c.dir, nullptr, MS_BIND, nullptr) == 0;
  close(own);
  return good;
}

/// What init gets along: the pipes' ends are its own copies.
struct Birth {
  const Config& config;
  int out, err;
  int go[2], status[2], report[2];
};

/// Reaps whatever is left to it, until the command ends. The executor runs beside it in the same memory: no libc from here on.
[[noreturn]] void hold_namespace(pid_t main_process, int status_fd) {
  for (;;) {
    int status = 0;
    long pid = bare_call(SYS_wait4, -1, reinterpret_cast<long>(&status));
    if (pid == -EINTR) continue;
    if (pid < 0) bare_call(SYS_exit_group, 0);
    if (pid != main_process) continue;
    ExitStatus exit_status;
    exit_status.told = true;
    if (WIFSIGNALED(status)) exit_status.signal = WTERMSIG(status), exit_status.code = 128 + exit_status.signal;
    else exit_status.code = WEXITSTATUS(status);
    bare_call(SYS_write, status_fd, reinterpret_cast<long>(&exit_status), sizeof exit_status);
    bare_call(SYS_kill, -1, SIGKILL);
    bare_call(SYS_exit_group, 0);
  }
}

/// pid 1 of the task: starts the command, forwards signals, and ends with the command. What the command started dies with pid 1.
int init(void* given) {
  const auto& [c, out, err, go, status, report] = *static_cast<Birth*>(given);
  for (int other : {go[1], status[0], report[0]}) close(other);
  prctl(PR_SET_PDEATHSIG, 0);
  prctl(PR_SET_NAME, "croft-init");
  char byte;
  if (read(go[0], &byte, 1) != 1) _exit(127);  // the executor could not put us where we belong
  mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr);
  umount2("/proc", MNT_DETACH);
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0 && geteuid() == 0) give_up(report[1], "mount /proc");
  for (const char* masked : {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/sysrq-trigger"})
    mount("/dev/null", masked, nullptr, MS_BIND, nullptr);
  // Terminals of its own: in the host's, which all tasks of a user would share, one could open another's.
  mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
  if (c.sandboxes && !hide_other_sandboxes(c)) give_up(report[1], "hiding other sandboxes");
  if (c.secrets && !show_secrets(c)) give_up(report[1], "showing secrets");
  struct sigaction action{};
  action.sa_handler = forward;
  for (int s : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT}) sigaction(s, &action, nullptr);
  // Without a copy of our memory: it goes on here as soon as the command is loaded.
  pid_t main_process = vfork();
  if (main_process < 0) give_up(report[1], "fork");
  if (main_process == 0) become_task(c, out, err, report[1]);
  int status_fd = status[1];
  for (int theirs : {out, err, report[1]}) bare_call(SYS_close, theirs);  // with the last one the executor goes on, and what we were given ends
  hold_namespace(main_process, status_fd);
}

}  // namespace

// Init is a process in the executor's own memory: nothing is copied, which is a third of what a start costs. Until the command is loaded the
// executor waits for it and leaves the libc to init; after that init makes bare system calls only.
Started start_task(const Config& config, int stdout_fd, int stderr_fd) {
  alignas(16) static char stack[65536];
  Started started;
  Birth birth{config, stdout_fd, stderr_fd, {}, {}, {}};
  auto& [_, out, err, go, status, report] = birth;
  if (pipe2(go, O_CLOEXEC) || pipe2(status, O_CLOEXEC) || pipe2(report, O_CLOEXEC)) return started.error = "pipe", started;
  if (!make_cgroups(config)) return started.error = "cgroup", started;
  int pidfd = -1;
  int flags = CLONE_VM | CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (geteuid() != 0 ? CLONE_NEWUSER : 0) | SIGCHLD;
  pid_t pid = clone(init, stack + sizeof stack, flags, &birth, &pidfd);
  if (pid < 0) return started.error = "clone", started;
  close(go[0]);
  close(status[1]);
  close(report[1]);
  if (!enter_cgroups(config, pid)) {
    int saved = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    errno = saved;
    return started.error = "entering the cgroup", started;
  }
  if (write(go[1], "g", 1) < 0) {}
  close(go[1]);
  // Ends without a word when the command runs (close-on-exec), else says what failed.
  static char failure[256];
  auto n = read(report[0], failure, sizeof failure - 1);
  close(report[0]);
  started.init = started.shown = pid;
  started.pidfd = pidfd;
  started.status_pipe = status[0];
  if (n > 0) {
    failure[n - 1] = '\0';
    started.error = failure;
    errno = 0;
  }
  return started;
}

void signal_task(const Started& task, int signal) {
  if (task.pidfd < 0) return;
  if (task.container && signal == SIGKILL) signal = SIGUSR1;  // to its holder, who has the Engine kill it
  syscall(SYS_pidfd_send_signal, task.pidfd, signal, nullptr, 0);
}

void remove_cgroups(const Config& config) {
  for (int i = config.cgroup_count - 1; i >= 0; --i)
    for (int tries = 0; tries < 50 && rmdir(config.cgroups[i]) != 0 && errno == EBUSY; ++tries) usleep(2000);
}

long oom_kills(const Config& config) {
  if (!config.oom) return 0;
  int fd = open(config.oom, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[1024];
  auto n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  const char* at = strstr(text, "oom_kill ");
  return at ? atol(at + 9) : 0;
}

OomEvent watch_oom(const Config& config) {
  const char* slash = config.oom ? strrchr(config.oom, '/') : nullptr;
  int fd = slash ? open(config.oom, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return {};
  if (strcmp(slash, "/memory.events") == 0) return {fd, EPOLLPRI, 1};
  char control[4352], words[64];
  snprintf(control, sizeof control, "%.*s/cgroup.event_control", static_cast<int>(slash - config.oom), config.oom);
  int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  auto n = static_cast<size_t>(snprintf(words, sizeof words, "%d %d", event, fd));
  bool good = event >= 0 && write_small(control, words, n);
  close(fd);
  if (good) return {event, EPOLLIN, 20};
  if (event >= 0) close(event);
  return {};
}
