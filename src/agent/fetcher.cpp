#include "agent/fetcher.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "agent/reach.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "model/task_policy.hpp"

namespace croft::agent {

namespace {

constexpr int redirects_max = 5;
constexpr int file_too_large = 128 + 25;  // SIGXFSZ
constexpr std::chrono::seconds helper_spare{60};

/// In new namespaces: over all sandboxes stands an empty folder with the own one in it, held by a descriptor meanwhile, whose way there is as it was. The shell
/// stays: to the first process of a namespace the kernel sends no signal when a file gets too large.
constexpr const char* hiding = R"(all=$1 own=$2
shift 2
if [ -n "$all" ]; then
  exec 9<"$own" && mount -t tmpfs -o mode=0711,size=64k,nosuid,nodev,noexec tmpfs "$all" && mkdir -p "$own" && mount -c --bind /proc/self/fd/9 "$own" && exec 9<&- || exit 125
fi
"$@"
exit $?)";
constexpr int not_hidden = 125;

/// Words before a helper's own. Only root can have and needs them.
std::vector<std::string> apart(const fs::path& sandboxes, const fs::path& own) {
  if (::geteuid() != 0) return {};
  return {"unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", hiding, "sh", sandboxes.string(), own.string()};
}

Status check_apart() {
  static const Status known = [] {
    auto words = apart({}, {});
    if (words.empty()) return Status{};
    words.emplace_back("true");
    auto ran = run_program(std::move(words), helper_spare);
    if (ran && ran->code == 0) return Status{};
    return Status(fail(Errc::unavailable, "artifacts need namespaces of their own, which this node does not give: {}", ran ? std::string(trim(ran->said)) : ran.error().context));
  }();
  return known;
}

/// Helpers of one fetch. Each writes at most so much to a file, and has the task's rights, not ours.
class Helpers {
 public:
  Helpers(const std::string& uri, const FetchRules& rules, const fs::path& sandbox) : uri_(uri), rules_(rules), sandbox_(sandbox) {}

  /// The exit code; what was said is in said().
  Result<int> run(std::vector<std::string> words, int in = -1) {
    if (auto ok = check_apart(); !ok) return fail(ok.error().code, "fetch {}: {}", uri_, ok.error().context);
    auto all = apart(rules_.sandboxes, sandbox_);
    all.insert(all.end(), {"prlimit", fmt::format("--fsize={}", rules_.bytes_max), "--core=0"});
    if (rules_.as) all.insert(all.end(), {"setpriv", fmt::format("--reuid={}", rules_.as->uid), fmt::format("--regid={}", rules_.as->gid), "--clear-groups", "--no-new-privs", "--"});
    all.insert(all.end(), std::make_move_iterator(words.begin()), std::make_move_iterator(words.end()));
    auto ran = run_program(std::move(all), rules_.limit + helper_spare, nullptr, in);
    if (!ran) return fail(ran.error().code, "fetch {}: {}", uri_, ran.error().context);
    said_ = std::string(trim(ran->said));
    if (ran->code == not_hidden) return fail(Errc::io, "fetch {}: other sandboxes cannot be hidden: {}", uri_, said_);
    if (ran->code == file_too_large) return fail(Errc::too_large, "fetch {}: larger than {} bytes", uri_, rules_.bytes_max);
    return ran->code;
  }
  Status need(std::vector<std::string> words, std::string_view what, int in = -1) {
    auto code = run(std::move(words), in);
    if (!code) return fail(std::move(code).error());
    if (*code != 0) return fail(Errc::io, "fetch {}: {}: {}", uri_, what, said_);
    return {};
  }
  /// By a process of its own: while this one had the file open for writing, a child that it starts meanwhile would keep it busy, and the task could not run it.
  Status copy(int from, const fs::path& to) { return need({"dd", "of=" + to.string(), "bs=1M", "status=none"}, "copy", from); }
  [[nodiscard]] const std::string& said() const { return said_; }
  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] const FetchRules& rules() const { return rules_; }

 private:
  const std::string& uri_;
  const FetchRules& rules_;
  const fs::path& sandbox_;
  std::string said_;
};

