#include "logs/store/ids.hpp"

#include <simdjson.h>
#include <xxhash.h>

#include <array>

#include "base/text.hpp"

namespace croft::logs {

namespace {

constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::size_t own_size = 20, own_bytes = 15;

constexpr std::array<signed char, 256> values = [] {
  std::array<signed char, 256> out{};
  out.fill(-1);
  for (std::size_t i = 0; i < digits.size(); ++i) out[static_cast<unsigned char>(digits[i])] = static_cast<signed char>(i);
  return out;
}();

}  // namespace

std::optional<ShippedId> shipped_id(std::string_view id) {
  if (!id.starts_with("c1:")) return std::nullopt;
  auto colon = id.rfind(':');
  if (colon <= 3) return std::nullopt;
  auto offset = to_int(id.substr(colon + 1));
  if (!offset || *offset < 0) return std::nullopt;
  return ShippedId{std::string(id.substr(3, colon - 3)), static_cast<std::uint64_t>(*offset)};
}

std::string make_shipped_id(std::string_view source, std::uint64_t offset) { return fmt::format("c1:{}:{}", source, offset); }

OwnIds::OwnIds(std::string_view store_uuid) : seed_(XXH3_64bits(store_uuid.data(), store_uuid.size())) {}

/// The seed stands alone: mixed with the number as it is in the id itself, another store's would cancel out.
std::uint64_t OwnIds::check(std::string_view index, std::uint64_t seq) const {
  auto name = XXH3_64bits_withSeed(index.data(), index.size(), seed_);
  return XXH3_64bits_withSeed(&seq, sizeof seq, name) >> 8;
}

std::string OwnIds::make(std::string_view index, std::uint64_t seq) const {
  auto hidden = seq ^ seed_, proof = check(index, seq);
  std::array<unsigned char, own_bytes> bytes{};
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(hidden >> (8 * i));
  for (std::size_t i = 0; i < 7; ++i) bytes[8 + i] = static_cast<unsigned char>(proof >> (8 * i));
  std::string out(own_size, '\0');
  for (std::size_t i = 0; i < own_bytes / 3; ++i) {
    auto word = static_cast<unsigned>(bytes[3 * i] << 16 | bytes[3 * i + 1] << 8 | bytes[3 * i + 2]);
    for (std::size_t k = 0; k < 4; ++k) out[4 * i + k] = digits[word >> (18 - 6 * k) & 63];
  }
  return out;
}

std::optional<std::uint64_t> OwnIds::read(std::string_view index, std::string_view id) const {
  if (id.size() != own_size) return std::nullopt;
  std::array<unsigned char, own_bytes> bytes{};
  for (std::size_t i = 0; i < own_bytes / 3; ++i) {
    unsigned word = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      auto value = values[static_cast<unsigned char>(id[4 * i + k])];
      if (value < 0) return std::nullopt;
      word = word << 6 | static_cast<unsigned>(value);
    }
    for (std::size_t k = 0; k < 3; ++k) bytes[3 * i + k] = static_cast<unsigned char>(word >> (16 - 8 * k));
  }
  std::uint64_t hidden = 0, proof = 0;
  for (std::size_t i = 0; i < 8; ++i) hidden |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  for (std::size_t i = 0; i < 7; ++i) proof |= static_cast<std::uint64_t>(bytes[8 + i]) << (8 * i);
  auto seq = hidden ^ seed_;
  return check(index, seq) == proof ? std::optional(seq) : std::nullopt;
}

bool valid_utf8(std::string_view text) { return simdjson::validate_utf8(text); }

Status check_index_name(std::string_view name) {
  auto refuse = [&](std::string_view why) { return fail(Errc::invalid, "Invalid index name [{}], {}", name, why); };
  if (!valid_utf8(name)) return fail(Errc::invalid, "Invalid index name [{}], must be valid UTF-8", url_encode(name));
  if (name.empty() || name == "." || name == "..") return refuse("must not be empty, '.' or '..'");
  if (name.size() > 255) return refuse("index name is too long, (" + std::to_string(name.size()) + " > 255)");
  if (name.find_first_of(std::string_view("\\/*?\"<>| ,#:\0", 13)) != std::string_view::npos)
    return refuse("must not contain the following characters [ , \", *, \\, <, |, ,, >, /, ?, #, :]");
  if (std::string_view("-_+").contains(name[0])) return refuse("must not start with '_', '-', or '+'");
  for (char c : name)
    if ((c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) < 0x20) return refuse("must be lowercase");
  return {};
}

}  // namespace croft::logs
