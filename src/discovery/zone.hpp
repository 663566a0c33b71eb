#pragma once
// The farm's zone with its answers ready made. ZoneBuilder follows the catalog; a Zone is one state of it, immutable, for any thread.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/cow_map.hpp"
#include "catalog/follower.hpp"
#include "discovery/records.hpp"

namespace croft::discovery {

/// One name's answers, as bytes to copy behind a question. The owner of each record is the question's name (a pointer to offset 12).
struct Entry {
  struct Service {
    std::uint32_t at = 0, glue_at = 0;       ///< into srv and glue
    std::uint16_t size = 0, glue_size = 0;
    std::uint16_t glue_count = 0;
    std::uint32_t target = 0;                ///< which distinct target; equal ones are neighbours
  };
  std::string name;                          ///< wire form
  std::string a, aaaa;                       ///< records of 16 and of 28 bytes; all empty: exists, but holds nothing (an inner node)
  std::string srv, glue;                     ///< glue: addresses of the targets, their owner left as two zero bytes
  std::vector<Service> services;

  static constexpr std::size_t a_size = 16, aaaa_size = 28;
  struct Target { std::string name; std::uint16_t port = 0; std::vector<std::string> addresses; };
  [[nodiscard]] std::vector<std::string> addresses() const;   ///< as text, A then AAAA
  [[nodiscard]] std::vector<Target> targets() const;          ///< name without the final dot; at most one address of each family
};

/// Hash table of entries whose copies share what did not change.
class NameTable {
 public:
  NameTable();
  [[nodiscard]] const Entry* find(std::string_view wire) const;
  void set(std::shared_ptr<const Entry> entry);
  void erase(std::string_view wire);
  [[nodiscard]] std::size_t size() const { return size_; }
  template <class F>
  void for_each(F&& f) const {
    for (const auto& shard : shards_)
      for (const auto& [hash, entry] : *shard) f(*entry);
  }

 private:
  using Shard = std::vector<std::pair<std::uint64_t, std::shared_ptr<const Entry>>>;  // sorted by hash
  Shard& own(std::uint64_t hash);
  std::vector<std::shared_ptr<Shard>> shards_;
  std::size_t size_ = 0;
};

struct Zone {
  std::string domain;                        ///< "mesos"
  std::string apex;                          ///< its wire form
  std::uint32_t ttl = 1, serial = 0;
  bool unknown_srv_is_noerror = true;
  bool loaded = false;                       ///< false: nothing is known yet, so nothing can be denied either
  NameTable names;
  CowMap<TaskId, std::shared_ptr<const NamedTask>> tasks;   ///< those that are named
  [[nodiscard]] const Entry* find(std::string_view dotted) const;
};

/// Pure. A change of an app touches only its names; zone() costs a copy of pointers.
class ZoneBuilder {
 public:
  /// The domain must be a valid name (checked by its caller).
  explicit ZoneBuilder(ZoneOptions options);
  /// Takes in a change of the content; true when the zone is another one than before.
  bool apply(const catalog::Content& content, const catalog::Follower::Change& change);
  [[nodiscard]] std::shared_ptr<const Zone> zone() const;

 private:
  struct Name {
    std::vector<std::pair<std::string, std::uint32_t>> records;   // kind and data, with how many sources say so; sorted
    std::uint32_t below = 0;                                      // names with records under this one
  };
  void update_members(const catalog::Content& content, const catalog::Follower::Change& change, std::set<AppId>& apps);
  void update_app(const AppId& app, const catalog::Content& content);
  void update_farm(const catalog::Content& content);
  void add(const Record& r);
  void take(const Record& r);
  void count_parents(const std::string& name, int by);
  [[nodiscard]] std::shared_ptr<const Entry> render(const std::string& name, const Name& records) const;
  void render_dirty();

  ZoneOptions options_;
  Zone zone_;
  std::unordered_map<std::string, Name> names_;                   // by wire form
  std::map<AppId, std::set<TaskId>> members_;                     // all endpoints
  std::map<AppId, std::map<TaskId, std::shared_ptr<const NamedTask>>> named_;
  std::vector<Record> farm_;
  std::set<std::string> dirty_;
};

}  // namespace croft::discovery
