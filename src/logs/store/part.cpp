#include "logs/store/part.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.hpp"
#include "logs/store/bytes.hpp"
#include "logs/store/wal.hpp"

namespace croft::logs {

namespace {

constexpr std::string_view head_magic = "CROFTLP2", foot_magic = "CROFTLPE";
constexpr std::size_t block_raw = 96u << 10;         // rows are gathered until this many bytes
constexpr std::size_t footer_size = 8 + 4 + 8 + 8 + 8 + 8 + 8;
constexpr std::size_t footer_counted = 8 + 4 + 8 + 8 + 8;   // of the footer, the part that its checksum covers too
constexpr std::size_t block_entry_size = 8 + 4 + 4 + 8 + 4 + 8 + 8;
constexpr std::uint32_t raw_max = 256u << 20;        // no block is larger; a damaged size must not make us allocate more

Status write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(disk_error("write", errno));
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

/// Writes blocks and collects their index.
class PartWriter {
 public:
  explicit PartWriter(int fd) : fd_(fd), context_(ZSTD_createCCtx()) {}
  ~PartWriter() { ZSTD_freeCCtx(context_); }

  Status add(const Row& row) {
    if (block_.rows == 0) block_.first = row.at;
    block_.last = row.at;
    ++block_.rows;
    first_seq_ = rows_++ == 0 ? row.seq : std::min(first_seq_, row.seq);
    last_seq_ = std::max(last_seq_, row.seq);
    put(raw_, row.seq);
    put(raw_, static_cast<std::int64_t>(row.at.time_since_epoch().count()));
    put(raw_, static_cast<std::uint32_t>(row.id.size()));
    put(raw_, static_cast<std::uint32_t>(row.source.size()));
    raw_ += row.id;
    raw_ += row.source;
    return raw_.size() >= block_raw ? flush() : Status{};
  }

  Status flush() {
    if (block_.rows == 0) return {};
    packed_.resize(ZSTD_compressBound(raw_.size()));
    auto size = ZSTD_compressCCtx(context_, packed_.data(), packed_.size(), raw_.data(), raw_.size(), 1);
    if (ZSTD_isError(size)) return fail(Errc::io, "compress: {}", ZSTD_getErrorName(size));
    block_.offset = offset_;
    block_.size = static_cast<std::uint32_t>(size);
    block_.raw_size = static_cast<std::uint32_t>(raw_.size());
    block_.checksum = XXH3_64bits(packed_.data(), size);
    if (auto ok = write_all(fd_, std::string_view(packed_).substr(0, size)); !ok) return ok;
    offset_ += size;
    blocks_.push_back(block_);
    block_ = {};
    raw_.clear();
    return {};
  }

  Status finish(std::vector<std::pair<std::uint64_t, std::uint64_t>> ids) {
    std::string index;
    for (const auto& b : blocks_) {
      put(index, b.offset), put(index, b.size), put(index, b.raw_size), put(index, b.checksum), put(index, b.rows);
      put(index, static_cast<std::int64_t>(b.first.time_since_epoch().count()));
      put(index, static_cast<std::int64_t>(b.last.time_since_epoch().count()));
    }
    std::sort(ids.begin(), ids.end());
    put(index, static_cast<std::uint64_t>(ids.size()));
    for (auto [hash, seq] : ids) put(index, hash), put(index, seq);
    put(index, offset_);
    put(index, static_cast<std::uint32_t>(blocks_.size()));
    put(index, rows_), put(index, first_seq_), put(index, last_seq_);
    put(index, static_cast<std::uint64_t>(XXH3_64bits(index.data(), index.size())));
    index += foot_magic;
    return write_all(fd_, index);
  }

