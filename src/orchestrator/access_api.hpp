#pragma once
// croft's own paths for users, tokens, hosts' certificates and the audit log.

#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "net/async.hpp"
#include "net/http.hpp"
#include "orchestrator/leader.hpp"
#include "secure/cluster_files.hpp"

namespace croft::orchestrator {

struct AccessOptions {
  std::shared_ptr<const secure::ClusterFiles> files;  ///< of this master
  std::string cluster;
  std::shared_ptr<net::BlockingPool> blocking;        ///< passwords are hashed there
  std::string master_secrets;                         ///< what a master that joins is given: master_secrets_of()
  std::function<std::string()> own_certificate;       ///< this master's present one, PEM: join tokens name the CA that signed it
};

/// GET /croft/v1/whoami, PUT /croft/v1/password; GET/POST/PUT/DELETE /croft/v1/users…; GET/POST/DELETE /croft/v1/tokens…; POST /croft/v1/join-tokens;
/// GET /croft/v1/audit; GET /croft/v1/access for hosts; GET /croft/v1/ca, GET/POST /croft/v1/ca/rotation, GET/POST /croft/v1/ca/revocations, POST /croft/v1/join, POST /croft/v1/certificates.
/// Who may call what is the gate's to say; that only the caller's own password and only what he may see of the audit log is concerned, is said here.
void add_access_routes(net::Router& router, std::shared_ptr<RecordKeeper> keeper, AccessOptions options);

/// What shall be in the store from the first term on: the first operator's token where there is no account yet, the CAs (sealed) where there are none;
/// and what time has brought about in the CAs.
/// Errors: corrupt, not_found (sealed under keys that this master has not: it belongs to another cluster).
Result<coordination::Batch> seed_access(const Records& records, const secure::ClusterFiles& files, Wall now);
/// What time brings about in the CAs, also while no host asks for a certificate. Runs until `stopping`.
boost::asio::awaitable<void> tend_trust(std::shared_ptr<RecordKeeper> keeper, std::shared_ptr<const secure::ClusterFiles> files, std::shared_ptr<const std::atomic<bool>> stopping);
Result<secure::Trust> stored_trust(const Records& records, const secure::KeyRing& ring);
/// Errors: corrupt, invalid, too_large, naming the key.
Result<std::shared_ptr<const secure::Accounts>> stored_accounts(const Records& records);

}  // namespace croft::orchestrator
