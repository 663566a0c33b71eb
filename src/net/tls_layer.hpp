#pragma once
// TLS on one connected socket. Private to net: http_server.cpp and http_client.cpp reach it through Stream (beast_stream.hpp).

#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "net/tls.hpp"

namespace croft::net {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;

/// OpenSSL works on the socket itself, without buffers in between, so that an idle connection costs little; readiness comes from Asio.
///
/// Handlers run on the socket's executor (a strand) and never from within the call. One read and one write may be under way at once. An operation
/// that is not over at its deadline closes the socket and ends with beast::error::timeout. The socket outlives the layer's operations because
/// the connection's coroutines wait for them.
class TlsLayer {
 public:
  using error_code = boost::system::error_code;
  using Done = std::move_only_function<void(error_code, std::size_t)>;
  using Deadline = std::chrono::steady_clock::time_point;

  TlsLayer(Socket& socket, const TlsServer& server);
  /// `name` is checked against the certificate where no identity is expected, and told the server (SNI) when it is no address.
  TlsLayer(Socket& socket, const TlsClient& client, const std::string& name, secure::Expectation expect);
  ~TlsLayer();
  TlsLayer(const TlsLayer&) = delete;
  TlsLayer& operator=(const TlsLayer&) = delete;

  void handshake(Deadline until, Done done);
  void read_some(asio::mutable_buffer into, Deadline until, Done done);
  void write_some(asio::const_buffer from, Deadline until, Done done);
  /// Room for pieces that shall go out as one record; valid until the next call.
  std::string& staging();
  /// Says good-bye (close_notify), so that the peer knows it has everything; does not wait for an answer.
  void say_goodbye();
  /// Decrypted bytes that nobody has read yet.
  [[nodiscard]] bool has_unread() const;

  /// After the handshake. Nothing: the peer has shown no certificate. Errors: invalid (it is not one of croft's hosts).
  Result<std::shared_ptr<const secure::Certificate>> peer() const;
  /// After a handshake that failed: what was wrong, for people; its code is forbidden where the peer is not who it should be.
  [[nodiscard]] const Error& why() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::net
