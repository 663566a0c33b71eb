#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.hpp"
#include "model/ids.hpp"
#include "model/resources.hpp"
#include "model/task.hpp"

namespace croft {

std::string task_name_of(const AppId& app) {
  auto parts = split(std::string_view(app.str()).substr(app.str().starts_with('/') ? 1 : 0), '/');
  std::reverse(parts.begin(), parts.end());
  return join(parts, ".");
}

Milli to_milli(double units) { return std::llround(units * 1000.0); }
double from_milli(Milli thousandths) { return static_cast<double>(thousandths) / 1000.0; }

Resources& Resources::operator+=(const Resources& o) {
  cpus += o.cpus, mem += o.mem, disk += o.disk, gpus += o.gpus;
  return *this;
}

Resources& Resources::operator-=(const Resources& o) {
  cpus -= o.cpus, mem -= o.mem, disk -= o.disk, gpus -= o.gpus;
  return *this;
}

bool Resources::holds(const Resources& other) const {
  return other.cpus <= cpus && other.mem <= mem && other.disk <= disk && other.gpus <= gpus;
}

PortSet::PortSet(std::vector<PortRange> ranges) {
  std::erase_if(ranges, [](const PortRange& r) { return r.begin > r.end; });
  std::sort(ranges.begin(), ranges.end());
  for (const auto& r : ranges) {
    if (!ranges_.empty() && r.begin <= ranges_.back().end + 1) ranges_.back().end = std::max(ranges_.back().end, r.end);
    else ranges_.push_back(r);
  }
}

static auto range_of(const std::vector<PortRange>& ranges, std::uint16_t port) {  // the first that ends at or after the port
  return std::lower_bound(ranges.begin(), ranges.end(), port, [](const PortRange& r, std::uint16_t p) { return r.end < p; });
}

bool PortSet::contains(std::uint16_t port) const {
  auto at = range_of(ranges_, port);
  return at != ranges_.end() && at->begin <= port;
}

std::uint32_t PortSet::size() const {
  std::uint32_t n = 0;
  for (const auto& r : ranges_) n += 1u + r.end - r.begin;
  return n;
}

void PortSet::add(std::uint16_t port) {
  auto at = ranges_.begin() + (range_of(ranges_, port) - ranges_.cbegin());
  if (at != ranges_.end() && at->begin <= port) return;
  bool joins_right = at != ranges_.end() && at->begin == port + 1;
  bool joins_left = at != ranges_.begin() && std::prev(at)->end + 1 == port;
  if (joins_left && joins_right) {
    std::prev(at)->end = at->end;
    ranges_.erase(at);
  } else if (joins_left) {
    std::prev(at)->end = port;
  } else if (joins_right) {
    at->begin = port;
  } else {
    ranges_.insert(at, {port, port});
  }
}

bool PortSet::remove(std::uint16_t port) {
  auto at = ranges_.begin() + (range_of(ranges_, port) - ranges_.cbegin());
  if (at == ranges_.end() || at->begin > port) return false;
  if (at->begin == at->end) {
    ranges_.erase(at);
  } else if (at->begin == port) {
    ++at->begin;
  } else if (at->end == port) {
    --at->end;
  } else {
    PortRange left{at->begin, static_cast<std::uint16_t>(port - 1)};
    at->begin = static_cast<std::uint16_t>(port + 1);
    ranges_.insert(at, left);
  }
  return true;
}

std::string PortSet::str() const {
  std::string out = "[";
  for (const auto& r : ranges_) {
    if (out.size() > 1) out += ", ";
    out += fmt::format("{}-{}", r.begin, r.end);
  }
  return out + "]";
}

Result<PortSet> PortSet::parse(std::string_view text) {
  text = trim(text);
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  std::vector<PortRange> ranges;
  for (const auto& piece : split(text, ',')) {
    auto part = trim(piece);
    if (part.empty()) continue;
    auto dash = part.find('-');
    auto begin = to_int(trim(part.substr(0, dash)));
    auto end = dash == std::string_view::npos ? begin : to_int(trim(part.substr(dash + 1)));
    if (!begin || !end || *begin < 1 || *end > 65535 || *begin > *end) return fail(Errc::invalid, "'{}' is not a port range (1-65535)", part);
    ranges.push_back({static_cast<std::uint16_t>(*begin), static_cast<std::uint16_t>(*end)});
  }
  return PortSet(std::move(ranges));
}

static constexpr std::array<std::string_view, 14> state_names = {
    "TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED",
    "TASK_ERROR", "TASK_LOST", "TASK_DROPPED", "TASK_UNREACHABLE", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_UNKNOWN"};

bool is_terminal(TaskState state) {
  switch (state) {
    case TaskState::finished: case TaskState::failed: case TaskState::killed: case TaskState::error:
    case TaskState::lost: case TaskState::dropped: case TaskState::gone: case TaskState::gone_by_operator: return true;
    default: return false;
  }
}

std::string_view wire_name(TaskState state) { return state_names[static_cast<std::size_t>(state)]; }

std::optional<TaskState> task_state_from(std::string_view wire) {
  for (std::size_t i = 0; i < state_names.size(); ++i)
    if (state_names[i] == wire) return static_cast<TaskState>(i);
  return std::nullopt;
}

std::string_view to_string(Protocol p) { return p == Protocol::tcp ? "tcp" : p == Protocol::udp ? "udp" : "udp,tcp"; }

}  // namespace croft
