#pragma once
// Which fields the documents of an index have, and of what kind: by looking at a sample of them.

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "base/json_writer.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

/// Dotted names to Elasticsearch's types: "text", "long", "float", "boolean", "date".
using Fields = std::map<std::string, std::set<std::string>>;

/// Threads  safe from any. Parts never change, so what was read from one is kept.
class FieldCache {
 public:
  [[nodiscard]] Fields of(const IndexView& index);

 private:
  std::mutex mutex_;
  std::map<const Part*, std::pair<std::weak_ptr<const Part>, std::shared_ptr<const Fields>>> parts_;  // mutex_
};

/// {"properties":{…}}: a mapping's inside. Text has its keyword twin.
void write_properties(JsonWriter& w, const Fields& fields);

}  // namespace croft::logs
