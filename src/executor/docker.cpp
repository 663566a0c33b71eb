#include "docker.hpp"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.hpp"
#include "output.hpp"

namespace {

constexpr int stamp_size = 30;  // 2026-11-24T14:10:12.123456789Z
constexpr int log_ended = -3;   // beside -1: broken, try again; -2: its log driver cannot be read
constexpr int patience_s = 60;  // an Engine may be slow under load; none of its calls takes longer

const Config* config;
int outs[2], news[2];           // task's output; a pipe that tells poll() of signals
volatile sig_atomic_t want_term = 0, want_kill = 0;
int position_file = -1;

/// How far the Engine's log was read: the newest message's time, and how many messages of just that time were read.
struct Position {
  char stamp[stamp_size + 1] = "";
  unsigned same = 0;
} position;

void on_signal(int signal) {
  if (signal == SIGTERM) want_term = 1;
  else want_kill = 1;
  if (write(news[1], "s", 1) < 0) {}
}

void path_of(char* out, size_t size, const char* what) { snprintf(out, size, "/containers/%s%s", config->container, what); }

Answer ask_container(const char* method, const char* what) {
  char path[512];
  path_of(path, sizeof path, what);
  return ask(config->docker, method, path, patience_s);
}

[[noreturn]] void give_up(int report, const char* words) {
  char text[512];
  int n = snprintf(text, sizeof text, "%s\n", words);
  if (write(report, text, static_cast<size_t>(n)) < 0) {}
  _exit(127);
}

// --- position ---

void load_position() {
  position_file = open("logpos", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  char text[64] = "";
  if (position_file < 0 || pread(position_file, text, sizeof text - 1, 0) < stamp_size) return;
  if (sscanf(text, "%30s %u", position.stamp, &position.same) != 2) position = {};
}

void save_position() {
  char text[64];
  int n = snprintf(text, sizeof text, "%s %u\n", position.stamp, position.same);
  if (position_file >= 0 && pwrite(position_file, text, static_cast<size_t>(n), 0) < 0) {}
}

long stamp_seconds(const char* stamp) {
  tm t{};
  if (sscanf(stamp, "%d-%d-%dT%d:%d:%d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec) != 6) return 0;
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  return timegm(&t);
}

// --- the log stream: frames of [stream, 0, 0, 0, size] and "STAMP text" ---

struct Frames {
  unsigned char head[8];
  int head_n = 0;
  char stamp[stamp_size + 1];
  int stamp_n = 0;
  bool stamped = false, skip = false;
  size_t left = 0;
  unsigned seen_same = 0;      // messages of this connection that bear the stored position's time
} frames;

void put(int fd, const char* data, size_t size) {
  while (size > 0) {
    auto n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    data += n;
    size -= static_cast<size_t>(n);
  }
}

/// A message's time is known: has it been read before?
void weigh() {
  frames.stamped = true;
  frames.stamp[frames.stamp_n] = '\0';
  int order = strcmp(frames.stamp, position.stamp);
  if (order < 0) {
    frames.skip = true;
  } else if (order == 0) {
    frames.skip = ++frames.seen_same <= position.same;
    if (!frames.skip) position.same = frames.seen_same;
  } else {
    frames.skip = false;
    memcpy(position.stamp, frames.stamp, sizeof position.stamp);
    position.same = frames.seen_same = 1;
  }
}

void take_log(const char* data, size_t size) {
  while (size > 0) {
    if (frames.left == 0 && frames.head_n < 8) {
      frames.head[frames.head_n++] = static_cast<unsigned char>(*data++);
      --size;
      if (frames.head_n < 8) continue;
      frames.left = static_cast<size_t>(frames.head[4]) << 24 | static_cast<size_t>(frames.head[5]) << 16 | static_cast<size_t>(frames.head[6]) << 8 | frames.head[7];
      frames.stamp_n = 0;
      frames.stamped = false;
    }
    while (!frames.stamped && frames.left > 0 && size > 0) {
      char c = *data++;
      --size;
      --frames.left;
      if (c == ' ' || frames.stamp_n == stamp_size) weigh();
      else frames.stamp[frames.stamp_n++] = c;
    }
    auto n = frames.left < size ? frames.left : size;
    if (n > 0 && !frames.skip) put(outs[frames.head[0] == 2], data, n);
    data += n;
    size -= n;
    frames.left -= n;
    if (frames.left == 0) frames.head_n = 0;
  }
}

/// False at the end of the stream.
bool read_log(int fd) {
  char chunk[16384];
  auto n = read(fd, chunk, sizeof chunk);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (n <= 0) return false;
  take_log(chunk, static_cast<size_t>(n));
  save_position();
  return true;
}

int open_log() {
  char what[160], path[512];
  snprintf(what, sizeof what, "/logs?follow=1&stdout=1&stderr=1&timestamps=1&since=%ld", position.stamp[0] ? stamp_seconds(position.stamp) : 0);
  path_of(path, sizeof path, what);
  int fd = send_request(config->docker, "GET", path);
  if (fd < 0) return -1;
  int status = read_head(fd);
  if (status == 200) {
    frames = {};
    return fd;
  }
  static bool said = false;
  if (status > 0 && !said) {
    said = true;
    dprintf(outs[1], "croft: the Engine does not give this container's output (%d): its log driver cannot be read\n", status);
  }
  close(fd);
  return -2;
}

// --- state ---

struct State {
  bool known = false, gone = false, running = false, started = false, oom = false;
  int pid = 0, code = 0;
  char error[300] = "", stop_signal[24] = "SIGTERM";
};

State inspect() {
  State s;
  auto answer = ask_container("GET", "/json");
  if (answer.status == 404) s.known = s.gone = true;
  const char* state = answer.status == 200 ? value_of(answer.body, "State") : nullptr;
  if (state) {
    auto starts = [&](const char* key, const char* word) {
      const char* at = value_of(state, key);
      return at && strncmp(at, word, strlen(word)) == 0;
    };
    auto number = [&](const char* key) {
      const char* at = value_of(state, key);
      return at ? atoi(at) : 0;
    };
    s.known = true;
    s.running = starts("Running", "true");
    s.started = !starts("Status", "\"created\"");
    s.oom = starts("OOMKilled", "true");
    s.pid = number("Pid");
    s.code = number("ExitCode");
    copy_text(value_of(state, "Error"), s.error, sizeof s.error);
    if (const char* stop = value_of(state, "StopSignal")) copy_text(stop, s.stop_signal, sizeof s.stop_signal);
  }
  free(answer.body);
  return s;
}

/// Tells the Engine to end it, as often as it takes; true when it heard.
bool signal_container(const char* name) {
  char what[64];
  snprintf(what, sizeof what, "/kill?signal=%s", name);
  auto answer = ask_container("POST", what);
  free(answer.body);
  return answer.status != 0;
}

void nap(int ms) {
  timespec t{ms / 1000, (ms % 1000) * 1000000L};
  nanosleep(&t, nullptr);
}

[[noreturn]] void end(int status_fd, const State& s) {
  ExitStatus status;
  status.told = true;
  status.code = s.gone ? 137 : s.code;
  status.oom = s.oom;
  if (s.gone) dprintf(outs[1], "croft: the container was removed behind the farm's back\n");
  if (write(status_fd, &status, sizeof status) < 0) {}
  _exit(0);
}

/// What people or the agent want done to the container.
void heed(const char* stop_signal) {
  static bool term_sent = false;
  char drop[16];
  while (read(news[0], drop, sizeof drop) > 0) {}
  if (want_term && !term_sent) term_sent = signal_container(stop_signal);
  if (want_kill && signal_container("SIGKILL")) want_kill = 0;
}

/// One connection's worth: output, signals, until the wait is answered or the Engine is gone.
void follow(const char* stop_signal, int& log_fd) {
  char path[512], chunk[1024];
  path_of(path, sizeof path, "/wait");
  int wait_fd = send_request(config->docker, "POST", path);
  log_fd = wait_fd >= 0 ? open_log() : -1;
  while (wait_fd >= 0 && log_fd != -1) {
    pollfd all[3] = {{wait_fd, POLLIN, 0}, {news[0], POLLIN, 0}, {log_fd, POLLIN, 0}};
    if (poll(all, log_fd >= 0 ? 3 : 2, -1) < 0 && errno != EINTR) break;
    heed(stop_signal);
    if (log_fd >= 0 && all[2].revents && !read_log(log_fd)) close(log_fd), log_fd = log_ended;
    if (!all[0].revents) continue;
    auto n = read(wait_fd, chunk, sizeof chunk);  // of HTTP/1.0: the answer is over when the connection is
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) break;
  }
  if (wait_fd >= 0) close(wait_fd);
}

/// Holds the container until it has ended, over as many lives of the Engine as it takes.
[[noreturn]] void hold_container(int status_fd, const char* stop_signal) {
  for (int pause = 50;; pause = pause < 1000 ? pause * 2 : 1000) {
    int log_fd = -1;
    follow(stop_signal, log_fd);
    auto s = inspect();
    if (s.known && !s.running) {
      if (log_fd == log_ended && !s.gone) log_fd = -1;
      if (log_fd == -1 && !s.gone) log_fd = open_log();  // it may have broken with the Engine: what was printed since
      while (log_fd >= 0 && read_log(log_fd)) {}
      end(status_fd, s);
    }
    if (log_fd >= 0) close(log_fd);
    if (s.known) pause = 50;
    heed(stop_signal);
    nap(pause);
  }
}

[[noreturn]] void holder(int status_fd, int report) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "croft-holder");
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  load_position();
  // One that ran already is waited for, however long the Engine is away; a new one is given up in time to be placed elsewhere.
  bool ran = access("started", F_OK) == 0;
  auto s = inspect();
  for (int tries = 0; !s.known && !ran && tries < 10; ++tries) nap(500), s = inspect();
  if (!s.known && !ran) give_up(report, "the Docker Engine does not answer");
  if (s.gone) give_up(report, "the container is gone");
  if (!s.started && !ran) {
    auto answer = ask_container("POST", "/start");
    if (answer.status != 204 && answer.status != 304) {
      char words[400] = "the Docker Engine did not answer";
      if (const char* message = value_of(answer.body, "message")) copy_text(message, words, sizeof words);
      give_up(report, words);
    }
    free(answer.body);
    s = inspect();
  }
  char text[64];
  int n = snprintf(text, sizeof text, "pid=%d\n", s.pid);
  if (write(report, text, static_cast<size_t>(n)) < 0) {}
  close(report);
  hold_container(status_fd, s.stop_signal);
}

}  // namespace

