#pragma once
// Virtual time and dice. Two runs of one seed and one binary do the same things in the same order.

#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include "base/time.hpp"

namespace croft::sim {

class World {
 public:
  explicit World(std::uint64_t seed) : dice_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  void after(Millis delay, std::function<void()> work) { queue_.push({now_ + delay, next_++, std::move(work)}); }
  [[nodiscard]] Now now() const { return {Mono(now_), Wall(Millis(1'700'000'000'000) + now_)}; }
  [[nodiscard]] Millis elapsed() const { return now_; }
  /// Runs until `end` or until `stop` says so after a step.
  void run_until(Millis end, const std::function<bool()>& stop) {
    while (!queue_.empty() && queue_.top().at <= end) {
      auto event = queue_.top();
      queue_.pop();
      now_ = event.at;
      ++steps_;
      event.work();
      if (stop()) return;
    }
    now_ = end;
  }
  std::uint64_t roll(std::uint64_t sides) {
    dice_ ^= dice_ << 13, dice_ ^= dice_ >> 7, dice_ ^= dice_ << 17;
    return dice_ % sides;
  }
  bool chance(double p) { return static_cast<double>(roll(1'000'000)) < p * 1e6; }
  Millis between(std::int64_t low, std::int64_t high) { return Millis(low + static_cast<std::int64_t>(roll(static_cast<std::uint64_t>(high - low + 1)))); }
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

 private:
  struct Event {
    Millis at;
    std::uint64_t order;
    std::function<void()> work;
    bool operator<(const Event& o) const { return std::tie(at, order) > std::tie(o.at, o.order); }
  };
  std::priority_queue<Event> queue_;
  Millis now_{0};
  std::uint64_t next_ = 0, steps_ = 0, dice_;
};

}  // namespace croft::sim
