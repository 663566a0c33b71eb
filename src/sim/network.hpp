#pragma once
// Processes and what lies between them. Messages are delayed, lost with their connection, doubled, overtaken; links are cut, also in one direction
// only, and give what waited when they heal; a frozen process finds everything at once when it goes on.

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/sim.hpp"
#include "sim/world.hpp"

namespace croft::sim {

using NodeId = std::uint32_t;

/// One direction of a connection: in order, whole, or broken.
struct Pipe {
  NodeId from = 0, to = 0;
  bool open = true;
  Millis last{0};                ///< delivery time of the newest message
  std::deque<Work> waiting;      ///< behind a cut
  Work broken_at_reader, broken_at_writer;
};
using PipePtr = std::shared_ptr<Pipe>;

struct Weather {
  Millis low{1}, high{6};
  double slow = 0;               ///< chance of a message that takes up to 400 ms
  double breaks = 0;             ///< chance that a message finds its connection broken
  double twice = 0;              ///< chance that a request arrives twice
};

class Network {
 public:
  Network(World& world, Probes& probes) : world_(world), probes_(probes) {}
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  NodeId add(std::string name);

  // --- processes ---
  void start(NodeId n);
  void stop(NodeId n);                              ///< kill -9: what it had in hand is gone
  void freeze(NodeId n);
  void thaw(NodeId n);
  [[nodiscard]] bool up(NodeId n) const { return nodes_[n].up; }
  [[nodiscard]] bool frozen(NodeId n) const { return nodes_[n].frozen; }
  [[nodiscard]] const std::string& name(NodeId n) const { return nodes_[n].name; }
  /// A process's own timer: gone with it, late when it was frozen.
  void after(NodeId n, Millis delay, Work work);

  // --- messages ---
  /// A request, or an answer to one: a connection of its own. `broken` runs at the sender when it is told that the connection failed; over a cut
  /// nobody is told.
  void post(NodeId from, NodeId to, Work deliver, Work broken = {}, bool once = false, bool answers = false);
  /// An answer on the connection of the request: who asked is told when that breaks.
  void answer(NodeId from, NodeId to, Work deliver, Work broken_at_asker);
  PipePtr open(NodeId from, NodeId to);
  void send(const PipePtr& pipe, Work deliver);
  void close(const PipePtr& pipe);                  ///< by either side: both ends learn of it, unless the link is cut

  // --- faults ---
  void cut(NodeId from, NodeId to) { cuts_[{from, to}] += 1; }
  void heal(NodeId from, NodeId to);
  [[nodiscard]] bool is_cut(NodeId from, NodeId to) const { return cuts_.contains({from, to}); }
  void slow_down(NodeId n, Millis by) { nodes_[n].extra = by; }
  Weather weather;

 private:
  struct Node {
    std::string name;
    bool up = false, frozen = false;
    std::uint64_t life = 0;
    Millis extra{0};
    std::vector<Work> stalled;
  };
  Millis delay(NodeId from, NodeId to);
  void deliver(NodeId to, Work work);
  void pass(const PipePtr& pipe, Work work);

  World& world_;
  Probes& probes_;
  std::vector<Node> nodes_;
  std::map<std::pair<NodeId, NodeId>, int> cuts_;
  std::map<std::pair<NodeId, NodeId>, std::vector<Work>> held_;        // requests behind a cut
  std::map<std::pair<NodeId, NodeId>, std::vector<PipePtr>> blocked_;  // pipes with something behind a cut
};

}  // namespace croft::sim
