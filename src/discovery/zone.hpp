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
#include "discovery/wire.hpp"

namespace croft::discovery {

/// One name's answers, as bytes to copy behind a question. The owner of each record is the question's name (a pointer to offset 12).
/// A name without any of them exists, but holds nothing (an inner node).
class Entry {
 public:
  struct Service {
    std::uint32_t at = 0, glue_at = 0;       ///< into srv() and glue()
    std::uint32_t target = 0;                ///< which distinct target; equal ones are neighbours
    std::uint16_t size = 0, glue_size = 0;
    std::uint16_t glue_count = 0;
  };
  struct Parts {
    std::string a, aaaa;                     ///< records of 16 and of 28 bytes
    std::string srv, glue;                   ///< glue: addresses of the targets, their owner left as two zero bytes
    std::vector<Service> services;
  };
  Entry(std::string_view name, Parts parts);
  static constexpr std::size_t a_size = 16, aaaa_size = 28;

  [[nodiscard]] std::string_view name() const { return view(0, a_at_); }   ///< wire form
  [[nodiscard]] std::string_view a() const { return view(a_at_, aaaa_at_); }
  [[nodiscard]] std::string_view aaaa() const { return view(aaaa_at_, srv_at_); }
  [[nodiscard]] std::string_view srv() const { return view(srv_at_, glue_at_); }
  [[nodiscard]] std::string_view glue() const { return view(glue_at_, static_cast<std::uint32_t>(bytes_.size())); }
  [[nodiscard]] const std::vector<Service>& services() const { return services_; }

  struct Target { std::string name; std::uint16_t port = 0; std::vector<std::string> addresses; };
  [[nodiscard]] std::vector<std::string> addresses() const;   ///< as text, A then AAAA
  [[nodiscard]] std::vector<Target> targets() const;          ///< name without the final dot; at most one address of each family

 private:
  [[nodiscard]] std::string_view view(std::uint32_t from, std::uint32_t to) const { return std::string_view(bytes_).substr(from, to - from); }
  std::string bytes_;                        // all of it in one piece: a farm has several names a task
  std::uint32_t a_at_, aaaa_at_, srv_at_, glue_at_;
  std::vector<Service> services_;
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

using NamedTasks = std::vector<std::shared_ptr<const NamedTask>>;

struct Zone {
  std::string domain;                        ///< "mesos"
  std::string apex;                          ///< its wire form
  std::uint32_t ttl = 1, serial = 0;
  bool unknown_srv_is_noerror = true;
  bool loaded = false;                       ///< false: nothing is known yet, so nothing can be denied either
  NameTable names;
  CowMap<AppId, std::shared_ptr<const NamedTasks>> apps;   ///< the instances that are named, by id
  std::size_t tasks = 0;                     ///< how many these are
  [[nodiscard]] const Entry* find(std::string_view dotted) const;
};

/// A name's records with how many sources say each, sorted by kind and data. Packed: most names have one address, and then it needs no heap.
class RecordBag {
 public:
  void add(Kind kind, std::string_view data);
  void take(Kind kind, std::string_view data);      ///< must be there
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  template <class F>
  void for_each(F&& f) const {
    for (std::size_t at = 0; at < bytes_.size(); at += step(at)) f(static_cast<Kind>(bytes_[at]), data(at));
  }

 private:
  // Each: kind (1 byte), size of the data (2), sources (4), data.
  static constexpr std::size_t sources_at = 3, head = 7;
  [[nodiscard]] std::size_t size_of(std::size_t at) const { return get16(bytes_.data() + at + 1); }
  [[nodiscard]] std::size_t step(std::size_t at) const { return head + size_of(at); }
  [[nodiscard]] std::string_view data(std::size_t at) const { return std::string_view(bytes_).substr(at + head, size_of(at)); }
  [[nodiscard]] std::pair<std::size_t, bool> find(Kind kind, std::string_view data) const;   ///< where it is or belongs
  std::string bytes_;
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
    RecordBag records;
    std::uint32_t below = 0;                                      // names with records under this one
  };
  void update_members(const catalog::Content& content, const catalog::Follower::Change& change, std::set<AppId>& apps);
  [[nodiscard]] NamedTasks tasks_to_name(const AppId& app, const catalog::Content& content, const NamedTasks& before) const;
  void update_app(const AppId& app, const catalog::Content& content);
  void update_farm(const catalog::Content& content);
  void add(const Record& r);
  void take(const Record& r);
  void count_parents(const std::string& name, int by);
  [[nodiscard]] std::shared_ptr<const Entry> render(const std::string& name, const Name& records) const;
  void add_glue(std::string_view target, Entry::Parts& parts, Entry::Service& s) const;
  void render_dirty();

  ZoneOptions options_;
  Zone zone_;
  std::unordered_map<std::string, Name> names_;                   // by wire form
  std::map<AppId, std::vector<TaskId>> members_;                  // all endpoints, sorted
  std::vector<Record> farm_;
  std::set<std::string> dirty_;
};

}  // namespace croft::discovery
