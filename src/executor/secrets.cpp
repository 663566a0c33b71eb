#include "secrets.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

char* text = nullptr;
size_t text_size = 0;

/// The whole file into `text`. False with errno; ENOENT too.
bool read_all(const char* path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) return false;
  text_size = static_cast<size_t>(st.st_size);
  text = static_cast<char*>(malloc(text_size + 1));
  bool good = text && read(fd, text, text_size) == static_cast<ssize_t>(text_size);
  close(fd);
  if (!good) return errno = errno ? errno : EIO, false;
  text[text_size] = '\0';
  return true;
}

/// A name that is there already gets the new value: getenv() takes the first of two.
bool put_env(Config& c, char* line) {
  const char* equals = strchr(line, '=');
  if (!equals) return errno = EINVAL, false;
  auto name = static_cast<size_t>(equals - line) + 1;
  for (int i = 0; i < c.env_count; ++i)
    if (strncmp(c.env[i], line, name) == 0) return c.env[i] = line, true;
  if (c.env_count >= words_max) return errno = E2BIG, false;
  c.env[c.env_count++] = line;
  c.env[c.env_count] = nullptr;
  return true;
}

}  // namespace

bool read_secrets(Config& config) {
  char path[4096];
  snprintf(path, sizeof path, "%s/env", config.secrets);
  errno = 0;
  if (!read_all(path)) return errno == ENOENT;
  for (char* line = text; line < text + text_size; line += strlen(line) + 1)
    if (!put_env(config, line)) return false;
  return true;
}

void forget_secrets() {
  if (text) explicit_bzero(text, text_size);
}

bool show_secrets(const Config& config) {
  if (!config.sandboxes) return true;
  char from[4096], to[4096];
  snprintf(from, sizeof from, "%s/files/own", config.secrets);
  snprintf(to, sizeof to, "%s/.secrets", config.sandboxes);
  if (access(from, F_OK) != 0) return errno == ENOENT;
  return mkdir(to, 0755) == 0 && mount(from, to, nullptr, MS_BIND, nullptr) == 0 &&
         mount(nullptr, to, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0;
}

int run_with_secrets(const char* file, char** command) {
  errno = 0;
  if (!read_all(file)) return fprintf(stderr, "croft: the task's secrets: %s\n", strerror(errno)), 126;
  const rlimit no_core{1, 1};  // with 0 a pipe in core_pattern still gets one
  setrlimit(RLIMIT_CORE, &no_core);
  for (char* line = text; line < text + text_size; line += strlen(line) + 1) putenv(line);
  execvp(command[0], command);
  fprintf(stderr, "croft: cannot run '%.200s': %s\n", command[0], strerror(errno));
  return errno == ENOENT ? 127 : 126;
}
