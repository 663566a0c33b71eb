#pragma once
// JSON of the link's records: one object a line, the kind as "type" for down records.

#include <boost/json/value.hpp>

#include <string>
#include <string_view>

#include "base/json_writer.hpp"
#include "model/link.hpp"

namespace croft::link {

std::string encode(const Down& record);        ///< one line, without the newline
std::string encode(const Registration& r);
std::string encode(const Report& r);
Result<Down> decode_down(std::string_view line);
Result<Registration> decode_registration(std::string_view body);
Result<Report> decode_report(std::string_view body);

void write(JsonWriter& w, const TaskSpec& spec);
void write(JsonWriter& w, const TaskStatus& status);
Result<TaskSpec> spec_from(const boost::json::value& v);
Result<TaskStatus> status_from(const boost::json::value& v);

}  // namespace croft::link
