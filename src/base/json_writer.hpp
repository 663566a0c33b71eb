#pragma once
// JSON out: a streaming writer into one string, without a document in memory. Numbers print in their shortest form.

#include <boost/json/fwd.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace croft {

/// Writes one JSON document from begin to end. The caller keeps the order (key before value); commas are put by the writer.
///
///   JsonWriter w;
///   w.begin_object().field("id", app.id).key("ports").begin_array();
///   for (auto p : ports) w.value(p);
///   w.end_array().end_object();
///   send(std::move(w).take());
///
/// Errors   none: invalid UTF-8 becomes U+FFFD, NaN and infinities become null.
/// Threads  one at a time.
class JsonWriter {
 public:
  JsonWriter() = default;
  explicit JsonWriter(std::string into) : out_(std::move(into)) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool truth);
  JsonWriter& value(double number);
  template <std::integral I>
    requires(!std::same_as<I, bool>)
  JsonWriter& value(I number) {
    if constexpr (std::is_signed_v<I>) return integer(static_cast<std::int64_t>(number));
    else return natural(static_cast<std::uint64_t>(number));
  }
  JsonWriter& value(const boost::json::value& v);
  template <class T>
    requires requires(const T& t) { { t.str() } -> std::convertible_to<std::string_view>; }
  JsonWriter& value(const T& id) { return value(std::string_view(id.str())); }
  JsonWriter& null();
  /// Text that is already JSON, copied as it is.
  JsonWriter& raw(std::string_view json);

  template <class T>
  JsonWriter& field(std::string_view name, const T& v) { key(name); return value(v); }
  template <class T>
  JsonWriter& field(std::string_view name, const std::optional<T>& v) {  ///< absent when empty
    if (v) { key(name); value(*v); }
    return *this;
  }

  [[nodiscard]] const std::string& str() const& { return out_; }
  [[nodiscard]] std::string take() && { return std::move(out_); }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  /// Hands over what was written so far and goes on behind it: a long document in pieces. `into` gives its memory for the next piece.
  void drain(std::string& into) {
    into.clear();
    out_.swap(into);
  }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  JsonWriter& integer(std::int64_t number);
  JsonWriter& natural(std::uint64_t number);
  void separate();

  std::string out_;
  bool comma_ = false;  // whether the next element at this level needs a comma first
};

/// `"text"` with quotes and escapes.
std::string json_quote(std::string_view text);

}  // namespace croft
