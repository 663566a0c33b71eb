// The store's slow side: opening, sealing memory into parts, dropping, retention.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

namespace {

constexpr auto background_every = std::chrono::seconds(1);
constexpr auto retain_every = std::chrono::minutes(1);
constexpr std::int64_t source_days = 30;  // a shipper's source that was silent for so long is forgotten

/// What a process that was killed had written but not synced is durable from here on: it may be acknowledged as known.
void sync_file(const fs::path& file) {
  Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.valid()) (void)::fdatasync(fd.get());
}

}  // namespace

std::optional<Wall> day_of_index(const std::string& index) {
  if (index.size() < 10) return std::nullopt;
  auto day = index.substr(index.size() - 10);
  if (day[4] != '.' || day[7] != '.') return std::nullopt;
  day[4] = day[7] = '-';
  return from_iso8601(day);
}

struct Store::Work {
  std::string name, file;
  std::vector<std::shared_ptr<MemoryRows::Chunk>> held;
  std::shared_ptr<const Part> part;
};

Status Store::load() {
  if (auto ok = make_dirs(options_.dir / "parts"); !ok) return ok;
  if (auto ok = make_dirs(options_.dir / "wal"); !ok) return ok;
  if (auto ok = load_catalog(); !ok) return ok;
  own_ids_ = OwnIds(uuid_);
  std::vector<fs::path> wals;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(options_.dir / "wal", ec)) wals.push_back(entry.path());
  if (ec) return fail(Errc::io, "{}: {}", (options_.dir / "wal").string(), ec.message());
  std::sort(wals.begin(), wals.end());
  if (auto ok = replay(wals); !ok) return ok;
  if (auto ok = roll_wal(); !ok) log::error("logs", "no documents are taken until there is room: {}", ok.error().context);
  std::error_code there;
  if (fs::exists(options_.dir / "catalog", there)) return {};
  // The uuid is in every id that the store makes: it must not change. After a rebuild the log's rows must stand in parts before a catalog
  // may say what is sealed.
  if (active_rows_ == 0) sealed_seq_ = sealing_seq_ = next_seq_ - 1;
  auto saved = active_rows_ > 0 && !rebuilt_.empty() ? seal() : save_catalog();
  if (!saved) log::error("logs", "{}", saved.error().context);
  return {};
}

Status Store::replay(const std::vector<fs::path>& files) {
  std::size_t rows = 0;
  for (const auto& file : files) {
    std::size_t mine = 0;
    auto done = replay_wal(file, [&](WalRecord record) {
      auto seq = record.row.seq;
      auto is_void = [&](const auto& up_to) {
        auto at = up_to.find(record.index);
        return at != up_to.end() && seq <= at->second;
      };
      if (seq <= sealed_seq_ || is_void(dropped_) || is_void(rebuilt_)) {
        next_seq_ = std::max(next_seq_, seq + 1);
        return;
      }
      remember(record);
      auto name = record.index;
      insert(name, std::move(record.row));
      if (record.replaces != 0) indices_[name].deleted->insert(record.replaces);
      ++mine;
    });
    if (!done) return fail(done.error());
    if (done->torn > 0) log::warn("logs", "wal={} torn tail of {} bytes cut", file.string(), done->torn);
    if (done->damaged > 0) {
      damaged_.push_back(fmt::format("{}: {} damaged bytes among {} whole records", file.string(), done->damaged, done->records));
      log::error("logs", "{}", damaged_.back());
    }
    rows += mine;
    if (mine == 0) {
      ::unlink(file.c_str());
      continue;
    }
    sync_file(file);
    old_wals_.push_back(file);
  }
  if (rows > 0) log::info("logs", "{} documents from the write-ahead log", rows);
  return {};
}

Status Store::roll_wal() {
  for (;;) {
    auto made = WalFile::create(options_.dir / "wal" / fmt::format("{:016x}.wal", next_file_++));
    if (!made && made.error().code == Errc::conflict) continue;  // a file number that a crash kept from the catalog
    if (!made) return fail(made.error());
    wal_ = std::make_shared<WalFile>(std::move(*made));
    return {};
  }
}

