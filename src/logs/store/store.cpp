#include "logs/store/store.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t memory_factor_max = 4;   // memory may hold this many seals' worth while sealing fails
constexpr std::size_t settings_max = 1000, setting_bytes_max = 1u << 20;

std::int64_t today() { return std::chrono::floor<std::chrono::days>(system_now().wall).time_since_epoch().count(); }

std::string make_uuid() { return base64_encode(random_uuid()).substr(0, 22); }

}  // namespace

Store::Store(StoreOptions options, Metrics& metrics)
    : options_(std::move(options)),
      ingested_(metrics.counter("croft_logs_documents_total", "Documents stored.")),
      conflicts_(metrics.counter("croft_logs_conflicts_total", "Documents that were there already.")),
      sync_seconds_(metrics.histogram("croft_logs_sync_seconds", "Time of a sync of the write-ahead log.")) {}

Store::~Store() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<std::unique_ptr<Store>> Store::open(StoreOptions options, Metrics& metrics) {
  std::unique_ptr<Store> store(new Store(std::move(options), metrics));
  if (auto ok = store->load(); !ok) return fail(Error(ok.error()).within("log store"));
  store->thread_ = std::thread([raw = store.get()] { raw->background(); });
  return store;
}

/// Whether there is room for another index, with so many that are about to be made. Whoever filled the store with indices has not thereby ended everybody's log: that of the
/// present day, whose beginning and end may differ among hosts, always has room.
bool Store::may_make(const std::string& name, std::size_t beside) const {
  if (indices_.size() + beside < options_.indices_max) return true;
  if (name.size() != 19 || !name.starts_with("logstash-")) return false;
  auto day = day_of_index(name);
  if (!day) return false;
  auto away = std::chrono::floor<std::chrono::days>(*day).time_since_epoch().count() - today();
  return away >= -1 && away <= 1;
}

Store::Index& Store::index_of(const std::string& name) {
  auto [at, made] = indices_.try_emplace(name);
  if (made) {
    at->second.uuid = make_uuid();
    at->second.created = system_now().wall;
    at->second.born = next_seq_;
    if (auto old = dropped_.find(name); old != dropped_.end()) at->second.born = std::max(at->second.born, old->second + 1);
  }
  return at->second;
}

/// Where an id stands, the newest version. Memory first, then parts whose id index knows the hash.
std::optional<std::uint64_t> Store::find_foreign(const std::string& name, const Index& index, const std::string& id) const {
  for (const auto* memory : {&index.active, &index.sealing})
    if (auto at = memory->ids.find(id); at != memory->ids.end()) return at->second;
  for (auto file = index.parts.rbegin(); file != index.parts.rend(); ++file) {
    auto found = file->part ? file->part->find(id) : std::nullopt;
    if (found && !index.deleted->contains(*found)) return found;
  }
  // Last: a newer version of a row with our own id is kept as a stranger's.
  if (auto seq = own_ids_.read(name, id); seq && *seq >= index.born && *seq < next_seq_ && !index.deleted->contains(*seq)) return seq;
  return std::nullopt;
}

/// Decides what becomes of each document, with everything that is stored or on its way; changes nothing yet.
std::vector<Store::Planned> Store::plan(std::vector<Document>& documents, std::vector<Stored>& outcomes) {
  std::vector<Planned> planned;
  planned.reserve(documents.size());
  std::unordered_map<std::string, std::uint64_t> new_offsets, new_ids;
  std::unordered_set<std::string> new_indices;
  auto seq = next_seq_;
  const std::string* same = nullptr;  // most bulks name one index again and again
  const Index* index = nullptr;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    auto& document = documents[i];
    auto& outcome = outcomes[i];
    if (!same || *same != document.index) {
      same = &document.index;
      auto at = indices_.find(document.index);
      index = at == indices_.end() ? nullptr : &at->second;
    }
    if (!index && !new_indices.contains(document.index)) {
      if (!may_make(document.index, new_indices.size())) {
        outcome.kind = Stored::Kind::refused;
        outcome.id = document.id;
        continue;
      }
      new_indices.insert(document.index);
    }
    std::uint64_t replaces = 0;
    if (document.id.empty()) {
      document.id = own_ids_.make(document.index, seq);
    } else if (auto shipped = shipped_id(document.id)) {
      auto known = offsets_.find(shipped->source);
      auto highest = known == offsets_.end() ? std::nullopt : std::optional(known->second.offset);
      if (auto newer = new_offsets.find(shipped->source); newer != new_offsets.end()) highest = newer->second;
      if (highest && shipped->offset <= *highest) outcome.kind = Stored::Kind::conflict;
      else new_offsets[shipped->source] = shipped->offset;
    } else {
      auto key = document.index + "/" + document.id;
      auto mine = new_ids.find(key);
      auto there = mine != new_ids.end() ? std::optional(mine->second) : !index ? std::nullopt : find_foreign(document.index, *index, document.id);
      if (there && document.create_only) outcome.kind = Stored::Kind::conflict;
      else if (there) outcome.kind = Stored::Kind::updated, replaces = *there;
      if (outcome.kind != Stored::Kind::conflict) new_ids[key] = seq;
    }
    outcome.id = document.id;
    if (outcome.kind == Stored::Kind::conflict) continue;
    outcome.seq = seq++;
    planned.push_back({{document.index, {outcome.seq, document.at, std::move(document.id), std::move(document.source)}, replaces}});
  }
  return planned;
}

