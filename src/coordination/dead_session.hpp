#pragma once
// The session of a process that died, ended by its own host. That nobody answers is no proof of death (a firewall looks the same);
// a lock that the kernel has let go of is.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/time.hpp"

namespace croft::coordination {

/// Identity of a session, as its files in a folder of one host keep it: `session.lock`, held as long as the process lives, and
/// `session.json` (mode 0600: who has the password can end or take over the session).
struct SessionIdentity {
  std::string servers;
  std::int64_t id = 0;
  std::array<char, 16> password{};
};

std::string encode(const SessionIdentity& identity);
Result<SessionIdentity> decode_session_identity(std::string_view text);

/// The lock on a folder's session. Errors: conflict (its process lives, frozen or not), io.
Result<Fd> lock_session(const std::filesystem::path& folder);
Status keep_session(const std::filesystem::path& folder, const SessionIdentity& identity);
void forget_session(const std::filesystem::path& folder);

/// Under the lock: ends the kept session, if any, and forgets it. True when there was one that still lived. Blocks for at most about `limit`.
/// Errors   unavailable (ZooKeeper did not answer; it stays kept), corrupt (and forgotten), forbidden.
Result<bool> end_kept_session(const std::filesystem::path& folder, Millis limit);

/// For a unit's post-stop step and `croft store …`: takes the lock, ends the session, lets go. conflict when the process lives.
Result<bool> end_dead_session(const std::filesystem::path& folder, Millis limit);

}  // namespace croft::coordination
