#include "discovery/dns_codec.hpp"

#include <algorithm>
#include <vector>

namespace croft::discovery {

namespace {

constexpr std::uint16_t type_a = 1, type_ns = 2, type_soa = 6, type_aaaa = 28, type_srv = 33, type_opt = 41, type_any = 255;
constexpr std::size_t header = 12;
constexpr std::uint16_t our_udp_size = 1232;

std::uint16_t get16(std::string_view p, std::size_t at) { return static_cast<std::uint16_t>(static_cast<std::uint8_t>(p[at]) << 8 | static_cast<std::uint8_t>(p[at + 1])); }

/// Reads a name without following pointers (a question has none). False when it is not whole.
bool read_name(std::string_view p, std::size_t& at, std::string& name) {
  for (;;) {
    if (at >= p.size()) return false;
    auto length = static_cast<std::uint8_t>(p[at++]);
    if (length == 0) return true;
    if (length > 63 || at + length > p.size() || name.size() + length + 1 > 254) return false;
    if (!name.empty()) name.push_back('.');
    for (int i = 0; i < length; ++i) {
      char c = p[at++];
      name.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    }
  }
}

/// Skips a name in the additional section, pointers allowed.
bool skip_name(std::string_view p, std::size_t& at) {
  while (at < p.size()) {
    auto length = static_cast<std::uint8_t>(p[at]);
    if (length == 0) return ++at, true;
    if ((length & 0xC0) == 0xC0) return at += 2, at <= p.size();
    if (length > 63) return false;
    at += 1u + length;
  }
  return false;
}

class Writer {
 public:
  Writer(std::string_view packet, const Question& q) : out_(packet.substr(0, q.end)) { out_.resize(q.end); }

  void name(std::string_view n) {  // compressed against the question where it is the same
    while (!n.empty()) {
      for (const auto& [known, at] : known_)
        if (known == n) {
          u16(static_cast<std::uint16_t>(0xC000 | at));
          return;
        }
      if (out_.size() < 0x3FFF && known_.size() < 64) known_.emplace_back(std::string(n), out_.size());
      auto dot = n.find('.');
      auto label = n.substr(0, dot);
      out_.push_back(static_cast<char>(label.size()));
      out_ += label;
      n = dot == std::string_view::npos ? std::string_view() : n.substr(dot + 1);
    }
    out_.push_back('\0');
  }
  void plain_name(std::string_view n) {
    while (!n.empty()) {
      auto dot = n.find('.');
      auto label = n.substr(0, dot);
      out_.push_back(static_cast<char>(label.size()));
      out_ += label;
      n = dot == std::string_view::npos ? std::string_view() : n.substr(dot + 1);
    }
    out_.push_back('\0');
  }
  void u16(std::uint16_t v) { out_.push_back(static_cast<char>(v >> 8)), out_.push_back(static_cast<char>(v & 255)); }
  void u32(std::uint32_t v) { u16(static_cast<std::uint16_t>(v >> 16)), u16(static_cast<std::uint16_t>(v & 0xFFFF)); }
  void owner_is_question() { u16(0xC000 | header); }
  void head(std::uint16_t type, std::uint32_t ttl) { u16(type), u16(1), u32(ttl); }
  void bytes(const void* data, std::size_t size) { out_.append(static_cast<const char*>(data), size); }
  std::size_t begin_data() { u16(0); return out_.size(); }
  void end_data(std::size_t at) {
    auto size = out_.size() - at;
    out_[at - 2] = static_cast<char>(size >> 8), out_[at - 1] = static_cast<char>(size & 255);
  }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  void cut(std::size_t to) { out_.resize(to); }
  void set16(std::size_t at, std::uint16_t v) { out_[at] = static_cast<char>(v >> 8), out_[at + 1] = static_cast<char>(v & 255); }
  std::string take() && { return std::move(out_); }

