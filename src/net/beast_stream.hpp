#pragma once
// The one stream type of server and client: TCP or unix, plain or TLS, with deadlines. Private to http_server.cpp and http_client.cpp.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/fields.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>

#include "net/http.hpp"
#include "net/tls_layer.hpp"

namespace croft::net {

namespace beast = boost::beast;
namespace http = beast::http;

/// Beast's basic_stream and, once `tls` is set, TLS on its socket: one type, so that HTTP is compiled once, and a branch is all that a plain
/// connection pays.
class Stream {
 public:
  using Plain = beast::basic_stream<asio::generic::stream_protocol, asio::any_io_executor>;
  using executor_type = asio::any_io_executor;
  template <class... Args>
  explicit Stream(Args&&... args) : plain_(std::forward<Args>(args)...) {}

  std::unique_ptr<TlsLayer> tls;

  executor_type get_executor() { return plain_.get_executor(); }
  Socket& socket() { return plain_.socket(); }
  void close() { plain_.close(); }
  /// For the operations that begin from now on.
  void expires_after(std::chrono::steady_clock::duration limit) {
    if (tls) until_ = std::chrono::steady_clock::now() + limit;
    else plain_.expires_after(limit);
  }
  void expires_never() {
    if (tls) until_ = TlsLayer::Deadline::max();
    else plain_.expires_never();
  }

  template <class Endpoint, class Token>
  auto async_connect(const Endpoint& to, Token&& token) { return plain_.async_connect(to, std::forward<Token>(token)); }

  template <class Token>
  auto async_handshake(Token&& token) {
    return asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) { tls->handshake(until_, [handler = std::move(handler)](boost::system::error_code ec, std::size_t) mutable { std::move(handler)(ec); }); }, token);
  }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        [this](auto handler, const Buffers& into) {
          if (!tls) return void(plain_.async_read_some(into, std::move(handler)));
          asio::mutable_buffer first;
          for (auto at = asio::buffer_sequence_begin(into); at != asio::buffer_sequence_end(into) && first.size() == 0; ++at) first = *at;
          tls->read_some(first, until_, std::move(handler));
        },
        token, buffers);
  }

  /// Under TLS small pieces (a header and its body) are put together, so that they go out as one record.
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        [this](auto handler, const Buffers& from) {
          if (!tls) return void(plain_.async_write_some(from, std::move(handler)));
          tls->write_some(gathered(from), until_, std::move(handler));
        },
        token, buffers);
  }

 private:
  template <class Buffers>
  asio::const_buffer gathered(const Buffers& from) {
    constexpr std::size_t record = 16384;
    std::string* staged = nullptr;
    asio::const_buffer only;
    for (auto at = asio::buffer_sequence_begin(from); at != asio::buffer_sequence_end(from); ++at) {
      asio::const_buffer piece(*at);
      if (piece.size() == 0) continue;
      if (!staged && (only.size() == 0 || only.size() >= record)) {
        if (only.size() >= record) break;
        only = piece;
        continue;
      }
      if (!staged) {
        staged = &tls->staging();
        staged->append(static_cast<const char*>(only.data()), only.size());
      }
      staged->append(static_cast<const char*>(piece.data()), std::min(piece.size(), record - staged->size()));
      if (staged->size() == record) break;
    }
    return staged ? asio::const_buffer(staged->data(), staged->size()) : only;
  }

  Plain plain_;
  TlsLayer::Deadline until_ = TlsLayer::Deadline::max();
};

inline void no_delay(Socket& socket) {
  int one = 1;
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // fails on unix sockets, which need it not
}

/// Whether a header's value (or a request's target) stays within its line.
inline bool one_line(std::string_view text) { return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos; }

/// Beast reads what the buffer has room for, and that is 512 bytes unless somebody makes more: a system call for each half KiB of a body.
template <class Parser>
void make_room(beast::flat_buffer& buffer, const Parser& parser) {
  constexpr std::uint64_t block = 65536;
  auto left = parser.content_length_remaining();
  auto want = left ? std::min<std::uint64_t>(*left, block) : block;
  if (want > buffer.size()) buffer.reserve(static_cast<std::size_t>(want));
}

inline void copy_fields(const http::fields& from, Headers& to) {
  for (const auto& field : from) to.add(std::string_view(field.name_string().data(), field.name_string().size()), std::string_view(field.value().data(), field.value().size()));
}

}  // namespace croft::net
