#include "at.hpp"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <future>

#include "base/text.hpp"
#include "secure/login_service.hpp"
#include "secure/password.hpp"

namespace croft::secure {
namespace {

using Outcome = Verdict::Outcome;
constexpr Millis cost{100};

/// The core with a clock of its own; hashing is a comparison with "right", because records are not opened here.
class Login : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"ann", "bob"}) accounts_ = accounts_->with(User{name, std::string("record of ") + name, {}, start(), {}});
  }
  void make(LoginOptions o) { core_ = LoginCore(o); }
  std::optional<Verdict> begin(std::string source, std::string user, std::string password) { return core_.begin(*accounts_, source, user, password, ++waiter_, now_); }
  /// Works on the next job, if there is one.
  bool work() {
    auto job = core_.next(now_);
    if (!job) return false;
    now_ += cost;
    busy_ += cost;
    for (auto& [waiter, verdict] : core_.finish(*accounts_, job->id, !job->record.empty() && job->password == "right", cost, now_)) answers_[waiter] = verdict;
    return true;
  }
  /// The whole way, waiting as long as the core wants.
  Verdict ask(std::string source, std::string user, std::string password) {
    if (auto v = begin(source, user, password)) return *v;
    auto mine = waiter_;
    while (!answers_.contains(mine)) {
      if (!work()) now_ = std::max(now_, core_.wake().value());
    }
    return answers_[mine];
  }
  std::shared_ptr<const Accounts> accounts_ = std::make_shared<const Accounts>();
  LoginCore core_;
  Mono now_ = Mono{} + std::chrono::hours(1000);
  Millis busy_{};
  LoginCore::Waiter waiter_ = 0;
  std::map<LoginCore::Waiter, Verdict> answers_;
};

TEST_F(Login, RightIsGrantedAndRemembered) {
  auto v = ask("10.0.0.1", "ann", "right");
  EXPECT_EQ(v.outcome, Outcome::granted);
  EXPECT_EQ(v.who.str(), "user ann");
  for (int i = 0; i < 1000; ++i) {
    now_ += Millis(500);
    ASSERT_EQ(begin("10.0.0.1", "ann", "right").value().outcome, Outcome::granted);
  }
  EXPECT_EQ(core_.stats().tried, 1u) << "an old client that polls costs one try, not one each";
}

TEST_F(Login, WrongAndUnknownAreRefusedAlike) {
  auto wrong = ask("10.0.0.1", "ann", "wrong"), unknown = ask("10.0.0.2", "eve", "right");
  EXPECT_EQ(wrong.outcome, Outcome::refused);
  EXPECT_EQ(unknown.outcome, Outcome::refused);
  EXPECT_EQ(wrong.reason, unknown.reason);
  EXPECT_EQ(core_.stats().tried, 2u) << "the unknown user cost as much";
}

TEST_F(Login, AnotherPasswordThanTheRememberedIsTried) {
  (void)ask("10.0.0.1", "ann", "right");
  EXPECT_EQ(ask("10.0.0.1", "ann", "righT").outcome, Outcome::refused);
  EXPECT_EQ(ask("10.0.0.1", "bob", "right").outcome, Outcome::granted);
  EXPECT_EQ(core_.stats().tried, 3u);
}

TEST_F(Login, IsForgottenWhenIdleAndAfterItsLife) {
  (void)ask("s", "ann", "right");
  now_ += Seconds(61);
  EXPECT_FALSE(begin("s", "ann", "right")) << "a minute unused";
  (void)work();
  for (int i = 0; i < 29; ++i) {
    now_ += Seconds(30);
    ASSERT_TRUE(begin("s", "ann", "right"));
  }
  now_ += Seconds(40);
  EXPECT_FALSE(begin("s", "ann", "right")) << "a quarter of an hour";
}

TEST_F(Login, AChangedPasswordOrARemovedUserEndsItAtOnce) {
  (void)ask("s", "ann", "right");
  auto before = accounts_;
  accounts_ = before->with(User{"ann", "another record", {}, start(), {}});
  EXPECT_FALSE(begin("s", "ann", "right"));
  accounts_ = before->without_user("ann");
  EXPECT_EQ(ask("s", "ann", "right").outcome, Outcome::refused);
}

TEST_F(Login, AnAccountThatChangesDuringATryIsNotGrantedByTheOldRecord) {
  EXPECT_FALSE(begin("s", "ann", "right"));
  auto mine = waiter_;
  auto job = core_.next(now_).value();
  accounts_ = accounts_->with(User{"ann", "another record", {}, start(), {}});
  for (auto& [waiter, verdict] : core_.finish(*accounts_, job.id, true, cost, now_)) answers_[waiter] = verdict;
  EXPECT_EQ(answers_[mine].outcome, Outcome::refused);
}

