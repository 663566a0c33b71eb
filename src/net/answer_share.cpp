#include "net/answer_share.hpp"

#include <mutex>
#include <unordered_map>

namespace croft::net {

namespace {

/// Of this process: its memory is what all its servers share.
struct AnswersUnderWay {
  std::mutex mutex;
  std::size_t bytes = 0;                               // mutex
  std::unordered_map<std::string, std::size_t> by;     // mutex; only who has any
};

AnswersUnderWay& under_way() {
  static AnswersUnderWay all;
  return all;
}

}  // namespace

bool AnswerShare::take(const std::string& who, bool first, std::size_t bytes, std::size_t most) {
  if (bytes <= small) return true;
  auto& all = under_way();
  std::lock_guard lock(all.mutex);
  if (all.bytes > 0) {
    auto at = all.by.find(who);
    auto his = at == all.by.end() ? 0 : at->second;
    if (all.bytes + bytes > (first ? most : most / 4 * 3) || (his > 0 && his + bytes > most / 4)) return false;
  }
  all.bytes += bytes;
  all.by[who] += bytes;
  who_ = who;
  bytes_ = bytes;
  return true;
}

AnswerShare::~AnswerShare() {
  if (bytes_ == 0) return;
  auto& all = under_way();
  std::lock_guard lock(all.mutex);
  all.bytes -= bytes_;
  auto at = all.by.find(who_);
  if ((at->second -= bytes_) == 0) all.by.erase(at);
}

}  // namespace croft::net
