#pragma once
// The one stream type of server and client: TCP or unix, with Beast's time-outs. Private to http_server.cpp and http_client.cpp.

#include <boost/asio/any_io_executor.hpp>
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

namespace croft::net {

namespace beast = boost::beast;
namespace http = beast::http;
using Socket = asio::generic::stream_protocol::socket;
using Stream = beast::basic_stream<asio::generic::stream_protocol, asio::any_io_executor>;

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
