#include "peers.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <random>

namespace fibonacci {

namespace beast = boost::beast;
namespace http = beast::http;
using namespace std::chrono_literals;

namespace {

constexpr auto remembered = 200ms;       // how long an answer of discovery is used
constexpr auto call_limit = 10s;
constexpr auto discovery_limit = 2s;
constexpr std::size_t idle_max = 64;     // kept connections an instance
constexpr std::size_t answer_max = 1u << 20;

std::uint64_t random_number() {
  static std::mt19937_64 engine{std::random_device{}()};
  return engine();
}

}  // namespace

struct Peers::Connection {
  explicit Connection(asio::io_context& io) : stream(io) {}
  beast::tcp_stream stream;
  beast::flat_buffer buffer{answer_max};
  bool fresh = true;
};

std::string srv_name(std::string_view configured) {
  std::string name(configured);
  if (!name.empty() && name.back() == '.') name.pop_back();
  if (name.starts_with('_')) return name + ".";
  if (name.ends_with(".marathon.mesos")) name.resize(name.size() - std::string_view(".marathon.mesos").size());
  std::replace(name.begin(), name.end(), '.', '-');
  return "_" + name + "._tcp.marathon.mesos.";
}

void log_line(const std::string& json) {
  auto line = json + "\n";
  if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) return;  // nobody reads our log; the answer still counts
}

std::string timestamp() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                parts.tm_min, parts.tm_sec, now.tv_nsec / 1'000'000);
  return text;
}

asio::awaitable<Outcome> Peers::exchange(std::shared_ptr<Connection> connection, Instance from, std::string target) {
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  if (connection->fresh) {
    auto address = asio::ip::make_address(from.host == "localhost" ? "127.0.0.1" : from.host, ec);
    if (ec) co_return std::unexpected("'" + from.host + "' is not an address");
    tcp::endpoint to(address, from.port);
    co_await connection->stream.async_connect(to, token);
    if (ec) co_return std::unexpected("connect: " + ec.message());
    connection->stream.socket().set_option(tcp::no_delay(true), ec);
  }
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, from.host + ":" + std::to_string(from.port));
  co_await http::async_write(connection->stream, request, token);
  if (ec) co_return std::unexpected("send: " + ec.message());
  http::response<http::string_body> response;
  co_await http::async_read(connection->stream, connection->buffer, response, token);
  if (ec) co_return std::unexpected("receive: " + ec.message());
  connection->fresh = false;
  auto& kept = idle_[from];
  if (response.keep_alive() && kept.size() < idle_max) kept.push_back(connection);
  co_return Answer{static_cast<int>(response.result_int()), std::move(response.body())};
}

asio::awaitable<Outcome> Peers::get(Instance from, std::string target, std::chrono::milliseconds limit) {
  for (;;) {
    auto& kept = idle_[from];
    auto connection = kept.empty() ? std::make_shared<Connection>(io_) : kept.back();
    if (!kept.empty()) kept.pop_back();
    bool reused = !connection->fresh;
    connection->stream.expires_after(limit);
    auto answer = co_await exchange(connection, from, target);
    if (answer || !reused) co_return answer;  // a kept connection may have been closed meanwhile: then once more on a new one
  }
}

asio::awaitable<std::expected<std::vector<Instance>, std::string>> Peers::look_up() {
  Instance discovery{options_.host, options_.port};
  std::string target = "/v1/services/" + options_.service;
  auto answer = co_await get(discovery, target, discovery_limit);
  if (!answer) co_return std::unexpected("discovery at " + options_.host + ":" + std::to_string(options_.port) + ": " + answer.error());
  if (answer->status != 200) co_return std::unexpected("discovery answered " + std::to_string(answer->status));
  boost::system::error_code ec;
  auto document = boost::json::parse(answer->body, ec);
  if (ec || !document.is_array()) co_return std::unexpected("discovery's answer is no JSON array");
  std::vector<Instance> found;
  for (const auto& entry : document.get_array()) {
    const auto* object = entry.if_object();
    const auto* ip = object ? object->if_contains("ip") : nullptr;
    const auto* port = object ? object->if_contains("port") : nullptr;
    if (!ip || !port || !ip->is_string() || !port->is_string()) continue;
    unsigned number = 0;
    std::string_view text = port->get_string();
    std::from_chars(text.data(), text.data() + text.size(), number);
    if (number > 0 && number < 65536) found.push_back({std::string(ip->get_string()), static_cast<std::uint16_t>(number)});
  }
  if (!found.empty()) known_ = found, known_at_ = std::chrono::steady_clock::now();
  co_return found;
}

/// A remembered answer is good for a moment; while one coroutine asks again, the others go on with what is known.
asio::awaitable<std::vector<Instance>> Peers::instances() {
  auto now = std::chrono::steady_clock::now();
  if (!known_.empty() && (asking_ || now - known_at_ < remembered)) co_return known_;
  asking_ = true;
  (void)co_await look_up();
  asking_ = false;
  co_return known_;
}

asio::awaitable<Outcome> Peers::ask(std::uint32_t n) {
  auto all = co_await instances();
  if (all.empty()) co_return std::unexpected("no instance of " + options_.service + " is known");
  if (turn_ == 0) turn_ = random_number() % 1000;
  Outcome last = std::unexpected("");
  std::size_t first = turn_++;
  Instance failed;
  for (std::size_t attempt = 0; attempt < 2; ++attempt) {
    if (attempt > 0) {  // it may be gone, and others with it: ask who is there now
      (void)co_await look_up();
      all = known_;
    }
    auto to = all[first % all.size()];
    if (attempt > 0 && to == failed) to = all[(first + 1) % all.size()];
    failed = to;
    auto begun = std::chrono::steady_clock::now();
    std::string target = "/" + std::to_string(n);
    last = co_await get(to, target, call_limit);
    auto took = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count();
    bool good = last && last->status == 200;
    char line[512];
    std::snprintf(line, sizeof line,
                  R"({"@timestamp":"%s","level":"%s","message":"asked %s:%u for %u, took %.3f ms","n":%u,"called_host":"%s","called_port":%u,"took_ms":%.3f})",
                  timestamp().c_str(), good ? "INFO" : "WARN", to.host.c_str(), to.port, n, took, n, to.host.c_str(), to.port, took);
    log_line(line);
    if (good) co_return last;
    if (last) last = std::unexpected(to.host + ":" + std::to_string(to.port) + " answered " + std::to_string(last->status));
    else last = std::unexpected(to.host + ":" + std::to_string(to.port) + ": " + last.error());
  }
  co_return last;
}

}  // namespace fibonacci
