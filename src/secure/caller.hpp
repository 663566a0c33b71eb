#pragma once
// Who asks, as a request carries it from the gate to the handlers. Nothing there: the farm has no logins, and everything is allowed.

#include <memory>
#include <string>
#include <string_view>

#include "secure/access.hpp"

namespace croft::secure {

struct Caller {
  Caller(Principal principal, std::string from) : who(std::move(principal)), source(std::move(from)), view(who) {}
  Principal who;
  std::string source;  ///< address, for the audit log
  ViewFilter view;
};
using CallerPtr = std::shared_ptr<const Caller>;

/// Whether the app or group at this path may be seen.
inline bool sees(const CallerPtr& caller, std::string_view path) { return !caller || caller->view.everything() || caller->view.shows(path); }
/// Whether something at or below this group may be seen.
inline bool sees_into(const CallerPtr& caller, std::string_view group) { return !caller || caller->view.everything() || caller->view.leads_to(group); }
inline bool sees_all(const CallerPtr& caller) { return !caller || caller->view.everything(); }
/// authorize() of a caller; nobody's request is allowed where nobody logs in.
inline Decision may(const CallerPtr& caller, Verb verb, const Target& what) { return caller ? authorize(caller->who, verb, what) : Decision{true, {}}; }
/// Whether a host's message may say that it comes from `host`.
inline Status check_speaks_for(const CallerPtr& caller, std::string_view host) {
  if (!caller || caller->who.kind != Principal::Kind::host || !caller->who.host || caller->who.host->host == host) return {};
  return fail(Errc::forbidden, "{} must not speak for {}", caller->who.host->str(), host);
}

}  // namespace croft::secure
