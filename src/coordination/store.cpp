#include "coordination/store.hpp"

#include <algorithm>

namespace croft::coordination {

Status check(const Batch& batch) {
  std::size_t total = 0;
  auto key_fits = [](const std::string& key) -> Status {
    if (key.empty()) return fail(Errc::invalid, "store: an empty key");
    if (key.size() > key_bytes_max) return fail(Errc::too_large, "store: key '{}…' is longer than {} bytes", key.substr(0, 40), key_bytes_max);
    if (key.find('\0') != std::string::npos) return fail(Errc::invalid, "store: a key with a NUL in it");
    return {};
  };
  for (const auto& key : batch.remove) {
    if (auto ok = key_fits(key); !ok) return ok;
    total += key.size();
  }
  for (const auto& [key, value] : batch.put) {
    if (auto ok = key_fits(key); !ok) return ok;
    if (value.size() > value_bytes_max)
      return fail(Errc::too_large, "store: the value of '{}' has {} bytes, at most {} are stored", key, value.size(), value_bytes_max);
    total += key.size() + value.size();
  }
  if (total > batch_bytes_max) return fail(Errc::too_large, "store: a change of {} bytes, at most {} are stored at once", total, batch_bytes_max);
  return {};
}

Term restored_term(const Term& saved, const Term& present, const Term& at_least) {
  Term out;
  out.epoch = std::max({saved.epoch + leap_epochs, present.epoch + 1, at_least.epoch});
  out.head = std::max({saved.head + leap_commits, present.head, at_least.head});
  out.cluster_id = at_least.cluster_id.empty() ? saved.cluster_id : at_least.cluster_id;
  return out;
}

}  // namespace croft::coordination
