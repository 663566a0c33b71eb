#pragma once
// Just enough HTTP for a Docker Engine's unix socket: requests of HTTP/1.0, so that answers are not chunked and end with the connection.

#include <stddef.h>

struct Answer {
  int status = 0;         ///< 0: no Engine there
  char* body = nullptr;   ///< NUL-terminated, at most answer_max bytes; to be freed
};
constexpr size_t answer_max = 512 << 10;

/// Sends a request; the connection, or -1. Blocks at most 5 s. `upgrade`: after the answer's head the connection is to carry bytes both ways, as HTTP/1.1 names it.
int send_request(const char* socket, const char* method, const char* path, const char* body = "", bool upgrade = false);
/// Reads the status line and the headers, one byte at a time, so that what follows stays in the socket. The status, or -1.
int read_head(int fd);
/// The whole exchange, at most `seconds`.
Answer ask(const char* socket, const char* method, const char* path, int seconds, const char* body = "");
/// What stands behind `"key":` after `from`, or null. Good enough for the Engine's own keys: inside JSON strings the quotes are escaped.
const char* value_of(const char* from, const char* key);
/// Copies the JSON string at `at` (its opening quote) without its quotes and with plain escapes resolved; cut to `size`.
void copy_text(const char* at, char* out, size_t size);
