#pragma once
// The log store: documents in, one write-ahead log, memory parts that are searched at once, immutable parts on disk.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/metrics.hpp"
#include "logs/store/ids.hpp"
#include "logs/store/part.hpp"
#include "logs/store/wal.hpp"

namespace croft::logs {

struct Document {
  std::string index;          ///< valid name, "" is not allowed
  std::string id;             ///< "": one is made
  bool create_only = false;   ///< an id that exists is a conflict instead of a new version
  std::string source;         ///< a JSON object with @timestamp
  Wall at{};
};

struct Stored {
  enum class Kind : std::uint8_t { created, updated, conflict, refused } kind = Kind::created;  ///< refused: there are too many indices
  std::string id;
  std::uint64_t seq = 0;
};

/// Rows of one index that are not in a part yet. Readers take a copy; rows never move.
struct MemoryRows {
  static constexpr std::size_t chunk_rows = 512;
  struct Chunk {
    Chunk() { rows.reserve(chunk_rows); }
    std::vector<Row> rows;
  };
  struct Piece { std::shared_ptr<const Chunk> chunk; std::size_t count; };
  std::vector<Piece> pieces;
};

using SeqSet = std::unordered_set<std::uint64_t>;

struct IndexView {
  std::string name;
  std::vector<std::shared_ptr<const Part>> parts;   ///< newest last
  MemoryRows memory;
  std::shared_ptr<const SeqSet> deleted;            ///< rows that a newer version replaced
};

/// What a search sees: nothing of it changes while it is held.
struct StoreView {
  std::vector<IndexView> indices;                   ///< by name
};

struct IndexInfo {
  std::string name, uuid;
  std::uint64_t documents = 0, deleted = 0, bytes = 0;
  Wall created{};
};

struct StoreOptions {
  std::filesystem::path dir;
  std::size_t seal_rows = 131'072, seal_bytes = 64u << 20;
  Millis seal_age{3'600'000};
  std::optional<int> retain_days;                   ///< by the index's day; only indices that end in yyyy.MM.dd
  std::uint64_t retain_bytes = 0;                   ///< 0: no bound; the oldest day goes first
  std::size_t indices_max = 5'000;                  ///< logstash-yyyy.MM.dd of the present day, and of the days beside it, are made all the same
};

/// "logstash-2015.08.12" -> the day; nothing when the name does not end in one.
std::optional<Wall> day_of_index(const std::string& index);

/// Shape    open, ingest and view from any thread, stop. A background thread seals and retains.
/// Errors   ingest: unavailable (no room on the disk or in memory, or the log could not be synced: nothing was taken, try again), io.
///          A damaged part is left aside, named in `damaged()`, and the others are served.
/// Crash    what ingest acknowledged is there again after kill -9 or power loss at any instant; the catalog tells only what is sealed, and
///          everything newer comes from the log.
class Store {
 public:
  static Result<std::unique_ptr<Store>> open(StoreOptions options, Metrics& metrics);
  ~Store();

  /// Durable and visible when it returns. Blocks for the disk: not on an I/O thread. One outcome a document, in order.
  Result<std::vector<Stored>> ingest(std::vector<Document> documents);
  [[nodiscard]] StoreView view(const std::function<bool(const std::string&)>& wanted) const;
  [[nodiscard]] std::vector<IndexInfo> indices() const;
  [[nodiscard]] bool has_index(const std::string& name) const;
  Status create_index(const std::string& name);
  /// Works on a full disk too: room is what it makes.
  Status drop_index(const std::string& name);
  /// Writes everything in memory into parts now.
  Status seal();
  /// Drops what is too old or too much, and forgets shippers' sources that were silent for long.
  Status retain(Wall now);
  [[nodiscard]] std::vector<std::string> damaged() const;
  [[nodiscard]] const std::string& uuid() const { return uuid_; }
  /// Highest committed offset of a shipper's source; nothing when unknown.
  [[nodiscard]] std::optional<std::uint64_t> offset_of(const std::string& source) const;

  // Small documents that faces keep beside the indices: templates, aliases, policies. Durable when it returns.
  // Errors   too_large (a thousand of them, a megabyte each), unavailable, io.
  Status put_setting(const std::string& key, std::string json);
  Status erase_setting(const std::string& key);
  [[nodiscard]] std::map<std::string, std::string> settings(std::string_view prefix) const;  ///< without the prefix

