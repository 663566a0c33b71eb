#include "logs/query/dates.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "base/files.hpp"
#include "base/text.hpp"

namespace croft::logs {

namespace {

using namespace std::chrono;

constexpr std::int64_t epoch_max = 253'402'300'799'999, epoch_min = -62'135'596'800'000;  // years 1 to 9999

class FixedZone final : public Zone {
 public:
  explicit FixedZone(Millis offset) : offset_(offset) {}
  [[nodiscard]] Millis offset_at(Wall) const override { return offset_; }

 private:
  Millis offset_;
};

/// A zoneinfo file: moments at which the offset changes.
class PlaceZone final : public Zone {
 public:
  /// RFC 8536, version 2 or later: the second block has 64-bit times.
  static ZonePtr read(std::string_view bytes) {
    auto made = std::make_shared<PlaceZone>();
    auto skip = block_size(bytes, 4);
    if (!skip || bytes.size() < *skip || bytes[4] < '2') return nullptr;
    bytes.remove_prefix(*skip);
    auto size = block_size(bytes, 8);
    if (!size || bytes.size() < *size) return nullptr;
    auto times = number(bytes, 32, 4), types = number(bytes, 36, 4);
    auto at = bytes.substr(44), kinds = at.substr(times * 8), infos = kinds.substr(times);
    for (std::size_t i = 0; i < times; ++i) {
      auto kind = static_cast<unsigned char>(kinds[i]);
      if (kind >= types) return nullptr;
      made->changes_.push_back({static_cast<std::int64_t>(number(at, i * 8, 8)), static_cast<std::int32_t>(number(infos, kind * 6u, 4))});
    }
    if (types > 0) made->first_ = static_cast<std::int32_t>(number(infos, 0, 4));
    return made;
  }
  [[nodiscard]] Millis offset_at(Wall utc) const override {
    auto second = floor<seconds>(utc).time_since_epoch().count();
    auto next = std::upper_bound(changes_.begin(), changes_.end(), second, [](std::int64_t s, const Change& c) { return s < c.at; });
    return seconds(next == changes_.begin() ? first_ : std::prev(next)->offset);
  }

 private:
  struct Change { std::int64_t at; std::int32_t offset; };
  static std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t size) {
    std::uint64_t out = 0;
    for (std::size_t i = 0; i < size; ++i) out = out << 8 | static_cast<unsigned char>(bytes[at + i]);
    return out;
  }
  static std::optional<std::size_t> block_size(std::string_view b, std::size_t time_size) {
    if (b.size() < 44 || !b.starts_with("TZif")) return std::nullopt;
    auto utc = number(b, 20, 4), standard = number(b, 24, 4), leaps = number(b, 28, 4), times = number(b, 32, 4), types = number(b, 36, 4), chars = number(b, 40, 4);
    if (std::max({utc, standard, leaps, times, types, chars}) > 100'000) return std::nullopt;
    return 44 + times * (time_size + 1) + types * 6 + chars + leaps * (time_size + 4) + standard + utc;
  }
  std::vector<Change> changes_;
  std::int32_t first_ = 0;
};

/// Adds `n` units; months and years keep the day where it exists, else the month's last.
std::optional<Wall> add(Wall at, std::int64_t n, char unit) {
  auto most = unit == 'y' ? 10'000 : unit == 'M' || unit == 'q' ? 120'000 : 1'000'000'000;
  if (n > most || n < -most) return std::nullopt;
  switch (unit) {
    case 's': return at + seconds(n);
    case 'm': return at + minutes(n);
    case 'h': case 'H': return at + hours(n);
    case 'd': return at + days(n);
    case 'w': return at + days(7 * n);
    case 'M': case 'q': case 'y': break;
    default: return std::nullopt;
  }
  auto day = floor<days>(at);
  auto rest = at - day;
  year_month_day date(day);
  auto moved = unit == 'y' ? date + years(n) : date + months(unit == 'q' ? 3 * n : n);
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
    case 'q': return sys_days(date.year() / month((unsigned(date.month()) - 1) / 3 * 3 + 1) / 1);
    case 'M': return sys_days(date.year() / date.month() / 1);
    case 'y': return sys_days(date.year() / 1 / 1);
    default: return std::nullopt;
  }
}

std::optional<Wall> apply(Wall at, std::string_view math, bool upper, const ZonePtr& zone) {
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
    if (op == '/' && zone) at = zone->local(at);
    if (op == '+' || op == '-') next = add(at, op == '+' ? *n : -*n, unit);
    else if (op == '/') next = round_down(at, unit);
    if (next && op == '/' && upper) next = add(*next, 1, unit), next = next ? std::optional(*next - Millis(1)) : next;
    if (!next) return std::nullopt;
    if (next->time_since_epoch().count() > epoch_max || next->time_since_epoch().count() < epoch_min) return std::nullopt;
    at = op == '/' && zone ? zone->utc(*next) : *next;
  }
  return at;
}

