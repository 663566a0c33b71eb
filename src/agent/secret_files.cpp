#include "agent/secret_files.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <map>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::agent {

namespace {

constexpr std::string_view own_folder = "files/own";
constexpr std::size_t env_max = 4u << 20;

/// Written aside and renamed: whoever reads sees one value or the other. ramfs has nothing to sync.
Status write_secret(const fs::path& file, std::string_view bytes, unsigned mode) {
  auto aside = file.parent_path() / ("." + file.filename().string() + ".new");
  ::unlink(aside.c_str());
  Fd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail_errno("create " + aside.string());
  for (std::size_t done = 0; done < bytes.size();) {
    auto n = ::write(fd.get(), bytes.data() + done, bytes.size() - done);
    if (n <= 0) return fail_errno("write " + aside.string());
    done += static_cast<std::size_t>(n);
  }
  if (::fchmod(fd.get(), mode) != 0 || ::rename(aside.c_str(), file.c_str()) != 0) return fail_errno("write " + file.string());
  return {};
}

/// A link in the sandbox, whose folders may be what an archive brought: no link is followed on the way.
Status link_in(const fs::path& sandbox, const std::string& path, const std::string& target) {
  Fd at(::open(sandbox.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  struct stat owner{};
  if (!at.valid() || ::fstat(at.get(), &owner) != 0) return fail_errno(sandbox.string());
  auto steps = split(path, '/');
  for (std::size_t i = 0; i + 1 < steps.size() && at.valid(); ++i) {
    auto step = std::string(steps[i]);
    if (::mkdirat(at.get(), step.c_str(), 0755) == 0 && ::fchownat(at.get(), step.c_str(), owner.st_uid, owner.st_gid, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("secret file " + path);
    at = Fd(::openat(at.get(), step.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  }
  auto name = std::string(steps.back());
  if (at.valid() && ::symlinkat(target.c_str(), at.get(), name.c_str()) == 0) return {};
  auto why = errno;
  char there[4096];
  auto n = at.valid() && why == EEXIST ? ::readlinkat(at.get(), name.c_str(), there, sizeof there) : -1;
  if (n >= 0 && std::string_view(there, static_cast<std::size_t>(n)) == target) return {};  // an earlier attempt at this very task
  errno = why;
  return fail_errno("secret file " + path);
}

}  // namespace

SecretPlan plan_secrets(const TaskSpec& spec, const std::string& own) {
  SecretPlan plan;
  std::map<std::string, std::string> folders;  // as the task sees them
  for (std::size_t i = 0; i < spec.secrets.size(); ++i) {
    const auto& use = spec.secrets[i];
    auto& file = plan.files.emplace_back();
    if (use.file.empty()) {
      plan.env = spec.docker ? fmt::format("{}/.env", own_folder) : "env";
    } else if (!use.file.starts_with('/')) {
      file = fmt::format("{}/{}", own_folder, i);
      plan.links.push_back({use.file, fmt::format("{}/{}", own, i)});
    } else {
      auto slash = use.file.rfind('/');
      auto [at, fresh] = folders.try_emplace(use.file.substr(0, slash), fmt::format("files/{}", folders.size()));
      if (fresh) plan.mounts.push_back({at->second, at->first});
      file = at->second + use.file.substr(slash);
    }
  }
  if (!plan.links.empty() || (spec.docker && !plan.env.empty())) plan.mounts.push_back({std::string(own_folder), own});
  return plan;
}

fs::path SecretFiles::folder_of(const fs::path& work_dir) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (unsigned char c : fs::absolute(work_dir).lexically_normal().string()) hash = (hash ^ c) * 0x100000001b3;
  return fs::path("/run/croft/secrets") / fmt::format("{:016x}", hash);
}

Status SecretFiles::make() {
  if (::geteuid() != 0) return fail(Errc::forbidden, "secrets need a node that runs as root");
  if (auto ok = make_dirs(folder_, 0700); !ok) return ok;
  struct statfs there{};
  if (::statfs(folder_.c_str(), &there) == 0 && there.f_type == RAMFS_MAGIC) return {};
  if (::mount("ramfs", folder_.c_str(), "ramfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) return fail_errno("mount " + folder_.string());
  return {};
}

Status SecretFiles::put(const Launch& launch, const SecretPlan& plan, const std::vector<SecretValue>& values) {
  const auto& spec = launch.spec;
  std::lock_guard guard(mutex_);
  if (auto ok = make(); !ok) return ok;
  auto folder = of(spec.id);
  if (auto ok = make_dirs(folder / "files"); !ok) return ok;
  for (const auto& mount : plan.mounts)
    if (auto ok = make_dirs(folder / mount.folder); !ok) return ok;
  std::string env;
  for (std::size_t i = 0; i < spec.secrets.size(); ++i) {
    const auto& use = spec.secrets[i];
    if (!use.file.empty()) {
      // Whose processes a container has only its image knows: what keeps others away is the folder above.
      if (auto ok = write_secret(folder / plan.files[i], values[i].value, 0444); !ok) return ok;
      continue;
    }
    if (values[i].value.find('\0') != std::string::npos) return fail(Errc::invalid, "secret {}: has a NUL character, so that it can be a file and no variable", use.secret);
    env += use.env + "=" + values[i].value;
    env.push_back('\0');
  }
  Status ok;
  if (!plan.env.empty()) ok = write_secret(folder / plan.env, env, spec.docker ? 0444 : 0400);
  ::explicit_bzero(env.data(), env.size());
  for (const auto& link : plan.links)
    if (ok) ok = link_in(launch.sandbox, link.path, link.target);
  return ok;
}

Status SecretFiles::renew(const TaskSpec& spec, const SecretPlan& plan, const std::string& secret, const SecretValue& value, bool running) {
  std::lock_guard guard(mutex_);
  for (std::size_t i = 0; i < spec.secrets.size(); ++i) {
    if (spec.secrets[i].secret != secret || spec.secrets[i].file.empty()) continue;
    auto file = of(spec.id) / plan.files[i];
    if (::access(file.c_str(), F_OK) != 0) {
      if (running) return fail(Errc::not_found, "{}: is not there: the task keeps its old value until it is restarted. Was it unmounted, or does croft run among other mounts than before?", file.string());
      continue;
    }
    if (auto ok = write_secret(file, value.value, 0444); !ok) return ok;
  }
  return {};
}

void SecretFiles::remove(const TaskId& task) {
  std::error_code ec;
  fs::remove_all(of(task), ec);
}

void SecretFiles::keep_only(const std::set<TaskId>& known) {
  std::error_code ec;
  std::vector<TaskId> gone;
  for (const auto& entry : fs::directory_iterator(folder_, ec))
    if (TaskId task(entry.path().filename().string()); !known.contains(task)) gone.push_back(task);
  for (const auto& task : gone) remove(task);
}

void SecretFiles::remove_all() {
  keep_only({});
  while (::umount2(folder_.c_str(), MNT_DETACH) == 0) {}
  for (auto folder = folder_; folder != "/run" && ::rmdir(folder.c_str()) == 0;) folder = folder.parent_path();
}

}  // namespace croft::agent