 private:
  struct PartFile { std::string file; std::shared_ptr<const Part> part; };  ///< no part: damaged, left aside
  struct Memory {
    std::vector<std::shared_ptr<MemoryRows::Chunk>> chunks;
    std::unordered_map<std::string, std::uint64_t> ids;  // foreign ids to sequence numbers
    std::size_t rows = 0, bytes = 0;
  };
  struct Index {
    std::string uuid;
    Wall created{};
    std::uint64_t born = 0;                               // rows before it belong to a dropped index of this name
    std::vector<PartFile> parts;
    Memory active, sealing;
    std::shared_ptr<SeqSet> deleted = std::make_shared<SeqSet>();
  };
  struct Offset { std::uint64_t offset = 0; std::int64_t day = 0; };  // of a shipper's source, and the day it was last heard of
  struct Planned { WalRecord record; };
  struct Work;                                            // an index on its way into a part

  Store(StoreOptions options, Metrics& metrics);
  Status load();
  Status load_catalog();
  Status read_catalog(const std::string& body);
  void rebuild_catalog(std::string_view why);
  void add_part(Index& index, const std::string& file);
  void clean_parts();
  Status save_catalog();                                  // mutex_ held
  std::string catalog_text() const;                       // mutex_ held
  Status replay(const std::vector<std::filesystem::path>& files);
  Status roll_wal();
  Status swap_memory();
  std::vector<Work> sealing_work();
  Status adopt(std::vector<Work>& work);
  bool may_make(const std::string& name, std::size_t beside) const;  // mutex_ held
  Index& index_of(const std::string& name);               // mutex_ held
  void insert(const std::string& index, Row row);         // mutex_ held
  std::optional<std::uint64_t> find_foreign(const std::string& name, const Index& index, const std::string& id) const;  // mutex_ held
  void remember(const WalRecord& record);                 // mutex_ held
  std::vector<Planned> plan(std::vector<Document>& documents, std::vector<Stored>& outcomes);  // mutex_ held
  Status sync_up_to(std::uint64_t ticket, std::shared_ptr<WalFile> wal);
  Status admit() const;                                   // mutex_ held
  std::unexpected<Error> refuse(const Error& why);        // mutex_ held
  void background();
  [[nodiscard]] std::uint64_t bytes_of(const Index& index) const;

  StoreOptions options_;
  std::string uuid_;
  OwnIds own_ids_;
  std::shared_mutex gate_;                                // ingest shared; swapping the memory parts exclusive
  mutable std::mutex mutex_;                              // everything below
  std::map<std::string, Index> indices_;
  std::unordered_map<std::string, Offset> offsets_;       // of shippers' sources, with what is only in the log
  std::unordered_map<std::string, Offset> sealing_offsets_, sealed_offsets_;  // as of the last swap; as of sealed_seq_
  std::map<std::string, std::shared_ptr<const SeqSet>> sealing_deleted_, sealed_deleted_;  // the same for replaced rows
  std::map<std::string, std::uint64_t> dropped_;          // rows of this index up to this one are void, should the log still hold them
  std::map<std::string, std::string> settings_;
  std::uint64_t next_seq_ = 1, sealing_seq_ = 0, sealed_seq_ = 0, next_file_ = 1;
  std::vector<std::filesystem::path> old_wals_;
  std::shared_ptr<WalFile> wal_;                          // null: could not be made, tried again
  std::uint64_t written_ = 0;
  std::size_t active_rows_ = 0, active_bytes_ = 0, sealing_rows_ = 0, sealing_bytes_ = 0;
  std::chrono::steady_clock::time_point active_since_{};
  std::vector<std::string> damaged_;
  bool active_unsynced_ = false, sealing_unsynced_ = false;  // a sync failed: nothing is acknowledged until that memory stands in parts
  std::map<std::string, std::uint64_t> rebuilt_;          // per index: rows up to this one are in parts, though no catalog says so

  std::mutex sync_mutex_;
  std::uint64_t synced_ = 0;                              // sync_mutex_
  std::mutex seal_mutex_;                                 // one seal or drop at a time

  std::condition_variable wake_;
  bool stopping_ = false, refusing_ = false;              // mutex_
  std::thread thread_;
  Counter &ingested_, &conflicts_;
  Histogram& sync_seconds_;
};

}  // namespace croft::logs
