#pragma once
// Both ends of a connection by hand: bytes as they are on the wire, and threads that run coroutines meanwhile. Whatever waits has a deadline
// and throws behind it, so that a test which hangs fails.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <chrono>
#include <functional>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/text.hpp"
#include "net/http_server.hpp"

namespace croft::net {

using Ms = std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;
constexpr Ms patience{4000};

class Loop {
 public:
  asio::any_io_executor executor() { return pool_.get_executor(); }
  template <class T>
  T run(asio::awaitable<T> work) {
    auto done = asio::co_spawn(pool_, std::move(work), asio::use_future);
    if (done.wait_for(patience) != std::future_status::ready) throw std::runtime_error("a coroutine does not end");
    return done.get();
  }
  ~Loop() { pool_.stop(), pool_.join(); }

 private:
  asio::thread_pool pool_{2};
};

inline bool comes_true(const std::function<bool()>& so, Ms within = patience) {
  for (auto end = Steady::now() + within; Steady::now() < end;) {
    if (so()) return true;
    std::this_thread::sleep_for(Ms(1));
  }
  return so();
}

struct Answer {
  int status = 0;
  Headers headers;
  std::string body;
};

/// One end of a connection.
class Wire {
 public:
  explicit Wire(int fd) : fd_(fd) {
    timeval limit{patience.count() / 1000, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  Wire(Wire&& other) noexcept : fd_(std::exchange(other.fd_, -1)), got_(std::move(other.got_)) {}
  Wire& operator=(Wire&&) = delete;
  ~Wire() { close(); }

  static Wire tcp(std::uint16_t port, int receive_buffer = 0) {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer) ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return refused(fd);
    return Wire(fd);
  }
  static Wire local(const std::string& path) {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path.copy(to.sun_path, sizeof to.sun_path - 1);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return refused(fd);
    return Wire(fd);
  }

  /// False when the peer took it no more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  /// The peer sees a reset instead of an end.
  void reset() {
    linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }

  std::string line() {
    auto at = find("\r\n");
    auto out = got_.substr(0, at);
    got_.erase(0, at + 2);
    return out;
  }
  std::string bytes(std::size_t n) {
    while (got_.size() < n)
      if (!more(patience)) throw std::runtime_error("cut after: " + got_.substr(0, 200));
    auto out = got_.substr(0, n);
    got_.erase(0, n);
    return out;
  }
  /// Everything until the peer closes.
  std::string rest() {
    while (more(patience)) {}
    return std::exchange(got_, {});
  }
  /// Whether the peer closes, without another byte, before the time is over.
  bool closed(Ms within = patience) {
    if (!got_.empty()) return false;
    try {
      return !more(within);
    } catch (const std::runtime_error&) {
      return false;
    }
  }

  Answer head() {
    Answer a;
    auto first = line();
    if (!first.starts_with("HTTP/1.")) throw std::runtime_error("not an answer: " + first);
    a.status = static_cast<int>(to_int(first.substr(9, 3)).value_or(0));
    for (auto text = line(); !text.empty(); text = line()) {
      auto colon = text.find(':');
      a.headers.add(text.substr(0, colon), trim(std::string_view(text).substr(colon + 1)));
    }
    return a;
  }
  Answer answer(bool without_body = false) {
    auto a = head();
    if (without_body) return a;
    if (iequals(a.headers.get("Transfer-Encoding"), "chunked")) {
      for (auto piece = chunk(); !piece.empty(); piece = chunk()) a.body += piece;
    } else if (a.headers.has("Content-Length")) {
      a.body = bytes(static_cast<std::size_t>(to_int(a.headers.get("Content-Length")).value()));
    } else if (a.status >= 200 && a.status != 204 && a.status != 304) {
      a.body = rest();
    }
    return a;
  }
  /// One chunk; "" is the last.
  std::string chunk() {
    auto size = std::stoul(line(), nullptr, 16);
    auto out = bytes(size);
    if (!line().empty()) throw std::runtime_error("a chunk that does not end");
    return out;
  }
  /// A request up to its empty line, for fake servers that read the body by chunk().
  void head_of_request() {
    while (!line().empty()) {}
  }
  /// A request's head and body, for fake servers. Nothing when the client closed instead.
  std::optional<std::string> request() {
    while (got_.find("\r\n\r\n") == std::string::npos)
      if (!more(patience)) return std::nullopt;
    auto end = got_.find("\r\n\r\n") + 4;
    auto head = bytes(end);
    auto at = head.find("Content-Length: ");
    return at == std::string::npos ? head : head + bytes(std::stoul(head.substr(at + 16)));
  }

 private:
  static Wire refused(int fd) {
    ::close(fd);
    throw std::runtime_error("no connection");
  }
  std::size_t find(std::string_view what) {
    for (;;) {
      if (auto at = got_.find(what); at != std::string::npos) return at;
      if (!more(patience)) throw std::runtime_error("cut after: " + got_.substr(0, 200));
    }
  }
  /// False at the end of the connection.
  bool more(Ms within) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, static_cast<int>(within.count())) <= 0) throw std::runtime_error("nothing comes after: " + got_.substr(0, 200));
    char block[65536];
    auto n = ::recv(fd_, block, sizeof block, 0);
    if (n <= 0) return false;
    got_.append(block, static_cast<std::size_t>(n));
    return true;
  }

  int fd_;
  std::string got_;
};

/// A server that says what the test wants: each connection is given to the script in turn, on one thread.
class FakeServer {
 public:
  explicit FakeServer(std::vector<std::function<void(Wire&)>> scripts) : scripts_(std::move(scripts)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(fd_, 16) != 0) throw std::runtime_error("no listener");
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] {
      for (auto& script : scripts_) {
        int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) return;
        ++accepted_;
        Wire wire(fd);
        try {
          script(wire);
        } catch (const std::exception&) {  // the client went; the test sees what it made of it
        }
      }
    });
  }
  FakeServer(const FakeServer&) = delete;
  ~FakeServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] int accepted() const { return accepted_; }

 private:
  std::vector<std::function<void(Wire&)>> scripts_;
  int fd_;
  std::uint16_t port_ = 0;
  std::atomic<int> accepted_{0};
  std::thread thread_;
};

/// A server with routes, on loopback.
class Served {
 public:
  explicit Served(Router router, ServerOptions options = {}, Metrics* metrics = nullptr)
      : server_(std::make_unique<HttpServer>(loop_.executor(), std::make_shared<const Router>(std::move(router)), std::move(options), metrics)) {
    port_ = server_->listen("127.0.0.1", 0).value();
  }
  ~Served() {
    if (server_) loop_.run(server_->stop(Ms(100)));
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  Wire connect() const { return Wire::tcp(port_); }
  /// One request on a connection of its own.
  Answer ask(std::string_view bytes) const {
    auto wire = connect();
    wire.send(bytes);
    return wire.answer(bytes.starts_with("HEAD"));
  }
  HttpServer& server() { return *server_; }
  Loop& loop() { return loop_; }

 private:
  Loop loop_;
  std::unique_ptr<HttpServer> server_;
  std::uint16_t port_ = 0;
};

inline std::string get(std::string_view target, std::string_view fields = "") { return fmt::format("GET {} HTTP/1.1\r\nHost: h\r\n{}\r\n", target, fields); }
inline std::string post(std::string_view target, std::string_view body, std::string_view fields = "") {
  return fmt::format("POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n{}\r\n{}", target, body.size(), fields, body);
}
inline std::string chunk_of(std::string_view bytes) { return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes); }

}  // namespace croft::net
