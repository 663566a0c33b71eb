#pragma once
// A balancer (or a DNS server): the real Follower, its copy on disk, and the rotation of a data plane that outlives the process.

#include <map>
#include <optional>
#include <set>

#include "catalog/follower.hpp"
#include "sim/network.hpp"

namespace croft::sim {

struct Farm;

class Balancer {
 public:
  Balancer(Farm& farm, NodeId n, std::size_t i, bool c) : node(n), index(i), confirms(c), farm_(farm) {}
  void boot();
  void crash();                                      ///< the process; its HAProxy goes on
  void on_line(const PipePtr& pipe, std::uint64_t connection, const std::shared_ptr<const std::string>& line);
  void on_refused(std::uint64_t connection);
  [[nodiscard]] bool has(const AppId& app, const TaskId& task) const {
    auto at = rotation.find(app);
    return at != rotation.end() && at->second.contains(task);
  }
  [[nodiscard]] std::string label() const;

  const NodeId node;
  const std::size_t index;
  const bool confirms;
  catalog::Follower follower;
  std::map<AppId, std::set<TaskId>> rotation;        ///< what the data plane sends requests to
  std::map<AppId, std::map<TaskId, AgentId>> homes;  ///< where these are
  std::uint64_t connection = 0;
  PipePtr stream;
  Millis unfollowed{0};                              ///< when it lost its newest stream
  Millis followed{0};                                ///< when this stream brought its first record
  std::size_t master = 0;
  catalog::Index carried;                            ///< the highest that its data plane ever had
  bool misled = false;                               ///< what its data plane has is of a leader on another store than the farm's
  std::map<TaskId, Millis> seen;                     ///< when a task was last in rotation

 private:
  void connect();
  void leave(Millis pause);
  void apply_later();
  void carry_out();
  void keep_unheard(const std::map<AppId, std::set<TaskId>>& old, const std::map<AppId, std::map<TaskId, AgentId>>& old_homes, const catalog::Doubt& doubt);
  void confirm();
  void confirm_loop();
  void save();

  Farm& farm_;
  std::optional<catalog::Index> applied_;
  std::optional<std::string> saved_;
  std::set<TaskId> unnamed_;                         ///< in rotation since before this process: its HAProxy knows addresses only
  std::map<TaskId, std::string> addresses_;          ///< of what is in rotation
  std::map<TaskId, std::uint32_t> open_;
  Millis pause_{50}, heard_{0};
  std::size_t asked_ = 0;                            ///< masters since it had a stream
  bool applying_ = false, unsaved_ = false, saving_ = false;
};

}  // namespace croft::sim
