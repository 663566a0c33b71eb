// The store of a farm with one master: SQLite behind one thread of its own, concurrent commits grouped into one transaction.

#include <sqlite3.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/files.hpp"
#include "base/text.hpp"
#include "coordination/sqlite.hpp"
#include "coordination/standalone.hpp"

namespace croft::coordination {

namespace {

constexpr std::int64_t format_version = 1;
constexpr std::size_t group_max = 256;       // commits in one transaction
constexpr std::size_t queue_max = 10'000;    // commits waiting; more are refused as unavailable

struct Outcome {
  std::uint64_t number = 0;
  std::optional<Error> error;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(Database database, fs::path file) : database_(std::move(database)), file_(std::move(file)), thread_([this] { work(); }) {}
  ~SqliteStore() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  asio::awaitable<Result<Term>> take_over() override {
    auto result = std::make_shared<Result<Term>>();
    std::function<void()> job = [this, result] { *result = do_take_over(); };
    co_await on_thread(std::move(job));
    co_return std::move(*result);
  }

  asio::awaitable<Result<std::map<std::string, std::string>>> load(std::string prefix) override {
    auto result = std::make_shared<Result<std::map<std::string, std::string>>>();
    std::function<void()> job = [this, result, prefix] { *result = do_load(prefix); };
    co_await on_thread(std::move(job));
    co_return std::move(*result);
  }

  asio::awaitable<Result<std::uint64_t>> read_head() override {
    auto result = std::make_shared<Result<std::uint64_t>>();
    std::function<void()> job = [this, result] { *result = do_read_head(); };
    co_await on_thread(std::move(job));
    co_return std::move(*result);
  }

  asio::awaitable<Result<Snapshot>> save() override {
    auto result = std::make_shared<Result<Snapshot>>();
    std::function<void()> job = [this, result] { *result = do_save(); };
    co_await on_thread(std::move(job));
    co_return std::move(*result);
  }

  using Store::restore;
  asio::awaitable<Result<Term>> restore(Snapshot snapshot, Over over) override {
    auto result = std::make_shared<Result<Term>>();
    auto from = std::make_shared<Snapshot>(std::move(snapshot));
    std::function<void()> job = [this, result, from, over] { *result = do_restore(*from, over); };
    co_await on_thread(std::move(job));
    co_return std::move(*result);
  }

  asio::awaitable<Result<Term>> accept(Term at_least) override {
    auto result = std::make_shared<Result<Term>>();
    std::function<void()> job = [this, result, at_least] { *result = do_accept(at_least); };
    co_await on_thread(std::move(job));
    co_return std::move(*result);
  }

  asio::awaitable<Result<std::uint64_t>> commit(Batch batch) override {
    if (auto ok = check(batch); !ok) co_return fail(ok.error());
    auto request = std::make_shared<Request>();
    request->batch = std::move(batch);
    co_await enqueue(request);
    if (request->outcome.error) co_return std::unexpected(*request->outcome.error);
    co_return request->outcome.number;
  }

 private:
  struct Request {
    Batch batch;
    Outcome outcome;
    std::function<void()> job;   // instead of a batch: anything else that wants the database
    std::function<void()> done;
  };

  asio::awaitable<void> on_thread(std::function<void()> job) {
    auto request = std::make_shared<Request>();
    request->job = std::move(job);
    co_await enqueue(request);
  }

  asio::awaitable<void> enqueue(std::shared_ptr<Request> request) {
    auto start = [this, request](auto handler) {
      auto executor = asio::get_associated_executor(handler);
      auto held = std::make_shared<decltype(handler)>(std::move(handler));
      auto guard = std::make_shared<asio::executor_work_guard<decltype(executor)>>(executor);
      request->done = [held, guard, executor] {
        asio::post(executor, [held] { std::move (*held)(); });
        guard->reset();
      };
      std::unique_lock lock(mutex_);
      if (queue_.size() >= queue_max) {
        lock.unlock();
        request->outcome.error = Error{Errc::unavailable, "store: too many commits are waiting"};
        request->done();
        return;
      }
      queue_.push_back(request);
      lock.unlock();
      wake_.notify_one();
    };
    auto token = asio::use_awaitable;
    co_await asio::async_initiate<decltype(token), void()>(start, token);
  }

