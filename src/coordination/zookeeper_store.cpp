// The leader's store on ZooKeeper: every write checks the epoch's version, every commit moves the head by expected version.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <unordered_set>

#include "base/log.hpp"
#include "base/text.hpp"
#include "coordination/zookeeper.hpp"
#include "coordination/zookeeper_store_core.hpp"
#include "net/async.hpp"

namespace croft::coordination {

namespace {

constexpr std::size_t queue_max = 10'000;            // commits waiting; more are refused as unavailable
constexpr std::size_t group_max = 256;               // commits in one multi
constexpr std::size_t group_bytes_max = 128u << 10;  // of values as they came: compressed they stay far below a request's bound
constexpr std::size_t piece_bytes_max = 256u << 10;  // of a large batch, carried over
constexpr std::size_t piece_ops_max = 500;
constexpr int raise_tries = 3;

std::size_t size_of(const ZkOp& op) { return op.path.size() + op.data.size() + 64; }

Error fenced_error(std::uint64_t epoch) { return {Errc::not_leader, fmt::format("store: another epoch than {} is in force", epoch)}; }

}  // namespace

ZookeeperStoreCore::ZookeeperStoreCore(std::shared_ptr<ZookeeperSession> s, std::string r)
    : session(std::move(s)), strand(asio::make_strand(session->executor())), root(std::move(r)), store_path(root + "/store"),
      epoch_path(store_path + "/epoch"), head_path(store_path + "/head"), kv_path(store_path + "/kv"), chunks_path(store_path + "/chunks") {}

// --- one operation at a time, in order ---

asio::awaitable<void> ZookeeperStoreCore::lock() {
  if (!busy) {
    busy = true;
    co_return;
  }
  auto mine = std::make_shared<asio::steady_timer>(strand, std::chrono::steady_clock::time_point::max());
  waiting.push_back(mine);
  boost::system::error_code ec;
  co_await mine->async_wait(asio::redirect_error(asio::use_awaitable, ec));  // unlock() hands the store over
}

void ZookeeperStoreCore::unlock() {
  if (waiting.empty()) {
    busy = false;
    return;
  }
  waiting.front()->cancel();
  waiting.pop_front();
}

asio::awaitable<ZookeeperStoreCore::Turn> ZookeeperStoreCore::begin() {
  queue.push_back(nullptr);
  co_await lock();
  queue.pop_front();  // the commits before it had their turns before
  co_return Turn(this);
}

// --- steps ---

asio::awaitable<Status> ZookeeperStoreCore::reachable() {
  auto limit = session->options().operation_limit;
  if (co_await session->connected_within(limit)) co_return Status{};
  co_return fail(Errc::unavailable, "ZooKeeper at {} does not answer: {}", session->options().address.servers_text(), session->trouble());
}

asio::awaitable<Status> ZookeeperStoreCore::written(std::vector<ZkOp> ops, std::string_view doing) {
  auto reply = co_await session->multi(std::move(ops));
  if (reply.ok()) co_return Status{};
  co_return fail(reply.error(doing));
}

asio::awaitable<Status> ZookeeperStoreCore::fenced(std::vector<ZkOp> ops, std::string_view doing) {
  ops.insert(ops.begin(), ZkOp::check(epoch_path, epoch_version));
  auto reply = co_await session->multi(std::move(ops));
  if (reply.ok()) co_return Status{};
  if (reply.failed_op == 0 && (reply.bad_version() || reply.no_node())) co_return fail(fenced_error(epoch));
  co_return fail(reply.error(doing));
}

asio::awaitable<Status> ZookeeperStoreCore::make_layout() {
  auto there = co_await session->exists(store_path);
  if (there.ok()) co_return Status{};
  if (!there.no_node()) co_return fail(there.error("looking for " + store_path));
  auto path = co_await session->make_path(root, ZkAccess::ours);
  if (!path.ok()) co_return fail(path.error("making " + root));
  std::vector<ZkOp> ops;
  ops.push_back(ZkOp::create(store_path, records::encode(records::Meta{random_uuid(), false})));
  ops.push_back(ZkOp::create(epoch_path, records::encode(records::Epoch{})));
  ops.push_back(ZkOp::create(head_path, records::encode(records::Head{})));
  ops.push_back(ZkOp::create(chunks_path, ""));
  ops.push_back(ZkOp::create(kv_path, ""));
  for (int shard = 0; shard < records::shards; ++shard) ops.push_back(ZkOp::create(kv_path + "/" + records::shard_name(shard), ""));
  auto made = co_await session->multi(std::move(ops));
  if (made.ok() || made.node_exists()) co_return Status{};  // somebody else made it, whole
  co_return fail(made.error("making the store below " + store_path));
}

asio::awaitable<Result<ZookeeperStoreCore::State>> ZookeeperStoreCore::read_state() {
  auto synced = co_await session->sync();
  if (!synced.ok()) co_return fail(synced.error("a fresh read"));
  // The epoch last: while it is still ours then, so was the head before it.
  std::vector<std::string> paths{store_path, head_path, epoch_path};
  auto nodes = co_await session->get_many(std::move(paths));
  const char* names[] = {"the store's node", "its head", "its epoch"};
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (!nodes[i].ok()) co_return fail(nodes[i].error(fmt::format("reading {} below {}", names[i], root)));
  auto meta = records::decode_meta(nodes[0].value);
  auto at = records::decode_head(nodes[1].value);
  auto raised = records::decode_epoch(nodes[2].value);
  if (!meta) co_return fail(std::move(meta).error().within(root));
  if (!at) co_return fail(std::move(at).error().within(root));
  if (!raised) co_return fail(std::move(raised).error().within(root));
  co_return State{std::move(*meta), std::move(*raised), std::move(*at), nodes[0].stat.version, nodes[2].stat.version, nodes[1].stat.version};
}

asio::awaitable<Result<std::uint64_t>> ZookeeperStoreCore::raise_epoch() {
  auto by = random_uuid();
  for (int attempt = 0; attempt < raise_tries; ++attempt) {
    if (auto ok = co_await reachable(); !ok) co_return fail(ok.error());
    auto state = co_await read_state();
    if (!state && state.error().code == Errc::unavailable) continue;
    if (!state) co_return fail(std::move(state).error());
    if (state->meta.restoring) co_return fail(Errc::conflict, "store: a restore was begun and not finished; run it again");
    if (state->epoch.by == by) {  // an earlier attempt, whose answer was lost
      epoch_version = state->epoch_version;
      cluster_id = state->meta.cluster_id;
      co_return state->epoch.number;
    }
    std::vector<ZkOp> ops;
    auto node = session->leading_node();
    if (!node.empty()) ops.push_back(ZkOp::check(node, -1));  // whoever lost the election meanwhile must not fence its successor
    ops.push_back(ZkOp::set(epoch_path, records::encode(records::Epoch{state->epoch.number + 1, by}), state->epoch_version));
    auto reply = co_await session->multi(std::move(ops));
    if (reply.ok()) {
      epoch_version = state->epoch_version + 1;
      cluster_id = state->meta.cluster_id;
      co_return state->epoch.number + 1;
    }
    if (reply.no_node() && !node.empty()) co_return fail(Errc::not_leader, "store: {} is gone, this master does not lead", node);
    if (!reply.bad_version() && !reply.unknown()) co_return fail(reply.error("raising the epoch"));
  }
  co_return fail(Errc::unavailable, "store: the epoch could not be raised in {} attempts", raise_tries);
}

asio::awaitable<Result<ZookeeperStoreCore::Keys>> ZookeeperStoreCore::list_keys() {
  std::vector<std::string> paths;
  for (int shard = 0; shard < records::shards; ++shard) paths.push_back(kv_path + "/" + records::shard_name(shard));
  auto lists = co_await session->children_many(std::move(paths));
  Keys out;
  for (auto& list : lists) {
    if (!list.ok()) co_return fail(list.error("listing the keys"));
    for (const auto& name : list.names) {
      auto key = records::key_of(name);
      if (!key) co_return fail(std::move(key).error());
      out.push_back(std::move(*key));
    }
  }
  co_return out;
}

asio::awaitable<Status> ZookeeperStoreCore::settle() {
  if (epoch == 0) co_return fail(Errc::not_leader, "store: not taken over");
  if (auto ok = co_await reachable(); !ok) co_return ok;
  // Only on the session that sent it is a read conclusive about a commit: ZooKeeper drops what comes late over a connection that moved.
  if (session->id() != term_session) co_return fail(Errc::not_leader, "store: the session that took over has ended");
  auto state = co_await read_state();
  if (!state) co_return fail(state.error());
  if (state->epoch_version != epoch_version) co_return fail(fenced_error(epoch));
  auto listed = co_await list_keys();
  if (!listed) co_return fail(listed.error());
  std::unordered_map<std::string, std::optional<records::Blob>> now;
  for (auto& key : *listed) {
    auto known = keys.find(key);
    now.emplace(key, known == keys.end() ? std::nullopt : known->second);
  }
  keys = std::move(now);
  head = state->head.number;
  head_version = state->head_version;
  if (state->head.pending) {
    auto blob = *state->head.pending;
    auto bytes = co_await read_blob(blob);
    if (!bytes) co_return fail(bytes.error());
    auto batch = records::decode_batch(*bytes);
    if (!batch) co_return fail(batch.error());
    Changes changes;
    for (auto& key : batch->remove) changes.emplace(std::move(key), std::nullopt);
    for (auto& [key, value] : batch->put) changes.insert_or_assign(key, std::move(value));
    log::info("coordination", "commit={} changes={} carried over after an interruption", head, changes.size());
    auto ok = co_await carry_over(std::move(changes));
    if (ok) ok = co_await finish_pending(blob);
    if (!ok && ok.error().code == Errc::unknown_outcome) co_return fail(Errc::unavailable, "{}", ok.error().context);  // done again next time
    if (!ok) co_return ok;
  }
  settled = true;
  co_return Status{};
}

asio::awaitable<Result<std::string>> ZookeeperStoreCore::read_blob(records::Blob blob) {
  std::vector<std::string> paths;
  for (std::uint32_t i = 0; i < blob.chunks; ++i) paths.push_back(chunk_node(blob.chunk(i)));
  auto chunks = co_await session->get_many(std::move(paths));
  std::string out;
  for (auto& chunk : chunks) {
    if (chunk.no_node()) co_return fail(Errc::corrupt, "store: a chunk of {} is missing", blob.id);
    if (!chunk.ok()) co_return fail(chunk.error("reading a chunk of " + blob.id));
    out += chunk.value;
  }
  co_return out;
}

asio::awaitable<Result<std::map<std::string, std::string>>> ZookeeperStoreCore::read_values(Keys wanted, std::unordered_map<std::string, records::Blob>* chunked) {
  std::vector<std::string> paths;
  for (const auto& key : wanted) paths.push_back(key_node(key));
  auto nodes = co_await session->get_many(std::move(paths));
  std::map<std::string, std::string> out;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].no_node()) co_return fail(Errc::conflict, "store: '{}' was removed meanwhile", wanted[i]);
    if (!nodes[i].ok()) co_return fail(nodes[i].error("reading '" + wanted[i] + "'"));
    auto value = records::decode_value(nodes[i].value);
    if (!value) co_return fail(std::move(value).error().within(wanted[i]));
    if (value->elsewhere) {
      auto blob = *value->elsewhere;
      auto record = co_await read_blob(blob);
      if (!record) co_return fail(std::move(record).error().within(wanted[i]));
      value = records::decode_value(*record);
      if (!value) co_return fail(std::move(value).error().within(wanted[i]));
      if (value->elsewhere) co_return fail(Errc::corrupt, "store: '{}' refers to a reference", wanted[i]);
      if (chunked) chunked->emplace(wanted[i], std::move(blob));
    }
    nodes[i].value = {};
    out.emplace(wanted[i], std::move(value->bytes));
  }
  co_return out;
}

