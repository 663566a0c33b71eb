#include "secure/cluster_files.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "secure/bytes.hpp"
#include "secure/join_token.hpp"
#include "secure/password.hpp"

namespace croft::secure {

namespace {

constexpr unsigned secret_mode = 0600, public_mode = 0644, folder_mode = 0700;

/// Whether something is there that must not be overwritten.
Status check_empty(const fs::path& folder) {
  std::error_code ec;
  auto status = fs::symlink_status(folder, ec);
  if (status.type() == fs::file_type::not_found) return {};
  if (status.type() != fs::file_type::directory) return fail(Errc::conflict, "{}: is there and is no folder", folder.string());
  bool empty = fs::is_empty(folder, ec);
  if (ec) return fail(Errc::io, "{}: {}", folder.string(), ec.message());
  if (!empty) return fail(Errc::conflict, "{}: is there already; a cluster is made once, and its CA cannot be made again", folder.string());
  return {};
}

}  // namespace

Result<std::string> read_secret(const fs::path& file, std::size_t max) {
  struct stat s {};
  if (::lstat(file.c_str(), &s) != 0) return fail(errno == ENOENT ? Errc::not_found : Errc::io, "{}: {}", file.string(), errno_error("", errno).context);
  if (!S_ISREG(s.st_mode)) return fail(Errc::forbidden, "{}: is no plain file", file.string());
  if (s.st_mode & 077) return fail(Errc::forbidden, "{}: others may read or write it (mode {:o}); it must be 600", file.string(), s.st_mode & 0777);
  return read_file(file, max);
}

Result<Founded> found_cluster(const fs::path& folder, const FoundOptions& options, Wall now) {
  auto cluster = options.cluster.empty() ? random_uuid() : options.cluster;
  if (auto ok = check_cluster(cluster); !ok) return fail(std::move(ok).error());
  if (auto ok = check_empty(folder); !ok) return fail(std::move(ok).error());
  auto trust = create_trust(cluster, now);
  if (!trust) return fail(std::move(trust).error());
  auto made = make_key_and_request();
  auto certificate = issue(trust->authority(), made.request_pem, {{cluster, options.host.host, options.host.roles}, options.names}, now);
  if (!certificate) return fail(std::move(certificate).error());
  note_issued(*trust, read_certificate(*certificate)->not_after);
  auto secret = new_bearer_token();
  Token token{secret.id, secret.digest, "the first operator", {{Level::admin, "/"}}, now, Wall::max(), "croft init"};

  auto parent = fs::absolute(folder).parent_path();
  if (auto ok = make_dirs(parent); !ok) return fail(std::move(ok).error());
  auto aside = parent / (fs::absolute(folder).filename().string() + ".new-" + hex(random_bytes(4)));
  if (::mkdir(aside.c_str(), folder_mode) != 0) return fail_errno("make " + aside.string());
  struct File { const char* name; std::string bytes; unsigned mode; };
  const File files[] = {{"ca.pem", trust->bundle(), public_mode},         {"ca.json", encode_trust(*trust), secret_mode},
                        {"join.key", hex(random_bytes(join_key_bytes)) + "\n", secret_mode}, {"seal.json", KeyRing::create().encode(), secret_mode},
                        {"operator.json", encode_token(token), secret_mode}, {"host.pem", *certificate, public_mode},
                        {"host.key", made.key_pem, secret_mode}};
  Status done;
  for (const auto& file : files)
    if (done) done = write_file_atomic(aside / file.name, file.bytes, file.mode);
  // rename(2) replaces an empty folder and nothing else: two at once cannot both succeed.
  if (done && ::rename(aside.c_str(), folder.c_str()) != 0) {
    bool there = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR;
    done = there ? fail(Errc::conflict, "{}: is there already", folder.string()) : Status(fail_errno("rename to " + folder.string()));
  }
  if (done) done = sync_dir(parent);
  if (!done) {
    std::error_code ec;
    fs::remove_all(aside, ec);
    return fail(std::move(done).error());
  }
  return Founded{cluster, read_bundle(trust->bundle())->front().fingerprint, secret.text};
}

Status check_owner(const std::string& user) {
  if (!user.empty() && !::getpwnam(user.c_str())) return fail(Errc::invalid, "user {} is not known on this host", user);
  return {};
}

Status hand_over(const fs::path& folder, const std::string& user) {
  if (user.empty() && ::geteuid() != 0) return {};
  const auto* found = ::getpwnam(user.empty() ? "croft" : user.c_str());  // of the command line, which has one thread
  if (!found && user.empty()) return {};
  if (!found) return fail(Errc::not_found, "user {} is not known on this host", user);
  std::error_code ec;
  for (fs::directory_iterator entry(folder, ec), end; !ec && entry != end; entry.increment(ec))
    if (::lchown(entry->path().c_str(), found->pw_uid, found->pw_gid) != 0) return fail_errno("chown " + entry->path().string());
  if (ec) return fail(Errc::io, "{}: {}", folder.string(), ec.message());
  if (::lchown(folder.c_str(), found->pw_uid, found->pw_gid) != 0) return fail_errno("chown " + folder.string());
  return {};
}

Result<std::string> master_secrets(const fs::path& folder) {
  JsonWriter w;
  w.begin_object();
  for (auto name : master_files) {
    auto text = read_secret(folder / name, 1u << 20);
    if (!text) return fail(std::move(text).error());
    w.field(name, *text);
  }
  w.end_object();
  return std::move(w).take();
}

Result<ClusterFiles> read_cluster(const fs::path& folder) {
  auto within = [&](const char* name, Error e) { return fail(std::move(e).within((folder / name).string())); };
  auto ca = read_secret(folder / "ca.json", 1u << 20);
  if (!ca) return fail(std::move(ca).error());
  auto trust = decode_trust(*ca);
  if (!trust) return within("ca.json", std::move(trust).error());
  auto join = read_secret(folder / "join.key", 1024);
  if (!join) return fail(std::move(join).error());
  auto key = unhex(trim(*join));
  if (!key || key->size() != join_key_bytes) return within("join.key", {Errc::corrupt, "must be 64 hex digits"});
  auto ring_text = read_secret(folder / "seal.json", 1u << 16);
  if (!ring_text) return fail(std::move(ring_text).error());
  auto ring = KeyRing::decode(*ring_text);
  if (!ring) return within("seal.json", std::move(ring).error());
  auto operator_text = read_secret(folder / "operator.json", 1u << 16);
  if (!operator_text) return fail(std::move(operator_text).error());
  auto token = decode_token(*operator_text);
  if (!token) return within("operator.json", std::move(token).error());
  auto host_key = read_secret(folder / "host.key", pem_bytes_max);
  if (!host_key) return fail(std::move(host_key).error());
  auto certificate = read_file(folder / "host.pem", pem_bytes_max);
  if (!certificate) return fail(std::move(certificate).error());
  if (auto ok = check_pair(*certificate, *host_key); !ok) return within("host.pem", std::move(ok).error());
  return ClusterFiles{std::move(*trust), std::move(*key), std::move(*ring), std::move(*token), std::move(*certificate), std::move(*host_key)};
}

}  // namespace croft::secure
