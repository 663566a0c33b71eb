#pragma once
// Who changed what, when and from where: records of the store beside the change they tell of. Pure.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "coordination/store.hpp"
#include "orchestrator/leader.hpp"

namespace croft::orchestrator {

/// `records_max` records; one goes with the commit that brings a new one. Nobody washes another's out of it: refusals and logins go first, and always the oldest
/// of who has most.
///
/// Shape    entry() gives number and text; put() adds it to a batch; keep() once the batch is stored.
class AuditLog {
 public:
  static constexpr std::size_t records_max = 10'000, paths_max = 100, text_max = 1024;
  static constexpr std::string_view prefix = "audit/";

  /// Errors   corrupt, invalid (a newer format), naming the key.
  Status load(const std::string& key, const std::string& text);
  AuditRecord entry(AuditRecord record);  ///< numbered, bounded
  void put(const AuditRecord& record, coordination::Batch& batch) const;
  void keep(AuditRecord record);
  [[nodiscard]] std::uint64_t newest() const { return records_.empty() ? last_ : records_.back().number; }
  /// Up to `limit` records behind number `after` that `shows` takes; with `last` the newest ones.
  [[nodiscard]] AuditPage page(std::uint64_t after, std::size_t limit, bool last, const std::function<bool(const AuditRecord&)>& shows) const;

 private:
  /// The next to go.
  [[nodiscard]] std::deque<AuditRecord>::const_iterator least() const;

  std::deque<AuditRecord> records_;                        // by number
  std::map<std::string, std::size_t, std::less<>> minor_, all_;  // refusals and logins there, and all of them, by account
  std::uint64_t last_ = 0;
};

std::string encode_audit(const AuditRecord& record);
Result<AuditRecord> decode_audit(std::string_view text);

}  // namespace croft::orchestrator
