#include "sim/network.hpp"

#include <utility>

namespace croft::sim {

NodeId Network::add(std::string name) {
  nodes_.emplace_back().name = std::move(name);
  return static_cast<NodeId>(nodes_.size() - 1);
}

void Network::start(NodeId n) {
  ++nodes_[n].life;
  nodes_[n].up = true;
  nodes_[n].frozen = false;
}

void Network::stop(NodeId n) {
  ++nodes_[n].life;
  nodes_[n].up = nodes_[n].frozen = false;
  nodes_[n].stalled.clear();
}

/// What still waits behind a cut holds the pipe that holds it.
Network::~Network() {
  for (auto& [between, pipes] : blocked_)
    for (auto& pipe : pipes) {
      auto waiting = std::exchange(pipe->waiting, {});
      pipe->broken_at_reader = pipe->broken_at_writer = nullptr;
    }
}

void Network::freeze(NodeId n) {
  if (nodes_[n].up) nodes_[n].frozen = true;
}

void Network::thaw(NodeId n) {
  if (!std::exchange(nodes_[n].frozen, false)) return;
  auto life = nodes_[n].life;
  for (auto& work : std::exchange(nodes_[n].stalled, {})) {
    if (nodes_[n].life != life) return;
    work();
  }
}

void Network::after(NodeId n, Millis delay, Work work) {
  world_.after(delay, [this, n, life = nodes_[n].life, work = std::move(work)]() mutable {
    auto& node = nodes_[n];
    if (node.life != life) return;
    if (node.frozen) node.stalled.push_back(std::move(work));
    else work();
  });
}

Millis Network::delay(NodeId from, NodeId to) {
  auto d = world_.between(weather.low.count(), weather.high.count()) + nodes_[from].extra + nodes_[to].extra;
  if (weather.slow > 0 && world_.chance(weather.slow)) d += world_.between(20, 400);
  return d;
}

void Network::deliver(NodeId to, Work work) {
  auto& node = nodes_[to];
  if (!node.up) return;
  if (node.frozen) node.stalled.push_back(std::move(work));
  else work();
}

void Network::post(NodeId from, NodeId to, Work work, Work broken, bool once, bool answers) {
  if (is_cut(from, to)) {
    // Half of them are sent again by the kernel until the link heals, and come then, whoever still waits for an answer.
    if (world_.chance(0.5)) held_[{from, to}].push_back(std::move(work));
    return;
  }
  auto told = [this, from, to](Work who) {
    if (who && !is_cut(to, from)) after(from, delay(to, from), std::move(who));
  };
  if (!nodes_[to].up) return told(std::move(broken));
  if (!answers && weather.breaks > 0 && world_.chance(weather.breaks)) {
    // The sender learns that it broke, and not whether the request had arrived.
    if (world_.chance(0.5)) world_.after(delay(from, to), [this, to, work] { deliver(to, work); });
    return told(std::move(broken));
  }
  if (!once && weather.twice > 0 && world_.chance(weather.twice)) {
    ++probes_[static_cast<std::size_t>(Probe::duplicate_delivered)];
    world_.after(delay(from, to) + world_.between(0, 300), [this, to, work] { deliver(to, work); });
  }
  world_.after(delay(from, to), [this, to, work = std::move(work)]() mutable { deliver(to, std::move(work)); });
}

void Network::answer(NodeId from, NodeId to, Work work, Work broken) {
  bool breaks = weather.breaks > 0 && !is_cut(from, to) && world_.chance(weather.breaks);
  post(from, to, breaks ? std::move(broken) : std::move(work), {}, true, true);
}

PipePtr Network::open(NodeId from, NodeId to) {
  auto pipe = std::make_shared<Pipe>();
  pipe->from = from;
  pipe->to = to;
  pipe->last = world_.elapsed();
  return pipe;
}

void Network::pass(const PipePtr& pipe, Work work) {
  pipe->last = std::max(pipe->last, world_.elapsed() + delay(pipe->from, pipe->to));
  world_.at(pipe->last, [this, pipe, work = std::move(work)]() mutable {
    if (!pipe->open) return;
    deliver(pipe->to, [pipe, work = std::move(work)] {
      if (pipe->open) work();
    });
  });
}

void Network::send(const PipePtr& pipe, Work work) {
  if (!pipe->open) return;
  if (is_cut(pipe->from, pipe->to)) {
    if (pipe->waiting.empty()) blocked_[{pipe->from, pipe->to}].push_back(pipe);
    pipe->waiting.push_back(std::move(work));
    return;
  }
  if (weather.breaks > 0 && world_.chance(weather.breaks)) return close(pipe);
  pass(pipe, std::move(work));
}

void Network::close(const PipePtr& pipe) {
  if (!std::exchange(pipe->open, false)) return;
  pipe->waiting.clear();
  if (pipe->broken_at_reader && !is_cut(pipe->from, pipe->to)) after(pipe->to, delay(pipe->from, pipe->to), std::move(pipe->broken_at_reader));
  if (pipe->broken_at_writer && !is_cut(pipe->to, pipe->from)) after(pipe->from, delay(pipe->to, pipe->from), std::move(pipe->broken_at_writer));
  pipe->broken_at_reader = pipe->broken_at_writer = nullptr;
}

void Network::heal(NodeId from, NodeId to) {
  auto at = cuts_.find({from, to});
  if (at == cuts_.end() || --at->second > 0) return;
  cuts_.erase(at);
  if (auto held = held_.extract(std::pair(from, to)))
    for (auto& work : held.mapped()) {
      ++probes_[static_cast<std::size_t>(Probe::late_delivered)];
      world_.after(delay(from, to) + world_.between(0, 500), [this, to = to, work = std::move(work)]() mutable { deliver(to, std::move(work)); });
    }
  if (auto blocked = blocked_.extract(std::pair(from, to)))
    for (auto& pipe : blocked.mapped())
      for (auto& work : std::exchange(pipe->waiting, {})) pass(pipe, std::move(work));
}

}  // namespace croft::sim
