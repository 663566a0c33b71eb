#pragma once
// Secrets on their way into a task: files in memory that only root reaches on the host, and that the task sees through a mount of its own.

#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime.hpp"
#include "base/error.hpp"
#include "model/task.hpp"

namespace croft::agent {

/// Where a task's secrets are, on the host and for the task. Pure.
struct SecretPlan {
  struct Mount { std::string folder, target; };   ///< a folder below the task's secrets; where the task sees it
  struct Link { std::string path, target; };      ///< below the sandbox; what it leads to as the task sees it
  std::vector<Mount> mounts;
  std::vector<Link> links;
  std::vector<std::string> files;                 ///< below the task's secrets, one a use; "": the use is a variable
  std::string env;                                ///< below the task's secrets: NAME=value, each ended by a NUL. "": no variables
};
/// `own`: where the task sees the folder "own". Files of a sandbox are links into it, so that one takes another's place at once; what an image wants
/// at an absolute path gets the whole folder there, for the same reason: what the image has in that folder is hidden.
/// Variables of a task with an image lie in "own" as well, for croft-executor --env inside it; of others where only the executor sees them.
SecretPlan plan_secrets(const TaskSpec& spec, const std::string& own);

/// Shape    FOLDER is a ramfs, which is never swapped out, mode 0700, made when the first secret comes. FOLDER/TASK has a task's.
/// Errors   io, forbidden (croft is not root, who alone can show a task a mount), invalid (a variable cannot hold a NUL); no error names a value.
/// Threads  safe from any. Blocks.
class SecretFiles {
 public:
  explicit SecretFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}
  /// The one folder of a node with this work directory, on this host.
  static std::filesystem::path folder_of(const std::filesystem::path& work_dir);

  [[nodiscard]] std::filesystem::path of(const TaskId& task) const { return folder_ / task.str(); }
  /// All of a task's, and the links in its sandbox. `values` as spec.secrets. Again before the start: the newer values.
  Status put(const Launch& launch, const SecretPlan& plan, const std::vector<SecretValue>& values);
  /// Those of a task's files that have this secret get another value, at once or not at all. Variables stay as they were at the start.
  /// `running`: the files must be there; else they may not be put yet.
  Status renew(const TaskSpec& spec, const SecretPlan& plan, const std::string& secret, const SecretValue& value, bool running);
  void remove(const TaskId& task);
  /// Takes away what tasks left that are not among these.
  void keep_only(const std::set<TaskId>& known);
  /// All of it, the mount too.
  void remove_all();

 private:
  Status make();
  std::filesystem::path folder_;
  std::mutex mutex_;
};

}  // namespace croft::agent
