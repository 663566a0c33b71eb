#pragma once
// One document as queries see it: dotted field names, arrays as several values, `.keyword` as another name of the same.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "logs/store/row.hpp"

namespace croft::logs {

/// A leaf value. Dates are strings until somebody compares them with a date.
struct Value {
  enum class Kind : std::uint8_t { text, number, boolean } kind = Kind::text;
  std::string_view text;
  double number = 0;
  bool truth = false, whole = false;  ///< whole: a number without a fraction part in its text
};

/// Parses lazily: a query that needs only the time never parses the source.
class DocumentReader {
 public:
  DocumentReader();
  ~DocumentReader();
  void set(const RowView& row, std::string_view index) { row_ = row, index_ = index, parsed_ = false; }
  /// Every leaf with its dotted name.
  bool leaves_by_name(const std::function<bool(std::string_view name, const Value&)>& each);
  [[nodiscard]] const RowView& row() const { return row_; }
  [[nodiscard]] std::string_view index() const { return index_; }
  /// Every leaf of `field` ("" or "*": of all fields; "log.*": of all that match). `each` gives false to stop; then this is false.
  bool values(std::string_view field, const std::function<bool(const Value&)>& each);
  bool exists(std::string_view field);
  /// First value, as text for sorting and terms; nothing when absent.
  std::optional<Value> first(std::string_view field);

 private:
  bool parse();

  struct Parsed;  // simdjson's parts, whose header is large
  std::unique_ptr<Parsed> parsed_source_;
  RowView row_;
  std::string_view index_;
  bool parsed_ = false, good_ = false;
};

/// Whether a name fits a pattern with "*" (any run) and "?" (any one).
bool fits(std::string_view pattern, std::string_view name);

/// Words of a text: maximal runs of letters, digits, '_' and bytes of other alphabets, in lower case.
void for_each_token(std::string_view text, const std::function<bool(std::string_view)>& each);
std::vector<std::string> tokens_of(std::string_view text);
std::string value_text(const Value& v);

}  // namespace croft::logs
