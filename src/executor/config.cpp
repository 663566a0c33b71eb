#include "config.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

bool take(Config& c, char* line) {
  char* value = strchr(line, '=');
  if (!value) return false;
  *value++ = '\0';
  auto is = [&](const char* key) { return strcmp(line, key) == 0; };
  if (is("arg")) {
    if (c.arg_count >= words_max) return false;
    c.args[c.arg_count++] = value;
  } else if (is("env")) {
    if (c.env_count >= words_max) return false;
    c.env[c.env_count++] = value;
  } else if (is("cgroup")) {
    if (c.cgroup_count >= cgroups_max) return false;
    c.cgroups[c.cgroup_count++] = value;
  } else if (is("cgset")) {
    if (c.cgset_count >= 64) return false;
    c.cgsets[c.cgset_count++] = value;
  } else if (is("dir")) {
    c.dir = value;
  } else if (is("oom")) {
    c.oom = value;
  } else if (is("seccomp")) {
    c.seccomp = value;
  } else if (is("sandboxes")) {
    c.sandboxes = value;
  } else if (is("secrets")) {
    c.secrets = value;
  } else if (is("docker")) {
    c.docker = value;
  } else if (is("container")) {
    c.container = value;
  } else if (is("user")) {
    c.has_user = true;
    c.uid = static_cast<uid_t>(strtoul(value, &value, 10));
    if (*value++ != ':') return false;
    c.gid = static_cast<gid_t>(strtoul(value, nullptr, 10));
  } else if (is("grace")) {
    c.grace_ms = atol(value);
  } else if (is("rotate")) {
    c.rotate_bytes = strtoull(value, &value, 10);
    if (*value++ != ':') return false;
    c.rotate_count = atoi(value);
  } else if (is("caps")) {
    c.keep_caps = true;
    c.caps = strtoull(value, nullptr, 16);
  } else {
    return false;  // written by a newer agent: better not started than started otherwise
  }
  return true;
}

}  // namespace

bool read_config(Config& config) {
  int fd = open("exec.conf", O_RDONLY | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) {
    perror("croft-executor: exec.conf");
    return false;
  }
  auto size = static_cast<size_t>(st.st_size);
  char* text = static_cast<char*>(malloc(size + 1));
  if (!text || read(fd, text, size) != static_cast<ssize_t>(size)) {
    perror("croft-executor: exec.conf");
    return false;
  }
  close(fd);
  text[size] = '\0';
  for (char* line = text; line < text + size;) {
    char* next = line + strlen(line) + 1;  // before take() puts a NUL behind the key
    if (!take(config, line)) {
      fprintf(stderr, "croft-executor: exec.conf: '%s' is not understood\n", line);
      return false;
    }
    line = next;
  }
  config.args[config.arg_count] = nullptr;
  config.env[config.env_count] = nullptr;
  bool good = config.docker ? config.container != nullptr : config.arg_count > 0;
  if (!good) fprintf(stderr, "croft-executor: exec.conf: no %s\n", config.docker ? "container" : "arg");
  return good;
}

bool write_small(const char* path, const char* text, size_t size) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  bool good = write(fd, text, size) == static_cast<ssize_t>(size);
  int saved = errno;
  close(fd);
  errno = saved;
  return good;
}
