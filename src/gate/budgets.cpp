#include "gate/budgets.hpp"

#include <algorithm>
#include <cmath>

namespace croft::gate {

namespace {
constexpr Millis sweep_every{60'000};
}

std::optional<Millis> Budgets::take(const std::string& who, Mono now) {
  if (options_.per_second <= 0) return std::nullopt;
  std::lock_guard guard(mutex_);
  auto grown = [&](const Bucket& b) { return std::min(options_.burst, b.left + std::chrono::duration<double>(now - b.at).count() * options_.per_second); };
  if (now - swept_ >= sweep_every) {  // a full bucket says no more than none
    std::erase_if(buckets_, [&](const auto& b) { return grown(b.second) >= options_.burst; });
    swept_ = now;
  }
  auto [at, fresh] = buckets_.try_emplace(who, options_.burst, now);
  auto& b = at->second;
  b = {grown(b), now};
  if (b.left < 1) return Millis(static_cast<std::int64_t>(std::ceil((1 - b.left) / options_.per_second * 1000)));
  b.left -= 1;
  return std::nullopt;
}

std::size_t Budgets::size() const {
  std::lock_guard guard(mutex_);
  return buckets_.size();
}

}  // namespace croft::gate
