#include "orchestrator/audit_log.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "secure/accounts.hpp"

namespace croft::orchestrator {

namespace {

constexpr std::int64_t audit_format = 1;

bool is_minor(const AuditRecord& r) { return !r.done || r.what.starts_with("logged in") || r.what.starts_with("logged out"); }

std::string audit_key(std::uint64_t number) { return fmt::format("{}{:016}", AuditLog::prefix, number); }

}  // namespace

std::string encode_audit(const AuditRecord& r) {
  JsonWriter w;
  w.begin_object().field("format", audit_format).field("number", r.number).field("when", to_iso8601(r.when)).field("who", r.who).field("from", r.from).field("what", r.what);
  w.key("paths").begin_array();
  for (const auto& path : r.paths) w.value(path);
  w.end_array().field("done", r.done);
  if (!r.reason.empty()) w.field("reason", r.reason);
  if (!r.changes.empty()) {
    w.key("changes").begin_array();
    for (const auto& change : r.changes) w.value(change);
    w.end_array();
  }
  w.end_object();
  return std::move(w).take();
}

Result<AuditRecord> decode_audit(std::string_view text) {
  auto parsed = json::parse(text);
  if (!parsed) return fail(Errc::corrupt, "audit record: not JSON");
  if (json::integer(*parsed, "format") > audit_format) return fail(Errc::invalid, "written by a newer croft (format {})", json::integer(*parsed, "format"));
  AuditRecord r;
  r.number = static_cast<std::uint64_t>(json::integer(*parsed, "number"));
  auto when = from_iso8601(json::text(*parsed, "when"));
  if (!when || r.number == 0) return fail(Errc::corrupt, "audit record: when, number");
  r.when = *when;
  r.who = json::text(*parsed, "who"), r.from = json::text(*parsed, "from"), r.what = json::text(*parsed, "what"), r.reason = json::text(*parsed, "reason");
  r.paths = json::texts(*parsed, "paths"), r.changes = json::texts(*parsed, "changes");
  r.done = json::boolean(*parsed, "done", true);
  return r;
}

Status AuditLog::load(const std::string& key, const std::string& text) {
  auto record = decode_audit(text);
  if (!record) return fail(std::move(record).error().within(key));
  keep(std::move(*record));
  return {};
}

AuditRecord AuditLog::entry(AuditRecord r) {
  r.number = ++last_;
  if (r.paths.size() > paths_max) r.paths.resize(paths_max);
  for (auto* text : {&r.who, &r.from, &r.what, &r.reason}) text->resize(std::min(text->size(), text_max));
  return r;
}

void AuditLog::put(const AuditRecord& r, coordination::Batch& batch) const {
  batch.put[audit_key(r.number)] = encode_audit(r);
  if (records_.size() >= records_max) batch.remove.push_back(audit_key(least()->number));
}

void AuditLog::keep(AuditRecord r) {
  last_ = std::max(last_, r.number);
  auto at = std::find_if(records_.rbegin(), records_.rend(), [&](const auto& known) { return known.number <= r.number; });
  if (at != records_.rend() && at->number == r.number) return;
  auto place = records_.end() - (at - records_.rbegin());
  if (records_.size() >= records_max) {
    auto gone = least();
    if (auto count = minor_.find(secure::account_of(gone->who)); is_minor(*gone) && --count->second == 0) minor_.erase(count);
    if (auto count = all_.find(secure::account_of(gone->who)); --count->second == 0) all_.erase(count);
    auto index = place - records_.begin() - (gone < place ? 1 : 0);
    records_.erase(gone);
    place = records_.begin() + index;
  }
  auto account = secure::account_of(r.who);
  if (is_minor(r)) ++minor_[account];
  ++all_[account];
  records_.insert(place, std::move(r));
}

std::deque<AuditRecord>::const_iterator AuditLog::least() const {
  const auto& counts = minor_.empty() ? all_ : minor_;
  if (counts.empty()) return records_.begin();
  auto loudest = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::find_if(records_.begin(), records_.end(), [&](const AuditRecord& r) { return secure::account_of(r.who) == loudest->first && (minor_.empty() || is_minor(r)); });
}

AuditPage AuditLog::page(std::uint64_t after, std::size_t limit, bool last, const std::function<bool(const AuditRecord&)>& shows) const {
  AuditPage out;
  out.newest = newest();
  if (last) {
    for (auto at = records_.rbegin(); at != records_.rend() && out.records.size() < limit && at->number > after; ++at)
      if (shows(*at)) out.records.push_back(*at);
    std::reverse(out.records.begin(), out.records.end());
    return out;
  }
  auto at = std::upper_bound(records_.begin(), records_.end(), after, [](std::uint64_t n, const AuditRecord& r) { return n < r.number; });
  for (; at != records_.end(); ++at) {
    if (!shows(*at)) continue;
    if (out.records.size() == limit) {
      out.newest = out.records.back().number;
      break;
    }
    out.records.push_back(*at);
  }
  return out;
}

}  // namespace croft::orchestrator
