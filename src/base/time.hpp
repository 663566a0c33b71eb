#pragma once
// Two clocks, never mixed: monotonic time decides, wall time is only shown and stored. Cores take a Now and have no clock.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace croft {

using Millis = std::chrono::milliseconds;
using Seconds = std::chrono::seconds;
using Mono = std::chrono::steady_clock::time_point;
using Wall = std::chrono::sys_time<Millis>;

struct Now {
  Mono mono;
  Wall wall;
};

/// Both clocks of this machine, for shells only.
Now system_now();

/// "2015-08-12T10:11:12.345Z": UTC, always three fraction digits (Marathon's and Elasticsearch's form).
std::string to_iso8601(Wall when);
/// Accepts a date, or a date and time with 0 to 9 fraction digits and "Z" or "+hh:mm"; no zone means UTC.
std::optional<Wall> from_iso8601(std::string_view text);

inline double to_seconds(Millis d) { return static_cast<double>(d.count()) / 1000.0; }
/// Seconds since 1970 with fraction, as Mesos prints them.
inline double to_unix_seconds(Wall w) { return static_cast<double>(w.time_since_epoch().count()) / 1000.0; }

}  // namespace croft
