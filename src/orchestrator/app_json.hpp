#pragma once
// App <-> JSON: the canonical form for the store. Marathon's dialects are read by marathon_app.hpp.

#include <string>
#include <string_view>

#include "base/json_writer.hpp"
#include "orchestrator/app.hpp"

namespace croft::orchestrator {

/// Every field, in the latest Marathon form; what decode_app reads back equals what went in.
std::string encode_app(const App& app);
/// Stored records only: lenient about absent fields. Errors: invalid, naming the field.
Result<App> decode_app(std::string_view text);

}  // namespace croft::orchestrator
