#include "coordination/zookeeper_records.hpp"

#include <arpa/inet.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::coordination::records {

// --- the election ---

std::optional<std::uint64_t> election_number(std::string_view name) {
  if (!name.starts_with(election_prefix)) return std::nullopt;
  auto digits = name.substr(election_prefix.size());
  if (digits.size() != 10 || !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  return static_cast<std::uint64_t>(*to_int(digits));
}

std::vector<std::string> candidates(const std::vector<std::string>& children) {
  std::vector<std::string> out;
  for (const auto& child : children)
    if (election_number(child)) out.push_back(child);
  std::sort(out.begin(), out.end());  // one prefix and ten digits: the order of the text is the order of the numbers
  return out;
}

Result<std::string> encode_leader(const Leader& leader) {
  in_addr address{};
  if (inet_pton(AF_INET, leader.ip.c_str(), &address) != 1) return fail(Errc::invalid, "advertised address '{}': MasterInfo needs an IPv4 address", leader.ip);
  JsonWriter w;
  w.begin_object().key("address").begin_object().field("hostname", leader.hostname).field("ip", leader.ip).field("port", leader.mesos_port).end_object();
  w.key("capabilities").begin_array();
  for (auto capability : {"AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"}) w.begin_object().field("type", capability).end_object();
  w.end_array();
  w.key("croft").begin_object().field("marathon_port", leader.marathon_port).end_object();
  w.field("hostname", leader.hostname).field("id", leader.id).field("ip", static_cast<std::uint32_t>(address.s_addr));
  w.field("pid", fmt::format("master@{}:{}", leader.ip, leader.mesos_port)).field("port", leader.mesos_port).field("version", leader.version);
  w.end_object();
  return std::move(w).take();
}

Result<Leader> decode_leader(std::string_view text) {
  auto parsed = json::parse(text);
  if (!parsed) return fail(std::move(parsed).error().within("MasterInfo"));
  auto port = [](const json::value& from, std::string_view key) {
    auto number = json::integer(from, key);
    return number > 0 && number <= 65535 ? static_cast<std::uint16_t>(number) : std::uint16_t{0};
  };
  Leader out;
  const auto* address = json::find(*parsed, "address");
  out.id = json::text(*parsed, "id");
  out.hostname = json::text(*parsed, "hostname");
  out.version = json::text(*parsed, "version");
  out.mesos_port = port(*parsed, "port");
  if (address) {
    out.ip = json::text(*address, "ip");
    if (out.hostname.empty()) out.hostname = json::text(*address, "hostname");
    if (auto p = port(*address, "port")) out.mesos_port = p;
  }
  if (out.ip.empty()) {
    in_addr number{static_cast<in_addr_t>(json::integer(*parsed, "ip"))};
    char shown[INET_ADDRSTRLEN];
    if (number.s_addr != 0 && inet_ntop(AF_INET, &number, shown, sizeof shown)) out.ip = shown;
  }
  if (const auto* own = json::find(*parsed, "croft")) out.marathon_port = port(*own, "marathon_port");
  if (out.ip.empty() || out.mesos_port == 0) return fail(Errc::invalid, "MasterInfo: the address or the port is missing");
  return out;
}

// --- names ---

std::string shard_name(int shard) { return fmt::format("{:02x}", shard); }

std::string key_path(std::string_view key) {
  auto name = url_encode(key);
  if (name == "." || name == "..") {  // ZooKeeper keeps these two for itself
    std::string dots;
    for (std::size_t i = 0; i < name.size(); ++i) dots += "%2E";
    name = dots;
  }
  return shard_name(static_cast<unsigned char>(sha1(key)[0])) + "/" + name;
}

Result<std::string> key_of(std::string_view node) {
  auto key = url_decode(node);
  if (!key || key->empty()) return fail(Errc::corrupt, "store: node name '{}' is no key", node);
  return std::move(*key);
}

// --- small records ---

namespace {

Result<json::value> parse_record(std::string_view what, std::string_view text) {
  auto parsed = json::parse(text);
  if (!parsed || !parsed->is_object()) return fail(Errc::corrupt, "store: the {} record is no JSON object", what);
  auto format = json::integer(*parsed, "format", 0);
  if (format < 1) return fail(Errc::corrupt, "store: the {} record has no format", what);
  if (format > format_version)
    return fail(Errc::invalid, "store: the {} record was written by a newer croft (format {}, this one knows up to {}); nothing was changed", what, format, format_version);
  return parsed;
}

Result<std::uint64_t> number_in(const json::value& record, std::string_view what) {
  const auto* found = json::find(record, what);
  if (!found || !(found->is_int64() || found->is_uint64()) || (found->is_int64() && found->as_int64() < 0))
    return fail(Errc::corrupt, "store: '{}' is missing or no number", what);
  return found->is_uint64() ? found->as_uint64() : static_cast<std::uint64_t>(found->as_int64());
}

constexpr std::uint32_t chunks_max = 4096;

Result<Blob> blob_in(const json::value& record) {
  Blob blob{json::text(record, "blob"), 0};
  auto chunks = number_in(record, "chunks");
  if (blob.id.empty() || !chunks || *chunks < 1 || *chunks > chunks_max) return fail(Errc::corrupt, "store: a reference to chunks is incomplete");
  blob.chunks = static_cast<std::uint32_t>(*chunks);
  return blob;
}

}  // namespace

std::string Blob::chunk(std::uint32_t n) const { return fmt::format("{}.{}", id, n); }

std::string encode(const Meta& meta) {
  JsonWriter w;
  w.begin_object().field("format", format_version).field("cluster_id", meta.cluster_id).field("restoring", meta.restoring).end_object();
  return std::move(w).take();
}

std::string encode(const Epoch& epoch) {
  JsonWriter w;
  w.begin_object().field("format", format_version).field("epoch", epoch.number).field("by", epoch.by).end_object();
  return std::move(w).take();
}

std::string encode(const Head& head) {
  JsonWriter w;
  w.begin_object().field("format", format_version).field("head", head.number);
  if (head.pending) w.key("pending").begin_object().field("blob", head.pending->id).field("chunks", head.pending->chunks).end_object();
  w.end_object();
  return std::move(w).take();
}

Result<Meta> decode_meta(std::string_view text) {
  auto record = parse_record("store's", text);
  if (!record) return fail(std::move(record).error());
  Meta meta{json::text(*record, "cluster_id"), json::boolean(*record, "restoring")};
  if (meta.cluster_id.empty()) return fail(Errc::corrupt, "store: the cluster id is missing");
  return meta;
}

Result<Epoch> decode_epoch(std::string_view text) {
  auto record = parse_record("epoch's", text);
  if (!record) return fail(std::move(record).error());
  auto number = number_in(*record, "epoch");
  if (!number) return fail(std::move(number).error());
  return Epoch{*number, json::text(*record, "by")};
}

Result<Head> decode_head(std::string_view text) {
  auto record = parse_record("head's", text);
  if (!record) return fail(std::move(record).error());
  auto number = number_in(*record, "head");
  if (!number) return fail(std::move(number).error());
  Head head{*number, std::nullopt};
  if (const auto* pending = json::find(*record, "pending")) {
    auto blob = blob_in(*pending);
    if (!blob) return fail(std::move(blob).error());
    head.pending = std::move(*blob);
  }
  return head;
}

// --- values ---

namespace {

enum class Kind : char { plain = 'p', packed = 'z', reference = 'r' };

std::string start_record(Kind kind) { return {static_cast<char>(format_version), static_cast<char>(kind)}; }

}  // namespace

void put_text(std::string& out, std::string_view text) {
  auto size = static_cast<std::uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(size >> shift & 0xFF);
  out += text;
}

std::optional<std::string_view> take_text(std::string_view& from) {
  if (from.size() < 4) return std::nullopt;
  std::uint32_t size = 0;
  for (int i = 0; i < 4; ++i) size |= static_cast<std::uint32_t>(static_cast<unsigned char>(from[i])) << (8 * i);
  if (from.size() - 4 < size) return std::nullopt;
  auto text = from.substr(4, size);
  from.remove_prefix(4 + size);
  return text;
}

std::string pack(std::string_view bytes) {
  thread_local std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  ZSTD_CCtx_reset(context.get(), ZSTD_reset_session_and_parameters);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, 3);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  auto size = ZSTD_compress2(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
  CROFT_ASSERT(!ZSTD_isError(size));  // the bound is zstd's own, so only a lack of memory is left
  out.resize(size);
  return out;
}

Result<std::string> unpack(std::string_view packed, std::size_t max) {
  auto size = ZSTD_getFrameContentSize(packed.data(), packed.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR) return fail(Errc::corrupt, "store: a compressed record is damaged");
  if (size > max) return fail(Errc::too_large, "store: a record of {} bytes, at most {} are read", size, max);
  std::string out(size, '\0');
  auto got = ZSTD_decompress(out.data(), out.size(), packed.data(), packed.size());
  if (ZSTD_isError(got) || got != size) return fail(Errc::corrupt, "store: a compressed record is damaged");
  return out;
}

std::string encode_value(std::string_view value) {
  // Always a zstd frame, since its checksum is wanted for incompressible bytes as well; only the empty value stays plain.
  if (value.empty()) return start_record(Kind::plain);
  return start_record(Kind::packed) + pack(value);
}

std::string encode_reference(const Blob& blob) {
  JsonWriter w;
  w.begin_object().field("blob", blob.id).field("chunks", blob.chunks).end_object();
  return start_record(Kind::reference) + std::move(w).take();
}

Result<Value> decode_value(std::string_view record) {
  if (record.size() < 2) return fail(Errc::corrupt, "store: a record is empty");
  auto format = static_cast<unsigned char>(record[0]);
  if (format > format_version)
    return fail(Errc::invalid, "store: a record was written by a newer croft (format {}, this one knows up to {})", format, format_version);
  if (format < 1) return fail(Errc::corrupt, "store: a record has no format");
  auto rest = record.substr(2);
  switch (static_cast<Kind>(record[1])) {
    case Kind::plain: return Value{std::string(rest), std::nullopt};
    case Kind::packed: {
      auto bytes = unpack(rest, value_bytes_max);
      if (!bytes) return fail(std::move(bytes).error());
      return Value{std::move(*bytes), std::nullopt};
    }
    case Kind::reference: {
      auto parsed = json::parse(rest);
      if (!parsed) return fail(Errc::corrupt, "store: a reference to chunks is no JSON");
      auto blob = blob_in(*parsed);
      if (!blob) return fail(std::move(blob).error());
      return Value{{}, std::move(*blob)};
    }
  }
  return fail(Errc::corrupt, "store: a record of an unknown kind ({})", static_cast<int>(record[1]));
}

std::string encode_batch(const Batch& batch) {
  std::string plain;
  put_text(plain, std::to_string(batch.remove.size()));
  for (const auto& key : batch.remove) put_text(plain, key);
  for (const auto& [key, value] : batch.put) {
    put_text(plain, key);
    put_text(plain, value);
  }
  return std::string(1, static_cast<char>(format_version)) + pack(plain);
}

Result<Batch> decode_batch(std::string_view bytes) {
  auto damaged = [] { return fail(Errc::corrupt, "store: a pending batch is damaged"); };
  if (bytes.empty()) return damaged();
  if (static_cast<unsigned char>(bytes[0]) > format_version) return fail(Errc::invalid, "store: a pending batch was written by a newer croft");
  auto plain = unpack(bytes.substr(1), 2 * batch_bytes_max);
  if (!plain) return fail(std::move(plain).error());
  std::string_view rest = *plain;
  Batch out;
  auto counted = take_text(rest);
  auto count = counted ? to_int(*counted) : std::nullopt;
  if (!count || *count < 0) return damaged();
  for (std::int64_t i = 0; i < *count; ++i) {
    auto key = take_text(rest);
    if (!key) return damaged();
    out.remove.emplace_back(*key);
  }
  while (!rest.empty()) {
    auto key = take_text(rest);
    auto value = key ? take_text(rest) : std::nullopt;
    if (!value) return damaged();
    out.put.emplace(*key, *value);
  }
  return out;
}

std::vector<std::string> cut(std::string_view bytes, std::size_t piece) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < bytes.size(); at += piece) out.emplace_back(bytes.substr(at, piece));
  return out;
}

}  // namespace croft::coordination::records
