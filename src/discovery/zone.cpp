#include "discovery/zone.hpp"

#include <algorithm>
#include <cstring>

#include "base/error.hpp"
#include "base/text.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

constexpr std::size_t shards = 1024;
constexpr std::size_t srv_fixed = 18;  // owner 2, type 2, class 2, ttl 4, length 2, priority 2, weight 2, port 2

void record_head(std::string& to, std::uint16_t owner, std::uint16_t type, std::uint32_t ttl, std::size_t size) {
  append16(to, owner), append16(to, type), append16(to, 1), append32(to, ttl), append16(to, static_cast<std::uint16_t>(size));
}

std::string stored(const Record& r) { return std::string(1, static_cast<char>(r.kind)) + r.data; }

}  // namespace

// --- entries ---

std::vector<std::string> Entry::addresses() const {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < a.size(); at += a_size) out.push_back(address_text(std::string_view(a).substr(at + 12, 4)));
  for (std::size_t at = 0; at < aaaa.size(); at += aaaa_size) out.push_back(address_text(std::string_view(aaaa).substr(at + 12, 16)));
  return out;
}

std::vector<Entry::Target> Entry::targets() const {
  std::vector<Target> out;
  for (const auto& s : services) {
    Target t;
    t.port = get16(srv.data() + s.at + srv_fixed - 2);
    t.name = from_wire(std::string_view(srv).substr(s.at + srv_fixed, s.size - srv_fixed));
    for (std::size_t at = s.glue_at; at < s.glue_at + s.glue_size;) {
      auto size = get16(glue.data() + at + 10);
      t.addresses.push_back(address_text(std::string_view(glue).substr(at + 12, size)));
      at += 12u + size;
    }
    out.push_back(std::move(t));
  }
  return out;
}

// --- the table ---

NameTable::NameTable() : shards_(shards, std::make_shared<Shard>()) {}

static auto place(auto& shard, std::uint64_t hash, std::string_view wire) {
  auto at = std::lower_bound(shard.begin(), shard.end(), hash, [](const auto& e, std::uint64_t h) { return e.first < h; });
  while (at != shard.end() && at->first == hash && at->second->name != wire) ++at;
  return at;
}

const Entry* NameTable::find(std::string_view wire) const {
  auto hash = hash_name(wire);
  const auto& shard = *shards_[hash % shards];
  auto at = place(shard, hash, wire);
  return at != shard.end() && at->first == hash ? at->second.get() : nullptr;
}

NameTable::Shard& NameTable::own(std::uint64_t hash) {
  auto& shard = shards_[hash % shards];
  if (shard.use_count() > 1) shard = std::make_shared<Shard>(*shard);
  return *shard;
}

void NameTable::set(std::shared_ptr<const Entry> entry) {
  auto hash = hash_name(entry->name);
  auto& shard = own(hash);
  auto at = place(shard, hash, entry->name);
  if (at != shard.end() && at->first == hash) {
    at->second = std::move(entry);
    return;
  }
  shard.emplace(at, hash, std::move(entry));
  ++size_;
}

void NameTable::erase(std::string_view wire) {
  auto hash = hash_name(wire);
  auto& shard = own(hash);
  auto at = place(shard, hash, wire);
  if (at == shard.end() || at->first != hash) return;
  shard.erase(at);
  --size_;
}

const Entry* Zone::find(std::string_view dotted) const {
  auto wire = to_wire(dotted);
  return wire ? names.find(*wire) : nullptr;
}

// --- the builder ---

ZoneBuilder::ZoneBuilder(ZoneOptions options) : options_(std::move(options)) {
  options_.domain = lower(options_.domain);
  auto apex = to_wire(options_.domain);
  CROFT_ASSERT(apex && apex->size() > 1);
  zone_.domain = options_.domain;
  if (zone_.domain.ends_with('.')) zone_.domain.pop_back();
  zone_.apex = *apex;
  zone_.ttl = options_.ttl;
  zone_.serial = options_.first_serial;
  zone_.unknown_srv_is_noerror = options_.unknown_srv_is_noerror;
  names_[zone_.apex].below = 1;  // the apex exists also while it is empty
  update_farm({});
  dirty_.insert(zone_.apex);
  render_dirty();
}

