#pragma once
#include "peers.hpp"

namespace fibonacci {

/// Answers GET [prefix]/{n} and GET [prefix]/healthcheck/. One thread; a waiting request costs a coroutine, never a thread.
class Server {
 public:
  Server(asio::io_context& io, Peers& peers) : io_(io), peers_(peers), acceptor_(io) {}
  /// Throws boost::system::system_error when the port is taken.
  void listen(std::uint16_t port);
  /// No new connections; returns when the open requests are answered, at most after `limit`.
  asio::awaitable<void> drain(std::chrono::milliseconds limit);

 private:
  struct Reply { int status; std::string body; };
  asio::awaitable<void> accept();
  asio::awaitable<void> serve(tcp::socket socket);
  asio::awaitable<Reply> answer(std::string method, std::string target);
  asio::awaitable<Reply> number(std::uint32_t n);
  asio::awaitable<Reply> health();

  asio::io_context& io_;
  Peers& peers_;
  tcp::acceptor acceptor_;
  std::size_t open_ = 0;  // requests being answered
  bool draining_ = false;
};

}  // namespace fibonacci
