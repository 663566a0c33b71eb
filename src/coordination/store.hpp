#pragma once
// The durable store and the election, each an interface with two implementations (standalone here; ZooKeeper).

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace croft::coordination {

namespace asio = boost::asio;

/// Changes that happen all or not at all. Keys are paths without a leading slash: "apps/service/fibonacci".
struct Batch {
  std::map<std::string, std::string> put;
  std::vector<std::string> remove;
  [[nodiscard]] bool empty() const { return put.empty() && remove.empty(); }
};

/// What a leader knows of the store after taking over.
struct Term {
  std::uint64_t epoch = 0;   ///< raised by one at each take-over
  std::uint64_t head = 0;    ///< number of the last commit
  std::string cluster_id;    ///< made once, with the store
};

/// Ordered keys to values. Only the leader uses it.
///
/// Errors   commit: not_leader (fenced: another epoch is in force); unknown_outcome (call read_head() before anything else);
///          io (disk full and the like: nothing was changed). open/load: corrupt, invalid (a newer format version).
/// Threads  callable from any executor; operations are carried out in the order of the calls.
class Store {
 public:
  virtual ~Store() = default;
  /// Raises the epoch and fences every earlier leader.
  virtual asio::awaitable<Result<Term>> take_over() = 0;
  /// All keys that start with `prefix`, in order.
  virtual asio::awaitable<Result<std::map<std::string, std::string>>> load(std::string prefix) = 0;
  /// Durable when it answers. Gives the commit's number: the old head plus one.
  virtual asio::awaitable<Result<std::uint64_t>> commit(Batch batch) = 0;
  virtual asio::awaitable<Result<std::uint64_t>> read_head() = 0;
};

/// One leader at a time. `campaign` returns when this process leads; `lost` completes when it no longer does.
class Election {
 public:
  virtual ~Election() = default;
  virtual asio::awaitable<Status> campaign() = 0;
  virtual asio::awaitable<void> lost() = 0;
  virtual asio::awaitable<void> resign() = 0;
  /// "host:port" of who leads, as the leader advertised it.
  virtual asio::awaitable<Result<std::optional<std::string>>> leader() = 0;
};

}  // namespace croft::coordination