// --- writing ---

ZkOp ZookeeperStoreCore::change_op(const std::string& key, const std::optional<std::string>& record) const {
  if (!record) return ZkOp::remove(key_node(key));
  return keys.contains(key) ? ZkOp::set(key_node(key), *record) : ZkOp::create(key_node(key), *record);
}

void ZookeeperStoreCore::note_change(const std::string& key, bool stays, std::optional<records::Blob> chunks) {
  auto known = keys.find(key);
  if (known != keys.end() && known->second)
    for (std::uint32_t i = 0; i < known->second->chunks; ++i) garbage.push_back(chunk_node(known->second->chunk(i)));
  if (stays) keys.insert_or_assign(key, std::move(chunks));
  else if (known != keys.end()) keys.erase(known);
}

asio::awaitable<Result<records::Blob>> ZookeeperStoreCore::write_blob(std::string bytes) {
  records::Blob blob{random_uuid(), 0};
  for (auto& piece : records::cut(bytes, records::chunk_bytes)) {
    std::vector<ZkOp> ops{ZkOp::create(chunk_node(blob.chunk(blob.chunks++)), std::move(piece))};
    auto ok = co_await fenced(std::move(ops), "writing a chunk");
    if (ok) continue;
    for (std::uint32_t i = 0; i < blob.chunks; ++i) garbage.push_back(chunk_node(blob.chunk(i)));
    // Nothing refers to it, so whatever happened to the chunk, nothing was changed.
    if (ok.error().code == Errc::unknown_outcome) co_return fail(Errc::unavailable, "{}", ok.error().context);
    co_return fail(ok.error());
  }
  co_return blob;
}

