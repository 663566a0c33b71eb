#pragma once
// The log store: documents in, one write-ahead log, memory parts that are searched at once, immutable parts on disk.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/metrics.hpp"
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
  enum class Kind : std::uint8_t { created, updated, conflict } kind = Kind::created;
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

struct IndexView {
  std::string name;
  std::vector<std::shared_ptr<const Part>> parts;   ///< newest last
  MemoryRows memory;
};

/// What a search sees: nothing of it changes while it is held.
struct StoreView {
  std::vector<IndexView> indices;                   ///< by name
  std::shared_ptr<const std::set<std::uint64_t>> deleted;  ///< sequence numbers of rows that a newer version replaced
};

struct IndexInfo {
  std::string name, uuid;
  std::uint64_t documents = 0, bytes = 0;
  Wall created{};
};

struct StoreOptions {
  std::filesystem::path dir;
  std::size_t seal_rows = 131'072, seal_bytes = 64u << 20;
  Millis seal_age{3'600'000};
  std::optional<int> retain_days;                   ///< by the index's day; only indices that end in yyyy.MM.dd
  std::uint64_t retain_bytes = 0;                   ///< 0: no bound; the oldest day goes first
};

/// Shape    open, ingest and view from any thread, stop. A background thread seals and retains.
/// Errors   ingest: io (the disk; nothing was taken), unavailable (memory full because sealing fails: try again).
///          A damaged part is left aside, named in `damaged()`, and the others are served.
class Store {
 public:
  static Result<std::unique_ptr<Store>> open(StoreOptions options, Metrics& metrics);
  ~Store();

  /// Durable and visible when it returns. Blocks for the disk: not on an I/O thread. One outcome a document, in order.
  Result<std::vector<Stored>> ingest(std::vector<Document> documents);
  [[nodiscard]] StoreView view(const std::function<bool(const std::string&)>& wanted) const;
  [[nodiscard]] std::vector<IndexInfo> indices() const;
  Status create_index(const std::string& name);
  Status drop_index(const std::string& name);
  /// Writes everything in memory into parts now.
  Status seal();
  Status retain(Wall now);
  [[nodiscard]] std::vector<std::string> damaged() const;
  [[nodiscard]] const std::string& uuid() const { return uuid_; }
  /// Highest committed offset of a shipper's source; nothing when unknown.
  [[nodiscard]] std::optional<std::uint64_t> offset_of(const std::string& source) const;

 private:
  struct PartFile { std::string file; std::uint64_t last_seq = 0; std::shared_ptr<const Part> part; };
  struct Memory {
    std::vector<std::shared_ptr<MemoryRows::Chunk>> chunks;
    std::unordered_map<std::string, std::uint64_t> ids;  // foreign ids to sequence numbers
    std::size_t rows = 0, bytes = 0;
  };
  struct Index {
    std::string uuid;
    Wall created{};
    std::vector<PartFile> parts;
    Memory active, sealing;
  };

  Store(StoreOptions options, Metrics& metrics);
  Status load();
  Status load_catalog();
  Status save_catalog();                                  // mutex_ held
  Status replay(const std::vector<std::filesystem::path>& files);
  Status roll_wal();
  Index& index_of(const std::string& name);               // mutex_ held
  void insert(const std::string& index, Row row);         // mutex_ held
  std::optional<std::uint64_t> find_foreign(const Index& index, const std::string& id) const;  // mutex_ held
  void remember(const WalRecord& record);                 // mutex_ held
  struct Planned { WalRecord record; std::size_t document; };
  std::vector<Planned> plan(std::vector<Document>& documents, std::vector<Stored>& outcomes);  // mutex_ held
  Status sync_up_to(std::uint64_t ticket, std::shared_ptr<WalFile> wal);
  Status write_sealed();
  void background();
  [[nodiscard]] std::uint64_t bytes_of(const Index& index) const;

  StoreOptions options_;
  std::string uuid_;
  std::shared_mutex gate_;                                // ingest shared; swapping the memory parts exclusive
  mutable std::mutex mutex_;                              // everything below
  std::map<std::string, Index> indices_;
  std::unordered_map<std::string, std::uint64_t> offsets_;  // of shippers' sources
  std::shared_ptr<std::set<std::uint64_t>> deleted_ = std::make_shared<std::set<std::uint64_t>>();
  std::uint64_t next_seq_ = 1, sealed_seq_ = 0, next_file_ = 1;
  std::vector<std::filesystem::path> old_wals_;
  std::shared_ptr<WalFile> wal_;
  std::uint64_t written_ = 0;
  std::size_t active_rows_ = 0, active_bytes_ = 0, sealing_rows_ = 0;
  std::chrono::steady_clock::time_point active_since_{};
  std::vector<std::string> damaged_;

  std::mutex sync_mutex_;
  std::uint64_t synced_ = 0;                              // sync_mutex_
  std::mutex seal_mutex_;                                 // one seal at a time

  std::condition_variable wake_;
  bool stopping_ = false;                                 // mutex_
  std::thread thread_;
  Counter &ingested_, &conflicts_;
  Histogram& sync_seconds_;
};

/// "c1:<source>:<offset>": the id of a line from one of our shippers. `offset` grows within a source.
struct ShippedId { std::string source; std::uint64_t offset; };
std::optional<ShippedId> shipped_id(std::string_view id);
std::string make_shipped_id(std::string_view source, std::uint64_t offset);
/// Elasticsearch's rules for names. Errors: invalid, with its words.
Status check_index_name(std::string_view name);

}  // namespace croft::logs
