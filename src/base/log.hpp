#pragma once
// One event a line, key=value, ids first. `error` means a person should act.

#include <fmt/format.h>

#include <string_view>

namespace croft::log {

enum class Level : unsigned char { trace, debug, info, warn, error, off };

/// Sets where lines go (stderr by default; a file path makes it append there) and the lowest level shown. Call once, early.
void setup(Level lowest, std::string_view file = {});
Level level_of(std::string_view name);  ///< "info" when unknown
bool enabled(Level level);
void write(Level level, std::string_view module, std::string_view line);

template <class... Args>
void debug(std::string_view module, fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, module, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void info(std::string_view module, fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, module, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void warn(std::string_view module, fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::warn)) write(Level::warn, module, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void error(std::string_view module, fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::error)) write(Level::error, module, fmt::format(f, std::forward<Args>(args)...));
}

}  // namespace croft::log
