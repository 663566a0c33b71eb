#include "agent/fetcher.hpp"

#include <sys/stat.h>

#include <vector>

#include "base/files.hpp"
#include "base/process.hpp"
#include "base/text.hpp"

namespace croft::agent {

namespace {

constexpr const char* seconds_max = "600";
constexpr const char* bytes_max = "10737418240";

constexpr std::chrono::seconds helper_max{660};

int run(std::vector<std::string> words, std::string& said) {
  auto ran = run_program(std::move(words), helper_max);
  said = ran ? ran->said : ran.error().context;
  return ran ? ran->code : -1;
}

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> ends) {
  for (auto end : ends)
    if (name.ends_with(end)) return true;
  return false;
}

Status extract(const fs::path& file, const fs::path& into, const std::string& uri) {
  std::string said;
  auto name = file.filename().string();
  int rc = 0;
  if (ends_with_any(name, {".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar"})) rc = run({"tar", "-xf", file.string(), "-C", into.string(), "--no-same-owner"}, said);
  else if (name.ends_with(".zip")) rc = run({"unzip", "-qo", file.string(), "-d", into.string()}, said);
  else return {};
  if (rc != 0) return fail(Errc::io, "fetch {}: cannot unpack: {}", uri, trim(said));
  return {};
}

Status bring(const std::string& uri, const fs::path& target) {
  std::string said;
  auto scheme_end = uri.find("://");
  auto scheme = scheme_end == std::string::npos ? "file" : lower(uri.substr(0, scheme_end));
  if (scheme == "file") {
    fs::path from = scheme_end == std::string::npos ? uri : uri.substr(scheme_end + 3);
    std::error_code ec;
    if (!from.is_absolute()) return fail(Errc::invalid, "fetch {}: must be an absolute path", uri);
    if (!fs::exists(from, ec)) return fail(Errc::not_found, "fetch {}: no such file", uri);
    if (!fs::is_regular_file(from, ec)) return fail(Errc::invalid, "fetch {}: is no regular file", uri);
    // A clone where the file system can, else a copy; never a hard link, which a task could write through. By a process of its own: while
    // this one had the file open for writing, a child that it starts meanwhile would keep it busy, and the task could not run it.
    if (run({"cp", "--reflink=auto", "--", from.string(), target.string()}, said) != 0) return fail(Errc::io, "fetch {}: {}", uri, trim(said));
    return {};
  }
  if (scheme != "http" && scheme != "https" && scheme != "ftp") return fail(Errc::invalid, "fetch {}: scheme '{}' is not supported", uri, scheme);
  int rc = run({"curl", "-fsSL", "--proto", "=http,https,ftp", "--max-time", seconds_max, "--max-filesize", bytes_max, "-o", target.string(), "--", uri}, said);
  if (rc == 0) return {};
  return fail(rc == 28 ? Errc::timeout : rc == 22 ? Errc::not_found : Errc::io, "fetch {}: {}", uri, trim(said));
}

}  // namespace

Status fetch(const Artifact& artifact, const fs::path& sandbox, const fs::path& cache) {
  const auto& uri = artifact.uri;
  auto path = uri.substr(0, uri.find_first_of("?#"));
  auto name = path.substr(path.rfind('/') + 1);
  if (name.empty() || name == "." || name == "..") return fail(Errc::invalid, "fetch {}: has no file name", uri);
  fs::path target = sandbox / name;
  if (!artifact.dest_path.empty()) {
    fs::path dest(artifact.dest_path);
    for (const auto& part : dest)
      if (part == ".." || dest.is_absolute()) return fail(Errc::invalid, "fetch {}: destPath '{}' must stay inside the sandbox", uri, artifact.dest_path);
    target = sandbox / dest;
    if (auto made = make_dirs(target.parent_path()); !made) return made;
  }
  if (artifact.cache) {
    if (auto made = make_dirs(cache); !made) return made;
    auto kept = cache / hex(sha256(uri)).substr(0, 32);
    std::error_code ec;
    if (!fs::exists(kept, ec)) {
      auto aside = kept.string() + fmt::format(".{:x}", random_u64());
      if (auto ok = bring(uri, aside); !ok) return fs::remove(aside, ec), ok;
      fs::rename(aside, kept, ec);
      if (ec) return fail(Errc::io, "fetch {}: {}", uri, ec.message());
    }
    fs::copy_file(kept, target, fs::copy_options::overwrite_existing, ec);
    if (ec) return fail(Errc::io, "fetch {}: {}", uri, ec.message());
  } else if (auto ok = bring(uri, target); !ok) {
    return ok;
  }
  ::chmod(target.c_str(), artifact.executable ? 0755 : 0644);
  if (artifact.extract && !artifact.executable) return extract(target, sandbox, uri);
  return {};
}

}  // namespace croft::agent