asio::awaitable<Status> ZookeeperStoreCore::carry_over(Changes changes) {
  struct Noted { std::string key; bool stays; std::optional<records::Blob> chunks; };
  std::vector<ZkOp> ops;
  std::vector<Noted> noted;
  std::size_t bytes = 0;
  auto at = changes.begin();
  while (at != changes.end() || !ops.empty()) {
    if (at == changes.end() || bytes >= piece_bytes_max || ops.size() >= piece_ops_max) {
      if (auto ok = co_await fenced(std::move(ops), "carrying a large change over"); !ok) co_return ok;
      for (auto& n : noted) note_change(n.key, n.stays, std::move(n.chunks));
      ops.clear(), noted.clear(), bytes = 0;
      continue;
    }
    const auto& [key, value] = *at;
    std::optional<std::string> record;
    std::optional<records::Blob> chunks;
    if (value) {
      record = records::encode_value(*value);
      if (record->size() > piece_bytes_max) {
        auto blob = co_await write_blob(std::move(*record));
        if (!blob) co_return fail(blob.error());
        record = records::encode_reference(*blob);
        chunks = std::move(*blob);
      }
    }
    if (record || keys.contains(key)) {
      ops.push_back(change_op(key, record));
      bytes += size_of(ops.back());
      noted.push_back({key, record.has_value(), std::move(chunks)});
    }
    ++at;
  }
  co_return Status{};
}

