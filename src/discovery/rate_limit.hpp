#pragma once
// Keeps us from being the loud end of somebody's spoofed questions. Pure.

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/time.hpp"

namespace croft::discovery {

/// Answers a second to one network of strangers (a /24, or a /56). Networks that cannot be spoofed from afar (loopback, private, link-local)
/// are not counted. A small table of buckets: two networks that share one share its budget, which errs on the quiet side.
///
/// Threads  one thread's own.
class RateLimit {
 public:
  enum class Verdict : std::uint8_t { answer, truncate, drop };   ///< truncate: every second one, so that honest askers come by TCP
  /// 0 answers a second: no limit.
  explicit RateLimit(std::uint32_t per_second);
  /// `address`: 4 or 16 bytes.
  Verdict ask(std::string_view address, Mono now);

 private:
  struct Bucket { float left = 0; std::uint32_t refused = 0; Mono filled{}; };
  std::uint32_t per_second_;
  std::vector<Bucket> buckets_;
};

}  // namespace croft::discovery
