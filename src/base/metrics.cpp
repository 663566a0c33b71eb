#include "base/metrics.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/text.hpp"

namespace croft {

double Histogram::bound(int bucket) { return 0.0001 * std::pow(2.0, bucket); }

void Histogram::observe(double seconds) {
  int bucket = 0;
  while (bucket < buckets && seconds > bound(bucket)) ++bucket;
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  auto old = sum_.load(std::memory_order_relaxed);
  while (!sum_.compare_exchange_weak(old, old + seconds, std::memory_order_relaxed)) {}
}

Metrics::Entry& Metrics::entry(Kind kind, std::string_view name, std::string_view help, std::string_view labels) {
  for (auto& e : entries_)
    if (e->name == name && e->labels == labels) {
      CROFT_ASSERT(e->kind == kind);
      return *e;
    }
  auto made = std::make_unique<Entry>();
  made->kind = kind;
  made->name = name;
  made->help = help;
  made->labels = labels;
  return *entries_.emplace_back(std::move(made));
}

Counter& Metrics::counter(std::string_view name, std::string_view help, std::string_view labels) {
  std::lock_guard lock(mutex_);
  auto& e = entry(Kind::counter, name, help, labels);
  if (!e.counter) e.counter = std::make_unique<Counter>();
  return *e.counter;
}

Gauge& Metrics::gauge(std::string_view name, std::string_view help, std::string_view labels) {
  std::lock_guard lock(mutex_);
  auto& e = entry(Kind::gauge, name, help, labels);
  if (!e.gauge) e.gauge = std::make_unique<Gauge>();
  return *e.gauge;
}

Histogram& Metrics::histogram(std::string_view name, std::string_view help, std::string_view labels) {
  std::lock_guard lock(mutex_);
  auto& e = entry(Kind::histogram, name, help, labels);
  if (!e.histogram) e.histogram = std::make_unique<Histogram>();
  return *e.histogram;
}

void Metrics::sampled(std::string_view name, std::string_view help, std::function<double()> read) {
  std::lock_guard lock(mutex_);
  entry(Kind::sampled, name, help, {}).read = std::move(read);
}

namespace {

void print_histogram(std::string& out, const std::string& name, const std::string& labels, const Histogram& h) {
  std::uint64_t total = 0;
  auto comma = labels.empty() ? "" : ",";
  for (int i = 0; i <= Histogram::buckets; ++i) {
    total += h.count_in(i);
    out += fmt::format("{}_bucket{{{}{}le=\"{}\"}} {}\n", name, labels, comma,
                       i == Histogram::buckets ? "+Inf" : print_number(Histogram::bound(i)), total);
  }
  auto braces = labels.empty() ? std::string() : "{" + labels + "}";
  out += fmt::format("{0}_sum{1} {2}\n{0}_count{1} {3}\n", name, braces, print_number(h.sum()), total);
}

}  // namespace

std::string Metrics::print() const {
  std::lock_guard lock(mutex_);
  std::vector<const Entry*> sorted;
  for (const auto& e : entries_) sorted.push_back(e.get());
  std::stable_sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->name < b->name; });
  std::string out;
  const std::string* last = nullptr;
  for (const auto* e : sorted) {
    if (!last || *last != e->name) {
      auto type = e->kind == Kind::counter ? "counter" : e->kind == Kind::histogram ? "histogram" : "gauge";
      out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", e->name, e->help, type);
      last = &e->name;
    }
    auto braces = e->labels.empty() ? std::string() : "{" + e->labels + "}";
    switch (e->kind) {
      case Kind::counter: out += fmt::format("{}{} {}\n", e->name, braces, e->counter->value()); break;
      case Kind::gauge: out += fmt::format("{}{} {}\n", e->name, braces, print_number(e->gauge->value())); break;
      case Kind::sampled: out += fmt::format("{}{} {}\n", e->name, braces, print_number(e->read())); break;
      case Kind::histogram: print_histogram(out, e->name, e->labels, *e->histogram); break;
    }
  }
  return out;
}

}  // namespace croft
