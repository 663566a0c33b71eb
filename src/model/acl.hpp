#pragma once
#include <string_view>

#include "base/error.hpp"

namespace croft {

/// Whether a rule (HAProxy's `acl` without its name) only looks at requests. Every operator of some group writes such, and HAProxy knows words with which it
/// would read files of the balancer's host, its environment or code: those are refused, and so is quoting, behind which they could hide; and regular expressions
/// that could keep it busy (regex_cost.hpp).
/// Errors   invalid: one line, which names the word.
Status check_acl(std::string_view acl);

}  // namespace croft
