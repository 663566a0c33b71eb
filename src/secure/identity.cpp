#include "secure/identity.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "secure/ossl.hpp"

namespace croft::secure {

namespace {

constexpr std::string_view scheme = "croft://";
constexpr std::size_t names_max = 64;

bool letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

}  // namespace

std::string_view to_string(HostRole role) {
  switch (role) {
    case HostRole::master: return "master";
    case HostRole::node: return "node";
    case HostRole::balancer: return "balancer";
    case HostRole::dns: return "dns";
    case HostRole::log: return "log";
  }
  return "?";
}

std::optional<HostRole> host_role(std::string_view text) {
  for (auto role : host_roles)
    if (to_string(role) == text) return role;
  return std::nullopt;
}

bool HostIdentity::is(HostRole role) const { return std::find(roles.begin(), roles.end(), role) != roles.end(); }

std::string HostIdentity::str() const {
  std::string list;
  for (auto role : roles) list += (list.empty() ? "" : ", ") + std::string(to_string(role));
  return fmt::format("host {} ({})", host, list);
}

Status check_host(std::string_view host) {
  if (host.empty() || host.size() > host_bytes_max) return fail(Errc::invalid, "host: must have 1 to {} characters", host_bytes_max);
  for (const auto& label : split(host, '.')) {
    bool ok = !label.empty() && label.size() <= 63 && letter_or_digit(label.front()) && letter_or_digit(label.back());
    if (!ok || !std::all_of(label.begin(), label.end(), [](char c) { return letter_or_digit(c) || c == '-'; }))
      return fail(Errc::invalid, "host: may have lower-case letters, digits, '-' and '.' only, as a name in DNS");
  }
  return {};
}

Status check_cluster(std::string_view cluster) {
  if (cluster.empty() || cluster.size() > 64 || !std::all_of(cluster.begin(), cluster.end(), [](char c) { return letter_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '-'; }))
    return fail(Errc::invalid, "cluster: must have 1 to 64 letters, digits and '-'");
  return {};
}

Result<std::vector<std::string>> uris_of(const HostIdentity& identity) {
  if (auto ok = check_host(identity.host); !ok) return fail(ok.error());
  if (auto ok = check_cluster(identity.cluster); !ok) return fail(ok.error());
  if (identity.roles.empty()) return fail(Errc::invalid, "roles: a host without a role needs no certificate");
  std::vector<std::string> out;
  for (auto role : host_roles)
    if (identity.is(role)) out.push_back(fmt::format("{}{}/{}/{}", scheme, identity.cluster, to_string(role), identity.host));
  return out;
}

Result<HostIdentity> identity_of(const std::vector<std::string>& uris) {
  HostIdentity out;
  if (uris.size() > names_max) return fail(Errc::too_large, "certificate: more than {} names", names_max);
  for (const auto& uri : uris) {
    if (!uri.starts_with(scheme)) continue;
    auto parts = split(std::string_view(uri).substr(scheme.size()), '/');
    auto role = parts.size() == 3 ? host_role(parts[1]) : std::nullopt;
    if (!role || !check_cluster(parts[0]) || !check_host(parts[2])) return fail(Errc::invalid, "certificate: a malformed identity among its names");
    if (!out.roles.empty() && (out.cluster != parts[0] || out.host != parts[2])) return fail(Errc::invalid, "certificate: names two hosts");
    out.cluster = parts[0];
    out.host = parts[2];
    if (!out.is(*role)) out.roles.push_back(*role);
  }
  if (out.roles.empty()) return fail(Errc::invalid, "certificate: does not say which host of a croft cluster it is for");
  std::sort(out.roles.begin(), out.roles.end());
  return out;
}

Result<HostIdentity> identity_of(const x509_st& certificate) {
  std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> uris;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const auto* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const auto* text = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<std::size_t>(ASN1_STRING_length(text)));
  }
  return identity_of(uris);
}

Status check(const HostIdentity& seen, const Expectation& wanted) {
  if (!wanted.cluster.empty() && seen.cluster != wanted.cluster) return fail(Errc::forbidden, "{} is of cluster {}, not of {}", seen.str(), seen.cluster, wanted.cluster);
  if (!wanted.host.empty() && seen.host != wanted.host) return fail(Errc::forbidden, "{} is not {}", seen.str(), wanted.host);
  if (wanted.role && !seen.is(*wanted.role)) return fail(Errc::forbidden, "{} has not the role {}", seen.str(), to_string(*wanted.role));
  return {};
}

}  // namespace croft::secure
