#pragma once
// The ensemble as its clients see it: a fenced store, sessions, and who is first in the queue for leadership.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordination/store.hpp"
#include "sim/network.hpp"

namespace croft::sim {

using SessionId = std::uint64_t;

class StoreSim {
 public:
  struct Image {
    std::string cluster_id;
    std::uint64_t epoch = 0, head = 0;
    std::map<std::string, std::string> data;
  };
  enum class Outcome : std::uint8_t { committed, not_leader, conflict };

  StoreSim(World& world, Bug bug, Millis timeout) : session_timeout(timeout), world_(world), bug_(bug) { image_.cluster_id = "sim"; }

  // --- sessions ---
  SessionId open(NodeId owner);
  bool beat(SessionId session);
  void end(SessionId session);
  void tick();                                      ///< ends silent sessions
  [[nodiscard]] bool alive(SessionId session) const;
  struct First { SessionId session = 0; NodeId owner = 0; };
  [[nodiscard]] std::optional<First> first() const;

  // --- the store ---
  /// Raises the epoch and fences every earlier leader; nothing when the session is not the first, or the epoch is not what it saw.
  std::optional<Image> take_over(SessionId session, std::uint64_t epoch_seen);
  Outcome commit(std::uint64_t epoch, std::uint64_t expected_head, const coordination::Batch& batch);
  /// Accepted by one server and on its way to the others: it comes into force later, or not at all.
  void commit_late(SessionId session, std::uint64_t epoch, std::uint64_t expected_head, coordination::Batch batch, Millis delay);
  /// A read that waits for what the session has under way (ZooKeeper's sync): nothing of it comes into force after this.
  std::uint64_t synced_head(SessionId session);

  [[nodiscard]] const Image& image() const { return image_; }
  /// Another image in its place (a lost or rolled-back store); every session ends. Gives the one that was there.
  Image swap(Image other);
  [[nodiscard]] std::optional<Image> older(Millis age) const;
  void remember();                                  ///< for older()
  [[nodiscard]] std::uint64_t late_refused() const { return late_refused_; }

  Millis session_timeout;
  bool answers = true;                              ///< has a quorum
  double unknown = 0;                               ///< chance that a commit's outcome stays unknown
  double refuses = 0;                               ///< chance of a plain refusal (disk full)

 private:
  struct Session { SessionId id; NodeId owner; Millis heard; };
  struct Late { SessionId session; std::uint64_t epoch, head; coordination::Batch batch; bool done = false; };
  void write(const coordination::Batch& batch);

  World& world_;
  Bug bug_;
  Image image_;
  std::vector<Session> sessions_;                   // in the order of the queue
  std::vector<std::shared_ptr<Late>> late_;
  std::deque<std::pair<Millis, Image>> history_;
  SessionId next_ = 1;
  std::uint64_t late_refused_ = 0;
};

}  // namespace croft::sim