Started start_container(const Config& c, int stdout_fd, int stderr_fd) {
  Started started;
  started.container = true;
  config = &c;
  outs[0] = stdout_fd;
  outs[1] = stderr_fd;
  int status[2], report[2];
  if (pipe2(status, O_CLOEXEC) || pipe2(report, O_CLOEXEC) || pipe2(news, O_CLOEXEC | O_NONBLOCK)) return started.error = "pipe", started;
  clone_args args{};
  int pidfd = -1;
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  auto pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
  if (pid < 0) return started.error = "clone3", started;
  if (pid == 0) {
    close(status[0]);
    close(report[0]);
    holder(status[1], report[1]);
  }
  close(status[1]);
  close(report[1]);
  static char told[512];
  size_t size = 0;
  for (ssize_t n; size < sizeof told - 1 && (n = read(report[0], told + size, sizeof told - 1 - size)) > 0;) size += static_cast<size_t>(n);
  close(report[0]);
  told[size] = '\0';
  started.init = pid;
  started.pidfd = pidfd;
  started.status_pipe = status[0];
  if (sscanf(told, "pid=%d", &started.shown) == 1) return started;
  if (size > 0) told[size - 1] = '\0';
  errno = 0;
  started.error = size > 0 ? told : "the container's holder died";
  return started;
}
