#include "agent/end_all.hpp"

#include <boost/asio/io_context.hpp>

#include <unistd.h>

#include <set>

#include "agent/cgroups.hpp"
#include "agent/docker_engine.hpp"
#include "agent/run_folder.hpp"
#include "agent/secret_files.hpp"
#include "base/files.hpp"
#include "base/text.hpp"
#include "net/async.hpp"

namespace croft::agent {

/// What the tasks of this folder stand in: Engines that hold containers, and the folders above their cgroups.
struct Held {
  std::set<std::string> engines, cgroups;
};

static Held held_by(const fs::path& work_dir) {
  Held held;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(work_dir / "runs", ec)) {
    auto text = read_file(entry.path() / "exec.conf", 4 << 20);
    if (!text) continue;
    for (const auto& line : split(*text, '\0'))
      if (line.starts_with("docker=")) held.engines.emplace(line.substr(7));
      else if (line.starts_with("cgroup=")) held.cgroups.insert(fs::path(line.substr(7)).parent_path().string());
  }
  return held;
}

static asio::awaitable<void> remove_containers(DockerEngine& engine, std::string label) {
  auto found = co_await engine.list(std::move(label));
  if (!found) co_return;
  for (const auto& c : *found) (void)co_await engine.remove(c.name);
}

/// A folder above tasks' cgroups, of a farm of roles, with the executors' own beside them and the slice above; only what is empty: another farm's tasks stay.
static void remove_cgroup_above(const fs::path& folder) {
  ::rmdir((folder / "executors").c_str());
  for (const auto& above : {folder, folder.parent_path()})
    if (above == folder || above.extension() == ".slice") ::rmdir(above.c_str());
}

void end_all(const fs::path& work_dir, const std::string& cgroup_parent) {
  std::error_code ec;
  auto held = held_by(work_dir);
  for (int round = 0; round < 100; ++round) {
    bool any = false;
    for (const auto& entry : fs::directory_iterator(work_dir / "runs", ec)) {
      if (fs::exists(entry.path() / "exit", ec) && !fs::exists(entry.path() / "ctl", ec)) continue;
      any = tell_kill(entry.path()) || any;
    }
    if (!any) break;
    ::usleep(30'000);
  }
  for (const auto& socket : held.engines) {
    asio::io_context io;
    DockerEngine engine(io.get_executor(), socket);
    net::spawn(io.get_executor(), "remove containers", remove_containers(engine, "croft.node=" + fs::absolute(work_dir).string()));
    io.run_for(std::chrono::seconds(30));
  }
  SecretFiles(SecretFiles::folder_of(work_dir)).remove_all();
  // Executors that have been told go on for a moment, longer on a busy machine.
  for (int round = 0; round < 300; ++round, ::usleep(10'000)) {
    remove_cgroup_parents(CgroupHost::find(), cgroup_parent);
    bool left = false;
    for (const auto& folder : held.cgroups) remove_cgroup_above(folder), left = left || fs::exists(folder, ec);
    if (!left && round >= 20) break;
  }
}

}  // namespace croft::agent
