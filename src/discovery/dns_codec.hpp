#pragma once
// DNS messages: questions in, answers out. Pure; safe against any bytes. Source: RFC 1035, 2308, 2782, 6891, 7766, 7873.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "discovery/cookies.hpp"
#include "discovery/zone.hpp"

namespace croft::discovery {

enum class Rcode : std::uint8_t { noerror = 0, formerr = 1, servfail = 2, nxdomain = 3, notimp = 4, refused = 5, badvers = 16 };
std::string_view to_string(Rcode code);

constexpr std::size_t header_size = 12;
constexpr std::size_t udp_answer_max = 1232;    ///< no fragments on any common network
constexpr std::size_t plain_udp_max = 512;      ///< for those who do not say EDNS
constexpr std::size_t message_max = 65535;

struct Question {
  std::uint16_t id = 0, flags = 0, type = 0, cls = 0;
  std::array<char, 256> name;                   ///< wire form, lower case
  std::uint8_t labels = 0;
  std::array<std::uint8_t, 128> starts;         ///< where each label begins in name
  std::size_t name_size = 0;                    ///< with the root's zero byte
  std::size_t end = 0;                          ///< offset behind the question section
  bool edns = false;
  std::uint16_t udp_size = plain_udp_max;
  std::uint8_t edns_version = 0;
  std::array<char, 40> cookie;                  ///< as it was sent: 8 bytes, or 16 to 40
  std::size_t cookie_size = 0;                  ///< 0: none
  [[nodiscard]] std::string_view sent_cookie() const { return {cookie.data(), cookie_size}; }
  [[nodiscard]] std::string_view wire() const { return {name.data(), name_size}; }
};

enum class Verdict : std::uint8_t {
  fine,
  silent,      ///< nobody to answer: a reply, or less than a header
  formerr, notimp,
};
Verdict parse_question(std::string_view packet, Question& q);

/// Where the zone begins in the question's name; nothing when the name is somebody else's.
std::optional<std::size_t> place_in_zone(const Question& q, const Zone& zone);

struct Reply {
  enum class Action : std::uint8_t { silent, send, forward };
  Action action = Action::silent;
  std::size_t size = 0;                         ///< bytes written
  std::size_t limit = plain_udp_max;            ///< what the asker takes, for what is forwarded
  Rcode rcode = Rcode::noerror;
  bool truncated = false;
};

struct ReplyOptions {
  bool tcp = false;
  bool recursion = false;                       ///< whether others' names are forwarded: then `forward`, else REFUSED
  std::uint32_t turn = 0;                       ///< rotates records
  const CookieJar* cookies = nullptr;           ///< whose answers bear one, where the question did; with
  std::string_view address;                     ///< the asker's, 4 or 16 bytes, and
  std::uint32_t now = 0;                        ///< seconds since 1970
};
/// Whether the question bears a cookie that was given to this address.
bool has_valid_cookie(std::string_view packet, const ReplyOptions& options);

/// The whole decision for one packet. `out` holds at least 1232 bytes for UDP, 65535 for TCP.
Reply reply_to(std::string_view packet, const Zone& zone, ReplyOptions options, std::span<char> out);

/// Header and, where it was whole, question, with this code; `truncate` sets TC, which makes an honest asker come by TCP.
std::string error_reply(std::string_view packet, Rcode code, bool recursion, bool truncate = false);

}  // namespace croft::discovery
