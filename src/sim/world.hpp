#pragma once
// Virtual time and dice. Two runs of one seed and one binary do the same things in the same order.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <tuple>
#include <vector>

#include "base/time.hpp"

namespace croft::sim {

using Work = std::function<void()>;

class World {
 public:
  explicit World(std::uint64_t seed) : dice_(seed * 0x9E3779B97F4A7C15ull + 1) {
    for (int i = 0; i < 8; ++i) (void)roll(2);  // neighbouring seeds part ways
  }
  void after(Millis delay, Work work) { at(now_ + std::max(delay, Millis(0)), std::move(work)); }
  void at(Millis when, Work work) {
    heap_.push_back({when, next_++, std::move(work)});
    std::push_heap(heap_.begin(), heap_.end());
  }
  [[nodiscard]] Now now() const { return {Mono(std::chrono::hours(1) + now_), Wall(Millis(1'700'000'000'000) + now_)}; }
  [[nodiscard]] Millis elapsed() const { return now_; }
  /// Runs until `end` or until `stop` says so after a step.
  template <class Stop>
  void run_until(Millis end, const Stop& stop) {
    while (!heap_.empty() && heap_.front().at <= end) {
      std::pop_heap(heap_.begin(), heap_.end());
      auto event = std::move(heap_.back());
      heap_.pop_back();
      now_ = event.at;
      ++steps_;
      event.work();
      if (stop()) return;
    }
    now_ = end;
  }
  std::uint64_t roll(std::uint64_t sides) {
    dice_ ^= dice_ << 13, dice_ ^= dice_ >> 7, dice_ ^= dice_ << 17;
    return (dice_ >> 11) % sides;
  }
  bool chance(double p) { return static_cast<double>(roll(1'000'000)) < p * 1e6; }
  Millis between(std::int64_t low, std::int64_t high) { return Millis(low + static_cast<std::int64_t>(roll(static_cast<std::uint64_t>(high - low + 1)))); }
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

 private:
  struct Event {
    Millis at;
    std::uint64_t order;
    Work work;
    bool operator<(const Event& o) const { return std::tie(at, order) > std::tie(o.at, o.order); }
  };
  std::vector<Event> heap_;
  Millis now_{0};
  std::uint64_t next_ = 0, steps_ = 0, dice_;
};

}  // namespace croft::sim
