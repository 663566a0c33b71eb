// croft-executor: holds one task, outlives the agent, keeps its output and its end. Made by the spawner (spawner.hpp).
//
// The agent talks to it over the unix socket `ctl` in the run folder, a line each way. To every client, at once and again when it
// changes:   started pid=N start=TICKS at=MS   oom count=N   exit code=N signal=N oom=N at=MS        failed TEXT
// From a client:   term GRACE_MS    kill
// The end is also in the file `exit`, written aside and renamed, so that it can be read when nobody was there to hear it.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.hpp"
#include "docker.hpp"
#include "enter.hpp"
#include "output.hpp"
#include "secrets.hpp"
#include "spawner.hpp"
#include "task.hpp"

namespace {

constexpr int clients_max = 16;

Config config;
Started task;
Output outputs[2];
int clients[clients_max];
int sandbox = -1;
char started_line[128], oom_line[64], exit_line[512];
long ooms_told = 0;
OomEvent oom;
int oom_looks = 0;
int64_t oom_look_at = 0;
constexpr int64_t oom_pause = 20;  // ms: where it was the main process, its end comes first, and says all
bool exited = false, recorded = false;
bool unwanted = false;  // told to kill what has ended: nobody wants the record of its end any more

int64_t mono_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

/// Start time of a process in clock ticks since boot: with the pid it names a process for ever.
unsigned long long start_ticks(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  auto n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  char* at = strrchr(text, ')');
  for (int field = 2; at && field < 22; ++field) at = strchr(at + 1, ' ');
  return at ? strtoull(at + 1, nullptr, 10) : 0;
}

void tell_all(const char* line) {
  for (int& fd : clients)
    if (fd >= 0 && send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) close(fd), fd = -1;
}

/// Written aside, synced where it must outlive a power cut, renamed: the file is whole or not there.
bool record(const char* name, const char* text, bool synced = true) {
  char aside[32];
  snprintf(aside, sizeof aside, "%s.new", name);
  int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  bool good = write(fd, text, strlen(text)) == static_cast<ssize_t>(strlen(text)) && (!synced || fsync(fd) == 0);
  close(fd);
  return good && rename(aside, name) == 0;
}

void pump_all(bool to_the_end) {
  for (auto& o : outputs) {
    int64_t until = mono_ms() + 200;  // a descendant that escaped with the pipe must not hold us for ever
    while (o.pipe >= 0) {
      errno = 0;
      if (!pump(o, sandbox, config.rotate_bytes, config.rotate_count)) {
        close(o.pipe);
        o.pipe = -1;
        break;
      }
      if (errno == EAGAIN && (!to_the_end || mono_ms() > until)) break;
      if (errno == EAGAIN) usleep(1000);
      if (!to_the_end) break;
    }
  }
}

/// A process that the kernel killed for want of memory need not be the task's main one: then nobody else says what happened.
bool heed_oom(long ooms) {
  if (ooms <= ooms_told) return false;
  ooms_told = ooms;
  oom_looks = 0;
  say(outputs[1], sandbox, config.rotate_bytes, config.rotate_count, "the kernel killed a process of this task, which had used all the memory that it may");
  snprintf(oom_line, sizeof oom_line, "oom count=%ld\n", ooms);
  return true;
}

void finish() {
  if (exited) return;
  ExitStatus status;
  if (read(task.status_pipe, &status, sizeof status) != sizeof status) {
    // A container lives on without its holder: the agent starts another executor for it.
    if (task.container) _exit(1);
    // Init itself was killed: by our KILL, or by the kernel for want of memory.
    status.signal = SIGKILL;
    status.code = 137;
  }
  pump_all(true);
  long ooms = oom_kills(config) + status.oom;
  heed_oom(ooms);
  snprintf(exit_line, sizeof exit_line, "exit code=%d signal=%d oom=%ld at=%lld lost=%llu\n", status.code, status.signal, ooms, static_cast<long long>(now_ms()),
           static_cast<unsigned long long>(outputs[0].lost + outputs[1].lost));
  exited = true;
  recorded = record("exit", exit_line);
  remove_cgroups(config);
  tell_all(exit_line);
}

void fail_start(const char* what) {
  if (errno) snprintf(exit_line, sizeof exit_line, "failed %.200s: %s\n", what, strerror(errno));
  else snprintf(exit_line, sizeof exit_line, "failed %.400s\n", what);
  exited = true;
  recorded = record("exit", exit_line);
  remove_cgroups(config);
}

void greet(int listener) {
  int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  for (int& slot : clients)
    if (slot < 0) {
      slot = fd;
      const char* line = exited && started_line[0] == '\0' ? exit_line : started_line;
      if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0) {}
      if (oom_line[0] && send(fd, oom_line, strlen(oom_line), MSG_NOSIGNAL) < 0) {}
      if (exited && started_line[0] && send(fd, exit_line, strlen(exit_line), MSG_NOSIGNAL) < 0) {}
      return;
    }
  close(fd);
}

int64_t kill_at = 0;

void hear(int& fd) {
  char line[128];
  auto n = recv(fd, line, sizeof line - 1, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN) close(fd), fd = -1;
    return;
  }
  line[n] = '\0';
  if (exited) {
    unwanted = unwanted || strncmp(line, "kill", 4) == 0;
    return;
  }
  if (strncmp(line, "term", 4) == 0) {
    long grace = line[4] == ' ' ? atol(line + 5) : config.grace_ms;
    signal_task(task, SIGTERM);
    if (!kill_at) kill_at = mono_ms() + grace;
  } else if (strncmp(line, "kill", 4) == 0) {
    signal_task(task, SIGKILL);
  }
}

