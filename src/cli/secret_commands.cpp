// Secrets of apps: values go in and never come out.

#include <unistd.h>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

constexpr std::size_t value_max = 64u << 10;

std::string in_path(const std::string& name) { return "/croft/v1/secrets" + in_url(absolute(name)); }

std::string value_from(const std::string& file) {
  if (file.empty() && ::isatty(STDIN_FILENO) == 1) return secret_line("value");
  auto bytes = read_file(file.empty() ? "/dev/stdin" : file, value_max + 1);
  if (!bytes) throw Ended{usage, bytes.error().code == Errc::too_large ? fmt::format("a secret has at most {} bytes", value_max) : bytes.error().context};
  if (file.empty() && bytes->ends_with('\n')) bytes->pop_back();
  if (bytes->empty()) throw Ended{usage, fmt::format("{}: no value was given", file.empty() ? "stdin" : file)};
  return std::move(*bytes);
}

}  // namespace

int secret_set(Session& s, const std::string& name, const std::string& file) {
  auto value = value_from(file);
  bool file_only = value.find('\0') != std::string::npos;
  JsonWriter w;
  w.begin_object().field("base64", base64_encode(value)).end_object();
  auto answer = s.must("PUT", in_path(name), std::move(w).take());
  if (s.common().json) return print(answer.body + "\n"), ok;
  print(fmt::format("{}: version {}\n", absolute(name), json::integer(answer.json(), "version")));
  if (file_only && !s.common().quiet) std::fprintf(stderr, "note: it holds a NUL byte: tasks can have it as a file, but not as a variable of their environment\n");
  return ok;
}

int secret_list(Session& s) {
  auto answer = s.must("GET", "/croft/v1/secrets");
  if (s.common().json) return print(answer.body + "\n"), ok;
  std::vector<std::vector<std::string>> rows{{"NAME", "VERSION", "BYTES", "CHANGED", "BY", "USED BY"}};
  auto body = answer.json();
  for (const auto& one : json::list(body, "secrets"))
    rows.push_back({json::text(one, "name"), std::to_string(json::integer(one, "version")), std::to_string(json::integer(one, "bytes")), json::text(one, "changed"), json::text(one, "changed_by"),
                    join(json::texts(one, "used_by"), " ")});
  print(rows.size() > 1 ? table(rows) : "No secrets that you may know of. croft secret set /GROUP/NAME makes one.\n");
  return ok;
}

int secret_remove(Session& s, const std::string& name) {
  auto answer = s.must("DELETE", in_path(name));
  if (s.common().json) print(answer.body + "\n");
  else print(fmt::format("{}: removed\n", absolute(name)));
  return ok;
}

}  // namespace croft::cli
