#include "agent/run_folder.hpp"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/text.hpp"
#include "model/link_json.hpp"

namespace croft::agent {

namespace {

constexpr std::size_t exit_max = 4096, failure_max = 4000;

/// "key=value" pieces of an executor's line.
std::optional<std::int64_t> number_in(std::string_view line, std::string_view key) {
  for (const auto& word : split(trim(line), ' '))
    if (word.starts_with(key) && word.size() > key.size() && word[key.size()] == '=') return to_int(word.substr(key.size() + 1));
  return std::nullopt;
}

std::string megabytes(Milli mib) { return print_number(from_milli(mib)) + " MiB"; }

}  // namespace

Status write_record(const fs::path& run, const RunRecord& record) {
  JsonWriter w;
  w.begin_object().field("format", 1).key("spec");
  link::write(w, record.spec);
  w.field("goal", static_cast<int>(record.goal));
  if (record.draining_since) w.field("draining_ms", record.draining_since->time_since_epoch().count());
  w.field("sandbox", record.sandbox).field("boot_id", record.boot_id).end_object();
  return replace_file(run / "task.json", w.str(), 0600);  // a power cut ends the task as well
}

Result<RunRecord> read_record(const fs::path& run) {
  auto file = run / "task.json";
  auto text = read_file(file);
  if (!text) return fail(std::move(text).error());
  auto parsed = json::parse(*text);
  if (!parsed) return fail(Errc::corrupt, "{}: {}", file.string(), parsed.error().context);
  const auto* spec = json::find(*parsed, "spec");
  auto read = spec ? link::spec_from(*spec) : Result<TaskSpec>(fail(Errc::corrupt, "'spec' is missing"));
  if (!read) return fail(Errc::corrupt, "{}: {}", file.string(), read.error().context);
  RunRecord record;
  record.spec = std::move(*read);
  auto goal = json::integer(*parsed, "goal");
  record.goal = goal == 1 ? link::Goal::drain : goal == 2 ? link::Goal::kill : link::Goal::run;
  if (json::find(*parsed, "draining_ms")) record.draining_since = Wall(Millis(json::integer(*parsed, "draining_ms")));
  record.sandbox = json::text(*parsed, "sandbox");
  record.boot_id = json::text(*parsed, "boot_id");
  return record;
}

bool never_recorded(const fs::path& run) {
  std::error_code ec;
  auto there = [&](const char* name) { return fs::symlink_status(run / name, ec).type() != fs::file_type::not_found; };  // what cannot be looked at is there
  auto launch_failed = [&] {  // told of one whose record did not reach the disk
    auto exit = read_exit(run);
    return exit && !exit->failure.empty();
  };
  return !there("task.json") && !there("exec.conf") && !there("ctl") && !there("started") && (!there("exit") || launch_failed());
}

std::optional<RunExit> parse_exit(std::string_view line) {
  line = trim(line);
  RunExit out;
  if (line.starts_with("failed ")) {
    out.failure = line.substr(7);
    out.code = 127;
    return out;
  }
  if (!line.starts_with("exit ")) return std::nullopt;
  auto code = number_in(line, "code"), signal = number_in(line, "signal"), oom = number_in(line, "oom"), at = number_in(line, "at");
  if (!code || !signal) return std::nullopt;
  out.code = static_cast<int>(*code);
  out.signal = static_cast<int>(*signal);
  out.oom = oom.value_or(0) > 0;
  out.at = Wall(Millis(at.value_or(0)));
  return out;
}

std::optional<std::uint32_t> parse_oom(std::string_view line) {
  if (!line.starts_with("oom ")) return std::nullopt;
  auto count = number_in(trim(line), "count");
  return count && *count > 0 ? std::optional(static_cast<std::uint32_t>(*count)) : std::nullopt;
}

std::string told_of_memory(const TaskSpec& spec) {
  return fmt::format("the kernel killed a process of it for using more than its {} of mem", megabytes(spec.mem_limit.value_or(spec.resources.mem)));
}

RunEnd end_of(const RunExit& exit, const TaskSpec& spec, bool asked, const std::string& unhealthy) {
  if (!exit.failure.empty()) return {TaskState::failed, "REASON_CONTAINER_LAUNCH_FAILED", exit.failure};
  // A process that was killed for its memory long ago is no reason for the end that the farm asked for, or that was no failure.
  auto earlier = exit.oom ? "; earlier " + told_of_memory(spec) : "";
  if (!unhealthy.empty()) return {TaskState::killed, "REASON_TASK_HEALTH_CHECK_KILLED", unhealthy + earlier};
  if (asked) return {TaskState::killed, "REASON_COMMAND_EXECUTOR_FAILED", "Command terminated by the farm"};
  const char* what = spec.docker ? "Container" : "Command";
  if (exit.code == 0 && exit.signal == 0) return {TaskState::finished, "", fmt::format("{} exited with status 0{}", what, earlier)};
  if (exit.oom && (exit.signal == SIGKILL || exit.code == 128 + SIGKILL))  // a shell tells of its command's end so
    return {TaskState::failed, "REASON_CONTAINER_LIMITATION_MEMORY",
            fmt::format("Memory limit exceeded: the kernel killed it for using more than its {} of mem", megabytes(spec.mem_limit.value_or(spec.resources.mem)))};
  if (exit.signal) return {TaskState::failed, "REASON_COMMAND_EXECUTOR_FAILED", fmt::format("Command terminated with signal {}{}", strsignal(exit.signal), earlier)};
  return {TaskState::failed, "REASON_COMMAND_EXECUTOR_FAILED", fmt::format("{} exited with status {}{}", what, exit.code, earlier)};
}

std::optional<RunStart> parse_started(std::string_view line) {
  if (!line.starts_with("started ")) return std::nullopt;
  auto pid = number_in(line, "pid"), ticks = number_in(line, "start"), at = number_in(line, "at");
  if (!pid || !ticks) return std::nullopt;
  return RunStart{static_cast<int>(*pid), static_cast<std::uint64_t>(*ticks), Wall(Millis(at.value_or(0)))};
}

Status write_failure(const fs::path& run, std::string why) {
  std::replace_if(why.begin(), why.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  why.resize(std::min(why.size(), failure_max));
  return write_file_atomic(run / "exit", "failed " + why + "\n", 0600);
}

std::optional<RunExit> read_exit(const fs::path& run) {
  auto text = read_file(run / "exit", exit_max);
  return text ? parse_exit(*text) : std::nullopt;
}

std::optional<RunStart> read_started(const fs::path& run) {
  auto text = read_file(run / "started", 4096);
  return text ? parse_started(*text) : std::nullopt;
}

Status write_verdict(const fs::path& run, const RunVerdict& verdict) {
  std::string text = "alive=";
  for (auto alive : verdict.alive) text += !alive ? '-' : *alive ? '1' : '0';
  text += fmt::format(" ready={}\n", verdict.ready ? 1 : 0);
  return replace_file(run / "health", text, 0600);
}

std::optional<RunVerdict> read_verdict(const fs::path& run) {
  auto text = read_file(run / "health", 4096);
  if (!text) return std::nullopt;
  auto words = split(trim(*text), ' ');
  if (words.size() != 2 || !words[0].starts_with("alive=") || (words[1] != "ready=0" && words[1] != "ready=1")) return std::nullopt;
  RunVerdict verdict;
  verdict.ready = words[1] == "ready=1";
  for (char c : words[0].substr(6)) {
    if (c != '-' && c != '0' && c != '1') return std::nullopt;
    verdict.alive.push_back(c == '-' ? std::nullopt : std::optional(c == '1'));
  }
  return verdict;
}

std::uint64_t process_start_ticks(int pid) {
  auto text = read_file(fmt::format("/proc/{}/stat", pid), 4096);
  if (!text) return 0;
  auto close = text->rfind(')');
  if (close == std::string::npos) return 0;
  auto fields = split(std::string_view(*text).substr(close + 2), ' ');
  return fields.size() > 19 ? static_cast<std::uint64_t>(to_int(fields[19]).value_or(0)) : 0;
}

std::string boot_id() {
  auto text = read_file("/proc/sys/kernel/random/boot_id", 256);
  return text ? std::string(trim(*text)) : "";
}

bool tell_kill(const fs::path& run) {
  Fd folder(::open(run.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  auto path = fmt::format("/proc/self/fd/{}/ctl", folder.get());
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return false;
  return ::send(fd.get(), "kill\n", 5, MSG_NOSIGNAL) == 5;
}

}  // namespace croft::agent
