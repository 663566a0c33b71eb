// croft-executor --enter PID -- COMMAND…: runs a command inside a running task's namespaces (command health checks).

#include "enter.hpp"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int enter(int argc, char** argv) {
  if (argc < 2 || strcmp(argv[1], "--") != 0) return fprintf(stderr, "usage: croft-executor --enter PID -- COMMAND...\n"), 2;
  int fds[4];
  const char* kinds[] = {"pid", "mnt", "ipc", "uts"};
  for (int i = 0; i < 4; ++i) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/%s", argv[0], kinds[i]);
    fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    if (fds[i] < 0) return perror(path), 126;
  }
  for (int i = 0; i < 4; ++i)
    if (setns(fds[i], 0) != 0) return perror("setns"), 126;
  const char* dir = getenv("MESOS_SANDBOX");
  if (dir && chdir(dir) != 0) return perror(dir), 126;
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, 9);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
