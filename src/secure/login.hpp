#pragma once
// Logging in with a password when every try costs a tenth of a second: what is known already is answered at once, the rest waits in bounded
// queues, and wrong guesses have a share of one core, never a core.

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/accounts.hpp"
#include "secure/password.hpp"

namespace croft::secure {

/// What an Authorization header holds.
struct Credentials {
  enum class Scheme : std::uint8_t { basic, bearer };
  Scheme scheme{};
  std::string user, secret;  ///< bearer: no user
};
inline constexpr std::size_t authorization_bytes_max = 2048;
/// "Basic …", "Bearer …" (also "token=…", as DC/OS's clients send it). Errors: invalid (another scheme, malformed), too_large.
Result<Credentials> parse_authorization(std::string_view header);

/// The address that tries are counted for: IPv4 whole, IPv6 by its /64 (whoever has one has all of it).
std::string source_of(std::string_view address);

struct Verdict {
  enum class Outcome : std::uint8_t {
    granted,
    refused,    ///< wrong; 401
    slow_down,  ///< too many wrong ones from here or for this user; 429 with retry_after
    busy,       ///< the queue is full; 503 with retry_after
  };
  Outcome outcome{};
  Principal who;              ///< when granted
  Millis retry_after{};
  std::string reason;         ///< says nothing of whether the user exists
};

struct LoginOptions {
  std::size_t queue_max = 64;             ///< tries that wait, of strangers and of known pairs each
  std::size_t per_source_max = 4;         ///< of them from one source
  std::size_t waiters_max = 256;          ///< requests that wait for one and the same try
  std::size_t remembered_max = 4096;      ///< results; sources; users; known pairs: each
  Seconds remembered_idle{60};            ///< a good result that nobody asked for so long is forgotten
  Seconds remembered_life{15 * 60};       ///< and every one after this
  std::uint32_t source_free = 5;          ///< wrong tries of a source before it has to wait
  std::uint32_t user_free = 20;           ///< wrong tries for a user, from wherever, before unknown sources have to wait
  Millis wait_first{1000}, wait_last{60'000};
  Seconds forgiven{10 * 60};              ///< without a wrong try
  PasswordCost cost;                      ///< that new passwords have: of a try for a user who is not there
  double share = 0.25;                    ///< of one core, for tries that fail
};

/// The decisions. Knows no clock, no thread, and does not hash: the shell does, and tells.
///
///   begin() answers at once or names a job; next() gives the job to work on, at most one at a time; finish() tells its end and whom it concerns.
///
/// A source and user that have logged in together before are a known pair: they have a queue of their own and are not made to wait because others
/// guess, so that an attacker can lock nobody out.
class LoginCore {
 public:
  using Waiter = std::uint64_t;
  struct Job {
    std::uint64_t id = 0;
    std::string record;    ///< to compare with; "": the user is not there, and the work is done for nobody
    std::string password;
  };
  struct Stats {
    std::uint64_t remembered = 0, tried = 0, wrong = 0, slowed = 0, turned_away = 0;
    std::size_t waiting = 0;
  };

  explicit LoginCore(LoginOptions options = {});

  /// `waiter` is given back by finish() when the answer is not known at once.
  std::optional<Verdict> begin(const Accounts& accounts, std::string_view source, std::string_view user, std::string_view password, Waiter waiter, Mono now);
  /// Nothing while one is being worked on, none waits, or failures have used their share up; then wake() says when, if ever.
  std::optional<Job> next(Mono now);
  [[nodiscard]] std::optional<Mono> wake() const;
  /// `took` is the processor time that the try cost.
  std::vector<std::pair<Waiter, Verdict>> finish(const Accounts& accounts, std::uint64_t id, bool matched, Millis took, Mono now);
  /// Nobody shall wait any longer.
  std::vector<std::pair<Waiter, Verdict>> give_up();
  [[nodiscard]] Stats stats() const;

 private:
  struct Remembered {
    bool good = false;
    Mono since, used;
    std::list<std::string>::iterator place;
  };
  struct Wrong {
    std::uint32_t count = 0;
    Mono last, until;
    std::list<std::string>::iterator place;
  };
  struct Waiting {
    Job job;
    std::string key, source, user;
    std::string share;     ///< whose tries are counted together: the source, or the known pair
    bool known = false;
    std::vector<Waiter> waiters;
  };
  template <class T>
  struct Bounded {
    std::unordered_map<std::string, T> entries;
    std::list<std::string> order;  // least recently used first
    T* find(const std::string& key);
    T& touch(const std::string& key, std::size_t max);
    void erase(const std::string& key);
  };

  [[nodiscard]] std::string key_of(std::string_view user, std::string_view record, std::string_view password) const;
  [[nodiscard]] std::optional<Verdict> recall(const Accounts& accounts, const std::string& key, std::string_view user, Mono now);
  [[nodiscard]] Millis must_wait(const std::string& source, const std::string& user, bool known, Mono now);
  void note_wrong(const Waiting& w, Mono now);
  void count_wrong(Wrong& w, std::uint32_t free, Mono now);

  LoginOptions options_;
  std::string secret_;                        // of this process: what is remembered is of no use elsewhere
  Bounded<Remembered> results_;
  Bounded<Wrong> sources_, users_;            // sources and known pairs; users
  Bounded<Remembered> pairs_;                 // known: source, blank, user
  std::unordered_map<std::string, std::shared_ptr<Waiting>> by_key_;
  std::deque<std::shared_ptr<Waiting>> strangers_, acquainted_;
  std::unordered_map<std::string, std::size_t> waiting_of_;  // by share
  std::shared_ptr<Waiting> working_;
  Mono rest_until_{};
  std::uint64_t last_id_ = 0;
  Stats stats_;
};

}  // namespace croft::secure
