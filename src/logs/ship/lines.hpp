#pragma once
// Lines and what becomes of them: a document with who said it and when. Pure.

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.hpp"

namespace croft::logs {

/// Cuts a byte stream at its newlines. A line longer than the bound is given once, cut, and the rest of it is dropped.
class LineSplitter {
 public:
  explicit LineSplitter(std::size_t line_max) : line_max_(line_max) {}
  void feed(std::string_view bytes, const std::function<void(std::string_view line, bool cut)>& each);
  /// The stream has ended: what stands without a newline.
  void finish(const std::function<void(std::string_view line, bool cut)>& each);
  [[nodiscard]] std::size_t held() const { return held_.size(); }
  /// From here on no line may be longer than what is held now (memory is short).
  void cut_now(const std::function<void(std::string_view line, bool cut)>& each);

 private:
  std::size_t line_max_;
  std::string held_;
  bool dropping_ = false;
};

struct LineContext {
  std::vector<std::pair<std::string_view, std::string>> fields;  ///< who said it; these win over a JSON line's own, which go under "original"
  std::int64_t offset = -1;                                      ///< behind it in its stream; -1: none
  Wall at{};                                                     ///< when it was written
  bool cut = false;
  std::string_view fallback_host;                                ///< host where the line names none
  bool stranger = false;                                         ///< anybody may have sent it: what says whose a task's line is goes under "original" too
};

struct LineDocument {
  std::string json;   ///< one line, with @timestamp
  Wall at{};
};

/// A JSON object is merged in, any other text is the message. A time stamp that cannot be one (more than 30 days behind
/// `at` or two days ahead of it, before 1970, no date) is kept as _@timestamp. Tags say what was mended: _truncated, _invalid_utf8, _timestampparsefailure, _jsonparsefailure.
LineDocument document_of(std::string_view line, const LineContext& context);

/// Whether something that came at `at` can be of this time. The task itself says it, or can write it into its sandbox.
bool may_be_true(Wall own, Wall at);

/// Whether a field says whose task's line a document is. By these lines are shown to who may see the app, and hidden from others.
bool names_task(std::string_view key);

/// "logstash-2026.11.24"
std::string index_for(Wall at);
/// {"create":{"_index":…,"_id":…}} and a newline.
void append_create(std::string& out, std::string_view index, std::string_view id);

}  // namespace croft::logs
