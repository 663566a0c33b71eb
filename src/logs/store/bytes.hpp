#pragma once
// Little-endian numbers in byte strings. The machines croft runs on are little-endian; a static_assert says so.

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace croft::logs {

static_assert(std::endian::native == std::endian::little);

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Takes numbers and pieces off the front; `ok` turns false at the first that is not whole, and everything after is zero.
struct ByteReader {
  std::string_view rest;
  bool ok = true;

  template <class T>
  T take() {
    T value{};
    if (rest.size() < sizeof value) return ok = false, value;
    std::memcpy(&value, rest.data(), sizeof value);
    rest.remove_prefix(sizeof value);
    return value;
  }
  std::string_view piece(std::size_t size) {
    if (rest.size() < size) return ok = false, std::string_view();
    auto out = rest.substr(0, size);
    rest.remove_prefix(size);
    return out;
  }
};

}  // namespace croft::logs
