#include "engine.hpp"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

namespace {

void limit(int fd, int seconds) {
  timeval t{seconds, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}

bool send_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    auto n = send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

int send_request(const char* socket_path, const char* method, const char* path, const char* body, bool upgrade) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (strlen(socket_path) >= sizeof address.sun_path) return close(fd), errno = ENAMETOOLONG, -1;
  strcpy(address.sun_path, socket_path);
  limit(fd, 5);
  char head[1024];
  size_t size = strlen(body);
  int n = snprintf(head, sizeof head, "%s %s HTTP/1.%d\r\nHost: docker\r\n%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", method, path, upgrade,
                   upgrade ? "Connection: Upgrade\r\nUpgrade: tcp\r\n" : "", size);
  if (n < static_cast<int>(sizeof head) && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && send(fd, head, static_cast<size_t>(n), MSG_NOSIGNAL) == n &&
      send_all(fd, body, size))
    return fd;
  int saved = errno;
  close(fd);
  errno = saved;
  return -1;
}

int read_head(int fd) {
  char line[512];
  int status = -1;
  for (int lines = 0; lines < 100; ++lines) {
    size_t n = 0;
    for (char c;;) {
      auto got = read(fd, &c, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got != 1) return -1;
      if (c == '\n') break;
      if (n + 1 < sizeof line) line[n++] = c;
    }
    line[n] = '\0';
    if (n > 0 && line[n - 1] == '\r') line[--n] = '\0';
    if (lines == 0) {
      const char* space = strchr(line, ' ');
      status = strncmp(line, "HTTP/", 5) == 0 && space ? atoi(space + 1) : -1;
    } else if (n == 0) {
      return status;
    }
  }
  return -1;
}

Answer ask(const char* socket_path, const char* method, const char* path, int seconds, const char* body) {
  Answer answer;
  int fd = send_request(socket_path, method, path, body);
  if (fd < 0) return answer;
  limit(fd, seconds);
  int status = read_head(fd);
  size_t size = 0, room = 0;
  while (status > 0 && size < answer_max) {
    if (size + 1 >= room) {
      room = room ? room * 2 : 4096;
      auto* more = static_cast<char*>(realloc(answer.body, room));
      if (!more) break;
      answer.body = more;
    }
    auto n = read(fd, answer.body + size, room - size - 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    size += static_cast<size_t>(n);
  }
  close(fd);
  if (answer.body) answer.body[size] = '\0';
  answer.status = status > 0 && answer.body ? status : 0;
  return answer;
}

const char* value_of(const char* from, const char* key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char* at = from ? strstr(from, quoted) : nullptr;
  return at ? at + strlen(quoted) : nullptr;
}

void copy_text(const char* at, char* out, size_t size) {
  size_t n = 0;
  if (at && *at == '"')
    for (++at; *at && *at != '"' && n + 1 < size; ++at) {
      if (*at == '\\' && at[1]) ++at, out[n++] = *at == 'n' ? ' ' : *at;
      else out[n++] = *at;
    }
  out[n] = '\0';
}
