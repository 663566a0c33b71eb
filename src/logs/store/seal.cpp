// The store's slow side: opening, sealing memory into parts, the catalog file, retention.

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

namespace {

constexpr int catalog_format = 1;
constexpr auto background_every = std::chrono::seconds(1);
constexpr auto retain_every = std::chrono::minutes(1);
constexpr std::size_t catalog_max = 1u << 30;

/// "logstash-2015.08.12" -> the day; nothing when the name does not end in one.
std::optional<Wall> day_of(const std::string& index) {
  if (index.size() < 10) return std::nullopt;
  auto day = index.substr(index.size() - 10);
  if (day[4] != '.' || day[7] != '.') return std::nullopt;
  day[4] = day[7] = '-';
  return from_iso8601(day);
}

}  // namespace

Status Store::load() {
  if (auto ok = make_dirs(options_.dir / "parts"); !ok) return ok;
  if (auto ok = make_dirs(options_.dir / "wal"); !ok) return ok;
  if (auto ok = load_catalog(); !ok) return ok;
  std::vector<fs::path> wals;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(options_.dir / "wal", ec)) wals.push_back(entry.path());
  if (ec) return fail(Errc::io, "{}: {}", (options_.dir / "wal").string(), ec.message());
  std::sort(wals.begin(), wals.end());
  if (auto ok = replay(wals); !ok) return ok;
  old_wals_ = wals;
  return roll_wal();
}

Status Store::load_catalog() {
  auto text = read_file(options_.dir / "catalog", catalog_max);
  if (!text && text.error().code == Errc::not_found) {
    uuid_ = random_uuid();
    return {};
  }
  if (!text) return fail(text.error());
  auto newline = text->find('\n');
  auto body = newline == std::string::npos ? std::string_view() : std::string_view(*text).substr(newline + 1);
  if (newline == std::string::npos || text->substr(0, newline) != fmt::format("{:016x}", XXH3_64bits(body.data(), body.size())))
    return fail(Errc::corrupt, "{}: does not match its checksum", (options_.dir / "catalog").string());
  auto parsed = json::parse(body);
  if (!parsed) return fail(Error(parsed.error()).within((options_.dir / "catalog").string()));
  const auto& c = *parsed;
  if (json::integer(c, "format") > catalog_format) return fail(Errc::invalid, "written by a newer croft (format {})", json::integer(c, "format"));
  uuid_ = json::text(c, "uuid");
  sealed_seq_ = static_cast<std::uint64_t>(json::integer(c, "sealed_seq"));
  next_seq_ = sealed_seq_ + 1;
  next_file_ = static_cast<std::uint64_t>(json::integer(c, "next_file", 1));
  for (const auto& e : json::members(c, "offsets")) offsets_[e.key()] = static_cast<std::uint64_t>(json::integer(json::members(c, "offsets"), e.key()));
  for (const auto& seq : json::list(c, "deleted"))
    if (seq.is_int64()) deleted_->insert(static_cast<std::uint64_t>(seq.get_int64()));
  for (const auto& i : json::list(c, "indices")) {
    auto& index = indices_[json::text(i, "name")];
    index.uuid = json::text(i, "uuid");
    index.created = Wall(Millis(json::integer(i, "created_ms")));
    for (const auto& file : json::texts(i, "parts")) {
      auto part = Part::open(options_.dir / "parts" / file);
      if (part) {
        index.parts.push_back({file, 0, *part});
      } else {
        log::error("logs", "part left aside: {}", part.error().context);
        damaged_.push_back(part.error().context);
      }
    }
  }
  return {};
}

Status Store::save_catalog() {
  JsonWriter w;
  w.begin_object().field("format", catalog_format).field("uuid", uuid_).field("sealed_seq", sealed_seq_).field("next_file", next_file_);
  w.key("indices").begin_array();
  for (const auto& [name, index] : indices_) {
    w.begin_object().field("name", name).field("uuid", index.uuid).field("created_ms", index.created.time_since_epoch().count()).key("parts").begin_array();
    for (const auto& part : index.parts) w.value(part.file);
    w.end_array().end_object();
  }
  w.end_array().key("deleted").begin_array();
  for (auto seq : *deleted_) w.value(seq);
  w.end_array().key("offsets").begin_object();
  for (const auto& [source, offset] : offsets_) w.field(source, offset);
  w.end_object().end_object();
  auto text = fmt::format("{:016x}\n{}", XXH3_64bits(w.str().data(), w.str().size()), w.str());
  return write_file_atomic(options_.dir / "catalog", text, 0640);
}

Status Store::replay(const std::vector<fs::path>& files) {
  std::size_t rows = 0;
  for (const auto& file : files) {
    auto torn = replay_wal(file, [&](WalRecord record) {
      if (record.row.seq <= sealed_seq_) return;
      remember(record);
      insert(record.index, std::move(record.row));
      ++rows;
    });
    if (!torn) return fail(torn.error());
    if (*torn > 0) log::warn("logs", "wal={} torn tail of {} bytes cut", file.string(), *torn);
  }
  if (rows > 0) log::info("logs", "{} documents from the write-ahead log", rows);
  return {};
}

Status Store::roll_wal() {
  auto made = WalFile::create(options_.dir / "wal" / fmt::format("{:016x}.wal", next_file_++));
  while (!made && made.error().context.find("File exists") != std::string::npos)  // a file number that a crash kept from the catalog
    made = WalFile::create(options_.dir / "wal" / fmt::format("{:016x}.wal", next_file_++));
  if (!made) return fail(made.error());
  wal_ = std::make_shared<WalFile>(std::move(*made));
  return {};
}

