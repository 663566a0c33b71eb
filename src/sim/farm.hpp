#pragma once
// Everything that runs in one world, and who knows whom. Each process is a shell of the simulation's own around the real cores.

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/text.hpp"
#include "sim/balancer.hpp"
#include "sim/faults.hpp"
#include "sim/host.hpp"
#include "sim/judge.hpp"
#include "sim/master.hpp"
#include "sim/network.hpp"
#include "sim/sim.hpp"
#include "sim/store.hpp"
#include "sim/users.hpp"
#include "sim/world.hpp"

namespace croft::sim {

struct Farm {
  explicit Farm(const RunOptions& options);
  ~Farm();
  RunResult run();

  void probe(Probe p) { ++result.probes[static_cast<std::size_t>(p)]; }
  [[nodiscard]] bool has(Bug bug) const { return options.bug == bug; }
  void fail(std::string id, std::string why);
  [[nodiscard]] bool failed() const { return !result.failure.empty(); }
  /// One line of the run's story, which is also its fingerprint.
  template <class... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    line_.clear();
    fmt::format_to(std::back_inserter(line_), format, std::forward<Args>(args)...);
    keep();
  }
  /// The process that leads by the store's word, when there is one.
  [[nodiscard]] Master* leader();
  void store_loop();

  RunOptions options;
  RunResult result;
  World world;
  Network net;
  NodeId store_node, user_node;
  StoreSim store;
  std::vector<std::unique_ptr<Master>> masters;
  std::vector<std::unique_ptr<Host>> hosts;
  std::vector<std::unique_ptr<Balancer>> balancers;   ///< the last one is a DNS server: it confirms nothing
  Judge judge;
  Users users;
  Faults faults;
  bool quiet = false;                                 ///< the faults have ended

 private:
  void keep();
  fmt::memory_buffer line_;
  std::deque<std::string> log_;
};

}  // namespace croft::sim