asio::awaitable<Status> ZookeeperStoreCore::finish_pending(records::Blob blob) {
  std::vector<ZkOp> ops{ZkOp::set(head_path, records::encode(records::Head{head, {}}), head_version)};
  for (std::uint32_t i = 0; i < blob.chunks; ++i) ops.push_back(ZkOp::remove(chunk_node(blob.chunk(i))));
  auto ok = co_await fenced(std::move(ops), "ending a large change");
  if (ok) ++head_version;
  co_return ok;
}

asio::awaitable<Result<std::uint64_t>> ZookeeperStoreCore::commit_large(Changes changes, std::uint64_t number) {
  Batch whole;
  for (auto& [key, value] : changes) {
    if (value) whole.put.emplace(key, *value);
    else whole.remove.push_back(key);
  }
  auto bytes = records::encode_batch(whole);
  whole = {};
  auto written_aside = co_await write_blob(std::move(bytes));
  if (!written_aside) co_return fail(std::move(written_aside).error());
  auto blob = *written_aside;
  std::vector<ZkOp> ops{ZkOp::set(head_path, records::encode(records::Head{number, blob}), head_version)};
  auto swung = co_await fenced(std::move(ops), "committing");
  if (!swung) co_return fail(swung.error());
  head = number;
  ++head_version;
  // Committed. What is left is done again by the next operation, or by the next leader, when it is interrupted here.
  auto carried = co_await carry_over(std::move(changes));
  if (carried) carried = co_await finish_pending(blob);
  if (!carried) {
    settled = false;
    log::warn("coordination", "commit={} is stored, carrying it over was interrupted: {}", number, carried.error().context);
  }
  co_return number;
}

