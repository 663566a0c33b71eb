// The agent's HTTP face, in Mesos's shapes.

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "agent/agent_impl.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::agent {

using net::Request;
using net::Response;

namespace {

constexpr std::uint64_t read_max = 16u << 20;

/// Opens a file below `root`, whatever links and dots the path holds: the kernel refuses to leave the root.
Result<Fd> open_below(const fs::path& root, std::string_view path, int flags) {
  Fd top(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!top.valid()) return fail_errno("open " + root.string());
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  std::string text(path);
  while (text.starts_with('/')) text.erase(0, 1);
  int fd = static_cast<int>(::syscall(SYS_openat2, top.get(), text.empty() ? "." : text.c_str(), &how, sizeof how));
  if (fd < 0) return fail_errno(text);
  return Fd(fd);
}

/// Clients name files by absolute path (as browse gave them) or by the virtual roots /slave/log.
struct Found { fs::path root; std::string rest; };
std::optional<Found> locate(const fs::path& work_dir, std::string path) {
  auto slaves = (work_dir / "slaves").string();
  if (path == slaves || path.starts_with(slaves + "/")) return Found{work_dir / "slaves", path.substr(slaves.size())};
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
  JsonWriter w;
  w.begin_array();
  for (const auto& name : names) {
    struct stat st{};
    if (::fstatat(fd->get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    w.begin_object().field("path", *path + (path->ends_with('/') ? "" : "/") + name).field("size", st.st_size).field("nlink", st.st_nlink).field("mtime", st.st_mtime);
    w.field("mode", mode_text(st.st_mode)).field("uid", std::to_string(st.st_uid)).field("gid", std::to_string(st.st_gid)).end_object();
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
  auto want = std::min<std::uint64_t>(*length < 0 ? 65536 : static_cast<std::uint64_t>(*length), read_max);
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
  response.headers.set("Content-Type", "application/octet-stream");
  auto name = path->substr(path->rfind('/') + 1);
  std::erase_if(name, [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
  response.headers.set("Content-Disposition", "attachment; filename=\"" + name + "\"");
  auto shared = std::make_shared<Fd>(std::move(*fd));
  response.stream = [shared](std::shared_ptr<net::StreamWriter> out) { return send_file(shared, std::move(out)); };
  co_return response;
}

void write_resources(JsonWriter& w, std::string_view key, const Resources& r, const std::string& ports) {
  w.key(key).begin_object().field("cpus", from_milli(r.cpus)).field("mem", from_milli(r.mem)).field("disk", from_milli(r.disk)).field("gpus", from_milli(r.gpus));
  if (!ports.empty()) w.field("ports", ports);
  w.end_object();
}

void write_executor(JsonWriter& w, const Run& run, const link::HeldTask* held) {
  const auto& spec = run.launch.spec;
  w.begin_object().field("id", spec.id).field("name", spec.name).field("source", spec.id).field("container", run.launch.sandbox.filename().string());
  w.field("directory", run.launch.sandbox.string());
  write_resources(w, "resources", spec.resources, "");
  w.key(run.over ? "completed_tasks" : "tasks").begin_array().begin_object().field("id", spec.id).field("name", spec.name).field("state", held ? wire_name(held->status.state) : "TASK_LOST");
  write_resources(w, "resources", spec.resources, "");
  w.end_object().end_array().end_object();
}

}  // namespace

asio::awaitable<Response> AgentService::Impl::state(Request) {
  auto self = shared_from_this();
  auto work = [this] {
    const auto& m = core.membership();
    JsonWriter w;
    w.begin_object().field("version", "1.11.0").field("build_user", "croft").field("id", m.id).field("pid", fmt::format("slave(1)@{}:{}", options.info.ip, options.info.port));
    w.field("hostname", options.info.hostname).field("start_time", to_unix_seconds(started_at));
    if (leader) w.field("master_hostname", leader->host);
    write_resources(w, "resources", options.info.total, options.info.ports.str());
    w.key("attributes").begin_object();
    for (const auto& [k, v] : options.info.attributes) w.field(k, v);
    w.end_object().key("flags").begin_object().field("work_dir", options.work_dir.string()).field("port", std::to_string(options.info.port)).end_object();
    w.key("frameworks").begin_array().begin_object().field("id", m.cluster_id + "-0000").field("name", "marathon");
    for (bool over : {false, true}) {
      w.key(over ? "completed_executors" : "executors").begin_array();
      for (const auto& [id, run] : runs)
        if (run->over == over) write_executor(w, *run, core.task(id));
      w.end_array();
    }
    w.end_object().end_array().key("completed_frameworks").begin_array().end_array().end_object();
    return std::move(w).take();
  };
  co_return Response::json(co_await on_strand(work));
}

asio::awaitable<Response> AgentService::Impl::statistics(Request) {
  auto self = shared_from_this();
  auto work = [this] {
    JsonWriter w;
    w.begin_array();
    for (const auto& [id, run] : runs) {
      if (run->over) continue;
      auto u = runtime_of(*run).usage(run->launch);
      w.begin_object().field("executor_id", id).field("executor_name", run->launch.spec.name).field("framework_id", core.membership().cluster_id + "-0000").field("source", id);
      w.key("statistics").begin_object().field("cpus_limit", from_milli(run->launch.spec.resources.cpus)).field("cpus_user_time_secs", u.cpus_user);
      w.field("cpus_system_time_secs", u.cpus_system).field("mem_limit_bytes", u.memory_limit).field("mem_rss_bytes", u.memory_rss).field("processes", u.processes);
      w.field("timestamp", to_unix_seconds(system_now().wall)).end_object().end_object();
    }
    w.end_array();
    return std::move(w).take();
  };
  co_return Response::json(co_await on_strand(work));
}

void AgentService::add_routes(net::Router& router) {
  auto impl = impl_;
  auto dir = impl->options.work_dir;
  for (auto path : {"/state", "/state.json", "/slave(1)/state", "/slave(1)/state.json"}) router.on("GET", path, [impl](Request r) { return impl->state(std::move(r)); });
  for (auto path : {"/monitor/statistics", "/monitor/statistics.json", "/slave(1)/monitor/statistics", "/containers"})
    router.on("GET", path, [impl](Request r) { return impl->statistics(std::move(r)); });
  for (auto end : {"", ".json"}) {
    router.on("GET", std::string("/files/browse") + end, [dir](Request r) { return browse(dir, std::move(r)); });
    router.on("GET", std::string("/files/read") + end, [dir](Request r) { return read(dir, std::move(r)); });
    router.on("GET", std::string("/files/download") + end, [dir](Request r) { return download(dir, std::move(r)); });
  }
}

}  // namespace croft::agent
