#pragma once
// Makes executors, by way of one process of croft-executor that forks them (src/executor/spawner.hpp has the protocol).

#include <filesystem>
#include <memory>
#include <mutex>

#include "base/error.hpp"

namespace croft::agent {

/// Threads  safe from any.
class Spawner {
 public:
  explicit Spawner(std::filesystem::path program);
  ~Spawner();
  /// Starts the executor for a run folder; it belongs to nobody afterwards and listens when this returns. Blocks some milliseconds.
  /// Errors   io, timeout: in words of what failed.
  Status start(const std::filesystem::path& run);

 private:
  struct Process;
  Result<std::shared_ptr<Process>> process();
  void drop(const std::shared_ptr<Process>& broken);

  std::filesystem::path program_;
  std::mutex mutex_;
  std::shared_ptr<Process> process_;  // mutex
};

}  // namespace croft::agent
