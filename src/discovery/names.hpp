#pragma once
// Mesos-DNS's names. Pure.

#include <string>
#include <string_view>

#include "model/ids.hpp"

namespace croft::discovery {

/// One DNS label by RFC 1123: lower case, '.', '_' become '-', everything else goes; at most 63 bytes, no '-' at the ends.
std::string label_of(std::string_view name);
/// First five characters of z-base-32 of SHA-1: tells the instances of an app apart.
std::string hash_of(std::string_view task_id);
/// Text after the last '-' of an agent id, lower case: "…-S12" gives "s12".
std::string tail_of(const AgentId& agent);

}  // namespace croft::discovery
