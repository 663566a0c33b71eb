#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "model/task.hpp"

namespace croft::agent {

/// The host's side of a task's volumes, settled just before they are mounted: a relative path becomes a folder of the sandbox, made where it is not there, and
/// none of its steps may be a link (an artifact may have brought one); an absolute one is resolved, and what it leads to must lie in `permitted`.
/// Errors   forbidden, io: in words that name the volume.
Result<std::vector<Volume>> settle_volumes(std::vector<Volume> volumes, const std::filesystem::path& sandbox, const std::vector<std::string>& permitted);

}  // namespace croft::agent
