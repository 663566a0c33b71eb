#pragma once
// An ordered map whose copies are cheap: leaves of a few dozen entries are shared between copies until one of them writes.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace croft {

/// Ordered map for publishing snapshots. A copy costs one pointer a leaf (about 50 entries); a write clones one leaf, its pointers and not what they point at.
///
/// Threads  a copy is a value: hand it to another thread, then go on writing to the original.
template <class K, class V>
class CowMap {
  static constexpr std::size_t leaf_max = 64;
  using Entry = std::pair<K, V>;
  using Leaf = std::vector<std::shared_ptr<const Entry>>;  // shared as well, so that the clone of a leaf copies no key

 public:
  void set(const K& key, V value) {
    if (leaves_.empty()) leaves_.push_back(std::make_shared<Leaf>());
    auto entry = std::make_shared<const Entry>(key, std::move(value));
    auto index = leaf_of(key);
    auto& leaf = own(index);
    auto at = position(leaf, key);
    if (at != leaf.end() && (*at)->first == key) {
      *at = std::move(entry);
      return;
    }
    leaf.insert(at, std::move(entry));
    ++size_;
    if (leaf.size() > leaf_max) split(index);
  }
  bool erase(const K& key) {
    if (leaves_.empty() || !find(key)) return false;
    auto index = leaf_of(key);
    auto& leaf = own(index);
    leaf.erase(position(leaf, key));
    --size_;
    if (leaf.empty()) leaves_.erase(leaves_.begin() + static_cast<std::ptrdiff_t>(index));
    return true;
  }
  [[nodiscard]] const V* find(const K& key) const {
    if (leaves_.empty()) return nullptr;
    const auto& leaf = *leaves_[leaf_of(key)];
    auto at = position(leaf, key);
    return at != leaf.end() && (*at)->first == key ? &(*at)->second : nullptr;
  }
  template <class F>
  void for_each(F&& f) const {
    for (const auto& leaf : leaves_)
      for (const auto& entry : *leaf) f(entry->first, entry->second);
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  void clear() { leaves_.clear(); size_ = 0; }

 private:
  std::size_t leaf_of(const K& key) const {  // the last leaf whose first key is <= key
    auto at = std::upper_bound(leaves_.begin(), leaves_.end(), key,
                               [](const K& k, const auto& leaf) { return !leaf->empty() && k < leaf->front()->first; });
    return at == leaves_.begin() ? 0 : static_cast<std::size_t>(at - leaves_.begin() - 1);
  }
  template <class L>
  static auto position(L& leaf, const K& key) {
    return std::lower_bound(leaf.begin(), leaf.end(), key, [](const auto& e, const K& k) { return e->first < k; });
  }
  Leaf& own(std::size_t index) {
    if (leaves_[index].use_count() > 1) leaves_[index] = std::make_shared<Leaf>(*leaves_[index]);
    return *leaves_[index];
  }
  void split(std::size_t index) {
    auto& leaf = own(index);
    auto middle = leaf.begin() + static_cast<std::ptrdiff_t>(leaf.size() / 2);
    auto right = std::make_shared<Leaf>(std::make_move_iterator(middle), std::make_move_iterator(leaf.end()));
    leaf.erase(middle, leaf.end());
    leaves_.insert(leaves_.begin() + static_cast<std::ptrdiff_t>(index) + 1, std::move(right));
  }

  std::vector<std::shared_ptr<Leaf>> leaves_;
  std::size_t size_ = 0;
};

}  // namespace croft
