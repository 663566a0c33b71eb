#include "logs/store/store.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t memory_factor_max = 4;   // memory may hold this many seals' worth while sealing fails

std::string make_id() {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  for (int word = 0; word < 2; ++word) {
    auto bits = random_u64();
    for (int i = 0; i < 10; ++i, bits >>= 6) out.push_back(digits[bits & 63]);
  }
  return out;
}

}  // namespace

std::optional<ShippedId> shipped_id(std::string_view id) {
  if (!id.starts_with("c1:")) return std::nullopt;
  auto colon = id.rfind(':');
  if (colon <= 3) return std::nullopt;
  auto offset = to_int(id.substr(colon + 1));
  if (!offset || *offset < 0) return std::nullopt;
  return ShippedId{std::string(id.substr(3, colon - 3)), static_cast<std::uint64_t>(*offset)};
}

std::string make_shipped_id(std::string_view source, std::uint64_t offset) { return fmt::format("c1:{}:{}", source, offset); }

Status check_index_name(std::string_view name) {
  auto refuse = [&](std::string_view why) { return fail(Errc::invalid, "Invalid index name [{}], {}", name, why); };
  if (name.empty() || name == "." || name == "..") return refuse("must not be empty, '.' or '..'");
  if (name.size() > 255) return refuse("index name is too long, (" + std::to_string(name.size()) + " > 255)");
  if (name.find_first_of(std::string_view("\\/*?\"<>| ,#:\0", 13)) != std::string_view::npos)
    return refuse("must not contain the following characters [ , \", *, \\, <, |, ,, >, /, ?, #, :]");
  if (std::string_view("-_+").contains(name[0])) return refuse("must not start with '_', '-', or '+'");
  for (char c : name)
    if (c >= 'A' && c <= 'Z') return refuse("must be lowercase");
  return {};
}

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

Store::Index& Store::index_of(const std::string& name) {
  auto [at, made] = indices_.try_emplace(name);
  if (made) {
    at->second.uuid = make_id();
    at->second.created = system_now().wall;
  }
  return at->second;
}

/// Where a stranger's id stands, the newest version. Memory first, then parts whose id index knows the hash.
std::optional<std::uint64_t> Store::find_foreign(const Index& index, const std::string& id) const {
  for (const auto* memory : {&index.active, &index.sealing})
    if (auto at = memory->ids.find(id); at != memory->ids.end()) return at->second;
  for (auto part = index.parts.rbegin(); part != index.parts.rend(); ++part) {
    if (!part->part->may_hold(id)) continue;
    std::optional<std::uint64_t> found;
    for (std::size_t b = 0; b < part->part->blocks().size(); ++b)
      (void)part->part->read_block(b, [&](const RowView& row) {
        if (row.id == id && !deleted_->contains(row.seq)) found = row.seq;
        return true;
      });
    if (found) return found;
  }
  return std::nullopt;
}

/// Decides what becomes of each document, with everything that is stored or on its way; changes nothing yet.
std::vector<Store::Planned> Store::plan(std::vector<Document>& documents, std::vector<Stored>& outcomes) {
  std::vector<Planned> planned;
  std::unordered_map<std::string, std::uint64_t> new_offsets, new_ids;
  auto seq = next_seq_;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    auto& document = documents[i];
    auto& outcome = outcomes[i];
    std::uint64_t replaces = 0;
    if (document.id.empty()) {
      document.id = make_id();
    } else if (auto shipped = shipped_id(document.id)) {
      auto known = offsets_.find(shipped->source);
      auto highest = known == offsets_.end() ? std::nullopt : std::optional(known->second);
      if (auto newer = new_offsets.find(shipped->source); newer != new_offsets.end()) highest = newer->second;
      if (highest && shipped->offset <= *highest) outcome.kind = Stored::Kind::conflict;
      else new_offsets[shipped->source] = shipped->offset;
    } else {
      auto key = document.index + "/" + document.id;
      auto mine = new_ids.find(key);
      auto index = indices_.find(document.index);
      auto there = mine != new_ids.end() ? std::optional(mine->second) : index == indices_.end() ? std::nullopt : find_foreign(index->second, document.id);
      if (there && document.create_only) outcome.kind = Stored::Kind::conflict;
      else if (there) outcome.kind = Stored::Kind::updated, replaces = *there;
      if (outcome.kind != Stored::Kind::conflict) new_ids[key] = seq;
    }
    outcome.id = document.id;
    if (outcome.kind == Stored::Kind::conflict) continue;
    outcome.seq = seq++;
    planned.push_back({{document.index, {outcome.seq, document.at, document.id, std::move(document.source)}, replaces}, i});
  }
  return planned;
}

