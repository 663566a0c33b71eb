#pragma once
// One ZooKeeper session over libzookeeper-mt: its callbacks handed over to coroutines, its clock kept by ourselves.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "coordination/zookeeper_address.hpp"

namespace croft::net { class Signal; }

namespace croft::coordination {

namespace asio = boost::asio;

struct ZookeeperOptions {
  ZookeeperAddress address;
  Millis session_timeout{3000};   ///< asked for; ZooKeeper clamps it to 2 to 20 of its ticks
  Millis operation_limit{5000};   ///< no operation takes longer, whatever happens
  /// A folder of this host alone where the session's identity is kept, so that a successor process can end it when this one died
  /// (dead_session.hpp). Empty: not kept.
  std::filesystem::path keep_in;
};

struct ZkStat {
  std::int32_t version = 0;
  std::int64_t ephemeral_owner = 0;
};

/// `code` is ZooKeeper's own (0: done); the rest by operation.
struct ZkReply {
  int code = 0;
  bool sent = false;               ///< false: there was no connection, and nothing has happened
  bool writes = false;
  std::string value;               ///< get: the data; create: the name made
  ZkStat stat;                     ///< get, exists
  std::vector<std::string> names;  ///< children
  int failed_op = -1;              ///< multi: the index of the operation that was refused
  [[nodiscard]] bool ok() const { return code == 0; }
  [[nodiscard]] bool no_node() const;
  [[nodiscard]] bool node_exists() const;
  [[nodiscard]] bool bad_version() const;
  /// The connection broke, or the limit passed: what was asked may or may not have happened.
  [[nodiscard]] bool unknown() const;
  [[nodiscard]] Error error(std::string_view doing) const;
};

enum class ZkAccess : std::uint8_t {
  ours,    ///< with credentials: for them only
  shown,   ///< with credentials: everybody may read
};

struct ZkOp {
  enum class Kind : std::uint8_t { create, set, remove, check };
  Kind kind{};
  std::string path, data;
  std::int32_t version = -1;  ///< expected; -1: any
  ZkAccess access = ZkAccess::ours;
  static ZkOp create(std::string path, std::string data, ZkAccess access = ZkAccess::ours) { return {Kind::create, std::move(path), std::move(data), -1, access}; }
  static ZkOp set(std::string path, std::string data, std::int32_t version = -1) { return {Kind::set, std::move(path), std::move(data), version, {}}; }
  static ZkOp remove(std::string path) { return {Kind::remove, std::move(path), {}, -1, {}}; }
  static ZkOp check(std::string path, std::int32_t version) { return {Kind::check, std::move(path), {}, version, {}}; }
};

/// Keeps one session alive: connects, reconnects, opens a new one when ZooKeeper has expired the old one.
///
/// Shape    ended by close(), or by its destructor, which blocks for a moment. Everybody who waits wakes at news(): a change of state or a
///          fired watch. News are hints; read again.
/// Clock    `contact` is the time at which a question was sent that the ensemble's leader has answered since (a sync every eighth of the
///          time-out). The library tells of an expired session only when it meets a server again, so `expires()` is our own time for it.
/// Errors   operations answer with a code, and within the limit; not connected: at once.
/// Threads  callable from any thread; continuations run on the caller's executor.
class ZookeeperSession : public std::enable_shared_from_this<ZookeeperSession> {
 public:
  /// Errors: conflict (another process of this host holds `keep_in`), io.
  static Result<std::shared_ptr<ZookeeperSession>> open(asio::any_io_executor executor, ZookeeperOptions options);
  ~ZookeeperSession();
  asio::awaitable<void> close();

  [[nodiscard]] const ZookeeperOptions& options() const;
  [[nodiscard]] asio::any_io_executor executor() const;
  [[nodiscard]] bool closing() const;
  [[nodiscard]] bool connected() const;
  [[nodiscard]] std::int64_t id() const;       ///< 0 while there is none
  [[nodiscard]] Millis negotiated() const;     ///< the time-out that ZooKeeper granted
  [[nodiscard]] Mono contact() const;
  [[nodiscard]] Mono expires() const;          ///< contact plus the whole time-out
  [[nodiscard]] Mono safe_until() const;       ///< contact plus two thirds of it: the rest is for clocks and for what ZooKeeper's own members do not know yet
  [[nodiscard]] std::string trouble() const;   ///< why it is not connected, in words
  [[nodiscard]] std::shared_ptr<net::Signal> news() const;
  /// True when connected by `limit`.
  asio::awaitable<bool> connected_within(Millis limit);

  asio::awaitable<ZkReply> get(std::string path, bool watch = false);
  asio::awaitable<ZkReply> exists(std::string path, bool watch = false);
  asio::awaitable<ZkReply> children(std::string path, bool watch = false);
  /// Many at once, answered in the order of the paths; ends early (the rest `unknown`) when the connection breaks or nothing came for the limit.
  asio::awaitable<std::vector<ZkReply>> get_many(std::vector<std::string> paths);
  asio::awaitable<std::vector<ZkReply>> children_many(std::vector<std::string> paths);
  asio::awaitable<ZkReply> create_candidate(std::string prefix, std::string data);  ///< ephemeral, sequential, shown
  asio::awaitable<ZkReply> multi(std::vector<ZkOp> ops);
  /// Afterwards reads on this session see everything that was written before the call.
  asio::awaitable<ZkReply> sync();
  /// Makes every missing part of a path.
  asio::awaitable<ZkReply> make_path(std::string path, ZkAccess access);

  // What the election and the store of one process tell each other.

  void set_leading_node(std::string path);            ///< empty: does not lead
  [[nodiscard]] std::string leading_node() const;
  void depose(std::string reason);                    ///< somebody else raised the epoch
  [[nodiscard]] std::string deposed() const;          ///< empty: no
  void clear_deposed();

 private:
  struct Impl;
  struct Handle;
  struct Op;
  struct Many;
  ZookeeperSession() = default;
  std::shared_ptr<Impl> impl_;
};

}  // namespace croft::coordination
