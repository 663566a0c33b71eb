#pragma once
// Placement constraints: UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER, IS over host names and agents' attributes.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cluster/cluster.hpp"
#include "orchestrator/app.hpp"

namespace re2 { class RE2; }

namespace croft::orchestrator {

/// What is wrong with one constraint as written, in Marathon's words; "" when nothing.
std::string constraint_problem(const std::vector<std::string>& constraint);

/// An app's constraints over its instances as they are now. Instances of an earlier configuration do not count, so that an update can
/// put the new one where the old one is.
///
/// Shape    made for one batch; placed() adds to what is counted. An agent without the attribute satisfies UNLIKE only.
/// Source   Marathon's constraints; GROUP_BY n as of 1.11, without a number as before it.
class Constraints final : public cluster::Chooser {
 public:
  Constraints(const App& app, const cluster::Cluster& cluster);
  ~Constraints() override;
  Constraints(const Constraints&) = delete;
  Constraints& operator=(const Constraints&) = delete;

  std::optional<std::uint32_t> rank(const cluster::Agent& agent) override;
  [[nodiscard]] std::string why_not(const cluster::Agent& agent) const override;
  bool placed(const cluster::Agent& agent) override;

 private:
  enum class Kind : std::uint8_t { unique, cluster, group_by, like, unlike, max_per, is };
  struct One {
    Kind kind;
    std::string field, value;
    std::int64_t number = 0;
    std::unique_ptr<re2::RE2> regex;
    std::map<std::string, std::uint32_t> used;   ///< instances, by the field's value
    [[nodiscard]] bool changes() const;          ///< whether placements change its answers
  };
  [[nodiscard]] bool allows(const One& one, const std::optional<std::string>& value) const;
  [[nodiscard]] bool group_has_room(const One& one, const std::string& value) const;

  std::vector<One> all_;
  std::uint32_t instances_;
  bool changes_ = false;
  std::unordered_map<const cluster::Agent*, bool> fixed_;  ///< what the constraints that never change say
};

/// Victims in the order in which they keep GROUP_BY's groups even: the biggest group gives first. `named` ones come before all others.
std::vector<const cluster::Task*> evened_out(const App& app, const cluster::Cluster& cluster, std::vector<const cluster::Task*> order, const std::vector<TaskId>& named);

}  // namespace croft::orchestrator
