#pragma once
// Mesos's JSON shapes of the master. Pure: a view in, text out.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "cluster/farm_view.hpp"

namespace croft::cluster::mesos {

struct TaskQuery {
  std::size_t limit = 100, offset = 0;
  bool ascending = false;                  ///< by the time of a task's first status
  std::optional<std::string> framework, task;
};

std::string state(const FarmView& v, std::uint16_t port);
/// The same in pieces, for farms whose state is tens of megabytes.
/// Threads: one at a time.
class StatePieces {
 public:
  StatePieces(std::shared_ptr<const FarmView> view, std::uint16_t port);
  ~StatePieces();
  /// Replaces `piece` by the next some 64 KiB; false when there is no more.
  bool next(std::string& piece);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};
std::string state_summary(const FarmView& v);
std::string slaves(const FarmView& v, const std::optional<std::string>& only);
std::string frameworks(const FarmView& v, const std::optional<std::string>& only);
std::string tasks(const FarmView& v, const TaskQuery& q);
std::string roles(const FarmView& v);
std::string flags(const FarmView& v, std::uint16_t port);
std::string version(const FarmView& v);
/// Flat names to numbers, as collectors read them.
std::string metrics(const FarmView& v);
std::string system_stats();

}  // namespace croft::cluster::mesos
