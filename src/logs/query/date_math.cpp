// Elasticsearch's date math, on UTC.

#include <algorithm>

#include "base/text.hpp"
#include "logs/query/query.hpp"

namespace croft::logs {

namespace {

using namespace std::chrono;

/// Adds `n` units; months and years keep the day where it exists, else the month's last.
std::optional<Wall> add(Wall at, std::int64_t n, char unit) {
  if (n > 1'000'000'000 || n < -1'000'000'000) return std::nullopt;
  switch (unit) {
    case 's': return at + seconds(n);
    case 'm': return at + minutes(n);
    case 'h': case 'H': return at + hours(n);
    case 'd': return at + days(n);
    case 'w': return at + days(7 * n);
    case 'M': case 'y': break;
    default: return std::nullopt;
  }
  auto day = floor<days>(at);
  auto rest = at - day;
  year_month_day date(day);
  auto moved = unit == 'y' ? date + years(n) : date + months(n);
  if (!moved.ok()) moved = moved.year() / moved.month() / last;
  return Wall(sys_days(moved)) + rest;
}

std::optional<Wall> round_down(Wall at, char unit) {
  auto day = floor<days>(at);
  year_month_day date(day);
  switch (unit) {
    case 's': return floor<seconds>(at);
    case 'm': return floor<minutes>(at);
    case 'h': case 'H': return floor<hours>(at);
    case 'd': return day;
    case 'w': return day - days((weekday(day).c_encoding() + 6) % 7);
    case 'M': return sys_days(date.year() / date.month() / 1);
    case 'y': return sys_days(date.year() / 1 / 1);
    default: return std::nullopt;
  }
}

std::optional<Wall> apply(Wall at, std::string_view math, bool upper) {
  while (!math.empty()) {
    char op = math.front();
    math.remove_prefix(1);
    std::size_t digits = 0;
    while (digits < math.size() && math[digits] >= '0' && math[digits] <= '9') ++digits;
    auto n = digits == 0 ? std::optional<std::int64_t>(1) : to_int(math.substr(0, digits));
    if (!n || digits >= math.size() || (op == '/' && digits > 0)) return std::nullopt;
    char unit = math[digits];
    math.remove_prefix(digits + 1);
    std::optional<Wall> next;
    if (op == '+' || op == '-') next = add(at, op == '+' ? *n : -*n, unit);
    else if (op == '/') next = round_down(at, unit);
    if (next && op == '/' && upper) next = add(*next, 1, unit), next = next ? std::optional(*next - Millis(1)) : next;
    if (!next) return std::nullopt;
    at = *next;
  }
  return at;
}

/// A date with its missing parts filled low, or high: "2024-05" as an upper end is the last millisecond of May.
std::optional<Wall> literal(std::string_view text, bool upper) {
  char unit = 0;
  std::string full(text);
  if (text.size() == 4) full += "-01-01", unit = 'y';
  else if (text.size() == 7) full += "-01", unit = 'M';
  else if (text.size() == 10) unit = 'd';
  else if (text.size() == 13 && text[10] == 'T') full += ":00", unit = 'h';
  else if (text.size() == 16 && text[10] == 'T') unit = 'm';
  else if (text.size() == 19 && text[10] == 'T') unit = 's';
  auto at = from_iso8601(full);
  if (!at || !upper || !unit) return at;
  auto next = add(*at, 1, unit);
  return next ? std::optional(*next - Millis(1)) : std::nullopt;
}

}  // namespace

std::optional<Wall> parse_date(std::string_view text, bool upper, Wall now) {
  text = trim(text);
  if (text.starts_with("now")) return apply(now, text.substr(3), upper);
  if (auto bars = text.find("||"); bars != std::string_view::npos) {
    auto at = literal(text.substr(0, bars), false);
    return at ? apply(*at, text.substr(bars + 2), upper) : std::nullopt;
  }
  if (auto millis = to_int(text); millis && (text.size() > 4 || text.starts_with('-'))) return Wall(Millis(*millis));
  return literal(text, upper);
}

}  // namespace croft::logs
