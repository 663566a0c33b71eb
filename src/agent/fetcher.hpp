#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/runtime.hpp"
#include "base/error.hpp"
#include "model/task.hpp"

namespace croft::agent {

struct FetchRules {
  std::optional<Owner> as;                             ///< whose rights the helpers have; nothing: our own
  std::vector<std::string> host_paths{"/"};            ///< folders of this host that files may come from, links resolved
  std::uint64_t bytes_max = std::uint64_t{10} << 30;   ///< of one file, before and after unpacking
  std::chrono::seconds limit{600};                     ///< of one artifact's way here, and of its unpacking
  std::filesystem::path sandboxes;                     ///< the folder of all tasks' sandboxes, of which helpers see this one only; "": no matter
};

/// Brings one artifact into the sandbox: file:// and absolute paths by copy, http, https and ftp by curl; archives are unpacked. Everything in the
/// sandbox is written with the rights of `as`, so that a link that an archive brings leads nowhere that the task could not go by itself. A redirect
/// leads to no loopback, link-local or private address unless the URI itself named one of that kind; link-local addresses are asked never.
/// Blocks. As root the helpers stand in process, mount, host name and IPC namespaces of their own, in which there are no other tasks' sandboxes: an archive that
/// takes over its unpacker finds no other process, and one whose links name another sandbox finds none there.
/// Errors   invalid (scheme, name, URL), forbidden (a path, an address), unavailable (as root, but the kernel gives no namespaces), corrupt (another checksum), not_found, io, timeout, too_large; all name the URI.
Status fetch(const Artifact& artifact, const std::filesystem::path& sandbox, const std::filesystem::path& cache, const FetchRules& rules = {});

}  // namespace croft::agent
