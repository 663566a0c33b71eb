#pragma once
// The checks, C1 to C12 (docs/testing.md has the list). It sees everything: the cores, the disks, the processes, the users' ledger.

#include <map>
#include <optional>
#include <set>
#include <string>

#include "sim/master.hpp"
#include "sim/network.hpp"

namespace croft::sim {

class Balancer;
class Host;

class Judge {
 public:
  explicit Judge(Farm& farm) : farm_(farm) {}

  // --- C1: the ledger of what users were told ---
  void proposed(const OpPtr& op);
  void acknowledged(const OpPtr& op);
  void refused(const OpPtr& op);
  void took_over(const Master& m);
  /// --- C2, C3: who may speak, whom agents obey ---
  void sends(const Master& m);
  void obeys(Host& h, std::uint64_t epoch, std::uint64_t commit, const std::string& cluster);
  void acts_on(const Host& h, std::uint64_t epoch, const std::string& what);
  // --- C4, C5, C6, C9, C10, C11: decisions ---
  void after_turn(Master& m);
  void term_sent(const Host& h, const TaskId& id);             ///< an agent ends a task because it was told to
  void gave_up(const AgentId& agent);                          ///< a leader counts an agent as lost
  void came_back(const Host& h, const Master& m);              ///< its registration was taken
  void counted_as_lost(const Master& m, const TaskId& id);     ///< because its agent did not list it
  void on_bus(Master& m, const std::vector<orchestrator::BusEvent>& events);
  // --- C7, C8, C12: what is served ---
  void look_around();
  void left_rotation(const Balancer& b, const AppId& app, const TaskId& id);
  // --- the end ---
  [[nodiscard]] std::string unfinished();
  void task_died(const TaskId& id, const AppId& app, bool told);

 private:
  struct Entry { std::optional<std::string> text; std::string version, born; };  ///< born: the version that made it, where none was there
  struct Turn { std::size_t launched = 0; std::vector<const cluster::Task*> stopped; bool served = false, moved = false; };
  void write(const Op& op);
  void called_down(const AgentId& agent);
  void check_ledger(const Master& m);
  void check_books(Master& m);
  void check_hosts();
  void check_launches(Master& m, const AppId& app, std::size_t launched);
  void check_stops(Master& m, const AppId& app, const Turn& turn);
  void check_rolling(const Master& m);
  void check_rotation_of(Balancer& b);
  void check_copy(Balancer& b, Master& m);
  void check_draining(Master& m);
  void check_words(const Master& m);
  [[nodiscard]] std::size_t orphans(const Master& m, const AppId& app) const;
  [[nodiscard]] bool in_force(const Master& m) const;

  Farm& farm_;
  std::map<std::string, Entry> ledger_;                        // key: what was acknowledged last
  std::set<AppId> removed_;                                    // apps that were ever asked to be removed
  std::vector<OpPtr> unsure_;                                  // proposed, and not answered
  std::set<OpPtr> settled_;                                    // found by a later leader: a word that comes late says nothing new
  std::map<TaskId, Millis> kills_;                             // acknowledged kills, and when
  std::set<TaskId> decided_;                                   // tasks that are to go for a reason
  std::set<TaskId> given_up_;                                  // tasks that a leader gave up with their agent: others may have their place
  std::set<TaskId> called_down_;                               // whose node an operator gave up and that nobody has heard of since
  std::map<AgentId, std::uint64_t> heard_in_;                  // the last epoch that it registered in
  std::set<TaskId> unawaited_;                                 // of these, those whose app was removed then: no removal waits for them
  std::set<TaskId> known_when_removed_;                        // tasks that the leader in force knew when their app was removed
  std::set<TaskId> away_;                                      // of these, those whose host has not been heard of since
  std::map<TaskId, Millis> died_;
  std::map<AppId, Millis> kept_;                               // when its definition last wanted instances of silent hosts waited for
  std::map<TaskId, Millis> drains_;                            // when the present leader saw a task begin to drain
  std::set<AppId> disturbed_;                                  // since the last look: a task was killed by users, or ended by itself
  std::map<DeploymentId, bool> rolling_;                       // under watch, and still worth it
};

}  // namespace croft::sim
