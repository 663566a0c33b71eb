// fibonacci: answers /{n} by asking other instances of itself for n-1 and n-2.  usage: fibonacci [--port N]

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "server.hpp"

namespace {

/// A setting by its plain name, DISCOVERY_HOST, or the dotted one that programs of the Spring kind have, discovery.host.
const char* from_env(const char* name, const char* otherwise) {
  std::string dotted(name);
  for (char& c : dotted) c = c == '_' ? '.' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* known : {name, dotted.c_str()})
    if (const char* value = std::getenv(known); value && *value) return value;
  return otherwise;
}

fibonacci::DiscoveryOptions discovery_from_env() {
  fibonacci::DiscoveryOptions options;
  std::string url = from_env("CROFT_DNS_URL", "http://127.0.0.1:8123");  // set by croft in every task
  if (url.starts_with("http://")) url.erase(0, 7);
  auto colon = url.find(':');
  options.host = from_env("DISCOVERY_HOST", url.substr(0, colon).c_str());
  std::string port = from_env("DISCOVERY_PORT", colon == std::string::npos ? "8123" : url.substr(colon + 1).c_str());
  options.port = static_cast<std::uint16_t>(std::atoi(port.c_str()));
  options.service = fibonacci::srv_name(from_env("DISCOVERY_SERVICE", "fibonacci-service"));
  return options;
}

boost::asio::awaitable<void> until_told(fibonacci::Server& server, boost::asio::io_context& io, int delay_ms, std::uint16_t port) {
  boost::system::error_code ec;
  if (delay_ms > 0) {  // for trying out grace periods: a service that takes its time to start
    boost::asio::steady_timer timer(io, std::chrono::milliseconds(delay_ms));
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  }
  server.listen(port);
  boost::asio::signal_set signals(io, SIGTERM, SIGINT);
  co_await signals.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  co_await server.drain(std::chrono::seconds(2));
  io.stop();
}

}  // namespace

int main(int argc, char** argv) {
  int port = std::atoi(from_env("PORT0", "8099"));
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--port") == 0 && i + 1 < argc) port = std::atoi(argv[++i]);
    else return std::fprintf(stderr, "usage: fibonacci [--port N]\n"), 2;
  }
  if (port < 1 || port > 65535) return std::fprintf(stderr, "fibonacci: the port must be 1 to 65535\n"), 2;
  int delay_ms = std::atoi(from_env("START_DELAY_MS", "0"));
  try {
    boost::asio::io_context io(1);
    fibonacci::Peers peers(io, discovery_from_env());
    fibonacci::Server server(io, peers);
    boost::asio::co_spawn(io, until_told(server, io, delay_ms, static_cast<std::uint16_t>(port)), [](std::exception_ptr e) {
      if (e) std::rethrow_exception(e);
    });
    io.run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "fibonacci: %s\n", e.what());
    return 1;
  }
  return 0;
}