void watch(int epoll, int fd, uint32_t events = EPOLLIN) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/// Until the task has ended, its end is on disk or told, and its output is kept.
void hold(int listener) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, listener);
  if (!exited) {
    watch(epoll, task.pidfd);
    for (auto& o : outputs) watch(epoll, o.pipe);
    oom = watch_oom(config);
    if (oom.fd >= 0) watch(epoll, oom.fd, oom.events);
  }
  int64_t ended_at = 0;
  for (;;) {
    epoll_event events[8];
    int64_t wait = -1;
    if (exited) wait = 20;
    else if (kill_at) wait = kill_at - mono_ms() > 0 ? kill_at - mono_ms() : 0;
    if (oom_looks > 0 && (wait < 0 || wait > oom_pause)) wait = oom_pause;
    int n = epoll_wait(epoll, events, 8, static_cast<int>(wait));
    bool gone = false;
    for (int i = 0; i < n; ++i) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        greet(listener);
        for (int client : clients)
          if (client >= 0) watch(epoll, client);  // again for known ones: refused, no harm
      } else if (!exited && fd == task.pidfd) {
        gone = true;
      } else if (fd == outputs[0].pipe || fd == outputs[1].pipe) {
        pump_all(false);
      } else if (fd == oom.fd) {
        char text[1024];  // of the file or the counter: read, it can tell again
        if (pread(fd, text, sizeof text, 0) < 0 && read(fd, text, sizeof text) < 0) {}
        if (oom_looks == 0) oom_look_at = mono_ms() + oom_pause;  // a task at its limit tells without a pause
        oom_looks = oom.looks;
      } else {
        for (int& client : clients)
          if (client == fd) hear(client);
      }
    }
    if (!exited && oom_looks > 0 && mono_ms() >= oom_look_at) {
      --oom_looks;
      oom_look_at += oom_pause;
      if (heed_oom(oom_kills(config))) tell_all(oom_line);
    }
    if (!exited && kill_at && mono_ms() >= kill_at) {
      signal_task(task, SIGKILL);
      kill_at = mono_ms() + 1000;  // and again: a task in an uninterruptible call dies when it returns
    }
    if (gone) {
      if (oom.fd >= 0) epoll_ctl(epoll, EPOLL_CTL_DEL, oom.fd, nullptr);
      epoll_ctl(epoll, EPOLL_CTL_DEL, task.pidfd, nullptr);  // it stays readable, and would end every wait from here on
      finish();
      waitpid(task.init, nullptr, WNOHANG);
    }
    if (!exited) continue;
    if (!ended_at) ended_at = mono_ms();
    if (recorded || unwanted) return;
    errno = 0;  // a short write leaves it as it was
    recorded = record("exit", exit_line);  // the disk was full: stay until there is room, or the end of the world
    if (!recorded && errno == ENOENT) return;  // the run folder was taken away: nobody waits for the record
    if (mono_ms() - ended_at > 86'400'000) return;
  }
}

/// Reads what is to be started and starts it. Whatever goes wrong is the task's end.
void start() {
  int pipes[2][2];
  if (!read_config(config)) return errno = 0, fail_start("exec.conf is not whole");
  if (pipe2(pipes[0], O_CLOEXEC) || pipe2(pipes[1], O_CLOEXEC)) return fail_start("pipe");
  sandbox = open(config.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const char* names[] = {"stdout", "stderr"};
  for (int i = 0; i < 2; ++i) {
    outputs[i].name = names[i];
    outputs[i].pipe = pipes[i][0];
    fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
    open_output(outputs[i], sandbox, config.rotate_bytes, config.rotate_count);
  }
  if (config.secrets && !read_secrets(config)) return fail_start("the task's secrets");
  task = config.docker ? start_container(config, pipes[0][1], pipes[1][1]) : start_task(config, pipes[0][1], pipes[1][1]);
  forget_secrets();
  close(pipes[0][1]);
  close(pipes[1][1]);
  if (task.error) {
    pump_all(true);
    return fail_start(task.error);
  }
  // A second executor of a container repeats the first one's word.
  int earlier = task.container ? open("started", O_RDONLY | O_CLOEXEC) : -1;
  auto n = earlier < 0 ? -1 : read(earlier, started_line, sizeof started_line - 1);
  if (earlier >= 0) close(earlier);
  if (n > 0) started_line[n] = '\0';
  else snprintf(started_line, sizeof started_line, "started pid=%d start=%llu at=%lld\n", task.shown, start_ticks(task.shown), static_cast<long long>(now_ms()));
  record("started", started_line, false);  // a power cut that could undo it ends the task as well
  tell_all(started_line);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 3 && strcmp(argv[1], "--enter") == 0) return enter(argc - 2, argv + 2);
  if (argc >= 5 && strcmp(argv[1], "--env") == 0 && strcmp(argv[3], "--") == 0) return run_with_secrets(argv[2], argv + 4);
  if (argc != 3 || strcmp(argv[1], "--spawner") != 0)
    return fprintf(stderr, "usage: croft-executor --spawner ROOM | --enter RUN [--tty ROWSxCOLUMNS:TYPE] -- COMMAND... | --env FILE -- COMMAND...\n"), 2;
  for (int& fd : clients) fd = -1;
  int listener = become_executor(argc, argv);
  start();
  hold(listener);
  unlink("ctl");
  return 0;
}
