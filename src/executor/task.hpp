#pragma once
#include <linux/filter.h>
#include <sys/types.h>

#include "config.hpp"

/// How the task ended, as its init tells over a pipe.
struct ExitStatus {
  int code = -1, signal = 0;
  bool told = false;
  bool oom = false;     ///< the Engine says so of a container
};

struct Started {
  pid_t init = -1;      ///< pid 1 of the task's pid namespace
  int pidfd = -1;
  int status_pipe = -1; ///< gives an ExitStatus when the task's main process ended
  pid_t shown = 0;      ///< what people know it by: init, or the container's own first process
  bool container = false;
  const char* error = nullptr;  ///< what failed, with errno
};

/// Makes the cgroups, starts init and the task below it. The task runs only when it stands in every cgroup.
Started start_task(const Config& config, int stdout_fd, int stderr_fd);
/// Puts a process into the task's cgroups. False with errno.
bool enter_cgroups(const Config& config, pid_t pid);
/// Read while we are still root: the task's user need not reach the run folder. False with errno.
bool read_seccomp(const Config& config, sock_fprog& filter);
/// Gives up what the task may not have, and becomes the command. Returns only where that fails: what failed, or null when the command cannot be run; with errno.
/// `dies_along`: with its parent.
const char* become(const Config& config, char* const* command, const sock_fprog& filter, bool dies_along);
/// TERM, for the whole task; or KILL.
void signal_task(const Started& task, int signal);
void remove_cgroups(const Config& config);
/// OOM kills counted by the kernel for the task's memory cgroup.
long oom_kills(const Config& config);
/// What the kernel tells of them on.
struct OomEvent {
  int fd = -1;          ///< -1: nothing
  uint32_t events = 0;  ///< of epoll
  int looks = 0;        ///< how often to ask for the count afterwards: version 1 tells before it kills
};
OomEvent watch_oom(const Config& config);