asio::awaitable<Result<std::uint64_t>> ZookeeperStoreCore::commit_changes(Changes changes, std::uint64_t count) {
  auto number = head + count;
  std::vector<ZkOp> ops{ZkOp::set(head_path, records::encode(records::Head{number, {}}), head_version)};
  std::size_t bytes = 0;
  for (const auto& [key, value] : changes) {
    if (!value && !keys.contains(key)) continue;
    ops.push_back(change_op(key, value ? std::optional(records::encode_value(*value)) : std::nullopt));
    bytes += size_of(ops.back());
    if (bytes > records::request_bytes_max) {
      ops.clear();
      co_return co_await commit_large(std::move(changes), number);
    }
  }
  auto ok = co_await fenced(std::move(ops), "committing");
  if (!ok) co_return fail(ok.error());
  head = number;
  ++head_version;
  for (const auto& [key, value] : changes) note_change(key, value.has_value(), std::nullopt);
  co_return number;
}

/// Whether a commit may be sent now: the head is known, and the connection stands.
asio::awaitable<Status> ZookeeperStoreCore::prepare_commit() {
  if (epoch == 0) co_return fail(Errc::not_leader, "store: not taken over");
  if (unknown || !settled) {
    if (auto ok = co_await settle(); !ok) co_return ok;
    // Its caller was not told success and did not read the head: what the caller remembers is older than the store.
    if (unknown && head != known_head) {
      epoch = 0;
      co_return fail(Errc::not_leader, "store: a change that was given up had been stored after all; take over again");
    }
    unknown = false;
  }
  if (!session->connected()) co_return fail(Errc::unavailable, "ZooKeeper at {} does not answer, nothing can be changed: {}", session->options().address.servers_text(), session->trouble());
  co_return Status{};
}

asio::awaitable<void> ZookeeperStoreCore::commit_waiting() {
  auto ready = co_await prepare_commit();
  std::vector<std::shared_ptr<Request>> group;
  Changes changes;
  std::size_t bytes = 0;
  while (!queue.empty() && queue.front() && group.size() < group_max) {
    for (const auto& [key, value] : queue.front()->batch.put) bytes += key.size() + value.size();
    if (!group.empty() && bytes > group_bytes_max) break;
    auto request = std::move(queue.front());
    queue.pop_front();
    for (auto& key : request->batch.remove) changes.insert_or_assign(std::move(key), std::nullopt);
    for (auto& [key, value] : request->batch.put) changes.insert_or_assign(key, std::move(value));
    request->done = true;
    group.push_back(std::move(request));
  }
  Result<std::uint64_t> number = 0;
  auto before = head;
  if (!ready) number = fail(ready.error());
  else number = co_await commit_changes(std::move(changes), group.size());
  if (!number && ready) {
    if (number.error().code == Errc::unknown_outcome) {
      unknown = true;
      known_head = before;
      settled = false;
    } else if (number.error().code == Errc::conflict || number.error().code == Errc::not_found) {
      // Somebody wrote into the tree past the fence, or our list of keys is wrong. Nothing was changed; look again before the next one.
      settled = false;
      number = fail(Errc::unavailable, "store: the tree is not as remembered, nothing was changed: {}", Error(number.error()).context);
    }
  }
  for (std::size_t i = 0; i < group.size(); ++i) {
    if (number) group[i]->answer = before + i + 1;
    else group[i]->answer = fail(number.error());
  }
  if (number && !garbage.empty()) co_await collect_garbage();
}

