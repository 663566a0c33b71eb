#include "agent/native_runtime.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <mutex>

#include "agent/child.hpp"
#include "agent/run_folder.hpp"
#include "agent/secret_files.hpp"
#include "agent/usage.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "net/async.hpp"

namespace croft::agent {

std::vector<std::string> way_in(const fs::path& executor, const fs::path& run, std::vector<std::string> command, const std::string& terminal) {
  std::vector<std::string> words{executor.string(), "--enter", run.string()};
  if (!terminal.empty()) words.insert(words.end(), {"--tty", terminal});
  words.emplace_back("--");
  std::move(command.begin(), command.end(), std::back_inserter(words));
  return words;
}

Status write_exec_conf(const fs::path& run, const ExecPlan& plan) {
  std::string text;
  bool torn = false;
  auto line = [&](std::string_view key, std::string_view value) {
    torn = torn || value.find('\0') != std::string_view::npos;  // what stands behind it would be a line of its own
    text += key;
    text += '=';
    text += value;
    text.push_back('\0');
  };
  for (const auto& a : plan.args) line("arg", a);
  for (const auto& [k, v] : plan.env) line("env", k + "=" + v);
  line("dir", plan.dir);
  if (!plan.container.empty()) {
    line("docker", plan.docker_socket);
    line("container", plan.container);
  }
  if (plan.has_user) line("user", fmt::format("{}:{}", plan.uid, plan.gid));
  line("caps", fmt::format("{:x}", plan.caps));
  for (const auto& folder : plan.cgroups) line("cgroup", folder);
  for (const auto& [file, value] : plan.cgroup_settings) line("cgset", file + "=" + value);
  if (!plan.oom_file.empty()) line("oom", plan.oom_file);
  if (!plan.seccomp_file.empty()) line("seccomp", plan.seccomp_file);
  if (!plan.sandboxes.empty()) line("sandboxes", plan.sandboxes);
  if (!plan.secrets.empty()) line("secrets", plan.secrets);
  line("grace", std::to_string(plan.grace.count()));
  if (torn) return fail(Errc::invalid, "a word of the task has a NUL character in it");
  // Not synced: a launch that a power cut undoes is made again from the wanted set.
  Fd fd(::open((run / "exec.conf").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno("create " + (run / "exec.conf").string());
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return fail_errno("write " + (run / "exec.conf").string());
  return {};
}

namespace {

/// What a task in a farm has no business with: mounting, modules, the clock, other processes' memory, the keyring, rebooting.
constexpr int denied[] = {
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(reboot), SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load), SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
    SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(setns), SCMP_SYS(unshare),
    SCMP_SYS(userfaultfd), SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at), SCMP_SYS(syslog), SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
    SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(mount_setattr), SCMP_SYS(io_uring_setup),
    SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp), SCMP_SYS(process_madvise)};

/// Empty: it could not be made.
std::string seccomp_program() {
  auto* filter = seccomp_init(SCMP_ACT_ALLOW);
  if (!filter) return {};
  bool good = true;
  for (int call : denied) good = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0) == 0 && good;
  // A user namespace would give its maker capabilities in it. clone3's flags lie in memory, where a filter cannot look: libraries fall back to clone.
  good = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER)) == 0 && good;
  good = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0 && good;
  std::string bytes;
  Fd fd(::memfd_create("seccomp", MFD_CLOEXEC));
  if (good && fd.valid() && seccomp_export_bpf(filter, fd.get()) == 0) {
    bytes.resize(static_cast<std::size_t>(::lseek(fd.get(), 0, SEEK_END)));
    if (::pread(fd.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) bytes.clear();
  }
  seccomp_release(filter);
  return bytes;
}

}  // namespace

Result<Owner> user_named(const std::string& name) {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> space(16384);
  ::getpwnam_r(name.c_str(), &entry, space.data(), space.size(), &found);
  if (!found) return fail(Errc::invalid, "user: '{}' does not exist on this host", name);
  return Owner{found->pw_uid, found->pw_gid};
}

namespace {

class NativeRuntime final : public Runtime {
 public:
  NativeRuntime(NativeOptions options, net::BlockingPool& pool) : options_(std::move(options)), pool_(pool), host_(CgroupHost::find()), root_(::geteuid() == 0) {
    if (!root_) return;
    if (auto ok = prepare_cgroups(host_, options_.cgroup_parent); !ok) log::warn("agent", "tasks run without limits: {}", ok.error().context), limits_ = false;
    seccomp_ = seccomp_program();
    if (seccomp_.empty()) log::error("agent", "the filter of system calls cannot be made: no native task is started here");
  }

  Result<std::optional<Owner>> owner(const TaskSpec& spec) const override {
    if (auto problem = check_user(spec.user, policy_at(options_.policy, spec.app.str(), true))) return fail(Errc::forbidden, "{}", problem->words);
    if (!root_) return std::nullopt;
    auto user = user_named(spec.user.empty() ? options_.default_user : spec.user);
    if (!user) return fail(std::move(user).error());
    return *user;
  }

  std::string secrets_at(const fs::path& run) const override { return (sandboxes_of(run) / ".secrets").string(); }

