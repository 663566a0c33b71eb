#pragma once
// JSON of the catalog's records and of a follower's copy on disk.

#include <string>
#include <string_view>

#include "base/json_writer.hpp"
#include "model/catalog.hpp"

namespace croft::catalog {

std::string encode(const Record& record);  ///< one line, without the newline; "type": snapshot, delta, heartbeat
Result<Record> decode_record(std::string_view line);
std::string encode(const Confirmation& c);
Result<Confirmation> decode_confirmation(std::string_view body);
void write(JsonWriter& w, const Endpoint& e);
void write(JsonWriter& w, const Service& s);

}  // namespace croft::catalog