// --- files of this host ---

/// Links are resolved before the folders are asked, and none is followed between the two.
Status copy_host_file(Helpers& helpers, const fs::path& from, const fs::path& target) {
  const auto& uri = helpers.uri();
  std::error_code ec;
  if (!from.is_absolute()) return fail(Errc::invalid, "fetch {}: must be an absolute path", uri);
  auto found = fs::canonical(from, ec);
  const auto& real = ec ? from : found;
  if (!path_within(real.string(), helpers.rules().host_paths)) return fail(Errc::forbidden, "fetch {}: is in none of the folders that files may come from on this farm (allow_fetch_paths)", uri);
  if (ec) return fail(Errc::not_found, "fetch {}: no such file", uri);
  open_how how{};
  how.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS;
  Fd fd(static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, real.c_str(), &how, sizeof how)));
  struct stat st{};
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) return fail(errno_error("fetch " + uri, errno));
  if (!S_ISREG(st.st_mode)) return fail(Errc::invalid, "fetch {}: is no regular file", uri);
  return helpers.copy(fd.get(), target);
}

// --- from elsewhere ---

struct Place { std::string host, port, address; Reach reach = Reach::anywhere; };

/// What curl and we read in one way: it has a language of its own for many URLs in one, and forgives what is none.
bool is_plain(std::string_view url) {
  return std::all_of(url.begin(), url.end(), [](char c) { return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7f && c != '\\' && c != '{' && c != '}' && c != '"' && c != '<' && c != '>' && c != '^' && c != '`' && c != '|'; });
}

bool is_host_or_address(std::string_view host) {
  bool six = host.size() > 2 && host.starts_with('[') && host.ends_with(']');
  constexpr std::string_view named = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", numbered = "0123456789abcdefABCDEF:.";
  return !host.empty() && (six ? host.substr(1, host.size() - 2).find_first_not_of(numbered) : host.find_first_not_of(named)) == std::string_view::npos;
}

/// The host of an http, https or ftp URL, and the address that is asked: looked up once, so that what was judged is what is asked.
Result<Place> place_of(const std::string& uri, std::string_view url) {
  auto scheme_end = url.find("://");
  auto scheme = lower(url.substr(0, scheme_end));
  auto rest = url.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find_first_of("/?#\\"));
  if (auto at = rest.rfind('@'); at != std::string_view::npos) rest.remove_prefix(at + 1);
  Place place;
  auto colon = rest.rfind(':');
  bool has_port = colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos;
  place.host = std::string(rest.substr(0, has_port ? colon : rest.size()));
  place.port = has_port && colon + 1 < rest.size() ? std::string(rest.substr(colon + 1)) : scheme == "https" ? "443" : scheme == "ftp" ? "21" : "80";
  if (!is_plain(url) || !is_host_or_address(place.host) || place.port.find_first_not_of("0123456789") != std::string::npos) return fail(Errc::invalid, "fetch {}: is not a URL", uri);
  auto name = place.host.starts_with('[') && place.host.ends_with(']') ? place.host.substr(1, place.host.size() - 2) : place.host;
  addrinfo want{}, *found = nullptr;
  want.ai_socktype = SOCK_STREAM;
  int rc = name.empty() ? EAI_NONAME : ::getaddrinfo(name.c_str(), nullptr, &want, &found);
  if (rc != 0) return fail(Errc::io, "fetch {}: {}: {}", uri, place.host, ::gai_strerror(rc));
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> freed(found, &::freeaddrinfo);
  char text[INET6_ADDRSTRLEN]{};
  bool six = found->ai_family == AF_INET6;
  const void* bytes = six ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(found->ai_addr)->sin6_addr) : &reinterpret_cast<sockaddr_in*>(found->ai_addr)->sin_addr;
  ::inet_ntop(found->ai_family, bytes, text, sizeof text);
  place.address = six ? fmt::format("[{}]", text) : text;
  place.reach = reach_of(found->ai_addr);
  return place;
}

