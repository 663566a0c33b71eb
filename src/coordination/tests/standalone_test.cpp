#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "await.hpp"
#include "base/files.hpp"
#include "coordination/sqlite.hpp"
#include "coordination/standalone.hpp"

namespace croft::coordination {
namespace {

Batch put(std::string key, std::string value) {
  Batch b;
  b.put.emplace(std::move(key), std::move(value));
  return b;
}

class StandaloneTest : public ::testing::Test {
 protected:
  void SetUp() override { char name[] = "/tmp/croft-store-XXXXXX"; dir_ = mkdtemp(name); }
  void TearDown() override { fs::remove_all(dir_); }
  std::unique_ptr<Store> open() { return std::move(*open_sqlite_store(dir_ / "store.db")); }
  fs::path dir_;
};

TEST_F(StandaloneTest, CommitsAreNumberedAndSurviveReopening) {
  std::string id;
  {
    auto store = open();
    auto term = *wait_for(store->take_over());
    EXPECT_EQ(term.epoch, 1u);
    EXPECT_EQ(term.head, 0u);
    id = term.cluster_id;
    EXPECT_EQ(*wait_for(store->commit(put("apps/a", "1"))), 1u);
    EXPECT_EQ(*wait_for(store->commit(put("apps/b", std::string("x\0y", 3)))), 2u);
  }
  auto store = open();
  auto term = *wait_for(store->take_over());
  EXPECT_EQ(term.epoch, 2u);
  EXPECT_EQ(term.head, 2u);
  EXPECT_EQ(term.cluster_id, id);
  auto all = *wait_for(store->load("apps/"));
  EXPECT_EQ(all.size(), 2u);
  EXPECT_EQ(all["apps/b"], std::string("x\0y", 3));
}

TEST_F(StandaloneTest, LoadGivesThePrefixOnlyInOrder) {
  auto store = open();
  (void)wait_for(store->take_over());
  Batch b;
  for (auto key : {"apps/b", "apps/a", "appsx", "rules/a", "app"}) b.put.emplace(key, "v");
  ASSERT_TRUE(wait_for(store->commit(b)));
  auto apps = *wait_for(store->load("apps/"));
  EXPECT_EQ(apps.size(), 2u);
  EXPECT_EQ(apps.begin()->first, "apps/a");
  EXPECT_EQ(wait_for(store->load(""))->size(), 5u);
}

TEST_F(StandaloneTest, AnOlderEpochIsFenced) {
  auto old = open();
  (void)wait_for(old->take_over());
  auto newer = open();
  (void)wait_for(newer->take_over());
  auto refused = wait_for(old->commit(put("k", "v")));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::not_leader);
  EXPECT_TRUE(wait_for(newer->commit(put("k", "w"))));
}

TEST_F(StandaloneTest, WithoutTakingOverNothingIsCommitted) {
  auto store = open();
  EXPECT_EQ(wait_for(store->commit(put("k", "v"))).error().code, Errc::not_leader);
}

TEST_F(StandaloneTest, ConcurrentCommitsAllGetNumbersOfTheirOwn) {
  auto store = open();
  (void)wait_for(store->take_over());
  asio::io_context io;
  std::vector<std::future<Result<std::uint64_t>>> all;
  for (int i = 0; i < 200; ++i) all.push_back(asio::co_spawn(io, store->commit(put("k" + std::to_string(i), "v")), asio::use_future));
  io.run();
  std::set<std::uint64_t> numbers;
  for (auto& f : all) numbers.insert(*f.get());
  EXPECT_EQ(numbers.size(), 200u);
  EXPECT_EQ(*wait_for(store->read_head()), 200u);
}

TEST_F(StandaloneTest, ANewerFormatIsRefusedAndLeftAlone) {
  { auto store = open(); }
  {
    auto raw = *Database::open(dir_ / "store.db");
    ASSERT_TRUE(raw.run("UPDATE meta SET value = '99' WHERE key = 'format'", {}));
  }
  auto refused = open_sqlite_store(dir_ / "store.db");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().context.find("newer"), std::string::npos) << refused.error().context;
}

