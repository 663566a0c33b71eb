#pragma once
// The farm's zone: what names stand for, built from the catalog. Pure; immutable once made.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/catalog.hpp"

namespace croft::discovery {

struct ZoneOptions {
  std::string domain = "mesos";
  std::uint32_t ttl = 1;                           ///< seconds
  std::vector<std::string> server_addresses;       ///< what ns1.<domain> answers
};

struct Srv {
  std::string target;                              ///< without the trailing dot
  std::uint16_t port = 0;
  auto operator<=>(const Srv&) const = default;
};

struct Records {
  std::vector<std::array<std::uint8_t, 4>> a;
  std::vector<std::array<std::uint8_t, 16>> aaaa;
  std::vector<Srv> srv;
  void sort_and_unique();
};

/// Names in lower case without the trailing dot. Shared by readers on any thread.
struct Zone {
  std::string domain;
  std::uint32_t ttl = 1, serial = 1;
  std::unordered_map<std::string, Records> names;
  std::set<std::string> parents;                   ///< empty non-terminals: exist, hold nothing
  [[nodiscard]] const Records* find(const std::string& name) const {
    auto at = names.find(name);
    return at == names.end() ? nullptr : &at->second;
  }
};

/// Only serving instances are named; while an app has none, those that run and have not failed.
std::shared_ptr<const Zone> build_zone(const catalog::Content& content, const ZoneOptions& options, std::uint32_t serial);

}  // namespace croft::discovery
