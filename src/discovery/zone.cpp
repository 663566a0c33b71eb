#include "discovery/zone.hpp"

#include <algorithm>
#include <cstring>

#include "base/error.hpp"
#include "base/text.hpp"
#include "discovery/wire.hpp"

namespace croft::discovery {

namespace {

constexpr std::size_t shards = 1024;
constexpr std::size_t record_fixed = 12;                // owner as a pointer 2, type 2, class 2, ttl 4, length 2
constexpr std::size_t srv_fixed = record_fixed + 6;     // and priority 2, weight 2, port 2

void record_head(std::string& to, std::uint16_t owner, std::uint16_t type, std::uint32_t ttl, std::size_t size) {
  append16(to, owner), append16(to, type), append16(to, 1), append32(to, ttl), append16(to, static_cast<std::uint16_t>(size));
}

}  // namespace

// --- entries ---

Entry::Entry(std::string_view name, Parts parts) : services_(std::move(parts.services)) {
  bytes_.reserve(name.size() + parts.a.size() + parts.aaaa.size() + parts.srv.size() + parts.glue.size());
  auto here = [this] { return static_cast<std::uint32_t>(bytes_.size()); };
  bytes_ += name;
  a_at_ = here(), bytes_ += parts.a;
  aaaa_at_ = here(), bytes_ += parts.aaaa;
  srv_at_ = here(), bytes_ += parts.srv;
  glue_at_ = here(), bytes_ += parts.glue;
  services_.shrink_to_fit();
}

std::vector<std::string> Entry::addresses() const {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < a().size(); at += a_size) out.push_back(address_text(a().substr(at + record_fixed, 4)));
  for (std::size_t at = 0; at < aaaa().size(); at += aaaa_size) out.push_back(address_text(aaaa().substr(at + record_fixed, 16)));
  return out;
}

std::vector<Entry::Target> Entry::targets() const {
  std::vector<Target> out;
  for (const auto& s : services_) {
    Target t;
    t.port = get16(srv().data() + s.at + srv_fixed - 2);
    t.name = from_wire(srv().substr(s.at + srv_fixed, s.size - srv_fixed));
    for (std::size_t at = s.glue_at; at < s.glue_at + s.glue_size;) {
      auto size = get16(glue().data() + at + record_fixed - 2);
      t.addresses.push_back(address_text(glue().substr(at + record_fixed, size)));
      at += record_fixed + size;
    }
    out.push_back(std::move(t));
  }
  return out;
}

// --- the table ---

NameTable::NameTable() : shards_(shards, std::make_shared<Shard>()) {}

static auto place(auto& shard, std::uint64_t hash, std::string_view wire) {
  auto at = std::lower_bound(shard.begin(), shard.end(), hash, [](const auto& e, std::uint64_t h) { return e.first < h; });
  while (at != shard.end() && at->first == hash && at->second->name() != wire) ++at;
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
  auto hash = hash_name(entry->name());
  auto& shard = own(hash);
  auto at = place(shard, hash, entry->name());
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
  auto place = [](std::vector<TaskId>& list, const TaskId& id) { return std::lower_bound(list.begin(), list.end(), id); };
  if (change.all) {
    for (const auto& [app, tasks] : members_) apps.insert(app);
    members_.clear();
    for (const auto& [id, e] : content.endpoints) members_[e.app].push_back(id), apps.insert(e.app);  // ids come sorted
    for (auto& [app, tasks] : members_) tasks.shrink_to_fit();
    return;
  }
  for (const auto& id : change.endpoints) {
    if (auto at = content.endpoints.find(id); at != content.endpoints.end()) {
      auto& list = members_[at->second.app];
      if (auto where = place(list, id); where == list.end() || *where != id) list.insert(where, id);
      continue;
    }
    for (const auto& app : change.apps) {
      auto at = members_.find(app);
      if (at == members_.end()) continue;
      if (auto where = place(at->second, id); where != at->second.end() && *where == id) at->second.erase(where);
      if (at->second.empty()) members_.erase(at);
    }
  }
}

/// The instances to name now, those that are as before being the same objects.
NamedTasks ZoneBuilder::tasks_to_name(const AppId& app, const catalog::Content& content, const NamedTasks& before) const {
  std::vector<const catalog::Endpoint*> all;
  if (auto at = members_.find(app); at != members_.end())
    for (const auto& id : at->second)
      if (auto e = content.endpoints.find(id); e != content.endpoints.end() && e->second.app == app) all.push_back(&e->second);
  auto service = content.services.find(app);
  bool has_checks = service != content.services.end() && !service->second.health_checks.empty();
  NamedTasks out;
  auto old = before.begin();
  for (const auto* e : named_of(all, has_checks)) {
    auto task = NamedTask::of(*e);
    task.ip = seen_from_outside(task.ip, options_.loopback_as);
    task.agent_ip = seen_from_outside(task.agent_ip, options_.loopback_as);
    while (old != before.end() && (*old)->task < task.task) ++old;
    bool same = old != before.end() && **old == task;
    out.push_back(same ? *old : std::make_shared<const NamedTask>(std::move(task)));
  }
  return out;
}