TEST_F(StandaloneTest, AFileThatIsNoDatabaseIsNamed) {
  ASSERT_TRUE(write_file_atomic(dir_ / "store.db", std::string(8192, 'x')));
  auto refused = open_sqlite_store(dir_ / "store.db");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::corrupt);
  EXPECT_NE(refused.error().context.find("store.db"), std::string::npos);
  EXPECT_FALSE(open_sqlite_store(dir_ / "no" / "such" / "store.db"));
}

TEST_F(StandaloneTest, WhatWasAnsweredSurvivesKillNine) {
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  pid_t child = fork();
  if (child == 0) {
    auto store = open();
    (void)wait_for(store->take_over());
    for (std::uint64_t i = 1;; ++i) {
      auto n = wait_for(store->commit(put("k", std::to_string(i))));
      if (!n || write(pipes[1], &*n, sizeof *n) < 0) _exit(1);
    }
  }
  close(pipes[1]);
  std::uint64_t last = 0, n = 0;
  while (last < 40 && read(pipes[0], &n, sizeof n) == sizeof n) last = n;
  kill(child, SIGKILL);
  while (read(pipes[0], &n, sizeof n) == sizeof n) last = n;
  waitpid(child, nullptr, 0);
  close(pipes[0]);
  auto store = open();
  EXPECT_GE(wait_for(store->take_over())->head, last);
  EXPECT_GE(std::stoull((*wait_for(store->load("k")))["k"]), last);
}

/// What a cut of the power leaves of the journal: it ends at any byte, or goes on with what stood on the disk before. Every commit that was answered is
/// there, none is there in part.
TEST_F(StandaloneTest, APowerCutAtAnyByteOfTheJournalLosesNothingThatWasAnswered) {
  constexpr std::uint64_t commits = 6;
  auto value = [](std::uint64_t n) { return std::string(n * 900, static_cast<char>('a' + n)); };
  std::vector<std::size_t> synced;  // length of the journal when a commit was answered
  std::string data, journal;
  {
    auto store = open();
    ASSERT_TRUE(wait_for(store->take_over()));
    for (std::uint64_t n = 1; n <= commits; ++n) {
      auto batch = put("k" + std::to_string(n), value(n));
      batch.put["newest"] = std::to_string(n);
      ASSERT_EQ(wait_for(store->commit(std::move(batch))).value_or(0), n);
      synced.push_back(fs::file_size(dir_ / "store.db-wal"));
    }
    data = *read_file(dir_ / "store.db"), journal = *read_file(dir_ / "store.db-wal");
  }
  char name[] = "/dev/shm/croft-cut-XXXXXX";
  fs::path at = mkdtemp(name);
  std::size_t looked_at = 0;
  auto look = [&](std::size_t cut, bool old_bytes_behind) {
    fs::remove(at / "store.db-shm");
    ASSERT_TRUE(replace_file(at / "store.db", data));
    ASSERT_TRUE(replace_file(at / "store.db-wal", journal.substr(0, cut) + (old_bytes_behind ? std::string(journal.size() - cut, '\x5a') : "")));
    auto store = open_sqlite_store(at / "store.db");
    ASSERT_TRUE(store) << cut << ": " << store.error().context;
    auto term = wait_for((*store)->take_over());
    ASSERT_TRUE(term) << cut << ": " << term.error().context;
    auto least = static_cast<std::uint64_t>(std::upper_bound(synced.begin(), synced.end(), cut) - synced.begin());
    EXPECT_GE(term->head, least) << cut;
    auto all = *wait_for((*store)->load(""));
    EXPECT_EQ(all.size(), term->head == 0 ? 0 : term->head + 1) << cut;
    if (term->head > 0) {
      EXPECT_EQ(all["newest"], std::to_string(term->head)) << cut;
    }
    for (std::uint64_t n = 1; n <= term->head; ++n) EXPECT_EQ(all["k" + std::to_string(n)], value(n)) << cut;
    ++looked_at;
  };
  constexpr std::size_t stride = 251, first_frame = 32, frame = 24 + 4096;
  // A journal that begins after the first take-over's own commit was answered: what came before it is in force in any case.
  for (std::size_t cut = 0; cut <= journal.size() && !HasFatalFailure(); ++cut) {
    auto in_frame = cut < first_frame ? cut : (cut - first_frame) % frame;
    if (cut % stride == 0 || in_frame <= 1 || in_frame == 24 || in_frame + 1 == frame || cut == journal.size()) look(cut, false), look(cut, true);
  }
  fs::remove_all(at);
  EXPECT_GT(looked_at, 200u);
}

