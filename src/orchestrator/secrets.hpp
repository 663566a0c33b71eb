#pragma once
// Secrets of apps, as records of the store: "secrets/GROUP/NAME". A secret is for the apps of its group and below it.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/time.hpp"
#include "model/ids.hpp"
#include "model/task.hpp"
#include "secure/seal.hpp"

namespace croft::orchestrator {

struct App;

inline constexpr std::string_view secrets_prefix = "secrets/";
inline constexpr std::size_t secret_bytes_max = 64u << 10, secrets_max = 1000, secrets_total_max = 16u << 20, secrets_of_app_max = 100;

/// A manifest's source as a path: "team/db" and "/team/db" are the same.
std::string secret_path(std::string_view source);
/// Parts of letters, digits, '.', '_' and '-', at most 200 bytes. Errors: invalid.
Status check_secret_path(std::string_view path);
std::string group_of_secret(std::string_view path);   ///< "/team" of "/team/db"; "/" of "/db"
bool secret_is_for(std::string_view path, const AppId& app);
inline std::string secret_key(std::string_view path) { return "secrets" + std::string(path); }
/// Whether one of the app's sources leads to it.
bool uses_secret(const App& app, std::string_view path);

struct StoredSecret {
  SecretValue value;
  Wall changed{};
  std::string changed_by;
  std::size_t bytes = 0;
};
/// The value is sealed under the cluster's keys, bound to the secret's path; where a farm has none, it is in the record as base64.
std::string encode_secret(std::string_view path, const StoredSecret& secret, const secure::KeyRing* ring);
/// All but the value.
Result<StoredSecret> describe_secret(std::string_view record);
/// Errors   corrupt, not_found (sealed under a key that is not here), invalid (a newer format, or sealed and no keys are here).
Result<StoredSecret> decode_secret(std::string_view path, std::string_view record, const secure::KeyRing* ring);

}  // namespace croft::orchestrator
