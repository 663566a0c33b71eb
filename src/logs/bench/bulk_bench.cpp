// croft_logs_bench: log events a CPU second through POST /_bulk, and what they take on disk. Prints one JSON object.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>

#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/es_api.hpp"
#include "logs/store/store.hpp"
#include "net/async.hpp"

namespace croft::logs {
namespace {

namespace asio = boost::asio;

constexpr std::size_t events = 400'000, per_request = 2'000;

double cpu_seconds() {
  rusage u{};
  ::getrusage(RUSAGE_SELF, &u);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

/// What services print: requests with times, ids and an occasional failure.
std::vector<std::string> requests() {
  std::mt19937_64 dice(11);
  static constexpr const char* paths[] = {"/service/fibonacci/15", "/api/users", "/api/orders/open", "/healthcheck/", "/static/app.js", "/search?q=blue+shoes"};
  static constexpr const char* levels[] = {"INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"};
  std::vector<std::string> bodies;
  auto at = to_unix_seconds(system_now().wall);
  for (std::size_t n = 0; n < events;) {
    JsonWriter w;
    std::string body;
    for (std::size_t i = 0; i < per_request; ++i, ++n) {
      JsonWriter d;
      d.begin_object().field("@timestamp", to_iso8601(Wall(Millis(static_cast<std::int64_t>(at * 1000) + static_cast<std::int64_t>(n)))));
      d.field("app", fmt::format("/service/app{}", dice() % 20)).field("task", fmt::format("app.{:08x}", dice() % 60)).field("host", fmt::format("node{}", dice() % 6)).field("stream", "stdout");
      d.field("level", levels[dice() % std::size(levels)]).field("took_ms", static_cast<double>(dice() % 100000) / 100.0).field("n", dice() % 30);
      d.field("message", fmt::format("request {:016x} from 10.0.{}.{} asked {} and got {}", dice(), dice() % 256, dice() % 256, paths[dice() % std::size(paths)], dice() % 50 ? 200 : 503)).end_object();
      body += "{\"index\":{\"_index\":\"logstash-2026.11.24\"}}\n";
      body += d.str();
      body += '\n';
    }
    bodies.push_back(std::move(body));
  }
  return bodies;
}

}  // namespace
}  // namespace croft::logs

int main() {
  using namespace croft;
  using namespace croft::logs;
  log::setup(log::Level::warn);
  auto folder = std::filesystem::temp_directory_path() / ("croft-bulk-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  Metrics metrics;
  StoreOptions options;
  options.dir = folder;
  auto store = Store::open(options, metrics);
  if (!store) std::abort();
  net::BlockingPool pool(2);
  net::Router router;
  add_es_routes(router, **store, pool, {"bench", "7.17.28"});
  asio::io_context io;
  auto guard = asio::make_work_guard(io);
  std::thread runner([&io] { io.run(); });
  auto bodies = requests();
  std::size_t raw = 0;
  auto cpu = cpu_seconds();
  auto begun = std::chrono::steady_clock::now();
  for (auto& body : bodies) {
    net::Request r;
    r.method = "POST";
    r.target = r.path = "/_bulk";
    r.headers.set("Content-Type", "application/x-ndjson");
    raw += body.size();
    r.body = std::move(body);
    auto work = router.handle(std::move(r));
    auto answer = asio::co_spawn(io, std::move(work), asio::use_future).get();
    if (answer.status != 200 || answer.body.find("\"errors\":false") == std::string::npos) std::fprintf(stderr, "%d %.300s\n", answer.status, answer.body.c_str()), std::abort();
  }
  auto taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  (void)(*store)->seal();
  cpu = cpu_seconds() - cpu;
  std::uint64_t disk = 0;
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder))
    if (e.is_regular_file() && e.path().filename().string().find("wal") == std::string::npos) disk += e.file_size();
  std::printf("{\"events\":%zu,\"events_per_cpu_second\":%.0f,\"events_per_second\":%.0f,\"disk_percent_of_raw\":%.1f}\n", events, static_cast<double>(events) / cpu,
              static_cast<double>(events) / taken, 100.0 * static_cast<double>(disk) / static_cast<double>(raw));
  std::fflush(stdout);
  std::filesystem::remove_all(folder);
  std::_Exit(0);
}