/// A date with its missing parts filled low, or high: "2024-05" as an upper end is the last millisecond of May.
std::optional<Wall> literal(std::string_view text, bool upper, const ZonePtr& zone) {
  char unit = 0;
  std::string full(text);
  bool dated = text.size() > 10 && (text[10] == 'T' || text[10] == ' ');
  if (text.size() == 4) full += "-01-01", unit = 'y';
  else if (text.size() == 7) full += "-01", unit = 'M';
  else if (text.size() == 10) unit = 'd';
  else if (text.size() == 13 && dated) full += ":00", unit = 'h';
  else if (text.size() == 16 && dated) unit = 'm';
  else if (text.size() == 19 && dated) unit = 's';
  auto at = from_iso8601(full);
  if (!at) return std::nullopt;
  if (upper && unit) {
    auto next = add(*at, 1, unit);
    if (!next) return std::nullopt;
    at = *next - Millis(1);
  }
  bool has_zone = !unit && dated && (text.ends_with('Z') || text.ends_with('z') || text.find_last_of("+-") > 10);
  return zone && !has_zone ? zone->utc(*at) : *at;
}

/// One run of pattern letters with its quoted text taken as it is: "dd/MM/yyyy HH:mm:ss.SSS", "yyyy-MM-dd'T'HH:mm:ssXXX".
struct PatternReader {
  std::string_view text;
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;
  Millis fraction{0};
  std::optional<Millis> offset;
  bool pm = false;

  bool number(std::size_t least, std::size_t most, int& into) {
    std::size_t n = 0;
    into = 0;
    while (n < text.size() && n < most && text[n] >= '0' && text[n] <= '9') into = into * 10 + (text[n++] - '0');
    text.remove_prefix(n);
    return n >= least;
  }
  bool zone() {
    if (text.starts_with('Z')) return text.remove_prefix(1), offset = Millis(0), true;
    if (text.empty() || (text[0] != '+' && text[0] != '-')) return false;
    bool minus = text[0] == '-';
    text.remove_prefix(1);
    int h = 0, m = 0;
    if (!number(2, 2, h)) return false;
    if (text.starts_with(':')) text.remove_prefix(1);
    if (!text.empty() && !number(2, 2, m)) return false;
    offset = Millis(hours(h) + minutes(m)) * (minus ? -1 : 1);
    return true;
  }
  bool name_of_month() {
    static constexpr std::string_view names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"};
    for (std::size_t i = 0; i < 12; ++i)
      if (text.size() >= 3 && iequals(text.substr(0, 3), names[i])) return text.remove_prefix(3), month = static_cast<int>(i) + 1, true;
    return false;
  }
  bool take(char letter, std::size_t count) {
    switch (letter) {
      case 'y': case 'u': return number(count >= 4 ? 4 : 2, count >= 4 ? 4 : 2, year) && (count >= 4 || (year += 2000));
      case 'M': return count >= 3 ? name_of_month() : number(count, 2, month);
      case 'd': return number(count, 2, day);
      case 'H': return number(count, 2, hour);
      case 'm': return number(count, 2, minute);
      case 's': return number(count, 2, second);
      case 'S': {
        int value = 0;
        auto before = text.size();
        if (!number(1, 9, value)) return false;
        double scale = 1000;
        for (auto n = before - text.size(); n > 0; --n) scale /= 10;
        fraction = Millis(static_cast<std::int64_t>(value * scale));
        return true;
      }
      case 'X': case 'x': case 'Z': return zone();
      default: return false;
    }
  }
};

