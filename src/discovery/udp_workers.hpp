#pragma once
// The threads that answer by UDP. Sockets cost more than answers, so packets go in and out in batches.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/files.hpp"
#include "discovery/networks.hpp"
#include "discovery/cookies.hpp"
#include "discovery/dns_address.hpp"
#include "discovery/dns_tally.hpp"
#include "discovery/zone_holder.hpp"

namespace croft::discovery {

struct UdpSocket {
  Fd fd;
  bool wildcard = false;               ///< then each answer says from which address it comes
};

/// Where an answer goes that is not there yet.
struct UdpPeer {
  std::shared_ptr<UdpSocket> socket;
  SocketAddress to;
  std::string control;
  void send(std::string_view answer) const;
};

/// Threads  `threads` of its own, each with a socket on every address (SO_REUSEPORT: the kernel deals out the askers).
class UdpWorkers {
 public:
  struct Options {
    int threads = 1;
    bool recursion = false;                  ///< for those that are near
    std::vector<Network> clients;            ///< and near are these too
    std::uint32_t answers_per_second = 0;    ///< to one network of strangers; 0: no limit. Who shows a cookie of ours is none
    CookieJar cookies = CookieJar::random();
  };
  using Forward = std::function<void(std::string packet, std::size_t limit, UdpPeer peer)>;   ///< called on the workers
  UdpWorkers(Options options, const ZoneHolder& zones, DnsTally& tally, Forward forward);
  ~UdpWorkers();
  /// Errors: io, naming the address; conflict when another process answers there.
  Status add(const SocketAddress& at);
  void stop();

 private:
  struct Worker;
  Options options_;
  const ZoneHolder& zones_;
  DnsTally& tally_;
  Forward forward_;
  Fd wake_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::shared_ptr<UdpSocket>> sockets_;  // mutex
};

}  // namespace croft::discovery
