#pragma once
// Counters, gauges and histograms in Prometheus's text form. A module declares its own in one struct, with unit and help.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace croft {

/// Units are part of the name (…_seconds, …_bytes, …_total). All types are safe to use from any thread.
class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge {
 public:
  void set(double v) { value_.store(v, std::memory_order_relaxed); }
  void raise_to(double v) { auto old = value_.load(); while (old < v && !value_.compare_exchange_weak(old, v)) {} }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

/// Buckets are doubling from 100 µs to about 100 s.
class Histogram {
 public:
  void observe(double seconds);
  static constexpr int buckets = 21;
  static double bound(int bucket);
  [[nodiscard]] std::uint64_t count_in(int bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> counts_[buckets + 1]{};
  std::atomic<double> sum_{0};
};

/// Holds every metric of a process (or of a role). Metrics live as long as the registry. Asking twice for one name and
/// label set gives the same object. `labels` is Prometheus text without braces: `code="200"`.
class Metrics {
 public:
  Counter& counter(std::string_view name, std::string_view help, std::string_view labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, std::string_view labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, std::string_view labels = {});
  /// Sampled when printed; must be callable from any thread.
  void sampled(std::string_view name, std::string_view help, std::function<double()> read);
  [[nodiscard]] std::string print() const;

 private:
  enum class Kind : std::uint8_t { counter, gauge, histogram, sampled };
  struct Entry {
    Kind kind;
    std::string name, help, labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::unique_ptr<Histogram> histogram;
    std::function<double()> read;
  };
  Entry& entry(Kind kind, std::string_view name, std::string_view help, std::string_view labels);
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace croft
