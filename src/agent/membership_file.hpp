#pragma once
// What an agent remembers of its farm, on disk.

#include "agent/agent_core.hpp"
#include "base/files.hpp"

namespace croft::agent {

/// Shape   `agent.json`, written aside and renamed. Where there is no room for that, `agent.spare`, whose one block was taken when there was: it is written over in
///         place, so that a node whose disk is full still follows a new leader and does not lose its tasks. The later one of the two counts.
class MembershipFile {
 public:
  explicit MembershipFile(const fs::path& work_dir) : file_(work_dir / "agent.json"), spare_(work_dir / "agent.spare") {}
  /// Nothing: neither is there. Errors name the file that cannot be read; the other one counts then, if it is there.
  Result<Membership> load();
  Status save(const Membership& m);

 private:
  Status save_in_place(std::string_view text) const;
  fs::path file_, spare_;
  bool spare_used_ = false;  // it is not blank
};

}  // namespace croft::agent