 private:
  std::string out_;
  std::vector<std::pair<std::string, std::size_t>> known_;
};

void soa(Writer& w, const Zone& zone, bool owner_question) {
  if (owner_question) w.owner_is_question();
  else w.name(zone.domain);
  w.head(type_soa, zone.ttl);
  auto at = w.begin_data();
  w.name("ns1." + zone.domain);
  w.name("root.ns1." + zone.domain);
  w.u32(zone.serial), w.u32(60), w.u32(600), w.u32(86400), w.u32(zone.ttl);
  w.end_data(at);
}

/// Fills one answer section; stops before the limit and says whether something was left out.
struct Section {
  Writer& w;
  std::size_t limit;
  std::uint16_t count = 0;
  bool full = false;
  template <class F>
  void add(F&& write) {
    if (full) return;
    auto before = w.size();
    write();
    if (w.size() > limit) w.cut(before), full = true;
    else ++count;
  }
};

}  // namespace

std::optional<Parsed> parse_question(std::string_view p) {
  if (p.size() < header || (static_cast<std::uint8_t>(p[2]) & 0x80)) return std::nullopt;
  Parsed out;
  auto& q = out.question;
  q.id = get16(p, 0);
  q.flags = get16(p, 2);
  q.end = header;
  if (((q.flags >> 11) & 15) != 0) return out.error = Rcode::notimp, out;
  if (get16(p, 4) != 1) return out.error = Rcode::formerr, out;
  std::size_t at = header;
  if (!read_name(p, at, q.name) || at + 4 > p.size()) return out.error = Rcode::formerr, out;
  q.type = get16(p, at);
  q.cls = get16(p, at + 2);
  at += 4;
  q.end = at;
  for (int left = get16(p, 6) + get16(p, 8) + get16(p, 10), i = 0; i < left && i < 32; ++i) {
    if (!skip_name(p, at) || at + 10 > p.size()) return out.error = Rcode::formerr, out;
    auto type = get16(p, at);
    auto size = get16(p, at + 8);
    if (type == type_opt) {
      q.edns = true;
      q.udp_size = std::max<std::uint16_t>(512, get16(p, at + 2));
      q.edns_version = static_cast<std::uint8_t>(p[at + 5]);
    }
    at += 10u + size;
    if (at > p.size()) return out.error = Rcode::formerr, out;
  }
  return out;
}

bool in_zone(const std::string& name, const Zone& zone) {
  return name == zone.domain || (name.size() > zone.domain.size() && name.ends_with(zone.domain) && name[name.size() - zone.domain.size() - 1] == '.');
}

std::string refuse(std::string_view packet, const Parsed& parsed, Rcode code) {
  std::string out(packet.substr(0, parsed.error == Rcode::formerr || parsed.error == Rcode::notimp ? header : parsed.question.end));
  bool with_question = out.size() > header;
  out[2] = static_cast<char>(0x80 | (static_cast<std::uint8_t>(packet[2]) & 0x79));
  out[3] = static_cast<char>(0x80 | static_cast<std::uint8_t>(code));
  for (int i = 4; i < 12; ++i) out[static_cast<std::size_t>(i)] = '\0';
  if (with_question) out[5] = 1;
  return out;
}

std::string answer(std::string_view packet, const Question& q, const Zone& zone, std::size_t limit, std::uint32_t turn) {
  Writer w(packet, q);
  auto room = limit - (q.edns ? 11 : 0);
  const auto* records = zone.find(q.name);
  bool apex = q.name == zone.domain, exists = records || apex || zone.parents.contains(q.name);
  Section answers{w, room}, authority{w, room}, extra{w, room};
  bool any = q.type == type_any;
  auto rotated = [&](const auto& list, auto&& each) {
    for (std::size_t i = 0; i < list.size(); ++i) each(list[(i + turn) % list.size()]);
  };
  auto address = [&](Section& s, const std::string* owner, std::uint16_t type, const auto& bytes) {
    s.add([&] {
      if (owner) w.name(*owner);
      else w.owner_is_question();
      w.head(type, zone.ttl);
      auto at = w.begin_data();
      w.bytes(bytes.data(), bytes.size());
      w.end_data(at);
    });
  };
  std::vector<const Srv*> targets;
  if (records && (q.type == type_srv || any))
    rotated(records->srv, [&](const Srv& srv) {
      answers.add([&] {
        w.owner_is_question();
        w.head(type_srv, zone.ttl);
        auto at = w.begin_data();
        w.u16(0), w.u16(1), w.u16(srv.port);
        w.plain_name(srv.target);
        w.end_data(at);
      });
      if (!answers.full) targets.push_back(&srv);
    });
  if (records && (q.type == type_a || any)) rotated(records->a, [&](const auto& a) { address(answers, nullptr, type_a, a); });
  if (records && (q.type == type_aaaa || any)) rotated(records->aaaa, [&](const auto& a) { address(answers, nullptr, type_aaaa, a); });
  if (apex && (q.type == type_soa || any)) answers.add([&] { soa(w, zone, true); });
  if (apex && (q.type == type_ns || any))
    answers.add([&] {
      w.owner_is_question();
      w.head(type_ns, zone.ttl);
      auto at = w.begin_data();
      w.name("ns1." + zone.domain);
      w.end_data(at);
    });
  if (answers.count == 0 && !answers.full) authority.add([&] { soa(w, zone, apex); });
  if (!answers.full) {
    for (const auto* srv : targets) {
      const auto* host = zone.find(srv->target);
      if (!host) continue;
      if (!host->a.empty()) address(extra, &srv->target, type_a, host->a.front());
      if (!host->aaaa.empty()) address(extra, &srv->target, type_aaaa, host->aaaa.front());
    }
  }
  auto extras = extra.count;
  if (q.edns) {
    std::string_view root;
    w.name(root);
    w.u16(type_opt), w.u16(our_udp_size), w.u32(q.edns_version > 0 ? 0x01000000u : 0u), w.u16(0);
    ++extras;
  }
  auto code = exists || q.type == type_srv ? Rcode::noerror : Rcode::nxdomain;  // SRV of an unknown name: some clients take NXDOMAIN as fatal
  // QR, AA, RD as asked, RA; TC when something was left out.
  std::uint16_t flags = 0x8480 | (q.flags & 0x0110) | (answers.full ? 0x0200 : 0) | static_cast<std::uint16_t>(q.edns_version > 0 ? Rcode::noerror : code);
  w.set16(2, flags);
  w.set16(4, 1), w.set16(6, answers.count), w.set16(8, authority.count), w.set16(10, extras);
  return std::move(w).take();
}

}  // namespace croft::discovery