/// A proxy looks names up by itself, and is where such rules are kept then.
bool through_proxy() {
  constexpr const char* names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "ftp_proxy", "FTP_PROXY", "all_proxy", "ALL_PROXY"};
  return std::any_of(std::begin(names), std::end(names), [](const char* name) { return std::getenv(name) != nullptr; });
}

/// How curl is told where `url` is. Forbidden: an address that this artifact may not come from. `first` is the reach of the URI itself, set by hop 0.
Result<std::vector<std::string>> way_to(const std::string& uri, const std::string& url, int hop, Reach& first) {
  auto place = place_of(uri, url);
  if (!place) return fail(std::move(place).error());
  if (hop == 0) first = place->reach;
  if (!may_reach(first, place->reach))
    return place->reach == Reach::link_local ? fail(Errc::forbidden, "fetch {}: {} is a link-local address", uri, place->host)
                                             : fail(Errc::forbidden, "fetch {}: is redirected to {}, which is a private address", uri, place->host);
  return std::vector<std::string>{"--noproxy", "*", "--resolve", fmt::format("{}:{}:{}", place->host, place->port, place->address)};
}

Status download(Helpers& helpers, const fs::path& target) {
  const auto& uri = helpers.uri();
  const auto& rules = helpers.rules();
  auto url = uri;
  Reach first = Reach::anywhere;
  for (int hop = 0; hop <= redirects_max; ++hop) {
    auto way = through_proxy() ? Result<std::vector<std::string>>(std::in_place) : way_to(uri, url, hop, first);
    if (!way) return fail(std::move(way).error());
    std::vector<std::string> words{"curl", "-q", "-sSf", "--globoff", "--proto", hop == 0 ? "=http,https,ftp" : "=http,https", "--max-time", std::to_string(rules.limit.count()), "--max-filesize",
                                   std::to_string(rules.bytes_max), "-w", "%{redirect_url}", "-o", target.string()};
    words.insert(words.end(), way->begin(), way->end());
    words.insert(words.end(), {"--", url});
    auto ran = helpers.run(std::move(words));
    if (!ran) return fail(std::move(ran).error());
    if (*ran != 0)
      return fail(*ran == 28 ? Errc::timeout : *ran == 22 ? Errc::not_found : *ran == 63 ? Errc::too_large : Errc::io, "fetch {}: {}", uri, helpers.said());
    if (helpers.said().empty()) return {};
    url = helpers.said();
    if (auto scheme = lower(url.substr(0, url.find("://"))); scheme != "http" && scheme != "https") return fail(Errc::forbidden, "fetch {}: is redirected to '{}'", uri, url);
  }
  return fail(Errc::io, "fetch {}: more than {} redirects", uri, redirects_max);
}

Status bring(Helpers& helpers, const fs::path& target) {
  const auto& uri = helpers.uri();
  auto scheme_end = uri.find("://");
  auto scheme = scheme_end == std::string::npos ? "file" : lower(uri.substr(0, scheme_end));
  if (scheme == "file") return copy_host_file(helpers, scheme_end == std::string::npos ? uri : uri.substr(scheme_end + 3), target);
  if (scheme != "http" && scheme != "https" && scheme != "ftp") return fail(Errc::invalid, "fetch {}: scheme '{}' is not supported", uri, scheme);
  return download(helpers, target);
}

/// The checksum that was asked for, of the file as it came.
Status check(Helpers& helpers, const std::string& wanted, const fs::path& file) {
  if (wanted.empty()) return {};
  const auto& uri = helpers.uri();
  auto colon = wanted.find(':');
  if (auto ok = helpers.need({wanted.substr(0, colon) + "sum", "--", file.string()}, "checksum"); !ok) return ok;
  auto has = helpers.said().substr(0, helpers.said().find(' '));
  if (has.starts_with('\\')) has.erase(0, 1);  // so it tells of a name that it had to escape
  if (has != wanted.substr(colon + 1)) return fail(Errc::corrupt, "fetch {}: its {} is {}, the manifest wants {}", uri, wanted.substr(0, colon), has, wanted.substr(colon + 1));
  return {};
}

