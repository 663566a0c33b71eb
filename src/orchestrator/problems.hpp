#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_writer.hpp"

namespace croft::orchestrator {

/// All that is wrong with a manifest, with Marathon's paths ("/container/docker/portMappings(1)/hostPort"), to be mended in one go.
class Problems {
 public:
  Problems() = default;
  explicit Problems(std::string within) : within_(std::move(within)) {}  ///< "(2)": of the third element of a list
  /// A wrong shape (type, missing field): Marathon says "Invalid JSON".
  void shape(std::string path, std::string error) { add(std::move(path), std::move(error)), shape_ = true; }
  /// A wrong meaning: "Object is not valid".
  void meaning(std::string path, std::string error) { add(std::move(path), std::move(error)); }
  /// A field that nothing here knows: no problem, as with Marathon, but worth a word.
  void unknown(std::string path) { unknown_.push_back(within_ + path); }
  [[nodiscard]] const std::vector<std::string>& unknown() const { return unknown_; }
  [[nodiscard]] bool any() const { return !by_path_.empty(); }
  /// {"message":…,"details":[{"path":…,"errors":[…]}]}
  [[nodiscard]] std::string json() const {
    JsonWriter w;
    w.begin_object().field("message", shape_ ? "Invalid JSON" : "Object is not valid").key("details").begin_array();
    for (const auto& [path, errors] : by_path_) {
      w.begin_object().field("path", path).key("errors").begin_array();
      for (const auto& e : errors) w.value(e);
      w.end_array().end_object();
    }
    w.end_array().end_object();
    return std::move(w).take();
  }

 private:
  void add(std::string path, std::string error) {
    path = within_ + path;
    by_path_[path.empty() ? "/" : std::move(path)].push_back(std::move(error));
  }
  std::string within_;
  std::map<std::string, std::vector<std::string>> by_path_;
  std::vector<std::string> unknown_;
  bool shape_ = false;
};

}  // namespace croft::orchestrator
