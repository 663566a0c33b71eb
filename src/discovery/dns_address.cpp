#include "discovery/dns_address.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <cstring>

#include "base/files.hpp"
#include "base/text.hpp"

namespace croft::discovery {

namespace {

sockaddr_in& v4(SocketAddress& a) { return reinterpret_cast<sockaddr_in&>(a.storage); }
sockaddr_in6& v6(SocketAddress& a) { return reinterpret_cast<sockaddr_in6&>(a.storage); }
const sockaddr_in& v4(const SocketAddress& a) { return reinterpret_cast<const sockaddr_in&>(a.storage); }
const sockaddr_in6& v6(const SocketAddress& a) { return reinterpret_cast<const sockaddr_in6&>(a.storage); }

}  // namespace

bool SocketAddress::wildcard() const {
  return bytes().find_first_not_of('\0') == std::string_view::npos;
}

std::uint16_t SocketAddress::port() const { return ntohs(storage.ss_family == AF_INET ? v4(*this).sin_port : v6(*this).sin6_port); }

void SocketAddress::set_port(std::uint16_t port) {
  if (storage.ss_family == AF_INET) v4(*this).sin_port = htons(port);
  else v6(*this).sin6_port = htons(port);
}

std::string_view SocketAddress::bytes() const {
  if (storage.ss_family == AF_INET) return {reinterpret_cast<const char*>(&v4(*this).sin_addr), 4};
  if (storage.ss_family == AF_INET6) return {reinterpret_cast<const char*>(&v6(*this).sin6_addr), 16};
  return {};
}

std::string SocketAddress::str() const {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(storage.ss_family, bytes().data(), text, sizeof text);
  return fmt::format(fmt::runtime(storage.ss_family == AF_INET6 ? "[{}]:{}" : "{}:{}"), text, port());
}

Result<SocketAddress> socket_address(const std::string& address, std::uint16_t port) {
  SocketAddress a;
  if (::inet_pton(AF_INET, address.c_str(), &v4(a).sin_addr) == 1) {
    a.storage.ss_family = AF_INET;
    a.size = sizeof(sockaddr_in);
  } else if (::inet_pton(AF_INET6, address.c_str(), &v6(a).sin6_addr) == 1) {
    a.storage.ss_family = AF_INET6;
    a.size = sizeof(sockaddr_in6);
  } else {
    return fail(Errc::invalid, "'{}' is not an address", address);
  }
  a.set_port(port);
  return a;
}

Result<SocketAddress> resolver_address(const std::string& text) {
  auto host = text;
  std::string port_text = "53";
  if (text.starts_with('[')) {
    auto close = text.find(']');
    host = text.substr(1, close == std::string::npos ? close : close - 1);
    if (close == std::string::npos || (close + 1 < text.size() && text[close + 1] != ':')) return fail(Errc::invalid, "resolver '{}': not an address", text);
    if (close + 1 < text.size()) port_text = text.substr(close + 2);
  } else if (auto colon = text.find(':'); colon != std::string::npos && text.find(':', colon + 1) == std::string::npos) {
    host = text.substr(0, colon);
    port_text = text.substr(colon + 1);
  }
  auto port = to_int(port_text);
  if (!port || *port < 1 || *port > 65535) return fail(Errc::invalid, "resolver '{}': the port must be 1 to 65535", text);
  auto a = socket_address(host, static_cast<std::uint16_t>(*port));
  if (!a) return fail(std::move(a).error().within("resolver"));
  return a;
}

std::vector<std::string> system_resolvers(const std::filesystem::path& file) {
  std::vector<std::string> out;
  auto text = read_file(file, 1u << 20);
  if (!text) return out;
  for (const auto& line : split(*text, '\n')) {
    auto rest = trim(line);
    if (!rest.starts_with("nameserver") || rest.size() < 11 || (rest[10] != ' ' && rest[10] != '\t')) continue;
    rest = trim(rest.substr(10));
    std::string address(rest.substr(0, rest.find_first_of(" \t#;")));
    if (socket_address(address, 53)) out.push_back(std::move(address));
  }
  return out;
}

std::vector<std::string> host_addresses() {
  std::vector<std::string> out;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return out;
  for (auto* i = all; i; i = i->ifa_next) {
    if (!i->ifa_addr || (i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP)) continue;
    auto family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const void* bytes = family == AF_INET ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr)
                                          : &reinterpret_cast<sockaddr_in6*>(i->ifa_addr)->sin6_addr;
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(static_cast<const in6_addr*>(bytes))) continue;
    char text[INET6_ADDRSTRLEN];
    if (::inet_ntop(family, bytes, text, sizeof text)) out.emplace_back(text);
  }
  ::freeifaddrs(all);
  return out;
}

}  // namespace croft::discovery
