#pragma once
// Users: they deploy, scale, update, delete, re-create, kill, restart, force and roll back, at random and at the wrong moment.

#include "sim/master.hpp"

namespace croft::sim {

class Users {
 public:
  explicit Users(Farm& farm) : farm_(farm) {}
  void start();
  void repair();                                     ///< the faults are over: what can never run is put right
  bool paused = false;

 private:
  void loop();
  void send(OpPtr op);
  OpPtr pick();
  static OpPtr give_secret(std::uint64_t n);
  OpPtr change_node();
  static OpPtr set_node(const AgentId& node, orchestrator::NodeMode mode);
  void take_nodes_back();
  std::optional<orchestrator::Intent> deploy(const orchestrator::Orchestrator& core, const AppId& id);
  std::optional<orchestrator::Intent> change(const orchestrator::Orchestrator& core, const AppId& id, std::uint64_t kind);
  orchestrator::App dress(orchestrator::App app);
  Farm& farm_;
  std::uint64_t next_ = 1, flavour_ = 1;
};

}  // namespace croft::sim
