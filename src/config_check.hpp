#pragma once
// What is wrong with a croft.toml, beyond what its reader finds: values that cannot be right, and ensembles that cannot hold together.

#include <filesystem>
#include <string>
#include <vector>

namespace croft {

/// Every mistake as "file:line: what is wrong, and what would be right", in the order of the lines; none: the file is good.
/// `zoo_cfg` is ZooKeeper's own configuration on this host, held against ours where there is one.
std::vector<std::string> check_config(const std::filesystem::path& file, const std::filesystem::path& zoo_cfg);

}  // namespace croft