  void work() {
    for (;;) {
      std::vector<std::shared_ptr<Request>> group;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        while (!queue_.empty() && group.size() < group_max) {
          if (queue_.front()->job && !group.empty()) break;  // order is kept: a job runs between two transactions
          group.push_back(std::move(queue_.front()));
          queue_.pop_front();
          if (group.back()->job) break;
        }
      }
      if (group.front()->job) group.front()->job();
      else commit_group(group);
      for (auto& request : group) {
        auto done = std::move(request->done);
        done();
      }
    }
  }

  Result<std::uint64_t> meta(std::string_view key) {
    auto found = database_.text("SELECT value FROM meta WHERE key = ?", {std::string(key)});
    if (!found) return fail(std::move(found).error().within(file_.string()));
    auto number = *found ? to_int(**found) : std::nullopt;
    if (!number) return fail(Errc::corrupt, "{}: '{}' is missing or no number", file_.string(), key);
    return static_cast<std::uint64_t>(*number);
  }

  Result<Term> do_take_over() {
    auto now = term();
    if (!now) return now;
    auto raised = std::to_string(++now->epoch);
    if (auto ok = database_.run("UPDATE meta SET value = ? WHERE key = 'epoch'", {raised}); !ok) return fail(ok.error());
    epoch_ = now->epoch;
    return now;
  }

  Result<Term> term() {
    auto epoch = meta("epoch"), head = meta("head");
    if (!epoch || !head) return fail(!epoch ? epoch.error() : head.error());
    auto id = database_.text("SELECT value FROM meta WHERE key = 'cluster_id'", {});
    if (!id || !*id) return fail(Errc::corrupt, "{}: the cluster id is missing", file_.string());
    return Term{*epoch, *head, **id};
  }

  /// Like a commit: an answer about another leader's commits would be taken for one about ours.
  Result<std::uint64_t> do_read_head() {
    auto now = term();
    if (!now) return fail(std::move(now).error());
    if (now->epoch != epoch_ || epoch_ == 0) return fail(Errc::not_leader, "store: epoch {} is in force, not {}", now->epoch, epoch_);
    return now->head;
  }

  /// Runs `work` in one transaction; nothing stays of it when it fails.
  template <class F>
  auto in_transaction(F work) -> decltype(work()) {
    if (auto ok = database_.run("BEGIN IMMEDIATE", {}); !ok) return fail(ok.error());
    auto result = work();
    auto ended = result ? database_.commit() : Status{};
    if (!ended) result = fail(ended.error());
    if (!result) database_.rollback();
    return result;
  }

  Status set_term(const Term& term) {
    for (auto [key, value] : std::initializer_list<std::pair<std::string, std::string>>{
             {"epoch", std::to_string(term.epoch)}, {"head", std::to_string(term.head)}, {"cluster_id", term.cluster_id}})
      if (auto ok = database_.run("UPDATE meta SET value = ? WHERE key = ?", {value, key}); !ok) return ok;
    return {};
  }

  Result<Snapshot> do_save() {
    auto work = [this]() -> Result<Snapshot> {
      auto now = term();
      if (!now) return fail(std::move(now).error());
      auto values = do_load("");
      if (!values) return fail(std::move(values).error());
      return Snapshot{std::move(*now), std::move(*values)};
    };
    return in_transaction(work);
  }

  Result<Term> do_restore(const Snapshot& snapshot, Over over) {
    const auto& wanted = snapshot.term;
    if (wanted.cluster_id.empty()) return fail(Errc::invalid, "restore: the cluster id is empty");
    for (const auto& [key, value] : snapshot.values) {
      Batch one;
      one.put.emplace(key, value);
      if (auto ok = check(one); !ok) return fail(Error(ok.error()).within("restore"));
    }
    auto work = [&]() -> Result<Term> {
      auto now = term();
      if (!now) return fail(std::move(now).error());
      auto present = do_load("");
      if (!present) return fail(std::move(present).error());
      if (over == Over::empty && !present->empty()) return fail(Errc::conflict, "restore: the store is not empty ({} keys, commit {}, cluster {})", present->size(), now->head, now->cluster_id);
      if (wanted.epoch <= now->epoch) return fail(Errc::invalid, "restore: epoch {} would not be above the store's {}", wanted.epoch, now->epoch);
      if (wanted.head < now->head) return fail(Errc::invalid, "restore: commit {} would be below the store's {}", wanted.head, now->head);
      Batch all;
      all.put = snapshot.values;
      for (const auto& [key, value] : *present)
        if (!all.put.contains(key)) all.remove.push_back(key);
      if (auto ok = write(all); !ok) return fail(ok.error());
      if (auto ok = set_term(wanted); !ok) return fail(ok.error());
      return wanted;
    };
    auto done = in_transaction(work);
    if (done) epoch_ = 0;
    return done;
  }