Status Store::seal() {
  std::lock_guard one(seal_mutex_);
  {
    std::unique_lock gate(gate_);  // nobody stands between the log and memory now
    std::lock_guard lock(mutex_);
    if (sealing_rows_ == 0 && active_rows_ > 0) {
      auto before = wal_;
      if (auto ok = roll_wal(); !ok) return ok;  // the old log stays in use
      old_wals_.push_back(before->path());
      for (auto& [name, index] : indices_) index.sealing = std::exchange(index.active, {});
      sealing_rows_ = std::exchange(active_rows_, 0);
      active_bytes_ = 0;
    }
    if (sealing_rows_ == 0) return {};
  }
  return write_sealed();
}

/// Writes the frozen memory as parts, records them in one step, then drops the logs that they came from.
Status Store::write_sealed() {
  struct Work { std::string name, file; std::vector<const Row*> rows; std::vector<std::shared_ptr<MemoryRows::Chunk>> held; std::shared_ptr<const Part> part; };
  std::vector<Work> work;
  std::uint64_t upto = 0;
  {
    std::lock_guard lock(mutex_);
    for (auto& [name, index] : indices_) {
      if (index.sealing.rows == 0) continue;
      auto& w = work.emplace_back(Work{name, fmt::format("{}.{:08x}.part", name, next_file_++), {}, index.sealing.chunks, {}});
      for (const auto& chunk : w.held)
        for (const auto& row : chunk->rows) {
          w.rows.push_back(&row);
          upto = std::max(upto, row.seq);
        }
    }
  }
  for (auto& w : work) {
    auto file = options_.dir / "parts" / w.file;
    if (auto ok = write_part(file, w.rows, [](std::string_view id) { return !shipped_id(id); }); !ok) return ok;
    auto part = Part::open(file);
    if (!part) return fail(part.error());
    w.part = *part;
  }
  std::vector<fs::path> done;
  {
    std::lock_guard lock(mutex_);
    auto sealed_before = sealed_seq_;
    sealed_seq_ = upto;
    for (auto& w : work)
      if (auto at = indices_.find(w.name); at != indices_.end()) at->second.parts.push_back({w.file, upto, w.part});
    if (auto ok = save_catalog(); !ok) {
      sealed_seq_ = sealed_before;
      for (auto& w : work)
        if (auto at = indices_.find(w.name); at != indices_.end()) at->second.parts.pop_back();
      return ok;
    }
    for (auto& [name, index] : indices_) index.sealing = {};
    sealing_rows_ = 0;
    done.swap(old_wals_);
  }
  for (const auto& file : done) ::unlink(file.c_str());
  return {};
}

Status Store::create_index(const std::string& name) {
  if (auto ok = check_index_name(name); !ok) return ok;
  std::lock_guard lock(mutex_);
  if (indices_.contains(name)) return fail(Errc::conflict, "index [{}] already exists", name);
  (void)index_of(name);
  return save_catalog();
}

Status Store::drop_index(const std::string& name) {
  if (auto sealed = seal(); !sealed) return sealed;  // so that no log brings its rows back
  std::vector<std::string> files;
  {
    std::unique_lock gate(gate_);
    std::lock_guard lock(mutex_);
    auto at = indices_.find(name);
    if (at == indices_.end()) return fail(Errc::not_found, "no such index [{}]", name);
    for (const auto& part : at->second.parts) files.push_back(part.file);
    active_rows_ -= std::min(active_rows_, at->second.active.rows);
    auto dropped = indices_.extract(at);
    if (auto ok = save_catalog(); !ok) {
      indices_.insert(std::move(dropped));
      return ok;
    }
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
      if (auto day = day_of(name)) days.emplace_back(*day, name);
    }
  }
  std::sort(days.begin(), days.end());
  for (const auto& [day, name] : days) {
    bool too_old = options_.retain_days && day + std::chrono::days(*options_.retain_days + 1) <= now;
    bool too_much = options_.retain_bytes > 0 && total > options_.retain_bytes && &name != &days.back().second;
    if (!too_old && !too_much) continue;
    {
      std::lock_guard lock(mutex_);
      if (auto at = indices_.find(name); at != indices_.end()) total -= std::min(total, bytes_of(at->second));
    }
    if (auto ok = drop_index(name); !ok) return ok;
    log::info("logs", "index={} dropped by retention", name);
  }
  return {};
}

void Store::background() {
  auto retained = std::chrono::steady_clock::now();
  bool failing = false;
  for (;;) {
    bool due;
    {
      std::unique_lock lock(mutex_);
      if (!stopping_) wake_.wait_for(lock, background_every);
      if (stopping_) return;
      due = sealing_rows_ > 0 || active_rows_ >= options_.seal_rows || active_bytes_ >= options_.seal_bytes ||
            (active_rows_ > 0 && std::chrono::steady_clock::now() - active_since_ >= options_.seal_age);
    }
    if (due) {
      auto ok = seal();
      if (!ok && !failing) log::error("logs", "sealing failed, the documents stay in memory and in the log: {}", ok.error().context);
      failing = !ok;
    }
    if (std::chrono::steady_clock::now() - retained >= retain_every) {
      retained = std::chrono::steady_clock::now();
      if (auto ok = retain(system_now().wall); !ok) log::error("logs", "retention: {}", ok.error().context);
    }
  }
}

}  // namespace croft::logs
