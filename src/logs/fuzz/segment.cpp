// Files of the log store with any bytes in them: parts and the write-ahead log. In half of the cases checksums are made right, so that what stands behind them
// is reached.
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "logs/store/bytes.hpp"
#include "logs/store/part.hpp"
#include "logs/store/wal.hpp"

namespace {

using namespace croft;
using namespace croft::logs;

const fs::path file = "/dev/shm/croft-fuzz." + std::to_string(::getpid());

void keep(std::string_view bytes) {
  Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
}

void read_part(std::string_view bytes) {
  keep(bytes);
  auto part = Part::open(file);
  if (!part) return;
  (void)(*part)->find("an-id");
  (void)(*part)->last();
  for (std::size_t b = 0; b < (*part)->blocks().size() && b < 8; ++b) {
    std::size_t read = 0;
    (void)(*part)->read_block(b, [&](const RowView& row) { return (read += row.source.size() + row.id.size()) < 1u << 20; });
  }
}

void read_wal(std::string_view bytes) {
  keep(bytes);
  (void)replay_wal(file, [](WalRecord record) {
    std::string again;
    append_wal_record(again, record);
    if (again.empty()) std::abort();
  });
}

/// A block of the rest of the bytes, with what its index says of it taken from the first ones.
std::string part_around(std::string_view bytes) {
  ByteReader in{bytes};
  auto offset = in.take<std::uint8_t>() % 4 == 0 ? in.take<std::uint64_t>() : 8;
  auto raw_size = in.take<std::uint8_t>() % 4 == 0 ? in.take<std::uint32_t>() % (1u << 20) : 0;
  auto rows = in.take<std::uint8_t>();
  auto ids = in.take<std::uint8_t>() % 4;
  bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 8));
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 1));
  std::string out = "CROFTLP2" + packed, index;
  put(index, offset);
  put(index, static_cast<std::uint32_t>(packed.size()));
  put(index, raw_size ? raw_size : static_cast<std::uint32_t>(bytes.size()));
  put(index, XXH3_64bits(packed.data(), packed.size()));
  put(index, static_cast<std::uint32_t>(rows));
  put(index, std::int64_t{1}), put(index, std::int64_t{2});
  put(index, static_cast<std::uint64_t>(ids));
  for (std::uint64_t i = 0; i < ids; ++i) put(index, i), put(index, i);
  put(index, static_cast<std::uint64_t>(out.size())), put(index, std::uint32_t{1});
  put(index, std::uint64_t{rows}), put(index, std::uint64_t{1}), put(index, std::uint64_t{rows});
  auto checksum = XXH3_64bits(index.data(), index.size());
  put(index, checksum);
  return out + index + "CROFTLPE";
}

std::string wal_around(std::string_view payload) {
  std::string out = "\xff" "cw2";
  put(out, static_cast<std::uint32_t>(payload.size()));
  put(out, XXH3_64bits(payload.data(), payload.size()));
  return out + std::string(payload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: read_part(bytes); break;
    case 1: read_part(part_around(bytes)); break;
    case 2: read_wal(bytes); break;
    default: read_wal("noise" + wal_around(bytes) + wal_around(bytes));
  }
  return 0;
}