TEST_F(StandaloneTest, AFullDiskChangesNothingAndHealsByItself) {
  if (geteuid() != 0 || mount("tmpfs", dir_.c_str(), "tmpfs", 0, "size=600k") != 0) GTEST_SKIP() << "needs root for a small file system";
  {
    auto store = open();
    (void)wait_for(store->take_over());
    ASSERT_TRUE(wait_for(store->commit(put("a", "1"))));
    auto refused = wait_for(store->commit(put("big", std::string(1u << 20, 'x'))));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unavailable) << refused.error().context;
    EXPECT_EQ(*wait_for(store->read_head()), 1u);
    EXPECT_EQ(*wait_for(store->commit(put("b", "2"))), 2u);
  }
  umount(dir_.c_str());
}

TEST_F(StandaloneTest, OneLeaderAtATimeAndTheNextFollows) {
  auto lock = dir_ / "leader.lock";
  auto first = file_election(lock, "a:1"), second = file_election(lock, "b:2");
  ASSERT_TRUE(wait_for(first->campaign()));
  EXPECT_EQ(**wait_for(second->leader()), "a:1");
  asio::io_context io;
  auto won = asio::co_spawn(io, second->campaign(), asio::use_future);
  asio::co_spawn(io, first->resign(), asio::detached);
  io.run();
  EXPECT_TRUE(won.get());
  EXPECT_EQ(**wait_for(second->leader()), "b:2");
}

TEST_F(StandaloneTest, ReadHeadIsRefusedOnceAnotherEpochIsInForce) {
  auto a = open(), b = open();
  EXPECT_EQ(wait_for(a->read_head()).error().code, Errc::not_leader);  // before any take-over
  ASSERT_TRUE(wait_for(a->take_over()));
  ASSERT_EQ(*wait_for(a->commit(put("k", "1"))), 1u);
  EXPECT_EQ(*wait_for(a->read_head()), 1u);
  ASSERT_TRUE(wait_for(b->take_over()));
  ASSERT_EQ(*wait_for(b->commit(put("k", "2"))), 2u);
  EXPECT_EQ(wait_for(a->read_head()).error().code, Errc::not_leader);
}

TEST_F(StandaloneTest, SaveAndRestoreIntoAnEmptyStore) {
  auto store = open();
  auto term = *wait_for(store->take_over());
  ASSERT_TRUE(wait_for(store->commit(put("apps/a", "1"))));
  ASSERT_TRUE(wait_for(store->commit(put("apps/b", "2"))));
  auto saved = *wait_for(store->save());
  EXPECT_EQ(saved.values, (std::map<std::string, std::string>{{"apps/a", "1"}, {"apps/b", "2"}}));
  EXPECT_EQ(saved.term.head, 2u);
  EXPECT_EQ(saved.term.epoch, 1u);
  auto full = wait_for(store->restore(saved));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Errc::conflict);
  EXPECT_NE(full.error().context.find("not empty (2 keys, commit 2"), std::string::npos) << full.error().context;
  EXPECT_EQ(*wait_for(store->commit(put("apps/c", "3"))), 3u);  // neither changed anything

  auto fresh = std::move(*open_sqlite_store(dir_ / "fresh.db"));
  auto present = *wait_for(fresh->take_over());
  auto back = saved;
  back.term.epoch = present.epoch;
  EXPECT_EQ(wait_for(fresh->restore(back)).error().code, Errc::invalid);
  back.term = restored_term(saved.term, present, {});
  ASSERT_TRUE(wait_for(fresh->restore(back)));
  EXPECT_EQ(wait_for(fresh->commit(put("x", "y"))).error().code, Errc::not_leader);  // a leader on it takes over anew
  auto now = *wait_for(fresh->take_over());
  EXPECT_EQ(now.cluster_id, term.cluster_id);
  EXPECT_EQ(now.head, 2 + leap_commits);
  EXPECT_GT(now.epoch, saved.term.epoch);
  EXPECT_EQ(*wait_for(fresh->load("")), saved.values);
}

