#include "secure/access.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::secure {

namespace {

constexpr std::size_t path_bytes_max = 1024;

std::string_view word(Verb verb) { return verb == Verb::see ? "seeing" : verb == Verb::change ? "changing" : "administering"; }

std::string_view word(Kind kind) {
  switch (kind) {
    case Kind::about: return "what everybody may see";
    case Kind::app: return "app";
    case Kind::exec: return "exec in";
    case Kind::secret: return "secret";
    case Kind::farm: return "the farm";
    case Kind::access: return "users and tokens";
    case Kind::audit: return "the audit log";
  }
  return "?";
}

/// The lowest level that suffices; nothing: nobody may.
std::optional<Level> needed(Verb verb, Kind kind) {
  switch (kind) {
    case Kind::about: return verb == Verb::see ? std::optional(Level::viewer) : std::nullopt;
    case Kind::app: return verb == Verb::see ? Level::viewer : verb == Verb::change ? Level::operator_ : Level::admin;
    case Kind::exec: return verb == Verb::change ? std::optional(Level::operator_) : std::nullopt;
    case Kind::secret: return verb == Verb::see ? Level::operator_ : Level::admin;  // that it is there; its value is nobody's
    case Kind::farm: return verb == Verb::see ? Level::viewer : Level::admin;
    case Kind::access: return Level::admin;
    case Kind::audit: return verb == Verb::see ? std::optional(Level::admin) : std::nullopt;  // nobody changes what was
  }
  return std::nullopt;
}

std::optional<Level> level_at(const Principal& who, std::string_view path) {
  std::optional<Level> best;
  for (const auto& grant : who.grants)
    if (covers(grant.group, path) && (!best || grant.level > *best)) best = grant.level;
  return best;
}

std::string describe(Verb verb, const Target& what, std::string_view path) {
  if (what.kind == Kind::exec) return fmt::format("running commands in {}", path);
  bool placed = what.kind == Kind::app || what.kind == Kind::exec || what.kind == Kind::secret;
  return placed ? fmt::format("{} {} {}", word(verb), word(what.kind), path) : fmt::format("{} {}", word(verb), word(what.kind));
}

}  // namespace

Result<std::string> clean_path(std::string_view path) {
  if (path.empty() || path.front() != '/') return fail(Errc::invalid, "path: must begin with '/'");
  if (path.size() > path_bytes_max) return fail(Errc::invalid, "path: more than {} bytes", path_bytes_max);
  std::string out;
  for (const auto& segment : split(path.substr(1), '/')) {
    if (segment.empty()) continue;
    if (segment == "." || segment == "..") return fail(Errc::invalid, "path: must not have '.' or '..'");
    if (std::any_of(segment.begin(), segment.end(), [](unsigned char c) { return c <= 0x20 || c == 0x7f || c == '%' || c == '\\'; })) return fail(Errc::invalid, "path: has a character that none may have");
    out += "/" + segment;
  }
  return out.empty() ? "/" : out;
}

bool covers(std::string_view group, std::string_view path) {
  if (group == "/") return path.starts_with('/');
  return !group.empty() && path.starts_with(group) && (path.size() == group.size() || path[group.size()] == '/');
}

Decision authorize(const Principal& who, Verb verb, const Target& what) {
  if (who.kind == Principal::Kind::anonymous) return {false, "a login is needed"};
  if (who.kind == Principal::Kind::host) return {false, fmt::format("{} is a host; hosts speak to each other only", who.str())};
  auto level = needed(verb, what.kind);
  if (!level) return {false, fmt::format("{}: nobody may", describe(verb, what, what.path))};
  if (what.kind == Kind::about) return {true, "everybody who is logged in may"};
  bool placed = what.kind == Kind::app || what.kind == Kind::exec || what.kind == Kind::secret || (what.kind == Kind::audit && !what.path.empty());
  auto path = placed ? clean_path(what.path) : Result<std::string>("/");
  if (!path) return {false, std::move(path).error().context};
  auto has = level_at(who, *path);
  if (has && *has >= *level) return {true, fmt::format("{} is {} of {}", who.str(), to_string(*has), *path)};
  auto standing = has ? fmt::format("is {} of {}", to_string(*has), *path) : fmt::format("has no rights on {}", *path);
  return {false, fmt::format("{} {}; {} needs {}", who.str(), standing, describe(verb, what, *path), to_string(*level))};
}

ViewFilter::ViewFilter(const Principal& who) {
  if (who.kind != Principal::Kind::user && who.kind != Principal::Kind::token) return;
  for (const auto& grant : who.grants) {
    groups_.push_back(grant.group);
    everything_ = everything_ || grant.group == "/";
  }
}

bool ViewFilter::shows(std::string_view path) const {
  if (groups_.empty()) return false;
  auto clean = clean_path(path);
  return clean && std::any_of(groups_.begin(), groups_.end(), [&](const auto& g) { return covers(g, *clean); });
}

bool ViewFilter::leads_to(std::string_view path) const {
  if (groups_.empty()) return false;
  auto clean = clean_path(path);
  return clean && std::any_of(groups_.begin(), groups_.end(), [&](const auto& g) { return covers(g, *clean) || covers(*clean, g); });
}

Decision authorize_link(const HostIdentity& peer, std::string_view cluster, Link link, std::string_view claimed) {
  using enum HostRole;
  if (cluster.empty() || peer.cluster != cluster) return {false, fmt::format("{} is of another cluster", peer.str())};
  auto allow = [&](std::initializer_list<HostRole> roles, std::string_view doing) -> Decision {
    for (auto role : roles)
      if (peer.is(role)) return {true, fmt::format("{} may {}", peer.str(), doing)};
    return {false, fmt::format("{} must not {}", peer.str(), doing)};
  };
  if (!claimed.empty() && claimed != peer.host) return {false, fmt::format("{} must not speak for {}", peer.str(), claimed)};
  switch (link) {
    case Link::agent: return claimed.empty() ? Decision{false, fmt::format("{} does not say which agent it is", peer.str())} : allow({node}, "be an agent");
    case Link::catalog: return allow({master, node, balancer, dns, log}, "follow the catalog");
    case Link::proxy: return allow({master}, "pass requests on");
    case Link::log_write: return allow({master, node, balancer, dns, log}, "append to the log");
    case Link::log_read: return allow({master}, "search the log");
    case Link::store_values: return allow({master}, "have the cluster's keys");
    case Link::renew: return claimed.empty() ? Decision{false, fmt::format("{} does not say which host it is", peer.str())} : allow({master, node, balancer, dns, log}, "renew its certificate");
  }
  return {false, "not known"};
}

}  // namespace croft::secure
