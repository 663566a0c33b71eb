#pragma once
namespace croft {
inline constexpr const char* croft_version = "0.1.0";
}