TEST_F(StandaloneTest, RestoreInThePlaceOfWhatIsThere) {
  auto store = open();
  auto term = *wait_for(store->take_over());
  ASSERT_TRUE(wait_for(store->commit(put("apps/a", "1"))));
  auto saved = *wait_for(store->save());
  ASSERT_TRUE(wait_for(store->commit(put("apps/a", "2"))));
  ASSERT_TRUE(wait_for(store->commit(put("apps/b", "1"))));
  auto present = *wait_for(store->save());
  EXPECT_EQ(wait_for(store->restore(saved, Store::Over::everything)).error().code, Errc::invalid) << "the epoch would stand still";
  auto back = saved;
  back.term = restored_term(saved.term, present.term, {});
  EXPECT_EQ(wait_for(store->restore(back)).error().code, Errc::conflict);
  ASSERT_TRUE(wait_for(store->restore(back, Store::Over::everything)));
  EXPECT_EQ(wait_for(store->commit(put("x", "y"))).error().code, Errc::not_leader);
  auto now = *wait_for(store->take_over());
  EXPECT_EQ(now.cluster_id, term.cluster_id);
  EXPECT_GE(now.head, present.term.head);
  EXPECT_EQ(*wait_for(store->load("")), saved.values);
}

TEST_F(StandaloneTest, AcceptRaisesAndNeverLowers) {
  auto store = open(), tool = open();
  auto term = *wait_for(store->take_over());
  ASSERT_TRUE(wait_for(store->commit(put("k", "1"))));
  ASSERT_TRUE(wait_for(tool->accept({12, 3456, "seen"})));
  EXPECT_EQ(wait_for(store->commit(put("k", "2"))).error().code, Errc::not_leader);
  auto now = *wait_for(store->take_over());
  EXPECT_EQ(now.epoch, 13u);
  EXPECT_EQ(now.head, 3456u);
  EXPECT_EQ(now.cluster_id, "seen");
  auto lower = *wait_for(tool->accept({1, 1, ""}));
  EXPECT_EQ(lower.epoch, 14u);
  EXPECT_EQ(lower.head, 3456u);
  EXPECT_EQ(lower.cluster_id, "seen");
}

TEST_F(StandaloneTest, BatchesBeyondTheBoundsChangeNothing) {
  auto store = open();
  ASSERT_TRUE(wait_for(store->take_over()));
  EXPECT_EQ(wait_for(store->commit(put("", "x"))).error().code, Errc::invalid);
  EXPECT_EQ(wait_for(store->commit(put("k", std::string(value_bytes_max + 1, 'v')))).error().code, Errc::too_large);
  EXPECT_EQ(*wait_for(store->read_head()), 0u);
}

TEST_F(StandaloneTest, TheOnlyMasterIsSafeForEverWhileItLeads) {
  auto election = file_election(dir_ / "lock", "a:1");
  EXPECT_EQ(election->safe_until(), Mono{});
  ASSERT_TRUE(wait_for(election->campaign()));
  EXPECT_EQ(election->safe_until(), Mono::max());
  wait_for(election->resign());
  EXPECT_EQ(election->safe_until(), Mono{});
}

TEST_F(StandaloneTest, TheOnlyMastersDetectorIsCertainAndWaitsForNothing) {
  Leader only{"id", "m", "10.0.0.1", 5050, 8080, "1"};
  auto detector = fixed_detector(only);
  auto first = wait_for(detector->changed(0, Millis(60'000)));  // at once
  EXPECT_TRUE(first.certain);
  EXPECT_EQ(first.leader, only);
  EXPECT_EQ(wait_for(detector->changed(first.turn, Millis(10))).turn, first.turn);
}

}  // namespace
}  // namespace croft::coordination
