#pragma once
// Brings one HAProxy to what the catalog wants and keeps it there: what takes a command, what a reload, what must wait, what is left out.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "balancer/haproxy.hpp"
#include "balancer/plan.hpp"
#include "balancer/render.hpp"
#include "balancer/steps.hpp"
#include "base/time.hpp"

namespace croft::balancer {

struct KeeperOptions {
  RenderOptions rendering;                         ///< its shared_ports are replaced by those of the next two that are ours
  std::vector<std::uint16_t> shared_ports{5000};   ///< must be ours
  std::vector<std::uint16_t> optional_ports{80};   ///< left out where somebody else has them
  std::string own_ip;
  Millis reload_every{100};                        ///< between two reloads at least, the more the more old workers there are
  Millis gather{50};                               ///< for which a reload waits when all it brings are back ends that have nobody yet: others come along
};

/// Shape    apply() whenever the catalog changes or `again` is over. Idempotent: what failed is done by the next call.
/// Errors   in Outcome::trouble, in words; HAProxy then goes on with what it had.
/// Threads  one at a time; blocks as long as HAProxy does.
class Keeper {
 public:
  Keeper(KeeperOptions options, Proxy& proxy) : options_(std::move(options)), proxy_(proxy) {}

  struct Outcome {
    bool in_force = false;                         ///< instances are in or out of rotation as the content says, new back ends aside
    bool whole = false;                            ///< all that the content says is in force, rules and new back ends too, but what is left out
    std::optional<Millis> again;                   ///< something is left to do: call again after this, changed or not
    std::string trouble;
    std::size_t commands = 0;
    unsigned reloads = 0;
  };
  /// `fresh`: heard from a leader since croft was started. A HAProxy that runs knows more than an old copy of the catalog, and is left alone. It knows more, too,
  /// than a leader that has not heard all agents: `doubt` says where.
  Outcome apply(const catalog::Content& content, bool fresh, Mono now, const catalog::Doubt& doubt = {});

  /// True when HAProxy is gone or is not the one that apply() left: it must be called again.
  [[nodiscard]] bool lost() const;
  /// Of the worker that apply() left; 0: none. Its end is to be noticed by whoever calls.
  [[nodiscard]] int pid() const { return up_ ? pid_ : 0; }
  /// Whether any task is out of rotation and still in its place: open_requests() has something to say.
  [[nodiscard]] bool drains() const;
  /// Open requests of draining tasks, those of old workers too. A task that is not in rotation and has none stands with 0.
  [[nodiscard]] std::map<TaskId, std::uint32_t> open_requests() const;
  /// What the content asks for and is not done, in words, of the newest apply().
  [[nodiscard]] const std::vector<std::string>& left_out() const { return left_out_; }

 private:
  Status start(const catalog::Content& content, Outcome& outcome);
  void adopt(const Proxy::Info& info);
  Status choose_shared_ports();
  Plan plan_for(const catalog::Content& content, const Plan& before);
  bool usable(std::uint16_t port) const { return fronts_.contains(port) || proxy_.port_is_free(options_.rendering.address, port); }
  Status judge(const catalog::Content& content, Plan& wanted);
  bool beyond_doubt(const catalog::Content& content, const Plan& wanted) const;
  void find_offenders(const catalog::Content& content, const Plan& wanted);
  Status save(const Plan& plan, const std::string& shape);
  Status reload(const catalog::Content& content, Plan wanted, Outcome& outcome, Mono now);
  [[nodiscard]] bool brings_nobody(Plan wanted) const;
  std::optional<bool> end_idle_old_workers();
  void took(Plan plan, const std::string& shape, int pid);

  KeeperOptions options_;
  Proxy& proxy_;
  Banned banned_;
  catalog::Doubt doubt_;                                // of the content that is being applied
  std::map<AppId, catalog::Service> banned_services_;   // as they were when HAProxy refused them
  std::set<std::string> proven_;                        // parts of configurations that HAProxy has accepted, by shape
  bool up_ = false, maybe_old_workers_ = false, resync_ = false;
  bool refused_ = true;                                 // the newest start or reload: the next one is judged in full
  bool outdated_ = false;                               // old workers know instances that are out of rotation since
  Plan has_;                                            // what HAProxy has
  std::string shape_;                                   // of what it has
  int pid_ = 0;
  std::set<std::uint16_t> fronts_;                      // ports that it has bound
  std::string on_disk_;
  std::optional<Mono> next_reload_;
  std::optional<Mono> gathers_until_;
  std::optional<Mono> unseen_since_;                    // old workers could not be asked after, because the master did not answer
  std::vector<std::string> left_out_;
};

}  // namespace croft::balancer