bool ZoneBuilder::apply(const catalog::Content& content, const catalog::Follower::Change& change) {
  bool first = !std::exchange(zone_.loaded, true);
  std::set<AppId> apps(change.apps.begin(), change.apps.end());
  update_members(content, change, apps);
  for (const auto& app : apps) update_app(app, content);
  if (change.all || change.nodes || change.masters || change.balancers) update_farm(content);
  if (dirty_.empty() && !first) return false;
  render_dirty();
  ++zone_.serial;
  return true;
}

std::shared_ptr<const Zone> ZoneBuilder::zone() const { return std::make_shared<const Zone>(zone_); }

/// Brings members_ up to date and adds to `apps` whatever else may look different.
void ZoneBuilder::update_members(const catalog::Content& content, const catalog::Follower::Change& change, std::set<AppId>& apps) {
  if (change.all) {
    for (const auto& [app, tasks] : members_) apps.insert(app);
    members_.clear();
    for (const auto& [id, e] : content.endpoints) members_[e.app].insert(id), apps.insert(e.app);
    return;
  }
  for (const auto& id : change.endpoints) {
    if (auto at = content.endpoints.find(id); at != content.endpoints.end()) {
      members_[at->second.app].insert(id);
      continue;
    }
    for (const auto& app : change.apps)
      if (auto at = members_.find(app); at != members_.end() && at->second.erase(id) > 0 && at->second.empty()) members_.erase(at);
  }
}

void ZoneBuilder::update_app(const AppId& app, const catalog::Content& content) {
  std::vector<const catalog::Endpoint*> all;
  if (auto at = members_.find(app); at != members_.end())
    for (const auto& id : at->second)
      if (auto e = content.endpoints.find(id); e != content.endpoints.end() && e->second.app == app) all.push_back(&e->second);
  auto service = content.services.find(app);
  bool has_checks = service != content.services.end() && !service->second.health_checks.empty();
  auto& before = named_[app];
  std::map<TaskId, std::shared_ptr<const NamedTask>> after;
  for (const auto* e : named_of(all, has_checks)) {
    auto task = NamedTask::of(*e);
    auto old = before.find(e->task);
    bool same = old != before.end() && *old->second == task;
    after.emplace(e->task, same ? old->second : std::make_shared<const NamedTask>(std::move(task)));
  }
  for (const auto& [id, task] : before) {
    auto now = after.find(id);
    if (now != after.end() && now->second == task) continue;
    for (const auto& r : records_of(*task, zone_.domain)) take(r);
    if (now == after.end()) zone_.tasks.erase(id);
  }
  for (const auto& [id, task] : after) {
    if (auto old = before.find(id); old != before.end() && old->second == task) continue;
    for (const auto& r : records_of(*task, zone_.domain)) add(r);
    zone_.tasks.set(id, task);
  }
  if (after.empty()) named_.erase(app);
  else before = std::move(after);
}

void ZoneBuilder::update_farm(const catalog::Content& content) {
  auto now = farm_records(content, options_);
  if (now == farm_) return;
  std::vector<Record> gone, fresh;
  std::set_difference(farm_.begin(), farm_.end(), now.begin(), now.end(), std::back_inserter(gone));
  std::set_difference(now.begin(), now.end(), farm_.begin(), farm_.end(), std::back_inserter(fresh));
  for (const auto& r : gone) take(r);
  for (const auto& r : fresh) add(r);
  for (const auto& r : now)
    if (r.kind == Kind::srv) dirty_.insert(r.owner);  // their targets' addresses are in them
  farm_ = std::move(now);
}

void ZoneBuilder::add(const Record& r) {
  auto& records = names_[r.owner].records;
  bool was_empty = records.empty();
  auto key = stored(r);
  auto at = std::lower_bound(records.begin(), records.end(), key, [](const auto& e, const std::string& k) { return e.first < k; });
  if (at != records.end() && at->first == key) ++at->second;
  else records.emplace(at, std::move(key), 1);
  dirty_.insert(r.owner);
  if (was_empty) count_parents(r.owner, 1);
}

