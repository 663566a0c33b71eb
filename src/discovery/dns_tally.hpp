#pragma once
#include <array>

#include "base/metrics.hpp"
#include "discovery/dns_codec.hpp"

namespace croft::discovery {

/// What the DNS server counts, per transport.
class DnsTally {
 public:
  DnsTally(Metrics& m, std::string_view transport)
      : truncated(m.counter("croft_dns_truncated_total", "Answers that did not fit and carried TC.", label(transport))),
        ignored(m.counter("croft_dns_ignored_total", "Packets that get no answer: replies, and less than a header.", label(transport))),
        limited(m.counter("croft_dns_rate_limited_total", "Questions beyond a network's answers per second.", label(transport))) {
    for (auto code : {Rcode::noerror, Rcode::formerr, Rcode::servfail, Rcode::nxdomain, Rcode::notimp, Rcode::refused, Rcode::badvers})
      by_code_[static_cast<std::size_t>(code)] =
          &m.counter("croft_dns_queries_total", "Questions answered by this server itself.", fmt::format("{},rcode=\"{}\"", label(transport), to_string(code)));
  }
  void count(const Reply& r) {
    if (r.action == Reply::Action::silent) ignored.add();
    if (r.action != Reply::Action::send) return;
    by_code_[static_cast<std::size_t>(r.rcode)]->add();
    if (r.truncated) truncated.add();
  }
  Counter &truncated, &ignored, &limited;

 private:
  static std::string label(std::string_view transport) { return fmt::format("transport=\"{}\"", transport); }
  std::array<Counter*, 17> by_code_{};
};

}  // namespace croft::discovery
