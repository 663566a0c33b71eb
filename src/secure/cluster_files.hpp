#pragma once
// What `croft init` leaves on the first master, and reading it again.

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/accounts.hpp"
#include "secure/renewal.hpp"
#include "secure/seal.hpp"

namespace croft::secure {

/// The folder, mode 0700:
///
///   ca.pem         the trust bundle, for every host and client (0644)
///   ca.json        the CAs with their keys (0600, masters only; as are the next three)
///   join.key       under which join tokens are sealed
///   seal.json      keys of the store's values
///   operator.json  the first operator's token, as its hash: an account of the store to be
///   host.pem, host.key   this host's own certificate and key (0644, 0600)
inline constexpr std::string_view master_files[] = {"ca.json", "join.key", "seal.json", "operator.json"};
struct ClusterFiles {
  Trust trust;
  std::string join_key;
  KeyRing seal;
  Token first_operator;
  std::string host_certificate_pem, host_key_pem;
};

struct FoundOptions {
  std::string cluster;                 ///< "": a new random one
  HostIdentity host;                   ///< name and roles; its cluster is not looked at
  std::vector<std::string> names;      ///< by which clients reach the host, beside its own
};

struct Founded {
  std::string cluster, ca_fingerprint;
  std::string operator_token;          ///< is nowhere but here
};

/// Makes everything aside and renames it into place: it is whole, or not there.
/// Errors   conflict (the folder is there and not empty: nothing is touched), invalid (a name), io.
Result<Founded> found_cluster(const std::filesystem::path& folder, const FoundOptions& options, Wall now);

/// A file that nobody else may read or write. Errors: not_found, io, forbidden (its mode, or no plain file), too_large.
Result<std::string> read_secret(const std::filesystem::path& file, std::size_t max);

/// Errors   not_found, io, forbidden (a secret that others may read or write), corrupt, invalid, naming the file.
/// What another master needs of this one's folder, as a JSON object of file names and texts. Errors: as read_cluster().
Result<std::string> master_secrets(const std::filesystem::path& folder);
Result<ClusterFiles> read_cluster(const std::filesystem::path& folder);

/// Whether hand_over will know this user; asked before anything is made. Errors: invalid.
Status check_owner(const std::string& user);
/// Hands the folder and what is in it to a user of this host: the services run as that one, `croft init` and `croft join` as root.
/// Without a name to `croft`, where there is such a user and the caller is root; else nothing is done. Errors: not_found (no such user), io.
Status hand_over(const std::filesystem::path& folder, const std::string& user);

}  // namespace croft::secure
