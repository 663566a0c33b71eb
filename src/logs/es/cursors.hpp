#pragma once
// Searches that go on over several requests: scrolls and points in time. Each pins a view of the store until it ends or runs out.

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "logs/query/search.hpp"

namespace croft::logs {

struct HitOptions;

struct Cursor {
  std::string owner;                 ///< who opened it, "" where nobody logs in: an id that leaks helps nobody else
  std::shared_ptr<const StoreView> view;
  SearchRequest request;             ///< scroll: of the next page
  std::shared_ptr<const HitOptions> hits;  ///< scroll: how the first request wanted hits shown
  std::uint64_t total = 0;
  bool total_is_lower_bound = false;
};

/// Threads  safe from any. At most so many live at once; what was not asked for within its keep-alive is gone.
class Cursors {
 public:
  static constexpr std::size_t count_max = 200;
  static constexpr std::chrono::minutes keep_max{60};
  /// Nothing when there are too many.
  std::optional<std::string> open(Cursor cursor, std::chrono::milliseconds keep);
  /// Nothing also when it is somebody else's.
  std::optional<Cursor> find(const std::string& id, std::string_view owner, std::optional<std::chrono::milliseconds> keep);
  void replace(const std::string& id, Cursor cursor);
  bool close(const std::string& id, std::string_view owner);
  std::size_t close_all();           ///< whosever; for admins, as the gate sees to
  [[nodiscard]] std::size_t count();

 private:
  struct Entry { Cursor cursor; std::chrono::steady_clock::time_point until; };
  void expire();                     // mutex_ held
  std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace croft::logs
