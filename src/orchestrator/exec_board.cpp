#include "orchestrator/exec_board.hpp"

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "model/exec_frames.hpp"
#include "secure/accounts.hpp"

namespace croft::orchestrator {

namespace {

Error no_session(const std::string& session) { return {Errc::not_found, fmt::format("there is no session {}: it is over, or another master leads", session)}; }

}  // namespace

std::string ExecBoard::end_of(std::string_view error) {
  JsonWriter w;
  w.begin_object().field("error", error).end_object();
  return exec::encode(exec::Kind::end, std::move(w).take());
}

ExecBoard::Session* ExecBoard::find(const std::string& session, Side side, std::string_view name) {
  auto at = sessions_.find(session);
  if (at == sessions_.end()) return nullptr;
  bool his = side == Side::client ? at->second.order.who == name : at->second.order.agent.str() == name && !at->second.agent_over;
  return his ? &at->second : nullptr;
}

Result<std::string> ExecBoard::open(Order order, Mono now) {
  std::lock_guard guard(mutex_);
  if (sessions_.size() >= options_.sessions_max + (order.by_admin ? options_.sessions_each : 0)) return fail(Errc::unavailable, "{} commands run inside tasks already, which is as many as may", sessions_.size());
  auto own = std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& s) { return secure::account_of(s.second.order.who) == secure::account_of(order.who); });
  if (static_cast<std::size_t>(own) >= options_.sessions_each) return fail(Errc::unavailable, "{} commands of yours run inside tasks already, which is as many as may", own);
  auto name = fmt::format("{:016x}{:016x}", random_u64(), random_u64());
  Session s;
  s.order = std::move(order);
  s.client_seen = s.agent_seen = s.moved = now;
  sessions_[name] = std::move(s);
  return name;
}

bool ExecBoard::close(const std::string& session, std::string_view who) {
  std::lock_guard guard(mutex_);
  return find(session, Side::client, who) && sessions_.erase(session) > 0;
}

Result<ExecBoard::Taken> ExecBoard::take(const std::string& session, Side side, std::string_view name, std::uint64_t after, Mono now) {
  std::lock_guard guard(mutex_);
  auto* s = find(session, side, name);
  if (!s) return std::unexpected(no_session(session));
  (side == Side::client ? s->client_seen : s->agent_seen) = now;
  auto& way = side == Side::client ? s->to_client : s->to_agent;
  if (after < way.begin || after > way.end()) return fail(Errc::conflict, "after: {} bytes; there are those from {} to {}", after, way.begin, way.end());
  bool made_room = after > way.begin;
  way.held.erase(0, after - way.begin);
  way.begin = after;
  return Taken{way.held, made_room};
}

Result<std::uint64_t> ExecBoard::put(const std::string& session, Side side, std::string_view name, std::uint64_t at, std::string_view frames, Mono now) {
  std::lock_guard guard(mutex_);
  auto* s = find(session, side, name);
  if (!s) return std::unexpected(no_session(session));
  (side == Side::client ? s->client_seen : s->agent_seen) = now;
  auto& way = side == Side::client ? s->to_agent : s->to_client;
  if (at + frames.size() == way.end()) return way.end();  // once more, its answer was lost
  if (at != way.end()) return fail(Errc::conflict, "at: {}; the next byte is the {}th", at, way.end());
  exec::FrameReader reader;
  auto whole = reader.take(frames);
  if (!whole) return std::unexpected(std::move(whole).error());
  std::size_t size = 0;
  for (const auto& f : *whole) size += exec::head_size + f.data.size();
  if (size != frames.size()) return fail(Errc::invalid, "the last frame is not whole");
  for (const auto& f : *whole) {
    bool fits = side == Side::client ? f.kind == exec::Kind::input || (f.kind == exec::Kind::size && exec::is_size(f.data)) : f.kind != exec::Kind::input && f.kind != exec::Kind::size;
    if (!fits) return fail(Errc::invalid, "a frame of kind {} does not come from this side", static_cast<int>(f.kind));
    if (f.kind == exec::Kind::end && &f != &whole->back()) return fail(Errc::invalid, "a frame after the end");
  }
  if (way.held.size() + frames.size() > options_.held_max) return way.end();
  way.held += frames;
  s->moved = now;
  if (side == Side::agent && !whole->empty() && whole->back().kind == exec::Kind::end) s->agent_over = true;
  return way.end();
}

std::optional<ExecBoard::Order> ExecBoard::order(const std::string& session, std::string_view who) const {
  std::lock_guard guard(mutex_);
  auto at = sessions_.find(session);
  return at == sessions_.end() || at->second.order.who != who ? std::nullopt : std::optional(at->second.order);
}

std::optional<std::string> ExecBoard::host(const std::string& session) const {
  std::lock_guard guard(mutex_);
  auto at = sessions_.find(session);
  return at == sessions_.end() ? std::nullopt : std::optional(at->second.order.host);
}

void ExecBoard::clear() {
  std::lock_guard guard(mutex_);
  sessions_.clear();
}

std::size_t ExecBoard::sweep(Mono now) {
  std::lock_guard guard(mutex_);
  std::erase_if(sessions_, [&](const auto& e) { return now - e.second.client_seen > options_.client_silence; });
  for (auto& [name, s] : sessions_) {
    if (s.agent_over) continue;
    auto give_up = [&](std::string_view why) {
      s.to_client.held += end_of(why);
      s.agent_over = true;
    };
    if (now - s.agent_seen > options_.agent_silence) give_up(fmt::format("the agent on {} has fallen silent", s.order.host));
    else if (now - s.moved > options_.idle) give_up(fmt::format("nothing was read or written for {} s", options_.idle.count() / 1000));
  }
  return sessions_.size();
}

}  // namespace croft::orchestrator
