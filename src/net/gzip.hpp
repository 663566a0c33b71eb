#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace croft::net {

std::string gzip(std::string_view bytes);
/// Nothing when it is not gzip or larger than `max` unpacked.
std::optional<std::string> gunzip(std::string_view bytes, std::size_t max);

}  // namespace croft::net
