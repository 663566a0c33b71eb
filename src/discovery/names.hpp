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
/// "web-yfi7z-s3" of label, hash and tail; the label is cut so that the whole is one label.
std::string instance_label(std::string_view label, std::string_view hash, std::string_view tail);
/// "_web": the label is cut by a byte where it is as long as a label may be.
std::string service_label(std::string_view label);

}  // namespace croft::discovery
