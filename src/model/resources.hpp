#pragma once
// What hosts have and tasks take, in fixed point, so that sums are exact.

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft {

/// Thousandths of a unit: 0.1 cpus is 100, 256 MiB of mem is 256000.
using Milli = std::int64_t;

Milli to_milli(double units);           ///< rounded to the nearest thousandth
double from_milli(Milli thousandths);

struct Resources {
  Milli cpus = 0;  ///< thousandths of a core
  Milli mem = 0;   ///< thousandths of a MiB
  Milli disk = 0;  ///< thousandths of a MiB
  Milli gpus = 0;

  auto operator<=>(const Resources&) const = default;
  Resources& operator+=(const Resources& o);
  Resources& operator-=(const Resources& o);
  friend Resources operator+(Resources a, const Resources& b) { return a += b; }
  friend Resources operator-(Resources a, const Resources& b) { return a -= b; }
  /// Whether `other` fits into this in every kind.
  [[nodiscard]] bool holds(const Resources& other) const;
  [[nodiscard]] bool negative() const { return cpus < 0 || mem < 0 || disk < 0 || gpus < 0; }
};

struct PortRange {
  std::uint16_t begin = 0, end = 0;  ///< inclusive
  auto operator<=>(const PortRange&) const = default;
};

/// A set of port numbers as sorted, disjoint, non-adjacent ranges.
class PortSet {
 public:
  PortSet() = default;
  explicit PortSet(std::vector<PortRange> ranges);
  [[nodiscard]] const std::vector<PortRange>& ranges() const { return ranges_; }
  [[nodiscard]] bool contains(std::uint16_t port) const;
  [[nodiscard]] std::uint32_t size() const;
  void add(std::uint16_t port);
  bool remove(std::uint16_t port);  ///< false when it was not in
  bool operator==(const PortSet&) const = default;
  /// "[31000-31002, 31005-31005]", Mesos's form.
  [[nodiscard]] std::string str() const;
  static Result<PortSet> parse(std::string_view text);  ///< "31000-32000", "31000-31001,31005", with or without brackets

 private:
  std::vector<PortRange> ranges_;
};

}  // namespace croft