void Store::remember(const WalRecord& record) {
  auto& index = index_of(record.index);  // before the number moves on: an index is born with its first row
  next_seq_ = std::max(next_seq_, record.row.seq + 1);
  if (auto shipped = shipped_id(record.row.id)) {
    auto& known = offsets_[shipped->source];
    known.offset = std::max(known.offset, shipped->offset);
    known.day = today();
  } else if (own_ids_.read(record.index, record.row.id) != record.row.seq) {
    index.active.ids[record.row.id] = record.row.seq;  // before the sync: a second writer of the same id must see it
  }
}

void Store::insert(const std::string& name, Row row) {
  auto& index = index_of(name);
  auto& memory = index.active;
  auto size = row.source.size() + row.id.size() + sizeof(Row);
  if (memory.chunks.empty() || memory.chunks.back()->rows.size() == MemoryRows::chunk_rows) memory.chunks.push_back(std::make_shared<MemoryRows::Chunk>());
  memory.chunks.back()->rows.push_back(std::move(row));
  ++memory.rows;
  memory.bytes += size;
  if (active_rows_ == 0) active_since_ = std::chrono::steady_clock::now();
  ++active_rows_;
  active_bytes_ += size;
}

Status Store::sync_up_to(std::uint64_t ticket, std::shared_ptr<WalFile> wal) {
  std::lock_guard lock(sync_mutex_);
  if (synced_ >= ticket) return {};  // somebody's sync after our write covered it
  std::uint64_t upto;
  {
    std::lock_guard inner(mutex_);
    upto = written_;
  }
  auto begun = std::chrono::steady_clock::now();
  auto ok = wal->sync();
  sync_seconds_.observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  if (ok) synced_ = upto;
  return ok;
}

Status Store::admit() const {
  if (active_rows_ + sealing_rows_ > memory_factor_max * options_.seal_rows || active_bytes_ + sealing_bytes_ > memory_factor_max * options_.seal_bytes)
    return fail(Errc::unavailable, "the store cannot write parts fast enough (is the disk full?)");
  if (!wal_) return fail(Errc::unavailable, "the write-ahead log is not open (is the disk full?)");
  if (active_unsynced_ || sealing_unsynced_) return fail(Errc::unavailable, "the write-ahead log could not be synced; documents are taken again when memory stands in parts");
  return {};
}

/// Told once, until documents are taken again: shippers ask every few seconds.
std::unexpected<Error> Store::refuse(const Error& why) {
  if (!std::exchange(refusing_, true)) log::error("logs", "no documents are taken: {}", why.context);
  return fail(why);
}

