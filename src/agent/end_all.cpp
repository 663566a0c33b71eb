#include "agent/end_all.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/cgroups.hpp"
#include "agent/run_folder.hpp"
#include "base/files.hpp"

namespace croft::agent {

static bool tell_kill(const fs::path& run) {
  Fd folder(::open(run.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  auto path = fmt::format("/proc/self/fd/{}/ctl", folder.get());
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return false;
  return ::send(fd.get(), "kill\n", 5, MSG_NOSIGNAL) == 5;
}

void end_all(const fs::path& work_dir, const std::string& cgroup_parent) {
  std::error_code ec;
  for (int round = 0; round < 100; ++round) {
    bool any = false;
    for (const auto& entry : fs::directory_iterator(work_dir / "runs", ec)) {
      if (fs::exists(entry.path() / "exit", ec) && !fs::exists(entry.path() / "ctl", ec)) continue;
      any = tell_kill(entry.path()) || any;
    }
    if (!any) break;
    ::usleep(30'000);
  }
  for (int round = 0; round < 20; ++round, ::usleep(10'000)) remove_cgroup_parents(CgroupHost::find(), cgroup_parent);
}

}  // namespace croft::agent