void Store::remember(const WalRecord& record) {
  next_seq_ = std::max(next_seq_, record.row.seq + 1);
  if (auto shipped = shipped_id(record.row.id)) {
    auto& highest = offsets_[shipped->source];
    highest = std::max(highest, shipped->offset);
  }
  if (record.replaces != 0) {
    if (deleted_.use_count() > 1) deleted_ = std::make_shared<std::set<std::uint64_t>>(*deleted_);
    deleted_->insert(record.replaces);
  }
}

void Store::insert(const std::string& name, Row row) {
  auto& memory = index_of(name).active;
  auto size = row.source.size() + row.id.size() + sizeof(Row);
  if (!shipped_id(row.id)) memory.ids[row.id] = row.seq;
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

Result<std::vector<Stored>> Store::ingest(std::vector<Document> documents) {
  std::vector<Stored> outcomes(documents.size());
  std::shared_lock gate(gate_);
  std::vector<Planned> planned;
  std::shared_ptr<WalFile> wal;
  std::uint64_t ticket = 0;
  {
    std::lock_guard lock(mutex_);
    if (active_rows_ + sealing_rows_ > memory_factor_max * options_.seal_rows || active_bytes_ > memory_factor_max * options_.seal_bytes)
      return fail(Errc::unavailable, "the store cannot write parts fast enough (is the disk full?)");
    if (!wal_) return fail(Errc::io, "the write-ahead log is not open (is the disk full?)");
    planned = plan(documents, outcomes);
    std::string bytes;
    for (const auto& p : planned) append_wal_record(bytes, p.record);
    if (auto ok = wal_->append(bytes); !ok) return fail(ok.error());
    for (const auto& p : planned) remember(p.record);
    wal = wal_;
    ticket = ++written_;
  }
  auto synced = planned.empty() ? Status{} : sync_up_to(ticket, wal);
  {
    // Also after a failed sync: the rows are in memory then, and sealing writes them anew.
    std::lock_guard lock(mutex_);
    for (auto& p : planned) insert(p.record.index, std::move(p.record.row));
    if (!synced || active_rows_ >= options_.seal_rows || active_bytes_ >= options_.seal_bytes) wake_.notify_all();
  }
  if (!synced) return fail(synced.error());
  ingested_.add(planned.size());
  conflicts_.add(documents.size() - planned.size());
  return outcomes;
}

StoreView Store::view(const std::function<bool(const std::string&)>& wanted) const {
  StoreView view;
  std::lock_guard lock(mutex_);
  for (const auto& [name, index] : indices_) {
    if (!wanted(name)) continue;
    auto& out = view.indices.emplace_back();
    out.name = name;
    for (const auto& part : index.parts) out.parts.push_back(part.part);
    for (const auto* memory : {&index.sealing, &index.active})
      for (const auto& chunk : memory->chunks) out.memory.pieces.push_back({chunk, chunk->rows.size()});
  }
  view.deleted = deleted_;
  return view;
}

std::uint64_t Store::bytes_of(const Index& index) const {
  std::uint64_t bytes = index.active.bytes + index.sealing.bytes;
  for (const auto& part : index.parts) bytes += part.part->bytes();
  return bytes;
}

std::vector<IndexInfo> Store::indices() const {
  std::vector<IndexInfo> out;
  std::lock_guard lock(mutex_);
  for (const auto& [name, index] : indices_) {
    IndexInfo info{name, index.uuid, index.active.rows + index.sealing.rows, bytes_of(index), index.created};
    for (const auto& part : index.parts) info.documents += part.part->rows();
    out.push_back(std::move(info));
  }
  return out;
}

std::vector<std::string> Store::damaged() const {
  std::lock_guard lock(mutex_);
  return damaged_;
}

std::optional<std::uint64_t> Store::offset_of(const std::string& source) const {
  std::lock_guard lock(mutex_);
  auto at = offsets_.find(source);
  return at == offsets_.end() ? std::nullopt : std::optional(at->second);
}

}  // namespace croft::logs
