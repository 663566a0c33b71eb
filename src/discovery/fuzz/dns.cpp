// DNS packets of any bytes against a zone with names, over UDP and TCP: an answer keeps to its bounds and is itself a message.
#include <array>
#include <cstdint>
#include <cstdlib>

#include "../tests/builders.hpp"
#include "discovery/dns_codec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft::discovery;
  static const auto zone = zone_of(content_of({endpoint("a.1"), endpoint("a.2"), endpoint("b.1", "/web", "c-S2", 31001)}));
  static std::array<char, message_max> out;
  if (size == 0) return 0;
  std::string_view packet(reinterpret_cast<const char*>(data) + 1, size - 1);
  static const CookieJar jar({1, 2});
  ReplyOptions options{.tcp = (data[0] & 1) != 0, .recursion = (data[0] & 2) != 0, .turn = data[0], .cookies = (data[0] & 8) != 0 ? &jar : nullptr, .address = "\1\2\3\4", .now = 5};
  (void)has_valid_cookie(packet, options);
  auto room = options.tcp ? message_max : udp_answer_max;
  auto reply = reply_to(packet, *zone, options, std::span(out.data(), room));
  if (reply.action == Reply::Action::send && (reply.size < header_size || reply.size > room)) std::abort();
  if (reply.action == Reply::Action::send && !options.tcp && reply.size > reply.limit) std::abort();
  Question q;
  if (parse_question(packet, q) == Verdict::fine && (q.end > packet.size() || q.name_size > q.name.size())) std::abort();
  (void)error_reply(packet, Rcode::servfail, options.recursion, (data[0] & 4) != 0);
  return 0;
}
