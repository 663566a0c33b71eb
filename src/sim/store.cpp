#include "sim/store.hpp"

#include <algorithm>

namespace croft::sim {

SessionId StoreSim::open(NodeId owner) {
  sessions_.push_back({next_, owner, world_.elapsed()});
  return next_++;
}

bool StoreSim::alive(SessionId id) const {
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const Session& s) { return s.id == id; });
}

bool StoreSim::beat(SessionId id) {
  for (auto& s : sessions_)
    if (s.id == id) return s.heard = world_.elapsed(), true;
  return false;
}

void StoreSim::end(SessionId id) {
  std::erase_if(sessions_, [&](const Session& s) { return s.id == id; });
}

void StoreSim::tick() {
  if (!answers) {  // without a quorum no session ends; all get their time anew
    for (auto& s : sessions_) s.heard = world_.elapsed();
    return;
  }
  std::erase_if(sessions_, [&](const Session& s) { return world_.elapsed() - s.heard > session_timeout; });
}

std::optional<StoreSim::First> StoreSim::first() const {
  if (sessions_.empty()) return std::nullopt;
  return First{sessions_.front().id, sessions_.front().owner};
}

std::optional<StoreSim::Image> StoreSim::take_over(SessionId session, std::uint64_t epoch_seen) {
  if (auto f = first(); !f || f->session != session || epoch_seen != image_.epoch) return std::nullopt;
  ++image_.epoch;
  return image_;
}

void StoreSim::write(const coordination::Batch& batch) {
  for (const auto& key : batch.remove) image_.data.erase(key);
  for (const auto& [key, value] : batch.put)
    if (bug_ != Bug::lost_kill_record || !key.starts_with("kills/")) image_.data[key] = value;
  ++image_.head;
}

StoreSim::Outcome StoreSim::commit(std::uint64_t epoch, std::uint64_t expected, const coordination::Batch& batch) {
  if (bug_ != Bug::fence_open) {
    if (epoch != image_.epoch) return Outcome::not_leader;
    if (expected != image_.head) return Outcome::conflict;
  }
  write(batch);
  return Outcome::committed;
}

void StoreSim::commit_late(SessionId session, std::uint64_t epoch, std::uint64_t expected, coordination::Batch batch, Millis delay) {
  auto late = std::make_shared<Late>(Late{session, epoch, expected, std::move(batch)});
  late_.push_back(late);
  world_.after(delay, [this, late] {
    if (std::exchange(late->done, true)) return;
    late_refused_ += commit(late->epoch, late->head, late->batch) != Outcome::committed;
    std::erase(late_, late);
  });
}

std::uint64_t StoreSim::synced_head(SessionId session) {
  auto pending = late_;
  for (const auto& late : pending) {
    if (late->session != session) continue;
    late->done = true;
    if (world_.chance(0.5)) (void)commit(late->epoch, late->head, late->batch);
    std::erase(late_, late);
  }
  return image_.head;
}

StoreSim::Image StoreSim::swap(Image other) {
  sessions_.clear();
  for (auto& late : late_) late->done = true;
  late_.clear();
  return std::exchange(image_, std::move(other));
}

void StoreSim::remember() {
  history_.emplace_back(world_.elapsed(), image_);
  if (history_.size() > 8) history_.pop_front();
}

std::optional<StoreSim::Image> StoreSim::older(Millis age) const {
  for (auto at = history_.rbegin(); at != history_.rend(); ++at)
    if (world_.elapsed() - at->first >= age && at->second.head < image_.head) return at->second;
  return std::nullopt;
}

}  // namespace croft::sim