/// Deletes what `garbage` names; what cannot be deleted now is found by the next take-over.
asio::awaitable<void> ZookeeperStoreCore::collect_garbage() {
  auto names = std::exchange(garbage, {});
  for (const auto& name : names) {
    std::vector<ZkOp> ops{ZkOp::remove(name)};
    auto ok = co_await fenced(std::move(ops), "removing an old chunk");
    if (!ok && ok.error().code != Errc::not_found) {
      log::info("coordination", "chunks={} of old values stay until the next take-over: {}", names.size(), ok.error().context);
      co_return;
    }
  }
}

// --- what the interface offers ---

asio::awaitable<Result<Term>> ZookeeperStoreCore::take_over() {
  auto turn = co_await begin();
  epoch = 0;
  settled = unknown = false;
  keys.clear();
  garbage.clear();
  if (auto ok = co_await reachable(); !ok) co_return fail(ok.error());
  auto on_session = session->id();
  if (auto ok = co_await make_layout(); !ok) co_return fail(ok.error());
  auto raised = co_await raise_epoch();
  if (!raised) co_return fail(std::move(raised).error());
  epoch = *raised;
  term_session = on_session;
  if (auto ok = co_await settle(); !ok) {
    epoch = 0;
    co_return fail(ok.error());
  }
  net::spawn(strand, "epoch watch", watch_epoch(shared_from_this(), epoch, epoch_version));
  co_return Term{epoch, head, cluster_id};
}

