#pragma once
// croft store: the whole store as a file, and the explicit steps over what agents refuse.

#include "cli/cli.hpp"

namespace croft {

/// On a master's host, beside its configuration. Returns the process's exit code; says on stdout what was done.
int store_command(const cli::StoreOptions& options);

}  // namespace croft
