#include "cluster/capacity_index.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace croft::cluster {

Weights weights_of(const Resources& total, std::size_t agents) {
  auto part = [&](Milli sum) { return sum > 0 ? static_cast<double>(agents) / static_cast<double>(sum) : 0.0; };
  return {part(total.cpus), part(total.mem)};
}

CapacityIndex::Slot CapacityIndex::add(const Resources& total) {
  Slot slot;
  if (free_slots_.empty()) {
    slot = static_cast<Slot>(rooms_.size());
    rooms_.emplace_back();
    totals_.emplace_back();
    used_.push_back(false);
    next_.push_back(none);
    prev_.push_back(none);
    cells_.push_back(none);
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  used_[slot] = true;
  totals_[slot] = total;
  stale_ = true;
  return slot;
}

void CapacityIndex::set_total(Slot slot, const Resources& total) {
  stale_ = stale_ || totals_[slot] != total;
  totals_[slot] = total;
}

void CapacityIndex::remove(Slot slot) {
  CROFT_ASSERT(used_[slot]);
  unlink(slot);
  rooms_[slot] = {};
  totals_[slot] = {};
  used_[slot] = false;
  free_slots_.push_back(slot);
  stale_ = true;
}

void CapacityIndex::set(Slot slot, const Room& room) {
  rooms_[slot] = room;
  if (heads_.empty()) return;
  if (room.open && cells_[slot] == cell_of(room)) return;
  unlink(slot);
  if (room.open) link(slot);
}

void CapacityIndex::link(Slot slot) {
  auto cell = cell_of(rooms_[slot]);
  auto head = heads_[cell];
  cells_[slot] = cell;
  prev_[slot] = none;
  next_[slot] = head;
  if (head != none) prev_[head] = slot;
  heads_[cell] = slot;
  auto row = cell / side, diagonal = row + cell % side;
  rows_[diagonal][row / 64] |= 1ull << (row % 64);
  busy_[diagonal / 64] |= 1ull << (diagonal % 64);
}

void CapacityIndex::unlink(Slot slot) {
  auto cell = cells_[slot];
  if (cell == none) return;
  if (prev_[slot] != none) next_[prev_[slot]] = next_[slot];
  else heads_[cell] = next_[slot];
  if (next_[slot] != none) prev_[next_[slot]] = prev_[slot];
  cells_[slot] = next_[slot] = prev_[slot] = none;
  if (heads_[cell] != none) return;
  auto row = cell / side, diagonal = row + cell % side;
  auto& mask = rows_[diagonal];
  mask[row / 64] &= ~(1ull << (row % 64));
  if (std::all_of(mask.begin(), mask.end(), [](std::uint64_t word) { return word == 0; })) busy_[diagonal / 64] &= ~(1ull << (diagonal % 64));
}

int CapacityIndex::next_diagonal(int from) const {
  for (auto word = static_cast<std::size_t>(from) / 64; word < busy_.size(); ++word) {
    auto bits = busy_[word];
    if (word == static_cast<std::size_t>(from) / 64) bits &= ~0ull << (from % 64);
    if (bits) return static_cast<int>(word) * 64 + std::countr_zero(bits);
  }
  return diagonals;
}

int CapacityIndex::next_row(int diagonal, int row) const {
  const auto& mask = rows_[static_cast<std::size_t>(diagonal)];
  if (row >= side) return side;
  for (auto word = static_cast<std::size_t>(row) / 64; word < mask.size(); ++word) {
    auto bits = mask[word];
    if (word == static_cast<std::size_t>(row) / 64) bits &= ~0ull << (row % 64);
    if (bits) return static_cast<int>(word) * 64 + std::countr_zero(bits);
  }
  return side;
}

void CapacityIndex::refresh() {
  if (!std::exchange(stale_, false)) return;
  Resources sum, most;
  std::size_t agents = 0;
  for (Slot slot = 0; slot < totals_.size(); ++slot) {
    if (!used_[slot]) continue;
    ++agents;
    sum += totals_[slot];
    most.cpus = std::max(most.cpus, totals_[slot].cpus);
    most.mem = std::max(most.mem, totals_[slot].mem);
  }
  auto fresh = weights_of(sum, agents);
  if (agents <= small) {
    weights_ = fresh;
    if (heads_.empty()) return;
    heads_.clear(), heads_.shrink_to_fit();
    std::fill(cells_.begin(), cells_.end(), none);
    return;
  }
  auto near = [](double a, double b) { return std::abs(a - b) <= 0.02 * std::max(std::abs(a), std::abs(b)); };
  auto worth = std::max(static_cast<double>(most.cpus) * fresh.cpus, static_cast<double>(most.mem) * fresh.mem);
  auto scale = worth > 0 ? side / worth : 0.0;
  if (!heads_.empty() && near(fresh.cpus, weights_.cpus) && near(fresh.mem, weights_.mem) && near(fresh.cpus * scale, row_scale_)) return;
  weights_ = fresh;
  row_scale_ = fresh.cpus * scale;
  column_scale_ = fresh.mem * scale;
  rebuild();
}

void CapacityIndex::rebuild() {
  heads_.assign(static_cast<std::size_t>(side) * side, none);
  rows_.assign(diagonals, {});
  busy_.fill(0);
  std::fill(cells_.begin(), cells_.end(), none);
  for (Slot slot = 0; slot < rooms_.size(); ++slot)
    if (rooms_[slot].open) link(slot);
}

std::string CapacityIndex::audit() const {
  if (heads_.empty()) return {};
  std::size_t on_grid = 0, open = 0;
  for (std::size_t cell = 0; cell < heads_.size(); ++cell)
    for (Slot slot = heads_[cell]; slot != none; slot = next_[slot]) {
      if (++on_grid > rooms_.size()) return "a cell's list has a loop";
      if (cells_[slot] != cell || cell_of(rooms_[slot]) != cell) return fmt::format("slot {} stands in the wrong cell", slot);
      if (next_[slot] != none && prev_[next_[slot]] != slot) return fmt::format("the list around slot {} is broken", slot);
      auto row = cell / side, diagonal = row + cell % side;
      if (!((rows_[diagonal][row / 64] >> (row % 64)) & 1u) || !((busy_[diagonal / 64] >> (diagonal % 64)) & 1u)) return fmt::format("the masks do not show slot {}", slot);
    }
  for (const auto& room : rooms_) open += room.open;
  return on_grid == open ? "" : fmt::format("{} slots are open, {} stand on the grid", open, on_grid);
}

}  // namespace croft::cluster
