#pragma once
// A plan as a HAProxy configuration. Pure: same input, same bytes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "balancer/plan.hpp"

namespace croft::balancer {

struct RenderOptions {
  std::string run_dir;                            ///< sockets and pid file
  std::string address;                            ///< to bind, "" or "*": all
  std::vector<std::uint16_t> shared_ports{5000};  ///< of the front end with rules
  std::uint32_t threads = 2;
};

std::string render(const Plan& plan, const RenderOptions& options);
std::string render(const Plan& plan, const RenderOptions& options, const std::string& shape);   ///< where that is known already
/// Names the part of a configuration that only a reload changes: everything but the places' contents. A running HAProxy says it as its description.
std::string shape_of(const Plan& plan, const RenderOptions& options);
/// A configuration with one rule only, for `haproxy -c`.
std::string probe_config(const std::string& acl);
/// As one word of a configuration: whatever could end a word or a line is escaped.
std::string word(std::string_view text);
std::string server_name(std::size_t slot);        ///< "s1" of 0
std::string twin_name(std::size_t slot);          ///< "l1" of 0: the same instance as a last resort

}  // namespace croft::balancer