void ZoneBuilder::take(const Record& r) {
  auto name = names_.find(r.owner);
  CROFT_ASSERT(name != names_.end());
  auto& records = name->second.records;
  auto key = stored(r);
  auto at = std::lower_bound(records.begin(), records.end(), key, [](const auto& e, const std::string& k) { return e.first < k; });
  CROFT_ASSERT(at != records.end() && at->first == key);
  if (--at->second == 0) records.erase(at);
  dirty_.insert(r.owner);
  if (records.empty()) count_parents(r.owner, -1);
}

/// Names between this one and the apex exist as long as something is below them (RFC 8020).
void ZoneBuilder::count_parents(const std::string& name, int by) {
  for (std::size_t at = 1u + static_cast<unsigned char>(name[0]); at < name.size() && name.size() - at >= zone_.apex.size();
       at += 1u + static_cast<unsigned char>(name[at])) {
    auto parent = name.substr(at);
    auto& p = names_[parent];
    bool existed = p.below > 0;
    p.below += static_cast<std::uint32_t>(by);
    if (existed != (p.below > 0)) dirty_.insert(parent);
  }
}

void ZoneBuilder::render_dirty() {
  for (const auto& name : dirty_) {
    auto at = names_.find(name);
    if (at->second.records.empty() && at->second.below == 0) {
      zone_.names.erase(name);
      names_.erase(at);
    } else {
      zone_.names.set(render(name, at->second));
    }
  }
  dirty_.clear();
}

std::shared_ptr<const Entry> ZoneBuilder::render(const std::string& name, const Name& from) const {
  auto entry = std::make_shared<Entry>();
  entry->name = name;
  std::string_view last_target;
  for (const auto& [stored_record, sources] : from.records) {
    auto kind = static_cast<Kind>(stored_record[0]);
    auto data = std::string_view(stored_record).substr(1);
    if (kind != Kind::srv) {
      auto& to = kind == Kind::a ? entry->a : entry->aaaa;
      record_head(to, 0xC00C, kind == Kind::a ? 1 : 28, zone_.ttl, data.size());
      to += data;
      continue;
    }
    auto target = data.substr(0, data.size() - 2);
    Entry::Service s;
    s.at = static_cast<std::uint32_t>(entry->srv.size());
    record_head(entry->srv, 0xC00C, 33, zone_.ttl, 6 + target.size());
    append16(entry->srv, 0), append16(entry->srv, 1);  // priority, weight
    entry->srv += data.substr(data.size() - 2);
    entry->srv += target;
    s.size = static_cast<std::uint16_t>(entry->srv.size() - s.at);
    bool same = !entry->services.empty() && target == last_target;
    if (same) {
      const auto& before = entry->services.back();
      s.glue_at = before.glue_at, s.glue_size = before.glue_size, s.glue_count = before.glue_count, s.target = before.target;
    } else {
      s.target = entry->services.empty() ? 0 : entry->services.back().target + 1;
      s.glue_at = static_cast<std::uint32_t>(entry->glue.size());
      auto host = names_.find(std::string(target));
      auto kind_done = Kind::srv;
      if (host != names_.end())
        for (const auto& [address, n] : host->second.records) {  // sorted: A before AAAA before SRV; the first of each
          auto k = static_cast<Kind>(address[0]);
          if (k == Kind::srv) break;
          if (k == kind_done) continue;
          kind_done = k;
          record_head(entry->glue, 0, k == Kind::a ? 1 : 28, zone_.ttl, address.size() - 1);
          entry->glue.append(address, 1);
          ++s.glue_count;
        }
      s.glue_size = static_cast<std::uint16_t>(entry->glue.size() - s.glue_at);
    }
    last_target = target;
    entry->services.push_back(s);
  }
  return entry;
}

}  // namespace croft::discovery