/// Memory goes aside to be sealed, and a new log begins. What the catalog will say of it is fixed in the same instant.
Status Store::swap_memory() {
  std::unique_lock gate(gate_);  // nobody stands between the log and memory now
  std::lock_guard lock(mutex_);
  if (sealing_rows_ > 0 || active_rows_ == 0) return wal_ ? Status{} : roll_wal();
  auto before = wal_;
  if (auto ok = roll_wal(); !ok && !active_unsynced_) return ok;  // the old log stays in use
  if (before && before != wal_) old_wals_.push_back(before->path());
  for (auto& [name, index] : indices_) {
    index.sealing = std::exchange(index.active, {});
    sealing_deleted_[name] = index.deleted;
  }
  sealing_offsets_ = offsets_;
  sealing_seq_ = next_seq_ - 1;
  sealing_unsynced_ = std::exchange(active_unsynced_, false);
  sealing_rows_ = std::exchange(active_rows_, 0);
  sealing_bytes_ = std::exchange(active_bytes_, 0);
  return {};
}

std::vector<Store::Work> Store::sealing_work() {
  std::vector<Work> work;
  std::lock_guard lock(mutex_);
  for (auto& [name, index] : indices_)
    if (index.sealing.rows > 0) work.push_back({name, fmt::format("{}.{:08x}.part", name, next_file_++), index.sealing.chunks, nullptr});
  return work;
}

Status Store::seal() {
  std::lock_guard one(seal_mutex_);
  if (auto ok = swap_memory(); !ok) return ok;
  {
    std::lock_guard lock(mutex_);
    if (sealing_rows_ == 0) return {};
  }
  auto work = sealing_work();
  auto write = [&]() -> Status {
    for (auto& w : work) {
      auto file = options_.dir / "parts" / w.file;
      std::vector<const Row*> rows;
      for (const auto& chunk : w.held)
        for (const auto& row : chunk->rows) rows.push_back(&row);
      if (auto ok = write_part(file, std::move(rows), [&](const Row& row) { return !shipped_id(row.id) && own_ids_.read(w.name, row.id) != row.seq; }); !ok) return ok;
      auto part = Part::open(file);
      if (!part) return fail(part.error());
      w.part = *part;
    }
    return adopt(work);
  };
  auto ok = write();
  if (!ok)
    for (const auto& w : work) ::unlink((options_.dir / "parts" / w.file).c_str());
  return ok;
}

Status Store::adopt(std::vector<Work>& work) {
  std::vector<fs::path> done;
  {
    std::lock_guard lock(mutex_);
    auto seq = std::exchange(sealed_seq_, sealing_seq_);
    auto offsets = std::exchange(sealed_offsets_, sealing_offsets_);
    auto deleted = std::exchange(sealed_deleted_, sealing_deleted_);
    for (auto& w : work)
      if (auto at = indices_.find(w.name); at != indices_.end()) at->second.parts.push_back({w.file, w.part});
    if (auto ok = save_catalog(); !ok) {
      sealed_seq_ = seq;
      sealed_offsets_ = std::move(offsets);
      sealed_deleted_ = std::move(deleted);
      for (auto& w : work)
        if (auto at = indices_.find(w.name); at != indices_.end()) at->second.parts.pop_back();
      return ok;
    }
    for (auto& [name, index] : indices_) index.sealing = {};
    std::erase_if(dropped_, [&](const auto& d) { return d.second <= sealed_seq_; });
    sealing_rows_ = sealing_bytes_ = 0;
    sealing_unsynced_ = false;
    done.swap(old_wals_);
  }
  for (const auto& file : done) ::unlink(file.c_str());
  return {};
}

Status Store::create_index(const std::string& name) {
  if (auto ok = check_index_name(name); !ok) return ok;
  std::lock_guard lock(mutex_);
  if (indices_.contains(name)) return fail(Errc::conflict, "index [{}] already exists", name);
  if (!may_make(name, 0)) return fail(Errc::too_large, "there are {} indices already", options_.indices_max);
  (void)index_of(name);
  auto ok = save_catalog();
  if (!ok) indices_.erase(name);
  return ok;
}

