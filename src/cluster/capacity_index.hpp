#pragma once
// Who has room: flat arrays of what is free, and an index over them that finds the best fit without looking at every agent.
//
// Agents stand in a grid, by free cpus (rows) and free mem (columns), with steps of equal worth. What stays free on an agent after a
// placement, its leftover, is then nearly the number of its anti-diagonal, so the best fit stands on the first diagonal that has an
// agent with enough of both. Bit masks skip what is empty.

#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/resources.hpp"

namespace croft::cluster {

/// What a unit of cpus and of mem is worth, in parts of an average agent, so that leftovers of both can be added.
struct Weights {
  double cpus = 0, mem = 0;
};
Weights weights_of(const Resources& total, std::size_t agents);

/// The score of a fit: what stays free, weighed. Smaller is better.
inline double leftover(const Weights& w, const Resources& free, const Resources& want) {
  return static_cast<double>(free.cpus - want.cpus) * w.cpus + static_cast<double>(free.mem - want.mem) * w.mem;
}

/// Shape    slots are numbers given by add(); an agent's room is set whole after each change; best() answers from what is set.
/// Threads  one strand.
class CapacityIndex {
 public:
  using Slot = std::uint32_t;
  enum Trait : std::uint8_t { docker = 1, native = 2 };

  struct Room {
    Resources free;
    std::uint32_t ports = 0;      ///< number of free ones
    std::uint8_t traits = 0;
    bool open = false;            ///< takes tasks
  };
  struct Want {
    Resources resources;
    std::uint32_t ports = 0;
    std::uint8_t traits = 0;      ///< all of these
    /// A bit a slot, or null for all: what constraints allow. They depend on the shape and the agent, not on how full it is, so the
    /// caller evaluates them once for both.
    const std::uint64_t* eligible = nullptr;
  };
  struct Pick {
    Slot slot = 0;
    std::uint32_t handicap = 0;
    double left = 0;
    [[nodiscard]] bool better_than(const Pick& o) const { return handicap != o.handicap ? handicap < o.handicap : left < o.left; }
  };

  Slot add(const Resources& total);
  void set_total(Slot slot, const Resources& total);
  void set(Slot slot, const Room& room);
  void remove(Slot slot);
  /// To be called before best() once totals may have changed: weighs anew and rebuilds the grid when it has to.
  void refresh();

  /// The slot with the smallest (handicap, leftover). `handicap(slot)` gives a number, 0 the best, or nothing when the agent cannot take it.
  /// No slot has a smaller handicap than `floor`: the search ends when it has found enough of those.
  template <class Handicap>
  [[nodiscard]] std::optional<Pick> best(const Want& want, std::uint32_t floor, Handicap&& handicap) const;
  /// The same, by looking at every slot.
  template <class Handicap>
  [[nodiscard]] std::optional<Pick> scan(const Want& want, Handicap&& handicap) const;

  [[nodiscard]] const Room& room(Slot slot) const { return rooms_[slot]; }
  [[nodiscard]] std::size_t slots() const { return rooms_.size(); }
  [[nodiscard]] const Weights& weights() const { return weights_; }
  [[nodiscard]] static bool fits(const Room& r, const Want& w, Slot slot) {
    return r.open && r.free.holds(w.resources) && r.ports >= w.ports && (r.traits & w.traits) == w.traits &&
           (!w.eligible || ((w.eligible[slot / 64] >> (slot % 64)) & 1u));
  }
  [[nodiscard]] std::string audit() const;   ///< "" or what is out of step; for tests

 private:
  static constexpr int side = 256;
  static constexpr std::size_t small = 64;   // up to here looking at everyone is the fastest
  static constexpr std::uint32_t none = ~0u;
  static constexpr unsigned enough = 32;     // candidates of the best kind that are compared
  static constexpr unsigned patience = 1024; // agents looked at on the grid; then the flat scan is cheaper
  static constexpr int diagonals = 2 * side - 1;
  using RowMask = std::array<std::uint64_t, side / 64>;

  [[nodiscard]] static int place_on(double worth) { return worth <= 0 ? 0 : worth >= side ? side - 1 : static_cast<int>(worth); }
  [[nodiscard]] int row_of(Milli cpus) const { return place_on(static_cast<double>(cpus) * row_scale_); }
  [[nodiscard]] int column_of(Milli mem) const { return place_on(static_cast<double>(mem) * column_scale_); }
  [[nodiscard]] std::uint32_t cell_of(const Room& r) const { return static_cast<std::uint32_t>(row_of(r.free.cpus) * side + column_of(r.free.mem)); }
  [[nodiscard]] int next_diagonal(int from) const;
  /// The first row at or after `row` that has agents on this diagonal; `side` when none.
  [[nodiscard]] int next_row(int diagonal, int row) const;
  void link(Slot slot);
  void unlink(Slot slot);
  void rebuild();

  std::vector<Room> rooms_;
  std::vector<Resources> totals_;
  std::vector<bool> used_;
  std::vector<Slot> free_slots_;
  Weights weights_;
  double row_scale_ = 0, column_scale_ = 0;
  bool stale_ = true;

  // The grid; empty while there are few agents. Each cell's agents are a list through next_ and prev_.
  std::vector<Slot> heads_, next_, prev_;
  std::vector<std::uint32_t> cells_;                     // of each slot; none when it is not on the grid
  std::vector<RowMask> rows_;                            // of each diagonal: the rows that have agents
  std::array<std::uint64_t, (diagonals + 63) / 64> busy_{};  // diagonals that have agents
};

template <class Handicap>
std::optional<CapacityIndex::Pick> CapacityIndex::scan(const Want& want, Handicap&& handicap) const {
  std::optional<Pick> found;
  for (Slot slot = 0; slot < rooms_.size(); ++slot) {
    const auto& r = rooms_[slot];
    if (!fits(r, want, slot)) continue;
    Pick p{slot, 0, leftover(weights_, r.free, want.resources)};
    if (found && found->handicap == 0 && p.left >= found->left) continue;
    std::optional<std::uint32_t> h = handicap(slot);
    if (!h) continue;
    p.handicap = *h;
    if (!found || p.better_than(*found)) found = p;
  }
  return found;
}

template <class Handicap>
std::optional<CapacityIndex::Pick> CapacityIndex::best(const Want& want, std::uint32_t floor, Handicap&& handicap) const {
  if (heads_.empty()) return scan(want, handicap);
  const int first_row = row_of(want.resources.cpus), first_column = column_of(want.resources.mem);
  std::optional<Pick> found;
  unsigned looked = 0, good = 0;
  int last = diagonals - 1;
  for (int d = next_diagonal(first_row + first_column); d <= last; d = next_diagonal(d + 1)) {
    const int last_row = std::min(side - 1, d - first_column);
    for (int row = next_row(d, first_row); row <= last_row; row = next_row(d, row + 1)) {
      for (Slot slot = heads_[static_cast<std::size_t>(row * side + d - row)]; slot != none; slot = next_[slot]) {
        if (++looked > patience) return scan(want, handicap);
        const auto& r = rooms_[slot];
        if (!fits(r, want, slot)) continue;
        std::optional<std::uint32_t> h = handicap(slot);
        if (!h) continue;
        Pick p{slot, *h, leftover(weights_, r.free, want.resources)};
        if (!found || p.better_than(*found)) found = p;
        if (*h > floor) continue;
        if (++good >= enough) return found;
        last = std::min(last, d + 1);  // an agent of the next diagonal may be a little better than one of this
      }
    }
  }
  return found;
}

}  // namespace croft::cluster
