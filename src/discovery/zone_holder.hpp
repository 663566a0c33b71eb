#pragma once
#include <atomic>
#include <memory>
#include <mutex>

#include "discovery/zone.hpp"

namespace croft::discovery {

/// The newest zone, from one writer to many readers. A reader keeps its own pointer and looks at one number to see whether it is still
/// the newest: on the way of a question there is no lock and no shared count.
class ZoneHolder {
 public:
  void set(std::shared_ptr<const Zone> zone) {
    std::lock_guard lock(mutex_);
    zone_ = std::move(zone);
    version_.fetch_add(1, std::memory_order_release);
  }
  [[nodiscard]] std::shared_ptr<const Zone> get() const {
    std::lock_guard lock(mutex_);
    return zone_;
  }
  class Reader {
   public:
    explicit Reader(const ZoneHolder& from) : from_(from) { renew(); }
    const Zone& now() {
      if (from_.version_.load(std::memory_order_acquire) != version_) renew();
      return *zone_;
    }

   private:
    void renew() {
      std::lock_guard lock(from_.mutex_);
      zone_ = from_.zone_;
      version_ = from_.version_.load(std::memory_order_relaxed);
    }
    const ZoneHolder& from_;
    std::shared_ptr<const Zone> zone_;
    std::uint64_t version_ = 0;
  };

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Zone> zone_ = std::make_shared<const Zone>();  // mutex
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace croft::discovery
