// The store's catalog file: which parts make which index, up to which row everything is sealed, and what hangs on that.

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/store/store.hpp"

namespace croft::logs {

namespace {

constexpr int catalog_format = 2;
constexpr std::size_t catalog_max = 1u << 30;
constexpr std::size_t ballast_bytes = 4u << 20;

std::uint64_t natural(const json::value& v) { return v.is_int64() ? static_cast<std::uint64_t>(v.get_int64()) : v.is_uint64() ? v.get_uint64() : 0; }

/// "logstash-2026.11.24.0000002a.part" -> the index's name.
std::string index_of_file(const std::string& file) {
  constexpr std::size_t tail = 1 + 8 + 5;  // ".0000002a.part"
  return file.size() > tail && file.ends_with(".part") ? file.substr(0, file.size() - tail) : "";
}

}  // namespace

std::string Store::catalog_text() const {
  JsonWriter w;
  w.begin_object().field("format", catalog_format).field("uuid", uuid_).field("sealed_seq", sealed_seq_).field("next_file", next_file_);
  w.key("indices").begin_array();
  for (const auto& [name, index] : indices_) {
    w.begin_object().field("name", name).field("uuid", index.uuid).field("created_ms", index.created.time_since_epoch().count()).field("born", index.born).key("parts").begin_array();
    for (const auto& part : index.parts) w.value(part.file);
    w.end_array().key("deleted").begin_array();
    if (auto deleted = sealed_deleted_.find(name); deleted != sealed_deleted_.end())
      for (auto seq : *deleted->second) w.value(seq);
    w.end_array().end_object();
  }
  w.end_array().key("dropped").begin_object();
  for (const auto& [name, seq] : dropped_) w.field(name, seq);
  w.end_object().key("settings").begin_object();
  for (const auto& [key, text] : settings_) w.field(key, text);
  w.end_object().key("offsets").begin_object();
  for (const auto& [source, known] : sealed_offsets_) w.key(source).begin_array().value(known.offset).value(known.day).end_array();
  w.end_object().end_object();
  return fmt::format("{:016x}\n{}", XXH3_64bits(w.str().data(), w.str().size()), w.str());
}

/// A file of some megabytes is kept for the day when the disk is full: given up then, so that dropping an index can be written down.
Status Store::save_catalog() {
  auto file = options_.dir / "catalog", ballast = options_.dir / "ballast";
  auto text = catalog_text();
  auto ok = write_file_atomic(file, text, 0640);
  if (!ok && ::unlink(ballast.c_str()) == 0) ok = write_file_atomic(file, text, 0640);
  if (!ok) return fail(Errc::unavailable, "{}", ok.error().context);
  if (std::error_code ec; !fs::exists(ballast, ec)) (void)write_file_atomic(ballast, std::string(ballast_bytes, 'b'), 0640);
  return {};
}

void Store::add_part(Index& index, const std::string& file) {
  auto part = Part::open(options_.dir / "parts" / file);
  if (!part) {
    log::error("logs", "part left aside: {}", part.error().context);
    damaged_.push_back(part.error().context);
  }
  index.parts.push_back({file, part ? *part : nullptr});
}

Status Store::load_catalog() {
  auto file = options_.dir / "catalog";
  auto text = read_file(file, catalog_max);
  if (!text && text.error().code != Errc::not_found) {
    std::error_code ec;
    if (fs::exists(file, ec)) return fail(text.error());
  }
  if (!text) {
    uuid_ = random_uuid();
    if (std::error_code ec; !fs::is_empty(options_.dir / "parts", ec) && !ec) rebuild_catalog("is gone");
    return {};
  }
  auto newline = text->find('\n');
  auto body = newline == std::string::npos ? std::string() : text->substr(newline + 1);
  if (newline == std::string::npos || text->substr(0, newline) != fmt::format("{:016x}", XXH3_64bits(body.data(), body.size()))) {
    std::error_code ec;
    fs::rename(file, options_.dir / "catalog.damaged", ec);
    uuid_ = random_uuid();
    rebuild_catalog("does not match its checksum; it was put aside as catalog.damaged");
    return {};
  }
  return read_catalog(body);
}

Status Store::read_catalog(const std::string& body) {
  auto parsed = json::parse(body);
  if (!parsed) return fail(Error(parsed.error()).within((options_.dir / "catalog").string()));
  const auto& c = *parsed;
  if (json::integer(c, "format") != catalog_format) return fail(Errc::invalid, "{}: of format {}, this croft reads {}", (options_.dir / "catalog").string(), json::integer(c, "format"), catalog_format);
  uuid_ = json::text(c, "uuid");
  sealed_seq_ = sealing_seq_ = static_cast<std::uint64_t>(json::integer(c, "sealed_seq"));
  next_seq_ = sealed_seq_ + 1;
  next_file_ = static_cast<std::uint64_t>(json::integer(c, "next_file", 1));
  for (const auto& e : json::members(c, "offsets"))
    if (e.value().is_array() && e.value().get_array().size() == 2)
      offsets_[e.key()] = {natural(e.value().get_array()[0]), static_cast<std::int64_t>(natural(e.value().get_array()[1]))};
  for (const auto& e : json::members(c, "dropped")) dropped_[e.key()] = natural(e.value());
  for (const auto& e : json::members(c, "settings"))
    if (e.value().is_string()) settings_[e.key()] = e.value().get_string();
  for (const auto& i : json::list(c, "indices")) {
    auto name = json::text(i, "name");
    auto& index = indices_[name];
    index.uuid = json::text(i, "uuid");
    index.created = Wall(Millis(json::integer(i, "created_ms")));
    index.born = static_cast<std::uint64_t>(json::integer(i, "born"));
    next_seq_ = std::max(next_seq_, index.born);
    for (const auto& seq : json::list(i, "deleted")) index.deleted->insert(natural(seq));
    sealed_deleted_[name] = std::make_shared<SeqSet>(*index.deleted);
    for (const auto& file : json::texts(i, "parts")) add_part(index, file);
  }
  for (const auto& [name, seq] : dropped_) next_seq_ = std::max(next_seq_, seq + 1);
  sealed_offsets_ = sealing_offsets_ = offsets_;
  clean_parts();
  return {};
}

/// Files that the catalog does not name were not finished when the process ended; their rows are in the log.
void Store::clean_parts() {
  std::set<std::string> known;
  for (const auto& [name, index] : indices_)
    for (const auto& part : index.parts) known.insert(part.file);
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(options_.dir / "parts", ec))
    if (!known.contains(entry.path().filename().string())) ::unlink(entry.path().c_str());
}

/// Without a catalog the parts themselves tell what there is. What is lost with it: which rows were replaced by newer versions, templates and
/// aliases, and what shippers had sent (they may send some lines again).
void Store::rebuild_catalog(std::string_view why) {
  auto words = fmt::format("{} {}; the indices are put together again from their parts", (options_.dir / "catalog").string(), why);
  log::error("logs", "{}", words);
  damaged_.push_back(words);
  std::vector<std::string> files;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(options_.dir / "parts", ec)) files.push_back(entry.path().filename().string());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    auto name = index_of_file(file);
    if (!check_index_name(name)) continue;
    auto& index = indices_[name];
    index.uuid = base64_encode(random_uuid()).substr(0, 22);
    index.created = system_now().wall;
    add_part(index, file);
    const auto& part = index.parts.back().part;
    next_file_ = std::max<std::uint64_t>(next_file_, std::strtoull(file.substr(name.size() + 1, 8).c_str(), nullptr, 16) + 1);
    if (!part) continue;
    rebuilt_[name] = std::max(rebuilt_[name], part->last_seq());
    next_seq_ = std::max(next_seq_, part->last_seq() + 1);
  }
}

}  // namespace croft::logs
