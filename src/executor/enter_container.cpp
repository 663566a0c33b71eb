// A command in a container: the Engine runs it, and its connection carries what it reads and writes (Engine API 1.41, "exec").

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.hpp"
#include "enter.hpp"

namespace {

constexpr int exec_failed = 126, engine_s = 30;

int not_entered(const char* what) { return fprintf(stderr, "croft: %s\n", what), exec_failed; }

/// JSON text that grows; what does not fit is told by `whole`.
struct JsonText {
  static constexpr size_t room = 256 << 10;
  char* text = static_cast<char*>(malloc(room));
  size_t size = 0;
  bool whole = text != nullptr;

  void put(const char* words) {
    size_t n = strlen(words);
    whole = whole && size + n + 1 < room;
    if (!whole) return;
    memcpy(text + size, words, n + 1);
    size += n;
  }
  void put_quoted(const char* words) {
    put("\"");
    for (; *words && whole; ++words) {
      char escaped[8];
      auto c = static_cast<unsigned char>(*words);
      if (c < 0x20 || c == '"' || c == '\\') snprintf(escaped, sizeof escaped, "\\u%04x", c);
      else escaped[0] = *words, escaped[1] = '\0';
      put(escaped);
    }
    put("\"");
  }
};

/// The exec's id into `id`; false with the Engine's words on stderr.
bool make_exec(const Config& c, char** command, const Terminal& t, char* id, size_t size) {
  JsonText body;
  body.put("{\"AttachStdin\":true,\"AttachStdout\":true,\"AttachStderr\":true,");
  if (t.wanted) {
    char type[80];
    snprintf(type, sizeof type, "TERM=%.64s", t.type);
    body.put("\"Tty\":true,\"Env\":[");
    body.put_quoted(type);
    body.put("],");
  }
  body.put("\"Cmd\":[");
  for (char** word = command; *word; ++word) {
    if (word != command) body.put(",");
    body.put_quoted(*word);
  }
  body.put("]}");
  if (!body.whole) return fprintf(stderr, "croft: the command is too long\n"), false;
  char path[512], words[400] = "the Docker Engine does not answer";
  snprintf(path, sizeof path, "/containers/%s/exec", c.container);
  auto answer = ask(c.docker, "POST", path, engine_s, body.text);
  copy_text(answer.status == 201 ? value_of(answer.body, "Id") : nullptr, id, size);
  if (answer.status != 201 && answer.body)
    if (const char* message = value_of(answer.body, "message")) copy_text(message, words, sizeof words);
  free(answer.body);
  free(body.text);
  return id[0] != '\0' || (fprintf(stderr, "croft: %s\n", words), false);
}

struct ExecState {
  bool known = false, running = false;
  int code = exec_failed, pid = 0;
};

ExecState look_at(const char* socket, const char* id) {
  char path[256];
  snprintf(path, sizeof path, "/exec/%s/json", id);
  auto answer = ask(socket, "GET", path, engine_s);
  ExecState s;
  s.known = answer.status == 200;
  if (s.known) {
    const char *running = value_of(answer.body, "Running"), *code = value_of(answer.body, "ExitCode"), *pid = value_of(answer.body, "Pid");
    s.running = running && strncmp(running, "true", 4) == 0;
    if (code && *code != 'n') s.code = atoi(code);
    if (pid) s.pid = atoi(pid);
  }
  free(answer.body);
  return s;
}

void resize(const char* socket, const char* id, const Terminal& t) {
  char path[256];
  snprintf(path, sizeof path, "/exec/%s/resize?h=%hu&w=%hu", id, t.rows, t.columns);
  free(ask(socket, "POST", path, engine_s).body);
}

/// What the Engine sent and the agent has not taken: plain from a terminal, else multiplexed of [stream, 0, 0, 0, size] and bytes, over any number of reads.
struct FromEngine {
  char chunk[16384];
  size_t size = 0, at = 0;
  unsigned char head[8];
  size_t head_n = 0, left = 0;
  int waits_for = -1;  // the descriptor that takes nothing just now

