#pragma once
#include <filesystem>

#include "coordination/store.hpp"

namespace croft::net { class BlockingPool; }

namespace croft::coordination {

/// SQLite, WAL, synchronous=FULL; concurrent commits are grouped into one transaction. `file`'s folder must exist.
/// Source: docs/architecture.md, "The store".
Result<std::unique_ptr<Store>> open_sqlite_store(const std::filesystem::path& file);

/// An flock on `lock_file`, which also holds the advertised address while it leads.
std::unique_ptr<Election> file_election(std::filesystem::path lock_file, std::string advertised);

/// The one master of such a farm, for those who follow the leader: always certain, never another.
std::shared_ptr<Detector> fixed_detector(Leader only);

}  // namespace croft::coordination
