#pragma once
// What goes wrong, when, for how long; and which parts are in trouble at a moment, so that the judge knows what it may ask of them.

#include <vector>

#include "sim/network.hpp"

namespace croft::sim {

struct Farm;

class Faults {
 public:
  explicit Faults(Farm& farm) : farm_(farm) {}
  void start();
  void end_all();                                    ///< everything is healed and up
  /// Since when this node has had no trouble; its last trouble may lie in the future.
  [[nodiscard]] Millis calm_since(NodeId n) const { return trouble_[n]; }
  /// Whether node `n` and the farm's leadership have been well for so long.
  [[nodiscard]] bool well(NodeId n, Millis length) const;
  [[nodiscard]] bool led(Millis length) const;
  void trouble(NodeId n, Millis length);
  void trouble_at_the_top(Millis length);
  [[nodiscard]] bool calm_farm() const { return calm_; }
  bool bad_store = false;                            ///< the store in force is not the farm's

 private:
  void loop();
  void weather();
  void strike_master();
  void strike_leadership(std::uint64_t kind);
  void strike_store();
  void strike_host();
  void strike_task();
  void strike_balancer();
  void strike_machine(bool all);
  void all_masters_down(Millis length);
  void unknown_store();
  void part(NodeId a, NodeId b, Millis length);
  void later(Millis delay, Work undo);

  Farm& farm_;
  std::vector<Millis> trouble_;
  Millis top_{0};
  bool calm_ = false, host_faults_ = true, top_faults_ = true;
  std::vector<Work> undo_;                           ///< what is still to be put right
};

}  // namespace croft::sim
