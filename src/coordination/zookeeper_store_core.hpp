#pragma once
// The inside of the ZooKeeper store, split over zookeeper_store.cpp (the leader's operations) and zookeeper_store_admin.cpp (the
// operator's). Private to these two.

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <deque>
#include <unordered_map>

#include "coordination/store.hpp"
#include "coordination/zookeeper_records.hpp"
#include "coordination/zookeeper_session.hpp"

namespace croft::coordination {

/// All members but the strand are touched on the strand only, by one operation at a time (begin() to the end of its Turn).
struct ZookeeperStoreCore : std::enable_shared_from_this<ZookeeperStoreCore> {
  ZookeeperStoreCore(std::shared_ptr<ZookeeperSession> s, std::string root);

  // --- the leader's (zookeeper_store.cpp) ---
  asio::awaitable<Result<Term>> take_over();
  asio::awaitable<Result<std::map<std::string, std::string>>> load(std::string prefix);
  asio::awaitable<Result<std::uint64_t>> commit(Batch batch);
  asio::awaitable<Result<std::uint64_t>> read_head();
  // --- the operator's (zookeeper_store_admin.cpp) ---
  asio::awaitable<Result<Snapshot>> save();
  asio::awaitable<Result<Term>> restore(Snapshot snapshot, Store::Over over);
  asio::awaitable<Result<Term>> accept(Term at_least);

  /// What stands in the three small nodes, with their versions.
  struct State {
    records::Meta meta;
    records::Epoch epoch;
    records::Head head;
    std::int32_t meta_version = 0, epoch_version = 0, head_version = 0;
  };
  struct Request {
    Batch batch;
    Result<std::uint64_t> answer = 0;
    bool done = false;
  };
  /// Holds the store for one operation.
  struct Turn {
    explicit Turn(ZookeeperStoreCore* c) : core(c) {}
    Turn(Turn&& other) noexcept : core(std::exchange(other.core, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() { if (core) core->unlock(); }
    ZookeeperStoreCore* core;
  };
  using Changes = std::map<std::string, std::optional<std::string>>;  ///< by key; nothing: removed
  using Keys = std::vector<std::string>;

  asio::awaitable<void> lock();
  void unlock();
  asio::awaitable<Turn> begin();  ///< after everything that was asked for before

  // Steps. All but `written` and `fenced` expect an epoch in force.
  asio::awaitable<Status> reachable();
  asio::awaitable<Status> make_layout();
  asio::awaitable<Result<State>> read_state();                 ///< fresh; refuses a newer format
  asio::awaitable<Result<std::uint64_t>> raise_epoch();        ///< sets epoch_version
  asio::awaitable<Status> settle();                            ///< head, keys and a pending batch as they are now
  asio::awaitable<Result<Keys>> list_keys();
  asio::awaitable<Result<std::map<std::string, std::string>>> read_values(Keys keys, std::unordered_map<std::string, records::Blob>* chunked);
  asio::awaitable<Result<std::string>> read_blob(records::Blob blob);
  /// `doing` for people. unknown_outcome when the answer was lost.
  asio::awaitable<Status> written(std::vector<ZkOp> ops, std::string_view doing);
  /// The same, only while the epoch is ours: not_leader otherwise.
  asio::awaitable<Status> fenced(std::vector<ZkOp> ops, std::string_view doing);
  asio::awaitable<Result<records::Blob>> write_blob(std::string bytes);  ///< under a name that nothing refers to yet
  asio::awaitable<Status> carry_over(Changes changes);                  ///< into kv, in as many fenced pieces as it takes
  asio::awaitable<Status> finish_pending(records::Blob blob);
  asio::awaitable<void> commit_waiting();
  asio::awaitable<Status> prepare_commit();
  asio::awaitable<Result<std::uint64_t>> commit_changes(Changes changes, std::uint64_t count);
  asio::awaitable<Result<std::uint64_t>> commit_large(Changes changes, std::uint64_t number);
  asio::awaitable<void> collect_garbage();
  static asio::awaitable<void> watch_epoch(std::shared_ptr<ZookeeperStoreCore> self, std::uint64_t epoch, std::int32_t version);

  ZkOp change_op(const std::string& key, const std::optional<std::string>& record) const;
  void note_change(const std::string& key, bool stays, std::optional<records::Blob> chunks);
  std::string key_node(const std::string& key) const { return kv_path + "/" + records::key_path(key); }
  std::string chunk_node(const std::string& name) const { return chunks_path + "/" + name; }

  std::shared_ptr<ZookeeperSession> session;
  asio::strand<asio::any_io_executor> strand;
  const std::string root, store_path, epoch_path, head_path, kv_path, chunks_path;

  bool busy = false;
  std::deque<std::shared_ptr<asio::steady_timer>> waiting;
  std::deque<std::shared_ptr<Request>> queue;  ///< commits in the order of the calls; null: another operation stands between

  std::uint64_t epoch = 0;           ///< 0: not taken over
  std::int32_t epoch_version = 0;    ///< the fence
  std::int64_t term_session = 0;
  std::uint64_t head = 0;
  std::int32_t head_version = 0;
  std::string cluster_id;
  bool settled = false;              ///< head, head_version and keys are what ZooKeeper has
  bool unknown = false;              ///< a commit's outcome is not known, and the caller has not read the head since
  std::uint64_t known_head = 0;      ///< while `unknown`: the head before that commit, whatever looks in between have found
  std::unordered_map<std::string, std::optional<records::Blob>> keys;  ///< all that there are, and their chunks as far as known
  std::vector<std::string> garbage;  ///< chunk nodes that nothing refers to any more
};

}  // namespace croft::coordination