/// Tells the election when somebody else raises the epoch, so that a leader that commits nothing notices as well.
asio::awaitable<void> ZookeeperStoreCore::watch_epoch(std::shared_ptr<ZookeeperStoreCore> self, std::uint64_t epoch, std::int32_t version) {
  std::weak_ptr<ZookeeperStoreCore> weak = self;
  auto session = self->session;
  auto path = self->epoch_path;
  self.reset();
  // A later leadership of ours, for which the epoch is just being raised, is another one.
  auto leads_by = session->leading_node();
  for (;;) {
    auto ticket = session->news()->ticket();
    {
      auto core = weak.lock();
      if (!core || core->epoch != epoch || session->closing() || session->leading_node() != leads_by) co_return;
    }
    bool connected = session->connected();
    if (connected) {
      auto node = co_await session->get(path, true);
      if (node.no_node() || (node.ok() && node.stat.version != version)) {
        if (auto core = weak.lock(); core && core->epoch == epoch && session->leading_node() == leads_by) session->depose(fmt::format("another epoch than {} is in force", epoch));
        co_return;
      }
    }
    co_await session->news()->wait(ticket, Millis(10'000));
  }
}

asio::awaitable<Result<std::map<std::string, std::string>>> ZookeeperStoreCore::load(std::string prefix) {
  auto turn = co_await begin();
  using Loaded = std::map<std::string, std::string>;
  if (epoch == 0) co_return fail(Errc::not_leader, "store: not taken over");
  if (!settled) {
    if (unknown) co_return fail(Errc::unknown_outcome, "store: a commit's outcome is not known yet; read the head first");
    if (auto ok = co_await settle(); !ok) co_return fail(ok.error());
  }
  if (auto ok = co_await reachable(); !ok) co_return fail(ok.error());
  Keys wanted;
  for (const auto& [key, chunks] : keys)
    if (key.starts_with(prefix)) wanted.push_back(key);
  std::unordered_map<std::string, records::Blob> chunked;
  auto values = co_await read_values(std::move(wanted), &chunked);
  if (!values) {
    auto error = std::move(values).error();
    if (error.code == Errc::conflict) error.code = Errc::not_leader;  // only another leader removes keys under us
    co_return fail(std::move(error));
  }
  std::unordered_set<std::string> referenced;
  for (auto& [key, blob] : chunked) {
    for (std::uint32_t i = 0; i < blob.chunks; ++i) referenced.insert(blob.chunk(i));
    keys[key] = std::move(blob);
  }
  if (prefix.empty()) {  // all references are known now: the rest was left by leaders that died while they wrote
    auto chunks = co_await session->children(chunks_path);
    for (auto& name : chunks.names)
      if (!referenced.contains(name)) garbage.push_back(chunk_node(name));
    if (!garbage.empty()) log::info("coordination", "chunks={} left by interrupted changes are removed", garbage.size());
    co_await collect_garbage();
  }
  Loaded out = std::move(*values);
  co_return out;
}

asio::awaitable<Result<std::uint64_t>> ZookeeperStoreCore::commit(Batch batch) {
  if (auto ok = check(batch); !ok) co_return fail(ok.error());
  if (queue.size() >= queue_max) co_return fail(Errc::unavailable, "store: too many commits are waiting");
  auto request = std::make_shared<Request>();
  request->batch = std::move(batch);
  queue.push_back(request);
  co_await lock();
  Turn turn(this);
  if (!request->done) co_await commit_waiting();  // its own, and those that came meanwhile
  co_return request->answer;
}

asio::awaitable<Result<std::uint64_t>> ZookeeperStoreCore::read_head() {
  auto turn = co_await begin();
  if (auto ok = co_await settle(); !ok) co_return fail(ok.error());
  unknown = false;
  co_return head;
}

namespace {

class ZookeeperStore final : public Store {
 public:
  explicit ZookeeperStore(std::shared_ptr<ZookeeperStoreCore> core) : core_(std::move(core)) {}
  asio::awaitable<Result<Term>> take_over() override { return there(core_, core_->take_over()); }
  asio::awaitable<Result<std::map<std::string, std::string>>> load(std::string prefix) override { return there(core_, core_->load(std::move(prefix))); }
  asio::awaitable<Result<std::uint64_t>> commit(Batch batch) override { return there(core_, core_->commit(std::move(batch))); }
  asio::awaitable<Result<std::uint64_t>> read_head() override { return there(core_, core_->read_head()); }
  asio::awaitable<Result<Snapshot>> save() override { return there(core_, core_->save()); }
  using Store::restore;
  asio::awaitable<Result<Term>> restore(Snapshot snapshot, Over over) override { return there(core_, core_->restore(std::move(snapshot), over)); }
  asio::awaitable<Result<Term>> accept(Term at_least) override { return there(core_, core_->accept(std::move(at_least))); }

 private:
  /// On the store's strand; the core lives at least as long as the operation.
  template <class T>
  static asio::awaitable<T> there(std::shared_ptr<ZookeeperStoreCore> core, asio::awaitable<T> work) {
    co_return co_await asio::co_spawn(core->strand, std::move(work), asio::use_awaitable);
  }
  std::shared_ptr<ZookeeperStoreCore> core_;
};

}  // namespace

Result<std::unique_ptr<Store>> zookeeper_store(std::shared_ptr<ZookeeperSession> session, std::string root) {
  if (auto ok = check_zookeeper_path(root); !ok) return fail(ok.error());
  const auto& election = session->options().address.path;
  if (root == election || root.starts_with(election + "/"))
    return fail(Errc::invalid, "the store's path {} is inside the election's path {}, where only candidates may stand", root, election);
  return std::make_unique<ZookeeperStore>(std::make_shared<ZookeeperStoreCore>(std::move(session), std::move(root)));
}

}  // namespace croft::coordination