void ZoneBuilder::update_app(const AppId& app, const catalog::Content& content) {
  static const NamedTasks none;
  const auto* known = zone_.apps.find(app);
  auto held = known ? *known : nullptr;
  const auto& before = held ? *held : none;
  auto after = tasks_to_name(app, content, before);
  if (after == before) return;
  auto only_in = [](const NamedTasks& these, const NamedTasks& those, auto&& use) {
    auto other = those.begin();
    for (const auto& task : these) {
      while (other != those.end() && (*other)->task < task->task) ++other;
      if (other == those.end() || *other != task) use(*task);
    }
  };
  only_in(before, after, [this](const NamedTask& t) { for (const auto& r : records_of(t, zone_.domain)) take(r); });
  only_in(after, before, [this](const NamedTask& t) { for (const auto& r : records_of(t, zone_.domain)) add(r); });
  zone_.tasks = zone_.tasks - before.size() + after.size();
  if (after.empty()) zone_.apps.erase(app);
  else zone_.apps.set(app, std::make_shared<const NamedTasks>(std::move(after)));
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

std::pair<std::size_t, bool> RecordBag::find(Kind kind, std::string_view wanted) const {
  std::size_t at = 0;
  for (; at < bytes_.size(); at += step(at)) {
    auto here = static_cast<Kind>(bytes_[at]);
    if (here < kind) continue;
    auto order = here == kind ? data(at).compare(wanted) : 1;
    if (order >= 0) return {at, order == 0};
  }
  return {at, false};
}

void RecordBag::add(Kind kind, std::string_view wanted) {
  CROFT_ASSERT(wanted.size() <= name_max + 2);
  auto [at, found] = find(kind, wanted);
  std::uint32_t sources = 1;
  if (found) {
    std::memcpy(&sources, bytes_.data() + at + sources_at, sizeof sources);
    ++sources;
  } else {
    char fresh[head] = {static_cast<char>(kind)};
    put16(fresh + 1, static_cast<std::uint16_t>(wanted.size()));
    bytes_.insert(at, wanted);
    bytes_.insert(at, fresh, head);
  }
  std::memcpy(bytes_.data() + at + sources_at, &sources, sizeof sources);
}

void RecordBag::take(Kind kind, std::string_view wanted) {
  auto [at, found] = find(kind, wanted);
  CROFT_ASSERT(found);
  std::uint32_t sources;
  std::memcpy(&sources, bytes_.data() + at + sources_at, sizeof sources);
  if (--sources == 0) bytes_.erase(at, step(at));
  else std::memcpy(bytes_.data() + at + sources_at, &sources, sizeof sources);
}

void ZoneBuilder::add(const Record& r) {
  auto& records = names_[r.owner].records;
  bool was_empty = records.empty();
  records.add(r.kind, r.data);
  dirty_.insert(r.owner);
  if (was_empty) count_parents(r.owner, 1);
}

void ZoneBuilder::take(const Record& r) {
  auto name = names_.find(r.owner);
  CROFT_ASSERT(name != names_.end());
  auto& records = name->second.records;
  records.take(r.kind, r.data);
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
  Entry::Parts parts;
  std::string last_target;
  from.records.for_each([&](Kind kind, std::string_view data) {
    if (kind != Kind::srv) {
      auto& to = kind == Kind::a ? parts.a : parts.aaaa;
      record_head(to, 0xC00C, kind == Kind::a ? 1 : 28, zone_.ttl, data.size());
      to += data;
      return;
    }
    auto target = data.substr(0, data.size() - 2);
    Entry::Service s;
    if (!parts.services.empty() && target == last_target) s = parts.services.back();
    else add_glue(target, parts, s);
    s.at = static_cast<std::uint32_t>(parts.srv.size());
    record_head(parts.srv, 0xC00C, 33, zone_.ttl, 6 + target.size());
    append16(parts.srv, 0), append16(parts.srv, 1);  // priority, weight
    parts.srv += data.substr(data.size() - 2);
    parts.srv += target;
    s.size = static_cast<std::uint16_t>(parts.srv.size() - s.at);
    last_target = target;
    parts.services.push_back(s);
  });
  return std::make_shared<const Entry>(name, std::move(parts));
}

/// The first A and the first AAAA of a target.
void ZoneBuilder::add_glue(std::string_view target, Entry::Parts& parts, Entry::Service& s) const {
  s.target = parts.services.empty() ? 0 : parts.services.back().target + 1;
  s.glue_at = static_cast<std::uint32_t>(parts.glue.size());
  auto host = names_.find(std::string(target));
  if (host == names_.end()) return;
  auto done = Kind::srv;
  host->second.records.for_each([&](Kind kind, std::string_view data) {
    if (kind == Kind::srv || kind == done) return;
    done = kind;
    record_head(parts.glue, 0, kind == Kind::a ? 1 : 28, zone_.ttl, data.size());
    parts.glue += data;
    ++s.glue_count;
  });
  s.glue_size = static_cast<std::uint16_t>(parts.glue.size() - s.glue_at);
}

}  // namespace croft::discovery
