// A client that sends any bytes and closes: the server answers or hangs up, and the connection is gone. Also the readers of targets and packed bodies.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "net/gzip.hpp"
#include "net/http_server.hpp"

namespace {

using namespace croft;
using namespace croft::net;

struct Served {
  Served() {
    auto answer = [](Request r) -> asio::awaitable<Response> { co_return Response::text(r.method + r.path + r.body + std::string(r.headers.get("X-Any"))); };
    auto router = std::make_shared<Router>();
    router->on("GET", "/a/{id}", answer);
    router->on("*", "/{*rest}", answer);
    router->body_limit("/a/{id}", 100);
    ServerOptions options;
    options.body_max = 4000;
    server = std::make_unique<HttpServer>(io.get_executor(), std::shared_ptr<const Router>(router), options);
    if (!server->listen_unix(path)) std::abort();
  }
  ~Served() { ::unlink(path.c_str()); }

  void hear(std::string_view bytes) {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::strcpy(to.sun_path, path.c_str());
    if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) std::abort();
    (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(fd, SHUT_WR);
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    bool came = false;
    while (!came || server->connections() > 0) {
      io.run_one_for(std::chrono::milliseconds(100));
      io.restart();
      came = came || server->connections() > 0 || ::recv(fd, sink, sizeof sink, MSG_DONTWAIT) == 0;
      while (::recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {}
      if (std::chrono::steady_clock::now() > end) std::abort();  // a connection whose client has gone is held
    }
    ::close(fd);
  }

  std::string path = "/dev/shm/croft-fuzz-http." + std::to_string(::getpid());
  asio::io_context io{1};
  std::unique_ptr<HttpServer> server;
  char sink[65536];
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static auto* served = new Served;
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 8 == 0) {
    if (auto plain = gunzip(bytes, 100'000); plain && gunzip(gzip(*plain), 100'000) != plain) std::abort();
    Query query(bytes);
    (void)query.get("a");
    return 0;
  }
  served->hear(bytes);
  return 0;
}
