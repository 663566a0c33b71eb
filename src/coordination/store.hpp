#pragma once
// The durable store and the election, each an interface with two implementations: standalone.hpp and zookeeper.hpp.

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"

namespace croft::coordination {

namespace asio = boost::asio;

/// Changes that happen all or not at all. Keys are paths without a leading slash: "apps/service/fibonacci".
struct Batch {
  std::map<std::string, std::string> put;
  std::vector<std::string> remove;  ///< a key that is put as well stays
  [[nodiscard]] bool empty() const { return put.empty() && remove.empty(); }
};

inline constexpr std::size_t key_bytes_max = 1024;
inline constexpr std::size_t value_bytes_max = 16u << 20;
inline constexpr std::size_t batch_bytes_max = 64u << 20;
/// Whether any store takes this batch. Errors: invalid (an empty key), too_large (naming the key).
Status check(const Batch& batch);

/// What a leader knows of the store after taking over.
struct Term {
  std::uint64_t epoch = 0;   ///< raised by one at each take-over
  std::uint64_t head = 0;    ///< number of the last commit
  std::string cluster_id;    ///< made once, with the store
};

/// Everything in a store at one commit; backup.hpp makes a file of it.
struct Snapshot {
  Term term;
  std::map<std::string, std::string> values;
};

/// The term to restore a backup with. Agents refuse an epoch or a head that went back, and after the backup was taken the old store went
/// on for an unknown while: so both leap far ahead (`leap_epochs`, `leap_commits`), to at least what the operator names, and never fall
/// behind what the present store says. Restoring is thereby an explicit step over that refusal.
Term restored_term(const Term& saved, const Term& present, const Term& at_least);
inline constexpr std::uint64_t leap_epochs = 1'000;
inline constexpr std::uint64_t leap_commits = 1'000'000;

/// Ordered keys to values. Only the leader uses it, but for save, restore and accept.
///
/// Errors   commit: not_leader (fenced: another epoch is in force, or what this leader remembers is old; take over again);
///          unknown_outcome (call read_head() before anything else); unavailable, io, too_large (nothing was changed).
///          read_head: not_leader when another epoch is in force, so that its answer is never about somebody else's commit.
///          take_over/load: corrupt, invalid (a newer format version; nothing was written), forbidden (credentials), unavailable.
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

  // For operators; none of them needs leadership.

  /// Everything at one commit; changes nothing. conflict: commits kept coming meanwhile.
  virtual asio::awaitable<Result<Snapshot>> save() = 0;
  enum class Over : bool { empty, everything };
  /// Fills a store that has no keys (conflict otherwise, naming what is there), or puts it in the place of all that is there, and puts `snapshot.term`
  /// in force as it stands; invalid when that would lower the epoch or the head. A leader that runs on the store is fenced.
  virtual asio::awaitable<Result<Term>> restore(Snapshot snapshot, Over over) = 0;
  asio::awaitable<Result<Term>> restore(Snapshot snapshot) { return restore(std::move(snapshot), Over::empty); }
  /// Makes agents take this store though they have seen a later one: raises epoch and head to at least these (never lowers them) and,
  /// when it is named, puts their cluster id in force. A leader that runs on the store is fenced and takes over anew.
  virtual asio::awaitable<Result<Term>> accept(Term at_least) = 0;
};

/// One leader at a time. `campaign` returns when this process leads; `lost` completes when it no longer does, and then a new campaign
/// may begin. Both are awaited by one coroutine; the others are callable from anywhere.
class Election {
 public:
  virtual ~Election() = default;
  virtual asio::awaitable<Status> campaign() = 0;
  virtual asio::awaitable<void> lost() = 0;
  /// Gives leadership (or the place in the queue) away; the next campaign stands behind everybody else.
  virtual asio::awaitable<void> resign() = 0;
  /// "host:port" of who leads, as the leader advertised it.
  virtual asio::awaitable<Result<std::optional<std::string>>> leader() = 0;
  /// The lease: until then, by this machine's monotonic clock, nobody else can lead, so that commands may be sent. Mono{} (long ago)
  /// while this process does not lead; Mono::max() in a farm with one master: compare with now, do not add.
  [[nodiscard]] virtual Mono safe_until() const = 0;
};

/// A master as it advertises itself.
struct Leader {
  std::string id;        ///< made anew by each process
  std::string hostname;
  std::string ip;        ///< IPv4
  std::uint16_t mesos_port = 5050;
  std::uint16_t marathon_port = 0;  ///< 0: a Mesos master that is not croft's
  std::string version;
  [[nodiscard]] std::string address() const { return ip + ":" + std::to_string(marathon_port); }
  bool operator==(const Leader&) const = default;
};

/// Who leads, as last seen.
struct Sighting {
  std::optional<Leader> leader;  ///< by the last answer; kept while nobody answers, nothing between two leaders
  std::optional<Leader> last;    ///< the last one that was seen at all: what a data plane goes on with
  bool certain = false;          ///< whether the answer is of now: false while ZooKeeper is away
  std::uint64_t turn = 0;        ///< raised by each change of the above
};

/// Follows the leader; for masters that do not lead, agents, balancers, name servers and shippers. Callable from any thread.
class Detector {
 public:
  virtual ~Detector() = default;
  [[nodiscard]] virtual Sighting sighting() const = 0;
  /// The first sighting with another turn than `seen`, or the present one after `limit`.
  virtual asio::awaitable<Sighting> changed(std::uint64_t seen, Millis limit) = 0;
};

}  // namespace croft::coordination
