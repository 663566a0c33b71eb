#pragma once
// Where an address leads, for what users' URLs may ask of a node. Pure.

#include <sys/socket.h>

#include <cstdint>

namespace croft::agent {

enum class Reach : std::uint8_t {
  anywhere,    ///< public
  inside,      ///< loopback and private networks
  link_local,  ///< what never leaves its wire, and a cloud's metadata under its other addresses
};

/// AF_INET, or AF_INET6 with what IPv4 may be hidden in it.
Reach reach_of(const sockaddr* address);
/// Whether a download that began at `first` may go on at `next`. The first place itself: both the same.
bool may_reach(Reach first, Reach next);

}  // namespace croft::agent