std::optional<Wall> by_pattern(std::string_view text, std::string_view pattern, const ZonePtr& zone) {
  PatternReader r{text};
  for (std::size_t i = 0; i < pattern.size();) {
    char c = pattern[i];
    if (c == '\'') {
      auto end = pattern.find('\'', i + 1);
      auto quoted = pattern.substr(i + 1, end == std::string_view::npos ? end : end - i - 1);
      if (!r.text.starts_with(quoted)) return std::nullopt;
      r.text.remove_prefix(quoted.size());
      i = end == std::string_view::npos ? pattern.size() : end + 1;
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      auto count = std::min(pattern.find_first_not_of(c, i), pattern.size()) - i;
      if (!r.take(c, count)) return std::nullopt;
      i += count;
    } else {
      if (!r.text.starts_with(c)) return std::nullopt;
      r.text.remove_prefix(1);
      ++i;
    }
  }
  year_month_day date{std::chrono::year(r.year), std::chrono::month(static_cast<unsigned>(r.month)), std::chrono::day(static_cast<unsigned>(r.day))};
  if (!r.text.empty() || !date.ok() || r.hour > 23 || r.minute > 59 || r.second > 60) return std::nullopt;
  Wall at = Wall(sys_days(date)) + hours(r.hour) + minutes(r.minute) + seconds(r.second) + r.fraction;
  if (r.offset) return at - *r.offset;
  return zone ? zone->utc(at) : at;
}

std::optional<Wall> epoch(std::string_view text, std::int64_t unit) {
  auto value = to_double(text);
  if (!value || *value * static_cast<double>(unit) > static_cast<double>(epoch_max) || *value * static_cast<double>(unit) < static_cast<double>(epoch_min)) return std::nullopt;
  if (auto whole = to_int(text)) return Wall(Millis(*whole * unit));
  return Wall(Millis(static_cast<std::int64_t>(*value * static_cast<double>(unit))));
}

/// The last millisecond of what a pattern leaves open: of the day for "yyyy-MM-dd".
std::optional<Wall> filled_up(Wall at, std::string_view pattern) {
  if (pattern.contains('S')) return at;
  char unit = pattern.contains('s') ? 's' : pattern.contains('m') ? 'm' : pattern.contains('H') ? 'h' : pattern.contains('d') ? 'd' : pattern.contains('M') ? 'M' : 'y';
  auto next = add(at, 1, unit);
  return next ? std::optional(*next - Millis(1)) : std::nullopt;
}

/// One date by any of the formats "a||b".
std::optional<Wall> formatted(std::string_view text, bool upper, const DateOptions& options) {
  std::string_view formats = options.format.empty() ? std::string_view("strict_date_optional_time||epoch_millis") : std::string_view(options.format);
  while (!formats.empty()) {
    auto bars = formats.find("||");
    auto format = formats.substr(0, bars);
    formats.remove_prefix(bars == std::string_view::npos ? formats.size() : bars + 2);
    std::optional<Wall> at;
    if (format == "epoch_millis") at = epoch(text, 1);
    else if (format == "epoch_second") at = epoch(text, 1000);
    else if (format.starts_with("strict_date") || format.starts_with("date_") || format == "iso8601" || format == "date" || format == "strict_date") at = literal(text, upper, options.zone);
    else if ((at = by_pattern(text, format, options.zone)) && upper) at = filled_up(*at, format);
    if (at) return at;
  }
  return std::nullopt;
}

}  // namespace

