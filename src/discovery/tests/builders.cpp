#include "builders.hpp"

#include <ldns/ldns.h>

#include <algorithm>

#include "base/text.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

std::vector<std::string> listed(const Zone& zone) {
  std::vector<std::string> out;
  zone.names.for_each([&](const Entry& e) {
    auto name = from_wire(e.name());
    for (const auto& a : e.addresses()) out.push_back(fmt::format("{} {} {}", name, a.find(':') == std::string::npos ? "A" : "AAAA", a));
    for (const auto& t : e.targets()) out.push_back(fmt::format("{} SRV {}:{}", name, t.name, t.port));
  });
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::string> listed(const Zone& zone, const std::string& name) {
  auto out = listed(zone);
  std::erase_if(out, [&](const std::string& line) { return !line.starts_with(name + " "); });
  for (auto& line : out) line.erase(0, name.size() + 1);
  return out;
}

std::string packet_of(const Ask& ask) {
  std::string p;
  append16(p, ask.id);
  append16(p, ask.recursion ? 0x0100 : 0);
  append16(p, 1), append16(p, 0), append16(p, 0), append16(p, ask.edns ? 1 : 0);
  for (const auto& label : split(ask.name, '.')) {
    if (label.empty()) continue;
    p.push_back(static_cast<char>(label.size()));
    p += label;
  }
  p.push_back('\0');
  append16(p, ask.type), append16(p, ask.cls);
  if (ask.edns) {
    p.push_back('\0');
    append16(p, 41), append16(p, *ask.edns);
    append32(p, static_cast<std::uint32_t>(ask.edns_version) << 16);
    append16(p, 0);
  }
  return p;
}

static std::vector<std::string> section(const ldns_pkt* packet, ldns_pkt_section which) {
  std::vector<std::string> out;
  auto* list = ldns_pkt_get_section_clone(packet, which);
  for (std::size_t i = 0; i < ldns_rr_list_rr_count(list); ++i) {
    const auto* rr = ldns_rr_list_rr(list, i);
    if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_OPT) continue;
    auto* owner = ldns_rdf2str(ldns_rr_owner(rr));
    auto* type = ldns_rr_type2str(ldns_rr_get_type(rr));
    auto line = fmt::format("{} {}", owner, type);
    for (std::size_t k = 0; k < ldns_rr_rd_count(rr); ++k) {
      auto* text = ldns_rdf2str(ldns_rr_rdf(rr, k));
      line += fmt::format(" {}", text);
      std::free(text);
    }
    std::free(owner), std::free(type);
    out.push_back(std::move(line));
  }
  ldns_rr_list_deep_free(list);
  return out;
}

Read read_answer(std::string_view packet) {
  Read r;
  ldns_pkt* p = nullptr;
  if (ldns_wire2pkt(&p, reinterpret_cast<const std::uint8_t*>(packet.data()), packet.size()) != LDNS_STATUS_OK) return r;
  r.ok = true;
  r.id = ldns_pkt_id(p);
  r.rcode = ldns_pkt_get_rcode(p);
  r.qr = ldns_pkt_qr(p), r.aa = ldns_pkt_aa(p), r.tc = ldns_pkt_tc(p), r.rd = ldns_pkt_rd(p), r.ra = ldns_pkt_ra(p);
  r.edns = ldns_pkt_edns(p);
  r.edns_size = ldns_pkt_edns_udp_size(p);
  r.extended = ldns_pkt_edns_extended_rcode(p);
  if (auto q = section(p, LDNS_SECTION_QUESTION); !q.empty()) r.question = q[0];
  r.answers = section(p, LDNS_SECTION_ANSWER);
  r.authority = section(p, LDNS_SECTION_AUTHORITY);
  r.additional = section(p, LDNS_SECTION_ADDITIONAL);
  ldns_pkt_free(p);
  return r;
}

}  // namespace croft::discovery
