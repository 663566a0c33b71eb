#pragma once
#include "cli/cli.hpp"

namespace croft {

/// `croft join`: a key made here, a certificate from a master whose CA has the token's hash. Whole or not at all; never over something.
int join_command(const cli::JoinOptions& options);

}  // namespace croft
