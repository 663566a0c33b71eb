// /files/browse, /files/read, /files/download: what stands below the sandboxes' folder, and nothing else.

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "agent/agent_files.hpp"
#include "base/files.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "net/jsonp.hpp"

namespace croft::agent {

namespace asio = boost::asio;
using net::Request;
using net::Response;

namespace {

constexpr std::uint64_t read_max = 65536;  // 16 pages, as Mesos: readers page

constexpr int sandbox_depth = 7;  // SLAVE/frameworks/F/executors/E/runs/CONTAINER

Result<Fd> open_at(const Fd& top, std::string path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | ((flags & O_PATH) ? 0 : O_NONBLOCK | O_NOCTTY));
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  if (path.empty()) path = ".";
  int fd = static_cast<int>(::syscall(SYS_openat2, top.get(), path.c_str(), &how, sizeof how));
  if (fd < 0) return fail_errno(path);
  return Fd(fd);
}

/// Opens a file below `root`, whatever links and dots the path holds: the kernel refuses to leave the root, and, once the path is in a sandbox, where
/// links are the task's, to leave that.
Result<Fd> open_below(const fs::path& root, std::string_view path, int flags) {
  Fd top(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!top.valid()) return fail_errno("open " + root.string());
  std::string upper, inside;
  int depth = 0;
  for (const auto& part : split(path, '/')) {
    if (part.empty()) continue;
    auto& into = ++depth <= sandbox_depth ? upper : inside;
    into += (into.empty() ? "" : "/") + std::string(part);
  }
  if (depth <= sandbox_depth) return open_at(top, std::move(upper), flags);
  auto sandbox = open_at(top, std::move(upper), O_PATH | O_DIRECTORY);
  return sandbox ? open_at(*sandbox, std::move(inside), flags) : std::move(sandbox);
}

/// Clients name files by absolute path, as /state and browse gave them, or by the virtual /frameworks/F/executors/E/runs/latest.
struct Found { fs::path root; std::string rest; };
std::optional<Found> locate(const fs::path& work_dir, const std::string& path) {
  auto slaves = work_dir / "slaves";
  auto root = slaves.string();
  if (path == root || path.starts_with(root + "/")) return Found{slaves, path.substr(root.size())};
  if (!path.starts_with("/frameworks/")) return std::nullopt;
  std::error_code ec;
  for (const auto& agent : fs::directory_iterator(slaves, ec)) {  // one, unless this host lost its membership once
    auto rest = "/" + agent.path().filename().string() + path;
    if (open_below(slaves, rest, O_PATH)) return Found{slaves, rest};
  }
  return std::nullopt;
}

Response file_error(const Error& e, const std::string& path) {
  if (e.code == Errc::not_found) return Response::text(fmt::format("Requested path '{}' was not found.\n", path), 404);
  return Response::text(fmt::format("Requested path '{}' cannot be served.\n", path), e.code == Errc::forbidden ? 403 : 400);
}

std::string mode_text(mode_t m) {
  std::string out(S_ISDIR(m) ? "d" : S_ISLNK(m) ? "l" : "-");
  for (int shift : {6, 3, 0})
    for (int bit : {4, 2, 1}) out.push_back((m >> shift) & bit ? "?xw?r"[bit] : '-');
  return out;
}

std::string owner_name(uid_t id) {
  passwd entry{}, *found = nullptr;
  char buffer[4096];
  return ::getpwuid_r(id, &entry, buffer, sizeof buffer, &found) == 0 && found ? found->pw_name : std::to_string(id);
}
std::string group_name(gid_t id) {
  group entry{}, *found = nullptr;
  char buffer[4096];
  return ::getgrgid_r(id, &entry, buffer, sizeof buffer, &found) == 0 && found ? found->gr_name : std::to_string(id);
}

asio::awaitable<Response> browse(fs::path work_dir, Request r) {
  auto path = r.query.get("path");
  if (!path || path->empty()) co_return Response::text("Expecting 'path=value' in query.\n", 400);
  auto at = locate(work_dir, *path);
  if (!at) co_return file_error({Errc::not_found, ""}, *path);
  auto fd = open_below(at->root, at->rest, O_RDONLY | O_DIRECTORY);
  if (!fd) co_return file_error(fd.error(), *path);
  std::vector<std::string> names;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/self/fd/{}", fd->get()), ec)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  while (path->size() > 1 && path->ends_with('/')) path->pop_back();
  JsonWriter w;
  w.begin_array();
  for (const auto& name : names) {
    struct stat st{};
    if (::fstatat(fd->get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    w.begin_object().field("path", *path + "/" + name).field("size", st.st_size).field("nlink", st.st_nlink).field("mtime", st.st_mtime);
    w.field("mode", mode_text(st.st_mode)).field("uid", owner_name(st.st_uid)).field("gid", group_name(st.st_gid)).end_object();
  }
  w.end_array();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> read(fs::path work_dir, Request r) {
  auto path = r.query.get("path");
  if (!path || path->empty()) co_return Response::text("Expecting 'path=value' in query.\n", 400);
  auto offset = to_int(r.query.get("offset").value_or("-1")), length = to_int(r.query.get("length").value_or("-1"));
  if (!offset || *offset < -1) co_return Response::text("Failed to parse offset: it must be -1 or a number from 0 on.\n", 400);
  if (!length || *length < -1) co_return Response::text("Failed to parse length: it must be -1 or a number from 0 on.\n", 400);
  auto at = locate(work_dir, *path);
  if (!at) co_return file_error({Errc::not_found, ""}, *path);
  auto fd = open_below(at->root, at->rest, O_RDONLY);
  if (!fd) co_return file_error(fd.error(), *path);
  struct stat st{};
  if (::fstat(fd->get(), &st) != 0 || !S_ISREG(st.st_mode)) co_return Response::text("Cannot read a directory or a device.\n", 400);
  JsonWriter w;
  w.begin_object();
  if (*offset == -1) {  // asks for the size only
    w.field("data", "").field("offset", st.st_size).end_object();
    co_return Response::json(std::move(w).take());
  }
  auto want = *length < 0 ? read_max : std::min(static_cast<std::uint64_t>(*length), read_max);
  std::string data(want, '\0');
  auto n = ::pread(fd->get(), data.data(), data.size(), *offset);
  data.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  w.field("data", data).field("offset", *offset).end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<void> send_file(std::shared_ptr<Fd> fd, std::shared_ptr<net::StreamWriter> out) {
  for (;;) {
    std::string block(1u << 18, '\0');
    auto n = ::read(fd->get(), block.data(), block.size());
    if (n <= 0) co_return;
    block.resize(static_cast<std::size_t>(n));
    if (!co_await out->write(std::move(block))) co_return;
  }
}

std::string_view type_of(std::string_view name) {
  auto dot = name.rfind('.');
  auto end = dot == std::string_view::npos ? "" : name.substr(dot);
  for (auto [known, type] : {std::pair<std::string_view, std::string_view>{".txt", "text/plain"}, {".log", "text/plain"}, {".json", "application/json"}, {".gz", "application/gzip"}})
    if (end == known) return type;
  return "application/octet-stream";
}

asio::awaitable<Response> download(fs::path work_dir, Request r) {
  auto path = r.query.get("path");
  if (!path || path->empty()) co_return Response::text("Expecting 'path=value' in query.\n", 400);
  auto at = locate(work_dir, *path);
  if (!at) co_return file_error({Errc::not_found, ""}, *path);
  auto fd = open_below(at->root, at->rest, O_RDONLY);
  if (!fd) co_return file_error(fd.error(), *path);
  struct stat st{};
  if (::fstat(fd->get(), &st) != 0 || !S_ISREG(st.st_mode)) co_return Response::text("Cannot download a directory or a device.\n", 400);
  Response response;
  auto name = path->substr(path->rfind('/') + 1);
  response.headers.set("Content-Type", type_of(name));
  response.headers.set("X-Content-Type-Options", "nosniff");  // a task's file must not run as a page of this host
  std::erase_if(name, [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
  response.headers.set("Content-Disposition", "attachment; filename=\"" + name + "\"");
  auto shared = std::make_shared<Fd>(std::move(*fd));
  response.stream = [shared](std::shared_ptr<net::StreamWriter> out) { return send_file(shared, std::move(out)); };
  co_return response;
}

/// The work directory as clients see it in paths.
asio::awaitable<Response> debug(fs::path work_dir) {
  auto slaves = (work_dir / "slaves").string();
  JsonWriter w;
  w.begin_object().field(slaves, slaves).end_object();
  co_return Response::json(std::move(w).take());
}

using Answer = asio::awaitable<Response> (*)(fs::path, Request);

asio::awaitable<Response> with_jsonp(Answer answer, fs::path dir, Request r) {
  auto again = r;
  auto response = co_await answer(std::move(dir), std::move(r));
  co_return net::with_jsonp(std::move(response), again);
}

}  // namespace

void add_file_routes(net::Router& router, const fs::path& work_dir) {
  for (auto end : {"", ".json"}) {
    for (auto [name, answer] : {std::pair<std::string_view, Answer>{"browse", &browse}, {"read", &read}, {"download", &download}})
      router.on("GET", fmt::format("/files/{}{}", name, end), [work_dir, answer](Request r) { return with_jsonp(answer, work_dir, std::move(r)); });
    router.on("GET", fmt::format("/files/debug{}", end), [work_dir](Request) { return debug(work_dir); });
  }
}

}  // namespace croft::agent
