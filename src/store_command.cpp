#include "store_command.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <cstdio>

#include "base/log.hpp"
#include "coordination/backup.hpp"
#include "coordination/standalone.hpp"
#include "coordination/zookeeper.hpp"
#include "settings.hpp"

namespace croft {

namespace asio = boost::asio;

namespace {

constexpr Millis connect_limit{10'000};

struct Opened {
  std::unique_ptr<coordination::Store> store;
  std::shared_ptr<coordination::ZookeeperSession> session;  ///< nothing: standalone
};

asio::awaitable<Result<Opened>> open_store(asio::any_io_executor pool, const Settings& s) {
  Opened out;
  if (s.zookeeper.empty()) {
    auto store = coordination::open_sqlite_store(s.data / "master" / "store.db");
    if (!store) co_return fail(std::move(store).error());
    out.store = std::move(*store);
    co_return out;
  }
  auto address = coordination::parse_zookeeper_address(s.zookeeper);
  if (!address) co_return fail(std::move(address).error().within("zookeeper"));
  auto session = coordination::ZookeeperSession::open(pool, {.address = *address, .session_timeout = Millis(s.session_timeout_ms), .keep_in = {}});
  if (!session) co_return fail(std::move(session).error());
  out.session = *session;
  if (!co_await out.session->connected_within(connect_limit)) co_return fail(Errc::unavailable, "ZooKeeper at {}: {}", address->servers_text(), out.session->trouble());
  auto store = coordination::zookeeper_store(out.session, s.zookeeper_tree);
  if (!store) co_return fail(std::move(store).error().within("zookeeper_tree"));
  out.store = std::move(*store);
  co_return out;
}

void say(const coordination::Term& term, const char* what) {
  std::printf("%s: cluster %s, epoch %llu, commit %llu\n", what, term.cluster_id.c_str(), static_cast<unsigned long long>(term.epoch), static_cast<unsigned long long>(term.head));
}

asio::awaitable<Status> save(coordination::Store& store, const std::filesystem::path& file) {
  auto snapshot = co_await store.save();
  if (!snapshot) co_return fail(std::move(snapshot).error());
  if (auto ok = coordination::write_backup(file, *snapshot); !ok) co_return ok;
  say(snapshot->term, fmt::format("{} records saved to {}", snapshot->values.size(), file.string()).c_str());
  co_return Status{};
}

asio::awaitable<Status> restore(coordination::Store& store, const cli::StoreOptions& o) {
  auto backup = coordination::read_backup(o.file);
  if (!backup) co_return fail(std::move(backup).error());
  auto present = co_await store.save();
  if (!present && present.error().code == Errc::not_found) present = coordination::Snapshot{};  // nothing is there yet at all
  if (!present) co_return fail(std::move(present).error());
  auto& snapshot = backup->snapshot;
  snapshot.term = coordination::restored_term(snapshot.term, present->term, {.epoch = o.epoch, .head = o.commit, .cluster_id = {}});
  auto records = snapshot.values.size();
  auto over = o.replace ? coordination::Store::Over::everything : coordination::Store::Over::empty;
  auto term = co_await store.restore(std::move(snapshot), over);
  if (!term && term.error().code == Errc::conflict && !o.replace) co_return fail(Errc::conflict, "{}; --replace puts the backup in its place", term.error().context);
  if (!term) co_return fail(std::move(term).error());
  say(*term, fmt::format("{} records restored from {}", records, o.file.string()).c_str());
  co_return Status{};
}

asio::awaitable<Status> accept(coordination::Store& store, const cli::StoreOptions& o) {
  coordination::Term at_least{.epoch = o.epoch, .head = o.commit, .cluster_id = o.cluster};  // named: inside the expression GCC 12 frees it twice
  // Where no number is named it leaps as a restore does: the operator's word is that this store is the one.
  if (o.epoch == 0 || o.commit == 0) {
    auto present = co_await store.save();
    if (!present) co_return fail(std::move(present).error());
    auto far = coordination::restored_term(present->term, present->term, {});
    if (o.epoch == 0) at_least.epoch = far.epoch;
    if (o.commit == 0) at_least.head = far.head;
  }
  auto term = co_await store.accept(std::move(at_least));
  if (!term) co_return fail(std::move(term).error());
  say(*term, "accepted; nodes that refused this store register within seconds");
  co_return Status{};
}

asio::awaitable<void> carry_out(asio::any_io_executor pool, const Settings& s, const cli::StoreOptions& o, Status& done) {
  auto opened = co_await open_store(pool, s);
  if (!opened) {
    done = fail(std::move(opened).error());
    co_return;
  }
  switch (o.action) {
    case cli::StoreOptions::Action::save: done = co_await save(*opened->store, o.file); break;
    case cli::StoreOptions::Action::restore: done = co_await restore(*opened->store, o); break;
    case cli::StoreOptions::Action::accept: done = co_await accept(*opened->store, o); break;
  }
  if (opened->session) co_await opened->session->close();
}

}  // namespace

int store_command(const cli::StoreOptions& o) {
  log::setup(log::Level::warn);
  Settings s;
  if (auto ok = read_settings(o.config_file, s); !ok) return std::fprintf(stderr, "croft: %s\n", ok.error().context.c_str()), cli::usage;
  asio::io_context io;
  Status done;
  std::exception_ptr broken;
  auto job = carry_out(io.get_executor(), s, o, done);
  asio::co_spawn(io, std::move(job), [&](std::exception_ptr e) {
    broken = e;
    io.stop();
  });
  io.run();
  if (broken) std::rethrow_exception(broken);
  if (done) return cli::ok;
  std::fprintf(stderr, "croft: %s\n", done.error().context.c_str());
  return done.error().code == Errc::conflict ? cli::conflict : done.error().code == Errc::unavailable ? cli::unreachable : cli::failed;
}

}  // namespace croft