Status Store::drop_index(const std::string& name) {
  std::vector<std::string> files;
  {
    std::lock_guard one(seal_mutex_);  // no seal brings a part of it back
    std::unique_lock gate(gate_);
    std::lock_guard lock(mutex_);
    auto at = indices_.find(name);
    if (at == indices_.end()) return fail(Errc::not_found, "no such index [{}]", name);
    for (const auto& part : at->second.parts) files.push_back(part.file);
    auto dropped = indices_.extract(at);
    auto before = std::exchange(dropped_[name], next_seq_ - 1);  // the log still has its rows
    if (auto ok = save_catalog(); !ok) {
      if (before == 0) dropped_.erase(name);
      else dropped_[name] = before;
      indices_.insert(std::move(dropped));
      return ok;
    }
    const auto& gone = dropped.mapped();
    active_rows_ -= std::min(active_rows_, gone.active.rows);
    active_bytes_ -= std::min(active_bytes_, gone.active.bytes);
    sealing_rows_ -= std::min(sealing_rows_, gone.sealing.rows);
    sealing_bytes_ -= std::min(sealing_bytes_, gone.sealing.bytes);
    sealing_deleted_.erase(name);
    sealed_deleted_.erase(name);
  }
  for (const auto& file : files) ::unlink((options_.dir / "parts" / file).c_str());
  return {};
}

Status Store::retain(Wall now) {
  std::vector<std::pair<Wall, std::string>> days;
  std::uint64_t total = 0;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [name, index] : indices_) {
      total += bytes_of(index);
      if (auto day = day_of_index(name)) days.emplace_back(*day, name);
    }
    auto oldest = std::chrono::floor<std::chrono::days>(now).time_since_epoch().count() - source_days;
    std::erase_if(offsets_, [&](const auto& o) { return o.second.day < oldest; });
  }
  std::sort(days.begin(), days.end());
  Status result;
  for (const auto& [day, name] : days) {
    bool too_old = options_.retain_days && day + std::chrono::days(*options_.retain_days + 1) <= now;
    bool too_much = options_.retain_bytes > 0 && total > options_.retain_bytes && &name != &days.back().second;
    if (!too_old && !too_much) continue;
    std::uint64_t bytes = 0;
    {
      std::lock_guard lock(mutex_);
      if (auto at = indices_.find(name); at != indices_.end()) bytes = bytes_of(at->second);
    }
    if (auto ok = drop_index(name); !ok) {
      result = ok;
      continue;
    }
    total -= std::min(total, bytes);
    log::info("logs", "index={} dropped by retention, {} bytes", name, bytes);
  }
  return result;
}

void Store::background() {
  std::optional<std::chrono::steady_clock::time_point> retained;
  bool failing = false;
  for (;;) {
    bool due;
    {
      std::unique_lock lock(mutex_);
      if (!stopping_) wake_.wait_for(lock, background_every);
      if (stopping_) return;
      due = sealing_rows_ > 0 || active_rows_ >= options_.seal_rows || active_bytes_ >= options_.seal_bytes || active_unsynced_ || !wal_ ||
            (active_rows_ > 0 && std::chrono::steady_clock::now() - active_since_ >= options_.seal_age);
    }
    if (due) {
      auto ok = seal();
      if (!ok && !failing) log::error("logs", "sealing failed, the documents stay in memory and in the log: {}", ok.error().context);
      if (ok && failing) log::info("logs", "sealing works again");
      failing = !ok;
      if (failing) {  // not again at once, whoever wakes us
        std::unique_lock lock(mutex_);
        wake_.wait_for(lock, background_every, [this] { return stopping_; });
      }
    }
    if (!retained || std::chrono::steady_clock::now() - *retained >= retain_every) {
      retained = std::chrono::steady_clock::now();
      if (auto ok = retain(system_now().wall); !ok) log::error("logs", "retention: {}", ok.error().context);
    }
  }
}

}  // namespace croft::logs
