// What an operator does with a store on ZooKeeper: save, restore, accept. None of them needs leadership.

#include "base/log.hpp"
#include "base/text.hpp"
#include "coordination/zookeeper_store_core.hpp"
#include "net/async.hpp"

namespace croft::coordination {

namespace {

constexpr int save_tries = 10;
constexpr Millis save_again{100};

}  // namespace

asio::awaitable<Result<Snapshot>> ZookeeperStoreCore::save() {
  auto turn = co_await begin();  // in the leader's own process no commit comes between
  if (auto ok = co_await reachable(); !ok) co_return fail(ok.error());
  for (int attempt = 0; attempt < save_tries; ++attempt) {
    if (attempt > 0) co_await net::sleep_for(save_again);
    auto before = co_await read_state();
    if (!before) co_return fail(std::move(before).error());
    if (before->meta.restoring) co_return fail(Errc::conflict, "store: a restore was begun and not finished; there is nothing whole to save");
    if (before->head.pending) continue;
    auto listed = co_await list_keys();
    if (!listed) co_return fail(std::move(listed).error());
    auto values = co_await read_values(std::move(*listed), nullptr);
    if (!values && (values.error().code == Errc::conflict || values.error().code == Errc::corrupt) && attempt + 1 < save_tries) continue;
    if (!values) co_return fail(std::move(values).error());
    auto after = co_await read_state();
    if (!after) co_return fail(std::move(after).error());
    if (after->head.number != before->head.number || after->head_version != before->head_version || after->epoch_version != before->epoch_version) continue;
    co_return Snapshot{{after->epoch.number, after->head.number, after->meta.cluster_id}, std::move(*values)};
  }
  co_return fail(Errc::conflict, "store: changes kept coming in {} attempts; try again when it is calmer", save_tries);
}

asio::awaitable<Result<Term>> ZookeeperStoreCore::restore(Snapshot snapshot, Store::Over over) {
  auto turn = co_await begin();
  if (epoch != 0) session->depose("its own store is being restored");  // whoever led with this object no longer does
  epoch = 0;
  settled = unknown = false;
  keys.clear();
  const auto& term = snapshot.term;
  if (term.cluster_id.empty()) co_return fail(Errc::invalid, "restore: the cluster id is empty");
  for (const auto& [key, value] : snapshot.values) {
    Batch one;
    one.put.emplace(key, value);
    if (auto ok = check(one); !ok) co_return fail(Error(ok.error()).within("restore"));
  }
  if (auto ok = co_await reachable(); !ok) co_return fail(ok.error());
  if (auto ok = co_await make_layout(); !ok) co_return fail(ok.error());
  auto state = co_await read_state();
  if (!state) co_return fail(std::move(state).error());
  auto listed = co_await list_keys();
  if (!listed) co_return fail(std::move(listed).error());
  if (!state->meta.restoring) {
    if (over == Store::Over::empty && (!listed->empty() || state->head.pending))
      co_return fail(Errc::conflict, "restore: the store is not empty ({} keys, commit {}, cluster {})", listed->size(), state->head.number, state->meta.cluster_id);
    if (term.epoch <= state->epoch.number) co_return fail(Errc::invalid, "restore: epoch {} would not be above the store's {}", term.epoch, state->epoch.number);
    if (term.head < state->head.number) co_return fail(Errc::invalid, "restore: commit {} would be below the store's {}", term.head, state->head.number);
  }
  // From here on nobody may lead on it until the last step: an interrupted restore is seen, and is run again.
  std::vector<ZkOp> ops;
  ops.push_back(ZkOp::check(head_path, state->head_version));  // what a leader stores from now on would stand beside the backup
  ops.push_back(ZkOp::set(epoch_path, records::encode(records::Epoch{std::max(term.epoch, state->epoch.number), random_uuid()}), state->epoch_version));
  ops.push_back(ZkOp::set(store_path, records::encode(records::Meta{term.cluster_id, true}), state->meta_version));
  auto begun = co_await written(std::move(ops), "beginning a restore");
  if (!begun && begun.error().code == Errc::conflict) co_return fail(Errc::conflict, "restore: a change came between; try again");
  if (!begun) co_return fail(begun.error());
  auto interrupted = [](const Status& why) { return fail(Error(why.error()).within("the restore was interrupted, run it again")); };
  epoch_version = state->epoch_version + 1;
  Changes changes;
  for (const auto& key : *listed) {  // of an interrupted one before it, or of what is replaced
    keys.emplace(key, std::nullopt);
    changes.emplace(key, std::nullopt);
  }
  for (auto& [key, value] : snapshot.values) changes.insert_or_assign(key, std::move(value));
  if (auto ok = co_await carry_over(std::move(changes)); !ok) co_return interrupted(ok);
  ops.clear();
  ops.push_back(ZkOp::set(store_path, records::encode(records::Meta{term.cluster_id, false}), state->meta_version + 1));
  ops.push_back(ZkOp::set(head_path, records::encode(records::Head{std::max(term.head, state->head.number), {}}), state->head_version));
  if (auto ok = co_await fenced(std::move(ops), "ending a restore"); !ok) co_return interrupted(ok);
  keys.clear();
  co_return Term{std::max(term.epoch, state->epoch.number), std::max(term.head, state->head.number), term.cluster_id};
}

asio::awaitable<Result<Term>> ZookeeperStoreCore::accept(Term at_least) {
  auto turn = co_await begin();
  if (auto ok = co_await reachable(); !ok) co_return fail(ok.error());
  if (auto ok = co_await make_layout(); !ok) co_return fail(ok.error());
  auto state = co_await read_state();
  if (!state) co_return fail(std::move(state).error());
  if (state->meta.restoring) co_return fail(Errc::conflict, "store: a restore was begun and not finished; run it again");
  Term now{std::max(state->epoch.number + 1, at_least.epoch), std::max(state->head.number, at_least.head),
           at_least.cluster_id.empty() ? state->meta.cluster_id : at_least.cluster_id};
  std::vector<ZkOp> ops;
  ops.push_back(ZkOp::set(epoch_path, records::encode(records::Epoch{now.epoch, random_uuid()}), state->epoch_version));
  ops.push_back(ZkOp::set(head_path, records::encode(records::Head{now.head, state->head.pending}), state->head_version));
  ops.push_back(ZkOp::set(store_path, records::encode(records::Meta{now.cluster_id, false}), state->meta_version));
  auto ok = co_await written(std::move(ops), "accepting");
  if (!ok && ok.error().code == Errc::conflict) co_return fail(Errc::conflict, "store: a change came between; try again");
  if (!ok) co_return fail(ok.error());
  co_return now;
}

}  // namespace croft::coordination
