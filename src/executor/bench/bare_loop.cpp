// croft_bare_loop COUNT: the kernel's part of starting COUNT tasks and nothing else: namespaces, cgroups, a sleeping program in each. Prints the
// seconds; ends all of it. The yardstick for how much a launch of ours adds.

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

static void put(const std::string& file, const std::string& text) {
  FILE* f = fopen(file.c_str(), "w");
  if (!f) return;
  fputs(text.c_str(), f);
  fclose(f);
}

int main(int argc, char** argv) {
  int count = argc > 1 ? atoi(argv[1]) : 100;
  std::vector<std::string> tops;
  struct stat st;
  bool v2 = stat("/sys/fs/cgroup/cgroup.controllers", &st) == 0;
  if (v2) tops = {"/sys/fs/cgroup/croft-bare"};
  else
    for (const char* name : {"cpu", "cpuacct", "memory", "pids"}) tops.push_back(std::string("/sys/fs/cgroup/") + name + "/croft-bare");
  for (const auto& top : tops) mkdir(top.c_str(), 0755);
  std::vector<pid_t> pids;
  std::vector<std::string> folders;
  double begun = now();
  for (int i = 0; i < count; ++i) {
    std::vector<std::string> mine;
    for (const auto& top : tops) {
      mine.push_back(top + "/" + std::to_string(i));
      mkdir(mine.back().c_str(), 0755);
    }
    put(mine[v2 ? 0 : 2] + (v2 ? "/memory.max" : "/memory.limit_in_bytes"), "33554432");
    int go[2], ran[2];
    if (pipe2(go, O_CLOEXEC) || pipe2(ran, O_CLOEXEC)) return 1;
    clone_args args{};
    args.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
    args.exit_signal = SIGCHLD;
    auto pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
    if (pid < 0) return perror("clone3"), 1;
    if (pid == 0) {
      char byte;
      if (read(go[0], &byte, 1) < 0) {}
      mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr);
      mount("proc", "/proc", "proc", 0, nullptr);
      execl("/bin/sleep", "sleep", "100000", static_cast<char*>(nullptr));
      _exit(1);
    }
    for (const auto& folder : mine) put(folder + "/cgroup.procs", std::to_string(pid));
    if (write(go[1], "g", 1) < 0) {}
    close(go[0]);
    close(go[1]);
    close(ran[1]);
    char byte;
    if (read(ran[0], &byte, 1) < 0) {}  // closed by the exec
    close(ran[0]);
    pids.push_back(pid);
    folders.insert(folders.end(), mine.begin(), mine.end());
  }
  printf("%.4f\n", now() - begun);
  for (auto pid : pids) kill(pid, SIGKILL), waitpid(pid, nullptr, 0);
  for (int round = 0; round < 100; ++round) {
    bool left = false;
    for (const auto& folder : folders) left = (rmdir(folder.c_str()) != 0 && access(folder.c_str(), F_OK) == 0) || left;
    if (!left) break;
    usleep(10000);
  }
  for (const auto& top : tops) rmdir(top.c_str());
}
