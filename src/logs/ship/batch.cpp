#include "logs/ship/batch.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/ship/lines.hpp"

namespace croft::logs {

void Batch::add(std::string_view index, std::string_view id, std::string_view document) {
  Item item;
  append_create(item.lines, index, id);
  item.lines += document;
  item.lines += '\n';
  bytes_ += item.lines.size();
  items_.push_back(std::move(item));
}

std::string Batch::body() const {
  std::string out;
  auto count = limit_ == 0 ? items_.size() : std::min(limit_, items_.size());
  out.reserve(bytes_);
  for (std::size_t i = 0; i < count; ++i) out += items_[i].lines;
  return out;
}

Batch::Verdict Batch::answered(int status, std::string_view answer) {
  auto sent = limit_ == 0 ? items_.size() : std::min(limit_, items_.size());
  auto forget = [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) bytes_ -= items_[i].lines.size();
    items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(count));
    limit_ = items_.size() > limit_ ? limit_ : 0;
  };
  Verdict v;
  if (status == 200) {
    // The usual answer needs no parsing; whether it holds errors is said near its beginning.
    if (answer.substr(0, 256).find("\"errors\":false") != std::string_view::npos) {
      v.stored = sent;
      forget(sent);
    } else if (!ask_items_) {
      ask_items_ = true;
    } else {
      v = read_items(answer);
    }
  } else if (status == 413 || status == 400) {
    // Refused as a whole: cut in half until it passes, or until the one line is alone that can never pass.
    v.reason = fmt::format("status {}: {}", status, answer.substr(0, 200));
    if (sent == 1) v.refused = 1, forget(1);
    else limit_ = sent / 2;
  } else {
    v.wait = true;
    v.reason = status == 0 ? std::string(answer) : fmt::format("status {}: {}", status, answer.substr(0, 200));
  }
  v.again = !items_.empty();
  return v;
}

Batch::Verdict Batch::read_items(std::string_view answer) {
  Verdict v;
  auto parsed = json::parse(answer);
  auto sent = limit_ == 0 ? items_.size() : std::min(limit_, items_.size());
  if (!parsed || json::list(*parsed, "items").size() != sent) {
    v.wait = true;
    v.reason = "the answer names another number of items than were sent";
    return v;
  }
  std::vector<Item> left;
  std::size_t at = 0;
  for (const auto& entry : json::list(*parsed, "items")) {
    const auto* body = entry.is_object() && !entry.get_object().empty() ? &entry.get_object().begin()->value() : nullptr;
    auto status = body ? json::integer(*body, "status", 500) : 500;
    auto& item = items_[at++];
    if (status < 300 || status == 409) {
      ++v.stored;
      continue;
    }
    if (v.reason.empty() && body) v.reason = fmt::format("status {}: {}", status, json::find(*body, "error") ? json::print(*json::find(*body, "error")) : "");
    if (status == 429 || status >= 500) {
      v.wait = true;
      left.push_back(std::move(item));
    } else {
      ++v.refused;
    }
  }
  left.insert(left.end(), std::make_move_iterator(items_.begin() + static_cast<std::ptrdiff_t>(sent)), std::make_move_iterator(items_.end()));
  items_ = std::move(left);
  bytes_ = 0;
  for (const auto& item : items_) bytes_ += item.lines.size();
  limit_ = items_.size() > limit_ ? limit_ : 0;
  return v;
}

}  // namespace croft::logs
