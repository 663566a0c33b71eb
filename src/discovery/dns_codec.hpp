#pragma once
// DNS messages: questions in, answers out. Pure; safe against any bytes. Source: RFC 1035, 2782, 6891, 2308.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "discovery/zone.hpp"

namespace croft::discovery {

enum class Rcode : std::uint8_t { noerror = 0, formerr = 1, servfail = 2, nxdomain = 3, notimp = 4, refused = 5 };

struct Question {
  std::uint16_t id = 0, flags = 0, type = 0, cls = 0;
  std::string name;              ///< lower case, no trailing dot; "" is the root
  std::size_t end = 0;           ///< offset behind the question section
  bool edns = false;
  std::uint16_t udp_size = 512;
  std::uint8_t edns_version = 0;
};

/// Nothing when there is nobody to answer (a reply, less than a header). `error` is set for what gets FORMERR or NOTIMP.
struct Parsed { Question question; std::optional<Rcode> error; };
std::optional<Parsed> parse_question(std::string_view packet);

/// The answer for a question in the zone. `limit`: bytes that fit (65535 for TCP); beyond it TC is set. `turn` rotates records.
std::string answer(std::string_view packet, const Question& q, const Zone& zone, std::size_t limit, std::uint32_t turn);
/// Header and question only.
std::string refuse(std::string_view packet, const Parsed& parsed, Rcode code);
bool in_zone(const std::string& name, const Zone& zone);

}  // namespace croft::discovery
