#pragma once
// Strict reading of a manifest's fields: a wrong type is a problem with its path, absent and null leave the target alone. What was never asked for
// is told as unknown at the end, so ask for all that is known before it matters. Keys must outlive it: they are literals.

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "orchestrator/app.hpp"
#include "orchestrator/problems.hpp"

namespace croft::orchestrator {

class Fields {
 public:
  Fields(const json::object& from, std::string path, Problems& problems) : from_(from), path_(std::move(path)), problems_(problems) {}
  ~Fields();
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  [[nodiscard]] bool has(std::string_view key) const;   ///< present and not null
  [[nodiscard]] const json::value& raw(std::string_view key) const { return from_.at(key); }
  [[nodiscard]] Problems& problems() const { return problems_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  void text(std::string_view key, std::string& into) const;
  void required_text(std::string_view key, std::string& into) const;
  void boolean(std::string_view key, bool& into) const;
  void integer(std::string_view key, std::int64_t& into, std::int64_t min, std::int64_t max) const;
  void number(std::string_view key, double& into, double min, double max) const;
  /// Case ignored, written in canonical case.
  void enumeration(std::string_view key, std::initializer_list<std::string_view> words, std::string& into) const;
  [[nodiscard]] std::optional<Fields> object(std::string_view key) const;
  void pass_over(std::initializer_list<std::string_view> keys) const;  ///< known, and without a meaning here
  void each_object(std::string_view key, const std::function<void(Fields&)>& each) const;
  void each_text(std::string_view key, const std::function<void(std::string)>& each) const;
  void each_integer(std::string_view key, std::int64_t min, std::int64_t max, const std::function<void(std::int64_t)>& each) const;
  void each_array(std::string_view key, const std::function<void(const std::vector<std::string>&, const std::string& path)>& each) const;
  void each_member(std::string_view key, const std::function<void(const std::string&, const json::value&, const std::string& path)>& each) const;
  static std::string as_decimal(double v);               ///< 2 prints as 2.0

 private:
  [[nodiscard]] std::string at(std::string_view key) const { return path_ + "/" + std::string(key); }
  const json::object& from_;
  std::string path_;
  Problems& problems_;
  mutable std::vector<std::string_view> asked_;
};

/// networks, container, ports in all their forms. In marathon_ports.cpp.
void read_networking(Fields& f, App& app);

}  // namespace croft::orchestrator
