#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "orchestrator/deployment.hpp"

namespace croft::orchestrator {

/// About how many bytes an event keeps alive: the texts of the definitions that it holds. `shared`: those of its deployment count for the event before it.
std::size_t weight(const BusEvent& event, bool shared = false);

/// The newest events, for those who follow them: at most so many, and so many bytes. The newest one always stays.
///
/// Threads  one at a time.
class EventRing {
 public:
  static constexpr std::size_t count_max = 4096, bytes_max = 64u << 20;

  /// Sequences go up by one.
  void push(BusEvent event);
  /// All events behind this sequence; nothing where some of them are gone.
  [[nodiscard]] std::optional<std::vector<BusEvent>> after(std::uint64_t sequence) const;
  [[nodiscard]] std::size_t size() const { return events_.size(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  struct Weighed { BusEvent event; std::size_t bytes; };
  std::deque<Weighed> events_;
  std::size_t bytes_ = 0;
};

}  // namespace croft::orchestrator
