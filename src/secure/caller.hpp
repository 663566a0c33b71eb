#pragma once
// Who asks, as a request carries it from the gate to the handlers. Nothing there: the farm has no logins, and everything is allowed.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "secure/access.hpp"

namespace croft::secure {

struct Caller {
  using AccountsNow = std::function<std::shared_ptr<const Accounts>()>;
  Caller(Principal principal, std::string from, AccountsNow now = {}) : who(std::move(principal)), source(std::move(from)), view(who), accounts(std::move(now)) {}
  Principal who;
  std::string source;    ///< address, for the audit log
  ViewFilter view;
  AccountsNow accounts;  ///< for what lasts: renewed()
};
using CallerPtr = std::shared_ptr<const Caller>;

/// A caller of a while ago with the rights of now. Nothing: his login is over, and so is what he has open.
inline std::optional<CallerPtr> renewed(const CallerPtr& caller, Wall now) {
  if (!caller || !caller->accounts) return caller;
  auto who = caller->accounts()->present(caller->who, now);
  if (!who) return std::nullopt;
  if (who->grants == caller->who.grants) return caller;
  return std::make_shared<const Caller>(std::move(*who), caller->source, caller->accounts);
}

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
