#include "coordination/zookeeper_address.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::coordination {

namespace {

constexpr std::size_t servers_max = 33;

Result<ZookeeperAddress::Server> parse_server(const std::string& text) {
  if (text.empty()) return fail(Errc::invalid, "ZooKeeper address: a host between two commas is empty");
  if (text.front() == '[' || std::count(text.begin(), text.end(), ':') > 1)
    return fail(Errc::invalid, "ZooKeeper address: '{}': IPv6 literals are not supported, use a name", text);
  auto colon = text.find(':');
  ZookeeperAddress::Server server{text.substr(0, colon)};
  if (server.host.empty()) return fail(Errc::invalid, "ZooKeeper address: '{}' has no host", text);
  auto odd = [](unsigned char c) { return !std::isalnum(c) && c != '.' && c != '-' && c != '_'; };
  if (std::any_of(server.host.begin(), server.host.end(), odd)) return fail(Errc::invalid, "ZooKeeper address: '{}' is no host name", server.host);
  if (colon == std::string::npos) return server;
  auto port = to_int(text.substr(colon + 1));
  if (!port || *port < 1 || *port > 65535) return fail(Errc::invalid, "ZooKeeper address: '{}': the port is not within 1 to 65535", text);
  server.port = static_cast<std::uint16_t>(*port);
  return server;
}

}  // namespace

std::string ZookeeperAddress::servers_text() const {
  std::string out;
  for (const auto& s : servers) out += fmt::format("{}{}:{}", out.empty() ? "" : ",", s.host, s.port);
  return out;
}

std::string ZookeeperAddress::shown() const { return "zk://" + (user.empty() ? "" : user + ":***@") + servers_text() + path; }

Status check_zookeeper_path(std::string_view path) {
  if (path.empty() || path.front() != '/') return fail(Errc::invalid, "ZooKeeper path '{}': it must begin with a slash", path);
  if (path == "/") return fail(Errc::invalid, "ZooKeeper path '/': the root itself is not supported, name a path below it");
  if (path.back() == '/') return fail(Errc::invalid, "ZooKeeper path '{}': it must not end with a slash", path);
  if (path.size() > 512) return fail(Errc::invalid, "ZooKeeper path: longer than 512 bytes");
  bool first = true;
  for (const auto& part : split(path.substr(1), '/')) {
    if (part.empty()) return fail(Errc::invalid, "ZooKeeper path '{}': a part between two slashes is empty", path);
    if (part == "." || part == "..") return fail(Errc::invalid, "ZooKeeper path '{}': '{}' is not allowed", path, part);
    if (std::any_of(part.begin(), part.end(), [](unsigned char c) { return c <= ' ' || c >= 127; }))
      return fail(Errc::invalid, "ZooKeeper path: only printable ASCII without spaces is allowed");
    if (first && part == "zookeeper") return fail(Errc::invalid, "ZooKeeper path '{}': /zookeeper belongs to ZooKeeper itself", path);
    first = false;
  }
  return {};
}

Result<ZookeeperAddress> parse_zookeeper_address(std::string_view text) {
  constexpr std::string_view scheme = "zk://";
  if (!text.starts_with(scheme)) return fail(Errc::invalid, "ZooKeeper address: it must begin with zk://");
  text.remove_prefix(scheme.size());
  ZookeeperAddress out;
  // A password may hold anything but a slash, so the last @ before the path ends the credentials.
  auto slash = text.find('/');
  auto authority = text.substr(0, slash);
  if (auto at = authority.rfind('@'); at != std::string_view::npos) {
    auto credentials = authority.substr(0, at);
    auto colon = credentials.find(':');
    if (colon == std::string_view::npos) return fail(Errc::invalid, "ZooKeeper address: credentials must be user:password");
    out.user = credentials.substr(0, colon);
    out.password = credentials.substr(colon + 1);
    if (out.user.empty()) return fail(Errc::invalid, "ZooKeeper address: the user is empty");
    if (out.password.empty()) return fail(Errc::invalid, "ZooKeeper address: the password is empty");
    authority.remove_prefix(at + 1);
  }
  if (authority.empty()) return fail(Errc::invalid, "ZooKeeper address: no host is named");
  for (const auto& piece : split(authority, ',')) {
    auto server = parse_server(piece);
    if (!server) return fail(std::move(server).error());
    if (std::find(out.servers.begin(), out.servers.end(), *server) != out.servers.end())
      return fail(Errc::invalid, "ZooKeeper address: {}:{} is named twice", server->host, server->port);
    out.servers.push_back(std::move(*server));
  }
  if (out.servers.size() > servers_max) return fail(Errc::invalid, "ZooKeeper address: more than {} hosts", servers_max);
  if (slash == std::string_view::npos) return fail(Errc::invalid, "ZooKeeper address: the path is missing, as in zk://{}/mesos", out.servers_text());
  if (auto ok = check_zookeeper_path(text.substr(slash)); !ok) return fail(ok.error());
  out.path = text.substr(slash);
  return out;
}

}  // namespace croft::coordination
