#pragma once
#include <memory>

#include "coordination/store.hpp"
#include "secure/seal.hpp"

namespace croft::coordination {

/// A store whose values are sealed under the cluster's keys, each bound to its key; keys stay readable. What was stored plain before is read, and sealed
/// when it is next written. Backups hold the sealed values: they are of use with the keys only.
/// Errors   load: corrupt (changed, moved), not_found (sealed under a key that the ring has not), naming the key.
std::unique_ptr<Store> sealed_store(std::unique_ptr<Store> store, std::shared_ptr<const secure::KeyRing> ring);

}  // namespace croft::coordination
