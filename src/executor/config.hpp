#pragma once
// What the agent writes for the executor: `exec.conf`, lines of key=value ended by NUL bytes (values may hold newlines).
//
//   arg=…           one a word of the command, in order        env=NAME=value      the whole environment
//   dir=…           the sandbox, working folder of the task    user=uid:gid        absent: as the executor
//   cgroup=…        a folder to make, enter and remove         cgset=FILE=VALUE    a file below it to write, before the start
//   oom=FILE        where the kernel counts OOM kills          limit=RESOURCE=SOFT:HARD
//   grace=ms        TERM to KILL when the agent does not say   rotate=bytes:count
//   seccomp=FILE    a BPF program to load
//   docker=SOCKET   container=NAME     a container to start and hold, instead of arg, env, user, cgroup
//   secrets=FOLDER  its `env` holds more variables, its files/own is shown to the task (secrets.hpp)
//   caps=MASK       capabilities to keep, hexadecimal           sandboxes=FOLDER    where all tasks' sandboxes are; only `dir` is seen of it

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

constexpr int words_max = 4096;
constexpr int cgroups_max = 16;

struct Config {
  char* args[words_max + 1];
  char* env[words_max + 1];
  char* cgroups[cgroups_max];
  char* cgsets[64];
  int arg_count = 0, env_count = 0, cgroup_count = 0, cgset_count = 0;
  const char* dir = "/";
  const char* oom = nullptr;
  const char* seccomp = nullptr;
  const char* sandboxes = nullptr;
  const char* secrets = nullptr;
  const char* docker = nullptr;
  const char* container = nullptr;
  bool has_user = false, keep_caps = false;
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t caps = 0;
  long grace_ms = 3000;
  uint64_t rotate_bytes = 10u << 20;
  int rotate_count = 3;
};

/// Reads `exec.conf` in the current folder. False with a line on stderr when it is not whole.
bool read_config(Config& config);
/// Writes a small file at once; false with errno.
bool write_small(const char* path, const char* text, size_t size);
