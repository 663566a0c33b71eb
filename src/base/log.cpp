#include "base/log.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "base/text.hpp"

namespace croft::log {

namespace {

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> one = [] {
    auto made = std::make_shared<spdlog::logger>("croft", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    return made;
  }();
  return one;
}

spdlog::level::level_enum spd(Level level) { return static_cast<spdlog::level::level_enum>(level == Level::off ? 6 : int(level)); }

}  // namespace

void setup(Level lowest, std::string_view file) {
  if (!file.empty()) {
    auto made = std::make_shared<spdlog::logger>("croft", std::make_shared<spdlog::sinks::basic_file_sink_mt>(std::string(file)));
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    logger() = made;
  }
  logger()->set_level(spd(lowest));
  logger()->flush_on(spdlog::level::info);
}

Level level_of(std::string_view name) {
  static constexpr std::string_view names[] = {"trace", "debug", "info", "warn", "error", "off"};
  for (unsigned char i = 0; i < 6; ++i)
    if (iequals(name, names[i])) return static_cast<Level>(i);
  return Level::info;
}

bool enabled(Level level) { return logger()->should_log(spd(level)); }

void write(Level level, std::string_view module, std::string_view line) {
  // One line, whatever words of others stand in it: none of them begins another.
  constexpr std::size_t line_max = 16u << 10;
  auto shown = line.substr(0, line_max);
  bool plain = std::none_of(shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (plain && shown.size() == line.size()) return logger()->log(spd(level), "{}: {}", module, line);
  std::string text(shown);
  for (auto& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = c == '\n' ? '|' : '?';
  logger()->log(spd(level), "{}: {}{}", module, text, shown.size() == line.size() ? "" : "…");
}

}  // namespace croft::log
