#include "base/time.hpp"

#include <fmt/format.h>

#include <cctype>

namespace croft {

namespace {

/// Reads exactly `digits` digits at `at`.
std::optional<int> digits_at(std::string_view text, std::size_t at, int digits) {
  int value = 0;
  for (int i = 0; i < digits; ++i) {
    auto index = at + static_cast<std::size_t>(i);
    if (index >= text.size() || text[index] < '0' || text[index] > '9') return std::nullopt;
    value = value * 10 + (text[index] - '0');
  }
  return value;
}

std::optional<Millis> zone_offset(std::string_view zone) {
  if (zone.empty() || zone == "Z" || zone == "z") return Millis(0);
  if (zone[0] != '+' && zone[0] != '-') return std::nullopt;
  auto hours = digits_at(zone, 1, 2);
  auto minutes_at = zone.size() > 3 && zone[3] == ':' ? 4u : 3u;
  auto minutes = zone.size() > minutes_at ? digits_at(zone, minutes_at, 2) : std::optional<int>(0);
  if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  if (zone.size() != 3 && zone.size() != minutes_at + 2) return std::nullopt;
  auto offset = std::chrono::hours(*hours) + std::chrono::minutes(*minutes);
  return zone[0] == '-' ? -Millis(offset) : Millis(offset);
}

}  // namespace

Now system_now() {
  return {std::chrono::steady_clock::now(), std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now())};
}

std::string to_iso8601(Wall when) {
  auto day = std::chrono::floor<std::chrono::days>(when);
  std::chrono::year_month_day date(day);
  auto ms = (when - day).count();
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", int(date.year()), unsigned(date.month()), unsigned(date.day()),
                     ms / 3'600'000, ms / 60'000 % 60, ms / 1000 % 60, ms % 1000);
}

std::optional<Wall> from_iso8601(std::string_view text) {
  auto year = digits_at(text, 0, 4), month = digits_at(text, 5, 2), day = digits_at(text, 8, 2);
  if (!year || !month || !day || text[4] != '-' || text[7] != '-') return std::nullopt;
  std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(unsigned(*month)), std::chrono::day(unsigned(*day))};
  if (!date.ok()) return std::nullopt;
  Wall when = std::chrono::sys_days(date);
  if (text.size() == 10) return when;
  if (text[10] != 'T' && text[10] != 't' && text[10] != ' ') return std::nullopt;
  auto hour = digits_at(text, 11, 2), minute = digits_at(text, 14, 2);
  if (!hour || !minute || text[13] != ':' || *hour > 23 || *minute > 59) return std::nullopt;
  std::size_t at = 16;
  int second = 0;
  Millis fraction{0};
  if (at < text.size() && text[at] == ':') {
    auto s = digits_at(text, 17, 2);
    if (!s || *s > 60) return std::nullopt;
    second = *s;
    at = 19;
    if (at < text.size() && (text[at] == '.' || text[at] == ',')) {
      int weight = 100;
      for (++at; at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])); ++at, weight /= 10)
        fraction += Millis((text[at] - '0') * weight);
      if (at == 20) return std::nullopt;
    }
  }
  auto offset = zone_offset(text.substr(at));
  if (!offset) return std::nullopt;
  return when + std::chrono::hours(*hour) + std::chrono::minutes(*minute) + Seconds(second) + fraction - *offset;
}

}  // namespace croft