TEST_F(Login, ManyWithTheSameWaitForOneTry) {
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(begin("s", "ann", "right"));
  EXPECT_TRUE(work());
  EXPECT_FALSE(work());
  EXPECT_EQ(answers_.size(), 100u);
  for (auto& [waiter, verdict] : answers_) EXPECT_EQ(verdict.outcome, Outcome::granted);
}

TEST_F(Login, WaitersOfOneTryHaveABound) {
  make({.waiters_max = 10});
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(begin("s", "ann", "right"));
  EXPECT_EQ(begin("s", "ann", "right").value().outcome, Outcome::busy);
}

TEST_F(Login, ASourceThatGuessesHasToWaitLongerAndLonger) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ask("10.0.0.1", "ann", "wrong" + std::to_string(i)).outcome, Outcome::refused);
  EXPECT_EQ(ask("10.0.0.1", "ann", "wrong5").outcome, Outcome::refused);
  Millis before{};
  for (int i = 6; i < 20; ++i) {
    auto v = ask("10.0.0.1", "bob", "wrong" + std::to_string(i));
    ASSERT_EQ(v.outcome, Outcome::slow_down) << "whichever user it tries";
    EXPECT_GT(v.retry_after, before - Millis(1));
    EXPECT_LE(v.retry_after, Millis(60'000));
    before = v.retry_after;
    now_ += v.retry_after;
    EXPECT_EQ(ask("10.0.0.1", "bob", "wrong" + std::to_string(i)).outcome, Outcome::refused);
  }
  EXPECT_EQ(before, Millis(60'000));
  EXPECT_EQ(ask("10.0.0.2", "ann", "right").outcome, Outcome::granted) << "others are not concerned";
  now_ += Seconds(601);
  EXPECT_EQ(ask("10.0.0.1", "ann", "right").outcome, Outcome::granted) << "forgiven";
}

TEST_F(Login, TheRightPasswordIsNotFoundOutWhileItHasToWait) {
  for (int i = 0; i < 6; ++i) (void)ask("10.0.0.1", "ann", "wrong" + std::to_string(i));
  EXPECT_EQ(begin("10.0.0.1", "ann", "right").value().outcome, Outcome::slow_down);
}

TEST_F(Login, ATypoOnceInAWhileIsNothing) {
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(ask("s", "ann", "wrong" + std::to_string(i)).outcome, Outcome::refused);
    EXPECT_EQ(ask("s", "ann", "right").outcome, Outcome::granted);
    now_ += Seconds(70);
  }
}

TEST_F(Login, AnIpv6NetworkIsOneSource) {
  EXPECT_EQ(source_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(source_of("2001:db8:1:2::1"), source_of("2001:db8:1:2:ffff::"));
  EXPECT_NE(source_of("2001:db8:1:3::1"), source_of("2001:db8:1:2::1"));
  EXPECT_EQ(source_of("::ffff:10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(source_of("10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(source_of("unix"), "unix");
}

TEST_F(Login, GuessesFromEverywhereAtOneUserHaveToWait) {
  int slowed = 0;
  for (int i = 0; i < 60; ++i) slowed += ask("10.0.0." + std::to_string(i), "ann", "wrong" + std::to_string(i)).outcome == Outcome::slow_down;
  EXPECT_GE(slowed, 20);
  EXPECT_EQ(ask("10.1.0.1", "bob", "right").outcome, Outcome::granted);
}

TEST_F(Login, NobodyIsLockedOutByOthersGuesses) {
  ASSERT_EQ(ask("10.9.9.9", "ann", "right").outcome, Outcome::granted);
  now_ += Seconds(3600);
  for (int i = 0; i < 200; ++i) (void)begin("10.0.0." + std::to_string(i), "ann", "wrong" + std::to_string(i)), (void)work();
  for (int i = 0; i < 50; ++i) (void)ask("10.9.9.9", "eve", "wrong" + std::to_string(i));  // from behind the same address, too
  auto before = now_;
  EXPECT_EQ(ask("10.9.9.9", "ann", "right").outcome, Outcome::granted);
  EXPECT_LE(now_ - before, Millis(2) * cost.count()) << "and has not to stand in the strangers' queue";
}

TEST_F(Login, AKnownPairThatGuessesHasToWaitAsWell) {
  (void)ask("s", "ann", "right");
  int slowed = 0;
  for (int i = 0; i < 20; ++i) slowed += ask("s", "ann", "wrong" + std::to_string(i)).outcome == Outcome::slow_down;
  EXPECT_GE(slowed, 10);
  EXPECT_EQ(ask("s", "ann", "right").outcome, Outcome::granted) << "what is remembered is not concerned";
}

TEST_F(Login, QueuesAreBounded) {
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(begin("10.0.0.1", "ann", "wrong" + std::to_string(i)));
  EXPECT_EQ(begin("10.0.0.1", "ann", "wrong4").value().outcome, Outcome::busy) << "of one source";
  int waiting = 4;
  for (int i = 0; i < 100; ++i) waiting += begin("10.1.0." + std::to_string(i), "ann", "others" + std::to_string(i)) ? 0 : 1;
  EXPECT_EQ(waiting, 64) << "in all";
  EXPECT_EQ(core_.stats().waiting, 64u);
  EXPECT_GT(core_.stats().turned_away, 0u);
  auto left = core_.give_up();
  EXPECT_EQ(left.size(), 64u);
  EXPECT_EQ(left[0].second.outcome, Outcome::busy);
  EXPECT_EQ(core_.stats().waiting, 0u);
}

TEST_F(Login, TwoHundredWrongOnesASecondHaveAQuarterOfACore) {
  auto began = now_;
  std::uint64_t n = 0;
  // From a thousand addresses, so that no source alone has to wait: the share is what holds.
  for (auto t = began; t < began + Seconds(60); t += Millis(5)) {
    now_ = std::max(now_, t);
    (void)begin(fmt::format("10.{}.{}.1", n % 4, n / 4 % 250), "user" + std::to_string(n % 997), "wrong" + std::to_string(n));
    ++n;
    while (work()) {}
  }
  auto used = static_cast<double>(busy_.count()) / static_cast<double>(std::chrono::duration_cast<Millis>(now_ - began).count());
  EXPECT_LE(used, 0.27);
  EXPECT_GE(used, 0.15) << "it is the share that bounds it, not that nothing came";
}

TEST_F(Login, MemoryIsBounded) {
  make({.queue_max = 4, .remembered_max = 100, .source_free = 1'000'000, .user_free = 1'000'000});
  for (int i = 0; i < 5000; ++i) (void)ask("10.0." + std::to_string(i), "u" + std::to_string(i), "wrong");
  EXPECT_EQ(core_.stats().tried, 5000u);
  (void)ask("10.0.4999", "u4999", "wrong");
  EXPECT_EQ(core_.stats().tried, 5000u) << "the newest are remembered";
  (void)ask("10.0.1", "u1", "wrong");
  EXPECT_EQ(core_.stats().tried, 5001u) << "the oldest are not";
}

TEST_F(Login, ImpossibleNamesAndPasswordsCostNothing) {
  for (const auto& name : {std::string(), std::string("a:b"), std::string("a\nb"), std::string(65, 'a'), std::string("-x")}) EXPECT_EQ(begin("s", name, "x").value().outcome, Outcome::refused) << name;
  EXPECT_EQ(begin("s", "ann", std::string(257, 'x')).value().outcome, Outcome::refused);
  EXPECT_EQ(core_.stats().tried, 0u);
}

TEST(Authorization, HeadersAreRead) {
  auto basic = parse_authorization("Basic YW5uOmNvcnJlY3Q6aG9yc2U=");
  ASSERT_TRUE(basic);
  EXPECT_EQ(basic->user, "ann");
  EXPECT_EQ(basic->secret, "correct:horse") << "a password may have a colon";
  EXPECT_EQ(parse_authorization("bearer  abc ")->secret, "abc");
  EXPECT_EQ(parse_authorization("token=abc")->secret, "abc");
  for (const char* bad : {"", "Basic", "Basic ", "Basic !!!!", "Basic YW5u", "Digest x", "Bearer", "Bearer ", "YW5uOng=", "Basic AGFubjp4"}) EXPECT_FAILS(parse_authorization(bad), Errc::invalid, "Authorization");
  EXPECT_FAILS(parse_authorization("Basic " + std::string(3000, 'A')), Errc::too_large, "bytes");
}

Credentials basic(std::string user, std::string secret) { return {Credentials::Scheme::basic, std::move(user), std::move(secret)}; }

Verdict checked(LoginService& service, const Credentials& c, std::string source = "10.0.0.1") {
  auto told = std::make_shared<std::promise<Verdict>>();
  service.check(c, source, start(), [told](Verdict v) { told->set_value(std::move(v)); });
  auto answer = told->get_future();
  if (answer.wait_for(Seconds(30)) != std::future_status::ready) throw std::runtime_error("no answer");
  return answer.get();
}

/// A tenth of what a password costs really: the test is of who waits for whom.
constexpr PasswordCost cheap{12, 8, 1};
LoginOptions quick() {
  LoginOptions o;
  o.cost = cheap;
  return o;
}
std::shared_ptr<const Accounts> one_user() { return Accounts().with(User{"ann", hash_password("correct horse", cheap), {{Level::viewer, "/"}}, start(), {}}); }

TEST(LoginService, ChecksRealPasswordsAndTokens) {
  LoginService service(quick());
  EXPECT_EQ(checked(service, basic("ann", "correct horse")).outcome, Outcome::refused) << "nobody is there yet";
  auto secret = new_bearer_token();
  service.set_accounts(one_user()->with(Token{secret.id, secret.digest, "ci", {}, start(), Wall::max(), {}}));
  auto v = checked(service, basic("ann", "correct horse"));
  EXPECT_EQ(v.outcome, Outcome::granted);
  EXPECT_EQ(v.who.grants.size(), 1u);
  EXPECT_EQ(checked(service, basic("ann", "correct horsf")).outcome, Outcome::refused);
  EXPECT_EQ(checked(service, basic("eve", "correct horse")).outcome, Outcome::refused);
  EXPECT_EQ(checked(service, {Credentials::Scheme::bearer, "", secret.text}).outcome, Outcome::granted);
  EXPECT_EQ(checked(service, {Credentials::Scheme::bearer, "", "croft_x"}).outcome, Outcome::refused);
  service.set_accounts(std::make_shared<const Accounts>());
  EXPECT_EQ(checked(service, basic("ann", "correct horse")).outcome, Outcome::refused) << "removed is removed, remembered or not";
}

/// By the processor time of a try, each with a service of its own, which has no share used up: medians of seven.
TEST(LoginService, S23_AnUnknownUserCostsWhatAWrongPasswordCosts) {
  auto price = [](const char* user) {
    std::vector<double> all;
    for (int i = 0; i < 7; ++i) {
      LoginService service(quick());
      service.set_accounts(one_user());
      timespec before{}, after{};
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
      EXPECT_EQ(checked(service, basic(user, "wrong horse")).outcome, Outcome::refused);
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
      all.push_back(static_cast<double>(after.tv_sec - before.tv_sec) + static_cast<double>(after.tv_nsec - before.tv_nsec) / 1e9);
    }
    std::ranges::nth_element(all, all.begin() + 3);
    return all[3];
  };
  auto known = price("ann"), unknown = price("eve");
  EXPECT_LT(std::max(known, unknown), 2 * std::min(known, unknown)) << "a guesser would learn which names there are: " << known << " s, " << unknown << " s";
}

TEST(LoginService, AnswersEverybodyWhenItEnds) {
  std::atomic<int> answered{0};
  {
    LoginService service(quick());
    service.set_accounts(one_user());
    for (int i = 0; i < 20; ++i) service.check(basic("ann", "wrong" + std::to_string(i)), "10.0.0." + std::to_string(i), start(), [&](Verdict) { ++answered; });
  }
  EXPECT_EQ(answered, 20);
}

/// Two hundred wrong logins a second for three seconds, each with another password, from one address and from many: what they cost, and that a
/// login that is known is answered at once all the while.
TEST(LoginService, UnderAttackTheKnownAreAnsweredAtOnce) {
  for (bool many : {false, true}) {
    LoginService service(quick());
    service.set_accounts(one_user());
    ASSERT_EQ(checked(service, basic("ann", "correct horse"), "10.9.9.9").outcome, Outcome::granted);
    auto cpu = [] {
      timespec t{};
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
    };
    auto before = cpu();
    auto began = std::chrono::steady_clock::now();
    std::chrono::nanoseconds longest{};
    for (int i = 0; i < 200; ++i) {
      service.check(basic("ann", "wrong" + std::to_string(i)), many ? fmt::format("10.0.0.{}", i) : "10.0.0.1", start(), [](Verdict) {});
      auto asked = std::chrono::steady_clock::now();
      bool at_once = false;
      service.check(basic("ann", "correct horse"), "10.9.9.9", start(), [&](Verdict v) { at_once = v.outcome == Outcome::granted; });
      ASSERT_TRUE(at_once);
      longest = std::max<std::chrono::nanoseconds>(longest, std::chrono::steady_clock::now() - asked);
      std::this_thread::sleep_until(began + Millis(5) * (i + 1));  // the rate that the attack has
    }
    auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    std::printf("%s: %.0f %% of a core, longest known login %.2f ms, %llu of 200 tried\n", many ? "200 addresses" : "one address", (cpu() - before) / seconds * 100, static_cast<double>(longest.count()) / 1e6,
                static_cast<unsigned long long>(service.stats().tried));
    EXPECT_LE((cpu() - before) / seconds, 0.6);
    EXPECT_LE(longest, Millis(500)) << "ten times the bar";
  }
}

}  // namespace
}  // namespace croft::secure
