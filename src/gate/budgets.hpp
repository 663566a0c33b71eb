#pragma once
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "base/time.hpp"

namespace croft::gate {

/// How many requests each who logged in may make: a bucket a principal, filled at a steady pace. Only those whom the farm knows have one.
///
/// Threads  any.
class Budgets {
 public:
  struct Options {
    double per_second = 1000;                ///< 0: no bound
    double burst = 2000;
  };
  explicit Budgets(Options options) : options_(options) {}
  /// Nothing: it may; else after how long it may again.
  std::optional<Millis> take(const std::string& who, Mono now);
  [[nodiscard]] std::size_t size() const;

 private:
  struct Bucket { double left; Mono at; };
  Options options_;
  mutable std::mutex mutex_;
  std::map<std::string, Bucket, std::less<>> buckets_;  // mutex_
  Mono swept_{};                                        // mutex_
};

}  // namespace croft::gate
