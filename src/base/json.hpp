#pragma once
// JSON in, by Boost.JSON with bounds; small readers for fields that are wanted in one form only.

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace croft::json {

using boost::json::array;
using boost::json::object;
using boost::json::value;

/// Parses one document. Depth is at most 64; trailing text is an error. Errors: invalid, naming line and column.
Result<value> parse(std::string_view text);

// Readers for our own wire records (link, catalog, store): an absent key or null gives the fallback, a wrong type gives the
// fallback too. Strict decoding of what people write is the faces' business, with paths and messages of its own.
const value* find(const value& from, std::string_view key);  ///< null when absent, null, or `from` is no object
std::string text(const value& from, std::string_view key, std::string_view fallback = {});
std::int64_t integer(const value& from, std::string_view key, std::int64_t fallback = 0);
double number(const value& from, std::string_view key, double fallback = 0);
bool boolean(const value& from, std::string_view key, bool fallback = false);
const array& list(const value& from, std::string_view key);     ///< empty when absent
const object& members(const value& from, std::string_view key);  ///< empty when absent
std::vector<std::string> texts(const value& from, std::string_view key);

/// Text of any value by JsonWriter's rules (0.1 prints as 0.1).
std::string print(const value& v);

}  // namespace croft::json