  asio::awaitable<Result<ExecPlan>> prepare(Launch launch, Progress) override {
    ExecPlan plan;
    const auto& spec = launch.spec;
    if (spec.docker) co_return fail(Errc::invalid, "this node runs no images: it has no Docker Engine");
    if (root_ && seccomp_.empty()) co_return fail(Errc::unavailable, "this node cannot make its filter of system calls, and starts no task without");
    if (!spec.volumes.empty()) co_return fail(Errc::invalid, "container.volumes need an image; a task without one sees the host's own files");
    if (spec.cmd) plan.args = {"/bin/sh", "-c", *spec.cmd};
    else if (spec.args && !spec.args->empty()) plan.args = *spec.args;
    else co_return fail(Errc::invalid, "neither cmd nor args is given, and there is no image");
    if (auto problems = check_probes(spec.health_checks, own_ports(spec), policy_at(options_.policy, spec.app.str(), true)); !problems.empty()) co_return fail(Errc::forbidden, "{}", problems[0].words);
    plan.env = spec.env;
    plan.dir = launch.sandbox.string();
    plan.grace = spec.kill_grace.value_or(Millis(3000));
    plan.secrets = launch.secrets.string();
    auto user = owner(spec);
    if (!user) co_return fail(std::move(user).error());
    if (*user) {
      plan.has_user = true;
      plan.uid = (*user)->uid;
      plan.gid = (*user)->gid;
      plan.sandboxes = sandboxes_of(launch.run).string();
      if (!seccomp_.empty()) {
        plan.seccomp_file = (launch.run.parent_path().parent_path() / "seccomp").string();
        if (auto ok = write_seccomp(plan.seccomp_file); !ok) co_return fail(std::move(ok).error());
      }
      if (limits_) {
        if (auto ok = keep_parents(); !ok) co_return fail(std::move(ok).error());
        auto groups = plan_cgroups(host_, options_.cgroup_parent, spec.id.str(), spec);
        plan.cgroups = std::move(groups.folders);
        plan.cgroup_settings = std::move(groups.settings);
        plan.oom_file = std::move(groups.oom_file);
      }
    }
    co_return plan;
  }

  asio::awaitable<Result<int>> run_inside(Launch launch, std::string command, Millis limit) override {
    std::vector<std::string> shell;
    shell.emplace_back("/bin/sh"), shell.emplace_back("-c"), shell.push_back(std::move(command));
    auto job = run_child(inside(launch, std::move(shell), std::string()), limit);
    co_return co_await std::move(job);
  }

  std::vector<std::string> inside(const Launch& launch, std::vector<std::string> command, const std::string& terminal) const override {
    return way_in(options_.executor, launch.run, std::move(command), terminal);
  }

  Usage usage(const Launch& launch) override {
    auto groups = plan_cgroups(host_, options_.cgroup_parent, launch.spec.id.str(), launch.spec);
    auto pids = groups.memory_folder;
    for (const auto& folder : groups.folders)
      if (folder.find("/pids/") != std::string::npos) pids = folder;
    auto u = usage_of(host_, groups.cpu_folder, groups.memory_folder, pids);
    u.memory_limit = static_cast<std::uint64_t>(launch.spec.resources.mem) * 1024 * 1024 / 1000;
    return u;
  }

  asio::awaitable<std::optional<std::string>> address(Launch) override { co_return std::nullopt; }
  /// What an executor that was killed could not take away itself.
  asio::awaitable<void> cleanup(Launch launch) override {
    if (!limits_) co_return;
    auto folders = plan_cgroups(host_, options_.cgroup_parent, launch.spec.id.str(), launch.spec).folders;
    for (int tries = 0; tries < 50; ++tries) {
      auto busy = std::make_shared<bool>(false);
      std::function<void()> remove = [folders, busy] {
        for (const auto& folder : folders) *busy = (::rmdir(folder.c_str()) != 0 && errno == EBUSY) || *busy;
      };
      co_await pool_.run(remove);
      if (!*busy) co_return;
      co_await net::sleep_for(std::chrono::milliseconds(20));
    }
  }

 private:
  static fs::path sandboxes_of(const fs::path& run) { return run.parent_path().parent_path() / "slaves"; }
  /// Another farm on this host may have taken the folder away that it shared with us, as it ended.
  Status keep_parents() const {
    auto top = host_.v2 ? host_.unified : host_.v1.empty() ? "" : host_.v1.front().second;
    if (top.empty() || ::access((top + "/" + options_.cgroup_parent).c_str(), F_OK) == 0) return {};
    return prepare_cgroups(host_, options_.cgroup_parent);
  }
  /// One file for all tasks, written anew by each life of the agent, which may deny other calls than the one before.
  Status write_seccomp(const std::string& file) {
    std::lock_guard lock(seccomp_mutex_);
    if (seccomp_written_ && ::access(file.c_str(), R_OK) == 0) return {};
    auto ok = write_file_atomic(file, seccomp_);
    seccomp_written_ = ok.has_value();
    return ok;
  }

  NativeOptions options_;
  net::BlockingPool& pool_;
  CgroupHost host_;
  bool root_, limits_ = true;
  std::string seccomp_;
  std::mutex seccomp_mutex_;
  bool seccomp_written_ = false;  // seccomp_mutex_
};

}  // namespace

std::unique_ptr<Runtime> make_native_runtime(NativeOptions options, net::BlockingPool& pool) { return std::make_unique<NativeRuntime>(std::move(options), pool); }

}  // namespace croft::agent
