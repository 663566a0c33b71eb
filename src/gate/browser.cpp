#include "gate/browser.hpp"

#include <arpa/inet.h>

#include <algorithm>

#include "base/text.hpp"

namespace croft::gate {

namespace {

/// "host" of "host:port" and of "[::1]:port".
std::string_view name_of(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') == std::string_view::npos ? 0 : host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

bool is_address(std::string_view name) {
  unsigned char bytes[16];
  std::string text(name);
  return ::inet_pton(AF_INET, text.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

bool is_json(std::string_view type) {
  auto name = lower(trim(type.substr(0, type.find(';'))));
  return name == "application/json" || name == "application/x-ndjson" || (name.starts_with("application/") && name.ends_with("+json"));
}

}  // namespace

std::optional<BrowserRefusal> check_origin(const net::Request& r) {
  if (r.method == "GET" || r.method == "HEAD" || r.method == "OPTIONS") return std::nullopt;
  auto origin = r.headers.get("Origin");
  if (origin.empty() && !r.headers.has("Cookie")) return std::nullopt;
  if (!origin.empty()) {
    auto scheme = r.tls ? std::string_view("https://") : std::string_view("http://");
    if (!origin.starts_with(scheme) || !iequals(origin.substr(scheme.size()), r.headers.get("Host"))) return BrowserRefusal{403, "a page of another origin must not change anything here"};
  }
  if (!r.body.empty() && !is_json(r.headers.get("Content-Type"))) return BrowserRefusal{415, "Content-Type: must be application/json when a browser sends it"};
  return std::nullopt;
}

std::optional<BrowserRefusal> check_host_name(const net::Request& r, const std::vector<std::string>& names) {
  auto name = name_of(r.headers.get("Host"));
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || is_address(name) || iequals(name, "localhost")) return std::nullopt;
  if (name.find('.') == std::string_view::npos) return std::nullopt;  // no page of the net is called so
  auto plain = lower(name);
  bool ours = std::any_of(names.begin(), names.end(), [&](const std::string& n) { return n.starts_with('.') ? plain.ends_with(n) || plain == n.substr(1) : plain == lower(n); });
  if (ours) return std::nullopt;
  return BrowserRefusal{403, fmt::format("Host: '{}' is no name of this host; names that are belong into 'host_names' of croft.toml", name.substr(0, 100))};
}

}  // namespace croft::gate