 private:
  int fd_;
  ZSTD_CCtx* context_;
  std::string raw_, packed_;
  Part::Block block_;
  std::vector<Part::Block> blocks_;
  std::uint64_t offset_ = head_magic.size(), rows_ = 0, first_seq_ = 0, last_seq_ = 0;
};

Status write_rows(int fd, const std::vector<const Row*>& rows, const std::function<bool(const Row&)>& foreign_id) {
  if (auto ok = write_all(fd, head_magic); !ok) return ok;
  PartWriter writer(fd);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ids;
  for (const auto* row : rows) {
    if (foreign_id(*row)) ids.emplace_back(XXH3_64bits(row->id.data(), row->id.size()), row->seq);
    if (auto ok = writer.add(*row); !ok) return ok;
  }
  if (auto ok = writer.flush(); !ok) return ok;
  if (auto ok = writer.finish(std::move(ids)); !ok) return ok;
  if (::fsync(fd) != 0) return fail(disk_error("fsync", errno));
  return {};
}

Result<std::string> read_at(int fd, std::uint64_t offset, std::size_t size, const fs::path& file) {
  std::string out(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    auto n = ::pread(fd, out.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read " + file.string());
    if (n == 0) return fail(Errc::corrupt, "{}: ends early", file.string());
    done += static_cast<std::size_t>(n);
  }
  return out;
}

}  // namespace

Status write_part(const fs::path& file, std::vector<const Row*> rows, const std::function<bool(const Row&)>& foreign_id) {
  std::sort(rows.begin(), rows.end(), [](const Row* a, const Row* b) { return std::tie(a->at, a->seq) < std::tie(b->at, b->seq); });
  auto aside = file;
  aside += ".new";
  Fd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  if (!fd.valid()) return fail(disk_error("create " + aside.string(), errno));
  auto written = write_rows(fd.get(), rows, foreign_id);
  if (written && ::rename(aside.c_str(), file.c_str()) != 0) written = fail(disk_error("rename to " + file.string(), errno));
  if (written) written = sync_dir(file.parent_path());
  if (!written) {
    ::unlink(aside.c_str());
    return fail(Error(written.error()).within(file.string()));
  }
  return {};
}

Result<std::shared_ptr<const Part>> Part::open(const fs::path& file) {
  std::shared_ptr<Part> part(new Part);
  part->file_ = file;
  part->fd_ = Fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!part->fd_.valid()) return fail_errno("open " + file.string());
  struct stat st{};
  if (::fstat(part->fd_.get(), &st) != 0) return fail_errno("stat " + file.string());
  part->bytes_ = static_cast<std::uint64_t>(st.st_size);
  if (part->bytes_ < head_magic.size() + 8 + footer_size) return fail(Errc::corrupt, "{}: too short for a part", file.string());
  auto head = read_at(part->fd_.get(), 0, head_magic.size(), file);
  if (!head) return fail(head.error());
  if (*head != head_magic) return fail(Errc::corrupt, "{}: does not begin as a part of this format", file.string());
  auto footer = read_at(part->fd_.get(), part->bytes_ - footer_size, footer_size, file);
  if (!footer) return fail(footer.error());
  ByteReader foot{*footer};
  auto index_at = foot.take<std::uint64_t>();
  auto blocks = foot.take<std::uint32_t>();
  part->rows_ = foot.take<std::uint64_t>();
  part->first_seq_ = foot.take<std::uint64_t>();
  part->last_seq_ = foot.take<std::uint64_t>();
  auto checksum = foot.take<std::uint64_t>();
  if (foot.rest != foot_magic || index_at > part->bytes_ - footer_size) return fail(Errc::corrupt, "{}: no whole footer", file.string());
  auto index = read_at(part->fd_.get(), index_at, part->bytes_ - footer_size - index_at, file);
  if (!index) return fail(index.error());
  *index += footer->substr(0, footer_counted);
  if (XXH3_64bits(index->data(), index->size()) != checksum) return fail(Errc::corrupt, "{}: the block index does not match its checksum", file.string());
  ByteReader in{*index};
  if (index->size() / block_entry_size < blocks) return fail(Errc::corrupt, "{}: the block index is too short", file.string());
  for (std::uint32_t i = 0; i < blocks; ++i) {
    Block b;
    b.offset = in.take<std::uint64_t>();
    b.size = in.take<std::uint32_t>();
    b.raw_size = in.take<std::uint32_t>();
    b.checksum = in.take<std::uint64_t>();
    b.rows = in.take<std::uint32_t>();
    b.first = Wall(Millis(in.take<std::int64_t>()));
    b.last = Wall(Millis(in.take<std::int64_t>()));
    part->blocks_.push_back(b);
  }
  auto ids = in.take<std::uint64_t>();
  if (ids > in.rest.size() / 16) return fail(Errc::corrupt, "{}: the id index is too short", file.string());
  for (std::uint64_t i = 0; i < ids; ++i) {
    auto hash = in.take<std::uint64_t>();
    part->ids_.emplace_back(hash, in.take<std::uint64_t>());
  }
  return part;
}

Wall Part::last() const {
  return blocks_.empty() ? Wall{} : blocks_.back().last;
}

/// 64 bits of hash stand for the id: among a million of them a stranger's new id is mistaken for one once in twenty trillion.
std::optional<std::uint64_t> Part::find(std::string_view foreign_id) const {
  std::pair<std::uint64_t, std::uint64_t> key(XXH3_64bits(foreign_id.data(), foreign_id.size()) + 1, 0);
  auto after = key.first == 0 ? ids_.end() : std::lower_bound(ids_.begin(), ids_.end(), key);
  if (after == ids_.begin() || std::prev(after)->first != key.first - 1) return std::nullopt;
  return std::prev(after)->second;  // of several versions in one part the newest
}

Status Part::read_block(std::size_t index, const std::function<bool(const RowView&)>& each) const {
  const auto& block = blocks_.at(index);
  auto damaged = [&](std::string_view what) { return fail(Errc::corrupt, "{}: block {}: {}", file_.string(), index, what); };
  if (block.raw_size > raw_max || block.offset + block.size > bytes_) return damaged("impossible size");
  auto packed = read_at(fd_.get(), block.offset, block.size, file_);
  if (!packed) return fail(packed.error());
  if (XXH3_64bits(packed->data(), packed->size()) != block.checksum) return damaged("does not match its checksum");
  std::string raw(block.raw_size, '\0');
  thread_local std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  auto size = ZSTD_decompressDCtx(context.get(), raw.data(), raw.size(), packed->data(), packed->size());
  if (ZSTD_isError(size) || size != raw.size()) return damaged("does not decompress");
  ByteReader in{raw};
  for (std::uint32_t i = 0; i < block.rows; ++i) {
    RowView row;
    row.seq = in.take<std::uint64_t>();
    row.at = Wall(Millis(in.take<std::int64_t>()));
    auto id_size = in.take<std::uint32_t>(), source_size = in.take<std::uint32_t>();
    row.id = in.piece(id_size);
    row.source = in.piece(source_size);
    if (!in.ok) return damaged("rows are not whole");
    if (!each(row)) break;
  }
  return {};
}

}  // namespace croft::logs
