#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/cow_map.hpp"
#include "cluster/cluster.hpp"

namespace croft::cluster {

/// Agents and tasks at one moment, as readers get them. Shared and immutable: read it on any thread.
struct FarmView {
  CowMap<TaskId, std::shared_ptr<const Task>> tasks;          ///< live, and terminal until forgotten
  std::vector<std::shared_ptr<const Task>> ended;             ///< newest first
  std::vector<std::shared_ptr<const Agent>> agents;           ///< by id
  std::string cluster_id, hostname, version;                  ///< cluster_id "": this master has not led yet
  std::string leader;                                         ///< "host:port" of the leader's Marathon face
  std::string ip;
  std::uint64_t epoch = 0, commit = 0;
  Wall elected{}, started{}, made{};
  std::array<std::uint64_t, 16> ended_by_state{};             ///< since this leader leads, by TaskState
};

}  // namespace croft::cluster
