#pragma once
// What answers take in memory while they are written, in the whole process and by who asked: many slow readers of large answers would fill it. Private to net.

#include <cstddef>
#include <string>

namespace croft::net {

/// One answer's share, given back at the end.
///
/// Threads  each by one at a time; shares of different answers from any.
class AnswerShare {
 public:
  static constexpr std::size_t small = 64u << 10;  ///< bytes of an answer that is not counted
  AnswerShare() = default;
  AnswerShare(const AnswerShare&) = delete;
  AnswerShare& operator=(const AnswerShare&) = delete;
  ~AnswerShare();
  /// Once. False: all large answers that are being written would be more than `most` bytes (three quarters of it, unless `first`), or those of `who` more than a quarter.
  /// `first`: the farm's admins and hosts, whom others' slow readers do not keep out. One that is alone passes whatever its size: a farm's list of apps is as long as it is.
  bool take(const std::string& who, bool first, std::size_t bytes, std::size_t most);

 private:
  std::string who_;
  std::size_t bytes_ = 0;
};

}  // namespace croft::net