fs::path kept_at(const fs::path& cache, const std::string& uri, const std::string& checksum) {
  return cache / hex(sha256(checksum.empty() ? uri : uri + '\n' + checksum)).substr(0, 32);
}

/// Kept files belong to us and are read by us alone; a helper brings them into a folder of its own first.
Status bring_cached(Helpers& helpers, const std::string& checksum, const fs::path& cache, const fs::path& target) {
  const auto& uri = helpers.uri();
  if (auto made = make_dirs(cache); !made) return made;
  ::chmod(cache.c_str(), 0711);
  auto kept = kept_at(cache, uri, checksum);
  std::error_code ec;
  if (!fs::exists(kept, ec)) {
    auto aside = cache / fmt::format("new.{:x}", random_u64());
    if (auto made = make_dirs(aside, 0700); !made) return made;
    const auto& as = helpers.rules().as;
    auto ok = as && ::chown(aside.c_str(), as->uid, as->gid) != 0 ? fail_errno("chown " + aside.string()) : bring(helpers, aside / "file");
    if (ok) ok = check(helpers, checksum, aside / "file");
    if (ok) {
      Fd fd(::open((aside / "file").c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
      bool ours = fd.valid() && ::fchown(fd.get(), ::geteuid(), ::getegid()) == 0 && ::fchmod(fd.get(), 0600) == 0 && ::fsync(fd.get()) == 0;  // whole after a power cut, or not there
      if (!ours || ::rename((aside / "file").c_str(), kept.c_str()) != 0) ok = fail(errno_error("fetch " + uri, errno));
    }
    fs::remove_all(aside, ec);
    if (!ok) return ok;
  }
  Fd fd(::open(kept.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return fail(errno_error("fetch " + uri, errno));
  ::futimens(fd.get(), nullptr);  // used now: those that nobody uses go first
  return helpers.copy(fd.get(), target);
}

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> ends) {
  return std::any_of(ends.begin(), ends.end(), [&](auto end) { return name.ends_with(end); });
}

Status extract(Helpers& helpers, const fs::path& file, const fs::path& into) {
  auto name = file.filename().string();
  if (ends_with_any(name, {".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar"}))
    return helpers.need({"tar", "-xf", file.string(), "-C", into.string(), "--no-same-owner"}, "cannot unpack");
  if (name.ends_with(".zip")) return helpers.need({"unzip", "-qo", file.string(), "-d", into.string()}, "cannot unpack");
  return {};
}

}  // namespace

Status fetch(const Artifact& artifact, const fs::path& sandbox, const fs::path& cache, const FetchRules& rules) {
  const auto& uri = artifact.uri;
  Helpers helpers(uri, rules, sandbox);
  auto path = uri.substr(0, uri.find_first_of("?#"));
  auto name = path.substr(path.rfind('/') + 1);
  if (name.empty() || name == "." || name == "..") return fail(Errc::invalid, "fetch {}: has no file name", uri);
  fs::path target = sandbox / name;
  if (!artifact.dest_path.empty()) {
    fs::path dest(artifact.dest_path);
    for (const auto& part : dest)
      if (part == ".." || dest.is_absolute()) return fail(Errc::invalid, "fetch {}: destPath '{}' must stay inside the sandbox", uri, artifact.dest_path);
    target = sandbox / dest;
    if (auto made = helpers.need({"mkdir", "-p", "--", target.parent_path().string()}, "destPath"); !made) return made;
  }
  auto brought = [&] {
    auto there = artifact.cache ? bring_cached(helpers, artifact.checksum, cache, target) : bring(helpers, target);
    return there ? check(helpers, artifact.checksum, target) : there;
  };
  auto ok = brought();
  std::error_code ec;
  if (!ok && ok.error().code == Errc::corrupt && artifact.cache && fs::remove(kept_at(cache, uri, artifact.checksum), ec)) ok = brought();  // what was kept has gone bad
  if (ok) ok = helpers.need({"chmod", artifact.executable ? "0755" : "0644", "--", target.string()}, "chmod");
  if (!ok) return ok;
  return artifact.extract && !artifact.executable ? extract(helpers, target, sandbox) : Status{};
}

}  // namespace croft::agent