Wall Zone::utc(Wall local) const {
  auto guess = local - offset_at(local);
  auto before = local - offset_at(guess - hours(3));
  return this->local(before) == local ? before : local - offset_at(guess);
}

Result<ZonePtr> find_zone(std::string_view name) {
  if (name.empty() || name == "Z" || name == "UTC" || name == "GMT" || name == "Etc/UTC") return ZonePtr();
  if (name[0] == '+' || name[0] == '-') {
    auto zero = from_iso8601("1970-01-01T00:00:00" + std::string(name));
    if (zero) return ZonePtr(std::make_shared<FixedZone>(-zero->time_since_epoch()));
  }
  static std::mutex mutex;
  static std::map<std::string, ZonePtr, std::less<>> known;
  std::lock_guard lock(mutex);
  if (auto at = known.find(name); at != known.end()) return at->second;
  bool clean = name.size() < 64 && name.find("..") == std::string_view::npos && std::all_of(name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '_' || c == '-' || c == '+'; });
  auto bytes = clean && name[0] != '/' ? read_file("/usr/share/zoneinfo/" + std::string(name), 1u << 20) : Result<std::string>(fail(Errc::invalid, ""));
  auto zone = bytes ? PlaceZone::read(*bytes) : nullptr;
  if (!zone) return fail(Errc::invalid, "Unknown time-zone ID: {}", name);
  known.emplace(name, zone);
  return zone;
}

std::optional<Wall> parse_date(std::string_view text, bool upper, Wall now, const DateOptions& options) {
  text = trim(text);
  if (text.starts_with("now")) return apply(now, text.substr(3), upper, options.zone);
  if (auto bars = text.find("||"); bars != std::string_view::npos) {
    auto at = formatted(text.substr(0, bars), false, options);
    return at ? apply(*at, text.substr(bars + 2), upper, options.zone) : std::nullopt;
  }
  return formatted(text, upper, options);
}

std::string print_date(Wall when, std::string_view format, const ZonePtr& zone) {
  format = format.substr(0, format.find("||"));
  auto shown = zone ? zone->local(when) : when;
  if (format == "epoch_millis") return std::to_string(when.time_since_epoch().count());
  if (format == "epoch_second") return std::to_string(floor<seconds>(when).time_since_epoch().count());
  auto iso = to_iso8601(shown);
  auto zone_text = [&]() -> std::string {
    auto minutes_off = zone ? duration_cast<minutes>(zone->offset_at(when)).count() : 0;
    if (minutes_off == 0) return "Z";
    return fmt::format("{}{:02}:{:02}", minutes_off < 0 ? '-' : '+', std::abs(minutes_off) / 60, std::abs(minutes_off) % 60);
  };
  bool pattern = !format.empty() && format.find("date") == std::string_view::npos && format != "iso8601";
  if (!pattern) return format == "strict_date" || format == "date" ? iso.substr(0, 10) : iso.substr(0, iso.size() - 1) + zone_text();
  std::string out;
  for (std::size_t i = 0; i < format.size();) {
    char c = format[i];
    auto count = std::min(format.find_first_not_of(c, i), format.size()) - i;
    if (c == '\'') {
      auto end = std::min(format.find('\'', i + 1), format.size());
      out += format.substr(i + 1, end - i - 1);
      i = end + 1;
      continue;
    }
    auto piece = [&](std::size_t at, std::size_t size) { out += iso.substr(at, size); };
    switch (c) {
      case 'y': case 'u': count >= 4 ? piece(0, 4) : piece(2, 2); break;
      case 'M': piece(5, 2); break;
      case 'd': piece(8, 2); break;
      case 'H': piece(11, 2); break;
      case 'm': piece(14, 2); break;
      case 's': piece(17, 2); break;
      case 'S': piece(20, 3); break;
      case 'X': case 'x': case 'Z': out += zone_text(); break;
      default: out.append(count, c);
    }
    i += count;
  }
  return out;
}

}  // namespace croft::logs