Result<std::vector<Stored>> Store::ingest(std::vector<Document> documents) {
  std::vector<Stored> outcomes(documents.size());
  std::shared_lock gate(gate_);
  std::vector<Planned> planned;
  std::shared_ptr<WalFile> wal;
  std::uint64_t ticket = 0;
  {
    std::lock_guard lock(mutex_);
    if (auto ok = admit(); !ok) return refuse(ok.error());
    planned = plan(documents, outcomes);
    std::string bytes;
    std::size_t size = 0;
    for (const auto& p : planned) size += p.record.row.source.size() + p.record.row.id.size() + p.record.index.size() + 64;
    bytes.reserve(size);
    for (const auto& p : planned) append_wal_record(bytes, p.record);
    if (auto ok = wal_->append(bytes); !ok) return refuse(ok.error());
    if (std::exchange(refusing_, false)) log::info("logs", "documents are taken again");
    for (const auto& p : planned) remember(p.record);
    wal = wal_;
    ticket = planned.empty() ? written_ : ++written_;  // a conflict is an acknowledgement too: what it conflicts with must be durable
  }
  auto synced = sync_up_to(ticket, wal);
  std::size_t refused = 0;
  {
    // Also after a failed sync: the rows are in memory then, and sealing writes them anew.
    std::lock_guard lock(mutex_);
    for (auto& p : planned) {
      auto name = std::move(p.record.index);
      insert(name, std::move(p.record.row));
      if (p.record.replaces == 0) continue;
      auto& deleted = indices_[name].deleted;
      if (deleted.use_count() > 1) deleted = std::make_shared<SeqSet>(*deleted);
      deleted->insert(p.record.replaces);
    }
    if (!synced) active_unsynced_ = true;
    if (!synced || active_rows_ >= options_.seal_rows || active_bytes_ >= options_.seal_bytes) wake_.notify_all();
  }
  if (!synced) return fail(synced.error());
  for (const auto& o : outcomes) refused += o.kind == Stored::Kind::refused;
  ingested_.add(planned.size());
  conflicts_.add(documents.size() - planned.size() - refused);
  return outcomes;
}

StoreView Store::view(const std::function<bool(const std::string&)>& wanted) const {
  StoreView view;
  std::lock_guard lock(mutex_);
  for (const auto& [name, index] : indices_) {
    if (!wanted(name)) continue;
    auto& out = view.indices.emplace_back();
    out.name = name;
    out.deleted = index.deleted;
    for (const auto& file : index.parts)
      if (file.part) out.parts.push_back(file.part);
    for (const auto* memory : {&index.sealing, &index.active})
      for (const auto& chunk : memory->chunks) out.memory.pieces.push_back({chunk, chunk->rows.size()});
  }
  return view;
}

std::uint64_t Store::bytes_of(const Index& index) const {
  std::uint64_t bytes = index.active.bytes + index.sealing.bytes;
  for (const auto& file : index.parts) bytes += file.part ? file.part->bytes() : 0;
  return bytes;
}

std::vector<IndexInfo> Store::indices() const {
  std::vector<IndexInfo> out;
  std::lock_guard lock(mutex_);
  for (const auto& [name, index] : indices_) {
    IndexInfo info{name, index.uuid, index.active.rows + index.sealing.rows, index.deleted->size(), bytes_of(index), index.created};
    for (const auto& file : index.parts) info.documents += file.part ? file.part->rows() : 0;
    info.documents -= std::min(info.documents, info.deleted);
    out.push_back(std::move(info));
  }
  return out;
}

bool Store::has_index(const std::string& name) const {
  std::lock_guard lock(mutex_);
  return indices_.contains(name);
}

std::vector<std::string> Store::damaged() const {
  std::lock_guard lock(mutex_);
  return damaged_;
}

std::optional<std::uint64_t> Store::offset_of(const std::string& source) const {
  std::lock_guard lock(mutex_);
  auto at = offsets_.find(source);
  return at == offsets_.end() ? std::nullopt : std::optional(at->second.offset);
}

Status Store::put_setting(const std::string& key, std::string json) {
  if (json.size() > setting_bytes_max) return fail(Errc::too_large, "{}: larger than {} bytes", key, setting_bytes_max);
  std::lock_guard lock(mutex_);
  if (settings_.size() >= settings_max && !settings_.contains(key)) return fail(Errc::too_large, "{}: there are {} templates, aliases and policies already", key, settings_max);
  auto before = settings_;
  settings_[key] = std::move(json);
  auto ok = save_catalog();
  if (!ok) settings_ = std::move(before);
  return ok;
}

Status Store::erase_setting(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto taken = settings_.extract(key);
  if (taken.empty()) return fail(Errc::not_found, "{} is not there", key);
  auto ok = save_catalog();
  if (!ok) settings_.insert(std::move(taken));
  return ok;
}

std::map<std::string, std::string> Store::settings(std::string_view prefix) const {
  std::map<std::string, std::string> out;
  std::lock_guard lock(mutex_);
  for (auto at = settings_.lower_bound(std::string(prefix)); at != settings_.end() && at->first.starts_with(prefix); ++at) out.emplace(at->first.substr(prefix.size()), at->second);
  return out;
}

}  // namespace croft::logs
