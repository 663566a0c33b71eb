#pragma once
// Commands that run inside tasks: what their people and their agents bring and fetch, by session. Both come by short requests and say how far they are, so that
// one that got lost is simply made again, and a slow reader slows its writer down.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/time.hpp"
#include "model/ids.hpp"

namespace croft::orchestrator {

/// Shape    open() names a session; each side puts and takes until the agent has put its end, the client closed, or one of them has been silent for too long.
/// Threads  any. Errors: not_found (no such session, or not this one's), conflict (bytes that do not follow), unavailable (too many).
class ExecBoard {
 public:
  struct Options {
    std::size_t sessions_max = 128, sessions_each = 16;   ///< at once: of the farm, of one who asks; an admin of the farm has as many above the former
    std::size_t held_max = 256u << 10;                     ///< bytes on their way, each way
    Millis client_silence{15'000}, agent_silence{10'000};
    Millis idle{3600 * 1000};                              ///< without a byte either way
  };
  ExecBoard() : ExecBoard(Options()) {}
  explicit ExecBoard(Options options) : options_(options) {}

  struct Order {
    std::string who;          ///< the client's name; "": nobody logs in
    AgentId agent;
    std::string host;         ///< the agent's, for people
    TaskId task;
    std::string app = {};     ///< the task's
    bool admins_only = false; ///< it has what policy gives to admins only
    bool by_admin = false;    ///< of the whole farm
  };
  Result<std::string> open(Order order, Mono now);
  bool close(const std::string& session, std::string_view who);   ///< false: there is no such session of his

  enum class Side : std::uint8_t { client, agent };
  struct Taken {
    std::string bytes;        ///< empty: none yet
    bool made_room = false;   ///< the other side may put more
  };
  /// Bytes for this side from its `after`-th on, which says that it has all before.
  Result<Taken> take(const std::string& session, Side side, std::string_view name, std::uint64_t after, Mono now);
  /// Whole frames from this side, the first byte of them its `at`-th; how many bytes are taken now. As many as before: there is no room yet.
  Result<std::uint64_t> put(const std::string& session, Side side, std::string_view name, std::uint64_t at, std::string_view frames, Mono now);
  /// Of this client's session. Nothing: there is none.
  [[nodiscard]] std::optional<Order> order(const std::string& session, std::string_view who) const;
  /// Of whose host a session's agent is. Nothing: there is no such session.
  [[nodiscard]] std::optional<std::string> host(const std::string& session) const;
  void clear();
  /// Ends what is over: of a silent agent the client hears so. How many sessions there are.
  std::size_t sweep(Mono now);

  [[nodiscard]] static std::string end_of(std::string_view error);   ///< the last frame of a command that could not be run to its end

 private:
  /// Bytes one way, and which of all of them these are.
  struct Way {
    std::string held;
    std::uint64_t begin = 0;
    [[nodiscard]] std::uint64_t end() const { return begin + held.size(); }
  };
  struct Session {
    Order order;
    Way to_agent, to_client;
    Mono client_seen{}, agent_seen{}, moved{};
    bool agent_over = false;
  };
  Session* find(const std::string& session, Side side, std::string_view name);

  Options options_;
  mutable std::mutex mutex_;
  std::map<std::string, Session> sessions_;  // mutex_
};

}  // namespace croft::orchestrator
