#include "discovery/dns_codec.hpp"

#include <algorithm>
#include <cstring>

#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

constexpr std::uint16_t type_a = 1, type_ns = 2, type_soa = 6, type_aaaa = 28, type_srv = 33, type_opt = 41, type_ixfr = 251, type_axfr = 252, type_any = 255;
constexpr std::uint16_t class_in = 1, class_any = 255;
constexpr std::uint16_t flag_qr = 0x8000, flag_aa = 0x0400, flag_tc = 0x0200, flag_rd = 0x0100, flag_ra = 0x0080, flag_cd = 0x0010;
constexpr std::size_t opt_size = 11, option_head = 4, cookie_option_size = option_head + CookieJar::size;
constexpr std::uint16_t option_cookie = 10;
constexpr int records_max = 32;   // beside the question; no honest asker sends more
constexpr std::size_t pointer_max = 0x4000;
constexpr std::size_t record_fixed = 12;         // owner as a pointer, type, class, ttl, length
constexpr std::size_t srv_fixed = record_fixed + 6;

/// Reads the question's name. A pointer in it could only point into the header, so there is none.
bool read_name(std::string_view p, std::size_t& at, Question& q) {
  for (;;) {
    if (at >= p.size()) return false;
    auto length = static_cast<unsigned char>(p[at]);
    if (length > label_max || at + 1 + length > p.size() || q.name_size + length + 1u > name_max) return false;
    if (length > 0) q.starts[q.labels++] = static_cast<std::uint8_t>(q.name_size);
    q.name[q.name_size++] = static_cast<char>(length);
    ++at;
    if (length == 0) return true;
    for (unsigned i = 0; i < length; ++i) {
      char c = p[at++];
      q.name[q.name_size++] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
  }
}

bool skip_name(std::string_view p, std::size_t& at) {
  while (at < p.size()) {
    auto length = static_cast<unsigned char>(p[at]);
    if (length == 0) return ++at, true;
    if ((length & 0xC0) == 0xC0) return at += 2, at <= p.size();
    if (length > label_max) return false;
    at += 1u + length;
  }
  return false;
}

/// Of an OPT record's options the cookie alone is looked at.
bool read_options(std::string_view options, Question& q) {
  while (options.size() >= option_head) {
    auto code = get16(options.data());
    std::size_t size = get16(options.data() + 2);
    if (option_head + size > options.size()) return false;
    if (code == option_cookie) {
      if (size != CookieJar::client_size && (size < 16 || size > q.cookie.size())) return false;
      std::memcpy(q.cookie.data(), options.data() + option_head, size);
      q.cookie_size = size;
    }
    options.remove_prefix(option_head + size);
  }
  return options.empty();
}

/// The sections behind the question matter for one thing: whether an OPT record is there.
bool read_rest(std::string_view p, std::size_t at, Question& q) {
  int before = get16(p.data() + 6) + get16(p.data() + 8), all = before + get16(p.data() + 10);
  if (all > records_max) return false;
  for (int i = 0; i < all; ++i) {
    bool root = at < p.size() && p[at] == 0;
    if (!skip_name(p, at) || at + 10 > p.size()) return false;
    auto type = get16(p.data() + at), size = get16(p.data() + at + 8);
    if (type == type_opt && i >= before) {
      if (q.edns || !root) return false;
      q.edns = true;
      q.udp_size = std::max<std::uint16_t>(plain_udp_max, get16(p.data() + at + 2));
      q.edns_version = static_cast<std::uint8_t>(p[at + 5]);
    }
    if (at + 10u + size > p.size()) return false;
    if (type == type_opt && i >= before && q.edns_version == 0 && size > 0 && !read_options(p.substr(at + 10, size), q)) return false;
    at += 10u + size;
  }
  return true;
}

/// Appends within a limit; what does not fit is not written at all.
class Writer {
 public:
  Writer(std::span<char> out, std::size_t limit, std::string_view packet, const Question& q) : out_(out), limit_(limit) {
    std::memcpy(out.data(), packet.data(), q.end);
    size_ = q.end;
  }
  bool append(std::string_view bytes) {
    if (size_ + bytes.size() > limit_) return false;
    std::memcpy(out_.data() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
    return true;
  }
  void set16(std::size_t at, std::uint16_t v) { put16(out_.data() + at, v); }
  [[nodiscard]] std::size_t size() const { return size_; }
  void cut(std::size_t to) { size_ = to; }

 private:
  std::span<char> out_;
  std::size_t limit_, size_ = 0;
};

std::uint16_t pointer_to(std::size_t offset) { return static_cast<std::uint16_t>(0xC000 | offset); }

class Answerer {
 public:
  Answerer(Writer& writer, const Question& q, const Zone& zone, std::size_t zone_at, const ReplyOptions& options)
      : w_(writer), q_(q), zone_(zone), apex_(pointer_to(header_size + zone_at)), is_apex_(zone_at == 0), tcp_(options.tcp), turn_(options.turn) {}

  Rcode run() {
    const auto* entry = find();
    bool any = q_.type == type_any;
    if (any && !tcp_ && (entry || is_apex_)) {  // everything there is, asked for with somebody else's address: he has to come by TCP
      full = true;
      return Rcode::noerror;
    }
    if (entry) {
      if (q_.type == type_srv || any) services(*entry);
      if (q_.type == type_a || any) addresses(entry->a(), Entry::a_size);
      if (q_.type == type_aaaa || any) addresses(entry->aaaa(), Entry::aaaa_size);
    }
    if (is_apex_ && (q_.type == type_soa || any)) answer(soa());
    if (is_apex_ && (q_.type == type_ns || any)) name_server();
    if (answers == 0 && !full && w_.append(soa())) authority = 1;
    if (!full && entry && (q_.type == type_srv || any)) glue(*entry);
    if (entry || (q_.type == type_srv && zone_.unknown_srv_is_noerror)) return Rcode::noerror;
    return Rcode::nxdomain;
  }

  std::uint16_t answers = 0, authority = 0, additional = 0;
  bool full = false;   // an answer was left out: TC

 private:
  /// Mesos-DNS took a label "*" behind the first as not there ("web.*.mesos"), and people have such names in their files.
  const Entry* find() const {
    const auto* entry = zone_.names.find(q_.wire());
    if (entry || q_.wire().find(std::string_view("\1*", 2)) == std::string_view::npos) return entry;
    std::string plain;
    for (std::size_t i = 0; i < q_.labels; ++i) {
      auto label = q_.wire().substr(q_.starts[i], 1u + static_cast<unsigned char>(q_.name[q_.starts[i]]));
      if (i == 0 || label != std::string_view("\1*", 2)) plain += label;
    }
    plain.push_back('\0');
    return zone_.names.find(plain);
  }

  void answer(std::string_view record) {
    if (full) return;
    if (w_.append(record)) ++answers;
    else full = true;
  }

  void addresses(std::string_view records, std::size_t each) {
    auto n = records.size() / each;
    if (n == 0) return;
    auto first = turn_ % n;
    for (std::size_t i = 0; i < n && !full; ++i) answer(records.substr((first + i) % n * each, each));
  }

  void services(const Entry& entry) {
    auto n = entry.services().size();
    if (n == 0) return;
    auto first = turn_ % n;
    services_at_ = w_.size();
    for (std::size_t i = 0; i < n && !full; ++i) {
      const auto& s = entry.services()[(first + i) % n];
      answer(entry.srv().substr(s.at, s.size));
    }
  }

  /// One A and one AAAA of each distinct target, owned by a pointer to where the target stands in its SRV record.
  void glue(const Entry& entry) {
    auto n = entry.services().size();
    if (n == 0) return;
    auto first = turn_ % n, at = services_at_;
    for (std::size_t i = 0; i < n; ++i) {
      const auto& s = entry.services()[(first + i) % n];
      auto target_at = at + srv_fixed;
      at += s.size;
      bool said = i > 0 && (s.target == entry.services()[(first + i - 1) % n].target || s.target == entry.services()[first].target);
      if (said || s.glue_count == 0) continue;
      if (target_at >= pointer_max) return;
      auto before = w_.size();
      if (!w_.append(entry.glue().substr(s.glue_at, s.glue_size))) return;
      for (auto record = before; record < w_.size();) {
        w_.set16(record, pointer_to(target_at));
        record += record_fixed + (entry.glue()[s.glue_at + record - before + 3] == 1 ? 4u : 16u);  // the type's low byte: A or AAAA
      }
      additional = static_cast<std::uint16_t>(additional + s.glue_count);
    }
  }

  std::string_view soa() {
    char* p = scratch_.data();
    auto put = [&p](std::string_view bytes) { std::memcpy(p, bytes.data(), bytes.size()), p += bytes.size(); };
    auto p16 = [&p](std::uint16_t v) { put16(p, v), p += 2; };
    auto p32 = [&p](std::uint32_t v) { put32(p, v), p += 4; };
    p16(apex_), p16(type_soa), p16(class_in), p32(zone_.ttl), p16(6 + 11 + 20);
    put("\3ns1"), p16(apex_);
    put("\4root\3ns1"), p16(apex_);
    p32(zone_.serial), p32(60), p32(600), p32(86400), p32(zone_.ttl);
    return {scratch_.data(), static_cast<std::size_t>(p - scratch_.data())};
  }

  void name_server() {
    char* p = scratch_.data();
    put16(p, apex_), put16(p + 2, type_ns), put16(p + 4, class_in), put32(p + 6, zone_.ttl), put16(p + 10, 6);
    std::memcpy(p + 12, "\3ns1", 4);
    put16(p + 16, apex_);
    auto target_at = w_.size() + record_fixed;
    answer({p, 18});
    if (full) return;
    const auto* host = zone_.names.find("\3ns1" + zone_.apex);
    if (!host) return;
    auto owned = [&](std::string_view records, std::size_t each) {
      for (std::size_t at = 0; at < records.size(); at += each) {
        auto before = w_.size();
        if (!w_.append(records.substr(at, each))) return;
        w_.set16(before, pointer_to(target_at));
        ++additional;
      }
    };
    owned(host->a(), Entry::a_size);
    owned(host->aaaa(), Entry::aaaa_size);
  }

  Writer& w_;
  const Question& q_;
  const Zone& zone_;
  std::uint16_t apex_;
  bool is_apex_, tcp_;
  std::uint32_t turn_;
  std::size_t services_at_ = 0;
  std::array<char, 64> scratch_;
};

std::uint16_t reply_flags(const Question& q, bool recursion) {
  return static_cast<std::uint16_t>(flag_qr | (q.flags & (flag_rd | flag_cd | 0x7800)) | (recursion ? flag_ra : 0));
}

/// Bytes that the answer's OPT record takes.
std::size_t opt_of(const Question& q, const ReplyOptions& options) {
  if (!q.edns) return 0;
  return opt_size + (q.cookie_size > 0 && options.cookies && !options.address.empty() ? cookie_option_size : 0);
}

void finish(Writer& w, const Question& q, std::uint16_t flags, Rcode code, std::uint16_t answers, std::uint16_t authority, std::uint16_t additional,
            const ReplyOptions& options) {
  auto value = static_cast<std::uint16_t>(code);
  if (q.edns) {
    char opt[opt_size + cookie_option_size] = {};
    put16(opt + 1, type_opt);
    put16(opt + 3, static_cast<std::uint16_t>(udp_answer_max));
    opt[5] = static_cast<char>(value >> 4);
    auto size = opt_of(q, options);
    if (size > opt_size) {
      auto cookie = options.cookies->bake(q.sent_cookie(), options.address, options.now);
      put16(opt + 9, static_cast<std::uint16_t>(cookie_option_size));
      put16(opt + opt_size, option_cookie), put16(opt + opt_size + 2, static_cast<std::uint16_t>(cookie.size()));
      std::memcpy(opt + opt_size + option_head, cookie.data(), cookie.size());
    }
    if (w.append({opt, size})) ++additional;
  }
  w.set16(2, static_cast<std::uint16_t>(flags | (value & 15)));
  w.set16(4, 1), w.set16(6, answers), w.set16(8, authority), w.set16(10, additional);
}

}  // namespace

std::string_view to_string(Rcode code) {
  switch (code) {
    case Rcode::noerror: return "NOERROR";
    case Rcode::formerr: return "FORMERR";
    case Rcode::servfail: return "SERVFAIL";
    case Rcode::nxdomain: return "NXDOMAIN";
    case Rcode::notimp: return "NOTIMP";
    case Rcode::refused: return "REFUSED";
    case Rcode::badvers: return "BADVERS";
  }
  return "";
}

Verdict parse_question(std::string_view p, Question& q) {
  q.end = 0;
  if (p.size() < header_size || (static_cast<unsigned char>(p[2]) & 0x80)) return Verdict::silent;
  q.id = get16(p.data());
  q.flags = get16(p.data() + 2);
  q.name_size = 0;
  q.labels = 0;
  q.edns = false;
  q.udp_size = plain_udp_max;
  q.edns_version = 0;
  q.cookie_size = 0;
  if ((q.flags >> 11 & 15) != 0) return Verdict::notimp;
  if (get16(p.data() + 4) != 1) return Verdict::formerr;
  auto at = header_size;
  if (!read_name(p, at, q) || at + 4 > p.size()) return Verdict::formerr;
  q.type = get16(p.data() + at);
  q.cls = get16(p.data() + at + 2);
  q.end = at + 4;
  return read_rest(p, q.end, q) ? Verdict::fine : Verdict::formerr;
}

std::optional<std::size_t> place_in_zone(const Question& q, const Zone& zone) {
  if (q.name_size < zone.apex.size()) return std::nullopt;
  auto at = q.name_size - zone.apex.size();
  if (std::memcmp(q.name.data() + at, zone.apex.data(), zone.apex.size()) != 0) return std::nullopt;
  // Equal bytes might begin in the middle of a label that holds a length byte.
  auto end = q.starts.begin() + q.labels;
  return std::binary_search(q.starts.begin(), end, static_cast<std::uint8_t>(at)) ? std::optional(at) : std::nullopt;
}

bool has_valid_cookie(std::string_view packet, const ReplyOptions& options) {
  Question q;
  if (!options.cookies || options.address.empty() || parse_question(packet, q) != Verdict::fine) return false;
  return options.cookies->valid(q.sent_cookie(), options.address, options.now);
}

Reply reply_to(std::string_view packet, const Zone& zone, ReplyOptions options, std::span<char> out) {
  Question q;
  Reply r;
  auto verdict = parse_question(packet, q);
  if (verdict == Verdict::silent) return r;
  auto short_reply = [&](Rcode code) {
    auto text = error_reply(packet, code, options.recursion);
    std::memcpy(out.data(), text.data(), text.size());
    return Reply{Reply::Action::send, text.size(), r.limit, code, false};
  };
  if (verdict != Verdict::fine) return short_reply(verdict == Verdict::notimp ? Rcode::notimp : Rcode::formerr);
  r.limit = options.tcp ? std::min(out.size(), message_max) : std::min({out.size(), q.edns ? std::size_t{q.udp_size} : plain_udp_max, udp_answer_max});
  auto zone_at = place_in_zone(q, zone);
  if (!zone_at && options.recursion) {
    r.action = Reply::Action::forward;
    if (!options.tcp) r.limit = q.edns ? q.udp_size : plain_udp_max;
    return r;
  }
  Writer w(out, r.limit - opt_of(q, options), packet, q);
  auto flags = reply_flags(q, options.recursion);
  std::uint16_t answers = 0, authority = 0, additional = 0;
  if (q.edns && q.edns_version > 0) {
    r.rcode = Rcode::badvers;
  } else if (!zone_at || (q.cls != class_in && q.cls != class_any) || q.type == type_axfr || q.type == type_ixfr) {
    r.rcode = Rcode::refused;
  } else if (!zone.loaded) {
    r.rcode = Rcode::servfail;  // nothing heard yet: a denial would be a guess, and kept for a while
  } else {
    Answerer a(w, q, zone, *zone_at, options);
    r.rcode = a.run();
    r.truncated = a.full;
    answers = a.answers, authority = a.authority, additional = a.additional;
    flags = static_cast<std::uint16_t>(flags | flag_aa | (a.full ? flag_tc : 0));
  }
  Writer whole(out, r.limit, packet, q);
  whole.cut(w.size());
  finish(whole, q, flags, r.rcode, answers, authority, additional, options);
  r.action = Reply::Action::send;
  r.size = whole.size();
  return r;
}

std::string error_reply(std::string_view packet, Rcode code, bool recursion, bool truncate) {
  Question q;
  auto verdict = parse_question(packet, q);
  if (verdict == Verdict::silent) return {};
  bool with_question = q.end > 0;
  std::string out(packet.substr(0, with_question ? q.end : header_size));
  put16(out.data() + 2, static_cast<std::uint16_t>(reply_flags(q, recursion) | (truncate ? flag_tc : 0) | (static_cast<std::uint16_t>(code) & 15)));
  put16(out.data() + 4, with_question ? 1 : 0);
  std::memset(out.data() + 6, 0, 6);
  return out;
}

}  // namespace croft::discovery
