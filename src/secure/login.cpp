#include "secure/login.hpp"

#include <arpa/inet.h>

#include <algorithm>

#include "base/text.hpp"
#include "secure/bytes.hpp"

namespace croft::secure {

Result<Credentials> parse_authorization(std::string_view header) {
  if (header.size() > authorization_bytes_max) return fail(Errc::too_large, "Authorization: more than {} bytes", authorization_bytes_max);
  auto text = trim(header);
  auto blank = text.find(' ');
  auto scheme = text.substr(0, blank);
  auto rest = blank == std::string_view::npos ? std::string_view() : trim(text.substr(blank + 1));
  if (iequals(scheme, "Bearer") && !rest.empty()) return Credentials{Credentials::Scheme::bearer, {}, std::string(rest)};
  if (scheme.starts_with("token=") && blank == std::string_view::npos) return Credentials{Credentials::Scheme::bearer, {}, std::string(trim(scheme.substr(6)))};
  if (!iequals(scheme, "Basic")) return fail(Errc::invalid, "Authorization: must be Basic or Bearer");
  auto plain = base64_decode(rest);
  auto colon = plain ? plain->find(':') : std::string::npos;
  if (colon == std::string::npos || plain->find('\0') != std::string::npos) return fail(Errc::invalid, "Authorization: Basic must be user:password in base64");
  return Credentials{Credentials::Scheme::basic, plain->substr(0, colon), plain->substr(colon + 1)};
}

std::string source_of(std::string_view address) {
  in6_addr six{};
  std::string text(address);
  if (::inet_pton(AF_INET6, text.c_str(), &six) != 1) return text;
  if (IN6_IS_ADDR_V4MAPPED(&six)) return text.substr(text.rfind(':') + 1);
  for (int i = 8; i < 16; ++i) six.s6_addr[i] = 0;
  char out[INET6_ADDRSTRLEN];
  ::inet_ntop(AF_INET6, &six, out, sizeof out);
  return std::string(out) + "/64";
}

namespace {

Verdict granted(const User& user) { return {Verdict::Outcome::granted, principal_of(user), {}, {}}; }
Verdict refused() { return {Verdict::Outcome::refused, {}, {}, "user or password is wrong"}; }
Verdict slow_down(Millis wait) { return {Verdict::Outcome::slow_down, {}, wait, "too many wrong passwords; try again later"}; }
Verdict busy() { return {Verdict::Outcome::busy, {}, Millis(2000), "too many logins at once; try again"}; }

}  // namespace

template <class T>
T* LoginCore::Bounded<T>::find(const std::string& key) {
  auto at = entries.find(key);
  return at == entries.end() ? nullptr : &at->second;
}

template <class T>
T& LoginCore::Bounded<T>::touch(const std::string& key, std::size_t max) {
  auto [at, made] = entries.try_emplace(key);
  if (made) at->second.place = order.insert(order.end(), key);
  else order.splice(order.end(), order, at->second.place);
  if (entries.size() > max) {
    entries.erase(order.front());
    order.pop_front();
  }
  return at->second;
}

template <class T>
void LoginCore::Bounded<T>::erase(const std::string& key) {
  auto at = entries.find(key);
  if (at == entries.end()) return;
  order.erase(at->second.place);
  entries.erase(at);
}

LoginCore::LoginCore(LoginOptions options) : options_(options), secret_(random_bytes(32)) {}

std::string LoginCore::key_of(std::string_view user, std::string_view record, std::string_view password) const {
  return hmac_sha256(secret_, fmt::format("{}\n{}\n{}", user, record, password));  // neither name nor record has a line break
}

std::optional<Verdict> LoginCore::recall(const Accounts& accounts, const std::string& key, std::string_view user, Mono now) {
  auto* known = results_.find(key);
  if (!known) return std::nullopt;
  if (now - known->since >= options_.remembered_life || (known->good && now - known->used >= options_.remembered_idle)) {
    results_.erase(key);
    return std::nullopt;
  }
  known->used = now;
  bool good = known->good;
  (void)results_.touch(key, options_.remembered_max);
  ++stats_.remembered;
  const auto* who = accounts.user(user);
  return good && who ? granted(*who) : refused();
}

Millis LoginCore::must_wait(const std::string& source, const std::string& user, bool known, Mono now) {
  // A known pair answers for itself only: others behind the same address, or who guess at the same user, must not lock it out.
  auto left = [&](Bounded<Wrong>& table, const std::string& key) {
    auto* w = table.find(key);
    if (!w) return Millis(0);
    if (now - w->last >= options_.forgiven) {
      table.erase(key);
      return Millis(0);
    }
    return w->until > now ? std::chrono::ceil<Millis>(w->until - now) : Millis(0);
  };
  return known ? left(sources_, source + " " + user) : std::max(left(sources_, source), left(users_, user));
}

std::optional<Verdict> LoginCore::begin(const Accounts& accounts, std::string_view from, std::string_view name, std::string_view password, Waiter waiter, Mono now) {
  // A name that no user can have, or a password that none can have set, is wrong without work; it tells nobody who exists.
  if (!check_user_name(name) || password.size() > 256) return refused();
  auto source = source_of(from);
  std::string user(name);
  const auto* who = accounts.user(user);
  auto key = key_of(user, who ? who->password : "", password);
  if (auto answer = recall(accounts, key, user, now)) return answer;
  bool known = pairs_.find(source + " " + user) != nullptr;
  if (auto wait = must_wait(source, user, known, now); wait.count() > 0) {
    ++stats_.slowed;
    return slow_down(wait);
  }
  if (auto at = by_key_.find(key); at != by_key_.end()) {
    if (at->second->waiters.size() >= options_.waiters_max) return ++stats_.turned_away, busy();
    at->second->waiters.push_back(waiter);
    return std::nullopt;
  }
  auto& queue = known ? acquainted_ : strangers_;
  auto share = known ? source + " " + user : source;
  auto waiting = waiting_of_.find(share);
  if (queue.size() >= options_.queue_max || (waiting != waiting_of_.end() && waiting->second >= options_.per_source_max)) {
    ++stats_.turned_away;
    return busy();
  }
  ++waiting_of_[share];
  auto w = std::make_shared<Waiting>(Waiting{{++last_id_, who ? who->password : "", std::string(password)}, key, source, user, share, known, {waiter}});
  by_key_[key] = w;
  queue.push_back(std::move(w));
  return std::nullopt;
}

std::optional<LoginCore::Job> LoginCore::next(Mono now) {
  if (working_) return std::nullopt;
  auto& queue = !acquainted_.empty() ? acquainted_ : strangers_;
  if (queue.empty() || (&queue == &strangers_ && now < rest_until_)) return std::nullopt;
  working_ = std::move(queue.front());
  queue.pop_front();
  ++stats_.tried;
  return working_->job;
}

std::optional<Mono> LoginCore::wake() const {
  if (working_) return std::nullopt;
  if (!acquainted_.empty()) return Mono{};
  return strangers_.empty() ? std::nullopt : std::optional(rest_until_);
}

void LoginCore::count_wrong(Wrong& w, std::uint32_t free, Mono now) {
  if (now - w.last >= options_.forgiven) w.count = 0;
  w.last = now;
  if (++w.count <= free) return;
  auto doublings = std::min(w.count - free - 1, 16u);
  w.until = now + std::min(options_.wait_last, options_.wait_first * (1 << doublings));
}

void LoginCore::note_wrong(const Waiting& w, Mono now) {
  ++stats_.wrong;
  count_wrong(sources_.touch(w.share, options_.remembered_max), options_.source_free, now);
  if (!w.known) count_wrong(users_.touch(w.user, options_.remembered_max), options_.user_free, now);
}

std::vector<std::pair<LoginCore::Waiter, Verdict>> LoginCore::finish(const Accounts& accounts, std::uint64_t id, bool matched, Millis took, Mono now) {
  CROFT_ASSERT(working_ && working_->job.id == id);
  auto w = std::exchange(working_, nullptr);
  by_key_.erase(w->key);
  if (--waiting_of_[w->share] == 0) waiting_of_.erase(w->share);
  wipe(w->job.password);
  // The account may have changed while the work was done: what was right for the old record is nothing.
  const auto* who = accounts.user(w->user);
  bool same = (who ? who->password : "") == w->job.record;
  bool good = matched && who && same;
  if (good || (same && !matched)) {
    auto& r = results_.touch(w->key, options_.remembered_max);
    r.good = good;
    r.since = r.used = now;
  }
  if (good) {
    sources_.erase(w->share);
    (void)pairs_.touch(w->source + " " + w->user, options_.remembered_max);
  } else {
    note_wrong(*w, now);
    auto rest = std::chrono::duration_cast<Mono::duration>(std::chrono::duration<double, std::milli>(static_cast<double>(took.count()) * (1 / options_.share - 1)));
    rest_until_ = std::max(rest_until_, now + rest);
  }
  std::vector<std::pair<Waiter, Verdict>> out;
  for (auto waiter : w->waiters) out.emplace_back(waiter, good ? granted(*who) : refused());
  return out;
}

std::vector<std::pair<LoginCore::Waiter, Verdict>> LoginCore::give_up() {
  std::vector<std::pair<Waiter, Verdict>> out;
  for (auto& [key, w] : by_key_) {
    for (auto waiter : w->waiters) out.emplace_back(waiter, busy());
    wipe(w->job.password);
  }
  by_key_.clear();
  strangers_.clear();
  acquainted_.clear();
  waiting_of_.clear();
  working_ = nullptr;
  return out;
}

LoginCore::Stats LoginCore::stats() const {
  auto out = stats_;
  out.waiting = strangers_.size() + acquainted_.size();
  return out;
}

}  // namespace croft::secure
