#include "logs/store/wal.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>

#include "logs/store/bytes.hpp"

namespace croft::logs {

namespace {
constexpr std::uint32_t payload_max = 200u << 20;
constexpr std::size_t wal_max = 4ull << 30;
constexpr std::string_view mark = "\xff" "cw2";
constexpr std::size_t head_size = 4 + 4 + 8;

/// The record at the front of `bytes` and its length; 0 when there is no whole one.
std::size_t take_record(std::string_view bytes, WalRecord& record) {
  if (!bytes.starts_with(mark)) return 0;
  ByteReader in{bytes.substr(mark.size())};
  auto size = in.take<std::uint32_t>();
  auto checksum = in.take<std::uint64_t>();
  if (!in.ok || size > payload_max) return 0;
  auto payload = in.piece(size);
  if (!in.ok || XXH3_64bits(payload.data(), payload.size()) != checksum) return 0;
  ByteReader p{payload};
  record.index = p.piece(p.take<std::uint16_t>());
  record.row.seq = p.take<std::uint64_t>();
  record.row.at = Wall(Millis(p.take<std::int64_t>()));
  record.replaces = p.take<std::uint64_t>();
  auto id_size = p.take<std::uint32_t>(), source_size = p.take<std::uint32_t>();
  record.row.id = p.piece(id_size);
  record.row.source = p.piece(source_size);
  return p.ok ? head_size + size : 0;
}
}  // namespace

Error disk_error(std::string_view what, int number) {
  auto error = errno_error(what, number);
  error.code = number == ENOSPC || number == EDQUOT ? Errc::unavailable : Errc::io;
  return error;
}

void append_wal_record(std::string& out, const WalRecord& record) {
  auto head = out.size();
  out += mark;
  out.append(head_size - mark.size(), '\0');
  put(out, static_cast<std::uint16_t>(record.index.size()));
  out += record.index;
  put(out, record.row.seq);
  put(out, static_cast<std::int64_t>(record.row.at.time_since_epoch().count()));
  put(out, record.replaces);
  put(out, static_cast<std::uint32_t>(record.row.id.size()));
  put(out, static_cast<std::uint32_t>(record.row.source.size()));
  out += record.row.id;
  out += record.row.source;
  auto size = static_cast<std::uint32_t>(out.size() - head - head_size);
  std::uint64_t checksum = XXH3_64bits(out.data() + head + head_size, size);
  std::memcpy(out.data() + head + 4, &size, 4);
  std::memcpy(out.data() + head + 8, &checksum, 8);
}

Result<WalFile> WalFile::create(const fs::path& file) {
  WalFile made;
  made.path_ = file;
  made.fd_ = Fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640));
  if (!made.fd_.valid()) return fail(errno == EEXIST ? Error{Errc::conflict, file.string() + ": is there already"} : disk_error("create " + file.string(), errno));
  if (auto ok = sync_dir(file.parent_path()); !ok) return fail(ok.error());
  return made;
}

Status WalFile::append(std::string_view bytes) {
  auto before = size_;
  while (!bytes.empty()) {
    auto n = ::write(fd_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      auto failed = disk_error("write " + path_.string(), errno);
      if (::ftruncate(fd_.get(), static_cast<off_t>(before)) != 0) failed.context += "; and it could not be cut back";
      size_ = before;
      return fail(std::move(failed));
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
    size_ += static_cast<std::uint64_t>(n);
  }
  return {};
}

Status WalFile::sync() {
  if (::fdatasync(fd_.get()) != 0) return fail(disk_error("fdatasync " + path_.string(), errno));
  return {};
}

Result<Replayed> replay_wal(const fs::path& file, const std::function<void(WalRecord)>& each) {
  auto read = read_file(file, wal_max);
  if (!read) return fail(read.error());
  std::string_view bytes = *read;
  Replayed out;
  std::size_t at = 0, good = 0;  // good: end of the last whole record
  while (at != std::string_view::npos && at < bytes.size()) {
    WalRecord record;
    auto size = take_record(bytes.substr(at), record);
    if (size == 0) {
      at = bytes.find(mark, at + 1);
      continue;
    }
    out.damaged += at - good;
    ++out.records;
    each(std::move(record));
    good = at += size;
  }
  out.torn = bytes.size() - good;
  return out;
}

}  // namespace croft::logs
