#include "coordination/backup.hpp"

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "coordination/zookeeper_records.hpp"

namespace croft::coordination {

namespace {

constexpr int backup_format = 1;
constexpr std::size_t digest_line = 65;  // 64 hex digits and a line end

}  // namespace

std::string encode_backup(const Snapshot& snapshot, Wall taken) {
  std::string plain;
  for (const auto& [key, value] : snapshot.values) {
    records::put_text(plain, key);
    records::put_text(plain, value);
  }
  JsonWriter w;
  w.begin_object().field("croft_backup", backup_format).field("cluster_id", snapshot.term.cluster_id).field("epoch", snapshot.term.epoch);
  w.field("head", snapshot.term.head).field("keys", snapshot.values.size()).field("taken", to_iso8601(taken)).end_object();
  auto out = std::move(w).take() + "\n" + records::pack(plain);
  return out + hex(sha256(out)) + "\n";
}

Result<Backup> decode_backup(std::string_view bytes) {
  auto line = bytes.find('\n');
  auto header = line == std::string_view::npos || line > 4096 ? Result<json::value>(fail(Errc::invalid, "")) : json::parse(bytes.substr(0, line));
  auto format = header ? json::integer(*header, "croft_backup") : 0;
  if (format < 1) return fail(Errc::invalid, "no backup of a croft store");
  if (format > backup_format) return fail(Errc::invalid, "written by a newer croft (format {}, this one knows up to {})", format, backup_format);
  if (bytes.size() < line + 1 + digest_line) return fail(Errc::corrupt, "the backup is cut short");
  auto body = bytes.substr(0, bytes.size() - digest_line);
  if (hex(sha256(body)) != trim(bytes.substr(body.size()))) return fail(Errc::corrupt, "the backup is damaged: its checksum does not match");
  auto plain = records::unpack(body.substr(line + 1), backup_bytes_max);
  if (!plain) return fail(std::move(plain).error());
  Backup out;
  auto& term = out.snapshot.term;
  term = {static_cast<std::uint64_t>(json::integer(*header, "epoch")), static_cast<std::uint64_t>(json::integer(*header, "head")), json::text(*header, "cluster_id")};
  if (auto taken = from_iso8601(json::text(*header, "taken"))) out.taken = *taken;
  std::string_view rest = *plain;
  while (!rest.empty()) {
    auto key = records::take_text(rest);
    auto value = key ? records::take_text(rest) : std::nullopt;
    if (!value) return fail(Errc::corrupt, "the backup is damaged: a value is cut short");
    out.snapshot.values.emplace(*key, *value);
  }
  if (static_cast<std::int64_t>(out.snapshot.values.size()) != json::integer(*header, "keys", -1) || term.cluster_id.empty())
    return fail(Errc::corrupt, "the backup is damaged: its header does not match its values");
  return out;
}

Status write_backup(const fs::path& file, const Snapshot& snapshot) { return write_file_atomic(file, encode_backup(snapshot, system_now().wall), 0600); }

Result<Backup> read_backup(const fs::path& file) {
  auto bytes = read_file(file, backup_bytes_max);
  if (!bytes) return fail(std::move(bytes).error());
  auto backup = decode_backup(*bytes);
  if (!backup) return fail(std::move(backup).error().within(file.string()));
  return backup;
}

}  // namespace croft::coordination
