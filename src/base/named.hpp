#pragma once
// An id is a type: two swapped ids do not compile.

#include <compare>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace croft {

template <class Tag>
class Named {
 public:
  Named() = default;
  explicit Named(std::string value) : value_(std::move(value)) {}
  explicit Named(std::string_view value) : value_(value) {}
  explicit Named(const char* value) : value_(value) {}

  [[nodiscard]] const std::string& str() const { return value_; }
  [[nodiscard]] bool empty() const { return value_.empty(); }
  auto operator<=>(const Named&) const = default;

 private:
  std::string value_;
};

}  // namespace croft

template <class Tag>
struct std::hash<croft::Named<Tag>> {
  std::size_t operator()(const croft::Named<Tag>& id) const noexcept { return std::hash<std::string>{}(id.str()); }
};

template <class Tag>
struct fmt::formatter<croft::Named<Tag>> : fmt::formatter<std::string_view> {
  auto format(const croft::Named<Tag>& id, format_context& ctx) const {
    return fmt::formatter<std::string_view>::format(id.str(), ctx);
  }
};