  /// False: nobody reads any more.
  bool pass_on(bool plain) {
    waits_for = -1;
    while (at < size) {
      if (!plain && left == 0) {
        head[head_n++] = static_cast<unsigned char>(chunk[at++]);
        if (head_n == 8) head_n = 0, left = static_cast<size_t>(head[4]) << 24 | static_cast<size_t>(head[5]) << 16 | static_cast<size_t>(head[6]) << 8 | head[7];
        continue;
      }
      int to = !plain && head[0] == 2 ? STDERR_FILENO : STDOUT_FILENO;
      auto n = write(to, chunk + at, plain || size - at < left ? size - at : left);
      if (n < 0 && errno == EAGAIN) return waits_for = to, true;
      if (n < 0 && errno != EINTR) return false;
      if (n > 0) at += static_cast<size_t>(n), left -= plain ? 0 : static_cast<size_t>(n);
    }
    at = size = 0;
    return true;
  }
};

/// What the agent sent and the Engine has not taken.
struct ToEngine {
  char chunk[16384];
  size_t size = 0, at = 0;
  bool open = true;

  void read_from(int fd) {
    auto n = read(fd, chunk, sizeof chunk);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    at = 0;
    size = n > 0 ? static_cast<size_t>(n) : 0;
    open = n > 0;
  }
  void write_to(int fd) {
    auto n = write(fd, chunk + at, size - at);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n < 0) open = false, n = static_cast<ssize_t>(size - at);
    at += static_cast<size_t>(n);
    if (at >= size) at = size = 0;
  }
};

/// Until the command has ended, or we are told to end. Neither way waits for the other.
void carry(const char* socket, const char* id, int connection, Terminal& t, int signals) {
  static FromEngine said;
  static ToEngine input;
  for (int fd : {connection, STDOUT_FILENO, STDERR_FILENO}) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  bool sizes = t.wanted, ended_input = false;
  for (;;) {
    auto of_engine = static_cast<short>((said.size == 0 ? POLLIN : 0) | (input.size > 0 ? POLLOUT : 0));
    pollfd all[5] = {{of_engine ? connection : -1, of_engine, 0}, {signals, POLLIN, 0}, {input.open && input.size == 0 ? STDIN_FILENO : -1, POLLIN, 0}, {sizes ? size_fd : -1, POLLIN, 0}, {said.waits_for, POLLOUT, 0}};
    if (poll(all, 5, -1) < 0 && errno != EINTR) return;
    if (all[1].revents && read_signals(signals).end) return;
    if (said.size == 0 && all[0].revents & (POLLIN | POLLHUP | POLLERR)) {
      auto n = read(connection, said.chunk, sizeof said.chunk);
      if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) return;
      if (n > 0) said.size = static_cast<size_t>(n);
      if (!said.pass_on(t.wanted)) return;
    } else if (all[4].revents && !said.pass_on(t.wanted)) {
      return;
    }
    if (input.size > 0 && all[0].revents & (POLLOUT | POLLHUP | POLLERR)) input.write_to(connection);
    if (all[2].revents) input.read_from(STDIN_FILENO);
    if (!input.open && input.size == 0 && !ended_input) ended_input = true, shutdown(connection, SHUT_WR);
    if (all[3].revents && read_size(t, sizes)) resize(socket, id, t);
  }
}

}  // namespace

int enter_container(const Config& c, char** command, Terminal& t) {
  char id[128] = "", path[256];
  if (!make_exec(c, command, t, id, sizeof id)) return exec_failed;
  int signals = watch_signals();
  snprintf(path, sizeof path, "/exec/%s/start", id);
  int connection = send_request(c.docker, "POST", path, t.wanted ? R"({"Detach":false,"Tty":true})" : R"({"Detach":false,"Tty":false})", true);
  int status = connection < 0 ? -1 : read_head(connection);
  if (status != 101 && status != 200) return not_entered(status < 0 ? "the Docker Engine does not answer" : "the Docker Engine does not start it: the container may have ended, or not have the command");
  timeval forever{};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof forever);
  if (t.wanted) resize(c.docker, id, t);
  carry(c.docker, id, connection, t, signals);
  close(connection);
  auto state = look_at(c.docker, id);
  // The Engine has no way to end it.
  if (state.running && state.pid > 1) {
    static Tree tree;
    tree.collect(state.pid);
    tree.signal(SIGHUP);
    if (!tree.wait(patience_ms)) tree.signal(SIGKILL);
    return 128 + SIGHUP;
  }
  return state.known ? state.code : not_entered("the Docker Engine does not say how it ended");
}
