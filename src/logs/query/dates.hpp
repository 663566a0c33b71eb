#pragma once
// Dates as clients write them: ISO in all its shortened forms, epoch numbers, Java patterns, date math; and time zones.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/time.hpp"

namespace croft::logs {

/// Distance from UTC, fixed or by the rules of a place.
class Zone {
 public:
  virtual ~Zone() = default;
  [[nodiscard]] virtual Millis offset_at(Wall utc) const = 0;
  [[nodiscard]] Wall local(Wall utc) const { return utc + offset_at(utc); }
  [[nodiscard]] Wall utc(Wall local) const;  ///< of the two moments that a clock set back shows twice, the first
};
using ZonePtr = std::shared_ptr<const Zone>;  ///< null: UTC

/// "Z", "UTC", "+02:00", "Europe/Berlin" (from the system's zoneinfo; read once). Errors: invalid.
Result<ZonePtr> find_zone(std::string_view name);

struct DateOptions {
  std::string format;   ///< "strict_date_optional_time||epoch_millis" when empty; Java patterns too
  ZonePtr zone;         ///< of literals without one, and of rounding
};

/// Date math: "now-1h/d", "2024-05-02||+1d/d", ISO dates, epoch numbers. `upper`: missing parts and rounding give the unit's last millisecond.
std::optional<Wall> parse_date(std::string_view text, bool upper, Wall now, const DateOptions& options = {});

/// By a format as above; the first one counts.
std::string print_date(Wall when, std::string_view format, const ZonePtr& zone = nullptr);

}  // namespace croft::logs
