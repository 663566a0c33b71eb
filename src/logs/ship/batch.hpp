#pragma once
// One bulk request on its way, and what the answer to it means. Pure.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace croft::logs {

/// Lines in the order of their sources. After an answer, what is left is what must be sent again.
class Batch {
 public:
  void add(std::string_view index, std::string_view id, std::string_view document);
  [[nodiscard]] bool empty() const { return items_.empty(); }
  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// The request's body: all that is left, or its first part when a too large or unreadable request must be cut.
  [[nodiscard]] std::string body() const;
  /// Where to post it. At first only whether there were errors is asked; when there were, the same is sent again to hear which: what was
  /// taken the first time is then known and refused as such.
  [[nodiscard]] std::string_view target() const { return ask_items_ ? "/_bulk?filter_path=error,errors,items.*.status,items.*.error" : "/_bulk?filter_path=error,errors"; }

  struct Verdict {
    std::size_t stored = 0;        ///< taken, or known already
    std::size_t refused = 0;       ///< refused for good: wrong in themselves
    std::string reason;            ///< of the first refusal or delay
    bool again = false;            ///< something is left to be sent
    bool wait = false;             ///< after a pause
  };
  /// `status`: of the answer; 0 when there was none.
  Verdict answered(int status, std::string_view answer);

 private:
  struct Item { std::string lines; };
  Verdict read_items(std::string_view answer);
  std::vector<Item> items_;
  std::size_t bytes_ = 0;
  std::size_t limit_ = 0;  // items in the next body; 0: all
  bool ask_items_ = false;
};

}  // namespace croft::logs
