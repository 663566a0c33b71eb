#pragma once
// Which sandboxes go. Pure; the shell looks at the disk, asks, removes what is named and asks again.

#include <filesystem>
#include <optional>
#include <vector>

#include "base/time.hpp"

namespace croft::agent {

/// A sandbox that no task runs in and whose lines are shipped, or a kept artifact: nothing else is brought here.
struct EndedSandbox {
  std::filesystem::path path;
  Millis age{0};  ///< since its folder was written to, the artifact used last
};

/// Shape    made of what there is at one moment; next() names one sandbox after the other.
/// Source   by age, as Mesos's --gc_delay; by want of room, as its --gc_disk_headroom, but one at a time and the oldest first.
class Collection {
 public:
  static constexpr double fullness_max = 0.9;
  Collection(std::vector<EndedSandbox> ended, Millis age_max);
  /// The next to remove, on a disk that is `full` (0 to 1) now: whatever is older than it may be, else the oldest while the disk is too full.
  [[nodiscard]] std::optional<std::filesystem::path> next(double full);

 private:
  std::vector<EndedSandbox> left_;  // the oldest last
  Millis age_max_;
};

/// Every sandbox below `slaves`, in Mesos's layout. Reads the disk.
std::vector<EndedSandbox> list_sandboxes(const std::filesystem::path& slaves);
/// Kept artifacts in `cache`, by when they were used last. Reads the disk.
std::vector<EndedSandbox> list_kept(const std::filesystem::path& cache);
/// What fetches of a former life were in the middle of.
void drop_unfinished(const std::filesystem::path& cache);
/// With the folders above it that hold nothing else.
void remove_sandbox(const std::filesystem::path& sandbox);
/// How full the file system of `path` is, 0 to 1, as an unprivileged user finds it; 0 where it cannot be asked.
double fullness(const std::filesystem::path& path);

}  // namespace croft::agent
