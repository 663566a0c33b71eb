#pragma once
// Who may do what. Pure: a principal, a verb and a thing in, an answer with its reason out. What no rule allows is refused.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "secure/accounts.hpp"

namespace croft::secure {

/// An app's or group's path as rights see it: absolute, no empty, "." or ".." segment, no trailing slash; "/" is the root.
/// Errors   invalid. Nothing is repaired but doubled and trailing slashes, as the faces do: a path that two readers could read in two ways has no rights.
Result<std::string> clean_path(std::string_view path);
/// Whether `path` is `group` or lies below it: "/service" covers "/service/web", not "/services". Both must be clean.
bool covers(std::string_view group, std::string_view path);

enum class Verb : std::uint8_t {
  see,
  change,      ///< make, update, scale, restart, kill, delete
  administer,  ///< what can give root on a host or rights to others
};

enum class Kind : std::uint8_t {
  about,    ///< version, ping, who leads, one's own account: everybody who is logged in
  app,      ///< an app, a group, its tasks, deployments, queue entries, rules, logs and sandboxes: has a path
  exec,     ///< a command inside a task: has a path
  secret,   ///< has a path; its value is never answered, whoever asks
  farm,     ///< nodes, maintenance, frameworks, metrics, the whole of /state
  access,   ///< users and tokens
  audit,    ///< the audit log; with a path, the changes below it
};

struct Target {
  Kind kind{};
  std::string path;  ///< of app, exec, secret, audit; "" elsewhere
};

struct Decision {
  bool allowed = false;
  std::string reason;  ///< a sentence for the answer and the audit log: "user ann is viewer of /service; changing /service/web needs operator"
};

Decision authorize(const Principal& who, Verb verb, const Target& what);

/// For lists, events, searches and metrics: asked once, then for each entry.
class ViewFilter {
 public:
  explicit ViewFilter(const Principal& who);
  /// Whether the app or group at this path may be seen. An unclean path may not.
  [[nodiscard]] bool shows(std::string_view path) const;
  /// Whether something below this group may be seen, so that the group is shown as a way to it and nothing else of it.
  [[nodiscard]] bool leads_to(std::string_view path) const;
  [[nodiscard]] bool everything() const { return everything_; }

 private:
  std::vector<std::string> groups_;
  bool everything_ = false;
};

/// What hosts say to each other, and which roles may.
enum class Link : std::uint8_t {
  agent,        ///< an agent's registration and reports: a node, for itself only
  catalog,      ///< reading the catalog and confirming drains: balancer, dns, node, master, log
  proxy,        ///< a standby passing a user's request on: masters
  log_write,    ///< appending to the log store: every role
  log_read,     ///< searching in a user's name: masters
  store_values, ///< the seal keys, the trust with its keys: masters
  renew,        ///< a new certificate for itself: every role
};
/// `claimed` is the host that the message speaks for ("" where it speaks for none): it must be the certificate's.
Decision authorize_link(const HostIdentity& peer, std::string_view cluster, Link link, std::string_view claimed);

}  // namespace croft::secure
