#include "logs/es/cursors.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::logs {

namespace {
auto until(std::chrono::milliseconds keep) { return std::chrono::steady_clock::now() + std::min<std::chrono::milliseconds>(keep, Cursors::keep_max); }
}  // namespace

void Cursors::expire() {
  auto now = std::chrono::steady_clock::now();
  std::erase_if(entries_, [&](const auto& e) { return e.second.until < now; });
}

std::optional<std::string> Cursors::open(Cursor cursor, std::chrono::milliseconds keep) {
  std::lock_guard lock(mutex_);
  expire();
  if (entries_.size() >= count_max) return std::nullopt;
  auto id = fmt::format("{:016x}{:016x}", random_u64(), random_u64());
  entries_.emplace(id, Entry{std::move(cursor), until(keep)});
  return id;
}

std::optional<Cursor> Cursors::find(const std::string& id, std::string_view owner, std::optional<std::chrono::milliseconds> keep) {
  std::lock_guard lock(mutex_);
  expire();
  auto at = entries_.find(id);
  if (at == entries_.end() || at->second.cursor.owner != owner) return std::nullopt;
  if (keep) at->second.until = std::max(at->second.until, until(*keep));
  return at->second.cursor;
}

void Cursors::replace(const std::string& id, Cursor cursor) {
  std::lock_guard lock(mutex_);
  if (auto at = entries_.find(id); at != entries_.end()) at->second.cursor = std::move(cursor);
}

bool Cursors::close(const std::string& id, std::string_view owner) {
  std::lock_guard lock(mutex_);
  expire();
  auto at = entries_.find(id);
  if (at == entries_.end() || at->second.cursor.owner != owner) return false;
  entries_.erase(at);
  return true;
}

std::size_t Cursors::close_all() {
  std::lock_guard lock(mutex_);
  return std::exchange(entries_, {}).size();
}

std::size_t Cursors::count() {
  std::lock_guard lock(mutex_);
  expire();
  return entries_.size();
}

}  // namespace croft::logs