  Result<Term> do_accept(const Term& at_least) {
    auto work = [&]() -> Result<Term> {
      auto now = term();
      if (!now) return fail(std::move(now).error());
      Term raised{std::max(now->epoch + 1, at_least.epoch), std::max(now->head, at_least.head), at_least.cluster_id.empty() ? now->cluster_id : at_least.cluster_id};
      if (auto ok = set_term(raised); !ok) return fail(ok.error());
      return raised;
    };
    return in_transaction(work);
  }

  Result<std::map<std::string, std::string>> do_load(const std::string& prefix) {
    std::map<std::string, std::string> out;
    auto end = prefix;  // the first key after all that start with the prefix
    while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xFF) end.pop_back();
    if (!end.empty()) end.back() = static_cast<char>(end.back() + 1);
    auto each = [&](std::string key, std::string value) { out.emplace_hint(out.end(), std::move(key), std::move(value)); };
    auto ok = end.empty() ? database_.pairs("SELECT key, value FROM kv ORDER BY key", {}, each)
                          : database_.pairs("SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key", {prefix, end}, each);
    if (!ok) return fail(std::move(ok).error().within(file_.string()));
    return out;
  }

  void commit_group(std::vector<std::shared_ptr<Request>>& group) {
    auto failed = [&](const Error& error) {
      database_.rollback();
      for (auto& request : group) request->outcome.error = error;
    };
    if (auto ok = database_.run("BEGIN IMMEDIATE", {}); !ok) return failed(ok.error());
    auto epoch = meta("epoch"), head = meta("head");
    if (!epoch || !head) return failed(!epoch ? epoch.error() : head.error());
    if (*epoch != epoch_ || epoch_ == 0) return failed({Errc::not_leader, fmt::format("store: epoch {} is in force, not {}", *epoch, epoch_)});
    auto number = *head;
    for (auto& request : group) {
      if (auto ok = write(request->batch); !ok) return failed(ok.error());
      request->outcome.number = ++number;
    }
    if (auto ok = database_.run("UPDATE meta SET value = ? WHERE key = 'head'", {std::to_string(number)}); !ok) return failed(ok.error());
    if (auto ok = database_.commit(); !ok) return failed(ok.error());
  }

  Status write(const Batch& batch) {
    for (const auto& key : batch.remove)
      if (auto ok = database_.run("DELETE FROM kv WHERE key = ?", {key}); !ok) return ok;
    for (const auto& [key, value] : batch.put)
      if (auto ok = database_.run("INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)", {key, value}); !ok) return ok;
    return {};
  }

  Database database_;   // thread_ only
  fs::path file_;
  std::uint64_t epoch_ = 0;  // thread_ only
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Request>> queue_;  // mutex_
  bool stopping_ = false;                       // mutex_
  std::thread thread_;
};

Status prepare(Database& database) {
  for (auto sql : {"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 5000"})
    if (auto ok = database.run(sql, {}); !ok) return ok;
  auto known = database.text("SELECT name FROM sqlite_master WHERE name = 'meta'", {});
  if (!known) return fail(known.error());
  if (*known) {
    auto format = database.text("SELECT value FROM meta WHERE key = 'format'", {});
    if (!format) return fail(format.error());
    auto number = *format ? to_int(**format) : std::nullopt;
    if (!number) return fail(Errc::corrupt, "the format version is missing");
    if (*number > format_version)
      return fail(Errc::invalid, "written by a newer croft (format {}, this one knows up to {}); nothing was changed", *number, format_version);
    return {};
  }
  for (auto sql : {"BEGIN IMMEDIATE", "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
                   "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"})
    if (auto ok = database.run(sql, {}); !ok) return ok;
  for (auto [key, value] : std::initializer_list<std::pair<std::string, std::string>>{
           {"format", std::to_string(format_version)}, {"epoch", "0"}, {"head", "0"}, {"cluster_id", random_uuid()}})
    if (auto ok = database.run("INSERT INTO meta VALUES (?, ?)", {key, value}); !ok) return ok;
  return database.commit();
}

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(const fs::path& file) {
  auto database = Database::open(file);
  if (!database) return fail(std::move(database).error());
  if (auto ok = prepare(*database); !ok) return fail(Error(ok.error()).within(file.string()));
  return std::make_unique<SqliteStore>(std::move(*database), file);
}

}  // namespace croft::coordination
