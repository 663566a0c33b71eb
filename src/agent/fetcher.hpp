#pragma once
#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "model/task.hpp"

namespace croft::agent {

/// Brings one artifact into the sandbox: file:// and absolute paths by copy, http, https and ftp by curl; archives are unpacked. Blocks.
/// Errors   invalid (scheme, name), not_found, io, timeout; all name the URI.
Status fetch(const Artifact& artifact, const std::filesystem::path& sandbox, const std::filesystem::path& cache);

}  // namespace croft::agent
